//! What a handler says while it runs, and what reaches it: with the monitor, in a real process.

use std::time::{Duration, Instant};

use stokehold_protocol::{Capabilities, Capability, LogLine, Meta, ParentHello, Progress, limits};

use crate::support::{Answer, Worker, example, frame, test_worker};

/// Less than this is "while the handler runs": the handler would run longer than the watchdog waits.
const SOON: Duration = Duration::from_secs(1);

const NIL: &[u8] = &[0xc0];

fn with_argument(argument: &str) -> std::process::Command {
    let mut command = test_worker();
    command.arg(argument);
    command
}

fn hello(capabilities: Capabilities) -> Vec<u8> {
    let max_frame = limits::MAX_FRAME_DEFAULT;
    let hello = ParentHello { version: 1, pid: 7, parent: 3, capabilities, max_frame, spin: true };
    let mut data = Vec::new();
    hello.encode(&mut data);
    frame(0, "HELLO", &data)
}

fn cancelled(answer: &Answer) -> Option<bool> {
    let failure = answer.failure();
    assert_eq!(failure.code, "cancelled", "{failure:?}");
    failure.begun
}

#[test]
fn a_stream_comes_whole_and_in_order_before_its_answer() {
    const ITEMS: u64 = 100_000;
    let mut worker = Worker::ready(test_worker());
    worker.send(1, "stream", &ITEMS);
    for expected in 0..ITEMS {
        let item = worker.expect("ITEM");
        assert_eq!((item.id, rmp_serde::from_slice::<u64>(&item.data).unwrap()), (1, expected));
    }
    assert_eq!(worker.expect("FINISHED").value::<u64>(), ITEMS);
    worker.finish();
}

#[test]
fn nothing_said_waits_for_a_handler_that_goes_on() {
    let mut worker = Worker::ready(test_worker());
    // The first time everything is new; the second time, nothing has been said for long.
    worker.ask("DO", &1).value::<u64>();
    worker.send(2, "talk_and_hang", &());
    let begun = Instant::now();
    let mut said = Vec::new();
    while said.len() < 5 {
        said.push(worker.receive().unwrap());
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let named = |name: &str| said.iter().filter(|frame| frame.request == name).collect::<Vec<_>>();
    assert!(said.iter().all(|frame| frame.id == 2));
    assert_eq!(named("ITEM").iter().map(|item| &item.data[1..]).collect::<Vec<_>>(), [b"one", b"two"]);
    let reports =
        named("PROGRESS").iter().map(|report| Progress::decode(&report.data).done).collect::<Vec<_>>();
    assert_eq!(reports, [Some(1.0), Some(2.0)]);
    assert_eq!(LogLine::decode(&named("LOG")[0].data).message, "now it hangs");
    worker.kill();
}

#[test]
fn a_start_that_takes_long_says_so_now_and_then() {
    let mut worker = Worker::start(with_argument("slow-start"));
    worker.expect("HELLO");
    let mut notes = 0;
    loop {
        let frame = worker.receive().unwrap();
        if frame.request == "READY" {
            break;
        }
        assert_eq!((frame.id, frame.request.as_str()), (0, "PROGRESS"));
        assert_eq!(Progress::decode(&frame.data).note.as_deref(), Some("loading"));
        notes += 1;
    }
    assert!(
        (2..=8).contains(&notes),
        "{notes} notes in 300 ms, of which one in 50 ms is sent and the last one"
    );
    worker.finish();
}

#[test]
fn a_computing_handler_that_asks_sees_its_cancel_and_the_next_task_is_unhurt() {
    let mut worker = Worker::ready(test_worker());
    for id in 1..=20 {
        worker.send(id, "spin", &());
        worker.send(100, "add", &1);
        // Whether the handler has begun or not: before READY of the next round it is answered.
        worker.send_bytes(&frame(id, "CANCEL", NIL));
        let answer = worker.receive().unwrap();
        assert_eq!(answer.id, id);
        if answer.request == "FAILED" {
            cancelled(&answer);
        }
        assert_eq!(worker.expect("FINISHED").value::<u32>(), id);
    }
    worker.finish();
}

#[test]
fn a_sleeping_handler_that_does_not_ask_answers_when_it_ends() {
    let mut worker = Worker::ready(test_worker());
    worker.send(1, "sleep", &200);
    worker.send_bytes(&frame(1, "CANCEL", NIL));
    let answer = worker.receive().unwrap();
    assert_eq!(answer.id, 1);
    // The cancel may have come with the task; then it never began.
    if answer.request == "FAILED" {
        assert_eq!(cancelled(&answer), Some(false));
    } else {
        assert_eq!(answer.value::<u64>(), 200);
    }
    assert_eq!(worker.ask("add", &1).value::<u64>(), 1);
    worker.finish();
}

#[test]
fn a_task_cancelled_while_another_runs_never_begins() {
    let mut worker = Worker::ready(test_worker());
    // STARTED tells when the first has begun, so that the cancel surely comes while it runs.
    worker.send_bytes(&hello(Capabilities::NONE.with(Capability::Started)));
    worker.send(1, "sleep", &300);
    worker.expect("STARTED");
    for id in 2..=4 {
        worker.send(id, "add", &1);
    }
    worker.send_bytes(&frame(3, "CANCEL", NIL));
    assert_eq!(worker.expect("FINISHED").value::<u64>(), 300);
    worker.expect("STARTED");
    assert_eq!(worker.expect("FINISHED").value::<u64>(), 1);
    let answer = worker.expect("FAILED");
    assert_eq!((answer.id, cancelled(&answer)), (3, Some(false)));
    assert_eq!(worker.expect("STARTED").id, 4);
    assert_eq!(worker.expect("FINISHED").value::<u64>(), 2, "the third was never added");
    worker.finish();
}

#[test]
fn a_cancel_for_an_answered_id_is_ignored_also_when_the_id_comes_again() {
    let mut worker = Worker::ready(test_worker());
    for n in 1..=50u64 {
        assert_eq!(worker.ask("add", &1).value::<u64>(), n);
        worker.send_bytes(&frame(1, "CANCEL", NIL));
    }
    worker.finish();
}

#[test]
fn a_ping_is_answered_while_a_handler_sleeps_wherever_it_stands() {
    let mut worker = Worker::ready(test_worker());
    worker.send_bytes(&hello(Capabilities::NONE.with(Capability::Started)));
    // One in the same write as the task, and behind others that wait.
    let task = frame(1, "hang", NIL);
    worker.send_bytes(&[task, frame(2, "add", &[1]), frame(0, "PING", b"\x01")].concat());
    worker.expect("STARTED");
    let begun = Instant::now();
    assert_eq!(worker.expect("PONG").data, [1]);
    for n in 2..=9 {
        worker.send_bytes(&frame(0, "PING", &[n]));
        assert_eq!(worker.expect("PONG").data, [n]);
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    worker.kill();
}

#[test]
fn a_ping_behind_a_large_task_is_answered_while_a_handler_sleeps() {
    let mut worker = Worker::ready(test_worker());
    worker.send(1, "hang", &());
    worker.send(2, "DO", &"x".repeat(2_000_000));
    worker.send_bytes(&frame(0, "PING", b"\x07"));
    let begun = Instant::now();
    assert_eq!(worker.expect("PONG").data, [7]);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    worker.kill();
}

#[test]
fn pings_and_cancels_pass_a_long_row_of_short_handlers() {
    const TASKS: u32 = 400;
    let mut worker = Worker::ready(test_worker());
    let sleep = rmp_serde::to_vec(&5).unwrap();
    let tasks: Vec<u8> = (1..=TASKS).flat_map(|id| frame(id, "sleep", &sleep)).collect();
    worker.send_bytes(&tasks);
    worker.expect("FINISHED");
    worker.send_bytes(&[frame(TASKS, "CANCEL", NIL), frame(0, "PING", b"\x07")].concat());
    let mut before = 1;
    while worker.receive().unwrap().request != "PONG" {
        before += 1;
    }
    assert!(before < TASKS / 2, "{before} tasks were done before the PONG");
    for _ in before + 1..TASKS {
        worker.expect("FINISHED");
    }
    assert_eq!(cancelled(&worker.expect("FAILED")), Some(false));
    worker.finish();
}

#[test]
fn what_was_read_ahead_is_served_in_order_and_pings_in_it_are_answered_once() {
    let mut worker = Worker::ready(test_worker());
    worker.send(1, "sleep", &200);
    let mut pings = 0;
    for id in 2..=2000u32 {
        worker.send(id, "DO", &(id, "x".repeat(500)));
        if id % 100 == 0 {
            worker.send_bytes(&frame(0, "PING", b"\x07"));
            pings += 1;
        }
    }
    let mut next = 1;
    while next <= 2000 || pings > 0 {
        let answer = worker.receive().unwrap();
        match answer.request.as_str() {
            "PONG" => pings -= 1,
            "CREDIT" => {}
            _ => {
                assert_eq!(answer.id, next);
                if next > 1 {
                    assert_eq!(answer.value::<(u32, String)>().0, next);
                }
                next += 1;
            }
        }
    }
    worker.close_input();
    loop {
        let last = worker.receive().unwrap();
        assert!(["CREDIT", "BYE"].contains(&last.request.as_str()), "{last:?}");
        if last.request == "BYE" {
            break;
        }
    }
    assert_eq!(worker.end().0.code(), Some(0));
}

#[test]
fn die_now_ends_a_worker_when_the_running_handler_is_done() {
    let mut worker = Worker::ready(test_worker());
    worker.send_bytes(&hello(Capabilities::NONE.with(Capability::Started)));
    worker.send(1, "sleep", &200);
    worker.send(2, "hang", &());
    worker.expect("STARTED");
    worker.send_bytes(&frame(0, "DIE", b"\x81\xa3now\xc3"));
    assert_eq!(worker.expect("FINISHED").id, 1);
    assert!(worker.receive().is_none());
    assert_eq!(worker.end().0.code(), Some(0));
}

#[test]
fn the_end_of_input_seen_ahead_still_means_finish_what_came() {
    let mut worker = Worker::ready(test_worker());
    worker.send(1, "sleep", &200);
    worker.send(2, "add", &5);
    worker.close_input();
    assert_eq!(worker.expect("FINISHED").id, 1);
    assert_eq!(worker.expect("FINISHED").value::<u64>(), 5);
    worker.finish();
}

#[test]
fn a_handler_is_told_what_the_parent_said_about_its_task() {
    let mut worker = Worker::ready(test_worker());
    let meta = Meta {
        attempt: Some(2),
        deadline_ms: Some(5_000),
        key: Some("order-7".to_owned()),
        ..Meta::default()
    };
    let mut data = Vec::new();
    meta.encode(&mut data);
    worker.send_bytes(&frame(1, "META", &data));
    let (id, attempt, key, left) =
        worker.ask("about", &()).value::<(u32, u32, Option<String>, Option<u64>)>();
    assert_eq!((id, attempt, key.as_deref()), (1, 2, Some("order-7")));
    assert!(left.is_some_and(|left| (1..=5_000).contains(&left)), "{left:?}");
    let plain = worker.ask("about", &()).value::<(u32, u32, Option<String>, Option<u64>)>();
    assert_eq!(plain, (1, 1, None, None));
    worker.finish();
}

#[test]
fn of_a_one_way_request_not_even_a_large_result_goes_out() {
    for bytes in [0, 1, 16_380, 16_381, 60_000, 5 << 20] {
        let mut worker = Worker::ready(example("echo"));
        let large = serde_bytes::ByteBuf::from(vec![7; bytes]);
        worker.send(0, "DO", &large);
        worker.send(1, "DO", &5);
        assert_eq!(worker.expect("FINISHED").value::<u64>(), 5, "behind {bytes} bytes");
        worker.finish();
    }
}
