//! How processes end: exit statuses, signals, groups, reaping, drops, and the end of the spawner itself.

use std::os::unix::process::ExitStatusExt;

use super::super::process::{Ended, Signal};
use super::*;

#[test]
fn exit_codes_and_signals_are_reported() {
    let mut child = spawn(sh("exit 7")).unwrap();
    wait_exit(&child.process);
    assert!(child.process.has_exited(), "asking twice consumes nothing");
    assert_eq!(child.process.reap().status.unwrap().code(), Some(7));
    assert_eq!(child.process.reap(), Ended::default());

    let mut child = spawn(command("cat", &[])).unwrap();
    child.process.signal_group(Signal::Term);
    wait_exit(&child.process);
    assert_eq!(child.process.reap().status.unwrap().signal(), Some(libc::SIGTERM));
}

#[test]
fn signals_after_the_end_are_harmless() {
    let mut child = spawn(sh("true")).unwrap();
    wait_exit(&child.process);
    child.process.signal_group(Signal::Kill);
    child.process.signal_group(Signal::Kill);
    assert!(child.process.reap().status.unwrap().success());
    child.process.signal_group(Signal::Kill);
    child.process.signal_group(Signal::Term);
}

#[test]
fn a_stopped_child_continues_when_told() {
    let child = spawn(command("cat", &[])).unwrap();
    let stopped =
        || fs::read_to_string(format!("/proc/{}/stat", child.process.pid())).unwrap().contains(") T ");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child.process.pid() as i32).unwrap(),
        rustix::process::Signal::STOP,
    )
    .unwrap();
    eventually("stopped", WATCHDOG, stopped);
    child.process.signal_group(Signal::Cont);
    eventually("continued", WATCHDOG, || !stopped());
}

#[test]
fn group_signals_reach_grandchildren() {
    let child = spawn(sh("sleep 1000 & echo $!; wait")).unwrap();
    let grandchild: u32 = read_line(&child.from_child).parse().unwrap();
    assert!(is_alive(grandchild));
    child.process.signal_group(Signal::Kill);
    eventually("grandchild gone", WATCHDOG, || !is_alive(grandchild));
}

#[test]
fn reaping_kills_what_is_left_of_the_group() {
    let mut child = spawn(sh("sleep 1000 & echo $!")).unwrap();
    let grandchild: u32 = read_line(&child.from_child).parse().unwrap();
    wait_exit(&child.process);
    assert!(is_alive(grandchild));
    assert!(child.process.reap().status.unwrap().success());
    eventually("grandchild gone", WATCHDOG, || !is_alive(grandchild));
}

#[test]
fn dropping_kills_and_reaps_the_whole_group() {
    let child = spawn(sh("trap '' TERM; sleep 1000 & echo $!; wait")).unwrap();
    let (pid, grandchild) = (child.process.pid(), read_line(&child.from_child).parse().unwrap());
    drop(child);
    assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "no zombie");
    eventually("grandchild gone", WATCHDOG, || !is_alive(grandchild));
}

#[test]
fn a_host_that_ignores_sigchld_loses_only_the_status() {
    if !alone(module_path!(), "a_host_that_ignores_sigchld_loses_only_the_status") {
        return;
    }
    set_disposition(libc::SIGCHLD, libc::SIG_IGN);
    let mut child = spawn(sh("sleep 1000 & echo $!; exit 3")).unwrap();
    let grandchild: u32 = read_line(&child.from_child).parse().unwrap();
    wait_exit(&child.process);
    assert_eq!(child.process.reap(), Ended::default());
    if kernel_signals_groups_by_handle() {
        eventually("grandchild gone", WATCHDOG, || !is_alive(grandchild));
    } else {
        rustix::process::kill_process(pid(grandchild), rustix::process::Signal::KILL).unwrap();
    }
    drop(spawn(command("cat", &[])).unwrap());
    spawn(command("/no/such/program", &[])).unwrap_err();
}

#[test]
fn the_last_handle_ends_thread_and_guardian() {
    if !alone(module_path!(), "the_last_handle_ends_thread_and_guardian") {
        return;
    }
    let tasks = || fs::read_dir("/proc/self/task").unwrap().count();
    let (descriptors, threads) = (open_descriptors(), tasks());
    for _ in 0..3 {
        let spawner = Spawner::get().unwrap();
        assert!(spawner.has_guardian());
        let guardian = spawner.guardian_pid().unwrap();
        let child = spawn(command("cat", &[])).unwrap();
        drop(spawner);
        assert!(is_alive(guardian), "the process keeps it");
        assert!(!child.process.has_exited(), "and it the process");
        drop(child);
        assert!(!fs::exists(format!("/proc/{guardian}")).unwrap(), "no zombie");
        assert_eq!(open_descriptors(), descriptors);
        eventually("thread gone", WATCHDOG, || tasks() == threads);
    }
}

#[test]
fn the_last_handle_may_go_on_the_spawner_thread() {
    if !alone(module_path!(), "the_last_handle_may_go_on_the_spawner_thread") {
        return;
    }
    let spawner = Spawner::get().unwrap();
    let guardian = spawner.guardian_pid().unwrap();
    let (release, held) = mpsc::channel::<()>();
    spawner.spawn(command("cat", &[]), move |result| {
        held.recv().unwrap();
        drop(result);
    });
    drop(spawner);
    release.send(()).unwrap();
    eventually("guardian gone", WATCHDOG, || !fs::exists(format!("/proc/{guardian}")).unwrap());
    assert!(spawn(command("true", &[])).is_ok(), "and a new one starts");
}

#[test]
fn a_panicking_reply_ends_neither_the_thread_nor_its_children() {
    let survivor = spawn(command("cat", &[])).unwrap();
    let (sender, receiver) = mpsc::channel();
    Spawner::get().unwrap().spawn(command("cat", &[]), move |child| {
        sender.send(child.unwrap().process.pid()).unwrap();
        panic!("as a careless caller might");
    });
    let dropped = receiver.recv_timeout(WATCHDOG).unwrap();
    drop(spawn(command("true", &[])).unwrap());
    assert!(!is_alive(dropped));
    assert!(!survivor.process.has_exited());
}

#[test]
fn a_killed_guardian_harms_nobody_not_even_with_default_sigpipe() {
    if !alone(module_path!(), "a_killed_guardian_harms_nobody_not_even_with_default_sigpipe") {
        return;
    }
    set_disposition(libc::SIGPIPE, libc::SIG_DFL);
    let spawner = Spawner::get().unwrap();
    let early = spawn(command("cat", &[])).unwrap();
    rustix::process::kill_process(pid(spawner.guardian_pid().unwrap()), rustix::process::Signal::KILL)
        .unwrap();
    eventually("noticed", WATCHDOG, || !spawner.has_guardian());
    let late = spawn(sh("echo works")).unwrap();
    assert_eq!(read_to_end(&late.from_child), "works\n");
    drop((early, late));
}

#[test]
fn a_stopped_guardian_is_dismissed_rather_than_left_with_old_numbers() {
    if !alone(module_path!(), "a_stopped_guardian_is_dismissed_rather_than_left_with_old_numbers") {
        return;
    }
    let spawner = Spawner::get().unwrap();
    let guardian = pid(spawner.guardian_pid().unwrap());
    rustix::process::kill_process(guardian, rustix::process::Signal::STOP).unwrap();
    let deadline = Instant::now() + WATCHDOG;
    while spawner.has_guardian() {
        assert!(Instant::now() < deadline, "the link fills up");
        drop(spawn(command("true", &[])).unwrap());
    }
}

fn pid(number: u32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(number.cast_signed()).unwrap()
}

/// Linux 6.9 or later.
fn kernel_signals_groups_by_handle() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (6, 9)
}
