//! How a worker ends, and what it says with its status.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use stokehold_child::Point;

use crate::support::{Worker, frame, test_worker};

fn with_argument(argument: &str) -> Command {
    let mut command = test_worker();
    command.arg(argument);
    command
}

#[test]
fn the_end_of_input_means_finish_what_came_then_bye() {
    let mut worker = Worker::ready(test_worker());
    for id in 1..=100 {
        worker.send(id, "add", &1);
    }
    worker.close_input();
    for id in 1..=100 {
        assert_eq!(worker.expect("FINISHED").value::<u32>(), id);
    }
    worker.finish();
}

#[test]
fn die_means_the_same_with_the_input_still_open() {
    let mut worker = Worker::ready(test_worker());
    worker.send(1, "add", &1);
    worker.send_bytes(&frame(0, "DIE", &[0xc0]));
    worker.expect("FINISHED");
    worker.expect("BYE");
    assert!(worker.receive().is_none());
    assert_eq!(worker.end().0.code(), Some(0));
}

#[test]
fn die_now_owes_no_bye() {
    let mut worker = Worker::ready(test_worker());
    worker.send_bytes(&frame(0, "DIE", b"\x81\xa3now\xc3"));
    assert!(worker.receive().is_none());
    assert_eq!(worker.end().0.code(), Some(0));
}

#[test]
fn a_vanished_reader_ends_a_worker_in_the_middle_of_a_handler() {
    let mut worker = Worker::ready(test_worker());
    worker.send(1, "add", &1);
    worker.send(2, "hang", &());
    // The answer before it is written before the hanging handler starts.
    worker.expect("FINISHED");
    worker.close_output();
    assert_eq!(worker.end().0.code(), Some(1));
}

#[test]
fn a_vanished_parent_ends_a_worker_under_a_wrapper() {
    let worker = test_worker();
    let mut command = Command::new("sh");
    command.args(["-c", "\"$0\"; exit $?"]).arg(worker.get_program());
    command.envs(worker.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut worker = Worker::ready(command);
    worker.send(1, "hang", &());
    worker.close_input();
    worker.close_output();
    assert_eq!(worker.end().0.code(), Some(1));
}

#[test]
fn a_worker_dies_with_the_parent_that_started_it_directly() {
    let worker = test_worker();
    let mut command = Command::new("sh");
    command.args(["-c", "export STOKEHOLD_PARENT=$$; \"$0\"; exit $?"]).arg(worker.get_program());
    command.envs(worker.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut worker = Worker::ready(command);
    worker.send(1, "add", &1);
    worker.send(2, "hang", &());
    worker.expect("FINISHED");
    worker.kill();
    assert!(
        worker.receive().is_none(),
        "its end of the pipe closes, although input and output are open here"
    );
}

#[test]
fn the_end_of_input_inside_a_frame_is_status_3_with_one_line() {
    let mut worker = Worker::ready(test_worker());
    worker.send(1, "add", &1);
    worker.send_bytes(&[0, 0, 0, 9, 0, 0]);
    worker.expect("FINISHED");
    worker.close_input();
    assert!(worker.receive().is_none());
    let (status, stderr) = worker.end();
    assert_eq!(status.code(), Some(3));
    assert_eq!(stderr.lines().filter(|line| line.contains("inside a frame")).count(), 1, "{stderr}");
}

#[test]
fn text_on_the_input_is_status_4_with_a_quote() {
    let mut worker = Worker::ready(test_worker());
    worker.send_bytes(b"hello there\n");
    assert!(worker.receive().is_none());
    let (status, stderr) = worker.end();
    assert_eq!(status.code(), Some(4));
    assert!(stderr.contains("hello there"), "{stderr}");
}

#[test]
fn a_failing_start_is_status_1_or_125_with_one_line() {
    for (argument, code, words) in [("fail", 1, "no model"), ("fail-for-good", 125, "no licence")] {
        let mut worker = Worker::start(with_argument(argument));
        worker.expect("HELLO");
        assert!(worker.receive().is_none());
        let (status, stderr) = worker.end();
        assert_eq!(status.code(), Some(code));
        assert_eq!(stderr.matches(words).count(), 1, "{stderr}");
    }
}

#[test]
fn an_offer_without_our_version_or_codec_is_status_5_after_telling_the_parent() {
    for (name, value, code, supported) in [
        ("STOKEHOLD_PROTO", "2,3", "version", &b"\x81\xa9supported\x91\x01"[..]),
        ("STOKEHOLD_CODEC", "cbor", "codec", &b"\x81\xa9supported\x92\xa7msgpack\xa4json"[..]),
    ] {
        let mut command = test_worker();
        command.env(name, value);
        let mut worker = Worker::start(command);
        let answer = worker.receive().unwrap();
        assert_eq!(answer.id, 0);
        assert_eq!(answer.failure().code, code);
        assert_eq!(answer.failure().data.unwrap(), supported);
        assert!(worker.receive().is_none());
        assert_eq!(worker.end().0.code(), Some(5));
    }
}

#[test]
fn a_transport_that_cannot_be_used_is_status_2_with_its_name() {
    for (transport, named) in [("fd:200,201", "descriptor 200"), ("unix:/nowhere", "unix:/nowhere")] {
        let mut command = test_worker();
        command.env("STOKEHOLD_IO", transport);
        let mut worker = Worker::start(command);
        assert!(worker.receive().is_none());
        let (status, stderr) = worker.end();
        assert_eq!(status.code(), Some(2));
        assert!(stderr.contains(named), "{stderr}");
    }
}

#[test]
fn started_on_a_terminal_it_says_what_it_is_with_status_2() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let side = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut command = test_worker();
    command.env_remove("STOKEHOLD_IO").stdin(Stdio::from(side)).stdout(Stdio::null());
    let (status, stderr) = Worker::start_with(command, std::io::empty()).end();
    assert_eq!(status.code(), Some(2));
    assert!(stderr.contains("this program is a worker") && stderr.contains("stokehold run -- "), "{stderr}");
}

#[test]
fn without_any_variable_a_pipe_is_enough() {
    let mut command = test_worker();
    for name in ["IO", "PROTO", "CODEC", "WORKER", "RUN", "PARENT"] {
        command.env_remove(format!("STOKEHOLD_{name}"));
    }
    let mut worker = Worker::ready(command);
    assert_eq!(worker.ask("DO", &1).value::<u8>(), 1);
    worker.finish();
}

#[test]
fn a_worker_with_a_probe_can_be_let_die_at_every_point() {
    for point in Point::ALL {
        let mut command = with_argument("probed");
        command.arg(format!("{point:?}"));
        let mut worker = Worker::start(command);
        // It may be dead before it reads any of this.
        let _ = worker.try_send_bytes(&frame(1, "stream", &[1]));
        worker.close_input();
        let mut whole = Vec::new();
        while let Ok(Some(answer)) = worker.try_receive() {
            whole.push(answer.request);
        }
        let (status, stderr) = worker.end();
        assert_eq!(status.signal(), Some(9), "{point:?}: {stderr}");
        assert_eq!(stderr.lines().next(), Some("Start 1"));
        assert!(
            stderr.lines().last().is_some_and(|last| last.starts_with(&format!("{point:?} "))),
            "{stderr}"
        );
        let said = match point {
            Point::Start | Point::BeforeHello => 0,
            Point::AfterHello | Point::BeforeReady => 1,
            Point::AfterReady | Point::BeforeRead | Point::AfterHeader => 2,
            Point::AfterRead | Point::AfterStarted | Point::MidItem => 2,
            Point::AfterHandler | Point::MidFinished => 3,
            Point::AfterFinished | Point::BeforeBye => 4,
            Point::AfterBye => 5,
        };
        assert_eq!(whole, ["HELLO", "READY", "ITEM", "FINISHED", "BYE"][..said], "{point:?}");
    }
}

#[test]
fn serving_twice_is_status_2_with_a_line() {
    let mut worker = Worker::ready(with_argument("twice"));
    worker.close_input();
    worker.expect("BYE");
    let (status, stderr) = worker.end();
    assert_eq!(status.code(), Some(2));
    assert!(stderr.contains("a second time"), "{stderr}");
}
