//! The addresses of workers (SPEC M-16): the process id, and where the system gave that to an earlier worker, a number that no
//! process has.

/// Above every process id.
const PROCESSES_END: u64 = 1 << 22;

/// Which were given.
#[derive(Debug)]
pub(super) struct Addresses {
    /// A bit for each process id, as far as one was given: half a megabyte at most.
    given: Vec<u64>,
    next: u64,
}

impl Addresses {
    pub(super) fn new() -> Self {
        Self { given: Vec::new(), next: PROCESSES_END }
    }

    /// An address for a worker with that process id.
    pub(super) fn give(&mut self, pid: u32) -> u64 {
        let pid = u64::from(pid);
        let (place, bit) = (usize::try_from(pid / 64).unwrap_or(usize::MAX), 1 << (pid % 64));
        if (1..PROCESSES_END).contains(&pid) {
            if self.given.len() <= place {
                self.given.resize(place.saturating_add(1), 0);
            }
            if let Some(word) = self.given.get_mut(place)
                && *word & bit == 0
            {
                *word |= bit;
                return pid;
            }
        }
        self.next = self.next.saturating_add(1);
        self.next
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_process_id_is_an_address_once() {
        let mut addresses = Addresses::new();
        let last = (1 << 22) - 1;
        for pid in [1, 63, 64, 12_345, last] {
            assert_eq!(addresses.give(pid), u64::from(pid));
        }
        let again: BTreeSet<u64> = [1, 64, 64, last, 0, 0, u32::MAX].map(|pid| addresses.give(pid)).into();
        assert_eq!(again.len(), 7);
        assert!(again.iter().all(|address| *address > 1 << 22), "{again:?}");
        assert_eq!(addresses.give(65), 65);
    }
}
