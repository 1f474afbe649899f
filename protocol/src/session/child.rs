//! The child's half of one connection: reads what a parent may say, and makes sure that every task gets exactly one final
//! answer.
//!
//! ```text
//! Fresh ──hello()──► Greeted ──ready()──► Serving ──DIE or EOF──► Finishing ──bye()──► Ended
//!                                            │ DIE {now}                                ▲
//!                                            └──────────────────────────────────────────┘
//! ```

use std::collections::VecDeque;

use crate::batch::{Batch, Values};
use crate::code;
use crate::error::{ApiMisuse, DataError, MessageError, PeerError};
use crate::limits::{ADDRESS_MAX, HELLO_LEN_MAX, OVERDRAFT_MAX, PING_BYTES_MAX};
use crate::message::{Message, finish_frame_before};
use crate::payload::{ChildHello, Credit, Die, Failure, Meta, ParentHello, VERSION};
use crate::request::{Capabilities, Capability, IdRule, Kind, Verb};
use crate::session::voice::ChildVoice;
use crate::tail::SharedTail;
use crate::{Recipient, check, wire};

/// Characters kept of a code and a message when the whole failure is too large for a frame: with four bytes each they fit the
/// smallest frame limit there is.
const SHORT_CHARS: usize = 4_096;

/// The child's half.
#[derive(Clone, Debug)]
pub struct ChildSession {
    ours: ChildHello,
    theirs: Option<ParentHello>,
    voice: ChildVoice,
    state: State,
    /// HELLO was sent. DIE or the end of input may come before it.
    greeted: bool,
    /// READY was sent, alone or in HELLO.
    readied: bool,
    open: VecDeque<u32>,
    meta: Option<(u32, Meta)>,
    done: u64,
    failed: u64,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum State {
    Fresh,
    Greeted,
    Serving,
    Finishing,
    Ended,
}

/// What a parent's frame means.
#[derive(Clone, Debug, PartialEq)]
pub enum ChildEvent<'a> {
    /// The parent's answer to HELLO; a simple child ignores it.
    Hello,
    /// A task. It must be answered once.
    Task {
        /// Its id.
        id: u32,
        /// Its request: DO or a user's name.
        request: &'a str,
        /// Its input, unchecked.
        data: &'a [u8],
        /// What the parent said about it.
        meta: Meta,
    },
    /// Many tasks in one frame. They must be answered once, together: FINISHED with a [`ResultList`](crate::ResultList), of
    /// which parts may go before as ITEMs.
    Batch {
        /// Their id.
        id: u32,
        /// Their request: DO or a user's name.
        request: &'a str,
        /// Their inputs, each unchecked.
        items: Values<'a>,
    },
    /// A user request that is never answered (id 0).
    OneWay {
        /// Its request.
        request: &'a str,
        /// Its input, unchecked.
        data: &'a [u8],
    },
    /// Stop this task if you can; it is still answered once. Already answered ones never get here.
    Cancel {
        /// The task's id.
        id: u32,
    },
    /// Answer with [`ChildSession::pong`].
    Ping {
        /// What to send back.
        data: &'a [u8],
    },
    /// Finish what was received, or drop it if `now`; then [`ChildSession::bye`].
    Die(Die),
    /// Something that needs no handler was refused; its answer is in the buffer.
    Refused,
    /// Nothing to do.
    Ignored,
}

impl ChildSession {
    /// A session that has not spoken yet. `pid` is this process's own; the parent's HELLO may give another.
    pub fn new(hello: ChildHello, pid: u64) -> Self {
        Self {
            ours: hello,
            theirs: None,
            voice: ChildVoice::new(pid.clamp(1, ADDRESS_MAX)),
            state: State::Fresh,
            greeted: false,
            readied: false,
            open: VecDeque::new(),
            meta: None,
            done: 0,
            failed: 0,
        }
    }

    /// How many unanswered tasks it takes, as HELLO says.
    pub fn window(&self) -> u32 {
        self.ours.window
    }

    /// The largest frame the parent takes.
    pub fn peer_max_frame(&self) -> u32 {
        self.voice.max_frame
    }

    /// How this child's frames are addressed, for whoever speaks beside the session. Take it again after the parent's HELLO.
    pub fn voice(&self) -> ChildVoice {
        self.voice
    }

    /// Whether both sides list STARTED, so that it is to be sent before each handler. False before the parent's HELLO.
    pub fn tells_starts(&self) -> bool {
        let lists = |capabilities: &Capabilities| capabilities.has(Capability::Started);
        lists(&self.ours.capabilities) && self.theirs.as_ref().is_some_and(|hello| lists(&hello.capabilities))
    }

    /// What the parent said of itself, once it did.
    pub fn parent(&self) -> Option<&ParentHello> {
        self.theirs.as_ref()
    }

    /// How many tasks are not answered.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// Whether DIE or the end of input was there: nothing more will come.
    pub fn is_finishing(&self) -> bool {
        matches!(self.state, State::Finishing | State::Ended)
    }

    /// Appends HELLO, which must come first. With `ready` in it no READY is needed. Too many or too long names in it are
    /// [`ApiMisuse::TooLarge`].
    pub fn hello(&mut self, out: &mut Vec<u8>) -> Result<(), ApiMisuse> {
        if self.greeted || self.state == State::Ended {
            return Err(ApiMisuse::WrongState("HELLO"));
        }
        self.voice.frame_within(out, 0, Verb::Hello, HELLO_LEN_MAX, |out| self.ours.encode(out))?;
        self.greeted = true;
        self.readied = self.ours.ready;
        if self.state == State::Fresh {
            self.state = if self.ours.ready { State::Serving } else { State::Greeted };
        }
        Ok(())
    }

    /// Appends READY, once. Possible while finishing too: DIE may come while a model loads.
    pub fn ready(&mut self, out: &mut Vec<u8>) -> Result<(), ApiMisuse> {
        if !self.greeted || self.readied || self.state == State::Ended {
            return Err(ApiMisuse::WrongState("READY"));
        }
        self.readied = true;
        if self.state == State::Greeted {
            self.state = State::Serving;
        }
        self.voice.frame(out, 0, Verb::Ready, wire::write_nil);
        Ok(())
    }

    /// Appends CREDIT: whether this child works in order and answers before it goes on. Possible after READY.
    ///
    /// A child with a window above 1 that is to hold answers back says `false`, and writes it out, before the first of them
    /// waits; it may say `true` again behind the last of them (SPEC W-10). What it said in HELLO holds until then.
    pub fn serial(&mut self, serial: bool, out: &mut Vec<u8>) -> Result<(), ApiMisuse> {
        if !self.readied || self.state == State::Ended {
            return Err(ApiMisuse::WrongState("CREDIT"));
        }
        self.ours.serial = serial;
        let credit = Credit { window: None, serial: Some(serial) };
        self.voice.frame(out, 0, Verb::Credit, |out| credit.encode(out));
        Ok(())
    }

    /// Takes one frame of the parent; refusals that need no handler are appended to `out`. An error ends the connection
    /// (exit 4).
    pub fn handle_frame<'a>(
        &mut self,
        id: u32,
        body: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<ChildEvent<'a>, PeerError> {
        if self.state == State::Ended {
            return Ok(ChildEvent::Ignored);
        }
        let meta = self.meta.take();
        let message = match Message::decode(body) {
            Ok(message) => message,
            Err(error) => return Ok(self.handle_bad_message(id, &error, out)),
        };
        let meta = meta.filter(|(about, _)| *about == id).map(|(_, meta)| meta).unwrap_or_default();
        match Kind::of(message.request) {
            Kind::User if id == 0 => Ok(ChildEvent::OneWay { request: message.request, data: message.data }),
            Kind::User => Ok(self.handle_task(id, &message, meta, out)),
            Kind::Verb(Verb::Batch) => Ok(self.handle_batch(id, message.data, out)),
            Kind::Verb(verb) => self.handle_verb(id, message.data, verb),
            Kind::Unknown => Ok(ChildEvent::Ignored),
        }
    }

    /// Takes a line that is no message. It is refused in `out` if it has an id.
    pub fn handle_bad_message(
        &mut self,
        id: u32,
        error: &MessageError,
        out: &mut Vec<u8>,
    ) -> ChildEvent<'static> {
        self.meta = None;
        if id == 0 || !self.greeted || self.state == State::Ended || self.open.contains(&id) {
            return ChildEvent::Ignored;
        }
        self.refuse(id, code::BAD_MESSAGE, error.to_string(), out)
    }

    /// Takes a line whose data cannot be read; `head` is its message with nil for the data. A task is refused in `out`, DIE is
    /// taken, anything else is ignored.
    pub fn handle_bad_data(
        &mut self,
        id: u32,
        head: &[u8],
        error: &DataError,
        out: &mut Vec<u8>,
    ) -> ChildEvent<'static> {
        self.meta = None;
        if id == 0 && Message::decode(head).is_ok_and(|message| message.request == Verb::Die.name()) {
            return match self.state {
                State::Ended => ChildEvent::Ignored,
                _ => self.take_die(&[]),
            };
        }
        let is_ours = self.greeted && !self.is_finishing() && !self.open.contains(&id);
        if id == 0 || !is_ours || !self.is_task(head) {
            return ChildEvent::Ignored;
        }
        self.refuse(id, code::BAD_DATA, error.to_string(), out)
    }

    /// Whether a message with this head is to be answered.
    fn is_task(&self, head: &[u8]) -> bool {
        Message::decode(head).is_ok_and(|message| match Kind::of(message.request) {
            Kind::User => true,
            Kind::Verb(Verb::Batch) => self.ours.capabilities.has(Capability::Batch),
            _ => false,
        })
    }

    /// Takes what the splitter gives of a frame above our `max_frame`. A task is refused in `out`; anything else is ignored.
    pub fn handle_too_large(
        &mut self,
        id: u32,
        len: u32,
        head: &[u8],
        out: &mut Vec<u8>,
    ) -> ChildEvent<'static> {
        self.meta = None;
        let is_ours = self.greeted && !self.is_finishing() && !self.open.contains(&id);
        if id == 0 || !is_ours || !self.is_task(head) {
            return ChildEvent::Ignored;
        }
        let max = self.ours.max_frame;
        let message =
            format!("the task's frame has {len} bytes, this worker takes {max}: raise its max_frame");
        self.refuse(id, code::TOO_LARGE, message, out)
    }

    /// The parent closed its end: nothing more will come.
    pub fn handle_eof(&mut self) {
        if self.state != State::Ended {
            self.state = State::Finishing;
        }
    }

    /// Appends FINISHED with data that `write` appends as one value. A frame above the parent's limit is taken back and
    /// FAILED `too_large` sent instead.
    pub fn finished(
        &mut self,
        id: u32,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), ApiMisuse> {
        self.close(id)?;
        let start = out.len();
        let len = self.voice.frame(out, id, Verb::Finished, write);
        self.end_answer(id, start, len, out);
        Ok(())
    }

    /// FINISHED was appended at `start`, with that `len`: it stays if the parent takes it. Whether it does.
    #[inline]
    fn end_answer(&mut self, id: u32, start: usize, len: u64, out: &mut Vec<u8>) -> bool {
        let max = self.peer_max_frame();
        if len <= u64::from(max) {
            self.done = self.done.saturating_add(1);
            return true;
        }
        out.truncate(start);
        self.failed = self.failed.saturating_add(1);
        let message =
            format!("the answer's frame has {len} bytes, the parent takes {max}: raise its max_frame");
        self.voice.frame(out, id, Verb::Failed, |out| Failure::new(code::TOO_LARGE, message).encode(out));
        false
    }

    /// As [`finished`](Self::finished), unless `write` fails: then nothing is appended, the task stays open, and the error comes
    /// back to be told by [`failed`](Self::failed). `write` gives the rest of the value, so many bytes that they are not to be
    /// copied; if it is to be sent, it comes back, for the caller to append.
    pub fn try_finished<E>(
        &mut self,
        id: u32,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<Option<SharedTail>, E>,
    ) -> Result<Result<Option<SharedTail>, E>, ApiMisuse> {
        self.must_be_open(id)?;
        let start = self.voice.begin(out, id, Verb::Finished);
        let rest = match write(out) {
            Ok(rest) => rest,
            Err(error) => {
                out.truncate(start);
                return Ok(Err(error));
            }
        };
        let len = finish_frame_before(out, start, rest.as_ref().map_or(0, |rest| rest.len()));
        self.close(id)?;
        let is_sent = self.end_answer(id, start, len, out);
        Ok(Ok(rest.filter(|_| is_sent)))
    }

    /// Appends FAILED. One above the parent's limit is sent without its `data`, which its message says; if that does not help,
    /// with its code and the beginning of its message only.
    pub fn failed(&mut self, id: u32, failure: &Failure, out: &mut Vec<u8>) -> Result<(), ApiMisuse> {
        self.close(id)?;
        self.failed = self.failed.saturating_add(1);
        let max = self.peer_max_frame();
        if self.voice.frame_within(out, id, Verb::Failed, max, |out| failure.encode(out)).is_ok() {
            return Ok(());
        }
        let failure = failure.clone().without_data();
        if self.voice.frame_within(out, id, Verb::Failed, max, |out| failure.encode(out)).is_err() {
            let short = Failure {
                code: failure.code.chars().take(SHORT_CHARS).collect(),
                message: failure.message.chars().take(SHORT_CHARS).collect(),
                trace: None,
                chain: Vec::new(),
                ..failure
            };
            self.voice.frame(out, id, Verb::Failed, |out| short.encode(out));
        }
        Ok(())
    }

    /// Appends one of a task's results, one value in `data`.
    pub fn item(&self, id: u32, data: &[u8], out: &mut Vec<u8>) -> Result<(), ApiMisuse> {
        self.may_speak("ITEM")?;
        self.must_be_open(id)?;
        self.voice.item(id, data, out)
    }

    /// Appends PROGRESS for a task, or for the start with id 0; `data` is a number or a map.
    pub fn progress(&self, id: u32, data: &[u8], out: &mut Vec<u8>) -> Result<(), ApiMisuse> {
        self.may_speak("PROGRESS")?;
        if id != 0 {
            self.must_be_open(id)?;
        }
        self.voice.progress(id, data, out)
    }

    /// Appends LOG about a task, or about none with id 0; `data` is a map with `level` and `msg`.
    pub fn log(&self, id: u32, data: &[u8], out: &mut Vec<u8>) -> Result<(), ApiMisuse> {
        self.may_speak("LOG")?;
        if id != 0 {
            self.must_be_open(id)?;
        }
        self.voice.log(id, data, out)
    }

    /// Appends STARTED: the handler of that task begins now. Sent if [`tells_starts`](Self::tells_starts).
    pub fn started(&self, id: u32, out: &mut Vec<u8>) -> Result<(), ApiMisuse> {
        self.may_speak("STARTED")?;
        self.must_be_open(id)?;
        self.voice.started(id, out);
        Ok(())
    }

    /// Appends PONG; nothing before HELLO and after BYE, where no PONG may be.
    pub fn pong(&self, data: &[u8], out: &mut Vec<u8>) {
        if self.may_speak("PONG").is_err() {
            return;
        }
        self.voice.pong(data, out);
    }

    /// Appends BYE, the last frame. Every begun task must have been answered; what was received and not begun may stay.
    pub fn bye(&mut self, out: &mut Vec<u8>) -> Result<(), ApiMisuse> {
        self.may_speak("BYE")?;
        self.state = State::Ended;
        let (done, failed) = (self.done, self.failed);
        self.voice.frame(out, 0, Verb::Bye, |out| {
            wire::write_map_len(out, 2);
            wire::write_str(out, "done");
            wire::write_uint(out, done);
            wire::write_str(out, "failed");
            wire::write_uint(out, failed);
        });
        Ok(())
    }

    fn handle_task<'a>(
        &mut self,
        id: u32,
        message: &Message<'a>,
        meta: Meta,
        out: &mut Vec<u8>,
    ) -> ChildEvent<'a> {
        match self.open(id, out) {
            Some(refused) => refused,
            None => ChildEvent::Task { id, request: message.request, data: message.data, meta },
        }
    }

    fn handle_batch<'a>(&mut self, id: u32, data: &'a [u8], out: &mut Vec<u8>) -> ChildEvent<'a> {
        if id == 0 || !self.ours.capabilities.has(Capability::Batch) {
            return ChildEvent::Ignored;
        }
        let Batch { request, items } = match Batch::decode(data) {
            Ok(batch) => batch,
            Err(_) if self.open.contains(&id) => return ChildEvent::Ignored,
            Err(error) => return self.refuse(id, code::BAD_DATA, format!("no batch: {error}"), out),
        };
        match self.open(id, out) {
            Some(refused) => refused,
            None => ChildEvent::Batch { id, request, items },
        }
    }

    /// A parent sends work under that id. Gives what becomes of it if it is not to be done.
    #[inline]
    fn open<'a>(&mut self, id: u32, out: &mut Vec<u8>) -> Option<ChildEvent<'a>> {
        if self.state == State::Finishing {
            return Some(ChildEvent::Ignored);
        }
        // A parent that keeps the rules never sends an open id again. The check looks at the newest few only: it catches the
        // plain mistake without a walk through a wide window for every task.
        if self.open.iter().rev().take(8).any(|open| *open == id) {
            return Some(ChildEvent::Ignored);
        }
        let limit = (self.ours.window as usize).saturating_add(OVERDRAFT_MAX);
        if self.open.len() >= limit {
            return Some(self.refuse(id, code::OVERLOADED, format!("{limit} tasks wait here already"), out));
        }
        self.open.push_back(id);
        None
    }

    fn handle_verb<'a>(&mut self, id: u32, data: &'a [u8], verb: Verb) -> Result<ChildEvent<'a>, PeerError> {
        let rules = verb.rules();
        let id_fits = match rules.id {
            IdRule::Any => true,
            IdRule::Task => id != 0,
            IdRule::Zero => id == 0,
        };
        if !rules.from_parent || !id_fits {
            return Ok(ChildEvent::Ignored);
        }
        Ok(match verb {
            Verb::Hello if self.theirs.is_none() => {
                let hello = ParentHello::decode(data)?;
                if hello.version != VERSION {
                    return Err(PeerError::Incompatible { theirs: hello.version, ours: VERSION });
                }
                if hello.pid != 0 {
                    self.voice.pid = hello.pid;
                }
                if hello.parent != 0 {
                    self.voice.parent = Recipient::Process(hello.parent);
                }
                self.voice.max_frame = hello.max_frame;
                self.theirs = Some(hello);
                ChildEvent::Hello
            }
            Verb::Die => self.take_die(data),
            Verb::Cancel if self.open.contains(&id) => ChildEvent::Cancel { id },
            Verb::Meta if self.ours.capabilities.has(Capability::Meta) => {
                self.meta = Meta::decode(data).ok().map(|meta| (id, meta));
                ChildEvent::Ignored
            }
            Verb::Ping if data.len() <= PING_BYTES_MAX && check(data).is_ok() => ChildEvent::Ping { data },
            _ => ChildEvent::Ignored,
        })
    }

    /// DIE is DIE, whatever is behind it ([D-18]).
    fn take_die<'a>(&mut self, data: &[u8]) -> ChildEvent<'a> {
        self.state = State::Finishing;
        ChildEvent::Die(Die::decode(data).unwrap_or_default())
    }

    /// Nothing is said before HELLO and after BYE.
    fn may_speak(&self, what: &'static str) -> Result<(), ApiMisuse> {
        if self.greeted && self.state != State::Ended { Ok(()) } else { Err(ApiMisuse::WrongState(what)) }
    }

    fn must_be_open(&self, id: u32) -> Result<(), ApiMisuse> {
        if self.open.contains(&id) { Ok(()) } else { Err(ApiMisuse::NotOpen(id)) }
    }

    /// Refuses a frame that opens no task.
    fn refuse<'a>(&self, id: u32, code: &str, message: String, out: &mut Vec<u8>) -> ChildEvent<'a> {
        let failure = Failure { begun: Some(false), ..Failure::new(code, message) };
        self.voice.frame(out, id, Verb::Failed, |out| failure.encode(out));
        ChildEvent::Refused
    }

    fn close(&mut self, id: u32) -> Result<(), ApiMisuse> {
        if !self.readied || self.state == State::Ended {
            return Err(ApiMisuse::WrongState("an answer"));
        }
        let place = self.open.iter().position(|open| *open == id).ok_or(ApiMisuse::NotOpen(id))?;
        self.open.remove(place);
        Ok(())
    }

    /// What tells two sessions apart, for tests that count states.
    pub fn fingerprint(&self) -> (u8, bool, usize, bool) {
        let said = u8::from(self.greeted) + u8::from(self.readied);
        (self.state as u8 * 3 + said, self.theirs.is_some(), self.open.len(), self.meta.is_some())
    }
}
