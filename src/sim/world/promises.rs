//! What was promised to each task and worker, seen from outside the core: who has it, since when, how often, for how long.

use std::time::Duration;

use stokehold_protocol::{Failure, Message};

use super::seat::Lease;
use super::{Delivery, Tag, World};
use crate::core::slot::Life;
use crate::core::store::Task;
use crate::core::{Event, Outcome, Retirement, TaskErrorKind};

/// So much later than its limit a task may be stopped: a worker that is about to exit by itself is given that second.
const EXIT: Duration = Duration::from_secs(1);

/// See `restart`: fruitless lives in a row.
const INTENSITY: usize = 5;
const INTENSITY_PERIOD: Duration = Duration::from_secs(10);

impl World {
    /// A task goes to a worker, or several do in one frame.
    pub(super) fn note_delivery(&mut self, delivery: Delivery, holder: (usize, u32)) {
        let Delivery { task, count, pid, attempt, .. } = delivery;
        let (slot, id) = holder;
        let now = self.now;
        assert!(attempt >= 1);
        for task in delivery.tasks() {
            let known = self.known(task);
            assert!(known.holder.is_none(), "task {task} is with two workers");
            assert!(known.end.is_none(), "task {task} was answered and is handed out again");
            assert!(known.waiter.borrow().is_there, "nobody wants task {task}");
            let once = known.policy.at_most_once;
            assert!(!(once && known.may_have_begun), "task {task} may run twice and must not");
            known.holder = Some(holder);
        }
        assert_eq!(self.children[slot].as_ref().map(|child| child.pid), Some(pid));
        assert!(self.core.slots[slot].paused_for.is_none(), "task {task} goes to a worker that is not read");
        self.note_batch(&delivery);
        delivery.tasks().for_each(|task| self.known(task).was_handed = true);
        let lease = Lease {
            id,
            task,
            count,
            given: 0,
            is_doomed: false,
            is_ghost: false,
            turn: None,
            held_up: Duration::ZERO,
            started: false,
            sign: now,
        };
        self.seats[slot].leases.push(lease);
        self.review(slot);
    }

    /// The parent reads a frame, or what is left of one that is too large. Gives the tasks that are answered by it.
    pub(super) fn note_frame(&mut self, slot: usize, id: u32, body: &[u8], is_whole: bool) -> Vec<u64> {
        let place = &self.core.slots[slot];
        let nothing = Vec::new();
        if place.garbled || place.session.has_ended() || id == 0 {
            return nothing;
        }
        let (now, tells_starts) = (self.now, place.session.tells_starts());
        let Ok(message) = Message::decode(body) else { return nothing };
        let place = &mut self.core.slots[slot];
        let key = place.session.leases().get(id).copied();
        let target = place.stopping.as_ref().filter(|_| place.life == Life::Ending).map(|(key, _)| *key);
        let is_target = target.is_some() && target == key;
        let seat = &mut self.seats[slot];
        let Some(index) = seat.leases.iter().position(|lease| lease.id == id) else { return nothing };
        match message.request {
            "FINISHED" | "FAILED" => {
                let lease = seat.leases.remove(index);
                seat.is_excused |= is_target;
                return match (lease.is_ghost, lease.is_batch()) {
                    (true, _) => nothing,
                    (false, true) => self.note_end_of_batch(lease, &message, is_whole),
                    (false, false) => self.note_end_of_attempt(lease, &message, is_whole),
                };
            }
            "ITEM" if !is_whole => seat.leases[index].is_doomed = true,
            "ITEM" if seat.leases[index].is_batch() && !seat.leases[index].is_doomed => {
                let mut lease = seat.leases[index];
                let answered = self.note_results(&mut lease, message.data);
                self.batches.parts += 1;
                self.seats[slot].leases[index] = lease;
                return answered;
            }
            "STARTED" if tells_starts => seat.leases[index].started = true,
            "PROGRESS" | "ITEM" => seat.leases[index].sign = now,
            _ => {}
        }
        nothing
    }

    /// The final answer to one task is read. Gives the task if that is an answer.
    fn note_end_of_attempt(&mut self, lease: Lease, message: &Message<'_>, is_whole: bool) -> Vec<u64> {
        let inside = self.key(lease.task).and_then(|key| self.core.store.peek(key));
        let lost_items = inside.is_some_and(Task::lost_items) || lease.is_doomed;
        let known = self.known(lease.task);
        known.holder = None;
        let is_answer = message.request == "FINISHED" && !lost_items && is_whole;
        // An answer that is not the whole one counts as a failure.
        let had_begun = match message.request {
            "FAILED" if is_whole && !lease.is_doomed => Failure::decode(message.data).begun != Some(false),
            _ => true,
        };
        known.lives += u32::from(!is_answer && had_begun);
        if is_answer { vec![lease.task] } else { Vec::new() }
    }

    /// A task has ended.
    pub(super) fn note_end(&mut self, task: u64, outcome: Outcome) {
        let holder = self.known(task).holder.take();
        if let Some((slot, id)) = holder {
            self.note_ghost(slot, id, &outcome);
        }
        let keeps = self.config.keeps_dead_letters;
        let buried = self.buried.contains(&task);
        let known = self.known(task);
        let mut is_deadly = false;
        match &outcome {
            Ok(answered) => {
                assert_eq!(answered.data.decode::<String>().unwrap(), task.to_string());
                let Some((pid, _, items)) = known.answered_by else {
                    panic!("task {task} was never answered")
                };
                assert_eq!(answered.origin.pid, pid, "an answer of an earlier attempt counts");
                if let Some(stream) = known.waiter.borrow().stream {
                    assert_eq!(
                        stream.came, items,
                        "results of task {task} are missing, and its end says nothing of it"
                    );
                }
            }
            Err(error) => {
                let kind = error.kind();
                assert_eq!(error.task(), task);
                is_deadly = matches!(kind, TaskErrorKind::Dead | TaskErrorKind::Lost);
                let is_for_burial = match kind {
                    TaskErrorKind::Dead | TaskErrorKind::Lost | TaskErrorKind::TimedOut { .. } => true,
                    TaskErrorKind::Failed => error.attempts().len() > 1,
                    _ => false,
                };
                assert_eq!(keeps && is_for_burial, buried, "task {task} and the dead letters: {error:?}");
                assert!(kind != TaskErrorKind::Lost || known.policy.at_most_once);
            }
        }
        assert!(known.end.replace(outcome).is_none(), "task {task} has two ends");
        self.live.remove(&task);
        if is_deadly {
            self.forgive();
        }
    }

    /// A task ended while a worker has it. That is for those only that no worker is doing.
    fn note_ghost(&mut self, slot: usize, id: u32, outcome: &Outcome) {
        let is_paused = self.core.slots[slot].paused_for.is_some();
        let seat = &mut self.seats[slot];
        let lease = seat.leases.iter_mut().find(|lease| lease.id == id).expect("a lease of its holder");
        let kind = outcome.as_ref().err().map(|error| error.kind());
        assert!(
            matches!(kind, Some(TaskErrorKind::Cancelled { .. } | TaskErrorKind::TimedOut { .. }))
                && (lease.turn.is_none() || is_paused),
            "task {} ended while a worker has it: {outcome:?}",
            lease.task
        );
        lease.is_ghost = true;
    }

    /// A worker dies, with the last `unread` bytes written to it still in its pipe.
    pub(super) fn note_death(&mut self, slot: usize, unread: u64) {
        let child = self.children[slot].as_ref().expect("a process that can exit");
        let place = &self.core.slots[slot];
        let target = place
            .stopping
            .as_ref()
            .filter(|_| place.fault.is_some() && child.terminated)
            .map(|(key, _)| *key);
        if place.finished > 0 && target.is_none() {
            self.seats[slot].fruitless.clear();
        } else if place.was_ready && target.is_none() {
            self.seats[slot].fruitless.push(self.now);
        }
        let number = target.and_then(|key| self.core.store.peek(key)).map(|task| task.number);
        let is_held = |number: &u64| {
            self.seats[slot].leases.iter().any(|lease| lease.task == *number && !lease.is_ghost)
        };
        // It may be ended for a task that has ended, or was answered since.
        let is_for_ghost = target.is_some() && !number.is_some_and(|number| is_held(&number));
        let target = number.filter(is_held);
        let leases = std::mem::take(&mut self.seats[slot].leases);
        self.seats[slot].is_excused = false;
        self.seats[slot].paused_since = None;
        for task in leases.iter().filter(|lease| !lease.is_ghost).flat_map(Lease::open) {
            self.known(task).holder = None;
        }
        self.batches.deaths += usize::from(leases.iter().any(Lease::is_batch));
        let child = self.children[slot].as_ref().expect("a process that can exit");
        if self.core.slots[slot].session.has_ended() {
            // Of what it had not answered at BYE it had begun nothing. Its time may have been over all the same.
            if let Some(target) = target {
                self.known(target).lives += 1;
            }
            return;
        }
        // The last one did not reach it after all if bytes are left. After its BYE it reads what comes and does nothing with it.
        let has_read = match child.said_bye && child.reads {
            true => u32::MAX,
            false => child.has_read.saturating_sub(u32::from(unread > 0)),
        };
        let place = &self.core.slots[slot];
        let (serial, tells_starts, is_alone) =
            (place.session.child().serial, place.session.tells_starts(), place.alone);
        let suspects: Vec<Lease> = leases
            .iter()
            .filter(|lease| lease.id <= has_read && (lease.started || !tells_starts))
            .copied()
            .collect();
        let is_certain = suspects.len() == 1 || is_alone || (serial && !tells_starts);
        let guilty = match target {
            Some(target) => Some(target),
            // Of several tasks in one frame nobody knows which it was; if all were answered, it was none.
            None => suspects
                .first()
                .filter(|lease| is_certain && lease.left() == 1)
                .map(|lease| lease.open().start),
        };
        if let Some(guilty) = guilty.filter(|_| !is_for_ghost) {
            self.known(guilty).lives += 1;
            let is_it = |lease: &&Lease| lease.is_batch() && lease.open().contains(&guilty);
            self.batches.blamed += leases.iter().filter(is_it).count();
        }
        for (index, lease) in suspects.iter().enumerate() {
            let known = self.known(lease.task);
            known.may_have_begun |= index == 0 || !serial || tells_starts;
        }
        for lease in leases.iter().filter(|lease| lease.id <= has_read && unread == 0 && !tells_starts) {
            // One that must not run twice must not even be handed out again once a worker has read it.
            let known = self.known(lease.task);
            known.may_have_begun |= known.policy.at_most_once;
        }
    }

    /// What a dead worker wrote to the end must have been read.
    pub(super) fn check_all_was_read(&self, slot: usize) {
        let Some(child) = &self.children[slot] else { return };
        let place = &self.core.slots[slot];
        if place.garbled || place.session.has_ended() || child.output_closed {
            return;
        }
        let lost = self.seats[slot].leases.iter().find(|lease| {
            let mut given = child.given.iter().filter(|(id, _)| *id == lease.id && !lease.is_doomed);
            child.answered.contains(&lease.id) || given.any(|(_, task)| lease.open().contains(task))
        });
        assert!(lost.is_none(), "an answer that was written to the end is lost: {lost:?}");
    }

    /// The past of all workers is forgotten.
    pub(super) fn forgive(&mut self) {
        for seat in &mut self.seats {
            seat.fruitless.clear();
        }
    }

    /// A process is wanted: there must not have been too many in vain.
    pub(super) fn check_intensity(&self, slot: usize) {
        let lives =
            self.seats[slot].fruitless.iter().filter(|end| self.now - **end <= INTENSITY_PERIOD).count();
        assert!(lives <= INTENSITY, "slot {slot} had {lives} fruitless lives and gets another");
    }

    /// SIGTERM must have a reason.
    pub(super) fn check_reason(&mut self, slot: usize) {
        let place = &mut self.core.slots[slot];
        if self.is_ending || place.session.open_count() == 0 {
            return;
        }
        let target = place.stopping.as_ref().map(|(key, _)| *key);
        let is_held = place.session.leases().iter().any(|(_, key)| Some(*key) == target);
        assert!(
            is_held || self.seats[slot].is_excused,
            "slot {slot} is ended for a task that it does not have any more: {:?}",
            self.core.slots[slot]
        );
    }

    pub(super) fn note_event(&mut self, event: &Event) {
        match event {
            Event::Progress { task, pid, .. } => {
                let known = self.tasks.get(*task as usize - 1).expect("progress of a task that there is");
                let (slot, _) = known.holder.expect("progress of a task that somebody has");
                assert_eq!(self.core.slots[slot].pid, *pid, "task {task} is with another");
            }
            Event::TaskOverdue { task, limit, .. } => {
                let Some((slot, id)) = self.known(*task).holder else {
                    panic!("task {task} is overdue with nobody")
                };
                let now = self.now;
                let lease = self.seats[slot].leases.iter().find(|lease| lease.id == id).expect("a lease");
                let ago = now - lease.sign;
                assert!(ago >= *limit, "task {task} made progress {ago:?} ago and is overdue: {lease:?}");
            }
            Event::WorkerRetired {
                worker,
                why: Retirement::Age | Retirement::Memory | Retirement::Tasks,
                ..
            } => {
                let others = self.core.slots.iter().filter(|place| place.number == *worker);
                let mut others = others.filter(|place| place.retiring.is_none());
                assert!(
                    others.any(|place| place.was_ready && place.life == Life::Running),
                    "worker {worker} leaves before another is ready in its place"
                );
            }
            _ => {}
        }
    }

    /// What follows for the leases of a slot from what was read and written.
    pub(super) fn review(&mut self, slot: usize) {
        let now = self.now;
        let place = &self.core.slots[slot];
        let (in_order, tells) = (place.session.works_in_order(), place.session.tells_starts());
        let is_paused = place.paused_for.is_some();
        let seat = &mut self.seats[slot];
        let since = seat.paused_since;
        seat.paused_since = is_paused.then(|| since.unwrap_or(now));
        let count = seat.leases.len();
        for (index, lease) in seat.leases.iter_mut().enumerate() {
            let has_turn = if tells {
                lease.started || count == 1 || (in_order && index == 0)
            } else {
                !in_order || index == 0
            };
            let is_timed = self.tasks[lease.task as usize - 1].policy.times_attempts();
            if !(has_turn || is_timed && tells) {
                // It says that it works in order now: then it does not do this one.
                lease.turn = None;
            }
            if lease.turn.is_none() && has_turn && !is_paused {
                lease.turn = Some(now);
                lease.sign = lease.sign.max(now);
            }
            if let (Some(since), Some(turn), false) = (since, lease.turn, is_paused) {
                lease.held_up += now.saturating_duration_since(since.max(turn));
            }
        }
        if place.life == Life::Retired {
            seat.fruitless.clear();
        }
    }

    /// No task is later than its limits and the graces allow.
    pub(super) fn check_limits(&self, task: u64) {
        let (cancel, terminate) = (self.config.cancel_grace, self.config.terminate_grace);
        let now = self.now;
        let known = &self.tasks[task as usize - 1];
        let (policy, submitted, holder) = (known.policy, known.submitted, known.holder);
        let Some((slot, id)) = holder else {
            let over = policy.total_limit().is_some_and(|limit| now >= submitted + limit);
            assert!(!over, "task {task} waits beyond its limit");
            return;
        };
        let Some(child) = &self.children[slot] else { return };
        if child.killed {
            return;
        }
        let is_leaving = child.said_bye || child.input_ended || child.output_closed;
        let graces = cancel + if is_leaving { terminate.max(EXIT) } else { terminate };
        let late = policy.total_limit().is_some_and(|limit| now > submitted + limit + graces);
        assert!(
            !late,
            "task {task} took longer than it may in all, and its worker lives: {:?}",
            self.core.slots[slot]
        );
        let is_paused = self.seats[slot].paused_since.is_some();
        let lease =
            self.seats[slot].leases.iter().find(|lease| lease.id == id).expect("a lease of its holder");
        if let (Some(limit), Some(turn), false) = (policy.time_limit(), lease.turn, is_paused) {
            let until = turn + lease.held_up + limit + graces;
            assert!(now <= until, "task {task} took longer than an attempt may, and its worker lives");
        }
    }

    /// What the core believes of a task is what can be seen from outside.
    pub(super) fn check_task(&self, task: u64, inside: &Task<Tag>) {
        let known = &self.tasks[task as usize - 1];
        let (lives, attempts) = (known.lives, known.policy.attempts);
        let held = known.holder.is_some();
        let (used, recorded) =
            (inside.lives_used, inside.extra.as_ref().map_or(0, |extra| extra.attempts.len()));
        assert!(recorded <= 64, "the history of task {task} grows without end");
        assert!(used < attempts, "task {task} has no life left, and lives");
        assert!(
            used <= lives,
            "task {task} lost {used} lives, and should have lost {lives}: {:?}",
            self.events.iter().rev().take(3).collect::<Vec<_>>()
        );
        assert!(
            held || lives < attempts,
            "task {task} lost {lives} of {attempts} lives, and goes on: {:?}",
            self.events.iter().rev().take(3).collect::<Vec<_>>()
        );
    }
}
