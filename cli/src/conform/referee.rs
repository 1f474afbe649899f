//! The rules that hold for every frame of every child at any time: who may say what, and about which task.
//!
//! It looks at each frame once, in every case, whatever that is about. What a case asks for is the case's own business.

use std::collections::BTreeMap;

use stokehold_protocol::{ChildHello, DataError, Kind, Message, MessageError, Quote, Recipient, check};

use super::verdict::{Checked, Finding, Stop, must};
use crate::value;

/// How the requests of `sdks/TESTEE.md` begin.
const TESTEE_PREFIX: &str = "test.";

/// Characters shown of data.
const DATA_SHOWN: usize = 80;

/// Warnings kept of one connection.
const WARNINGS_KEPT: usize = 32;

/// A task's way, from what was sent to its final answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Task {
    /// What was asked; empty where it does not matter.
    pub(crate) request: String,
    /// The data of its ITEMs, in order.
    pub(crate) items: Vec<Vec<u8>>,
    /// Its PROGRESS, LOG and STARTED: name and data, in order.
    pub(crate) notes: Vec<(String, Vec<u8>)>,
    pub(crate) answer: Option<Answer>,
}

/// A final answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Answer {
    /// FINISHED, or else FAILED.
    pub(crate) finished: bool,
    pub(crate) data: Vec<u8>,
    pub(crate) form: Form,
}

/// What an answer was, which the kit looks away from where it sent the like.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Form {
    /// A message of the protocol.
    #[default]
    Good,
    /// A line with a good head, whose data stands for no value.
    BadData,
    /// A line that begins with its id and is no message.
    BadLine,
    /// Above the parent's `max_frame`.
    TooLarge,
}

/// What is known of a connection.
#[derive(Debug)]
pub(crate) struct Referee {
    /// The address that the child got.
    address: u64,
    parent: u64,
    /// The parent listed it too.
    pub(crate) offers_started: bool,
    /// The parent has said HELLO.
    pub(crate) greeted: bool,
    /// The child writes the address that the parent's HELLO gave it, so that it has read that.
    pub(crate) is_addressed: bool,
    pub(crate) hello: Option<ChildHello>,
    /// The data of HELLO as it came.
    pub(crate) hello_data: Vec<u8>,
    pub(crate) ready: bool,
    pub(crate) bye: bool,
    /// The data of FAILED with id 0.
    pub(crate) refused: Option<Vec<u8>>,
    pub(crate) tasks: BTreeMap<u32, Task>,
    /// Ids in the order of their final answers.
    pub(crate) answered: Vec<u32>,
    /// Frames with id 0 after HELLO: name and data.
    pub(crate) loose: Vec<(String, Vec<u8>)>,
    /// SHOULDs that were not kept.
    pub(crate) warnings: Vec<Finding>,
    /// Answers are not looked at closely: the kit sent what is no message or no data, and it may come back.
    pub(crate) blind: bool,
    /// Requests of the child that must be refused: their ids.
    pub(crate) asked: Vec<u32>,
    pub(crate) frames: u64,
}

impl Referee {
    pub(crate) fn new(address: u64, parent: u64) -> Self {
        Self {
            address,
            parent,
            offers_started: false,
            greeted: false,
            is_addressed: false,
            hello: None,
            hello_data: Vec::new(),
            ready: false,
            bye: false,
            refused: None,
            tasks: BTreeMap::new(),
            answered: Vec::new(),
            loose: Vec::new(),
            warnings: Vec::new(),
            blind: false,
            asked: Vec::new(),
            frames: 0,
        }
    }

    /// A task was sent. Its id is open until its final answer.
    pub(crate) fn open(&mut self, id: u32) {
        self.open_for(id, "");
    }

    /// The same for a request that some testees lack.
    pub(crate) fn open_for(&mut self, id: u32, request: &str) {
        if id != 0 {
            self.tasks.insert(id, Task { request: request.to_owned(), ..Task::default() });
        }
    }

    /// How many tasks are unanswered.
    pub(crate) fn unanswered(&self) -> usize {
        self.tasks.values().filter(|task| task.answer.is_none()).count()
    }

    /// A frame of the child.
    pub(crate) fn take(&mut self, id: u32, body: &[u8]) -> Checked {
        self.frames += 1;
        let message = Message::decode(body).map_err(|error| {
            Stop::fail(
                "M-1",
                format!("the body of a frame with id {id} is no message: {error}"),
                "write every body as an array of exactly four: [request, sender, recipient, data]",
            )
        })?;
        if self.bye {
            self.warn("S-7", format!("{} after BYE", message.request), "send BYE last, behind every answer");
        }
        self.judge_head(id, body, &message);
        if self.hello.is_none() && self.refused.is_none() {
            return self.first(id, &message);
        }
        if !self.blind {
            check(message.data).map_err(|error| {
                Stop::fail(
                    statement_of(error),
                    format!("the data of {} with id {id} is no value: {error}", message.request),
                    "write one complete MessagePack value as the fourth field, and nothing behind it",
                )
            })?;
        }
        self.later(id, &message)
    }

    /// A line whose data stands for no value; its message has nil instead.
    pub(crate) fn take_bad_data(&mut self, id: u32, body: &[u8], error: DataError) -> Checked {
        if !self.blind {
            return Err(Stop::fail(
                "T-14",
                format!("the data of a line with id {id} is no value: {error}"),
                "answer FAILED `bad_data` instead of what JSON cannot say, or the data model does not have",
            ));
        }
        self.take(id, body)?;
        if let Some(answer) = self.tasks.get_mut(&id).and_then(|task| task.answer.as_mut()) {
            answer.form = Form::BadData;
        }
        Ok(())
    }

    /// A line that is no message.
    pub(crate) fn take_bad_line(&mut self, id: u32, quote: Quote, error: MessageError) -> Checked {
        if self.blind && self.answer_without_data(id, Form::BadLine) {
            return Ok(());
        }
        Err(Stop::fail(
            "T-7",
            format!("the line {quote} is no message: {error}"),
            "write every line as an id, a space, and a JSON array of exactly four: [request, sender, recipient, data]",
        ))
    }

    /// A message above the kit's `max_frame`. Whether the kit asked for it.
    pub(crate) fn take_too_large(&mut self, id: u32, what: &str) -> bool {
        let is_asked_for = self.blind && self.answer_without_data(id, Form::TooLarge);
        if is_asked_for {
            self.warn(
                "F-2",
                what,
                "answer FAILED `too_large` instead of a message above the parent's max_frame",
            );
        }
        is_asked_for
    }

    /// Takes what cannot be read as the answer of an open task.
    fn answer_without_data(&mut self, id: u32, form: Form) -> bool {
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.answer.is_none()) else { return false };
        task.answer = Some(Answer { finished: true, data: Vec::new(), form });
        self.answered.push(id);
        true
    }

    /// The child's first frame.
    fn first(&mut self, id: u32, message: &Message<'_>) -> Checked {
        let hint = "write HELLO before anything else, with id 0 and {\"v\": 1}";
        match message.request {
            "HELLO" => {
                must(id == 0, "R-11", || format!("HELLO has the id {id}"), hint)?;
                let hello = ChildHello::decode(message.data).map_err(|error| {
                    Stop::fail(
                        "R-13",
                        format!("the data of HELLO: {error}"),
                        "give each key of HELLO the type of SPEC 6.3",
                    )
                })?;
                self.ready = hello.ready;
                message.data.clone_into(&mut self.hello_data);
                self.hello = Some(hello);
                Ok(())
            }
            "FAILED" if id == 0 => {
                self.refused = Some(message.data.to_vec());
                Ok(())
            }
            other => {
                Err(Stop::fail("S-1", format!("the first frame is {other:?} with id {id}, not HELLO"), hint))
            }
        }
    }

    fn later(&mut self, id: u32, message: &Message<'_>) -> Checked {
        match message.request {
            "FINISHED" | "FAILED" if id == 0 => Err(Stop::fail(
                "R-21",
                format!("{} with id 0: {}", message.request, content(message)),
                "answer nothing that has the id 0",
            )),
            "FINISHED" | "FAILED" | "ITEM" | "STARTED" | "PROGRESS" | "LOG" if id != 0 => {
                self.about_task(id, message)
            }
            "ITEM" | "STARTED" => {
                Err(Stop::fail("R-11", format!("{} with id 0", message.request), "name the id of its task"))
            }
            "READY" | "CREDIT" | "BYE" | "PONG" | "PROGRESS" | "LOG" => self.loose(id, message),
            "HELLO" => {
                self.warn("S-1", "a second HELLO", "say HELLO once, at the start");
                Ok(())
            }
            "CANCEL" | "META" | "DIE" | "PING" | "BATCH" => Err(Stop::fail(
                "R-11",
                format!("{}, which only a parent sends", message.request),
                "do not send back what you receive",
            )),
            name => self.request(id, name),
        }
    }

    /// A request that is no word of the protocol, or DO.
    fn request(&mut self, id: u32, name: &str) -> Checked {
        if Kind::of(name) != Kind::User {
            return Ok(());
        }
        must(
            self.ready,
            "S-5",
            || format!("the request {name:?} before READY"),
            "send requests of your own only after READY",
        )?;
        if id != 0 {
            self.asked.push(id);
        }
        Ok(())
    }

    fn loose(&mut self, id: u32, message: &Message<'_>) -> Checked {
        must(
            id == 0,
            "R-11",
            || format!("{} has the id {id}", message.request),
            "give it the id 0: it is about the connection",
        )?;
        match message.request {
            "READY" => self.ready = true,
            "BYE" => self.bye = true,
            _ => {}
        }
        self.loose.push((message.request.to_owned(), message.data.to_vec()));
        Ok(())
    }

    fn about_task(&mut self, id: u32, message: &Message<'_>) -> Checked {
        let name = message.request;
        if name == "STARTED" && !self.offers_started {
            self.warn(
                "R-35",
                "STARTED, which the parent did not list",
                "send STARTED only if the parent's HELLO lists `started`",
            );
        }
        let is_final = matches!(name, "FINISHED" | "FAILED");
        let Some(task) = self.tasks.get_mut(&id) else {
            let statement = if is_final { "R-11" } else { "R-34" };
            return Err(Stop::fail(
                statement,
                format!("{name} for the id {id}, which no task has: {}", content(message)),
                "answer with the id of the request; ignore ALL-CAPS requests, also those that are answers",
            ));
        };
        if task.answer.is_some() {
            let (statement, what) = if is_final { ("R-19", "a second answer") } else { ("R-24", name) };
            return Err(Stop::fail(
                statement,
                format!("{what} for the id {id}, which was answered"),
                "send exactly one FINISHED or FAILED for each task, and nothing about it afterwards",
            ));
        }
        match name {
            "FINISHED" | "FAILED" => {
                let data = message.data.to_vec();
                task.answer = Some(Answer { finished: name == "FINISHED", data, form: Form::Good });
                self.answered.push(id);
                if name == "FAILED" && task.request.starts_with(TESTEE_PREFIX) {
                    let request = task.request.clone();
                    return self.judge_refusal(&request, message.data);
                }
            }
            "ITEM" => task.items.push(message.data.to_vec()),
            _ => {
                task.notes.push((name.to_owned(), message.data.to_vec()));
            }
        }
        Ok(())
    }

    /// A testee need not answer every request of `sdks/TESTEE.md`: the case that needs it is skipped. It may not claim one
    /// that it does not answer.
    fn judge_refusal(&self, request: &str, data: &[u8]) -> Checked {
        if stokehold_protocol::Failure::decode(data).code != "unknown_request" {
            return Ok(());
        }
        let claims = |hello: &ChildHello| hello.methods.iter().any(|method| method == request);
        must(
            !self.hello.as_ref().is_some_and(claims),
            "R-20",
            || format!("HELLO lists {request} in `methods`, and it was answered by FAILED unknown_request"),
            "list in `methods` the requests that have a handler, and no others",
        )?;
        Err(Stop::skip(format!("the testee has no {request}")))
    }

    /// What is right in any case, but could be better.
    fn judge_head(&mut self, id: u32, body: &[u8], message: &Message<'_>) {
        let mut shortest = Vec::new();
        stokehold_protocol::write_head(&mut shortest, message.request, message.sender, message.recipient);
        if !body.starts_with(&shortest) {
            let what = format!("the head of {} with id {id} is wider than it need be", message.request);
            self.warn("M-8", what, "write each length and integer in its shortest form");
        }
        self.is_addressed |= message.sender == self.address;
        let knows = message.sender == 0 || message.sender == self.address;
        if self.greeted && self.ready && !knows {
            let what = format!(
                "{} names {} as its sender, and was given {}",
                message.request, message.sender, self.address
            );
            self.warn("R-16", what, "write 0 as sender, or the `pid` of the parent's HELLO");
        }
        let to_parent = matches!(message.recipient, Recipient::Anyone)
            || message.recipient == Recipient::Process(self.parent);
        if self.greeted && self.ready && !to_parent {
            let what = format!("{} is for {:?}", message.request, message.recipient);
            self.warn("R-16", what, "write nil as recipient, or the `parent` of the parent's HELLO");
        }
    }

    pub(crate) fn warn(&mut self, statement: &'static str, what: impl Into<String>, hint: &str) {
        // What is wrong in every frame is told a few times only.
        if self.warnings.len() < WARNINGS_KEPT {
            self.warnings.push(Finding {
                statement: statement.into(),
                what: what.into(),
                hint: hint.to_owned(),
            });
        }
    }
}

/// What a message says, for people: the code and the words of FAILED, else its data.
fn content(message: &Message<'_>) -> String {
    if message.request == "FAILED" {
        return failure(message.data);
    }
    let mut text = Vec::new();
    if value::write_json(message.data, &mut text).is_err() {
        return "what is no value".to_owned();
    }
    let text = String::from_utf8_lossy(&text);
    let end = if text.chars().count() > DATA_SHOWN { "…" } else { "" };
    text.chars().take(DATA_SHOWN).chain(end.chars()).collect()
}

/// The code and the words of FAILED.
pub(super) fn failure(data: &[u8]) -> String {
    let failure = stokehold_protocol::Failure::decode(data);
    format!("`{}` {}", failure.code, failure.message).trim_end().to_owned()
}

/// The statement that data with such a mistake breaks.
pub(super) fn statement_of(error: DataError) -> &'static str {
    match error {
        DataError::DuplicateKey => "D-5",
        DataError::Extension => "D-6",
        DataError::InvalidUtf8 => "D-3",
        DataError::KeyNotText => "D-4",
        DataError::ReservedByte => "D-7",
        DataError::TooDeep => "D-2",
        _ => "D-1",
    }
}
