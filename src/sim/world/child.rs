//! A process of the world: its half of the session, the tasks it has, and what is on its way to the parent.

use std::collections::VecDeque;
use std::time::Instant;

use stokehold_protocol::{ChildHello, ChildSession, Splitter};

use crate::core::sim::faults::Link;

/// A process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: u32,
    pub(super) session: ChildSession,
    /// What it has read.
    pub(super) input: Splitter,
    /// What the parent has read of it.
    pub(super) output: Splitter,
    /// What it has written and the parent not read.
    pub(super) pipe: VecDeque<Parcel>,
    /// What is wrong with the way between.
    pub(crate) link: Link,
    /// The ids of answers that it wrote to the end, and that must count.
    pub(super) answered: Vec<u32>,
    /// The tasks it has, in the order of arrival.
    pub(crate) tasks: VecDeque<Job>,
    /// The id of the newest task that it has read.
    pub(super) has_read: u32,
    /// PINGs that it has not answered.
    pub(crate) pings: u32,
    /// Its memory, in bytes.
    pub(crate) memory: u64,
    /// Whether it reads its input.
    pub(crate) reads: bool,
    pub(crate) input_ended: bool,
    pub(crate) output_closed: bool,
    pub(crate) was_told_to_die: bool,
    pub(crate) killed: bool,
    pub(crate) terminated: bool,
    /// Whether it says that it works in order.
    pub(crate) serial: bool,
    /// It said once that it works in order, and does.
    pub(crate) in_order: bool,
    pub(crate) has_greeted: bool,
    pub(crate) is_ready: bool,
    pub(super) said_bye: bool,
    pub(super) closes_input: bool,
    /// The parent reads nothing of it.
    pub(crate) paused: bool,
}

/// A task that a child has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Job {
    pub(crate) id: u32,
    pub(crate) task: u64,
    /// It said STARTED.
    pub(crate) started: bool,
    /// It read CANCEL.
    pub(crate) cancelled: bool,
    /// How many results it gave.
    pub(crate) items: u32,
    /// What META said of it.
    pub(crate) attempt: Option<u32>,
    pub(crate) deadline_ms: Option<u64>,
}

/// Bytes on their way to the parent.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) due: Instant,
    pub(super) bytes: Vec<u8>,
}

impl Child {
    pub(super) fn new(pid: u32) -> Self {
        Self {
            pid,
            session: ChildSession::new(ChildHello::default(), u64::from(pid)),
            input: Splitter::new(),
            output: Splitter::new(),
            pipe: VecDeque::new(),
            link: Link::default(),
            answered: Vec::new(),
            tasks: VecDeque::new(),
            has_read: 0,
            pings: 0,
            memory: 1_000,
            reads: true,
            input_ended: false,
            output_closed: false,
            was_told_to_die: false,
            killed: false,
            terminated: false,
            serial: true,
            in_order: true,
            has_greeted: false,
            is_ready: false,
            said_bye: false,
            closes_input: false,
            paused: false,
        }
    }

    /// Whether the parent reads what it says.
    pub(crate) fn can_speak(&self) -> bool {
        !self.output_closed && !self.said_bye
    }

    /// Its half of the session.
    pub(crate) fn session(&self) -> &ChildSession {
        &self.session
    }

    /// Whether it is to say STARTED.
    pub(crate) fn tells_starts(&self) -> bool {
        self.session.tells_starts()
    }
}
