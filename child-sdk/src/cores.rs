//! Which of the machine's cores this thread runs on. It decides nothing.

use std::thread;

use rustix::thread::{sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Whether the parent can run while this process does. Reads what control groups allow: some ten system calls.
pub(crate) fn are_several() -> bool {
    thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
}

/// Moves this thread to another core of those that it may run on, if there is one, and leaves it to the system again. What it
/// may run on is the same after as before.
pub(crate) fn leave_this_one() {
    let Ok(all) = sched_getaffinity(None) else { return };
    let mut others = all;
    others.unset(sched_getcpu());
    // A set that is empty, or no longer allowed, is refused; then it stays where it is.
    if sched_setaffinity(None, &others).is_ok() {
        let _ = sched_setaffinity(None, &all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_a_core_changes_nothing_but_the_core() {
        let before = sched_getaffinity(None).unwrap();
        let (core, several) = (sched_getcpu(), before.count() > 1);
        let mut only = before;
        only.clear();
        only.set(core);
        sched_setaffinity(None, &only).unwrap();
        leave_this_one();
        assert_eq!((sched_getcpu(), sched_getaffinity(None).unwrap()), (core, only), "there is no other");
        sched_setaffinity(None, &before).unwrap();
        leave_this_one();
        assert_eq!(sched_getaffinity(None).unwrap(), before);
        // Where there are several, it may be moved back at once by the system, which no test can exclude.
        assert!(before.is_set(sched_getcpu()) || !several);
    }
}
