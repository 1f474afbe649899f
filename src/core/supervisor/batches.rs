//! Several tasks in one frame: their results, taken apart, and what becomes of them when something goes wrong.
//!
//! A batch is one entry of the table and one lease as long as all goes well. Each of its tasks keeps its own attempts and has its
//! own outcome: at the first failure, refusal or death those without a result become entries of their own, at once and not by
//! halves, because every further step of a search would cost a worker's life.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stokehold_protocol::{BatchResult, DataError, Failure, PeerError, Results, code};

use super::super::action::{Answer, Answers, Ticket, Value};
use super::super::store::{NewTask, Release, Store, Task};
use super::super::{AttemptEnd, Body, Death, Origin, TaskKey};
use super::judge::Guilt;
use super::messages::record;
use super::{Phase, Supervisor};

/// One of a batch that failed.
struct Bad<T> {
    ticket: T,
    number: u64,
    /// Which of the batch it is, from 0.
    place: u32,
    failure: Failure,
}

impl<T: Ticket> Supervisor<T> {
    /// The answer to a batch.
    pub(super) fn finish_batch(
        &mut self,
        slot: usize,
        key: TaskKey,
        data: &[u8],
        now: Instant,
        answers: &mut impl Answers<T>,
    ) {
        let Some(mut task) = self.store.finish(key) else { return };
        self.note_answer(slot, task.left());
        if let Some(place) = self.slots.get_mut(slot) {
            place.open_bytes = place.open_bytes.saturating_sub(task.body.len() as u64);
            let (tasks, took) = place.pace.answered(task.items, task.sent_at.unwrap_or(now), now);
            if let Some(source) = task.ticket.source() {
                source.learned(tasks, took, self.crowded_until.is_some_and(|until| now < until));
            }
        }
        let mut bad = Vec::new();
        let given = self.give_results(slot, &mut task, data, now, answers, &mut bad);
        let is_whole = given.is_ok() && task.left() == 0;
        self.fail_bad(slot, &mut task, bad, now);
        if is_whole {
            self.released.bytes += task.weight;
            return self.store.recycle(task.body);
        }
        // It was answered, and not by what it was asked for. Some may have been done; nobody is to blame but the worker.
        self.end_garbled(slot, bad_results(given.err()));
        if let Some(key) = self.store.hold(task) {
            self.run_apart(key, now);
        }
    }

    /// The first results of a batch.
    pub(super) fn handle_part(
        &mut self,
        slot: usize,
        key: TaskKey,
        data: &[u8],
        now: Instant,
        answers: &mut impl Answers<T>,
    ) {
        let Some(task) = self.store.get_mut(key) else { return };
        let before = task.given;
        // Out of its place while it is taken apart: what fails of it gets a place of its own.
        let Some(mut task) = self.store.lend(key) else { return };
        let mut bad = Vec::new();
        let given = self.give_results(slot, &mut task, data, now, answers, &mut bad);
        let count = task.given - before;
        self.fail_bad(slot, &mut task, bad, now);
        self.store.take_back(key, task, count);
        if let Some(place) = self.slots.get_mut(slot) {
            place.fresh_answers += count;
            place.finished += u64::from(count);
            place.open_tasks = place.open_tasks.saturating_sub(count);
        }
        match given {
            Err(error) => self.end_garbled(slot, bad_results(Some(error))),
            Ok(()) if count == 0 => self.hear_chatter(slot, now),
            Ok(()) => {}
        }
    }

    /// Gives out the results in `data`, as far as they are those of tasks of the batch, and the failed ones to `bad`.
    fn give_results(
        &mut self,
        slot: usize,
        task: &mut Task<T>,
        data: &[u8],
        now: Instant,
        answers: &mut impl Answers<T>,
        bad: &mut Vec<Bad<T>>,
    ) -> Result<(), DataError> {
        let (worker, pid) = self.slots.get(slot).map_or((slot, 0), |place| (place.number, place.pid));
        let elapsed = now.saturating_duration_since(task.sent_at.unwrap_or(now));
        let mut results = Results::decode(data)?;
        if results.left() > task.left() {
            return Err(DataError::WrongCount);
        }
        loop {
            let (count, good) = results.next_good()?;
            let origin = Origin { worker, pid, task: task.number, attempt: task.attempts, elapsed };
            if count > 0 {
                let mut ticket = self.give_some(task, count);
                let answer = Answer { value: Value::Many(count, good), origin };
                answers.answered(&mut ticket, answer, &mut Body::default());
            }
            match results.next_result()? {
                None => return Ok(()),
                Some(BatchResult::Good(value)) => {
                    let origin = Origin { task: task.number, ..origin };
                    let mut ticket = self.give_some(task, 1);
                    let answer = Answer { value: Value::One(value), origin };
                    answers.answered(&mut ticket, answer, &mut Body::default());
                }
                Some(BatchResult::Bad(failure)) => {
                    let (place, mut failure) = (task.given, Failure::decode(failure));
                    failure.code = code::from_child(&failure.code).to_owned();
                    task.given += 1;
                    let (ticket, number) = (task.ticket.split_front(1), task.number);
                    task.number += 1;
                    bad.push(Bad { ticket, number, place, failure });
                }
            }
        }
    }

    /// The next `count` tasks of a batch are done.
    fn give_some(&mut self, task: &mut Task<T>, count: u32) -> T {
        task.given += count;
        task.number += u64::from(count);
        self.released.tasks += count as usize;
        task.ticket.split_front(count)
    }

    /// Those of a batch that failed become entries of their own, and go the way of every failed task.
    fn fail_bad(&mut self, slot: usize, task: &mut Task<T>, bad: Vec<Bad<T>>, now: Instant) {
        // The batch's own ticket knows nothing of a source any more if these were the last.
        let Some(source) = bad.first().and_then(|bad| bad.ticket.source()) else { return };
        let mut inputs = source.inputs(task.items, &task.body);
        let mut read = 0;
        for Bad { ticket, number, place, failure } in bad {
            let mut input = None;
            while read <= place {
                input = inputs.next_value().ok().flatten();
                read += 1;
            }
            let (Some(input), Some(source)) = (input, ticket.source()) else { continue };
            let (mut body, policy, weight) = (Vec::new(), source.policy(), input.len());
            source.write_one(input, &mut body);
            // It may be tried again: its bytes are its own from now on.
            task.weight = task.weight.saturating_sub(weight);
            let new = NewTask { ticket, number, body: body.into(), weight, policy };
            if let Some(key) = self.store.insert_held(new, task) {
                self.fail(slot, key, failure, now);
            }
        }
    }

    /// A batch failed as a whole.
    pub(super) fn fail_batch(&mut self, slot: usize, key: TaskKey, failure: &Failure, now: Instant) {
        // What is wrong with the frame, or with the answer's, may be right with each by itself.
        if [code::BAD_DATA, code::BAD_MESSAGE, code::TOO_LARGE].contains(&failure.code.as_str()) {
            return self.run_apart(key, now);
        }
        for key in self.take_apart(key) {
            self.fail(slot, key, failure.clone(), now);
        }
    }

    /// The tasks of a batch that have no result become entries of their own. Gives them in their order.
    fn take_apart(&mut self, key: TaskKey) -> Vec<TaskKey> {
        if let Some(source) = self.store.get_mut(key).and_then(|task| task.ticket.source()) {
            source.go_single();
        }
        #[cfg(test)]
        let whole = self.store.get_mut(key).map_or(0, |task| task.weight);
        let (keys, freed) = self.store.split(key);
        #[cfg(test)]
        let freed = if self.has_flaw(crate::core::Flaw::ReleasesTwice) { whole } else { freed };
        self.released.bytes += freed;
        keys
    }

    /// A batch that no worker began goes back to the front of the queue, each of its tasks by itself.
    pub(super) fn release_apart(&mut self, key: TaskKey) {
        // The first one last, so that it stands first.
        for key in self.take_apart(key).into_iter().rev() {
            self.store.release(key, Release::Again);
        }
    }

    /// The tasks of a batch that have no result run again, each by itself.
    fn run_apart(&mut self, key: TaskKey, now: Instant) {
        let is_over = matches!(self.phase, Phase::Stopping | Phase::Broken(_));
        // The first one last, so that it stands first.
        for key in self.take_apart(key).into_iter().rev() {
            match is_over {
                true => self.turn_out(key),
                false => self.try_again(key, Release::Again, Duration::ZERO, None, now),
            }
        }
    }

    /// The worker of a batch died, and was doing it, or may have been, or was ended because of another task. One of the tasks
    /// that have no result may be to blame; nobody knows which.
    pub(super) fn judge_batch(
        &mut self,
        key: TaskKey,
        guilt: Guilt,
        again: Release,
        death: &Arc<Death>,
        now: Instant,
    ) {
        let mut keys = self.take_apart(key);
        let is_one = keys.len() == 1;
        #[cfg(test)]
        let is_one = is_one || self.has_flaw(crate::core::Flaw::BlamesTheWholeBatch);
        #[cfg(test)]
        if self.has_flaw(crate::core::Flaw::LosesTheRest) {
            keys.truncate(1);
        }
        while let Some(key) = keys.pop() {
            match guilt {
                Guilt::Certain | Guilt::Possible if !is_one => {
                    if let Some(task) = self.store.get_mut(key) {
                        let (worker, pid) = (death.worker, death.pid.unwrap_or(0));
                        record(task, worker, pid, AttemptEnd::Died(Arc::clone(death)), now);
                    }
                    self.try_again(key, again, Duration::ZERO, Some(death), now);
                }
                guilt => self.judge_task(key, guilt, again, death, now),
            }
        }
    }
}

/// What is wrong with a worker whose results are not those of its batch.
fn bad_results(error: Option<DataError>) -> PeerError {
    let detail = match error {
        None | Some(DataError::WrongCount) => "it has not as many results as the batch had inputs",
        Some(_) => "it is no list of results",
    };
    PeerError::BadProtocolData { request: "the answer to BATCH", detail }
}
