//! The vocabulary: which requests exist, who may send them, which ids they carry, what they need and what they mean for the
//! task they name (SPEC 6). One table, [`Verb::rules`]; both session halves and the tests read it.

use std::fmt;
use std::marker::PhantomData;

use crate::error::ApiMisuse;
use crate::limits::REQUEST_BYTES_MAX;

/// A user request's name with its types: what goes in, what comes back.
///
/// ```
/// use stokehold_protocol::Request;
///
/// const SQUARE: Request<u64, u64> = Request::new("square");
/// assert_eq!(SQUARE.name(), "square");
/// assert_eq!(Request::<str, String>::DO.name(), "DO");
/// ```
///
/// A constant with a name of the protocol, or of a wrong length, does not compile:
///
/// ```compile_fail
/// const BAD: stokehold_protocol::Request<u64, u64> = stokehold_protocol::Request::new("FINISHED");
/// ```
pub struct Request<J: ?Sized, R> {
    name: &'static str,
    types: PhantomData<fn(&J) -> R>,
}

impl<J: ?Sized, R> Request<J, R> {
    /// The default request.
    pub const DO: Self = Self { name: "DO", types: PhantomData };

    /// A request called `name`: 1 to 255 bytes, not ALL-CAPS (`[A-Z][A-Z0-9_]*`) unless it is `DO`.
    ///
    /// # Panics
    ///
    /// On a name against these rules; in a `const` that is a compile error. Use [`check_user_name`] for names that are data.
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty() && name.len() <= REQUEST_BYTES_MAX, "a request name has 1 to 255 bytes");
        assert!(
            !is_all_caps(name) || matches!(name.as_bytes(), b"DO"),
            "ALL-CAPS names belong to the protocol; DO is the only one a user may send"
        );
        Self { name, types: PhantomData }
    }

    /// The name on the wire.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<J: ?Sized, R> Clone for Request<J, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<J: ?Sized, R> Copy for Request<J, R> {}

impl<J: ?Sized, R> fmt::Debug for Request<J, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Request").field(&self.name).finish()
    }
}

/// Whether `name` may be the name of a user request.
pub fn check_user_name(name: &str) -> Result<(), ApiMisuse> {
    if name.is_empty() || name.len() > REQUEST_BYTES_MAX {
        return Err(ApiMisuse::NameLength);
    }
    if is_all_caps(name) && name != "DO" {
        return Err(ApiMisuse::ReservedName);
    }
    Ok(())
}

const fn is_all_caps(name: &str) -> bool {
    let mut bytes = name.as_bytes();
    if !matches!(bytes.first(), Some(b'A'..=b'Z')) {
        return false;
    }
    while let [first, rest @ ..] = bytes {
        if !matches!(first, b'A'..=b'Z' | b'0'..=b'9' | b'_') {
            return false;
        }
        bytes = rest;
    }
    true
}

/// A request name, sorted by whom it belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The protocol's.
    Verb(Verb),
    /// The user's, `DO` included.
    User,
    /// ALL-CAPS and not known: from a newer version. It is never answered.
    Unknown,
}

impl Kind {
    /// Sorts `name`.
    #[inline]
    pub fn of(name: &str) -> Self {
        match name {
            "DO" => Self::User,
            "FINISHED" => Self::Verb(Verb::Finished),
            _ if !is_all_caps(name) => Self::User,
            _ => Verb::ALL
                .iter()
                .find(|verb| verb.name() == name)
                .map_or(Self::Unknown, |verb| Self::Verb(*verb)),
        }
    }
}

/// A request that the protocol defines.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Verb {
    /// Many small inputs of one request in one frame.
    Batch,
    /// The child's clean end.
    Bye,
    /// Stop a task if you can.
    Cancel,
    /// Absolute limits: a new window, or how far a stream may go.
    Credit,
    /// End: finish what was received, or at once.
    Die,
    /// Final answer: failure.
    Failed,
    /// Final answer: success.
    Finished,
    /// Who I am and what I can take.
    Hello,
    /// One of many results.
    Item,
    /// A line for the log.
    Log,
    /// About the next frame: attempt, deadline, trace.
    Meta,
    /// Are you alive?
    Ping,
    /// I am alive.
    Pong,
    /// How far a task is.
    Progress,
    /// Loaded; send work.
    Ready,
    /// The handler of a task begins.
    Started,
}

/// Which ids a request may carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IdRule {
    /// Any id, 0 included.
    Any,
    /// A task's id, not 0.
    Task,
    /// 0.
    Zero,
}

/// Whose id a request names when it names one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IdOwner {
    /// One that its receiver chose: this answers, or is about, a request of the receiver.
    Receiver,
    /// One that its sender chose.
    Sender,
}

/// What the protocol says about one request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rules {
    /// A parent may send it.
    pub from_parent: bool,
    /// A child may send it.
    pub from_child: bool,
    /// The ids it may carry.
    pub id: IdRule,
    /// Whose id that is.
    pub owner: IdOwner,
    /// It may be sent only to a receiver that listed this.
    pub capability: Option<Capability>,
    /// It ends the task it names.
    pub is_final: bool,
}

impl Verb {
    /// All of them, in alphabetical order.
    pub const ALL: [Self; 16] = [
        Self::Batch,
        Self::Bye,
        Self::Cancel,
        Self::Credit,
        Self::Die,
        Self::Failed,
        Self::Finished,
        Self::Hello,
        Self::Item,
        Self::Log,
        Self::Meta,
        Self::Ping,
        Self::Pong,
        Self::Progress,
        Self::Ready,
        Self::Started,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "BATCH",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Credit => "CREDIT",
            Self::Die => "DIE",
            Self::Failed => "FAILED",
            Self::Finished => "FINISHED",
            Self::Hello => "HELLO",
            Self::Item => "ITEM",
            Self::Log => "LOG",
            Self::Meta => "META",
            Self::Ping => "PING",
            Self::Pong => "PONG",
            Self::Progress => "PROGRESS",
            Self::Ready => "READY",
            Self::Started => "STARTED",
        }
    }

    /// What the protocol says about it.
    pub const fn rules(self) -> Rules {
        use IdOwner::{Receiver, Sender};
        use IdRule::{Any, Task, Zero};
        let (from_parent, from_child, id, owner, capability, is_final) = match self {
            Self::Batch => (true, false, Task, Sender, Some(Capability::Batch), false),
            Self::Bye => (false, true, Zero, Sender, None, false),
            Self::Cancel => (true, false, Task, Sender, Some(Capability::Cancel), false),
            Self::Credit => (true, true, Any, Sender, Some(Capability::Credit), false),
            Self::Die => (true, false, Zero, Sender, None, false),
            Self::Failed => (true, true, Any, Receiver, None, true),
            Self::Finished => (true, true, Task, Receiver, None, true),
            Self::Hello => (true, true, Zero, Sender, None, false),
            Self::Item => (true, true, Task, Receiver, None, false),
            Self::Log => (false, true, Any, Receiver, None, false),
            Self::Meta => (true, false, Task, Sender, Some(Capability::Meta), false),
            Self::Ping => (true, false, Zero, Sender, Some(Capability::Ping), false),
            Self::Pong => (false, true, Zero, Receiver, None, false),
            Self::Progress => (false, true, Any, Receiver, None, false),
            Self::Ready => (false, true, Zero, Sender, None, false),
            Self::Started => (false, true, Task, Receiver, Some(Capability::Started), false),
        };
        Rules { from_parent, from_child, id, owner, capability, is_final }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something optional that a side can do. Unknown names are ignored, so that newer peers may list more.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Capability {
    /// Takes BATCH.
    Batch,
    /// Takes CANCEL while a task runs.
    Cancel,
    /// Takes CREDIT.
    Credit,
    /// Takes META.
    Meta,
    /// Answers PING while a task runs.
    Ping,
    /// Queue operations; reserved.
    Queue,
    /// Shared memory; reserved.
    Shm,
    /// STARTED: both sides list it.
    Started,
    /// Shared state; reserved.
    State,
    /// One-way messages between workers; reserved.
    Tell,
}

impl Capability {
    /// All of them, in alphabetical order.
    pub const ALL: [Self; 10] = [
        Self::Batch,
        Self::Cancel,
        Self::Credit,
        Self::Meta,
        Self::Ping,
        Self::Queue,
        Self::Shm,
        Self::Started,
        Self::State,
        Self::Tell,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Cancel => "cancel",
            Self::Credit => "credit",
            Self::Meta => "meta",
            Self::Ping => "ping",
            Self::Queue => "queue",
            Self::Shm => "shm",
            Self::Started => "started",
            Self::State => "state",
            Self::Tell => "tell",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Capabilities(u16);

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(0);

    /// This set and `capability`.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        Self(self.0 | capability.bit())
    }

    /// Whether `capability` is in it.
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// Its members.
    pub fn iter(self) -> impl Iterator<Item = Capability> {
        Capability::ALL.into_iter().filter(move |capability| self.has(*capability))
    }

    /// Adds the capability called `name`; an unknown one is ignored.
    pub fn insert_name(&mut self, name: &str) {
        if let Some(capability) = Capability::ALL.iter().find(|capability| capability.name() == name) {
            *self = self.with(*capability);
        }
    }
}

#[cfg(test)]
mod tests;
