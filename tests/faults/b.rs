//! Children that hang, and time that is wrong: group B. What a limit says is compared with what it took: never less, and not
//! much more, although other tests run beside.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::cases;
use crate::harness::{Finished, Trial};

cases! {
    TimeCase {
        B1: b01_a_handler_that_never_returns_is_ended_and_its_worker_replaced,
        B2: b02_a_worker_that_ignores_every_request_to_end_is_killed_after_its_graces,
        B3: b03_a_stopped_worker_is_ended_by_the_limit_of_its_task,
        B4: b04_a_worker_that_does_not_read_holds_up_no_caller,
        B5: b05_half_a_frame_and_no_more_ends_its_worker,
        B6: b06_a_byte_now_and_then_is_ended_by_the_total_limit_and_holds_up_no_other,
        B7: b07_a_gigabyte_on_stderr_is_drained_and_not_kept,
        B8: b08_both_directions_may_be_full_at_once,
        B9: b09_a_handshake_that_never_comes_is_a_typed_error_in_time,
        B10: b10_deadlines_do_not_care_for_the_clock_on_the_wall,
        B11: b11_progress_for_ever_does_not_outlive_a_hard_limit,
        B12: b12_a_late_answer_is_nobodys,
        B13: b13_a_shutdown_with_a_full_pipe_returns_in_time,
        B14: b14_a_pool_may_be_ended_while_others_submit_and_from_a_callback,
    }
}

const MIB: u64 = 1 << 20;

/// How much later than its limit something may end here: the machine has other tests to run.
const SLACK: u64 = 1_000;

/// That took so many milliseconds, or a little more.
fn assert_took(finished: &Finished, fact: &str, milliseconds: u64) {
    let took = finished.number(fact);
    let right = milliseconds..milliseconds + SLACK;
    assert!(right.contains(&took), "{fact}: {took} ms instead of {milliseconds}: {:?}", finished.facts);
}

fn b01_a_handler_that_never_returns_is_ended_and_its_worker_replaced(trial: &Trial) {
    let finished = trial.scene(&[]).typed("TimedOut").typed("Overran").typed("Terminated").usable().run();
    assert!(finished.fact("kind").contains("limit: Attempt"), "{:?}", finished.facts);
    assert_eq!(finished.number("attempts"), 2);
    // Twice the limit and the grace for CANCEL; SIGTERM ends it at once.
    assert_took(&finished, "milliseconds", 2 * (250 + 100));
}

fn b02_a_worker_that_ignores_every_request_to_end_is_killed_after_its_graces(trial: &Trial) {
    let order = "hang:always ignore_term; sleep";
    let options = ["timeout=500", "lives=2", "--", order];
    let finished = trial.scene(&options).typed("TimedOut").typed("Overran").usable().run();
    assert_eq!((finished.runs_of("hang"), finished.number("deaths")), (2, 2));
    for death in ["death.0", "death.1"] {
        assert!(finished.fact(death).contains("by Killed"), "{:?}", finished.facts);
    }
    // Twice the limit and the grace after SIGTERM; it takes no CANCEL. The second attempt waits up to 100 ms.
    assert_took(&finished, "milliseconds", 2 * (500 + 50));
}

fn b03_a_stopped_worker_is_ended_by_the_limit_of_its_task(trial: &Trial) {
    let finished = trial.scene(&[]).typed("Overran").usable().run();
    assert_eq!(finished.number("attempt"), 2);
    // It was stopped a moment after its task began, and goes on to end when it gets SIGTERM and SIGCONT.
    assert!(finished.number("milliseconds") < 250 + 100 + 100 + SLACK, "{:?}", finished.facts);
}

fn b04_a_worker_that_does_not_read_holds_up_no_caller(trial: &Trial) {
    let finished = trial.scene(&[]).run();
    // 2 MiB is the bound of the queue.
    assert!((15..=21).contains(&finished.number("accepted")), "{:?}", finished.facts);
    assert_eq!(finished.number("accepted") + finished.number("refused"), 100);
    assert!(finished.number("submit_milliseconds") < SLACK, "{:?}", finished.facts);
    assert_took(&finished, "timeout_milliseconds", 100);
    assert!(finished.number("memory_growth") < 16 * MIB, "{:?}", finished.facts);
    assert_eq!(finished.count("Closed") as u64, finished.number("accepted"));
}

fn b05_half_a_frame_and_no_more_ends_its_worker(trial: &Trial) {
    for way in [&[][..], &["split"]] {
        let orders = ["--", "half:cut 12; sleep", "length:cut 2; sleep"];
        let options = [&["frame=200"], way, &orders].concat();
        let finished = trial.scene(&options).typed("SlowFrame").usable().run();
        assert_eq!((finished.fact("end.half"), finished.fact("end.length")), ("done", "done"));
        assert_eq!(finished.number("deaths"), 2);
        assert_took(&finished, "milliseconds", 2 * 200);
    }
}

fn b06_a_byte_now_and_then_is_ended_by_the_total_limit_and_holds_up_no_other(trial: &Trial) {
    // Its answer would take more than four seconds, and each byte is a sign of life.
    let order = format!("slow:always drip 10; {}", "note padding_to_make_the_answer_long;".repeat(12));
    let options = ["workers=2", "total=1000", "frame=500", "--", &order];
    let finished = trial.scene(&options).typed("TimedOut").usable().run();
    assert!(finished.fact("end.slow").contains("limit: Total"), "{:?}", finished.facts);
    assert_took(&finished, "milliseconds", 1_000);
    assert!(finished.number("p99_milliseconds") < 250, "{:?}", finished.facts);
    assert!(!finished.facts.contains_key("small_error"), "{:?}", finished.facts);
}

fn b07_a_gigabyte_on_stderr_is_drained_and_not_kept(trial: &Trial) {
    let finished = trial.scene(&[]).deadline(Duration::from_secs(60)).run();
    assert!(finished.number("bytes") >= 1_000_000_000, "{:?}", finished.facts);
    // 16 MiB of text are kept for a listener.
    assert!(finished.number("memory_growth") < 64 * MIB, "{:?}", finished.facts);
}

fn b08_both_directions_may_be_full_at_once(trial: &Trial) {
    let finished = trial.scene(&[]).deadline(Duration::from_secs(30)).usable().run();
    assert_eq!(finished.count("Done"), 8 + 1);
}

fn b09_a_handshake_that_never_comes_is_a_typed_error_in_time(trial: &Trial) {
    // Nothing at all, half of a HELLO, and a HELLO without READY.
    let starts = [
        ("sleep", "said no HELLO within 200ms"),
        ("raw 00000011000000; sleep", "said no HELLO within 200ms"),
        ("frame HELLO 0 81a17601; sleep", "said HELLO but not READY within 200ms"),
        ("frame HELLO 0 81a17601; pulse PROGRESS 0 c0 20 1", "said HELLO but not READY"),
    ];
    for (script, words) in starts {
        let start = format!("start=always {script}");
        let finished = trial.scene(&[&start, "hello=200", "--"]).run();
        assert!(finished.fact("start_error").contains(words), "{script}: {:?}", finished.facts);
        let took = finished.number("start_milliseconds");
        // READY may be put off, ten times at the most; and it is tried three times.
        let most = if script.contains("pulse") { 3 * 2_000 } else { 3 * 200 + 100 + 200 };
        assert!((200..most + SLACK).contains(&took), "{script}: {took} ms");
    }
}

fn b10_deadlines_do_not_care_for_the_clock_on_the_wall(trial: &Trial) {
    let Some(shim) = clock_shim() else {
        println!("skipped: there is no C compiler to build a clock that jumps");
        return;
    };
    let finished = trial.scene(&[]).env("LD_PRELOAD", shim.0.as_os_str()).run();
    // The clock does jump: by a day forth or back, at each look.
    assert!(finished.number("jump_seconds") > 80_000, "{:?}", finished.facts);
    for (fact, grace) in [("attempt", 0), ("frame", 0), ("total", 0), ("hello", 0)] {
        assert_took(&finished, &format!("{fact}_milliseconds"), 250 + grace);
    }
    assert!(finished.fact("hello").contains("said no HELLO"), "{:?}", finished.facts);
    assert_eq!((finished.outcome_of("attempt"), finished.outcome_of("total")), ("TimedOut", "TimedOut"));
    assert_eq!(finished.outcome_of("frame"), "Done");
}

fn b11_progress_for_ever_does_not_outlive_a_hard_limit(trial: &Trial) {
    let order = "progress:always pulse PROGRESS +0 05 10 1";
    for (limit, name) in [("timeout=600", "Attempt"), ("total=600", "Total")] {
        let options = ["soft=200", "lives=1", limit, "--", order];
        let finished = trial.scene(&options).typed("TimedOut").typed("Overran").usable().run();
        assert!(finished.fact("end.progress").contains(&format!("limit: {name}")), "{:?}", finished.facts);
        // The soft limit is put off by each PROGRESS, so that nobody is warned.
        assert_eq!(finished.number("overdue"), 0, "{:?}", finished.facts);
        assert_took(&finished, "milliseconds", 600);
    }
}

fn b12_a_late_answer_is_nobodys(trial: &Trial) {
    let finished = trial.scene(&[]).typed("TimedOut").usable().run();
    assert_eq!(finished.number("answers_read"), 3);
    assert_eq!((finished.runs_of("before"), finished.runs_of("after")), (1, 1));
    assert_eq!((finished.outcome_of("given_up"), finished.outcome_of("awakened")), ("TimedOut", "Done"));
    assert_eq!(finished.runs_of("awakened"), 1);
}

fn b13_a_shutdown_with_a_full_pipe_returns_in_time(trial: &Trial) {
    let finished = trial.scene(&[]).run();
    // 100 ms to drain, and two graces of 100 ms. The worker ends at SIGTERM.
    assert!(finished.number("shutdown_milliseconds") < 3 * 100 + SLACK, "{:?}", finished.facts);
    assert_eq!(finished.count("Closed") as u64, finished.number("accepted"));
}

fn b14_a_pool_may_be_ended_while_others_submit_and_from_a_callback(trial: &Trial) {
    let finished = trial.scene(&[]).run();
    assert!(finished.number("sent") > 500);
    assert!(finished.number("shutdown_milliseconds") < 2_000 + SLACK, "{:?}", finished.facts);
    for name in ["shutdown", "drop"] {
        assert_eq!(finished.outcome_of(name), "Done");
        assert_eq!(finished.outcome_of(&format!("{name}_other")), "Closed");
    }
}

/// A library that makes the clock on the wall jump by a day at each look, and leaves the monotonic one alone. Built here, so
/// that no tool has to be installed; `None` if there is no compiler.
fn clock_shim() -> Option<Shim> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/faults/clock_shim.c");
    let shim = Shim(std::env::temp_dir().join(format!("clock-shim-{}.so", std::process::id())));
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim.0).arg(source).status().ok()?;
    assert!(built.success(), "the clock that jumps was not built");
    Some(shim)
}

/// A library that is removed in the end.
#[derive(Debug)]
struct Shim(PathBuf);

impl Drop for Shim {
    fn drop(&mut self) {
        // What is left in a directory for temporary files is not what the test is about.
        let _ = std::fs::remove_file(&self.0);
    }
}
