//! What workers say, and what follows from it.

use std::time::{Duration, Instant};

use stokehold_protocol::{Failure, FrameError, ParentEvent, PeerError, code};

use super::super::action::{Action, Event, Ticket};
use super::super::slot::{Due, Life};
use super::super::store::{Release, Store};
use super::super::{Answered, TaskError, TaskErrorKind, TaskKey};
use super::{Phase, Supervisor, is_delivered_enough, later};

/// The longest pause that a worker may ask for before a task is tried again: whoever waits for the answer should learn of
/// a longer one as a failure.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A worker that says PROGRESS while it starts gets so many times the time for READY, and no more.
const READY_TIMES_MAX: u32 = 10;

/// So many requests of a worker's own are refused while it does not read, before it is ended: the refusals are kept here.
const REFUSALS_MAX: u32 = 1_024;

/// See [`REFUSALS_MAX`].
const ASKS_UNREAD: &str = "came again and again while the refusals of earlier ones were not read";

impl<T: Ticket> Supervisor<T> {
    /// A worker wrote a frame.
    #[inline]
    pub(crate) fn handle_frame(&mut self, slot: usize, id: u32, body: &[u8], now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        if place.garbled {
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
            Err(error) => self.end_garbled(slot, error),
        }
    }

    /// A worker wrote a frame above the limit; `head` is its first bytes.
    pub(crate) fn handle_too_large(&mut self, slot: usize, id: u32, len: u32, head: &[u8], now: Instant) {
        let max_frame = self.config.max_frame;
        let Some(place) = self.slots.get_mut(slot).filter(|place| !place.garbled) else { return };
        match place.session.handle_too_large(id, head) {
            Ok(Some(key)) => {
                place.fresh_answers += 1;
                place.finished += 1;
                place.alone = false;
                let message =
                    format!("the answer's frame has {len} bytes, this pool takes {max_frame} (max_frame)");
                self.fail(slot, key, Failure::new(code::TOO_LARGE, message), now);
            }
            Ok(None) => {}
            Err(error) => self.end_garbled(slot, error),
        }
    }

    /// A worker's stream is not frames.
    pub(crate) fn handle_frame_error(&mut self, slot: usize, error: FrameError) {
        self.end_garbled(slot, PeerError::Frame(error));
    }

    fn handle_event(&mut self, slot: usize, event: ParentEvent<'_, TaskKey>, now: Instant) {
        let ready_timeout = self.config.ready_timeout;
        let Some(place) = self.slots.get_mut(slot) else { return };
        match event {
            ParentEvent::Hello { ready } => {
                place.greeted = true;
                if !place.deaf && place.life == Life::Running {
                    place.session.hello(place.outbox.append());
                    self.dirty.push(slot);
                }
                if place.is_starting() {
                    place.deadline = Some((later(now, ready_timeout), Due::Ready));
                    place.ready_limit = Some(later(now, ready_timeout.saturating_mul(READY_TIMES_MAX)));
                }
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
            ParentEvent::Bye => self.handle_bye(slot, now),
            ParentEvent::Ask { id } => self.refuse(slot, id),
            ParentEvent::Progress { id: 0, .. } if place.is_starting() => {
                // Signs of life before READY extend its time, each by one period, to a cap (SPEC R-33).
                let at = later(now, ready_timeout);
                place.deadline = Some((place.ready_limit.map_or(at, |limit| at.min(limit)), Due::Ready));
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
        if place.is_starting() {
            place.deadline = None;
        }
        if place.takes_tasks() {
            self.actions.push(Action::Notice(Event::WorkerReady { worker: slot, pid: place.pid }));
        }
    }

    /// It ends by its own will. Nothing more is for it, and it must not linger with the tasks that it never began.
    fn handle_bye(&mut self, slot: usize, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.outbox.discard();
        if place.life == Life::Running {
            self.actions.push(Action::CloseInput { slot });
        }
        self.handle_last_words(slot, Due::ExitBye, now);
    }

    /// A worker asks for something. It gets a refusal, unless it does not read.
    fn refuse(&mut self, slot: usize, id: u32) {
        let Some(place) = self.slots.get_mut(slot).filter(|place| !place.deaf) else { return };
        place.refusals = if place.outbox.is_full() { place.refusals + 1 } else { 0 };
        if place.refusals > REFUSALS_MAX {
            let request = "a request of its own".to_owned();
            return self.end_garbled(slot, PeerError::NotAllowed { request, why: ASKS_UNREAD });
        }
        place.session.refuse(id, place.outbox.append());
        self.dirty.push(slot);
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
            && !is_delivered_enough(task)
            && !(task.policy.at_most_once && begun);
        if failure.retry && may_go_on && matches!(self.phase, Phase::Serving | Phase::Draining(_)) {
            let event = Event::TaskRetried { task: task.number, attempt: task.attempts, death: None };
            self.actions.push(Action::Notice(event));
            if !begun {
                task.attempts = task.attempts.saturating_sub(1);
            }
            let pause = Duration::from_millis(failure.after_ms.unwrap_or(0)).min(PAUSE_MAX);
            let how = if pause.is_zero() { Release::Again } else { Release::Later(now + pause) };
            self.store.release(key, how);
            return;
        }
        self.end_failed(slot, pid, key, failure);
    }

    /// The end of a task by a failure.
    pub(super) fn end_failed(&mut self, slot: usize, pid: u32, key: TaskKey, failure: Failure) {
        if let Some(task) = self.store.finish(key) {
            let mut error = TaskError::new(TaskErrorKind::Failed, task.number, "");
            error.attempt = task.attempts;
            error.worker = Some(slot);
            error.pid = Some(pid);
            error.failure = Some(Box::new(failure));
            self.complete(task.ticket, task.body.len(), Err(Box::new(error)));
        }
    }
}
