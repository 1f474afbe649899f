//! Tasks that could not be done: what is in them, where they are taken, how they are tried again.

use crossbeam_channel::Receiver;
use serde::de::DeserializeOwned;
use stokehold_protocol::{Data, Message};

use crate::core::{Attempt, DeadLetter};
use crate::pool::With;
use crate::task::{Unsent, leave_encoded};
use crate::{Pool, ResultStream, SubmitError, Task};

impl DeadLetter {
    /// The request's name.
    pub fn request(&self) -> &str {
        self.message().map_or("", |message| message.request)
    }

    /// The input, encoded as it was sent: a copy.
    pub fn data(&self) -> Data {
        self.message().map_or_else(Data::nil, |message| Data::from_peer(message.data.to_vec()))
    }

    /// How its attempts ended, oldest first.
    pub fn attempts(&self) -> &[Attempt] {
        self.error.attempts()
    }

    /// `None` cannot be: the body was written by this crate.
    fn message(&self) -> Option<Message<'_>> {
        Message::decode(&self.body).ok()
    }
}

impl Pool {
    /// Where tasks come out that could not be done, with their inputs and the end of every attempt: those whose outcome is
    /// [`Dead`](crate::TaskErrorKind::Dead), [`Lost`](crate::TaskErrorKind::Lost) or
    /// [`TimedOut`](crate::TaskErrorKind::TimedOut), or that [failed](crate::TaskErrorKind::Failed) after more than one attempt.
    /// They have that outcome too.
    ///
    /// Nothing comes unless [`PoolBuilder::dead_letters`](crate::PoolBuilder::dead_letters) has said how many may lie there. While
    /// so many do, the pool lets no task in ([`SubmitError::DeadLettersFull`]): a letter is never dropped. All receivers take
    /// from the same letters. They can still be taken after the pool has ended; then the receiver ends.
    ///
    /// ```no_run
    /// # use stokehold::{Pool, WorkerCommand};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::builder(WorkerCommand::new("./worker")).dead_letters(1_000).start()?;
    /// for letter in pool.dead_letters().try_iter() {
    ///     eprintln!("{} of task {} after {} attempts", letter.error, letter.task, letter.attempts().len());
    ///     pool.resubmit(&letter)?.detach();
    /// }
    /// # Ok(()) }
    /// ```
    pub fn dead_letters(&self) -> Receiver<DeadLetter> {
        self.shared().dead_letters()
    }

    /// Submits what is in a dead letter as a new task under the letter's own policy, with a new number and all its attempts
    /// before it, and leaves the answer encoded. Blocks while the queue is full. A task that was to run once at most may have
    /// run: whoever submits it again says that this does no harm.
    ///
    /// Results of a stream go nowhere: for those see [`resubmit_stream`](Self::resubmit_stream).
    pub fn resubmit(&self, letter: &DeadLetter) -> Result<Task<Data>, SubmitError> {
        self.with(letter.policy).resubmit(letter)
    }

    /// As [`resubmit`](Self::resubmit), for a task with a stream of results.
    pub fn resubmit_stream<I: DeserializeOwned>(
        &self,
        letter: &DeadLetter,
    ) -> Result<ResultStream<I, Data>, SubmitError> {
        self.with(letter.policy).resubmit_stream(letter)
    }
}

impl With<'_> {
    /// As [`Pool::resubmit`], under this policy instead of the letter's.
    pub fn resubmit(&self, letter: &DeadLetter) -> Result<Task<Data>, SubmitError> {
        Unsent::new(letter.body.clone(), self.policy(), leave_encoded).submit(self.pool().shared(), None)
    }

    /// As [`Pool::resubmit_stream`], under this policy instead of the letter's.
    pub fn resubmit_stream<I: DeserializeOwned>(
        &self,
        letter: &DeadLetter,
    ) -> Result<ResultStream<I, Data>, SubmitError> {
        Unsent::new(letter.body.clone(), self.policy(), leave_encoded).submit_stream(self.pool(), None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::{TaskError, TaskErrorKind};
    use crate::pool::{body, encoded_body};

    fn letter(body: Vec<u8>) -> DeadLetter {
        let error = Arc::new(TaskError::new(TaskErrorKind::Dead, 3, ""));
        DeadLetter { task: 3, body, policy: crate::Policy::default(), error }
    }

    #[test]
    fn a_letter_tells_what_was_asked() {
        let letter = letter(body(4711, "resize", &("a.png", 7)).unwrap());
        assert_eq!(letter.request(), "resize");
        assert_eq!(letter.data().decode::<(String, u8)>().unwrap(), ("a.png".to_owned(), 7));
        assert!(letter.attempts().is_empty());
    }

    #[test]
    fn encoded_input_comes_back_as_it_was() {
        let data = Data::encode(&[1, 2, 3]).unwrap();
        assert_eq!(letter(encoded_body(1, "sum", &data).into_vec()).data(), data);
    }

    #[test]
    fn a_body_that_is_no_message_is_empty_and_no_panic() {
        let letter = letter(vec![0x94]);
        assert_eq!((letter.request(), letter.data()), ("", Data::nil()));
    }
}
