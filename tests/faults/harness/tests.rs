//! The oracle itself: each breach is noticed. A shell plays the casebook and leaves a record that is not what it should be.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use stokehold_tests::DeathCase;

use super::Trial;

/// A parent that has given everything back.
const CLEAR: &str = r"tell fact children_left 0; tell fact descriptors_left ''; tell fact threads_left 0; tell fact cleared true;";

/// What the oracle says of a parent that does this; nothing if it is content.
fn verdict(script: &str) -> String {
    let script = format!(
        r#"tell() {{ printf '%s\t%s\t%s\n' "$1" "$2" "$3" >> "$ARENA_OF_TEST/record"; }}
        run() {{ echo "$1 $2 4711 1" >> "$ARENA_OF_TEST/effects"; }}
        {script}"#
    );
    let trial = Trial::of(DeathCase::A1);
    let scene = trial.scene(&[]).wrapped_in(&["sh", "-c", &script]).deadline(Duration::from_millis(800));
    let judged = catch_unwind(AssertUnwindSafe(|| scene.typed("Dead").memory_below(1_000).usable().run()));
    judged.err().map_or_else(String::new, |panic| {
        panic.downcast::<String>().map_or_else(|_| "?".into(), |text| *text)
    })
}

#[test]
fn a_parent_that_did_everything_right_is_not_accused() {
    let usable =
        "tell submitted usable 3; tell outcome usable Done; tell error Dead; tell fact peak_memory 999;";
    assert_eq!(
        verdict(&format!("{CLEAR}{usable} tell submitted x 2; run x 1; run x 2; tell outcome x Dead")),
        ""
    );
}

#[test]
fn a_task_without_an_outcome_is_noticed() {
    assert!(verdict(&format!("{CLEAR} tell submitted x 3")).contains("no outcome: [\"x\"]"));
}

#[test]
fn a_task_with_two_outcomes_is_noticed() {
    let twice = "tell submitted x 3; tell outcome x Done; tell outcome x Dead";
    assert!(verdict(&format!("{CLEAR} {twice}")).contains("x ended as [\"Done\", \"Dead\"]"));
}

#[test]
fn an_outcome_of_no_task_is_noticed() {
    assert!(verdict(&format!("{CLEAR} tell outcome x Done")).contains("x ended as"));
}

#[test]
fn a_run_too_many_is_noticed() {
    let runs = "tell submitted x 1; tell outcome x Done; run x 1; run x 2";
    assert!(verdict(&format!("{CLEAR} {runs}")).contains("x has 1 lives and ran 2 times"));
}

#[test]
fn what_outlives_its_parent_is_noticed() {
    assert!(verdict(&format!("{CLEAR} sleep 1000 & :")).contains("outlived"));
}

#[test]
fn a_parent_that_hangs_is_ended() {
    assert!(verdict("sleep 1000; :").contains("hangs"));
}

#[test]
fn a_parent_that_fails_is_noticed() {
    assert!(verdict(&format!("{CLEAR} exit 3")).contains("ended with"));
}

#[test]
fn what_a_parent_holds_is_noticed() {
    for (what, left) in [("children_left", "1"), ("descriptors_left", "7:pipe:[1]"), ("threads_left", "1")] {
        assert!(verdict(&format!("{CLEAR} tell fact {what} {left}")).contains(&format!("{what}: {left}")));
    }
    assert!(verdict(":").contains("children_left: unknown"));
}

#[test]
fn what_a_case_demands_is_demanded() {
    assert!(verdict(CLEAR).contains("no Dead was seen"));
    assert!(
        verdict(&format!("{CLEAR} tell error Dead; tell fact peak_memory 1001")).contains("may have 1000")
    );
    assert!(verdict(&format!("{CLEAR} tell error Dead")).contains("nobody showed that the pool is usable"));
}
