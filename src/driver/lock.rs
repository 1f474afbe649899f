//! Locking without poison. It does not say what is locked.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex whose value is whole also after a panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
