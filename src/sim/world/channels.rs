//! Channels: many tasks of one source, which wait together and may go several in one frame.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use stokehold_protocol::limits::BATCH_ITEMS_MAX;
use stokehold_protocol::{Message, Values, data};

use super::seat::Lease;
use super::{Job, Tag, Waiter, World, write_input};
use crate::core::{Policy, Run, Source};

/// What the tasks of channels ask for.
pub(super) const CHANNEL_REQUEST: &str = "crunch";

/// What the tasks of one channel have in common.
#[derive(Debug)]
pub(super) struct Channel {
    source: Rc<Source>,
    waiter: Rc<RefCell<Waiter>>,
    policy: Policy,
}

impl World {
    /// Another channel, by its place.
    pub(crate) fn open_channel(&mut self, policy: Policy) -> usize {
        let source = Rc::new(Source::new(CHANNEL_REQUEST, 99, policy));
        self.channels.push(Channel { source, waiter: Waiter::new(None), policy });
        self.channels.len() - 1
    }

    /// So many tasks of a channel, together.
    pub(crate) fn submit_run(&mut self, channel: usize, count: usize) -> Vec<u64> {
        let tasks = self.put_run(channel, &vec![0; count]);
        self.settle();
        tasks
    }

    /// As many tasks of a channel as there are paddings, without a hand-out behind it.
    pub(crate) fn put_run(&mut self, channel: usize, paddings: &[usize]) -> Vec<u64> {
        let Channel { source, waiter, policy } = &self.channels[channel];
        let (source, waiter, policy) = (Rc::clone(source), Rc::clone(waiter), *policy);
        let tasks: Vec<u64> = paddings.iter().map(|_| self.admit(policy, &waiter, true)).collect();
        let ticket = Tag {
            number: tasks[0],
            count: u32::try_from(tasks.len()).expect("a number of tasks"),
            waiter,
            source: Some(source),
            delivered: Rc::clone(&self.fresh),
        };
        let buffers = self.core.run_buffers().pop().unwrap_or_default();
        let mut run = Run::new(ticket, tasks[0], buffers);
        let mut input = Vec::new();
        for (task, padding) in tasks.iter().zip(paddings) {
            input.clear();
            write_input(&mut input, *task, *padding);
            self.admitted.bytes += input.len();
            run.push(&input);
        }
        self.core.submit_run(run, self.now);
        tasks
    }

    /// Nobody receives of a channel any more.
    pub(crate) fn close_channel(&self, channel: usize) {
        self.channels[channel].waiter.borrow_mut().is_there = false;
    }

    /// Whether somebody receives of a channel.
    pub(crate) fn is_channel_open(&self, channel: usize) -> bool {
        self.channels[channel].waiter.borrow().is_there
    }

    /// How many tasks of a channel would go in one frame now.
    pub(crate) fn batch_size(&self, channel: usize) -> u32 {
        self.channels[channel].source.batch_size()
    }

    /// How many bytes of the queue are in use.
    pub(crate) fn bytes_in_use(&self) -> usize {
        self.admitted.bytes - self.released.bytes
    }

    /// Whether a task is of a channel.
    pub(crate) fn is_of_channel(&self, task: u64) -> bool {
        self.tasks[task as usize - 1].is_of_channel
    }

    /// Whether some worker was handed several tasks in one frame, and has not answered.
    pub(crate) fn has_batches(&self) -> bool {
        self.seats.iter().any(|seat| seat.leases.iter().any(Lease::is_batch))
    }

    /// How many tasks without a result there are in each frame that a worker has, oldest first.
    pub(crate) fn frames(&self, slot: usize) -> Vec<usize> {
        self.children[slot]
            .iter()
            .flat_map(|child| &child.tasks)
            .map(|job| (job.count - job.given) as usize)
            .collect()
    }
}

/// Whether a frame asks for that.
pub(super) fn is_request(body: &[u8], request: &str) -> bool {
    Message::decode(body).is_ok_and(|message| message.request == request)
}

/// The number of the task that has this input.
pub(super) fn read_input(input: &[u8]) -> u64 {
    let text: String = data::decode(input).expect("a task's input");
    text.trim_end().parse().expect("a task's number")
}

/// The tasks of a batch.
pub(super) fn read_batch(id: u32, mut items: Values<'_>) -> Job {
    let count = items.left();
    assert!((2..=BATCH_ITEMS_MAX).contains(&count), "{count} inputs are no batch");
    let mut tasks: Option<Range<u64>> = None;
    while let Some(input) = items.next_value().expect("a batch is a list of values") {
        let task = read_input(input);
        let first = tasks.map_or(task, |tasks| {
            assert_eq!(tasks.end, task, "the tasks of a batch follow each other");
            tasks.start
        });
        tasks = Some(first..task + 1);
    }
    let task = tasks.expect("a batch is not empty").start;
    Job {
        id,
        task,
        count,
        given: 0,
        started: false,
        cancelled: false,
        items: 0,
        attempt: None,
        deadline_ms: None,
    }
}
