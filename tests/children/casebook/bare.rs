//! What a program can do to itself and safe Rust cannot: be without standard streams. Nothing else.
#![expect(
    unsafe_code,
    reason = "the standard streams belong to nobody, so that only raw calls can close them"
)]

use std::os::fd::{FromRawFd, OwnedFd};

/// Closes descriptors 0, 1 and 2, so that the next ones that are opened get these numbers.
pub(crate) fn close_standard_streams() {
    for number in 0..3 {
        // SAFETY: nobody in this process holds them; the standard library names them by number, and bears their absence.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
}
