//! A supervisor, children that do what a script says, the bytes between them, and a clock that is moved by hand.
//!
//! Every verb is followed by what a driver would do (carry out actions, move bytes) and by a check of everything that must
//! hold at any time.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stokehold_protocol::{
    ChildEvent, ChildHello, ChildSession, Failure, FrameEvent, Recipient, Splitter, data, wire, write_head,
};

use crate::core::{
    Action, Event, NewTask, Outcome, Policy, Supervisor, SupervisorConfig, TaskErrorKind, TaskKey, Ticket,
};

mod checks;
mod script;

pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const MAX_FRAME: u32 = 65_536;

/// What the world keeps for a task.
#[derive(Debug)]
pub(crate) struct Tag {
    number: u64,
    wanted: Rc<Cell<bool>>,
    delivered: Rc<RefCell<Vec<Delivery>>>,
}

/// A task was handed to a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Delivery {
    pub(crate) task: u64,
    pub(crate) slot: usize,
    pub(crate) pid: u32,
    pub(crate) attempt: u32,
}

impl Ticket for Tag {
    fn delivered(&self, slot: usize, pid: u32, attempt: u32) {
        self.delivered.borrow_mut().push(Delivery { task: self.number, slot, pid, attempt });
    }

    fn is_wanted(&self) -> bool {
        self.wanted.get()
    }
}

/// A process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: u32,
    session: ChildSession,
    /// What it has read.
    input: Splitter,
    /// What the parent has read of it.
    output: Splitter,
    /// The tasks it has, as (id, number), in the order of arrival.
    pub(crate) tasks: VecDeque<(u32, u64)>,
    /// Whether it reads its input.
    pub(crate) reads: bool,
    pub(crate) input_ended: bool,
    pub(crate) output_closed: bool,
    pub(crate) was_told_to_die: bool,
    pub(crate) killed: bool,
    pub(crate) terminated: bool,
    pub(crate) serial: bool,
    pub(crate) has_greeted: bool,
    pub(crate) is_ready: bool,
    said_bye: bool,
    closes_input: bool,
}

impl Child {
    /// Whether the parent reads what it says.
    pub(crate) fn can_speak(&self) -> bool {
        !self.output_closed && !self.said_bye
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) core: Supervisor<Tag>,
    pub(crate) now: Instant,
    pub(crate) children: Vec<Option<Child>>,
    /// Slots for which a process was asked and not given yet.
    pub(crate) spawning: BTreeSet<usize>,
    pub(crate) events: Vec<Event>,
    /// Every hand-out so far.
    pub(crate) deliveries: Vec<Delivery>,
    ends: BTreeMap<u64, Outcome>,
    keys: BTreeMap<u64, TaskKey>,
    policies: BTreeMap<u64, Policy>,
    wanted: BTreeMap<u64, Rc<Cell<bool>>>,
    /// Which slot has a task.
    holders: BTreeMap<u64, usize>,
    /// How many lives a task has lost, as far as the children can tell.
    lives: BTreeMap<u64, u32>,
    /// Tasks that a worker died over and may have begun.
    may_have_begun: BTreeSet<u64>,
    fresh: Rc<RefCell<Vec<Delivery>>>,
    next_pid: u32,
    /// What the next worker to die leaves in its pipe.
    unread: u64,
    pub(crate) accepted: u64,
}

impl World {
    /// A pool of so many workers, none started.
    pub(crate) fn new(workers: usize) -> Self {
        Self::with_window(workers, None)
    }

    /// The same with a window fixed by the user.
    pub(crate) fn with_window(workers: usize, window: Option<u32>) -> Self {
        let core = Supervisor::new(SupervisorConfig {
            workers,
            program: "worker".into(),
            parent_pid: 99,
            max_frame: MAX_FRAME,
            window,
            hello_timeout: HELLO_TIMEOUT,
            ready_timeout: READY_TIMEOUT,
        });
        let mut world = Self {
            core,
            now: Instant::now(),
            children: (0..workers).map(|_| None).collect(),
            spawning: BTreeSet::new(),
            events: Vec::new(),
            deliveries: Vec::new(),
            ends: BTreeMap::new(),
            unread: 0,
            keys: BTreeMap::new(),
            policies: BTreeMap::new(),
            wanted: BTreeMap::new(),
            holders: BTreeMap::new(),
            lives: BTreeMap::new(),
            may_have_begun: BTreeSet::new(),
            fresh: Rc::default(),
            next_pid: 1000,
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
        let mut world = Self::with_window(workers, Some(hello.window));
        for slot in 0..workers {
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

    /// Submits without a hand-out behind it.
    pub(crate) fn put(&mut self, policy: Policy, padding: usize) -> u64 {
        self.accepted += 1;
        let number = self.accepted;
        let wanted = Rc::new(Cell::new(true));
        let ticket = Tag { number, wanted: Rc::clone(&wanted), delivered: Rc::clone(&self.fresh) };
        let mut body = Vec::new();
        write_head(&mut body, "DO", 99, Recipient::Anyone);
        wire::write_str(&mut body, &format!("{number}{}", " ".repeat(padding)));
        self.wanted.insert(number, wanted);
        self.policies.insert(number, policy);
        if let Some(key) = self.core.submit(NewTask { ticket, number, body, policy }) {
            self.keys.insert(number, key);
        }
        number
    }

    pub(crate) fn cancel(&mut self, task: u64) {
        if let Some(key) = self.keys.get(&task) {
            self.core.cancel(*key);
        }
        self.settle();
    }

    /// Nobody waits for it any more.
    pub(crate) fn forget(&self, task: u64) {
        self.wanted[&task].set(false);
    }

    pub(crate) fn shutdown(&mut self, within: Duration) {
        self.core.shutdown(self.now + within, self.now);
        self.settle();
    }

    pub(crate) fn kill(&mut self) {
        self.core.kill();
        self.settle();
    }

    // What the system does.

    pub(crate) fn spawn(&mut self, slot: usize) -> u32 {
        assert!(self.spawning.remove(&slot), "no process was asked for in slot {slot}");
        self.next_pid += 1;
        let pid = self.next_pid;
        self.children[slot] = Some(Child {
            pid,
            session: ChildSession::new(ChildHello::default(), u64::from(pid)),
            input: Splitter::new(),
            output: Splitter::new(),
            tasks: VecDeque::new(),
            reads: true,
            input_ended: false,
            output_closed: false,
            was_told_to_die: false,
            killed: false,
            terminated: false,
            serial: true,
            has_greeted: false,
            is_ready: false,
            said_bye: false,
            closes_input: false,
        });
        self.core.handle_spawned(slot, pid, self.now);
        self.settle();
        pid
    }

    pub(crate) fn fail_spawn(&mut self, slot: usize) {
        assert!(self.spawning.remove(&slot), "no process was asked for in slot {slot}");
        let kind = std::io::ErrorKind::NotFound;
        self.core.handle_spawn_failed(slot, kind, false, "no such file", self.now);
        self.settle();
    }

    /// There are too many processes, descriptors, or bytes.
    pub(crate) fn run_short(&mut self, slot: usize) {
        assert!(self.spawning.remove(&slot), "no process was asked for in slot {slot}");
        let kind = std::io::ErrorKind::WouldBlock;
        self.core.handle_spawn_failed(slot, kind, true, "too many processes", self.now);
        self.settle();
    }

    /// Time passes, deadline by deadline.
    pub(crate) fn advance(&mut self, by: Duration) {
        let target = self.now + by;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= target) {
            self.now = self.now.max(at);
            self.core.handle_time(self.now);
            self.settle();
            let next = self.core.next_deadline();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a deadline is over and stays: the engine would spin"
            );
        }
        self.now = target;
    }

    pub(crate) fn exit(&mut self, slot: usize, code: i32) {
        self.end(slot, ExitStatus::from_raw(code << 8));
    }

    pub(crate) fn die(&mut self, slot: usize, signal: i32) {
        self.end(slot, ExitStatus::from_raw(signal));
    }

    /// Dies with the last `unread` bytes still in its pipe.
    pub(crate) fn die_with_unread(&mut self, slot: usize, unread: u64) {
        self.unread = unread;
        self.end(slot, ExitStatus::from_raw(9));
    }

    fn end(&mut self, slot: usize, status: ExitStatus) {
        let unread = std::mem::take(&mut self.unread);
        let child = self.children[slot].take().expect("a process that can exit");
        let blamed = if child.serial { 1 } else { usize::MAX };
        let lost: Vec<u64> =
            self.holders.iter().filter(|(_, holder)| **holder == slot).map(|(task, _)| *task).collect();
        for task in lost {
            self.holders.remove(&task);
        }
        if !child.said_bye {
            let guilty = child.tasks.front().filter(|_| child.serial);
            if let Some((_, task)) = guilty {
                *self.lives.entry(*task).or_default() += 1;
            }
            self.may_have_begun.extend(child.tasks.iter().take(blamed).map(|(_, task)| *task));
            // One that must not run twice must not even be handed out again once a worker has read it.
            let once = child.tasks.iter().filter(|(_, task)| self.policies[task].at_most_once && unread == 0);
            self.may_have_begun.extend(once.map(|(_, task)| *task));
        }
        self.core.handle_exit(slot, Some(status), unread, "last words", self.now);
        self.settle();
    }

    // What can be seen.

    pub(crate) fn child(&mut self, slot: usize) -> &mut Child {
        self.children[slot].as_mut().expect("a process in that slot")
    }

    /// The tasks a worker has, oldest first.
    pub(crate) fn held(&self, slot: usize) -> Vec<u64> {
        self.children[slot].iter().flat_map(|child| child.tasks.iter().map(|(_, task)| *task)).collect()
    }

    pub(crate) fn has_tasks(&self, slot: usize) -> bool {
        self.children[slot].as_ref().is_some_and(|child| !child.tasks.is_empty())
    }

    /// How a task ended, if it did.
    pub(crate) fn end_of(&self, task: u64) -> Option<Result<u32, TaskErrorKind>> {
        self.ends.get(&task).map(|end| match end {
            Ok(answered) => Ok(answered.attempt),
            Err(error) => Err(error.kind()),
        })
    }

    pub(crate) fn outcome(&self, task: u64) -> &Outcome {
        &self.ends[&task]
    }

    pub(crate) fn all_answered(&self) -> bool {
        self.ends.len() as u64 == self.accepted
    }

    /// How many lives a task has lost to serial workers.
    pub(crate) fn lives_lost(&self, task: u64) -> u32 {
        self.lives.get(&task).copied().unwrap_or(0)
    }

    pub(crate) fn policy(&self, task: u64) -> Policy {
        self.policies[&task]
    }

    /// Which attempts of a task were handed out.
    pub(crate) fn attempts(&self, task: u64) -> Vec<u32> {
        self.deliveries
            .iter()
            .filter(|delivery| delivery.task == task)
            .map(|delivery| delivery.attempt)
            .collect()
    }

    pub(crate) fn deaths(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::WorkerDied(_))).count()
    }

    // How it moves.

    /// The parent reads what a child wrote.
    fn read(&mut self, slot: usize) {
        let child = self.children[slot].as_mut().expect("a process");
        child.output.set_max_frame(self.core.max_frame(slot));
        loop {
            match child.output.next_frame() {
                Ok(Some(FrameEvent::Frame { id, body })) => self.core.handle_frame(slot, id, body, self.now),
                Ok(Some(FrameEvent::TooLarge { id, len, head })) => {
                    self.core.handle_too_large(slot, id, len, head, self.now);
                }
                Ok(None) => break,
                Err(error) => {
                    child.output_closed = true;
                    self.core.handle_frame_error(slot, error);
                    break;
                }
            }
            child.output.set_max_frame(self.core.max_frame(slot));
        }
    }

    /// What the driver does after every event.
    pub(crate) fn settle(&mut self) {
        self.core.dispatch(self.now);
        let mut turns = 0;
        loop {
            let mut actions = Vec::new();
            self.core.take_actions(&mut actions);
            let quiet = actions.is_empty();
            for action in actions {
                self.perform(action);
            }
            let mut dirty = Vec::new();
            self.core.take_dirty(&mut dirty);
            for slot in dirty {
                self.flush(slot);
            }
            if quiet {
                break;
            }
            self.core.dispatch(self.now);
            turns += 1;
            assert!(turns < 10_000, "one action leads to another for ever");
        }
        self.check();
    }

    fn perform(&mut self, action: Action<Tag>) {
        match action {
            Action::Complete { ticket, outcome, bytes } => {
                assert!(bytes > 0);
                let task = ticket.number;
                assert!(
                    !self.holders.contains_key(&task),
                    "task {task} ended while a worker has it: {outcome:?}"
                );
                if let Ok(answered) = &outcome {
                    assert_eq!(data::decode::<String>(&answered.data).unwrap(), task.to_string());
                }
                assert!(self.ends.insert(task, outcome).is_none(), "task {task} has two ends");
            }
            Action::CloseInput { slot } => {
                if let Some(child) = &mut self.children[slot] {
                    child.closes_input = true;
                }
                self.flush(slot);
            }
            Action::Kill { slot } => self.child(slot).killed = true,
            Action::Notice(event) => self.events.push(event),
            Action::Spawn { slot } => {
                assert!(self.children[slot].is_none(), "slot {slot} has a process already");
                assert!(self.spawning.insert(slot), "a process was asked for twice in slot {slot}");
            }
            Action::Terminate { slot } => self.child(slot).terminated = true,
        }
    }

    /// Bytes reach a child.
    fn flush(&mut self, slot: usize) {
        self.take_deliveries();
        let Some(child) = &mut self.children[slot] else { return };
        let Some(outbox) = self.core.outbox(slot) else { return };
        if !child.reads && !outbox.pending().is_empty() {
            return;
        }
        if child.input_ended {
            if !outbox.pending().is_empty() {
                self.core.handle_input_closed(slot, self.now);
            }
            return;
        }
        child.input.feed(outbox.pending());
        outbox.wrote(outbox.pending().len());
        let mut replies = Vec::new();
        while let Some(event) = child.input.next_frame().expect("a parent's stream is frames") {
            let FrameEvent::Frame { id, body } = event else { panic!("a parent's frame is too large") };
            match child.session.handle_frame(id, body, &mut replies).expect("a parent keeps the rules") {
                ChildEvent::Task { id, data, meta, .. } => {
                    let text: String = data::decode(data).expect("a task's data");
                    let task: u64 = text.trim_end().parse().expect("a task's number");
                    assert_eq!(meta.attempt, None, "no META was asked for");
                    child.tasks.push_back((id, task));
                }
                ChildEvent::Die(_) => child.was_told_to_die = true,
                ChildEvent::Hello | ChildEvent::Ignored => {}
                other => panic!("a parent does not say {other:?}"),
            }
        }
        if child.closes_input {
            child.input_ended = true;
            child.session.handle_eof();
        }
    }

    fn take_deliveries(&mut self) {
        for delivery in self.fresh.borrow_mut().drain(..) {
            let Delivery { task, slot, attempt, .. } = delivery;
            assert!(self.holders.insert(task, slot).is_none(), "task {task} is with two workers");
            assert!(!self.ends.contains_key(&task), "task {task} was answered and is handed out again");
            assert!(attempt >= 1);
            assert!(self.wanted[&task].get(), "nobody wants task {task}");
            let once = self.policies[&task].at_most_once;
            assert!(!(once && self.may_have_begun.contains(&task)), "task {task} may run twice and must not");
            self.deliveries.push(delivery);
        }
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

/// A failure that another try may mend.
pub(crate) fn retry_after(after_ms: Option<u64>) -> Failure {
    Failure { retry: true, after_ms, ..Failure::new("error", "not now") }
}

/// The kinds of events of one kind of interest, in short.
pub(crate) fn died(events: &[Event]) -> Vec<Arc<crate::core::Death>> {
    let deaths = events.iter().filter_map(|event| match event {
        Event::WorkerDied(death) => Some(Arc::clone(death)),
        _ => None,
    });
    deaths.collect()
}
