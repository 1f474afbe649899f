//! A worker without work makes no wake-up: neither of its threads is ever scheduled.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Worker, test_worker};

/// How long nothing may happen.
const SILENCE: Duration = Duration::from_millis(500);

/// Until when it must have settled.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often each thread of the process has given up its processor, by itself or not.
fn switches(pid: u32) -> Vec<(String, u64)> {
    let mut threads = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let path = thread.unwrap().path();
        let status = fs::read_to_string(path.join("status")).unwrap();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
        let count = counts.map(|line| line.split_whitespace().last().unwrap().parse::<u64>().unwrap()).sum();
        threads.push((path.display().to_string(), count));
    }
    threads.sort();
    threads
}

/// Waits until no thread has run for a while.
fn settles(worker: &Worker) {
    let start = Instant::now();
    let mut before = switches(worker.pid());
    loop {
        // Not a wait for something to happen, but the time in which nothing may.
        thread::sleep(SILENCE);
        let now = switches(worker.pid());
        if now == before {
            assert_eq!(now.len(), 2, "the thread that serves, and the monitor: {now:?}");
            return;
        }
        assert!(start.elapsed() < PATIENCE, "it never comes to rest: {before:?}, then {now:?}");
        before = now;
    }
}

#[test]
fn an_idle_worker_never_wakes_up() {
    let mut worker = Worker::ready(test_worker());
    settles(&worker);
    for n in 1..=1000u64 {
        assert_eq!(worker.ask("add", &1).value::<u64>(), n);
    }
    settles(&worker);
    // After a handler that was looked after, too.
    assert_eq!(worker.ask("sleep", &100).value::<u64>(), 100);
    settles(&worker);
    assert_eq!(worker.ask("stream", &0).value::<u64>(), 0);
    worker.finish();
}

#[test]
fn a_handler_that_sleeps_is_left_alone() {
    let mut worker = Worker::ready(test_worker());
    worker.send(1, "hang", &());
    settles(&worker);
    worker.kill();
}
