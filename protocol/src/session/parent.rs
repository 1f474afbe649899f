//! The parent's half of one connection: reads what a child may say, and keeps a ticket for every task it has not answered.
//!
//! ```text
//! ExpectHello ──HELLO──► ExpectReady ──READY──► Open ──BYE──► Ended
//!      │                      ▲ HELLO {ready: true} skips it    │
//!      └──FAILED version──► error Refused                       └ frames after BYE are discarded
//! ```

use crate::code;
use crate::error::{DataError, PeerError, Quote};
use crate::limits::{HELLO_LEN_MAX, WINDOW_MAX};
use crate::message::{Message, begin_frame, finish_frame, write_head};
use crate::payload::{ChildHello, Credit, Die, Failure, Meta, ParentHello, VERSION};
use crate::request::{Capability, IdOwner, IdRule, Kind, Verb};
use crate::session::Leases;
use crate::{Recipient, wire};

/// The parent's half. `T` is what the caller keeps for each open task.
#[derive(Clone, Debug)]
pub struct ParentSession<T> {
    ours: ParentHello,
    theirs: ChildHello,
    state: State,
    window: u32,
    /// It said once that it works in order; that holds from then on.
    in_order: bool,
    dying: bool,
    leases: Leases<T>,
    /// Open ids that lost a result: to the size limit, or because a line of text mode could not be read. Their next final answer is
    /// that failure (SPEC 4, 10).
    doomed: Vec<(u32, Failure)>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum State {
    ExpectHello,
    ExpectReady,
    Open,
    Ended,
}

/// What a child's frame means.
#[derive(Debug)]
pub enum ParentEvent<'a, T> {
    /// The child's first frame. Write [`ParentSession::hello`] now. `ready` tells that READY came with it.
    Hello {
        /// Whether work may be sent at once.
        ready: bool,
    },
    /// Work may be sent.
    Ready,
    /// A task is answered: success.
    Finished {
        /// What was kept for it.
        ticket: T,
        /// The answer, unchecked.
        data: &'a [u8],
    },
    /// A task is answered: failure.
    Failed {
        /// What was kept for it.
        ticket: T,
        /// How it failed.
        failure: Failure,
    },
    /// One of a task's results.
    Item {
        /// The task's id.
        id: u32,
        /// The result, unchecked.
        data: &'a [u8],
    },
    /// The handler of a task began.
    Started {
        /// The task's id.
        id: u32,
    },
    /// How far a task is, or the child's start if the id is 0.
    Progress {
        /// The task's id, or 0.
        id: u32,
        /// Number or map, unchecked.
        data: &'a [u8],
    },
    /// A line for the log.
    Log {
        /// The task's id, or 0.
        id: u32,
        /// A map, unchecked.
        data: &'a [u8],
    },
    /// The answer to a PING.
    Pong {
        /// The PING's data.
        data: &'a [u8],
    },
    /// The child takes another window from now on, or works in another way.
    Window,
    /// The child ends cleanly. What it has not answered was never begun.
    Bye,
    /// A request of the child's own (capability `ask`, not offered yet): refuse it with FAILED `unavailable`.
    Ask {
        /// The child's id.
        id: u32,
    },
    /// Nothing to do.
    Ignored,
}

/// A task's frames: what goes out with a given id.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outgoing<'a> {
    /// Head and data as encoded once by the caller.
    pub body: &'a [u8],
    /// How many more bytes the body has: those that the caller appends behind what [`send`](ParentSession::send) has, because they
    /// are so many that they are not to be copied.
    pub rest_len: usize,
    /// Which attempt this is, from 1. The child is told from the second on.
    pub attempt: u32,
    /// How long it may run, if that is limited.
    pub deadline_ms: Option<u64>,
    /// A name that is the same for all attempts of the task and no other, if the child is to know one.
    pub key: Option<&'a str>,
}

impl<T> ParentSession<T> {
    /// A session whose child has yet to speak. `hello` is what it will be told.
    pub fn new(hello: ParentHello) -> Self {
        Self {
            ours: hello,
            theirs: ChildHello::default(),
            state: State::ExpectHello,
            window: 0,
            in_order: false,
            dying: false,
            leases: Leases::new(),
            doomed: Vec::new(),
        }
    }

    /// The largest frame to accept now: small until HELLO, then what this side announced.
    pub fn max_frame(&self) -> u32 {
        if self.state == State::ExpectHello { HELLO_LEN_MAX } else { self.ours.max_frame }
    }

    /// What the child said of itself; defaults before its HELLO. `serial` is as the child said it last, in HELLO, READY or
    /// CREDIT; for the window see [`window`](Self::window).
    pub fn child(&self) -> &ChildHello {
        &self.theirs
    }

    /// Whether work may be sent: READY was there, and neither BYE nor DIE.
    pub fn is_open(&self) -> bool {
        self.state == State::Open && !self.dying
    }

    /// Whether BYE was there.
    pub fn has_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// How many tasks the child takes at a time by its own word, clamped.
    pub fn window(&self) -> u32 {
        self.window
    }

    /// The tasks it has not answered.
    pub fn leases(&mut self) -> &mut Leases<T> {
        &mut self.leases
    }

    /// How many tasks it has not answered.
    pub fn open_count(&self) -> u32 {
        self.leases.len()
    }

    /// Takes one frame of the child. An error ends the connection.
    #[inline]
    pub fn handle_frame<'a>(&mut self, id: u32, body: &'a [u8]) -> Result<ParentEvent<'a, T>, PeerError> {
        if self.state == State::Ended {
            return Ok(ParentEvent::Ignored);
        }
        let message = Message::decode(body).map_err(|error| PeerError::BadMessage { id, error })?;
        let kind = Kind::of(message.request);
        if kind == Kind::Verb(Verb::Finished) && self.state == State::Open && self.doomed.is_empty() {
            let ticket = self.leases.close(id).ok_or(PeerError::UnknownId { request: "FINISHED", id })?;
            return Ok(ParentEvent::Finished { ticket, data: message.data });
        }
        self.handle_message(id, &message, kind)
    }

    /// Takes the head of a frame that was skipped as too large. A final answer ends its task: its ticket comes back, and the
    /// task failed as `too_large`. A lost ITEM dooms its task: the final answer will be that failure, whatever it says.
    /// Anything else is dropped. An error ends the connection.
    pub fn handle_too_large(&mut self, id: u32, head: &[u8]) -> Result<Option<T>, PeerError> {
        if self.state == State::ExpectHello {
            return Err(not_allowed("a first frame", "is larger than a HELLO may be"));
        }
        if self.state == State::Ended {
            return Ok(None);
        }
        let message = Message::decode(head).map_err(|error| PeerError::BadMessage { id, error })?;
        match Kind::of(message.request) {
            Kind::Verb(verb @ (Verb::Finished | Verb::Failed)) => {
                self.doomed.retain(|(doomed, _)| *doomed != id);
                self.leases.close(id).map(Some).ok_or(PeerError::UnknownId { request: verb.name(), id })
            }
            Kind::Verb(Verb::Item) if self.leases.get(id).is_none() => {
                Err(PeerError::UnknownId { request: Verb::Item.name(), id })
            }
            Kind::Verb(Verb::Item) => {
                let message = "one of its results was larger than a frame may be";
                self.doom(id, Failure::new(code::TOO_LARGE, message));
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Takes a line of text mode whose data cannot be read; `head` is its message with nil for the data. A final answer ends its
    /// task, which failed as `bad_data`; an ITEM dooms its task. Anything else may do without its data, save what the connection
    /// depends on. An error ends the connection.
    pub fn handle_bad_data<'a>(
        &mut self,
        id: u32,
        head: &'a [u8],
        error: DataError,
    ) -> Result<ParentEvent<'a, T>, PeerError> {
        let kind = Message::decode(head).map(|message| Kind::of(message.request));
        let is_first = self.state == State::ExpectHello;
        let Ok(Kind::Verb(verb)) = kind else { return self.handle_frame(id, head) };
        match verb {
            _ if self.state == State::Ended => Ok(ParentEvent::Ignored),
            Verb::Hello if is_first => Err(unreadable(verb)),
            Verb::Ready | Verb::Credit if !is_first => Err(unreadable(verb)),
            Verb::Finished | Verb::Failed if !is_first && id != 0 => {
                let ticket =
                    self.leases.close(id).ok_or(PeerError::UnknownId { request: verb.name(), id })?;
                let doom = self.take_doom(id);
                let failure = doom.unwrap_or_else(|| {
                    Failure::new(code::BAD_DATA, format!("the answer's line cannot be read: {error}"))
                });
                Ok(ParentEvent::Failed { ticket, failure })
            }
            Verb::Item if self.leases.get(id).is_some() => {
                let message = format!("the line of one of its results cannot be read: {error}");
                self.doom(id, Failure::new(code::BAD_DATA, message));
                Ok(ParentEvent::Ignored)
            }
            _ => self.handle_frame(id, head),
        }
    }

    /// A result of an open task is lost. What was lost first is told.
    fn doom(&mut self, id: u32, failure: Failure) {
        if self.doomed.iter().any(|(doomed, _)| *doomed == id) {
            return;
        }
        // Leases that the caller closed itself are forgotten here, so that this list is never longer than theirs.
        let leases = &self.leases;
        self.doomed.retain(|(doomed, _)| leases.get(*doomed).is_some());
        self.doomed.push((id, failure));
    }

    fn take_doom(&mut self, id: u32) -> Option<Failure> {
        let place = self.doomed.iter().position(|(doomed, _)| *doomed == id)?;
        Some(self.doomed.swap_remove(place).1)
    }

    /// Appends this side's HELLO.
    pub fn hello(&self, out: &mut Vec<u8>) {
        self.protocol_frame(out, 0, Verb::Hello, |out| self.ours.encode(out));
    }

    /// Appends DIE. No work may be sent after it.
    pub fn die(&mut self, die: &Die, out: &mut Vec<u8>) {
        self.dying = true;
        self.protocol_frame(out, 0, Verb::Die, |out| die.encode(out));
    }

    /// Opens the next id for a task. Gives the ticket back when the session is not open or the window full.
    #[inline]
    pub fn begin(&mut self, ticket: T) -> Result<u32, T> {
        if !self.is_open() || self.leases.len() >= self.window {
            return Err(ticket);
        }
        self.leases.open(ticket)
    }

    /// Appends the frames of the task just begun with `id`: META if the child takes it and there is something to say, then
    /// the task itself.
    #[inline]
    pub fn send(&self, id: u32, outgoing: Outgoing<'_>, out: &mut Vec<u8>) {
        self.announce(id, &outgoing, out);
        let body_len = outgoing.body.len().saturating_add(outgoing.rest_len);
        out.extend_from_slice(&crate::message::frame_header(id, body_len));
        out.extend_from_slice(outgoing.body);
    }

    /// Appends what [`send`](Self::send) puts before the task: META or nothing.
    #[inline]
    pub fn announce(&self, id: u32, outgoing: &Outgoing<'_>, out: &mut Vec<u8>) {
        let tells = outgoing.attempt > 1 || outgoing.deadline_ms.is_some() || outgoing.key.is_some();
        if tells && self.theirs.capabilities.has(Capability::Meta) {
            let meta = Meta {
                attempt: Some(outgoing.attempt),
                deadline_ms: outgoing.deadline_ms,
                key: outgoing.key.map(str::to_owned),
                ..Meta::default()
            };
            self.protocol_frame(out, id, Verb::Meta, |out| meta.encode(out));
        }
    }

    /// Appends CANCEL for an open task, if the child takes it; false if it does not, or the task is not open.
    pub fn cancel(&self, id: u32, out: &mut Vec<u8>) -> bool {
        let takes = self.theirs.capabilities.has(Capability::Cancel)
            && self.state == State::Open
            && self.leases.get(id).is_some();
        if takes {
            self.protocol_frame(out, id, Verb::Cancel, wire::write_nil);
        }
        takes
    }

    /// Appends PING with `data` of at most 64 bytes, if the child answers it; false if it does not.
    pub fn ping(&self, data: u64, out: &mut Vec<u8>) -> bool {
        let takes = self.theirs.capabilities.has(Capability::Ping) && self.state == State::Open;
        if takes {
            self.protocol_frame(out, 0, Verb::Ping, |out| wire::write_uint(out, data));
        }
        takes
    }

    /// Whether the child does its tasks in the order of their arrival: it said `serial` true once. If it says false later, it
    /// only holds back answers (SPEC W-12).
    pub fn works_in_order(&self) -> bool {
        self.in_order
    }

    /// Whether the child says STARTED when it begins a task: both sides listed the capability.
    pub fn tells_starts(&self) -> bool {
        self.theirs.capabilities.has(Capability::Started) && self.ours.capabilities.has(Capability::Started)
    }

    /// Whether a body of that length is within what the child reads.
    pub fn fits(&self, body_len: usize) -> bool {
        (body_len as u64).saturating_add(4) <= u64::from(self.theirs.max_frame)
    }

    /// Appends the refusal of a request of the child's own.
    pub fn refuse(&self, id: u32, out: &mut Vec<u8>) {
        let failure = Failure::new(code::UNAVAILABLE, "this parent takes no requests from its children");
        self.protocol_frame(out, id, Verb::Failed, |out| failure.encode(out));
    }

    fn handle_message<'a>(
        &mut self,
        id: u32,
        message: &Message<'a>,
        kind: Kind,
    ) -> Result<ParentEvent<'a, T>, PeerError> {
        let verb = match kind {
            Kind::Verb(verb) => verb,
            Kind::Unknown if self.state == State::ExpectHello => return Err(first_frame(message)),
            Kind::Unknown => return Ok(ParentEvent::Ignored),
            Kind::User if self.state != State::Open => return Err(first_frame(message)),
            Kind::User if id == 0 => return Ok(ParentEvent::Ignored),
            Kind::User => return Ok(ParentEvent::Ask { id }),
        };
        if self.state == State::ExpectHello {
            return self.handle_first(id, message, verb);
        }
        let rules = verb.rules();
        if !rules.from_child {
            return Err(not_allowed(verb.name(), "is not a child's to send"));
        }
        let id_fits = match rules.id {
            IdRule::Any => true,
            IdRule::Task => id != 0,
            IdRule::Zero => id == 0,
        };
        if !id_fits {
            return Err(not_allowed(verb.name(), "has an id it must not have"));
        }
        if rules.owner == IdOwner::Receiver && id != 0 && self.leases.get(id).is_none() {
            return Err(PeerError::UnknownId { request: verb.name(), id });
        }
        self.handle_verb(id, message.data, verb)
    }

    fn handle_first<'a>(
        &mut self,
        id: u32,
        message: &Message<'a>,
        verb: Verb,
    ) -> Result<ParentEvent<'a, T>, PeerError> {
        match verb {
            Verb::Hello | Verb::Failed if id != 0 => {
                Err(not_allowed(verb.name(), "came first with an id, it has none"))
            }
            Verb::Hello => {
                let hello = ChildHello::decode(message.data)?;
                if hello.version != VERSION {
                    return Err(PeerError::Incompatible { theirs: hello.version, ours: VERSION });
                }
                self.state = if hello.ready { State::Open } else { State::ExpectReady };
                self.in_order = hello.serial;
                self.theirs = hello;
                self.set_window(self.theirs.window.max(1));
                Ok(ParentEvent::Hello { ready: self.state == State::Open })
            }
            Verb::Failed => Err(refused(message.data)),
            _ => Err(first_frame(message)),
        }
    }

    fn handle_verb<'a>(
        &mut self,
        id: u32,
        data: &'a [u8],
        verb: Verb,
    ) -> Result<ParentEvent<'a, T>, PeerError> {
        Ok(match verb {
            Verb::Hello => ParentEvent::Ignored,
            Verb::Ready | Verb::Credit if id == 0 => {
                let Credit { window, serial } = Credit::decode(verb.name(), data)?;
                if let Some(window) = window {
                    self.set_window(window);
                }
                self.theirs.serial = serial.unwrap_or(self.theirs.serial);
                self.in_order |= self.theirs.serial;
                if verb == Verb::Ready && self.state == State::ExpectReady {
                    self.state = State::Open;
                    return Ok(ParentEvent::Ready);
                }
                ParentEvent::Window
            }
            Verb::Failed if id == 0 => return Err(refused(data)),
            Verb::Finished | Verb::Failed => return self.handle_final(id, data, verb),
            Verb::Item if self.doomed.iter().any(|(doomed, _)| *doomed == id) => ParentEvent::Ignored,
            Verb::Item => ParentEvent::Item { id, data },
            Verb::Started => ParentEvent::Started { id },
            Verb::Progress => ParentEvent::Progress { id, data },
            Verb::Log => ParentEvent::Log { id, data },
            Verb::Pong => ParentEvent::Pong { data },
            Verb::Bye => {
                self.state = State::Ended;
                ParentEvent::Bye
            }
            Verb::Batch | Verb::Cancel | Verb::Credit | Verb::Die | Verb::Meta | Verb::Ping | Verb::Ready => {
                ParentEvent::Ignored
            }
        })
    }

    fn handle_final<'a>(
        &mut self,
        id: u32,
        data: &'a [u8],
        verb: Verb,
    ) -> Result<ParentEvent<'a, T>, PeerError> {
        let ticket = self.leases.close(id).ok_or(PeerError::UnknownId { request: verb.name(), id })?;
        if let Some(failure) = self.take_doom(id) {
            return Ok(ParentEvent::Failed { ticket, failure });
        }
        if verb == Verb::Finished {
            return Ok(ParentEvent::Finished { ticket, data });
        }
        let mut failure = Failure::decode(data);
        failure.code = code::from_child(&failure.code).to_owned();
        Ok(ParentEvent::Failed { ticket, failure })
    }

    fn set_window(&mut self, window: u32) {
        self.window = window.min(WINDOW_MAX);
        self.leases.reserve(self.window);
    }

    fn protocol_frame(&self, out: &mut Vec<u8>, id: u32, verb: Verb, data: impl FnOnce(&mut Vec<u8>)) {
        let start = begin_frame(out, id);
        write_head(out, verb.name(), self.ours.parent, Recipient::Process(self.ours.pid.max(1)));
        let before = out.len();
        data(out);
        if out.len() == before {
            wire::write_nil(out);
        }
        finish_frame(out, start);
    }

    /// A short name of the state with what else tells two sessions apart, for tests that count states.
    pub fn fingerprint(&self) -> (u8, bool, u32, u32) {
        (self.state as u8, self.dying, self.window, self.leases.len())
    }
}

fn first_frame(message: &Message<'_>) -> PeerError {
    PeerError::NotAllowed {
        request: Quote::new(message.request.as_bytes()).to_string(),
        why: "came before HELLO and READY, which must be a child's first frames",
    }
}

fn unreadable(verb: Verb) -> PeerError {
    PeerError::BadProtocolData {
        request: verb.name(),
        detail: "JSON that stands for no data of this protocol",
    }
}

fn refused(data: &[u8]) -> PeerError {
    let failure = Failure::decode(data);
    PeerError::Refused { code: code::from_child(&failure.code).to_owned(), message: failure.message }
}

fn not_allowed(request: &str, why: &'static str) -> PeerError {
    PeerError::NotAllowed { request: request.to_owned(), why }
}
