//! Nothing that a handler does can reach the protocol: printing, grandchildren, reading, signals, panics.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use crate::support::{Worker, example, frame, test_worker};

#[test]
fn printing_in_every_way_ends_on_stderr_and_the_protocol_goes_on() {
    let mut worker = Worker::ready(test_worker());
    for _ in 0..3 {
        worker.ask("print", &"stray").value::<()>();
        assert_eq!(worker.ask("DO", &"fine").value::<String>(), "fine");
    }
    let stderr = worker.finish();
    for text in [
        "init prints for worker Some(3) of run Some(\"a-run\")",
        "stray from println",
        "stray from printf",
        "stray from echo",
    ] {
        assert!(stderr.contains(text), "{text:?} is not in {stderr}");
    }
}

/// The standard three, what `ls` opens, and whatever this process was itself started with.
fn descriptors_of_a_child() -> Vec<String> {
    let output = Command::new("ls").arg("/proc/self/fd").output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_worker_and_its_grandchildren_read_nothing_from_the_parent() {
    let mut worker = Worker::ready(test_worker());
    assert_eq!(worker.ask("grandchild_input", &()).value::<String>(), "");
    assert_eq!(worker.ask("input", &()).value::<String>(), "");
    worker.finish();
}

#[test]
fn a_grandchild_has_the_descriptors_it_would_have_without_the_sdk() {
    let mut worker = Worker::ready(test_worker());
    assert_eq!(worker.ask("grandchild_descriptors", &()).value::<Vec<String>>(), descriptors_of_a_child());
    worker.finish();
}

#[test]
fn the_environment_has_no_variable_of_the_parent_left() {
    let mut command = test_worker();
    command.env("STOKEHOLD_SOMETHING_NEW", "1").env("NOT_STOKEHOLD_", "1");
    let mut worker = Worker::ready(command);
    let (names, is_worker) = worker.ask("environment", &()).value::<(Vec<String>, bool)>();
    assert!(!names.iter().any(|name| name.starts_with("STOKEHOLD_")), "{names:?}");
    assert!(names.iter().any(|name| name == "NOT_STOKEHOLD_") && names.iter().any(|name| name == "PATH"));
    assert!(is_worker, "it is remembered");
    let stderr = worker.finish();
    assert!(!stderr.contains("init sees variables"), "{stderr}");
}

#[test]
fn with_other_threads_running_the_environment_stays_and_stderr_says_so() {
    let mut command = test_worker();
    command.arg("late");
    let mut worker = Worker::ready(command);
    assert_eq!(worker.ask("DO", &1).value::<u8>(), 1);
    let stderr = worker.finish();
    assert!(stderr.contains("start serving before you start threads"), "{stderr}");
}

#[test]
fn a_panic_is_an_answer_with_place_and_backtrace_and_the_worker_lives_on() {
    let mut worker = Worker::ready(test_worker());
    assert_eq!(worker.ask("add", &1).value::<u64>(), 1);
    let failure = worker.ask("panic", &"on purpose").failure();
    assert_eq!(failure.code, "error");
    assert!(
        failure.message.starts_with("panicked at ") && failure.message.contains("worker.rs:"),
        "{}",
        failure.message
    );
    assert!(failure.message.ends_with(": on purpose"), "{}", failure.message);
    assert!(failure.trace.is_some_and(|trace| trace.contains("main")));
    assert_eq!(worker.ask("add", &1).value::<u64>(), 2);
    let stderr = worker.finish();
    assert!(!stderr.contains("on purpose"), "the parent was told; stderr need not be: {stderr}");
}

#[test]
fn a_panic_on_another_thread_goes_to_stderr_as_ever() {
    let mut worker = Worker::ready(test_worker());
    assert_eq!(worker.ask("panic_elsewhere", &"far away").failure().message, "the other thread panicked");
    let stderr = worker.finish();
    assert!(stderr.contains("far away"), "{stderr}");
}

#[test]
fn sigint_does_nothing_to_a_worker_and_is_not_ignored_by_what_it_starts() {
    // A shell starts what it puts into the background so that it ignores SIGINT, and whatever is started inherits that.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    if u64::from_str_radix(ignored.trim(), 16).unwrap() & 0b10 != 0 {
        println!("not tried: these tests were started with SIGINT ignored");
        return;
    }
    let mut worker = Worker::ready(test_worker());
    assert!(worker.ask("interrupt", &()).value::<String>().starts_with("signal: 2"));
    worker.finish();
}

#[test]
fn signals_reach_the_users_thread_and_not_the_one_that_watches() {
    let mut worker = Worker::ready(test_worker());
    // A new thread has its starter's name until it has given itself its own.
    let threads = loop {
        let threads = worker.ask("threads", &()).value::<Vec<(String, String)>>();
        if threads.iter().any(|(name, _)| name == "stokehold-watch") {
            break threads;
        }
    };
    worker.finish();
    assert_eq!(threads.len(), 2, "{threads:?}");
    for (name, blocked) in threads {
        // All but SIGKILL, SIGSTOP and the two that the C library keeps for itself; and none.
        let expected = if name == "stokehold-watch" { "fffffffe7ffbfeff" } else { "0000000000000000" };
        assert_eq!(blocked, expected, "{name}");
    }
}

#[test]
fn stderr_sent_to_the_same_pipe_as_stdout_cannot_corrupt_it() {
    let mut command = Command::new("sh");
    let worker = test_worker();
    command.args(["-c", "exec \"$0\" 2>&1"]).arg(worker.get_program());
    command.envs(worker.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut worker = Worker::ready(command);
    worker.ask("print", &"stray").value::<()>();
    assert_eq!(worker.ask("DO", &"fine").value::<String>(), "fine");
    worker.finish();
}

#[test]
fn descriptors_named_by_the_parent_carry_the_protocol() {
    let (theirs, mut ours) = UnixStream::pair().unwrap();
    // Through a shell, which gives the socket its number: clearing CLOEXEC here would leak it into other tests' workers.
    let mut command = Command::new("sh");
    let worker = test_worker();
    command.args(["-c", "exec \"$0\" 9<&0 </dev/null >/dev/null"]).arg(worker.get_program());
    command.envs(worker.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("STOKEHOLD_IO", "fd:9,9").stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut worker = Worker::start_with(command, ours.try_clone().unwrap());
    worker.expect("HELLO");
    worker.expect("READY");
    ours.write_all(&frame(1, "print", &rmp_serde::to_vec("stray").unwrap())).unwrap();
    worker.expect("FINISHED");
    ours.write_all(&frame(2, "grandchild_descriptors", &[0xc0])).unwrap();
    assert_eq!(worker.expect("FINISHED").value::<Vec<String>>(), descriptors_of_a_child());
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    worker.expect("BYE");
    assert!(worker.receive().is_none());
    let mut rest = Vec::new();
    ours.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
    let (status, stderr) = worker.end();
    assert_eq!(status.code(), Some(0), "{stderr}");
}

#[test]
fn the_echo_example_echoes() {
    let mut worker = Worker::ready(example("echo"));
    assert_eq!(worker.ask("DO", &("text", 1.5)).value::<(String, f64)>(), ("text".to_owned(), 1.5));
    assert_eq!(worker.ask("other", &1).failure().code, "unknown_request");
    worker.finish();
}
