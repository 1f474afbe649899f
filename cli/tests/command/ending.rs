//! How runs end: readers that leave, signals, workers that die, process 1. Nothing is left behind, ever.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;
use std::thread;

use rustix::process::Signal;

use crate::support::{Dir, HELLO_AND_READY, Run, Running, STOKEHOLD, is_ignored, kill, until, within};

fn echo(options: &[&str]) -> Run {
    Run::new([&["run"], options, &["--", STOKEHOLD, "echo-worker"]].concat())
}

#[test]
fn a_reader_that_leaves_ends_the_run_quietly() {
    within(|| {
        let mut running = echo(&["--raw", "-j", "2"]).start();
        let mut stdin = running.stdin.take().unwrap();
        let feeder = thread::spawn(move || while stdin.write_all(b"y\n").is_ok() {});
        assert_eq!((running.line(), running.line()), ("y\n".to_owned(), "y\n".to_owned()));
        drop(running.stdout.take());
        let finished = running.finish().expect_code(0);
        assert_eq!(finished.stderr, "");
        feeder.join().unwrap();
    });
}

#[test]
fn killed_workers_change_nothing_in_the_output() {
    within(|| {
        let mut running = echo(&["--raw", "-j", "2", "-v", "--attempts", "20"]).start();
        let mut stdin = running.stdin.take().unwrap();
        let mut stdout = running.stdout.take().unwrap();
        let (go_on, kills_done) = std::sync::mpsc::channel::<()>();
        let feeder = thread::spawn(move || {
            let mut number = 0_u32;
            let mut line = || {
                number += 1;
                writeln!(stdin, "{number}").is_ok()
            };
            // Some while the workers are killed, and some after it.
            while kills_done.try_recv().is_err() && line() {}
            for _ in 0..20_000 {
                line();
            }
            number
        });
        let reader = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        // Each is killed once it is ready. One that never gets ready says something about the program, and a few of those
        // end the run.
        for nth in 0..5 {
            let mut ready = Vec::new();
            until("another worker is ready", || {
                ready = ready_workers(&running.stderr_so_far());
                ready.len() > nth
            });
            kill(ready[nth], Signal::KILL);
        }
        go_on.send(()).unwrap();
        let count = feeder.join().unwrap();
        let finished = running.finish().expect_code(0);
        let text = reader.join().unwrap();
        let expected: String = (1..=count).map(|number| format!("{number}\n")).collect();
        let differs = text.lines().zip(expected.lines()).find(|(line, expected)| line != expected);
        assert!(
            text == expected,
            "{} instead of {} bytes, first {differs:?}: {}",
            text.len(),
            expected.len(),
            finished.stderr
        );
        assert!(finished.stderr.contains("was killed by SIGKILL"), "{}", finished.stderr);
    });
}

/// The process ids of workers, in the order in which they were told to be ready.
fn ready_workers(stderr: &str) -> Vec<u32> {
    let lines = stderr.lines().filter_map(|line| line.strip_suffix(") is ready"));
    lines.filter_map(|line| line.rsplit_once("(pid ")?.1.parse().ok()).collect()
}

/// A run that has answered something and waits for more input.
fn waiting_run() -> Running {
    let mut running = echo(&["--raw", "-j", "2"]).start();
    running.write("a\n");
    assert_eq!(running.line(), "a\n");
    running
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    if is_ignored(Signal::INT) {
        eprintln!("skipped: SIGINT is ignored here, and an ignored signal stays ignored");
        return;
    }
    within(|| {
        let running = waiting_run();
        running.signal(Signal::INT);
        running.finish().expect_code(130);
    });
}

#[test]
fn sigterm_leaves_nothing_behind_while_results_wait_for_a_reader() {
    within(|| {
        let mut running = waiting_run();
        let mut stdin = running.stdin.take().unwrap();
        // Nobody reads: the command gets stuck in its output, and then the feeder in the command's input.
        let line = format!("{}\n", "x".repeat(1000));
        let feeder = thread::spawn(move || while stdin.write_all(line.as_bytes()).is_ok() {});
        // How much fits depends on how it was written; this much is never read, so that more gets stuck soon.
        until("the output fills", || {
            let pipe = running.stdout.as_ref().unwrap().get_ref();
            rustix::io::ioctl_fionread(pipe).unwrap() >= 32_768
        });
        running.signal(Signal::TERM);
        running.finish().expect_code(143);
        feeder.join().unwrap();
    });
}

#[test]
fn sigterm_while_workers_start_leaves_nothing_behind() {
    within(|| {
        let running = Run::new(["run", "-j", "2", "--", "sh", "-c", "sleep 1000 & sleep 1001"]).start();
        until("the workers run", || running.descendants("sleep 100").len() >= 4);
        running.signal(Signal::TERM);
        running.finish().expect_code(143);
    });
}

#[test]
fn workers_that_never_do_anything_end_the_run_although_input_waits() {
    within(|| {
        let script = format!("printf '{HELLO_AND_READY}'; head -c 200 >/dev/null; exit 7");
        let mut running =
            Run::new(["run", "-j", "1", "--attempts", "100", "--", "sh", "-c", &script]).start();
        running.write(&format!("{}\n", "x".repeat(300)));
        let stdin = running.stdin.take();
        let finished = running.finish().expect_code(3);
        drop(stdin);
        assert!(finished.stderr.contains("the workers cannot be kept alive"), "{}", finished.stderr);
        assert!(finished.stderr.contains("exited with code 7"), "{}", finished.stderr);
        assert!(finished.text().contains("\"code\":\"unavailable\""), "{}", finished.text());
    });
}

#[test]
fn workers_that_break_the_protocol_again_and_again_are_exit_code_4() {
    within(|| {
        let script =
            format!("printf '{HELLO_AND_READY}'; head -c 200 >/dev/null; echo Done.; exec sleep 1000");
        let finished = Run::new(["run", "-j", "1", "--attempts", "100", "--", "sh", "-c", &script])
            .feed(format!("{}\n", "x".repeat(300)))
            .expect_code(4);
        assert!(
            finished.stderr.contains("wrote text where a frame was expected: \"Done."),
            "{}",
            finished.stderr
        );
    });
}

/// Starts the command as process 1 of a new PID namespace; `None`, with the reason printed, where that cannot be had.
fn as_first_process(args: &[&str]) -> Option<Run> {
    let unshare = ["--pid", "--fork", "--kill-child", "--mount-proc", "--"];
    let can = Command::new("unshare").args(unshare).arg("true").output();
    match can {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            eprintln!(
                "skipped: no PID namespace to be had: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            return None;
        }
        Err(error) => {
            eprintln!("skipped: unshare cannot be run: {error}");
            return None;
        }
    }
    Some(Run::of("unshare", [&unshare[..], &[STOKEHOLD], args].concat()))
}

#[test]
fn process_1_reaps_orphans_and_passes_the_exit_code_on() {
    within(|| {
        let dir = Dir::new("init");
        let left = dir.path("orphan-ended");
        // An orphan that ends while the run goes on.
        let script = format!("sh -c '(setsid sh -c \": > {left}\" &)'; exec {STOKEHOLD} echo-worker");
        let Some(run) = as_first_process(&["run", "--raw", "-j", "1", "--", "sh", "-c", &script]) else {
            return;
        };
        let mut running = run.start();
        running.write("a\n");
        assert_eq!(running.line(), "a\n");
        until("the orphan has done its work", || fs::exists(&left).unwrap());
        let first = first_process(&running);
        until("no zombie is left below process 1", || zombies_below(first) == 0);
        drop(running.stdin.take());
        running.finish().expect_code(0);

        let Some(run) = as_first_process(&["run", "--", "/no/such/program"]) else { return };
        run.feed("").expect_code(3);
    });
}

#[test]
fn process_1_hands_signals_on() {
    within(|| {
        let Some(run) = as_first_process(&["run", "--raw", "--", STOKEHOLD, "echo-worker"]) else { return };
        let mut running = run.start();
        running.write("a\n");
        assert_eq!(running.line(), "a\n");
        kill(first_process(&running), Signal::TERM);
        running.finish().expect_code(143);
    });
}

/// The process that is 1 in its own namespace, by the number it has here.
fn first_process(running: &Running) -> u32 {
    let is_first = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        inner.split_whitespace().count() > 1 && inner.split_whitespace().last() == Some("1")
    };
    running.descendants("").into_iter().find(is_first).unwrap()
}

fn zombies_below(parent: u32) -> usize {
    let stats = fs::read_dir("/proc").unwrap().flatten();
    let stats = stats.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let wanted = format!("Z {parent}");
    stats
        .filter(|stat| {
            let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            rest.split(' ').take(2).collect::<Vec<_>>().join(" ") == wanted
        })
        .count()
}
