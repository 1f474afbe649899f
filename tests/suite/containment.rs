//! Who is left when a worker, its pool or its parent ends, at each level of containment: of a worker that has started a program
//! and one in a session of its own. The parent is a process of its own. A level that this machine cannot give is left out, and
//! said so; that it is an error of its own type is tested where it can be brought about.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use stokehold_tests::{Arena, eventually, is_alive, kill, within};

use crate::child;
use crate::performer::Aide;
use crate::stage::{MOMENT, PATIENCE};

/// The promise: nobody is left after this.
const SOON: Duration = Duration::from_secs(2);
/// The same, on a machine that runs many tests at a time.
const ALL_GONE: Duration = Duration::from_secs(4);

/// Somebody who may do nothing.
const NOBODY: u32 = 65_534;

/// A level, and how many of the family of two a worker's end leaves alive.
const LEVELS: [(&str, usize); 4] = [("group", 1), ("subreaper", 0), ("cgroup", 0), ("namespace", 0)];

/// What the worker has started and is alive.
fn family(arena: &Arena) -> Vec<u32> {
    let is_sleep =
        |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    arena.survivors().into_iter().filter(is_sleep).collect()
}

/// A keeper whose worker has its family, and that worker's process id. `None`, and said so, where the machine lacks the level.
fn keeper(arena: &Arena, level: &str) -> Option<(Aide, u32)> {
    let mut keeper = Aide::start(arena, None, child!("keeper"), &[level, child!("performer")]);
    match keeper.next("worker") {
        Ok(pid) => {
            assert!(eventually(MOMENT, || family(arena).len() == 2), "{level}: {:?}", family(arena));
            Some((keeper, pid.parse().unwrap()))
        }
        Err(why) => {
            assert!(why.starts_with("missing="), "{level}: {why}");
            eprintln!("not tested here: {level}, {why}");
            None
        }
    }
}

/// So many of the family are left, and nobody for ever: those that a level lets go are ended here.
fn assert_left(arena: &Arena, level: &str, count: usize, begun: &str) {
    assert!(eventually(ALL_GONE, || family(arena).len() <= count), "{level}, {begun}: {:?}", family(arena));
    let left = family(arena);
    assert_eq!(left.len(), count, "{level}, {begun}");
    left.into_iter().for_each(kill);
}

#[test]
fn a_worker_that_dies_takes_its_family_with_it() {
    within(PATIENCE, || {
        for (level, left) in LEVELS {
            let arena = Arena::new();
            let Some((_keeper, worker)) = keeper(&arena, level) else { continue };
            kill(worker);
            assert_left(&arena, level, left, "its worker was killed");
        }
    });
}

#[test]
fn a_pool_that_ends_takes_the_families_of_its_workers_with_it() {
    within(PATIENCE, || {
        for (level, left) in LEVELS {
            let arena = Arena::new();
            let Some((mut keeper, worker)) = keeper(&arena, level) else { continue };
            keeper.close_input();
            assert_eq!(keeper.next("complete").as_deref(), Ok("true"), "{level}");
            // Its parent lives on, and has waited for all of this.
            assert!(!is_alive(worker), "{level}");
            assert_left(&arena, level, left, "its pool was shut down");
        }
    });
}

#[test]
fn a_parent_that_is_killed_takes_everybody_with_it() {
    within(PATIENCE, || {
        for (level, left) in LEVELS {
            let arena = Arena::new();
            let Some((mut keeper, worker)) = keeper(&arena, level) else { continue };
            keeper.kill();
            assert!(eventually(SOON, || !is_alive(worker)), "{level}: the worker lives on");
            assert_left(&arena, level, left, "its parent was killed");
        }
    });
}

/// What a keeper says that is nobody, or has less; `None` if that cannot be brought about here.
fn refusal(mut keeper: Aide) -> Option<(String, String)> {
    let same = keeper.next("is_the_level_asked_for").ok()?;
    Some((same, keeper.next("missing").unwrap()))
}

#[test]
fn control_groups_that_a_user_may_not_make_are_an_error_and_never_a_lower_level() {
    within(PATIENCE, || {
        if !rustix::process::geteuid().is_root() {
            eprintln!("not tested here: only root can be somebody else");
            return;
        }
        let arena = Arena::new();
        let keeper = Aide::start(&arena, Some(NOBODY), child!("keeper"), &["cgroup", child!("performer")]);
        let Some((same, reason)) = refusal(keeper) else {
            panic!("nobody may make control groups, or cannot start")
        };
        assert_eq!(same, "true");
        assert!(reason.contains("cgroup") || reason.contains("control group"), "{reason}");
        assert!(family(&arena).is_empty());
    });
}

#[test]
fn namespaces_that_are_used_up_are_an_error_and_never_a_lower_level() {
    within(PATIENCE, || {
        let arena = Arena::new();
        // The limit is that of the user namespace it is written in, and what is made inside it.
        let script = "echo 0 > /proc/sys/user/max_pid_namespaces && exec \"$0\" \"$@\"";
        let arguments = ["--user", "--map-root-user", "sh", "-c", script];
        let probe = Command::new("unshare").args(arguments).arg("true").stderr(Stdio::null()).status();
        if !probe.is_ok_and(|status| status.success()) || !Path::new(child!("keeper")).exists() {
            eprintln!("not tested here: namespaces cannot be limited");
            return;
        }
        let mut all = arguments.to_vec();
        all.extend([child!("keeper"), "namespace", child!("performer")]);
        let Some((same, reason)) = refusal(Aide::start(&arena, None, "unshare", &all)) else {
            panic!("a namespace too many was made");
        };
        assert_eq!(same, "true");
        assert!(!reason.is_empty() && family(&arena).is_empty(), "{reason}");
        eprintln!("{reason}");
    });
}
