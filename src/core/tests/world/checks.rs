//! What must hold after every step, whatever happened.

use super::World;
use crate::core::slot::{Due, Life};
use crate::core::store::Store;

impl World {
    /// What holds at any time.
    pub(super) fn check(&mut self) {
        self.take_deliveries();
        let store = &self.core.store;
        let held: usize = self.core.slots.iter().map(|place| place.session.open_count() as usize).sum();
        assert_eq!(
            store.len(),
            store.waiting() + store.pausing() + held,
            "tasks are queued, pausing or with a worker"
        );
        assert_eq!(
            store.len() as u64 + self.ends.len() as u64,
            self.accepted,
            "each task is in the table or answered"
        );
        assert_eq!(held, self.holders.len(), "leases and holders");
        for slot in 0..self.children.len() {
            self.check_slot(slot);
        }
        if self.core.is_over() {
            assert!(self.all_answered(), "nobody is left, and a task is not answered");
            assert!(self.core.next_deadline().is_none(), "nothing is due in a pool that is over");
        }
    }

    fn check_slot(&self, slot: usize) {
        let place = &self.core.slots[slot];
        let child = self.children[slot].as_ref();
        assert_eq!(place.life == Life::Spawning, self.spawning.contains(&slot), "spawning in slot {slot}");
        match (place.life, child) {
            (Life::Vacant, None) => {
                assert!(matches!(place.deadline, Some((_, Due::Respawn))), "slot {slot} waits for nothing");
            }
            (Life::Retired | Life::Spawning, None) => assert!(place.deadline.is_none()),
            (Life::Running, Some(child)) => {
                assert!(!child.killed && !child.terminated);
                let serves = place.session.is_open() && !place.deaf;
                assert_ne!(
                    serves,
                    place.deadline.is_some(),
                    "slot {slot} serves or must do something in time: {place:?}"
                );
            }
            (Life::Ending, Some(child)) => {
                assert!(child.killed || place.deadline.is_some(), "slot {slot} may linger for ever");
            }
            (life, child) => panic!("slot {slot} is {life:?} with process {child:?}"),
        }
        assert!(!place.alone || place.session.open_count() == 1, "slot {slot} is alone with {place:?}");
        for task in self.holders.iter().filter(|(_, holder)| **holder == slot).map(|(task, _)| task) {
            assert!(
                !self.policies[task].at_most_once || place.alone,
                "task {task} has company in slot {slot}"
            );
        }
        let idle = place.takes_tasks() && place.session.open_count() == 0 && place.credit() > 0;
        assert!(!(idle && self.core.store.waiting() > 0), "slot {slot} is idle while tasks wait");
        if let Some(child) = child.filter(|child| child.reads && !child.input_ended) {
            assert!(place.outbox.pending().is_empty(), "bytes for slot {slot} were forgotten");
            assert!(child.said_bye || place.session.open_count() as usize >= child.tasks.len());
        }
    }
}
