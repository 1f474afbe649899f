//! What workers say, and what follows from it.

use std::time::{Duration, Instant};

use stokehold_protocol::{
    Codec, DataError, Failure, FrameError, LogLine, ParentEvent, PeerError, Progress, code,
};

use super::super::action::{Action, Answer, Answers, Event, Ticket, Value};
use super::super::slot::{Due, Life};
use super::super::store::{Release, Stop, Store, Task};
use super::super::{Attempt, AttemptEnd, Limit, Origin, RetryFailures, TaskErrorKind, TaskKey};
use super::{Phase, Supervisor, is_delivered_enough, later};

/// The longest pause that a worker may ask for before a task is tried again: whoever waits for the answer should learn of
/// a longer one as a failure.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A worker that says PROGRESS while it starts gets so many times the time for READY, and no more.
const READY_TIMES_MAX: u32 = 10;

/// So many requests of a worker's own are refused while it does not read, before it is ended: the refusals are kept here.
const REFUSALS_MAX: u32 = 1_024;

/// A worker may write so many messages in a second that answer nothing (PROGRESS, LOG, unknown ones). More is a worker gone
/// wild, which would keep a core of this machine busy with reading it.
const CHATTER_MAX: u32 = 100_000;

/// Bytes kept of the level of a line for the log.
const LEVEL_BYTES_MAX: usize = 32;

/// So many ends of attempts are kept of a task: the first half and the latest.
const HISTORY_MAX: usize = 64;

/// See [`REFUSALS_MAX`].
const ASKS_UNREAD: &str = "came again and again while the refusals of earlier ones were not read";

impl<T: Ticket> Supervisor<T> {
    /// A worker wrote a frame.
    #[inline]
    pub(crate) fn handle_frame(
        &mut self,
        slot: usize,
        id: u32,
        body: &[u8],
        now: Instant,
        answers: &mut impl Answers<T>,
    ) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        if place.garbled {
            return;
        }
        #[cfg(test)]
        let id = match place.session.leases().oldest() {
            Some((oldest, _)) if self.flaw == Some(super::super::Flaw::TakesAnyAnswer) && id > 1_000_000 => {
                oldest
            }
            _ => id,
        };
        match place.session.handle_frame(id, body) {
            Ok(ParentEvent::Finished { ticket: key, data }) => {
                place.alone = false;
                let is_watched = place.watched > 0 || place.stopping.is_some() || place.paused_for.is_some();
                if is_watched && self.store.get_mut(key).is_some_and(|task| task.lost_items()) {
                    // It was to stop, and is not whole.
                    let failure =
                        Failure::new(code::CANCELLED, "it was stopped, and results of it are missing");
                    self.note_answer(slot, 1);
                    return self.handle_failure(slot, key, failure, now);
                }
                let mut was_watched = true;
                match self.store.get_mut(key) {
                    Some(task) if task.is_batch() => {
                        was_watched = task.watched;
                        self.finish_batch(slot, key, data, now, answers);
                    }
                    Some(task) => {
                        was_watched = task.watched;
                        self.finish_task(slot, key, data, now, answers);
                    }
                    // It ended while it stood there.
                    None => self.note_answer(slot, 1),
                }
                if is_watched {
                    self.after_final(slot, key, was_watched, now);
                }
            }
            Ok(event) => self.handle_event(slot, event, now, answers),
            Err(error) => self.end_garbled(slot, error),
        }
    }

    /// A worker gave the final answer to so many tasks.
    #[inline]
    pub(super) fn note_answer(&mut self, slot: usize, tasks: u32) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.has_answered = true;
        place.streams = false;
        place.fresh_answers += tasks;
        place.finished += u64::from(tasks);
        place.open_tasks = place.open_tasks.saturating_sub(tasks);
    }

    /// The answer to a task, which is given out from its place in the table: every task comes this way, and to move it costs more
    /// than the rest.
    #[inline]
    fn finish_task(
        &mut self,
        slot: usize,
        key: TaskKey,
        data: &[u8],
        now: Instant,
        answers: &mut impl Answers<T>,
    ) {
        self.note_answer(slot, 1);
        let (Some(place), Some(task)) = (self.slots.get_mut(slot), self.store.get_mut(key)) else { return };
        task.stop_clocks(key, &mut self.timers);
        place.open_bytes = place.open_bytes.saturating_sub(task.body.len() as u64);
        let sent = task.sent_at.unwrap_or(now);
        if let Some(source) = task.ticket.source() {
            let (tasks, took) = place.pace.answered(1, sent, now);
            source.learned(tasks, took, self.crowded_until.is_some_and(|until| now < until));
        }
        self.released.tasks += 1;
        self.released.bytes += task.weight;
        let origin = Origin {
            worker: place.number,
            pid: place.pid,
            task: task.number,
            attempt: task.attempts,
            elapsed: now.saturating_duration_since(sent),
        };
        answers.answered(&mut task.ticket, Answer { value: Value::One(data), origin }, &mut task.body);
        self.store.clear(key);
    }

    /// A worker wrote a frame above the limit; `head` is its first bytes.
    pub(crate) fn handle_too_large(&mut self, slot: usize, id: u32, len: u32, head: &[u8], now: Instant) {
        let max_frame = self.config.max_frame;
        let Some(place) = self.slots.get_mut(slot).filter(|place| !place.garbled) else { return };
        match place.session.handle_too_large(id, head) {
            Ok(Some(key)) => {
                place.alone = false;
                let message =
                    format!("the answer's frame has {len} bytes, this pool takes {max_frame} (max_frame)");
                self.note_failure(slot, key);
                self.handle_failure(slot, key, Failure::new(code::TOO_LARGE, message), now);
            }
            Ok(None) => {}
            Err(error) => self.end_garbled(slot, error),
        }
    }

    /// A worker wrote a line whose data cannot be read; `head` is its message without.
    pub(crate) fn handle_bad_data(
        &mut self,
        slot: usize,
        (id, head): (u32, &[u8]),
        error: DataError,
        now: Instant,
        answers: &mut impl Answers<T>,
    ) {
        let Some(place) = self.slots.get_mut(slot).filter(|place| !place.garbled) else { return };
        match place.session.handle_bad_data(id, head, error) {
            Ok(event) => self.handle_event(slot, event, now, answers),
            Err(error) => self.end_garbled(slot, error),
        }
    }

    /// A worker wrote a line that is no message.
    pub(crate) fn handle_bad_line(&mut self, slot: usize, error: PeerError) {
        if self.slots.get(slot).is_some_and(|place| !place.garbled && !place.session.has_ended()) {
            self.end_garbled(slot, error);
        }
    }

    /// A worker writes lines, and is written to in lines.
    pub(crate) fn set_text_mode(&mut self, slot: usize) {
        if let Some(place) = self.slots.get_mut(slot) {
            place.outbox.set_codec(Codec::Json);
        }
    }

    /// A worker's stream is not frames.
    pub(crate) fn handle_frame_error(&mut self, slot: usize, error: FrameError) {
        self.end_garbled(slot, PeerError::Frame(error));
    }

    fn handle_event(
        &mut self,
        slot: usize,
        event: ParentEvent<'_, TaskKey>,
        now: Instant,
        answers: &mut impl Answers<T>,
    ) {
        let ready_timeout = self.config.ready_timeout;
        let Some(place) = self.slots.get_mut(slot) else { return };
        let mut of_task = |id| place.session.leases().get(id).copied();
        match event {
            ParentEvent::Item { id, data } => {
                if let Some(key) = of_task(id) {
                    match self.store.get_mut(key) {
                        Some(task) if task.is_batch() => self.handle_part(slot, key, data, now, answers),
                        _ => self.handle_item(slot, key, data, now),
                    }
                }
                return;
            }
            ParentEvent::Started { id } => {
                let is_news = of_task(id).is_some_and(|key| self.handle_started(slot, key, now));
                if !is_news {
                    self.hear_chatter(slot, now);
                }
                return;
            }
            ParentEvent::Progress { id, data } if id != 0 => {
                if let Some(key) = of_task(id) {
                    self.handle_progress(slot, key, data, now);
                }
                return self.hear_chatter(slot, now);
            }
            ParentEvent::Log { id, data } => {
                let key = of_task(id);
                self.handle_log(slot, key, data);
                return self.hear_chatter(slot, now);
            }
            _ => {}
        }
        match event {
            ParentEvent::Hello { ready } => {
                place.greeted = true;
                if !place.deaf && place.life == Life::Running {
                    place.outbox.append(|out| place.session.hello(out));
                    self.dirty.push(slot);
                }
                if place.is_starting() {
                    place.deadline = Some((later(now, ready_timeout), Due::Ready));
                    place.ready_limit = Some(later(now, ready_timeout.saturating_mul(READY_TIMES_MAX)));
                }
                if ready {
                    self.handle_ready(slot, now);
                }
            }
            ParentEvent::Ready => self.handle_ready(slot, now),
            ParentEvent::Failed { ticket: key, failure } => {
                place.alone = false;
                self.note_failure(slot, key);
                self.handle_failure(slot, key, failure, now);
            }
            ParentEvent::Finished { .. } => {}
            ParentEvent::Bye => self.handle_bye(slot, now),
            ParentEvent::Ask { id } => self.refuse(slot, id),
            ParentEvent::Progress { id: 0, .. } if place.is_starting() => {
                // Signs of life before READY extend its time, each by one period, to a cap (SPEC R-33).
                let at = later(now, ready_timeout);
                place.deadline = Some((place.ready_limit.map_or(at, |limit| at.min(limit)), Due::Ready));
            }
            ParentEvent::Window => {
                // Perhaps it works in order from now on, and did not before.
                if place.session.works_in_order() && !place.session.tells_starts() {
                    self.take_back_turns(slot);
                }
                self.review_turns(slot, now);
                self.hear_chatter(slot, now);
            }
            ParentEvent::Item { .. }
            | ParentEvent::Started { .. }
            | ParentEvent::Progress { .. }
            | ParentEvent::Log { .. }
            | ParentEvent::Pong { .. }
            | ParentEvent::Ignored => self.hear_chatter(slot, now),
        }
    }

    fn handle_ready(&mut self, slot: usize, now: Instant) {
        self.ever_ready = true;
        let Some(place) = self.slots.get_mut(slot) else { return };
        place.was_ready = true;
        place.since = now;
        if place.is_starting() {
            place.deadline = None;
        }
        if place.takes_tasks() {
            let (worker, pid) = (place.number, place.pid);
            self.actions.push(Action::Notice(Event::WorkerReady { worker, pid }));
            self.actions.push(Action::Sample { slot });
            self.take_over(slot, now);
        }
    }

    /// A worker says that it begins a task. Whether that is news.
    fn handle_started(&mut self, slot: usize, key: TaskKey, now: Instant) -> bool {
        let Some(place) = self.slots.get_mut(slot).filter(|place| place.session.tells_starts()) else {
            return false;
        };
        let is_watched = place.watched > 0;
        let ghost = place.ghosts.iter_mut().find(|ghost| ghost.key == key).map(|ghost| &mut ghost.started);
        let started = self.store.get_mut(key).map(|task| &mut task.started).or(ghost);
        let is_news = started.is_some_and(|started| !std::mem::replace(started, true));
        if is_watched {
            self.take_turn(slot, key, now);
        }
        is_news
    }

    fn handle_progress(&mut self, slot: usize, key: TaskKey, data: &[u8], now: Instant) {
        // Of a batch whose results were all given no task is left that could be meant.
        let Some(task) = self.store.get_mut(key).filter(|task| task.left() > 0) else { return };
        let number = task.number;
        self.push_soft_limit(key, now);
        let Some(place) = self.slots.get(slot) else { return };
        let (worker, pid) = (place.number, place.pid);
        let Progress { done, total, note } = Progress::decode(data);
        self.actions.push(Action::Notice(Event::Progress { task: number, worker, pid, done, total, note }));
    }

    fn handle_log(&mut self, slot: usize, key: Option<TaskKey>, data: &[u8]) {
        let task = key.and_then(|key| self.store.get_mut(key)).filter(|task| task.left() > 0);
        let task = task.map(|task| task.number);
        let Some(place) = self.slots.get(slot) else { return };
        let LogLine { mut level, message } = LogLine::decode(data);
        while level.len() > LEVEL_BYTES_MAX {
            level.pop();
        }
        let (worker, pid) = (place.number, place.pid);
        self.actions.push(Action::Notice(Event::Log { worker, pid, task, level, message }));
    }

    /// A worker wrote something that answers nothing. Within reason it may.
    pub(super) fn hear_chatter(&mut self, slot: usize, now: Instant) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let (count, since) = &mut place.chatter;
        if now.saturating_duration_since(*since) >= Duration::from_secs(1) {
            (*count, *since) = (0, now);
        }
        *count += 1;
        if *count > CHATTER_MAX {
            let request = format!("{CHATTER_MAX} messages in a second");
            self.end_garbled(
                slot,
                PeerError::NotAllowed { request, why: "answer nothing: a worker gone wild" },
            );
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
        place.outbox.append(|out| place.session.refuse(id, out));
        self.dirty.push(slot);
    }

    /// A failure is an answer too: the worker did its work.
    fn note_failure(&mut self, slot: usize, key: TaskKey) {
        let tasks = self.store.get_mut(key).map_or(1, |task| task.left());
        self.note_answer(slot, tasks);
    }

    /// A worker says that a task failed, or its answer cannot be taken.
    pub(super) fn handle_failure(&mut self, slot: usize, key: TaskKey, failure: Failure, now: Instant) {
        let mut was_watched = true;
        if let Some(task) = self.store.get_mut(key) {
            was_watched = task.watched;
            let (bytes, task_is_batch) = (task.body.len() as u64, task.is_batch());
            if let Some(place) = self.slots.get_mut(slot) {
                place.open_bytes = place.open_bytes.saturating_sub(bytes);
            }
            match task_is_batch {
                true => self.fail_batch(slot, key, &failure, now),
                false => self.fail(slot, key, failure, now),
            }
        }
        self.after_final(slot, key, was_watched, now);
    }

    pub(super) fn fail(&mut self, slot: usize, key: TaskKey, failure: Failure, now: Instant) {
        let (worker, pid) = self.slots.get(slot).map_or((slot, 0), |place| (place.number, place.pid));
        let Some(task) = self.store.get_mut(key) else { return };
        let begun = failure.begun != Some(false);
        let stop = task.stop();
        let (policy, is_spent) = (task.policy, is_spent(task, begun));
        task.lives_used += u32::from(begun);
        let end = match stop {
            Some(Stop::Late(limit)) => AttemptEnd::TimedOut { limit },
            _ => AttemptEnd::Failed {
                code: failure.code.as_str().into(),
                message: failure.message.as_str().into(),
            },
        };
        let wants_retry = match stop {
            Some(Stop::Cancelled | Stop::Late(Limit::Total | Limit::Stream)) => false,
            Some(Stop::Late(_)) => policy.retries_timeouts || !begun,
            None => match policy.retries_failures {
                RetryFailures::Never => false,
                RetryFailures::WhenAsked => failure.retry,
                RetryFailures::Always => failure.retry || !is_settled_by_input(&failure.code),
            },
        };
        let is_open = matches!(self.phase, Phase::Serving | Phase::Draining(_));
        let retries = wants_retry && !is_spent && is_open;
        // The end of a first and only attempt is the error itself.
        if begun && (retries || task.attempts > 1 || stop.is_some()) {
            record(task, worker, pid, end, now);
        }
        if !retries {
            return self.end_failing(worker, pid, key, stop, begun, failure);
        }
        let lives = task.lives_used;
        let pause = match failure.after_ms {
            Some(asked) => Duration::from_millis(asked).min(PAUSE_MAX),
            None => self.random.up_to(policy.longest_pause(lives.max(1))),
        };
        self.try_again(key, Release::Again, pause, None, now);
        if let Some(task) = self.store.get_mut(key).filter(|_| !begun) {
            task.attempts = task.attempts.saturating_sub(1);
        }
    }

    /// The end of a task whose worker gave it up, by itself or because it was told to.
    fn end_failing(
        &mut self,
        worker: usize,
        pid: u32,
        key: TaskKey,
        stop: Option<Stop>,
        begun: bool,
        failure: Failure,
    ) {
        let Some(task) = self.store.get_mut(key) else { return };
        let may_have_run = begun || task.attempts > 1;
        let kind = stop.map_or(TaskErrorKind::Failed, |stop| stop.kind(may_have_run));
        self.end(key, kind, |error| {
            error.worker = Some(worker);
            error.pid = Some(pid);
            error.failure = Some(Box::new(failure));
        });
    }

    /// The end of a task by a failure of the parent's own making.
    pub(super) fn end_failed(&mut self, worker: usize, pid: u32, key: TaskKey, failure: Failure) {
        self.end_failing(worker, pid, key, None, true, failure);
    }
}

/// Keeps how an attempt ended.
pub(super) fn record<T>(task: &mut Task<T>, worker: usize, pid: u32, end: AttemptEnd, now: Instant) {
    let elapsed = task.sent_at.map_or(Duration::ZERO, |sent| now.saturating_duration_since(sent));
    let number = task.attempts;
    let history = &mut task.extra().attempts;
    if history.len() >= HISTORY_MAX {
        history.remove(HISTORY_MAX / 2);
    }
    history.push(Attempt { number, worker, pid, elapsed, end });
}

/// Whether a task may not be tried again after an attempt that ended now, `begun` or not.
fn is_spent<T>(task: &Task<T>, begun: bool) -> bool {
    task.lives_used + u32::from(begun) >= task.policy.attempts
        || is_delivered_enough(task)
        || (task.policy.at_most_once && begun)
        || (task.gave_items() && !task.policy.restarts_stream)
}

/// Whether a failure of that code comes again with the same input, however often it is tried.
fn is_settled_by_input(code: &str) -> bool {
    [code::UNKNOWN_REQUEST, code::BAD_DATA, code::BAD_MESSAGE, code::TOO_LARGE].contains(&code)
}
