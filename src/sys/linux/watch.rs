//! Who watches over the groups of this process: the guardian of the moment, and what the next one must be told if it is killed.
//! Starts none itself.

use std::collections::BTreeSet;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::Pid;

use super::guardian::{Duty, Guardian};

/// All that the guardian knows, and the guardian.
///
/// Locked for the time of one message to it: microseconds, and up to a second once if it has stopped reading.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    guardian: Option<Guardian>,
    /// The leaders of groups that are not reaped.
    living: BTreeSet<i32>,
    duties: Vec<Duty>,
}

impl Watch {
    pub(super) fn new(guardian: Option<Guardian>) -> Self {
        Self(Mutex::new(Known { guardian, ..Known::default() }))
    }

    /// Whether there is one and it lives. One system call.
    pub(super) fn has_guardian(&self) -> bool {
        self.known().guardian.as_ref().is_some_and(Guardian::is_there)
    }

    /// Where a child registers itself. Good until [`replace`](Self::replace), which only the spawner thread calls.
    pub(super) fn link(&self) -> Option<RawFd> {
        self.known().guardian.as_ref().map(Guardian::link)
    }

    /// A guardian for one that is gone: it learns of everything that lives now.
    pub(super) fn replace(&self, guardian: Guardian) {
        let old = {
            let mut known = self.known();
            for duty in &known.duties {
                guardian.take_on(duty);
            }
            for group in known.living.iter().filter_map(|&raw| Pid::from_raw(raw)) {
                guardian.register_late(group);
            }
            known.guardian.replace(guardian)
        };
        // Its drop waits for its end, and nobody should wait for that.
        drop(old);
    }

    /// A group that exists now; `registered` if its leader has told the guardian itself.
    pub(super) fn add(&self, group: Pid, registered: bool) {
        let mut known = self.known();
        known.living.insert(group.as_raw_pid());
        if let Some(guardian) = known.guardian.as_ref().filter(|_| !registered) {
            guardian.register_late(group);
        }
    }

    /// To be called before the leader is reaped.
    pub(super) fn remove(&self, group: Pid) {
        let mut known = self.known();
        known.living.remove(&group.as_raw_pid());
        if let Some(guardian) = &known.guardian {
            guardian.unregister(group);
        }
    }

    /// Whether it leads a group that is not reaped.
    pub(super) fn is_leader(&self, pid: Pid) -> bool {
        self.known().living.contains(&pid.as_raw_pid())
    }

    /// What a guardian is to do besides killing groups, should this process die.
    pub(super) fn take_on(&self, duty: Duty) {
        let mut known = self.known();
        if let Some(guardian) = &known.guardian {
            guardian.take_on(&duty);
        }
        known.duties.push(duty);
    }

    #[cfg(test)]
    pub(super) fn guardian_pid(&self) -> Option<Pid> {
        self.known().guardian.as_ref().map(Guardian::pid)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
