//! What a case says over its wire, and what it hears: messages, tasks and their answers, and the end.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use stokehold_protocol::Recipient;

use super::carrier::carried;
use super::process::Ended;
use super::referee::{Answer, Task};
use super::session::{PARENT, Session};
use super::trace::frame;
use super::verdict::{Checked, Finding, Stop, must};

/// How long a process may take to end behind its output.
const LAST_MOMENT: Duration = Duration::from_millis(500);

impl Session {
    /// Notes a SHOULD that was not kept; the case goes on.
    pub(crate) fn should(&mut self, holds: bool, statement: &'static str, what: &str, hint: &str) {
        if !holds {
            self.referee.warn(statement, what, hint);
        }
    }

    /// An id that no task has.
    pub(crate) fn fresh_id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Sends bytes that need not be a message.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        if !self.quiet {
            self.record.borrow_mut().trace.sent(bytes, self.codec());
        }
        self.unsent.extend(bytes);
    }

    /// A message of the parent, with the addresses it would have: a frame, or a line.
    pub(crate) fn frame(&self, id: u32, request: &str, data: &[u8]) -> Vec<u8> {
        self.addressed(id, request, PARENT, Recipient::Process(self.address), data)
    }

    /// The same with other addresses.
    pub(crate) fn addressed(
        &self,
        id: u32,
        request: &str,
        sender: u64,
        recipient: Recipient,
        data: &[u8],
    ) -> Vec<u8> {
        carried(self.codec(), id, frame(id, request, sender, recipient, data))
    }

    /// Sends a message. One with a request of the user's and an id is a task, and is counted as open.
    pub(crate) fn send(&mut self, id: u32, request: &str, data: &[u8]) {
        let bytes = self.frame(id, request, data);
        if stokehold_protocol::Kind::of(request) == stokehold_protocol::Kind::User || request == "BATCH" {
            self.referee.open_for(id, request);
        }
        self.send_bytes(&bytes);
    }

    /// Sends a task, and gives its id.
    pub(crate) fn submit(&mut self, request: &str, data: &[u8]) -> u32 {
        let id = self.fresh_id();
        self.send(id, request, data);
        id
    }

    /// Waits for the answer of a task; nothing if it does not come.
    pub(crate) fn hear(&mut self, id: u32) -> Checked<Option<Answer>> {
        self.wait(|session| session.answered(id) || session.is_over())?;
        Ok(self.referee.tasks.get(&id).and_then(|task| task.answer.clone()))
    }

    /// What was seen instead of an answer that did not come.
    pub(crate) fn unanswered(&mut self, id: u32) -> Checked<Finding> {
        if self.is_over() {
            // An output ends a moment before its process.
            self.wait_for(LAST_MOMENT, |session| session.process.ended().is_some())?;
        }
        let go_on = "go on reading until all bytes of a message are there, whatever a read gives, and until the end of input; answer what you cannot do by FAILED";
        let (what, hint) = match (self.process.ended(), self.is_over()) {
            (Some(ended), _) => (format!("the child {ended} without an answer for the id {id}"), go_on),
            (None, true) => (format!("the child closed its output without an answer for the id {id}"), go_on),
            (None, false) => (
                format!("no answer for the id {id} within {:?}", self.patience),
                "answer every request with an id by one FINISHED or FAILED, and flush what you wrote before you read again",
            ),
        };
        Ok(Finding { statement: "R-19".into(), what, hint: hint.to_owned() })
    }

    /// Waits for the answer of a task, which must come.
    pub(crate) fn answer(&mut self, id: u32) -> Checked<Answer> {
        match self.hear(id)? {
            Some(answer) => Ok(answer),
            None => Err(Stop::Fail(self.unanswered(id)?)),
        }
    }

    /// Sends a task and waits for its answer.
    pub(crate) fn ask(&mut self, request: &str, data: &[u8]) -> Checked<Answer> {
        let id = self.submit(request, data);
        self.answer(id)
    }

    /// What is known of a task.
    pub(crate) fn task(&self, id: u32) -> Task {
        self.referee.tasks.get(&id).cloned().unwrap_or_default()
    }

    pub(crate) fn answered(&self, id: u32) -> bool {
        self.referee.tasks.get(&id).is_some_and(|task| task.answer.is_some())
    }

    /// The first frame with id 0 and that name, as soon as there is one.
    pub(crate) fn loose(&mut self, name: &str) -> Checked<Option<Vec<u8>>> {
        let find = |session: &Self| {
            session.referee.loose.iter().find(|(found, _)| found == name).map(|(_, data)| data.clone())
        };
        self.wait(|session| find(session).is_some() || session.is_over())?;
        Ok(find(self))
    }

    /// Whether nothing can come any more.
    pub(crate) fn is_over(&self) -> bool {
        self.process.output.is_none()
    }

    /// Closes the child's input, once everything is written.
    pub(crate) fn close_input(&mut self) -> Checked {
        let written = self.flush()?;
        if !written {
            return Err(Stop::fail(
                "L-1",
                "the child does not read its input any more",
                "go on reading until the end of input",
            ));
        }
        self.note("the input is closed");
        self.process.input = None;
        Ok(())
    }

    /// Nobody reads the child's frames any more.
    pub(crate) fn close_output(&mut self) {
        self.note("the output has no reader any more");
        self.process.output = None;
    }

    pub(crate) fn signal(&self, signal: Signal) -> Checked {
        self.note(format!("signal {}", signal.as_raw()));
        self.process.signal(signal)
    }

    /// Waits for the child's end, and reads everything it wrote before.
    pub(crate) fn end(&mut self, statement: &'static str, hint: &str) -> Checked<Ended> {
        self.end_within(self.patience, statement, hint)
    }

    pub(crate) fn end_within(
        &mut self,
        limit: Duration,
        statement: &'static str,
        hint: &str,
    ) -> Checked<Ended> {
        self.wait_for(limit, |session| session.process.ended().is_some())?;
        let ended = self.process.ended().ok_or_else(|| {
            Stop::fail(statement, format!("the child is still there after {limit:?}"), hint)
        })?;
        self.note(format!("the child {ended}"));
        // What it wrote is in the pipe. A process it left behind may hold the pipe open, so that the end is not waited for.
        while self.turn(Instant::now())? {}
        Ok(ended)
    }

    /// Closes the input and expects the clean end.
    pub(crate) fn finish(&mut self) -> Checked {
        self.close_input()?;
        let ended = self.end("L-1", "leave the loop at the end of input, and exit with code 0")?;
        must(
            ended == Ended::Code(0),
            "L-1",
            || format!("at the end of input the child {ended}"),
            "at the end of input finish what was received, then exit with code 0",
        )?;
        let open = self.referee.unanswered();
        must(
            open == 0,
            "L-1",
            || format!("the child ended with {open} tasks unanswered"),
            "answer everything that was received before the end of input",
        )
    }
}
