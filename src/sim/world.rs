//! A supervisor, children that do what a script says, the bytes between them, and a clock that is moved by hand.
//!
//! Every verb is followed by what a driver would do (carry out actions, move bytes) and by a check of everything that must
//! hold at any time.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stokehold_protocol::{
    Capabilities, Capability, ChildHello, Failure, Recipient, SharedTail, wire, write_head,
};

use crate::core::{
    Body, Death, Event, NewTask, Outcome, Policy, Recycle, Released, Supervisor, SupervisorConfig,
    TaskErrorKind, TaskKey,
};

mod batches;
mod channels;
mod checks;
mod child;
mod promises;
mod script;
mod seat;
mod system;
mod ticket;

pub(crate) use batches::{Batches, Wrong};
use channels::Channel;
pub(crate) use child::{Child, Job};
use seat::Seat;
pub(crate) use ticket::{Delivery, Stream, Tag};
use ticket::{Post, Waiter};

pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const STREAM_TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const GRACE: Duration = Duration::from_millis(500);
pub(crate) const MAX_FRAME: u32 = 65_536;

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) core: Supervisor<Tag>,
    pub(crate) config: SupervisorConfig,
    pub(crate) now: Instant,
    pub(crate) children: Vec<Option<Child>>,
    /// What is known of each slot.
    seats: Vec<Seat>,
    /// Slots for which a process was asked and not given yet.
    pub(crate) spawning: BTreeSet<usize>,
    pub(crate) events: Vec<Event>,
    /// Every hand-out so far.
    pub(crate) deliveries: Vec<Delivery>,
    /// The numbers of the tasks among the dead letters.
    pub(crate) buried: Vec<u64>,
    /// Every task so far, by number less one.
    tasks: Vec<Known>,
    /// Those that have not ended.
    live: BTreeSet<u64>,
    channels: Vec<Channel>,
    fresh: Rc<RefCell<Vec<Delivery>>>,
    /// Answers on their way to whoever waits.
    pub(crate) post: Post,
    /// What the queue was given, and what of that was given back.
    admitted: Released,
    released: Released,
    /// What was seen of batches.
    pub(crate) batches: Batches,
    /// Slots that are to be read again.
    resumed: Vec<usize>,
    next_pid: u32,
    /// What the next worker to die leaves in its pipe.
    unread: u64,
    /// Every worker works in order, and says so, so that lives can be counted from outside.
    pub(crate) all_serial: bool,
    /// The user asked for the end.
    is_ending: bool,
    checks: u32,
    pub(crate) accepted: u64,
}

/// A task, as the user and the children see it.
#[derive(Debug)]
struct Known {
    policy: Policy,
    waiter: Rc<RefCell<Waiter>>,
    is_of_channel: bool,
    submitted: Instant,
    was_handed: bool,
    end: Option<Outcome>,
    /// Which slot has it, under which id.
    holder: Option<(usize, u32)>,
    /// How many lives it has lost, as far as the children can tell.
    lives: u32,
    /// A worker died over it and may have begun it.
    may_have_begun: bool,
    /// Who answered it at last: process, id, and how many results came before.
    answered_by: Option<(u32, u32, u32)>,
}

impl World {
    /// A pool of so many workers, none started.
    pub(crate) fn new(workers: usize) -> Self {
        Self::with_window(workers, None)
    }

    /// The same with a window fixed by the user.
    pub(crate) fn with_window(workers: usize, window: Option<u32>) -> Self {
        Self::of(SupervisorConfig { window, ..config(workers) })
    }

    /// A pool with that configuration.
    pub(crate) fn of(config: SupervisorConfig) -> Self {
        let now = Instant::now();
        let mut world = Self {
            core: Supervisor::new(config.clone(), now),
            config,
            now,
            children: Vec::new(),
            seats: Vec::new(),
            spawning: BTreeSet::new(),
            events: Vec::new(),
            deliveries: Vec::new(),
            buried: Vec::new(),
            tasks: Vec::new(),
            live: BTreeSet::new(),
            channels: Vec::new(),
            fresh: Rc::default(),
            post: Post::default(),
            admitted: Released::default(),
            released: Released::default(),
            batches: Batches::default(),
            resumed: Vec::new(),
            next_pid: 1000,
            unread: 0,
            all_serial: false,
            is_ending: false,
            checks: 0,
            accepted: 0,
        };
        world.settle();
        world
    }

    /// A pool whose workers are all ready: serial, with that window.
    pub(crate) fn ready(workers: usize, window: u32) -> Self {
        Self::ready_as(workers, &serial(window))
    }

    /// A pool whose workers are all ready with that HELLO, in windows as wide as they take.
    pub(crate) fn ready_as(workers: usize, hello: &ChildHello) -> Self {
        Self::ready_of(SupervisorConfig { window: Some(hello.window), ..config(workers) }, hello)
    }

    /// A pool with that configuration whose workers are all ready with that HELLO.
    pub(crate) fn ready_of(config: SupervisorConfig, hello: &ChildHello) -> Self {
        let mut world = Self::of(config);
        for slot in 0..world.config.workers {
            world.start(slot, hello);
        }
        world
    }

    // What the user does.

    pub(crate) fn submit(&mut self) -> u64 {
        self.submit_as(Policy::default(), 0)
    }

    pub(crate) fn submit_many(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.submit()).collect()
    }

    /// A task with `padding` more bytes than it needs.
    pub(crate) fn submit_as(&mut self, policy: Policy, padding: usize) -> u64 {
        let number = self.put(policy, padding);
        self.settle();
        number
    }

    /// A task with many results, of which `room` are kept for whoever takes them.
    pub(crate) fn submit_stream(&mut self, policy: Policy, room: u32) -> u64 {
        let number = self.put_as(policy, 0, Some(Stream { buffered: 0, room, came: 0, restarts: 0 }));
        self.settle();
        number
    }

    /// Submits without a hand-out behind it.
    pub(crate) fn put(&mut self, policy: Policy, padding: usize) -> u64 {
        self.put_as(policy, padding, None)
    }

    pub(crate) fn put_as(&mut self, policy: Policy, padding: usize, stream: Option<Stream>) -> u64 {
        let waiter = Waiter::new(stream);
        let number = self.admit(policy, &waiter, false);
        let ticket = Tag { number, count: 1, waiter, source: None, delivered: Rc::clone(&self.fresh) };
        let mut body = Vec::new();
        write_head(&mut body, "DO", 99, Recipient::Anyone);
        let body = if number.is_multiple_of(2) {
            write_input(&mut body, number, padding);
            Body::from(body)
        } else {
            // As a large one is.
            let mut rest = Vec::new();
            write_input(&mut rest, number, padding);
            Body::with_rest(body, SharedTail::new(rest))
        };
        let weight = body.len();
        self.admitted.bytes += weight;
        self.core.submit(NewTask { ticket, number, body, weight, policy }, self.now);
        number
    }

    /// A task gets its number.
    fn admit(&mut self, policy: Policy, waiter: &Rc<RefCell<Waiter>>, is_of_channel: bool) -> u64 {
        self.accepted += 1;
        self.admitted.tasks += 1;
        self.tasks.push(Known {
            policy,
            waiter: Rc::clone(waiter),
            is_of_channel,
            submitted: self.now,
            was_handed: false,
            end: None,
            holder: None,
            lives: 0,
            may_have_begun: false,
            answered_by: None,
        });
        self.live.insert(self.accepted);
        self.accepted
    }

    pub(crate) fn cancel(&mut self, task: u64) {
        if let Some(key) = self.key(task) {
            self.core.cancel(key, self.now);
        }
        self.settle();
    }

    /// Nobody waits for it any more, nor for any other of its channel.
    pub(crate) fn forget(&mut self, task: u64) {
        self.known(task).waiter.borrow_mut().is_there = false;
    }

    /// Its consumer takes `count` of its results.
    pub(crate) fn take_items(&mut self, task: u64, count: u32) {
        let known = self.known(task);
        let mut has_room = false;
        if let Some(stream) = &mut known.waiter.borrow_mut().stream {
            stream.buffered = stream.buffered.saturating_sub(count);
            has_room = stream.buffered < stream.room;
        }
        if let Some(key) = self.key(task).filter(|_| has_room) {
            self.core.resume(key, self.now);
        }
        self.settle();
    }

    pub(crate) fn resize(&mut self, workers: usize) {
        self.core.resize(workers, workers, self.now);
        if !self.is_ending && self.core.broken().is_none() {
            (self.config.workers, self.config.workers_max) = (workers.max(1), workers.max(1));
        }
        self.forgive();
        self.settle();
    }

    pub(crate) fn shutdown(&mut self, within: Duration) {
        self.is_ending = true;
        self.core.shutdown(self.now + within, self.now);
        self.settle();
    }

    pub(crate) fn kill(&mut self) {
        self.is_ending = true;
        self.core.kill();
        self.settle();
    }

    // What can be seen.

    pub(crate) fn child(&mut self, slot: usize) -> &mut Child {
        self.children[slot].as_mut().expect("a process in that slot")
    }

    /// The slots with a process.
    pub(crate) fn alive(&self) -> Vec<usize> {
        (0..self.children.len()).filter(|slot| self.children[*slot].is_some()).collect()
    }

    /// The tasks a worker has, oldest first.
    pub(crate) fn held(&self, slot: usize) -> Vec<u64> {
        self.children[slot].iter().flat_map(|child| child.tasks.iter().flat_map(Job::open)).collect()
    }

    pub(crate) fn has_tasks(&self, slot: usize) -> bool {
        self.children[slot].as_ref().is_some_and(|child| !child.tasks.is_empty())
    }

    /// How a task ended, if it did.
    pub(crate) fn end_of(&self, task: u64) -> Option<Result<u32, TaskErrorKind>> {
        self.tasks[task as usize - 1].end.as_ref().map(|end| match end {
            Ok(answered) => Ok(answered.origin.attempt),
            Err(error) => Err(error.kind()),
        })
    }

    pub(crate) fn outcome(&self, task: u64) -> &Outcome {
        self.tasks[task as usize - 1].end.as_ref().expect("a task that ended")
    }

    pub(crate) fn all_answered(&self) -> bool {
        self.live.is_empty()
    }

    /// How many lives a task has lost to serial workers.
    pub(crate) fn lives_lost(&self, task: u64) -> u32 {
        self.tasks[task as usize - 1].lives
    }

    pub(crate) fn policy(&self, task: u64) -> Policy {
        self.tasks[task as usize - 1].policy
    }

    /// The consumer of a task's results.
    pub(crate) fn stream(&self, task: u64) -> Stream {
        self.tasks[task as usize - 1].waiter.borrow().stream.expect("a task with many results")
    }

    /// Whether a task has many results.
    pub(crate) fn has_stream(&self, task: u64) -> bool {
        self.tasks[task as usize - 1].waiter.borrow().stream.is_some()
    }

    /// The live tasks whose results lie there untaken.
    pub(crate) fn live_streams(&self) -> Vec<u64> {
        let has_some = |task: &u64| {
            self.tasks[*task as usize - 1].waiter.borrow().stream.is_some_and(|stream| stream.buffered > 0)
        };
        self.live.iter().copied().filter(has_some).collect()
    }

    /// Which attempts of a task were handed out.
    pub(crate) fn attempts(&self, task: u64) -> Vec<u32> {
        self.deliveries
            .iter()
            .filter(|delivery| delivery.tasks().contains(&task))
            .map(|delivery| delivery.attempt)
            .collect()
    }

    pub(crate) fn deaths(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::WorkerDied(_))).count()
    }

    fn known(&mut self, task: u64) -> &mut Known {
        &mut self.tasks[task as usize - 1]
    }

    /// What names a task in the table, if that was told.
    fn key(&self, task: u64) -> Option<TaskKey> {
        self.tasks[task as usize - 1].waiter.borrow().key
    }
}

/// A task's input: its number, and more than it needs.
fn write_input(out: &mut Vec<u8>, task: u64, padding: usize) {
    wire::write_str(out, &format!("{task}{}", " ".repeat(padding)));
}

/// What a pool is made with, if nothing else is said.
pub(crate) fn config(workers: usize) -> SupervisorConfig {
    SupervisorConfig {
        workers,
        workers_max: workers,
        idle_timeout: None,
        recycle: Recycle::default(),
        program: "worker".into(),
        parent_pid: 99,
        run: "run".into(),
        max_frame: MAX_FRAME,
        window: None,
        hello_timeout: HELLO_TIMEOUT,
        ready_timeout: READY_TIMEOUT,
        heartbeat: None,
        frame_timeout: FRAME_TIMEOUT,
        stream_timeout: STREAM_TIMEOUT,
        cancel_grace: GRACE,
        terminate_grace: GRACE,
        spin: true,
        cores: 4,
        reports_starts: false,
        task_events: false,
        keeps_dead_letters: false,
        seed: 1,
    }
}

/// The HELLO of a child that works in order, ready once it says so.
pub(crate) fn serial(window: u32) -> ChildHello {
    ChildHello { window, serial: true, ..ChildHello::default() }
}

/// The HELLO of a child that works on all it has at once.
pub(crate) fn parallel(window: u32) -> ChildHello {
    ChildHello { window, serial: false, ..ChildHello::default() }
}

/// The same with something that it can.
pub(crate) fn able(hello: ChildHello, capabilities: &[Capability]) -> ChildHello {
    let capabilities = capabilities.iter().fold(Capabilities::NONE, |all, one| all.with(*one));
    ChildHello { capabilities, ..hello }
}

/// A failure that another try may mend.
pub(crate) fn retry_after(after_ms: Option<u64>) -> Failure {
    Failure { retry: true, after_ms, ..Failure::new("error", "not now") }
}

/// What a worker says that stopped a task because it was told to.
pub(crate) fn stopped() -> Failure {
    Failure::new("cancelled", "as you wish")
}

/// The deaths among events.
pub(crate) fn died(events: &[Event]) -> Vec<Arc<Death>> {
    let deaths = events.iter().filter_map(|event| match event {
        Event::WorkerDied(death) => Some(Arc::clone(death)),
        _ => None,
    });
    deaths.collect()
}
