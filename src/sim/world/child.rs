//! A process of the world: its half of the session, the tasks it has, and what is on its way to the parent.

use std::collections::VecDeque;
use std::ops::Range;
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
    /// The same of tasks of batches that are not answered to the end, each with the batch's id.
    pub(super) given: Vec<(u32, u64)>,
    /// The tasks it has, in the order of arrival.
    pub(crate) tasks: VecDeque<Job>,
    /// The id of the newest task that it has read.
    pub(super) has_read: u32,
    /// How many bytes the frame of that has, if nothing came after it.
    pub(crate) newest_bytes: usize,
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
    /// Whether it takes several tasks in one frame.
    pub(super) takes_batches: bool,
    /// The largest frame that it takes.
    pub(super) max_frame: u32,
    pub(crate) has_greeted: bool,
    pub(crate) is_ready: bool,
    pub(super) said_bye: bool,
    pub(super) closes_input: bool,
    /// The parent reads nothing of it.
    pub(crate) paused: bool,
}

/// A task that a child has, or several in one frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Job {
    pub(crate) id: u32,
    /// The first.
    pub(crate) task: u64,
    /// How many.
    pub(crate) count: u32,
    /// Of how many of a batch it gave the results.
    pub(crate) given: u32,
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

impl Job {
    /// The tasks whose results it did not give.
    pub(crate) fn open(&self) -> Range<u64> {
        self.task + u64::from(self.given)..self.task + u64::from(self.count)
    }

    pub(crate) fn is_batch(&self) -> bool {
        self.count > 1
    }
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
            given: Vec::new(),
            tasks: VecDeque::new(),
            has_read: 0,
            newest_bytes: 0,
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
            takes_batches: false,
            max_frame: 0,
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
