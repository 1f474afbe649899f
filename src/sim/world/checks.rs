//! What must hold after every step, whatever happened.

use super::World;
use crate::core::outbox::OUTBOX_BYTES_FULL;
use crate::core::slot::{Due, Life};
use crate::core::store::Store;
use crate::core::supervisor::WITHHELD_MAX;

/// What may stand in an outbox that is full: a last task, and refusals.
const OUTBOX_BYTES_MAX: usize = 2 * OUTBOX_BYTES_FULL;

/// With more live tasks than this, they are looked at in every fourth step only.
const LIVE_FEW: usize = 24;

impl World {
    /// What holds at any time.
    pub(super) fn check(&mut self) {
        self.checks = self.checks.wrapping_add(1);
        for slot in 0..self.children.len() {
            self.review(slot);
        }
        let store = &self.core.store;
        let open: usize = self.core.slots.iter().map(|place| place.session.open_count() as usize).sum();
        let (mut leases, mut held) = (0, 0);
        for lease in self.seats.iter().flat_map(|seat| &seat.leases) {
            leases += 1;
            held += if lease.is_ghost { 0 } else { lease.left() as usize };
        }
        assert_eq!(open, leases, "leases inside and outside");
        assert!(self.post.0.is_empty(), "an answer that nobody was to give: {:?}", self.post);
        assert_eq!(
            store.len(),
            store.waiting() + store.pausing() + held,
            "tasks are queued, pausing or with a worker"
        );
        assert_eq!(store.len(), self.live.len(), "each task is in the table or answered");
        for slot in 0..self.children.len() {
            self.check_slot(slot);
        }
        self.check_room();
        if self.live.len() <= LIVE_FEW || self.checks.is_multiple_of(4) {
            self.check_tasks();
            assert_eq!(
                self.core.timers.len(),
                self.core.store.clocks_running(),
                "every timer belongs to a live task"
            );
            assert!(
                self.core.store.lines_len() <= 2 * self.core.store.len() + 256,
                "the queue keeps what has left it"
            );
        }
        self.check_staff();
        if self.core.is_over() {
            assert!(self.all_answered(), "nobody is left, and a task is not answered");
            assert_eq!(self.released, self.admitted, "room in the queue is not given back");
            assert!(self.core.next_deadline().is_none(), "nothing is due in a pool that is over");
        }
    }

    /// Room in the queue is given back once, and all of it.
    fn check_room(&self) {
        let (admitted, released) = (self.admitted, self.released);
        assert_eq!(
            admitted.tasks - released.tasks,
            self.live.len(),
            "room for tasks is given back at their end"
        );
        assert!(released.bytes <= admitted.bytes, "{released:?} of {admitted:?}");
    }

    /// Every task is in the table, in one place, and what it should be.
    fn check_tasks(&self) {
        let (mut seen, mut bytes) = (0, 0);
        for (_, task) in self.core.store.tasks() {
            bytes += task.weight;
            seen += task.left() as usize;
            let number = task.number;
            assert_eq!(task.ticket.number, number, "a task and its ticket");
            assert_eq!(task.ticket.count, task.left(), "tasks and those who wait for them");
            for number in number..number + u64::from(task.left()) {
                assert!(self.live.contains(&number), "task {number} has ended, and is in the table");
                self.check_task(number, task);
            }
        }
        let (tasks, input) = self.core.store.in_runs();
        assert_eq!(seen + tasks, self.live.len(), "each task is in the table once");
        let (admitted, released) = (self.admitted.bytes, self.released.bytes);
        assert_eq!(bytes + input, admitted - released, "what is not given back is in use");
        for task in &self.live {
            self.check_limits(*task);
        }
    }

    /// There are neither more nor fewer workers than there may be.
    fn check_staff(&self) {
        let counted = self.core.slots.iter().filter(|place| place.is_counted()).count();
        let given_up = self.core.slots.iter().filter(|place| place.given_up).count();
        assert!(counted <= self.config.workers_max, "{counted} workers are too many");
        if !self.is_ending && self.core.broken().is_none() {
            assert!(counted + given_up >= self.config.workers, "{counted} workers are too few");
        }
        let successors = self.core.slots.iter().filter(|place| place.successor_of.is_some()).count();
        assert!(
            successors <= counted.max(self.config.workers_max),
            "{successors} replacements for {counted} workers"
        );
    }

    fn check_slot(&self, slot: usize) {
        let place = &self.core.slots[slot];
        let child = self.children[slot].as_ref();
        let seat = &self.seats[slot];
        assert_eq!(place.life == Life::Spawning, self.spawning.contains(&slot), "spawning in slot {slot}");
        match (place.life, child) {
            (Life::Vacant, None) => {
                assert!(matches!(place.deadline, Some((_, Due::Respawn))), "slot {slot} waits for nothing");
            }
            (Life::Retired | Life::Spawning, None) => assert!(place.deadline.is_none()),
            (Life::Running, Some(child)) => {
                assert!(!child.killed && !child.terminated);
                let serves = place.session.is_open() && !place.deaf;
                let stops = matches!(place.deadline, Some((_, Due::Stop)));
                assert_ne!(
                    serves,
                    place.deadline.is_some() && !stops,
                    "slot {slot} serves or must do something in time: {place:?}"
                );
                let is_let_go = place.retiring.is_none() || place.is_busy();
                assert!(is_let_go, "slot {slot} is to go, and has nothing to do");
            }
            (Life::Ending, Some(child)) => {
                assert!(child.killed || place.deadline.is_some(), "slot {slot} may linger for ever");
            }
            (life, child) => panic!("slot {slot} is {life:?} with process {child:?}"),
        }
        assert!(!place.alone || place.session.open_count() == 1, "slot {slot} is alone with {place:?}");
        let tasks: u32 = seat.leases.iter().map(|lease| if lease.is_ghost { 1 } else { lease.left() }).sum();
        assert_eq!(place.open_tasks, tasks, "slot {slot} has as many tasks as its leases are for");
        for lease in seat.leases.iter().filter(|lease| !lease.is_ghost) {
            assert!(
                !self.tasks[lease.task as usize - 1].policy.at_most_once || place.alone,
                "task {} has company in slot {slot}",
                lease.task
            );
        }
        if let Some(key) = &place.paused_for {
            let is_full = self.core.store.peek(*key).is_some_and(|task| {
                task.ticket.waiter.borrow().stream.is_some_and(|stream| stream.buffered >= stream.room)
            });
            assert!(is_full, "nothing is read of slot {slot}, and for nobody");
            assert!(child.is_none_or(|child| child.paused), "slot {slot} is to be left alone");
        }
        assert!(
            child.is_none_or(|child| !child.paused || place.paused_for.is_some()),
            "slot {slot} is read again by nobody"
        );
        let ghost = seat.leases.iter().find(|lease| lease.is_ghost && lease.turn.is_some());
        if let (Some(ghost), Life::Running, None, false) =
            (ghost, place.life, &place.paused_for, place.must_exit())
        {
            assert!(place.stopping.is_some(), "task {} is over, and its worker goes on with it", ghost.task);
        }
        let idle = place.takes_tasks() && place.session.open_count() == 0 && place.credit() > 0;
        let is_withheld = self.core.withheld.is_some_and(|since| self.now < since + WITHHELD_MAX);
        let may_idle = is_withheld && self.core.slots.iter().any(|place| place.is_busy());
        assert!(!idle || self.core.store.waiting() == 0 || may_idle, "slot {slot} is idle while tasks wait");
        assert!(place.outbox.len() < OUTBOX_BYTES_MAX, "too much waits for slot {slot}");
        if let Some(child) = child.filter(|child| child.reads && !child.input_ended) {
            assert!(place.outbox.is_empty(), "bytes for slot {slot} were forgotten");
            assert!(child.said_bye || place.session.open_count() as usize >= child.tasks.len());
        }
    }
}
