//! What is put around one child on its way from clone to `execve`. Chooses nothing and cleans nothing up.
#![expect(unsafe_code, reason = "the child writes to a descriptor that it knows by number only")]

use std::ffi::c_int;
use std::io;
use std::os::fd::RawFd;

use rustix::io::Errno;
use rustix::process::{Pid, getpid, getppid};

use super::namespace::{UserMaps, seen_from_outside};

/// Apart from the process group, which every child leads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Enclosure {
    /// Nothing more.
    None,
    /// A control group, by its `cgroup.procs`.
    Cgroup(RawFd),
    /// A PID namespace, with a user namespace if there are maps for one.
    PidNamespace(Option<UserMaps>),
}

/// A child and its parent by the numbers that the parent and the guardian know them by. `None`: they have none there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub(super) own: Option<Pid>,
    pub(super) parent: Option<Pid>,
}

impl Enclosure {
    pub(super) const fn clone_flags(&self) -> c_int {
        match self {
            Self::None | Self::Cgroup(_) => 0,
            Self::PidNamespace(None) => libc::CLONE_NEWPID,
            Self::PidNamespace(Some(_)) => libc::CLONE_NEWPID | libc::CLONE_NEWUSER,
        }
    }

    /// In the child, as its first act: system calls only.
    pub(super) fn enter(&self) -> Result<(), Errno> {
        match self {
            Self::None | Self::PidNamespace(None) => Ok(()),
            Self::Cgroup(entrance) => enter_cgroup(*entrance),
            Self::PidNamespace(Some(maps)) => maps.write(),
        }
    }

    /// In the child: system calls only.
    pub(super) fn numbers(&self) -> Result<Numbers, Errno> {
        if let Self::PidNamespace(_) = self {
            let (own, parent) = seen_from_outside().ok_or(Errno::NOENT)?;
            return Ok(Numbers { own: Some(own), parent: Some(parent) });
        }
        // No parent: the host has put all its children into another namespace, where our number is not the outside's.
        let parent = getppid();
        Ok(Numbers { own: parent.map(|_| getpid()), parent })
    }
}

/// `0` is whoever writes it.
fn enter_cgroup(entrance: RawFd) -> Result<(), Errno> {
    // SAFETY: one byte of a constant; a wrong descriptor is answered with an error.
    let written = unsafe { libc::write(entrance, b"0".as_ptr().cast(), 1) };
    if written == 1 {
        return Ok(());
    }
    Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}
