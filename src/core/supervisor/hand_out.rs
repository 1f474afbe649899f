//! Who gets which task: idle workers first, then even shares; suspects, and what must not run twice, alone.

use std::time::{Duration, Instant};

use stokehold_protocol::limits::FRAME_HEADER_BYTES;
use stokehold_protocol::{Codec, Failure, Outgoing, code, text};

use super::super::action::{Action, Event, Ticket};
use super::super::body::Body;
use super::super::slot::Slot;
use super::super::source::Source;
use super::super::store::{BATCH_BYTES, Pull, Release, Store};
use super::super::{Limit, TaskErrorKind, TaskKey};
use super::Supervisor;
#[cfg(test)]
use crate::core::Flaw;

/// Tasks of which so many or more go into one frame are tiny: less than some tens of microseconds each.
const TINY_FROM: usize = 8;

/// So long tiny tasks wait at the most for busy workers while others are idle: a few frames' time.
pub(in crate::core) const WITHHELD_MAX: Duration = Duration::from_micros(500);

/// So long after more workers were busy than there are processors it is not judged how long tasks take.
const CROWDED_FOR: Duration = Duration::from_millis(10);

/// What became of a task that was taken from the queue for a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Handed {
    /// It is with the worker.
    Sent,
    /// It is answered: nobody wants it, or the worker cannot take it.
    Answered,
    /// It is several tasks, and back in the queue as such: the worker takes them one by one only.
    Apart,
    /// It is back in the queue: the worker takes no more.
    Refused,
}

impl<T: Ticket> Supervisor<T> {
    pub(super) fn hand_out(&mut self, now: Instant) {
        let count = self.slots.len();
        self.turn = (self.turn + 1) % count.max(1);
        // Tiny tasks go to those who did some before, whose memory is still in the processor's caches.
        let begin = if self.front_size() as usize >= TINY_FROM { 0 } else { self.turn };
        let mut busy = self.slots.iter().filter(|place| place.is_busy()).count();
        // Those that may be done soon: tiny tasks wait for nobody else.
        let mut quick = self.slots.iter().filter(|place| place.is_busy() && !place.is_held_up(now)).count();
        let withheld = self.withheld.take();
        let is_late = withheld.is_some_and(|since| now >= since + WITHHELD_MAX);
        // First every idle worker, then the rest in even shares: with few tasks nobody waits behind another.
        for only_idle in [true, false] {
            // While suspects wait, nobody's window is filled: every worker becomes idle soon, and takes one.
            if !only_idle && self.store.waiting_alone() > 0 {
                break;
            }
            let only_busy = self.withheld.is_some();
            let takes = |place: &&Slot| {
                place.credit() > 0
                    && if place.is_busy() { !only_idle && !place.is_held_up(now) } else { !only_busy }
            };
            let takers = self.slots.iter().filter(takes).count();
            let share = self.store.waiting().div_ceil(takers.max(1));
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            for offset in 0..count {
                let slot = (begin + offset) % count;
                let Some(place) = self.slots.get(slot).filter(takes) else { continue };
                let credit = place.credit();
                let quota = match only_idle {
                    // One task, or one frame of tiny ones.
                    true => {
                        let size = self.frame_size(slot);
                        if quick > 0 && !is_late && !self.is_worth_another_worker(size, busy) {
                            self.withheld = Some(withheld.unwrap_or(now));
                            break;
                        }
                        credit.min(share.max(size / 2)).min(size)
                    }
                    false if self.is_worth_a_frame(slot, share) => credit.min(share),
                    false => 0,
                };
                if quota > 0 {
                    self.fill(slot, quota, now);
                    busy += usize::from(only_idle);
                    quick += usize::from(only_idle);
                }
                if self.store.waiting() == 0 {
                    break;
                }
            }
        }
        if busy > self.config.cores {
            self.crowded_until = Some(now + CROWDED_FOR);
        }
    }

    /// Whether the tiny tasks that wait are so many that another worker should begin, although some are at it: waking it costs as
    /// much as some of the tasks, and where all processors are busy it only takes turns with the others. They do not wait for long,
    /// because nobody knows whether the others are as quick as before.
    fn is_worth_another_worker(&self, size: u32, busy: usize) -> bool {
        let size = size as usize;
        let enough = if busy < self.config.cores { size / 4 } else { 4 * size };
        size < TINY_FROM || self.store.waiting() >= enough || self.store.waiting_alone() > 0
    }

    /// How many of the tasks that wait go to that worker in one frame.
    fn frame_size(&mut self, slot: usize) -> u32 {
        match self.slots.get(slot) {
            Some(place) if place.takes_batches() => self.front_size(),
            _ => 1,
        }
    }

    /// How many like the first that waits go into one frame.
    fn front_size(&mut self) -> u32 {
        self.store.peek_ticket().and_then(Ticket::source).map_or(1, Source::batch_size)
    }

    /// Whether so many tasks should go to a worker now. Few of many tiny ones had better wait, while it has others to do, until
    /// there are as many as make a frame, or it is done with what it has: each frame costs it, and us, more than they do.
    fn is_worth_a_frame(&mut self, slot: usize, tasks: u32) -> bool {
        let Some(place) = self.slots.get(slot) else { return false };
        let frames = place.session.open_count();
        if frames == 0 || !place.takes_batches() {
            return true;
        }
        let size = self.frame_size(slot);
        // Behind the one that it does there should be another, were it a small one.
        tasks >= if frames == 1 { size.div_ceil(2) } else { size }
    }

    /// Hands up to `quota` tasks to a worker, or one that must be with it alone.
    fn fill(&mut self, slot: usize, quota: u32, now: Instant) {
        let was_idle = self.slots.get(slot).is_some_and(|place| place.session.open_count() == 0);
        let mut sent = 0;
        if was_idle {
            sent = self.give(slot, Pull::Alone, 1, now);
            if let Some(place) = self.slots.get_mut(slot) {
                place.alone = sent > 0;
            }
        }
        if sent == 0 && was_idle {
            // The first frame may be one that must be alone.
            let first = quota.min(self.frame_size(slot));
            sent = self.give(slot, Pull::First, first, now);
        }
        if sent < quota {
            #[cfg(test)]
            let company = if self.has_flaw(Flaw::OnceInCompany) { Pull::First } else { Pull::Company };
            #[cfg(not(test))]
            let company = Pull::Company;
            sent += self.give(slot, company, quota - sent, now);
        }
        if sent > 0
            && let Some(place) = self.slots.get_mut(slot)
        {
            place.window.sent(was_idle, now);
            if was_idle {
                place.since = now;
                place.heard = place.heard.max(now);
            }
            self.dirty.push(slot);
            self.look_at_memory_soon(now);
        }
    }

    /// Hands tasks of one kind to a worker until it has `quota` of them, and tells how many it got. The first has no company yet:
    /// there is one of that kind, or one frame.
    fn give(&mut self, slot: usize, which: Pull, quota: u32, now: Instant) -> u32 {
        let mut sent = 0;
        while sent < quota
            && let Some(place) = self.slots.get(slot).filter(|place| !place.alone && place.takes_frames())
        {
            let mut most = 1;
            if place.takes_batches() && which != Pull::Alone {
                // Two frames in its window at least: it does one while the answer of the other is on its way.
                let half = place.window.size(place.tasks_max()).div_ceil(2);
                most = half.min(quota - sent);
                let size = Source::batch_size;
                #[cfg(test)]
                let size = if self.has_flaw(Flaw::BatchesAnything) { Source::size_of_any } else { size };
                most = most.min(self.store.peek_ticket().and_then(Ticket::source).map_or(1, size));
            }
            let Some(key) = self.store.pull(which, most.max(1), BATCH_BYTES) else { break };
            let tasks = self.store.get_mut(key).map_or(0, |task| task.left());
            match self.hand(slot, key, now) {
                Handed::Sent => {
                    sent += tasks;
                    if which == Pull::First {
                        break;
                    }
                }
                Handed::Answered | Handed::Apart => {}
                Handed::Refused => {
                    let how = if which == Pull::Alone { Release::Alone } else { Release::Again };
                    self.store.release(key, how);
                    break;
                }
            }
        }
        sent
    }

    /// Hands one task to a worker.
    #[inline]
    fn hand(&mut self, slot: usize, key: TaskKey, now: Instant) -> Handed {
        let Some(place) = self.slots.get_mut(slot) else { return Handed::Refused };
        let Some(task) = self.store.get_mut(key) else { return Handed::Answered };
        if !task.ticket.is_wanted() {
            let may_have_run = task.attempts > 0;
            self.end(key, TaskErrorKind::Cancelled { may_have_run }, |_| ());
            return Handed::Answered;
        }
        let takes_it = !task.is_batch() || place.takes_batches();
        #[cfg(test)]
        let takes_it = takes_it || self.flaw == Some(Flaw::BatchesForAnybody);
        if !takes_it {
            self.release_apart(key);
            return Handed::Apart;
        }
        let is_text = place.outbox.codec() == Codec::Json;
        let mut line = Vec::new();
        if is_text || !place.session.fits(task.body.len()) {
            match line_for(place, &task.body) {
                Ok(message) => line = message,
                Err(failure) => {
                    let (worker, pid) = (place.number, place.pid);
                    self.end_failed(worker, pid, key, *failure);
                    return Handed::Answered;
                }
            }
        }
        if !place.has_room(task.body.len()) {
            return Handed::Refused;
        }
        let Ok(id) = place.session.begin(key) else { return Handed::Refused };
        place.alone |= task.policy.at_most_once;
        task.attempts = task.attempts.saturating_add(1);
        task.deliveries = task.deliveries.saturating_add(1);
        task.sent_at = Some(now);
        task.holder = (slot, id);
        task.ticket.delivered(place.number, place.pid, task.attempts);
        if task.gave_items() {
            task.ticket.restarted(task.attempts);
        }
        place.open_tasks += task.left();
        place.open_bytes += task.body.len() as u64;
        // What is the parent's last word: the limit of the attempt, or what is left of all of them, whichever is less.
        let total = task.existing_extra().and_then(|extra| extra.clocks.at(Limit::Total));
        let left = total.map(|at| at.saturating_duration_since(now));
        let limit = task.policy.time_limit().or(task.policy.soft_limit());
        let limit = [limit, left].into_iter().flatten().min();
        let deadline_ms = limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        let key_text = task.policy.tells_key.then(|| format!("{}-{}", self.config.run, task.number));
        let rest = task.body.rest();
        let outgoing = Outgoing {
            body: task.body.bytes(),
            rest_len: rest.map_or(0, |rest| rest.len()),
            attempt: task.attempts,
            deadline_ms,
            key: key_text.as_deref(),
        };
        if is_text {
            (task.frame_start, task.frame_end) = put_line(place, id, &outgoing, &line);
        } else {
            let frame_bytes = (FRAME_HEADER_BYTES + task.body.len()) as u64;
            place.outbox.append(|out| place.session.send(id, outgoing, out));
            if let Some(rest) = rest {
                place.outbox.append_shared(rest.clone());
            }
            task.frame_end = place.outbox.end();
            task.frame_start = task.frame_end - frame_bytes;
        }
        if self.config.task_events {
            let (worker, pid, attempt) = (place.number, place.pid, task.attempts);
            for task in (task.number..).take(task.left() as usize) {
                self.actions.push(Action::Notice(Event::TaskStarted { task, worker, pid, attempt }));
            }
        }
        if task.policy.times_attempts() {
            task.watched = true;
            place.watched += 1;
            if self.has_its_turn(slot, id) {
                self.start_clocks(key, now);
            }
        }
        Handed::Sent
    }
}

/// The message of a task as JSON, if that is what the worker reads; or why the worker cannot take the task.
#[cold]
#[inline(never)]
fn line_for(place: &Slot, body: &Body) -> Result<Vec<u8>, Box<Failure>> {
    let (line, shown) = match place.outbox.codec() {
        Codec::MessagePack => (Vec::new(), None),
        Codec::Json => {
            let line = as_json(body)?;
            let len = line.len();
            (line, Some(len))
        }
    };
    match place.too_large(body, shown) {
        None => Ok(line),
        Some(failure) => Err(Box::new(failure)),
    }
}

fn as_json(body: &Body) -> Result<Vec<u8>, Box<Failure>> {
    let mut message = Vec::new();
    let written = match body.rest() {
        None => text::write_message(&mut message, body.bytes()),
        Some(rest) => text::write_message(&mut message, &[body.bytes(), rest].concat()),
    };
    written.map(|()| message).map_err(|error| {
        let why = format!("the input has no form in text mode, which this worker speaks: {error}");
        Box::new(Failure { begun: Some(false), ..Failure::new(code::BAD_DATA, why) })
    })
}

/// Puts a task's line, and META, where the worker is written to. Gives where the line begins and ends there.
#[cold]
fn put_line(place: &mut Slot, id: u32, outgoing: &Outgoing<'_>, message: &[u8]) -> (u64, u64) {
    place.outbox.append(|out| place.session.announce(id, outgoing, out));
    let start = place.outbox.end();
    place.outbox.append_line(id, message);
    (start, place.outbox.end())
}
