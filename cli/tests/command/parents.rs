//! `stokehold conform parent`: what it says of parents that keep the rules, and that each mistake is found by the case for it.

use std::fs;
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use super::conform::{python, report, root, with_verdict};
use super::support::{Dir, Finished, Run, STOKEHOLD, until, within};

/// `stokehold run` as a parent under test. Its limit for a task is long enough for a machine under load, and what waits for it waits
/// beside the other cases.
const RUN: [&str; 11] = [
    STOKEHOLD,
    "run",
    "--jsonl",
    "-j",
    "1",
    "--attempts",
    "3",
    "--timeout",
    "6s",
    "--ready-timeout",
    "1500ms",
];

fn conform<'a>(args: &[&'a str], parent: impl IntoIterator<Item = &'a str>) -> Finished {
    let args = ["conform", "parent"].iter().copied().chain(args.iter().copied()).chain(["--"]);
    Run::new(args.chain(parent)).feed("")
}

fn parent() -> String {
    root().join("cli/tests/command/conform/parent.py").to_str().unwrap().to_owned()
}

#[test]
fn run_keeps_every_rule_of_a_parent() {
    within(|| {
        let args = ["--report", "json", "--timeout", "60s"];
        let finished = conform(&args, RUN.into_iter().chain(["--"]));
        let report = report(&finished);
        assert_eq!(with_verdict(&report, "FAIL"), []);
        assert_eq!(with_verdict(&report, "WARN"), []);
        assert_eq!(with_verdict(&report, "HARNESS"), []);
        // Tasks with a limit of time go one by one: see below.
        let skipped = with_verdict(&report, "SKIP");
        assert!(skipped.iter().all(|(id, ..)| id.starts_with("PB")), "{skipped:?}");
        assert!(report["counts"]["pass"].as_u64().unwrap() > 100, "{}", report["counts"]);
        assert_eq!(report["reached"], Value::Null, "parents have no level");
        finished.expect_code(0);
    });
}

#[test]
fn run_sends_batches_and_judges_their_results() {
    within(|| {
        let args = ["--report", "json", "--timeout", "60s", "--case", "PB*"];
        let finished = conform(&args, [STOKEHOLD, "run", "--jsonl", "-j", "1", "--"]);
        let report = report(&finished);
        assert_eq!(with_verdict(&report, "PASS").len(), 4, "{report:#}");
        finished.expect_code(0);
    });
}

#[test]
fn a_small_parent_in_python_breaks_no_rule() {
    let Some(python) = python() else { return };
    within(|| {
        let args = ["--report", "json", "--timeout", "60s"];
        let finished = conform(&args, [&*python, "-IS", &parent()]);
        let report = report(&finished);
        assert_eq!(with_verdict(&report, "FAIL"), []);
        assert_eq!(with_verdict(&report, "WARN"), []);
        // It has no CANCEL, no BATCH and no text mode.
        let mut skipped: Vec<_> =
            with_verdict(&report, "SKIP").iter().map(|(id, ..)| id[..2].to_owned()).collect();
        skipped.dedup();
        assert_eq!(skipped, ["PR", "PB", "PT"]);
        finished.expect_code(0);
    });
}

/// A mistake, the case that is meant for it, and the statement it breaks.
const MISTAKES: [(&str, &str, &str); 25] = [
    ("blocks_on_write", "PW8", "W-7"),
    ("counts_second_answers", "PR1", "R-11"),
    ("drops_last_words", "PL2", "L-7"),
    ("forgives_bad_heads", "PM1", "M-14"),
    ("ignores_credit", "PW4", "W-2"),
    ("ignores_max_frame", "PF14", "F-2"),
    ("ignores_window", "PW3", "W-1"),
    ("leaves_children", "PL8", "L-6"),
    ("leaves_stderr", "PL19", ""),
    ("loses_the_dead", "PL1", "L-9"),
    ("no_length_check", "PF3", "F-5"),
    ("reads_behind_bye", "PL6", "S-9"),
    ("refuses_nothing", "PR6", "R-32"),
    ("retries_bad_data", "PM6", "D-15"),
    ("retries_by_code", "PE5", "E-4"),
    ("reuses_ids", "PH1", "R-1"),
    ("sends_early", "PH3", "S-4"),
    ("speaks_first", "PH2", "S-3"),
    ("spins", "PL9", "L-17"),
    ("takes_half_answers", "PF8", "R-19"),
    ("takes_no_window_for_none", "PW3", "W-3"),
    ("trusts_codes", "PE3", "E-3"),
    ("two_attempts", "PL9", "R-31"),
    ("waits_for_hello", "PH2", "S-10"),
    ("works_after_death", "PH1", "S-6"),
];

#[test]
fn every_mistake_of_a_parent_is_found_by_the_case_that_is_meant_for_it() {
    let Some(python) = python() else { return };
    within(|| {
        let parent = parent();
        // Most of the time is spent with waiting for what does not come.
        for some in MISTAKES.chunks(13) {
            thread::scope(|scope| {
                for (mistake, case, statement) in some {
                    let (python, parent) = (&python, &parent);
                    scope.spawn(move || {
                        let variable = format!("FAULT={mistake}");
                        let words = ["env", &variable, python, "-IS", parent];
                        let args = ["--case", case, "--timeout", "20s", "--report", "json"];
                        let finished = conform(&args, words);
                        let report = report(&finished);
                        let failed = with_verdict(&report, "FAIL");
                        assert_eq!(failed.len(), 1, "{mistake} passes {case}: {report:#}");
                        let (_, broken, what) = failed[0];
                        assert!(
                            statement.is_empty() || broken == *statement,
                            "{mistake}: {case} says {broken}, {what}"
                        );
                        finished.expect_code(1);
                    });
                }
            });
        }
    });
}

#[test]
fn a_failure_of_a_parent_shows_what_its_children_saw() {
    let Some(python) = python() else { return };
    within(|| {
        let dir = Dir::new("parent-traces");
        let parent = parent();
        let words = ["env", "FAULT=trusts_codes", &python, "-IS", &parent];
        let kept = dir.path("kept");
        let args = ["--case", "PE3", "--keep-trace", &kept];
        let finished = conform(&args, words).expect_code(1);
        let text = finished.text();
        for part in
            ["FAIL    PE3", "[E-3]", "hint: ", "child 1", "[\"FAILED\",", "the parent exited with code 1"]
        {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
        assert!(!text.contains("level reached"), "{text}");
        assert!(fs::read_to_string(dir.path("kept/PE3.txt")).unwrap().contains("\"FAILED\""));
        // What is known is no failure, until it passes.
        let known = dir.path("known.txt");
        let args = ["--case", "PE3,PE4", "--baseline", &known];
        conform(&[&args[..], &["--fix"]].concat(), words).expect_code(0);
        conform(&args, words).expect_code(0);
        let mended = conform(&args, [&*python, "-IS", &parent]).expect_code(1);
        assert!(mended.stderr.contains("PE3 does not fail any more"), "{mended:?}");
    });
}

#[test]
fn a_program_that_is_no_parent_is_told_at_once() {
    within(|| {
        let finished = conform(&["--timeout", "10s"], ["true"]).expect_code(1);
        assert!(finished.text().contains("FAIL    PH1"), "{}", finished.text());
        assert!(finished.text().contains("1 case: 0 passed, 1 failed"), "{}", finished.text());
        // Each task comes back as no outcome.
        let finished = conform(&["--case", "PH1"], ["cat", "-", "/dev/null"]).expect_code(1);
        assert!(finished.text().contains("FAIL    PH1"), "{}", finished.text());
        let missing = conform(&["--case", "PH1"], ["/no/such/program"]).expect_code(3);
        assert!(missing.stderr.contains("cannot run"), "{missing:?}");
        conform(&["--case", "H1"], ["true"]).expect_code(2);
        let listed = Run::new(["conform", "parent", "--list", "--case", "PF*"]).feed("").expect_code(0);
        assert!(listed.text().starts_with("PF1  must   "), "{}", listed.text());
    });
}

#[test]
fn parents_and_their_children_die_with_a_kit_that_is_killed() {
    within(|| {
        // What a kit that is killed leaves of its records goes with the test.
        let dir = Dir::new("killed-kit");
        let place = format!("TMPDIR={}", dir.path(""));
        let kit = [&*place, STOKEHOLD, "conform", "parent", "--case", "PL9,PF7", "--jobs", "2", "--"];
        let running = Run::of("env", kit.into_iter().chain(RUN).chain(["--"])).start();
        until("children are there", || running.descendants("villain PL9").len() > 1);
        running.signal(Signal::KILL);
        until("no child is left", || running.descendants("").is_empty());
    });
}
