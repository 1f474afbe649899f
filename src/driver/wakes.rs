//! Whom to wake, taken out of the list that they were gathered in. The list is behind a lock, and is to keep its memory; wakers
//! are user's code, and are called with nothing held.

use std::task::Waker;

/// There are seldom more.
const FEW: usize = 4;

/// See the module. Whoever is not woken is forgotten.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    few: [Option<Waker>; FEW],
    /// Those for whom the list has to be given away.
    more: Vec<Waker>,
}

impl Wakes {
    /// Takes all out of `list`.
    #[inline]
    pub(super) fn take(list: &mut Vec<Waker>) -> Self {
        let mut wakes = Self::default();
        if list.len() > FEW {
            wakes.more = std::mem::take(list);
        }
        for (place, waker) in wakes.few.iter_mut().zip(list.drain(..)) {
            *place = Some(waker);
        }
        wakes
    }

    /// Each of them.
    #[inline]
    pub(super) fn into_wakers(self) -> impl Iterator<Item = Waker> {
        self.few.into_iter().flatten().chain(self.more)
    }

    /// Wakes them. No lock may be held.
    #[inline]
    pub(super) fn wake(self) {
        self.into_wakers().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// How often it was woken.
    #[derive(Debug, Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn everybody_is_woken_once_and_the_list_keeps_its_memory_for_a_few() {
        for count in 0..3 * FEW {
            let bell = Arc::new(Bell::default());
            let mut list: Vec<Waker> = (0..count).map(|_| Waker::from(Arc::clone(&bell))).collect();
            let capacity = list.capacity();
            let wakes = Wakes::take(&mut list);
            assert!(list.is_empty());
            assert!(count > FEW || list.capacity() == capacity, "the memory of {count} is gone");
            wakes.wake();
            assert_eq!(bell.0.load(Ordering::SeqCst), count);
        }
    }
}
