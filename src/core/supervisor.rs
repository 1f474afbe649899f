//! The decisions: facts in, actions out. Methods are of four kinds: `handle_*` take facts, plain verbs are the user's
//! commands, `take_*` and `next_*` give what is to be done, the rest are getters. Time never goes backwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stokehold_protocol::{
    Capabilities, Die, Failure, FrameError, Outgoing, ParentEvent, ParentHello, PeerError, VERSION, code,
};

use super::action::{Action, Event, Ticket};
use super::restart::{Life as PastLife, Verdict};
use super::slot::{Due, Life, Rung, Slot};
use super::store::{MemoryStore, NewTask, Pull, Release, Store, Task, TaskKey};
use super::{Answered, Cause, Death, Outbox, Outcome, TaskError, TaskErrorKind};

/// A task may be handed out so many times more than it has lives: enough for workers that die before they begin it, and an
/// end for a message that kills them while it is read.
const DELIVERIES_BEYOND_LIVES: u32 = 8;

/// How long a worker that closed a pipe may take to exit by itself.
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// How long a worker may take to end after SIGTERM.
const TERMINATE_GRACE: Duration = Duration::from_millis(500);

/// A worker that exits with this code says that another start would fail as well.
const EXIT_PERMANENT: i32 = 125;

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
    slots: Vec<Slot>,
    store: MemoryStore<T>,
    actions: Vec<Action<T>>,
    phase: Phase,
    /// Slots whose outbox got bytes since the last look.
    dirty: Vec<usize>,
    /// Where the next hand-out begins, so that no slot is always first.
    turn: usize,
    /// A task was finished, ever: the program can do its work.
    proven: bool,
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
            proven: false,
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

    /// Finishes what was accepted, then ends every worker; from `deadline` on by force.
    pub(crate) fn shutdown(&mut self, deadline: Instant, now: Instant) {
        if matches!(self.phase, Phase::Serving) {
            self.phase = Phase::Draining(deadline);
            self.end_idle();
            self.handle_time(now);
        }
    }

    /// Ends everything now.
    pub(crate) fn kill(&mut self) {
        self.phase = Phase::Stopping;
        self.answer_waiting();
        for slot in 0..self.slots.len() {
            self.end_by_force(slot, Cause::Stopped);
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
        place.life = Life::Running;
        place.pid = pid;
        place.deadline = Some((now + hello_timeout, Due::Hello));
        if killing {
            self.end_by_force(slot, Cause::Stopped);
        }
    }

    /// A worker's process could not be made. That is no accident: the next try would fail as well.
    pub(crate) fn handle_spawn_failed(
        &mut self,
        slot: usize,
        kind: std::io::ErrorKind,
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
        self.judge_slot(slot, Arc::new(death), PastLife::NeverReady, now);
    }

    /// A worker wrote a frame.
    #[inline]
    pub(crate) fn handle_frame(&mut self, slot: usize, id: u32, body: &[u8], now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        if place.fault.as_ref().is_some_and(|fault| matches!(fault, Cause::Protocol(_))) {
            return;
        }
        match place.session.handle_frame(id, body) {
            Ok(ParentEvent::Finished { ticket: key, data }) => {
                place.fresh_answers += 1;
                place.finished += 1;
                place.alone = false;
                let (worker, pid) = (slot, place.pid);
                if let Some(task) = self.store.finish(key) {
                    let answered = Answered {
                        data: data.to_vec(),
                        worker,
                        pid,
                        task: task.number,
                        attempt: task.attempts,
                        elapsed: task
                            .sent_at
                            .map_or(Duration::ZERO, |sent| now.saturating_duration_since(sent)),
                    };
                    let bytes = task.body.len();
                    self.actions.push(Action::Complete { ticket: task.ticket, outcome: Ok(answered), bytes });
                }
            }
            Ok(event) => self.handle_event(slot, event, now),
            Err(error) => self.end_by_force(slot, Cause::Protocol(Arc::new(error))),
        }
    }

    /// A worker wrote a frame above the limit; `head` is its first bytes.
    pub(crate) fn handle_too_large(&mut self, slot: usize, id: u32, len: u32, head: &[u8], now: Instant) {
        let max_frame = self.config.max_frame;
        let Some(place) = self.slots.get_mut(slot) else { return };
        match place.session.handle_too_large(id, head) {
            Ok(Some(key)) => {
                place.fresh_answers += 1;
                place.alone = false;
                let message =
                    format!("the answer's frame has {len} bytes, this pool takes {max_frame} (max_frame)");
                self.fail(slot, key, Failure::new(code::TOO_LARGE, message), now);
            }
            Ok(None) => {}
            Err(error) => self.end_by_force(slot, Cause::Protocol(Arc::new(error))),
        }
    }

    /// A worker's stream is not frames.
    pub(crate) fn handle_frame_error(&mut self, slot: usize, error: FrameError) {
        self.end_by_force(slot, Cause::Protocol(Arc::new(PeerError::Frame(error))));
    }

    /// A worker's output ended. It has a moment to exit by itself.
    pub(crate) fn handle_output_closed(&mut self, slot: usize, now: Instant) {
        self.handle_pipe_closed(slot, Due::ExitOutput, now);
    }

    /// A worker reads no more. It has a moment to exit by itself.
    pub(crate) fn handle_input_closed(&mut self, slot: usize, now: Instant) {
        if let Some(place) = self.slots.get_mut(slot) {
            place.outbox.discard();
        }
        self.handle_pipe_closed(slot, Due::ExitInput, now);
    }

    /// A worker is reaped, and everything it had written has been handed in.
    pub(crate) fn handle_exit(
        &mut self,
        slot: usize,
        status: Option<std::process::ExitStatus>,
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
        self.judge_tasks(slot, &death);
        self.judge_slot(slot, death, life, now);
    }

    /// Time has passed.
    pub(crate) fn handle_time(&mut self, now: Instant) {
        self.store.wake(now);
        if let Phase::Draining(deadline) = self.phase {
            self.end_idle();
            if deadline <= now {
                self.phase = Phase::Stopping;
                self.answer_waiting();
                for slot in 0..self.slots.len() {
                    self.terminate(slot, now);
                }
            }
        }
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
                let count = std::mem::take(&mut place.fresh_answers);
                place.window.answered(count, place.session.open_count(), now);
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
            Phase::Draining(deadline) => Some(deadline),
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
        self.slots.iter().any(|slot| slot.takes_tasks() && slot.session.open_count() == 0)
    }

    /// How many workers take tasks.
    pub(crate) fn ready_workers(&self) -> usize {
        self.slots.iter().filter(|slot| slot.takes_tasks()).count()
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

    fn handle_event(&mut self, slot: usize, event: ParentEvent<'_, TaskKey>, now: Instant) {
        let ready_timeout = self.config.ready_timeout;
        let Some(place) = self.slots.get_mut(slot) else { return };
        match event {
            ParentEvent::Hello { ready } => {
                place.session.hello(place.outbox.append());
                self.dirty.push(slot);
                place.deadline = Some((now + ready_timeout, Due::Ready));
                if ready {
                    self.handle_ready(slot);
                }
            }
            ParentEvent::Ready => self.handle_ready(slot),
            ParentEvent::Failed { ticket: key, failure } => {
                place.fresh_answers += 1;
                place.alone = false;
                // A failure is an answer too: the worker did its work.
                place.finished += 1;
                self.fail(slot, key, failure, now);
            }
            ParentEvent::Finished { .. } => {}
            ParentEvent::Bye => place.deaf = true,
            ParentEvent::Ask { id } => {
                place.session.refuse(id, place.outbox.append());
                self.dirty.push(slot);
            }
            ParentEvent::Progress { id: 0, .. } if !place.was_ready => {
                // Signs of life before READY extend its time (SPEC 7), each by one period.
                place.deadline = Some((now + ready_timeout, Due::Ready));
            }
            ParentEvent::Item { .. }
            | ParentEvent::Started { .. }
            | ParentEvent::Progress { .. }
            | ParentEvent::Log { .. }
            | ParentEvent::Pong { .. }
            | ParentEvent::Window
            | ParentEvent::Ignored => {}
        }
    }

    fn handle_ready(&mut self, slot: usize) {
        self.ever_ready = true;
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.was_ready = true;
        if place.life == Life::Running {
            place.deadline = None;
        }
        self.actions.push(Action::Notice(Event::WorkerReady { worker: slot, pid: place.pid }));
    }

    /// Not a fault yet: an exit closes the pipes first. It becomes one if the grace passes.
    fn handle_pipe_closed(&mut self, slot: usize, due: Due, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.deaf = true;
        if place.life == Life::Running
            && !matches!(place.deadline, Some((_, Due::ExitInput | Due::ExitOutput)))
        {
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
            Due::ExitInput => self.end_by_force(slot, Cause::ClosedInput),
            Due::ExitOutput => self.end_by_force(slot, Cause::ClosedOutput),
            Due::Kill => self.end_by_force(slot, Cause::Stopped),
            Due::Respawn => self.spawn(slot),
            Due::Terminate => self.terminate(slot, now),
        }
    }

    /// A worker says that a task failed, or its answer cannot be taken.
    fn fail(&mut self, slot: usize, key: TaskKey, failure: Failure, now: Instant) {
        let pid = self.slots.get(slot).map_or(0, |slot| slot.pid);
        let Some(task) = self.store.get_mut(key) else { return };
        let begun = failure.begun != Some(false);
        if begun {
            task.lives_used += 1;
        }
        let may_go_on = task.lives_used < task.policy.attempts
            && task.deliveries < task.policy.attempts + DELIVERIES_BEYOND_LIVES
            && !(task.policy.at_most_once && begun);
        if failure.retry && may_go_on && matches!(self.phase, Phase::Serving | Phase::Draining(_)) {
            let event = Event::TaskRetried { task: task.number, attempt: task.attempts, death: None };
            self.actions.push(Action::Notice(event));
            let pause = Duration::from_millis(failure.after_ms.unwrap_or(0));
            let how = if pause.is_zero() { Release::Again } else { Release::Later(now + pause) };
            self.store.release(key, how);
            return;
        }
        if let Some(task) = self.store.finish(key) {
            let mut error = TaskError::new(TaskErrorKind::Failed, task.number, "");
            error.attempt = task.attempts;
            error.worker = Some(slot);
            error.pid = Some(pid);
            error.failure = Some(Box::new(failure));
            self.complete(task.ticket, task.body.len(), Err(Box::new(error)));
        }
    }

    fn hand_out(&mut self, now: Instant) {
        let takers = self.ready_workers();
        if takers == 0 {
            return;
        }
        let count = self.slots.len();
        let share = u32::try_from(self.store.waiting().div_ceil(takers)).unwrap_or(u32::MAX);
        self.turn = (self.turn + 1) % count.max(1);
        // First one task for every idle worker, then the rest in even shares: with few tasks nobody waits behind another.
        for only_idle in [true, false] {
            for offset in 0..count {
                let slot = (self.turn + offset) % count;
                let Some(place) = self.slots.get(slot) else { continue };
                let idle = place.session.open_count() == 0;
                let credit = place.credit();
                let quota = match only_idle {
                    true if idle => credit.min(1),
                    true => 0,
                    false => credit.min(share),
                };
                if quota > 0 {
                    self.fill(slot, quota, now);
                }
                if self.store.waiting() == 0 {
                    return;
                }
            }
        }
    }

    /// Hands up to `quota` tasks to a worker.
    fn fill(&mut self, slot: usize, quota: u32, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let was_idle = place.session.open_count() == 0;
        let mut which = Pull::Ordinary;
        if self.store.waiting_alone() > 0 && was_idle {
            which = Pull::Alone;
        }
        for _ in 0..quota {
            if place.outbox.is_full() {
                break;
            }
            let Some(key) = self.store.pull(which) else { break };
            let Some(task) = self.store.get_mut(key) else { continue };
            if !task.ticket.is_wanted() {
                if let Some(task) = self.store.finish(key) {
                    let error = cancelled(&task);
                    let bytes = task.body.len();
                    self.actions.push(Action::Complete {
                        ticket: task.ticket,
                        outcome: Err(Box::new(error)),
                        bytes,
                    });
                }
                continue;
            }
            if !place.session.fits(task.body.len()) {
                let len = task.body.len() + 4;
                let max = place.session.child().max_frame;
                let message = format!(
                    "the task's frame has {len} bytes, the worker takes {max} (max_frame in its HELLO)"
                );
                self.fail(
                    slot,
                    key,
                    Failure { begun: Some(false), ..Failure::new(code::TOO_LARGE, message) },
                    now,
                );
                return;
            }
            let Ok(id) = place.session.begin(key) else {
                self.store.release(key, Release::Again);
                break;
            };
            task.attempts += 1;
            task.deliveries += 1;
            task.sent_at = Some(now);
            task.ticket.delivered(slot, place.pid, task.attempts);
            let outgoing = Outgoing { body: &task.body, attempt: task.attempts };
            place.session.send(id, outgoing, place.outbox.append());
            if which == Pull::Alone {
                place.alone = true;
                break;
            }
        }
        place.window.sent(was_idle, now);
        self.dirty.push(slot);
    }

    /// What becomes of the tasks that a dead worker had not answered.
    fn judge_tasks(&mut self, slot: usize, death: &Arc<Death>) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let ended_with_bye = place.session.has_ended();
        let was_alone = place.alone;
        let exact = place.session.child().serial || was_alone;
        let open = place.session.leases().close_all();
        if open.is_empty() {
            return;
        }
        let blame_one = exact || open.len() == 1;
        // Back to the front of the queue, the oldest last, so that it stands first.
        for (place_in_line, (_, key)) in open.into_iter().enumerate().rev() {
            if matches!(self.phase, Phase::Stopping) {
                self.end_task(key, death);
            } else if ended_with_bye || (blame_one && place_in_line > 0) {
                self.hand_back(key, Release::Again, death);
            } else if blame_one {
                self.blame(key, death);
            } else {
                self.suspect(key, death);
            }
        }
    }

    /// A task that surely never began goes back and loses nothing but a delivery.
    fn hand_back(&mut self, key: TaskKey, how: Release, death: &Arc<Death>) {
        let Some(task) = self.store.get_mut(key) else { return };
        if task.deliveries >= task.policy.attempts + DELIVERIES_BEYOND_LIVES {
            return self.end_task(key, death);
        }
        task.attempts = task.attempts.saturating_sub(1);
        self.store.release(key, how);
    }

    /// A task that may have begun, or not: nobody can tell yet.
    fn suspect(&mut self, key: TaskKey, death: &Arc<Death>) {
        let Some(task) = self.store.get_mut(key) else { return };
        if task.policy.at_most_once || task.deliveries >= task.policy.attempts + DELIVERIES_BEYOND_LIVES {
            return self.end_task(key, death);
        }
        let event =
            Event::TaskRetried { task: task.number, attempt: task.attempts, death: Some(Arc::clone(death)) };
        self.actions.push(Action::Notice(event));
        self.store.release(key, Release::Alone);
    }

    /// The task that the worker was doing when it died.
    fn blame(&mut self, key: TaskKey, death: &Arc<Death>) {
        let Some(task) = self.store.get_mut(key) else { return };
        task.lives_used += 1;
        if task.policy.at_most_once || task.lives_used >= task.policy.attempts {
            return self.end_task(key, death);
        }
        let event =
            Event::TaskRetried { task: task.number, attempt: task.attempts, death: Some(Arc::clone(death)) };
        self.actions.push(Action::Notice(event));
        self.store.release(key, Release::Again);
    }

    /// The end of a task by the death of its worker.
    fn end_task(&mut self, key: TaskKey, death: &Arc<Death>) {
        let killing = matches!(self.phase, Phase::Stopping);
        let Some(task) = self.store.finish(key) else { return };
        let kind = match (killing, task.policy.at_most_once) {
            (true, _) => TaskErrorKind::Closed,
            (false, true) => TaskErrorKind::Lost,
            (false, false) => TaskErrorKind::Dead,
        };
        if kind == TaskErrorKind::Dead && self.proven {
            // The task killed its workers, not they themselves: they are not to be given up for it.
            if let Some(place) = self.slots.get_mut(death.worker) {
                place.history = super::restart::RestartHistory::default();
            }
        }
        let mut error = TaskError::new(kind, task.number, death.to_string());
        error.attempt = task.attempts;
        error.worker = Some(death.worker);
        error.pid = death.pid;
        error.death = Some(Arc::clone(death));
        self.complete(task.ticket, task.body.len(), Err(Box::new(error)));
    }

    /// What becomes of the slot of a dead worker.
    fn judge_slot(&mut self, slot: usize, death: Arc<Death>, life: PastLife, now: Instant) {
        let waiting = self.store.waiting();
        let Some(place) = self.slots.get_mut(slot) else { return };
        self.proven |= place.finished > 0;
        place.finished_ever += std::mem::take(&mut place.finished);
        place.outbox.discard();
        place.deadline = None;
        let was_ending = place.life == Life::Ending;
        place.life = Life::Vacant;
        let restart = match self.phase {
            Phase::Serving => true,
            Phase::Draining(_) => waiting > 0 && !was_ending,
            Phase::Stopping | Phase::Broken(_) => false,
        };
        if !restart {
            place.life = Life::Retired;
            return;
        }
        // Before anybody was ready these are no accidents: the next try would end the same.
        let hopeless = !self.ever_ready
            && matches!(death.cause, Cause::Spawn { .. } | Cause::HelloTimeout(_) | Cause::Protocol(_));
        let verdict = match death.code() {
            Some(EXIT_PERMANENT) => Verdict::GiveUp,
            _ => place.history.ended(life, now),
        };
        self.actions.push(Action::Notice(Event::WorkerDied(Arc::clone(&death))));
        match verdict {
            Verdict::Restart(pause) if !hopeless => {
                if pause.is_zero() {
                    self.spawn(slot);
                } else if let Some(place) = self.slots.get_mut(slot) {
                    place.deadline = Some((now + pause, Due::Respawn));
                }
            }
            Verdict::Restart(_) | Verdict::GiveUp => {
                if let Some(place) = self.slots.get_mut(slot) {
                    place.life = Life::Retired;
                }
                if hopeless || self.is_over() {
                    self.break_down(death);
                }
            }
        }
    }

    /// No worker is left, or none can come: every task is answered, and so will be every later one.
    fn break_down(&mut self, death: Arc<Death>) {
        self.phase = Phase::Broken(Arc::clone(&death));
        for task in self.store.bury_waiting() {
            let error = broken(task.number, &death);
            self.complete(task.ticket, task.body.len(), Err(Box::new(error)));
        }
        for slot in 0..self.slots.len() {
            self.end_by_force(slot, Cause::Stopped);
        }
    }

    /// The answer of everything that waits in a pool that is being ended.
    fn answer_waiting(&mut self) {
        for task in self.store.bury_waiting() {
            self.complete(task.ticket, task.body.len(), Err(Box::new(closed(task.number))));
        }
    }

    /// While draining: workers with nothing left to do are asked to end.
    fn end_idle(&mut self) {
        let Phase::Draining(deadline) = self.phase else { return };
        let held: usize = self.slots.iter().map(|place| place.session.open_count() as usize).sum();
        if self.store.len() > held {
            return;
        }
        let tasks_left = held > 0;
        for (slot, place) in self.slots.iter_mut().enumerate() {
            match place.life {
                Life::Running if place.session.open_count() == 0 => {
                    place.session.die(&Die::default(), place.outbox.append());
                    place.life = Life::Ending;
                    place.deadline = Some((deadline, Due::Terminate));
                    self.dirty.push(slot);
                    self.actions.push(Action::CloseInput { slot });
                }
                Life::Vacant if !tasks_left => {
                    place.life = Life::Retired;
                    place.deadline = None;
                }
                _ => {}
            }
        }
    }

    /// SIGTERM, with a moment until SIGKILL.
    fn terminate(&mut self, slot: usize, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        match place.life {
            Life::Running | Life::Ending if place.rung < Rung::Terminated => {
                place.life = Life::Ending;
                place.deaf = true;
                place.rung = Rung::Terminated;
                place.fault.get_or_insert(Cause::Stopped);
                place.deadline = Some((now + TERMINATE_GRACE, Due::Kill));
                self.actions.push(Action::Terminate { slot });
            }
            Life::Vacant => {
                place.life = Life::Retired;
                place.deadline = None;
            }
            _ => {}
        }
    }

    /// SIGKILL. What comes next is the exit.
    fn end_by_force(&mut self, slot: usize, cause: Cause) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        match place.life {
            Life::Running | Life::Ending => {
                place.fault.get_or_insert(cause);
                place.life = Life::Ending;
                place.deaf = true;
                place.rung = Rung::Killed;
                place.deadline = None;
                self.actions.push(Action::Kill { slot });
            }
            Life::Vacant => {
                place.life = Life::Retired;
                place.deadline = None;
            }
            Life::Spawning | Life::Retired => {}
        }
    }

    fn complete(&mut self, ticket: T, bytes: usize, outcome: Outcome) {
        self.actions.push(Action::Complete { ticket, outcome, bytes });
    }
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
