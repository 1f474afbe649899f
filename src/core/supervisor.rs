//! The decisions: facts in, actions out. Methods are of four kinds: `handle_*` take facts, plain verbs are the user's
//! commands, `take_*` and `next_*` give what is to be done, the rest are getters. Time never goes backwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stokehold_protocol::{Capabilities, ParentHello, VERSION};

use super::action::{Action, Ticket};
use super::restart::Life as PastLife;
use super::slot::{Due, Life, Rung, Slot};
use super::store::{MemoryStore, NewTask, Store, Task, TaskKey};
use super::{Cause, Death, Outbox, Outcome, TaskError, TaskErrorKind};

mod ending;
mod hand_out;
mod judge;
mod messages;

/// A task may be handed out in vain so many times more than it has lives: enough for workers that die before they begin it,
/// and an end for a message that kills them while it is read.
const DELIVERIES_BEYOND_LIVES: u32 = 8;

/// How long a worker that closed a pipe or said BYE may take to exit by itself.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// What "never" is for a deadline: further away than any process lives.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// What a pool is made with.
#[derive(Clone, Debug)]
pub(crate) struct SupervisorConfig {
    /// How many workers.
    pub(crate) workers: usize,
    /// The program, for people.
    pub(crate) program: Arc<str>,
    /// The parent's process id.
    pub(crate) parent_pid: u32,
    /// The largest frame to accept.
    pub(crate) max_frame: u32,
    /// A fixed window, if the user wants one.
    pub(crate) window: Option<u32>,
    /// From the start to HELLO.
    pub(crate) hello_timeout: Duration,
    /// From HELLO to READY.
    pub(crate) ready_timeout: Duration,
}

/// The core of a pool.
#[derive(Debug)]
pub(crate) struct Supervisor<T> {
    config: SupervisorConfig,
    pub(super) slots: Vec<Slot>,
    pub(super) store: MemoryStore<T>,
    actions: Vec<Action<T>>,
    phase: Phase,
    /// Slots whose outbox got bytes since the last look.
    dirty: Vec<usize>,
    /// Where the next hand-out begins, so that no slot is always first.
    turn: usize,
    /// How many tasks were ended by deaths since the last answer.
    deadly_in_a_row: u32,
    /// Some worker was ready, ever.
    ever_ready: bool,
}

/// Where the pool is in its life.
#[derive(Clone, Debug)]
enum Phase {
    Serving,
    /// Finishing what was accepted; after the deadline force is used.
    Draining(Instant),
    /// The time to finish is over, or nobody wants the rest: everything is being ended, tasks are answered as closed.
    Stopping,
    /// Its workers could not be kept alive.
    Broken(Arc<Death>),
}

impl<T: Ticket> Supervisor<T> {
    /// A pool none of whose workers has been started; the first actions ask for them.
    pub(crate) fn new(config: SupervisorConfig) -> Self {
        let mut supervisor = Self {
            slots: Vec::new(),
            store: MemoryStore::new(),
            actions: Vec::new(),
            phase: Phase::Serving,
            dirty: Vec::new(),
            turn: 0,
            deadly_in_a_row: 0,
            ever_ready: false,
            config,
        };
        for slot in 0..supervisor.config.workers {
            supervisor.slots.push(Slot::new(supervisor.hello(0), supervisor.config.window));
            supervisor.spawn(slot);
        }
        supervisor
    }

    // Commands of the user.

    /// Accepts a task.
    pub(crate) fn submit(&mut self, task: NewTask<T>) -> Option<TaskKey> {
        match &self.phase {
            Phase::Serving => Some(self.store.push(task)),
            Phase::Draining(_) | Phase::Stopping => {
                self.complete(task.ticket, task.body.len(), Err(Box::new(closed(task.number))));
                None
            }
            Phase::Broken(death) => {
                let error = broken(task.number, death);
                self.complete(task.ticket, task.body.len(), Err(Box::new(error)));
                None
            }
        }
    }

    /// Cancels a task that no worker holds. One that a worker holds goes on.
    pub(crate) fn cancel(&mut self, key: TaskKey) {
        if !self.store.is_waiting(key) {
            return;
        }
        if let Some(task) = self.store.finish(key) {
            let error = cancelled(&task);
            self.complete(task.ticket, task.body.len(), Err(Box::new(error)));
        }
    }

    // Facts.

    /// A worker's process exists.
    pub(crate) fn handle_spawned(&mut self, slot: usize, pid: u32, now: Instant) {
        let (hello, hello_timeout) = (self.hello(pid), self.config.hello_timeout);
        let (window, killing) =
            (self.config.window, matches!(self.phase, Phase::Stopping | Phase::Broken(_)));
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.begin_life(hello, window);
        place.history.started();
        place.life = Life::Running;
        place.pid = pid;
        place.deadline = Some((later(now, hello_timeout), Due::Hello));
        if killing {
            self.end_by_force(slot, Cause::Stopped);
        }
    }

    /// A worker's process could not be made. That is no accident: the next try would fail as well. Unless it is `transient`: a
    /// shortage of processes, descriptors or memory, which passes, and is waited for however long it takes.
    pub(crate) fn handle_spawn_failed(
        &mut self,
        slot: usize,
        kind: std::io::ErrorKind,
        transient: bool,
        message: &str,
        now: Instant,
    ) {
        let death = Death {
            worker: slot,
            pid: None,
            program: Arc::clone(&self.config.program),
            cause: Cause::Spawn { kind, message: message.into() },
            status: None,
            was_ready: false,
            stderr_tail: "".into(),
        };
        let death = Arc::new(death);
        self.announce(slot, &death);
        let life = if transient { PastLife::Unborn } else { PastLife::NeverReady };
        self.judge_slot(slot, death, life, now);
    }

    /// A worker's output ended. It has a moment to exit by itself.
    pub(crate) fn handle_output_closed(&mut self, slot: usize, now: Instant) {
        self.handle_last_words(slot, Due::ExitOutput, now);
    }

    /// A worker reads no more. It has a moment to exit by itself.
    pub(crate) fn handle_input_closed(&mut self, slot: usize, now: Instant) {
        if let Some(place) = self.slots.get_mut(slot) {
            place.outbox.discard();
        }
        self.handle_last_words(slot, Due::ExitInput, now);
    }

    /// A worker is reaped, and everything it had written has been handed in. Of what was written to it, the last `unread`
    /// bytes never reached it.
    pub(crate) fn handle_exit(
        &mut self,
        slot: usize,
        status: Option<std::process::ExitStatus>,
        unread: u64,
        stderr_tail: &str,
        now: Instant,
    ) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let death = Arc::new(Death {
            worker: slot,
            pid: Some(place.pid),
            program: Arc::clone(&self.config.program),
            cause: place.fault.take().unwrap_or(Cause::Exited),
            status,
            was_ready: place.was_ready,
            stderr_tail: stderr_tail.into(),
        });
        let life = match (place.was_ready, place.finished) {
            (false, _) => PastLife::NeverReady,
            (true, 0) => PastLife::Fruitless,
            (true, _) => PastLife::Fruitful,
        };
        self.announce(slot, &death);
        self.judge_tasks(slot, unread, &death);
        self.judge_slot(slot, death, life, now);
    }

    /// Time has passed.
    pub(crate) fn handle_time(&mut self, now: Instant) {
        self.store.wake(now);
        self.drain(now);
        for slot in 0..self.slots.len() {
            let due = self.slots.get(slot).and_then(|place| place.deadline);
            if let Some((_, due)) = due.filter(|(at, _)| *at <= now) {
                self.handle_due(slot, due, now);
            }
        }
    }

    /// Answers have been read as far as they go: learn from them, and hand out what waits.
    pub(crate) fn dispatch(&mut self, now: Instant) {
        for place in &mut self.slots {
            if place.fresh_answers > 0 {
                self.deadly_in_a_row = 0;
                let count = std::mem::take(&mut place.fresh_answers);
                let (open, limit) = (place.session.open_count(), place.session.window());
                place.window.answered(count, open, limit, now);
            }
        }
        if self.store.waiting() > 0 {
            self.hand_out(now);
        }
        if matches!(self.phase, Phase::Draining(_)) {
            self.end_idle();
        }
    }

    // What is to be done.

    /// The decisions since the last call.
    pub(crate) fn take_actions(&mut self, into: &mut Vec<Action<T>>) {
        into.append(&mut self.actions);
    }

    /// The slots whose outbox got bytes since the last call; one may be named twice.
    pub(crate) fn take_dirty(&mut self, into: &mut Vec<usize>) {
        into.append(&mut self.dirty);
    }

    /// When [`handle_time`](Self::handle_time) must be called at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let drain = match self.phase {
            Phase::Draining(deadline) if !self.is_over() => Some(deadline),
            _ => None,
        };
        let slots = self.slots.iter().filter_map(|slot| slot.deadline.map(|(at, _)| at));
        slots.chain(self.store.next_wake()).chain(drain).min()
    }

    /// Bytes for a worker.
    pub(crate) fn outbox(&mut self, slot: usize) -> Option<&mut Outbox> {
        self.slots.get_mut(slot).map(|slot| &mut slot.outbox)
    }

    // Getters.

    /// The largest frame that worker may write now.
    pub(crate) fn max_frame(&self, slot: usize) -> u32 {
        self.slots.get(slot).map_or(0, |slot| slot.session.max_frame())
    }

    /// Whether no worker has a process, and none will get one.
    pub(crate) fn is_over(&self) -> bool {
        self.slots.iter().all(|slot| slot.life == Life::Retired)
    }

    /// Whether some worker takes tasks with nothing to do.
    pub(crate) fn has_idle_worker(&self) -> bool {
        self.slots.iter().any(|slot| slot.credit() > 0 && slot.session.open_count() == 0)
    }

    /// Why the pool broke, if it did.
    pub(crate) fn broken(&self) -> Option<&Arc<Death>> {
        match &self.phase {
            Phase::Broken(death) => Some(death),
            _ => None,
        }
    }

    /// The worker's process id, how it was ended, and how many tasks it finished in all its lives.
    pub(crate) fn summary(&self, slot: usize) -> Option<(u32, Rung, u64)> {
        self.slots.get(slot).map(|slot| (slot.pid, slot.rung, slot.finished_ever + slot.finished))
    }

    // Inside.

    fn hello(&self, pid: u32) -> ParentHello {
        ParentHello {
            version: VERSION,
            pid: u64::from(pid),
            parent: u64::from(self.config.parent_pid),
            capabilities: Capabilities::NONE,
            max_frame: self.config.max_frame,
        }
    }

    fn spawn(&mut self, slot: usize) {
        if let Some(place) = self.slots.get_mut(slot) {
            place.life = Life::Spawning;
            place.deadline = None;
            self.actions.push(Action::Spawn { slot });
        }
    }

    /// Not a fault yet: an exit closes the pipes first. It becomes one if the grace passes.
    fn handle_last_words(&mut self, slot: usize, due: Due, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.deaf = true;
        if place.life == Life::Running && !place.must_exit() {
            place.deadline = Some((now + EXIT_GRACE, due));
        }
    }

    fn handle_due(&mut self, slot: usize, due: Due, now: Instant) {
        let (hello, ready) = (self.config.hello_timeout, self.config.ready_timeout);
        if let Some(place) = self.slots.get_mut(slot) {
            place.deadline = None;
        }
        match due {
            Due::Hello => self.end_by_force(slot, Cause::HelloTimeout(hello)),
            Due::Ready => self.end_by_force(slot, Cause::ReadyTimeout(ready)),
            Due::ExitBye => self.end_by_force(slot, Cause::SaidBye),
            Due::ExitInput => self.end_by_force(slot, Cause::ClosedInput),
            Due::ExitOutput => self.end_by_force(slot, Cause::ClosedOutput),
            Due::Kill => self.end_by_force(slot, Cause::Stopped),
            Due::Respawn => self.spawn(slot),
            Due::Terminate => self.terminate(slot, now),
        }
    }

    fn complete(&mut self, ticket: T, bytes: usize, outcome: Outcome) {
        self.actions.push(Action::Complete { ticket, outcome, bytes });
    }
}

/// Whether a task was handed out in vain so often that it is given up.
fn is_delivered_enough<T>(task: &Task<T>) -> bool {
    task.deliveries >= task.policy.attempts.saturating_add(DELIVERIES_BEYOND_LIVES)
}

/// `now + after`, for durations that a user may have given.
fn later(now: Instant, after: Duration) -> Instant {
    now.checked_add(after).unwrap_or(now + FAR)
}

fn cancelled<T>(task: &Task<T>) -> TaskError {
    let kind = TaskErrorKind::Cancelled { may_have_run: task.attempts > 0 };
    let mut error = TaskError::new(kind, task.number, "");
    error.attempt = task.attempts;
    error
}

fn closed(number: u64) -> TaskError {
    TaskError::new(TaskErrorKind::Closed, number, "the pool was shut down")
}

fn broken(number: u64, death: &Arc<Death>) -> TaskError {
    let mut error = TaskError::new(TaskErrorKind::Broken, number, death.to_string());
    error.death = Some(Arc::clone(death));
    error
}
