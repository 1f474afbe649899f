//! Whether this machine can hold workers at a level of containment: tries it, on groups that are removed again and children
//! that only exit. Starts no program and keeps nothing but what it found.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::getpid;

use super::cgroup::{RunGroup, Site};
use super::containment::{Containment, ContainmentError};
use super::enclosure::Enclosure;
use super::failure::SpawnStage;
use super::hierarchy::Hierarchy;
use super::launch::{ChildStack, Plan, launch};
use super::leader::Leader;
use super::namespace::{Mode as NamespaceMode, UserMaps};
use super::subreaper;

/// Tries whether workers can be held at this level, by really doing it: with a control group made and removed, or a process
/// in a namespace that exits at once. Costs up to some milliseconds, and nothing once it has succeeded.
///
/// # Errors
/// [`ContainmentError`]; not remembered, so that a machine that was put right is asked again.
pub(crate) fn check_containment(level: Containment) -> Result<(), ContainmentError> {
    let tried = match level {
        Containment::Group => Ok(()),
        Containment::Subreaper => once(&SUBREAPER, subreaper::try_out).map(drop),
        Containment::Cgroup => cgroup_site().map(drop),
        Containment::PidNamespace => namespace_mode().map(drop),
    };
    tried.map_err(|reason| ContainmentError { level, reason })
}

/// Where control groups can be made.
pub(super) fn cgroup_site() -> Result<&'static Site, String> {
    once(&CGROUP, try_out_cgroup)
}

/// How namespaces can be made.
pub(super) fn namespace_mode() -> Result<NamespaceMode, String> {
    once(&NAMESPACE, try_out_namespace).copied()
}

fn once<T>(known: &'static OnceLock<T>, find: fn() -> Result<T, String>) -> Result<&'static T, String> {
    match known.get() {
        Some(value) => Ok(value),
        None => find().map(|value| known.get_or_init(|| value)),
    }
}

/// Finds the site, and tries everything on a group that is removed again.
fn try_out_cgroup() -> Result<Site, String> {
    let text =
        fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("/proc/self/cgroup: {error}"))?;
    let own = Hierarchy::Unified.group_in(&text).ok_or("the kernel has no control groups of version 2")?;
    let directory = Hierarchy::Unified
        .directory(own)
        .ok_or_else(|| format!("no mounted cgroup2 file system shows the group of this process, {own:?}"))?;
    // The guardian is told of it in one line.
    if directory.as_os_str().as_bytes().contains(&b'\n') {
        return Err(format!("the group of this process has a newline in its name: {directory:?}"));
    }
    let site = Site(directory);
    let in_words = |what: &str, error: &dyn std::fmt::Display| {
        format!(
            "{what} below {:?}: {error}; run in a group of this user's own (systemd: Delegate=yes)",
            site.0
        )
    };
    let mut run = RunGroup::at(&site).map_err(|error| in_words("no group can be made", &error))?;
    let worker = run.worker().map_err(|error| in_words("no worker's group can be made", &error))?;
    try_out_enclosure(&Enclosure::Cgroup(worker.entrance()))
        .map_err(|error| in_words("no process can enter a group", &error))?;
    worker
        .kill()
        .map_err(|error| in_words("cgroup.kill cannot be used (Linux 5.14 or later has it)", &error))?;
    drop((worker, run));
    Ok(site)
}

/// Tries both, on a process that exits at once.
fn try_out_namespace() -> Result<NamespaceMode, String> {
    let alone = match try_out_enclosure(&Enclosure::PidNamespace(None)) {
        Ok(()) => return Ok(NamespaceMode::Privileged),
        Err(error) => error,
    };
    match try_out_enclosure(&Enclosure::PidNamespace(Some(UserMaps::identity()))) {
        Ok(()) => Ok(NamespaceMode::WithUser),
        Err(error) => Err(format!(
            "clone(CLONE_NEWPID): {alone}; with a user namespace: {error}; either run with CAP_SYS_ADMIN, or allow \
             user namespaces (user.max_user_namespaces, kernel.unprivileged_userns_clone, AppArmor, seccomp)"
        )),
    }
}

/// Makes a child, encloses it, and lets it exit. On the calling thread, which stands still for a fraction of a millisecond.
///
/// # Errors
/// What refused: the clone, or a step of the child.
fn try_out_enclosure(enclosure: &Enclosure) -> io::Result<()> {
    let plan = Plan {
        path: None,
        argv: ptr::null(),
        envp: ptr::null(),
        cwd: None,
        descriptors: &[],
        close_from: 0,
        die_with: Some(getpid()),
        guardian: None,
        enclosure: *enclosure,
    };
    let launched = launch(&mut ChildStack::new()?, &plan)?;
    let child = Leader::new(launched.pid, launched.pidfd);
    child.wait_exited(PATIENCE);
    child.reap();
    match launched.failure {
        None => Ok(()),
        Some((SpawnStage::ParentDeath, _)) => Err(io::Error::other("/proc shows another PID namespace")),
        Some((_, errno)) => Err(errno.into()),
    }
}

static SUBREAPER: OnceLock<()> = OnceLock::new();
static CGROUP: OnceLock<Site> = OnceLock::new();
static NAMESPACE: OnceLock<NamespaceMode> = OnceLock::new();

/// It exits at once; this is for a machine that swaps.
const PATIENCE: Duration = Duration::from_secs(2);
