//! The decisions: facts in, actions out. Methods are of four kinds: `handle_*` take facts, plain verbs are the user's
//! commands, `take_*` and `next_*` give what is to be done, the rest, in `state`, are getters. Time never goes backwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stokehold_protocol::{Capabilities, Capability, ParentHello, VERSION};

use super::action::{Action, Event, Ticket};
use super::addresses::Addresses;
use super::restart::Life as PastLife;
use super::slot::{Due, Life, Rung, Slot};
use super::source::Source;
use super::store::{MemoryStore, NewTask, Run, RunBuffers, Store};
use super::timers::Timers;
use super::{Cause, Death, Limit, Outbox, Remains, Spare, WorkerState};

mod batches;
mod config;
mod ending;
mod hand_out;
mod judge;
mod limits;
mod messages;
mod outcomes;
mod random;
mod staff;
mod state;
mod streams;

pub(crate) use config::SupervisorConfig;
pub(in crate::core) use hand_out::WITHHELD_MAX;
use outcomes::{broken, closed, is_delivered_enough};
use random::Random;

/// How long a worker that closed a pipe or said BYE may take to exit by itself.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// What "never" is for a deadline: further away than any process lives.
const FAR: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// The core of a pool.
#[derive(Debug)]
pub(crate) struct Supervisor<T> {
    config: SupervisorConfig,
    pub(super) slots: Vec<Slot>,
    pub(super) store: MemoryStore<T>,
    pub(super) timers: Timers,
    actions: Vec<Action<T>>,
    /// What was answered since the last look.
    released: Released,
    phase: Phase,
    /// Slots whose outbox got bytes since the last look.
    dirty: Vec<usize>,
    /// Where the next hand-out begins, so that no slot is always first.
    turn: usize,
    /// Since when tiny tasks wait for busy workers although others are idle.
    pub(super) withheld: Option<Instant>,
    /// More workers were busy a moment ago than there are processors: until then how long a task takes says little of the task.
    crowded_until: Option<Instant>,
    /// How many tasks were ended by deaths since the last answer.
    deadly_in_a_row: u32,
    /// Some worker was ready, ever.
    ever_ready: bool,
    /// When the memory of busy workers is looked at again, if some are.
    next_sample: Option<Instant>,
    /// How many processes each worker number had, and how many tasks those finished whose slot was given to another number.
    records: BTreeMap<usize, Record>,
    addresses: Addresses,
    random: Random,
    #[cfg(test)]
    pub(super) flaw: Option<super::Flaw>,
}

/// What is remembered of a worker number.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    processes: u64,
    finished: u64,
}

/// Room in the queue that became free.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Released {
    /// Tasks that ended.
    pub(crate) tasks: usize,
    /// Bytes of them.
    pub(crate) bytes: usize,
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
    pub(crate) fn new(config: SupervisorConfig, now: Instant) -> Self {
        let mut supervisor = Self {
            slots: Vec::new(),
            store: MemoryStore::new(),
            timers: Timers::default(),
            actions: Vec::new(),
            released: Released::default(),
            phase: Phase::Serving,
            dirty: Vec::new(),
            turn: 0,
            withheld: None,
            crowded_until: None,
            deadly_in_a_row: 0,
            ever_ready: false,
            next_sample: None,
            records: BTreeMap::new(),
            addresses: Addresses::new(),
            random: Random::new(config.seed),
            #[cfg(test)]
            flaw: None,
            config,
        };
        for _ in 0..supervisor.config.workers {
            supervisor.engage(now);
        }
        supervisor
    }

    // Commands of the user.

    /// Accepts a task.
    pub(crate) fn submit(&mut self, task: NewTask<T>, now: Instant) {
        if !matches!(self.phase, Phase::Serving) {
            return self.turn_away(task.ticket, task.number, task.weight);
        }
        let limit = task.policy.total_limit();
        let key = self.store.push(task);
        let Some(task) = self.store.get_mut(key) else { return };
        task.ticket.accepted(key);
        if let Some(limit) = limit {
            self.timers.set(key, &mut task.extra().clocks, Limit::Total, Some(later(now, limit)));
        }
    }

    /// Accepts many tasks of one source.
    pub(crate) fn submit_run(&mut self, mut run: Run<T>, now: Instant) {
        let policy = run.ticket().source().map(Source::policy).unwrap_or_default();
        if matches!(self.phase, Phase::Serving) && policy.total_limit().is_none() {
            return self.store.push_run(run);
        }
        // Each is looked after by itself from now on.
        while let Some(task) = run.take_one() {
            self.submit(task, now);
        }
    }

    /// A task comes too late.
    #[cold]
    fn turn_away(&mut self, ticket: T, number: u64, weight: usize) {
        let error = match &self.phase {
            Phase::Broken(death) => broken(number, death),
            _ => closed(number),
        };
        self.fail_task(ticket, weight, error);
    }

    // Facts.

    /// A worker's process exists.
    pub(crate) fn handle_spawned(&mut self, slot: usize, pid: u32, now: Instant) {
        let address = self.addresses.give(pid);
        let (hello, hello_timeout) = (self.hello(address), self.config.hello_timeout);
        let (window, killing) =
            (self.config.window, matches!(self.phase, Phase::Stopping | Phase::Broken(_)));
        let random = &mut self.random;
        let rotation = self.config.recycle.rotation(now, || random.below(1_001));
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.begin_life(hello, window, now);
        place.history.started();
        place.life = Life::Running;
        place.pid = pid;
        place.rotation = rotation;
        place.deadline = Some((later(now, hello_timeout), Due::Hello));
        let worker = place.number;
        let record = self.records.entry(worker).or_default();
        let restarts = record.processes;
        record.processes += 1;
        self.actions.push(Action::Notice(Event::WorkerStarted { worker, pid, restarts }));
        self.look_at_memory_soon(now);
        if killing {
            self.end_by_force(slot, Cause::Stopped);
        } else {
            self.let_go(slot, now);
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
        let Some(place) = self.slots.get(slot) else { return };
        let death = Death {
            worker: place.number,
            pid: None,
            program: Arc::clone(&self.config.program),
            cause: Cause::Spawn { kind, message: message.into() },
            status: None,
            was_ready: false,
            stderr_tail: "".into(),
            state: WorkerState::Starting,
            in_state: Duration::ZERO,
            lifetime: Duration::ZERO,
            answered: 0,
            unanswered: 0,
            task: None,
            attempt: None,
            rung: Rung::Asked,
            out_of_memory: None,
            peak_memory: None,
            cpu: None,
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

    /// Bytes of a worker were read. Whether they end inside a frame.
    #[inline]
    pub(crate) fn handle_read(&mut self, slot: usize, inside_frame: bool, now: Instant) {
        if let Some(place) = self.slots.get_mut(slot) {
            place.heard = now;
            place.pinged = false;
            place.inside_frame = inside_frame.then_some(now);
        }
    }

    /// A worker is reaped, and everything it had written has been handed in.
    pub(crate) fn handle_exit(&mut self, slot: usize, remains: Remains, stderr_tail: &str, now: Instant) {
        let Some(place) = self.slots.get(slot) else { return };
        let (state, in_state) = place.at_the_end(now);
        let found = self.examine(slot, remains.unread);
        let Some(place) = self.slots.get_mut(slot) else { return };
        // Of several in one frame nobody knows which it was.
        let blamed = found.culprit().and_then(|key| self.store.get_mut(key)).filter(|task| task.left() == 1);
        let death = Arc::new(Death {
            worker: place.number,
            pid: Some(place.pid),
            program: Arc::clone(&self.config.program),
            cause: place.fault.take().unwrap_or(Cause::Exited),
            status: remains.status,
            was_ready: place.was_ready,
            stderr_tail: stderr_tail.into(),
            state,
            in_state,
            lifetime: now.saturating_duration_since(place.born),
            answered: place.finished,
            unanswered: found.tasks(),
            task: blamed.as_ref().map(|task| task.number),
            attempt: blamed.map(|task| task.attempts),
            rung: place.rung,
            out_of_memory: remains.out_of_memory,
            peak_memory: place.peak_memory,
            cpu: remains.cpu,
        });
        let life = match (place.was_ready, place.finished) {
            _ if found.is_for_a_task() => PastLife::Spoiled,
            (false, _) => PastLife::NeverReady,
            (true, 0) => PastLife::Fruitless,
            (true, _) => PastLife::Fruitful,
        };
        self.announce(slot, &death);
        self.judge_tasks(found, &death, now);
        self.judge_slot(slot, death, life, now);
    }

    /// Time has passed.
    pub(crate) fn handle_time(&mut self, now: Instant) {
        self.store.wake(now);
        self.drain(now);
        while let Some((key, limit)) = self.timers.take_passed(now) {
            self.overran(key, limit, now);
        }
        for slot in 0..self.slots.len() {
            let due = self.slots.get(slot).and_then(|place| place.deadline);
            if let Some((_, due)) = due.filter(|(at, _)| *at <= now) {
                self.handle_due(slot, due, now);
            }
            self.look_after(slot, now);
        }
        self.shrink(now);
        self.sample(now);
    }

    /// Answers have been read as far as they go: learn from them, and hand out what waits.
    pub(crate) fn dispatch(&mut self, now: Instant) {
        for slot in 0..self.slots.len() {
            let Some(place) = self.slots.get_mut(slot) else { break };
            if std::mem::take(&mut place.has_answered) || place.fresh_answers > 0 {
                self.deadly_in_a_row = 0;
                let count = std::mem::take(&mut place.fresh_answers);
                place.window.answered(count, place.open_tasks, place.tasks_max(), now);
                if !place.is_busy() {
                    place.since = now;
                }
                self.after_answers(slot, now);
            }
        }
        if self.store.waiting() == 0 {
            self.withheld = None;
        } else {
            self.hand_out(now);
            self.grow(now);
        }
        if matches!(self.phase, Phase::Draining(_)) {
            self.end_idle(now);
        }
    }

    // What is to be done.

    /// The decisions since the last call.
    pub(crate) fn take_actions(&mut self, into: &mut Vec<Action<T>>) {
        into.append(&mut self.actions);
    }

    /// How many processors there are.
    pub(crate) fn cores(&self) -> usize {
        self.config.cores
    }

    /// The room in the queue that became free since the last call.
    pub(crate) fn take_released(&mut self) -> Released {
        std::mem::take(&mut self.released)
    }

    /// The memory of runs that were handed out, to be filled again.
    pub(crate) fn run_buffers(&mut self) -> &mut Spare<RunBuffers> {
        self.store.run_buffers()
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
        let slots = self.slots.iter().filter_map(|place| self.next_of(place));
        let withheld = self.withheld.map(|since| since + WITHHELD_MAX);
        let others = [
            self.store.next_wake(),
            self.timers.next(),
            self.sample_due(),
            self.next_shrink(),
            withheld,
            drain,
        ];
        slots.chain(others.into_iter().flatten()).min()
    }

    /// Bytes for a worker.
    pub(crate) fn outbox(&mut self, slot: usize) -> Option<&mut Outbox> {
        self.slots.get_mut(slot).map(|slot| &mut slot.outbox)
    }

    // Inside.

    fn hello(&self, address: u64) -> ParentHello {
        let capabilities = match self.config.reports_starts {
            true => Capabilities::NONE.with(Capability::Started),
            false => Capabilities::NONE,
        };
        ParentHello {
            version: VERSION,
            pid: address,
            parent: u64::from(self.config.parent_pid),
            capabilities,
            max_frame: self.config.max_frame,
            spin: self.config.spin,
        }
    }

    fn spawn(&mut self, slot: usize) {
        if let Some(place) = self.slots.get_mut(slot) {
            place.life = Life::Spawning;
            place.deadline = None;
            self.actions.push(Action::Spawn { slot, worker: place.number });
        }
    }

    /// When something of a slot is due.
    fn next_of(&self, place: &Slot) -> Option<Instant> {
        let deadline = place.deadline.map(|(at, _)| at);
        [deadline, self.next_look(place)].into_iter().flatten().min()
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
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.deadline = None;
        let stopping = place.stopping.as_ref().map_or(Cause::Stopped, |(_, cause)| cause.clone());
        match due {
            Due::Hello => self.end_by_force(slot, Cause::HelloTimeout(hello)),
            Due::Ready => self.end_by_force(slot, Cause::ReadyTimeout(ready)),
            Due::ExitBye => self.end_by_force(slot, Cause::SaidBye),
            Due::ExitInput => self.end_by_force(slot, Cause::ClosedInput),
            Due::ExitOutput => self.end_by_force(slot, Cause::ClosedOutput),
            Due::Kill => self.end_by_force(slot, Cause::Stopped),
            Due::Respawn => self.spawn(slot),
            Due::Stop => self.terminate(slot, stopping, now),
            Due::Terminate => self.terminate(slot, Cause::Stopped, now),
        }
    }
}

/// `now + after`, for durations that a user may have given.
fn later(now: Instant, after: Duration) -> Instant {
    now.checked_add(after).unwrap_or(now + FAR)
}
