//! The rules that hold for every frame of every parent at any time, looked at from the child's end of one connection.
//!
//! It reads what a played child recorded, in order: what the child sent stands there before it was written, what it got after it
//! was read. So a task that is there while the window is full was sent too many, whatever was still on its way.

use std::collections::{BTreeMap, BTreeSet};

use stokehold_protocol::limits::{HELLO_LEN_MAX, MAX_FRAME_DEFAULT, PING_BYTES_MAX, WINDOW_MAX};
use stokehold_protocol::wire::{Marker, Reader};
use stokehold_protocol::{
    Batch, Capability, ChildHello, Die, Kind, Message, Meta, ParentHello, Recipient, Verb, write_head,
};

use super::record::{Event, Got, Piece, parse};
use crate::conform::verdict::{Checked, Finding, Stop, must};

/// Warnings kept of one connection.
const WARNINGS_KEPT: usize = 8;

/// One connection as its child knows it.
#[derive(Debug, Default)]
pub(crate) struct Umpire {
    hello: Option<ChildHello>,
    ready: bool,
    /// Windows that the parent may go by: the latest it is known to have read, and those behind it.
    windows: Vec<u32>,
    /// Requests of the child's own that are not answered, with how many windows were announced before each.
    asked: BTreeMap<u32, usize>,
    /// What the parent said of itself.
    pub(crate) parent: Option<ParentHello>,
    /// Unanswered tasks, with the bytes of each.
    open: BTreeMap<u32, usize>,
    used: BTreeSet<u32>,
    last: Option<u32>,
    /// The id of a META whose request has not come.
    meta: Option<u32>,
    dying: bool,
    /// The statement by which the parent must have ended the connection, and how many frames were sent since.
    broke: Option<(String, usize)>,
    /// It has read beyond what broke the rule, if another task comes.
    read_on: bool,
    /// What could be better.
    pub(crate) warnings: Vec<Finding>,
}

impl Umpire {
    /// The next event of the record.
    pub(crate) fn take(&mut self, event: &Event) -> Checked {
        match event {
            Event::Sent(piece) => {
                self.sent(piece);
                Ok(())
            }
            Event::Got(got) => self.got(got),
            Event::Broke(statement) => {
                self.broke.get_or_insert_with(|| (statement.clone(), 0));
                Ok(())
            }
            Event::NoFrames(why) => Err(Stop::fail(
                "F-1",
                format!("what the parent wrote is no frame: {why}"),
                "write each frame as its length, its id and its body, with nothing between frames",
            )),
            Event::SharesGroup => {
                self.warn(
                    "X-9",
                    "the child is in a process group that it does not lead",
                    "start each child in a process group of its own, so that all of it can be ended",
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A frame of the child, about to be written. What is none, or breaks a rule, changes nothing.
    fn sent(&mut self, piece: &Piece) {
        if let Some((_, frames)) = &mut self.broke {
            *frames += 1;
        }
        let bytes = piece.bytes();
        let Some((id, message)) = parse(&bytes) else { return };
        match message.request {
            "HELLO" if self.hello.is_none() => {
                if let Ok(hello) = ChildHello::decode(message.data) {
                    self.ready = hello.ready;
                    self.windows = vec![hello.window];
                    self.hello = Some(hello);
                }
            }
            "READY" | "CREDIT" if id == 0 => {
                let window = window_of(message.data);
                if message.request == "READY" && !self.ready {
                    self.ready = true;
                    if window.is_some() {
                        self.windows.clear();
                    }
                }
                self.windows.extend(window);
            }
            "FINISHED" | "FAILED" => {
                let answers = self.open.remove(&id).is_some();
                // The first frame is what broke it. With a larger window the next task may have been on its way.
                let is_behind = self.broke.as_ref().is_some_and(|(_, frames)| *frames > 1);
                self.read_on |= answers && is_behind && self.window() == 1;
            }
            name if Kind::of(name) == Kind::User && id != 0 => {
                self.asked.insert(id, self.windows.len().saturating_sub(1));
            }
            _ => {}
        }
    }

    /// A frame of the parent.
    fn got(&mut self, got: &Got) -> Checked {
        let bytes = got.piece.bytes();
        let Some((id, message)) = parse(&bytes) else {
            return Err(Stop::fail(
                "M-1",
                "the body of a frame is no message",
                "write every body as an array of exactly four: [request, sender, recipient, data]",
            ));
        };
        self.judge_shape(id, &message, got)?;
        if self.parent.is_none() {
            return self.first(id, &message, got.piece.whole);
        }
        if let Some(meta) = self.meta.take() {
            must(
                meta == id && Kind::of(message.request) == Kind::User,
                "R-28",
                || format!("{} with id {id} follows the META of {meta}", message.request),
                "write META directly before the request it is about, with the same id",
            )?;
        }
        if message.request != "DIE" {
            must(
                self.ready,
                "S-4",
                || format!("{} with id {id} before READY", message.request),
                "send nothing but HELLO and DIE before READY",
            )?;
        }
        match Kind::of(message.request) {
            Kind::User => self.task(id, &message, got.piece.whole),
            Kind::Verb(Verb::Batch) => self.batch(id, &message, &got.piece),
            Kind::Verb(verb) => self.about(id, &message, verb),
            // A later version of the protocol.
            Kind::Unknown => Ok(()),
        }
    }

    fn judge_shape(&mut self, id: u32, message: &Message<'_>, got: &Got) -> Checked {
        let name = message.request;
        if let Some((statement, words)) = &got.flaw {
            let hint = "write one complete value as the fourth field, and nothing behind it";
            return Err(Stop::fail(
                statement.clone(),
                format!("the data of {name} with id {id}: {words}"),
                hint,
            ));
        }
        must(
            message.recipient != Recipient::Everyone || id == 0,
            "M-12",
            || format!("{name} with id {id} is for everyone"),
            "write nil or the child's address as the recipient of a request with an id",
        )?;
        let most = self.hello.as_ref().map_or(MAX_FRAME_DEFAULT, |hello| hello.max_frame) as usize;
        let len = got.line.as_ref().map_or(got.piece.whole.saturating_sub(4), |_| got.piece.whole);
        must(
            len <= most,
            "F-2",
            || format!("{name} with id {id} has a len of {len}, and the child takes {most}"),
            "end a task whose frame is above the child's max_frame with too_large, without sending it",
        )?;
        if let Some(line) = &got.line {
            let recipient = match message.recipient {
                Recipient::Anyone => "null".to_owned(),
                Recipient::Everyone => "-1".to_owned(),
                Recipient::Process(address) => address.to_string(),
            };
            let beginning = format!("{id} [\"{name}\",{},{recipient},", message.sender);
            return must(
                line.starts_with(&beginning),
                "T-2",
                || format!("a line does not begin with {beginning}"),
                "write the id always, and no white space between the parts of the array",
            );
        }
        let bytes = got.piece.bytes();
        let mut shortest = Vec::new();
        write_head(&mut shortest, name, message.sender, message.recipient);
        if !bytes.get(8..).unwrap_or_default().starts_with(&shortest) {
            let what = format!("the head of {name} with id {id} is wider than it need be");
            self.warn("M-8", what, "write each length and integer in its shortest form");
        }
        Ok(())
    }

    /// The parent's first frame.
    fn first(&mut self, id: u32, message: &Message<'_>, whole: usize) -> Checked {
        let name = message.request;
        let hint = "answer the child's HELLO by HELLO, before anything else";
        must(name == "HELLO", "S-3", || format!("the parent's first frame is {name}"), hint)?;
        must(id == 0, "S-3", || format!("HELLO has the id {id}"), "give HELLO the id 0")?;
        must(
            self.hello.is_some(),
            "S-3",
            || "HELLO before the child's was there".to_owned(),
            "write HELLO when the child's has been read",
        )?;
        let most = HELLO_LEN_MAX as usize + 4;
        must(
            whole <= most,
            "F-3",
            || format!("HELLO takes {whole} bytes"),
            "keep HELLO within 65,536 bytes",
        )?;
        let hello = ParentHello::decode(message.data).map_err(|error| {
            let hint = "give each key of HELLO the type of SPEC 6.3";
            Stop::fail("R-13", format!("the data of HELLO: {error}"), hint)
        })?;
        must(hello.version == 1, "V-1", || format!("v is {}", hello.version), "write 1 as v")?;
        // As it was written: the reader takes the nearest limit.
        let max_frame = uint_of(message.data, "max_frame");
        must(
            max_frame.is_none_or(|max_frame| max_frame >= u64::from(MAX_FRAME_DEFAULT)),
            "F-13",
            || format!("max_frame is {max_frame:?}"),
            "announce at least 16,777,215, or leave max_frame out",
        )?;
        self.parent = Some(hello);
        Ok(())
    }

    /// DO or another user request.
    fn task(&mut self, id: u32, message: &Message<'_>, whole: usize) -> Checked {
        must(
            !self.dying,
            "S-6",
            || format!("{} with id {id} after DIE", message.request),
            "send nothing after DIE",
        )?;
        if id == 0 {
            return Ok(());
        }
        must(
            !self.open.contains_key(&id),
            "R-1",
            || format!("the id {id} is given again while it is open"),
            "choose ids that increase, and leave out those that are open",
        )?;
        let wraps = |last: u32| last > u32::MAX / 2 && id < u32::MAX / 2;
        must(
            self.last.is_none_or(|last| id > last || wraps(last)),
            "R-1",
            || format!("the id {id} comes after {:?}", self.last.unwrap_or(0)),
            "choose ids that increase",
        )?;
        let window = self.window();
        let statement = if window == 0 { "W-2" } else { "W-1" };
        must(
            self.open.len() < window as usize,
            statement,
            || format!("a task is sent while {} are unanswered, and the window is {window}", self.open.len()),
            "send a task only while fewer are unanswered than the child's window says",
        )?;
        if let Some((statement, _)) = self.broke.take_if(|_| self.read_on) {
            return Err(Stop::fail(
                statement,
                "the child broke a rule, and the parent went on with it",
                "end the connection: give the child no more tasks, and end it",
            ));
        }
        let bytes: usize = self.open.values().sum();
        let most = self.hello.as_ref().and_then(|hello| hello.window_bytes);
        if most.is_some_and(|most| !self.open.is_empty() && (bytes + whole) as u64 > most) {
            let what = format!("{} bytes of tasks are unanswered, more than window_bytes", bytes + whole);
            self.warn("W-5", what, "wait with a task while it does not fit into window_bytes");
        }
        self.open.insert(id, whole);
        self.used.insert(id);
        self.last = Some(id);
        Ok(())
    }

    /// The largest window that the parent may go by.
    fn window(&self) -> u32 {
        self.windows.iter().copied().max().unwrap_or(1).min(WINDOW_MAX)
    }

    fn batch(&mut self, id: u32, message: &Message<'_>, piece: &Piece) -> Checked {
        self.needs(Capability::Batch, "BATCH")?;
        must(id != 0, "R-19", || "BATCH with id 0".to_owned(), "give a BATCH an id")?;
        if piece.is_whole() {
            Batch::decode(message.data).map_err(|error| {
                let hint = "write `req` and 1 to 65,535 `items`";
                Stop::fail("B-1", format!("the data of BATCH: {error}"), hint)
            })?;
        }
        self.task(id, message, piece.whole)
    }

    /// A protocol request.
    fn about(&mut self, id: u32, message: &Message<'_>, verb: Verb) -> Checked {
        let name = verb.name();
        match verb {
            Verb::Hello => {
                self.warn("S-3", "a second HELLO", "say HELLO once");
                Ok(())
            }
            Verb::Die => {
                self.dying = true;
                must(id == 0, "R-4", || format!("DIE has the id {id}"), "give DIE the id 0")?;
                let read = Die::decode(message.data).map(|_| ());
                read.map_err(|error| Stop::fail("D-18", error.to_string(), "give DIE nil or its map"))
            }
            Verb::Ping => {
                self.needs(Capability::Ping, name)?;
                let size = message.data.len();
                let fits = id == 0 && size <= PING_BYTES_MAX;
                must(fits, "R-38", || format!("PING with id {id} and {size} bytes"), "id 0, at most 64 bytes")
            }
            Verb::Cancel => {
                self.needs(Capability::Cancel, name)?;
                let hint = "cancel what was sent on this connection";
                must(self.used.contains(&id), "R-4", || format!("CANCEL for {id}, which no task had"), hint)
            }
            Verb::Meta => {
                self.needs(Capability::Meta, name)?;
                must(id != 0, "R-28", || "META with id 0".to_owned(), "give META the id of its request")?;
                let hint = "give each key of META the type of SPEC 6.2";
                Meta::decode(message.data).map_err(|error| Stop::fail("R-28", error.to_string(), hint))?;
                self.meta = Some(id);
                Ok(())
            }
            Verb::Failed => {
                let asked = self.asked.remove(&id).ok_or_else(|| {
                    let hint = "answer by FAILED what the child asked, once, and nothing else";
                    Stop::fail("R-32", format!("FAILED for {id}, which the child did not ask"), hint)
                })?;
                // The parent has read everything that was written before that request.
                self.windows.drain(..asked.min(self.windows.len()));
                for before in self.asked.values_mut() {
                    *before = before.saturating_sub(asked);
                }
                Ok(())
            }
            _ => Err(Stop::fail(
                "R-8",
                format!("{name} with id {id}, which only a child sends"),
                "send what SPEC 6.2 has for a parent",
            )),
        }
    }

    fn needs(&self, capability: Capability, name: &str) -> Checked {
        let has = self.hello.as_ref().is_some_and(|hello| hello.capabilities.has(capability));
        must(
            has,
            "V-6",
            || format!("{name}, and the child does not list `{}`", capability.name()),
            "send it only to a child that lists the capability",
        )
    }

    fn warn(&mut self, statement: &'static str, what: impl Into<String>, hint: &str) {
        if self.warnings.len() < WARNINGS_KEPT {
            self.warnings.push(Finding {
                statement: statement.into(),
                what: what.into(),
                hint: hint.to_owned(),
            });
        }
    }
}

fn window_of(data: &[u8]) -> Option<u32> {
    uint_of(data, "window").map(|window| u32::try_from(window).unwrap_or(u32::MAX))
}

/// The whole number that a map has under a key.
fn uint_of(data: &[u8], wanted: &str) -> Option<u64> {
    let mut reader = Reader::new(data);
    let Marker::Map(pairs) = reader.marker().ok()? else { return None };
    for _ in 0..pairs {
        let Marker::Str(key) = reader.marker().ok()? else { return None };
        if key == wanted {
            let Marker::Unsigned(number) = reader.marker().ok()? else { return None };
            return Some(number);
        }
        reader.skip().ok()?;
    }
    None
}

#[cfg(test)]
mod tests;
