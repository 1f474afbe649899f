//! Children that die: group A. Who ran how often is known from the effects, so the crash points are judged exactly.

use std::sync::Mutex;
use std::time::Duration;

use stokehold_child::Point;

use crate::cases;
use crate::harness::{Finished, Trial, side_by_side};
use crate::strace;
use crate::strace::{calls_in, first_middle_last};

cases! {
    DeathCase {
        A1: a01_an_exit_before_the_handshake_is_tried_three_times_and_then_told,
        A2: a02_killed_before_it_reads_a_task_costs_no_life,
        A3: a03_killed_after_the_header_of_a_task_costs_no_life,
        A4: a04_killed_after_reading_a_task_runs_it_once,
        A5: a05_killed_after_it_began_a_task_costs_a_life_and_runs_it_again,
        A6: a06_killed_after_the_side_effect_runs_it_twice_and_says_which_attempt_it_is,
        A7: a07_killed_in_the_middle_of_the_answer_drops_it_and_runs_the_task_again,
        A8: a08_killed_right_after_the_answer_keeps_it,
        A9: a09_every_crash_point_at_the_first_the_third_and_the_last_task,
        A10: a10_killed_at_any_of_its_system_calls,
        A11: a11_a_task_that_always_kills_is_dead_after_exactly_its_lives,
        A12: a12_a_task_that_always_kills_hurts_none_of_its_window,
        A13: a13_killed_in_the_middle_of_a_long_answer_is_seen_at_once,
        A14: a14_a_storm_of_kills_loses_no_task,
        A15: a15_every_way_to_die_is_its_own_cause,
        A16: a16_a_worker_out_of_memory_is_not_retried_for_ever,
        A17: a17_workers_that_always_die_at_ready_break_the_pool_and_answer_everybody,
        A18: a18_a_program_that_cannot_be_executed_is_told_by_its_error,
        A19: a19_a_worker_that_closes_its_output_is_dead,
        A20: a20_a_worker_that_closes_its_input_is_dead,
    }
}

/// Tasks of each play of the matrix.
const TASKS: u64 = 6;

fn a01_an_exit_before_the_handshake_is_tried_three_times_and_then_told(trial: &Trial) {
    for point in ["Start", "BeforeHello"] {
        let crash = format!("{point}:1");
        let always = trial.scene(&[]).env("CRASH_AT", &crash).env("CRASH_ALWAYS", "1").typed("Exited").run();
        assert_eq!(crashes(&always), 3, "{point}");
        assert!(always.outcomes.is_empty(), "{:?}", always.outcomes);
        let once = trial.scene(&[]).env("CRASH_AT", &crash).usable().run();
        assert_eq!(crashes(&once), 1, "{point}");
    }
}

fn a02_killed_before_it_reads_a_task_costs_no_life(trial: &Trial) {
    play_point(trial, Point::BeforeRead, &[1]);
}

fn a03_killed_after_the_header_of_a_task_costs_no_life(trial: &Trial) {
    play_point(trial, Point::AfterHeader, &[1]);
}

fn a04_killed_after_reading_a_task_runs_it_once(trial: &Trial) {
    play_point(trial, Point::AfterRead, &[1]);
}

fn a05_killed_after_it_began_a_task_costs_a_life_and_runs_it_again(trial: &Trial) {
    play_point(trial, Point::AfterStarted, &[1]);
}

fn a06_killed_after_the_side_effect_runs_it_twice_and_says_which_attempt_it_is(trial: &Trial) {
    play_point(trial, Point::AfterHandler, &[1]);
}

fn a07_killed_in_the_middle_of_the_answer_drops_it_and_runs_the_task_again(trial: &Trial) {
    play_point(trial, Point::MidFinished, &[1]);
}

fn a08_killed_right_after_the_answer_keeps_it(trial: &Trial) {
    play_point(trial, Point::AfterFinished, &[1]);
}

fn a09_every_crash_point_at_the_first_the_third_and_the_last_task(trial: &Trial) {
    let mut played = 0;
    for point in Point::ALL {
        played += match expected(point) {
            // Reached once in a life, before any task.
            Expected::AtStart => play_point(trial, point, &[1]),
            // The one that shows that the pool is usable comes last; the point has the number of the next.
            Expected::AtEnd => play_point(trial, point, &[TASKS + 2]),
            _ => play_point(trial, point, &[1, 3, TASKS]),
        };
    }
    // So that the matrix cannot shrink unseen: five points before the tasks, eight at them, two after.
    assert_eq!(played, (5 + 8 * 3 + 2) * 8);
}

/// What a crash at a point means for the task in hand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expected {
    /// Nothing: no task is in hand.
    AtStart,
    /// Nothing: all are done.
    AtEnd,
    /// It was not read: it is sent again and loses nothing.
    Unread,
    /// It was read and not begun. Whoever is not told of starts cannot know that.
    Unbegun,
    /// It was begun and has left no trace.
    Begun,
    /// It has left its trace and no answer.
    Unanswered,
    /// It is answered.
    Answered,
}

/// No wildcard: a new point must be judged here.
fn expected(point: Point) -> Expected {
    match point {
        Point::Start | Point::BeforeHello | Point::AfterHello | Point::BeforeReady | Point::AfterReady => {
            Expected::AtStart
        }
        Point::BeforeRead | Point::AfterHeader => Expected::Unread,
        Point::AfterRead => Expected::Unbegun,
        Point::AfterStarted => Expected::Begun,
        Point::MidItem | Point::AfterHandler | Point::MidFinished => Expected::Unanswered,
        Point::AfterFinished => Expected::Answered,
        Point::BeforeBye | Point::AfterBye => Expected::AtEnd,
    }
}

impl Expected {
    /// The runs of the task in hand, how it ends, and the attempt that its last run is told.
    fn of(self, is_once: bool, is_told: bool) -> (usize, &'static str, u32) {
        match (self, is_once) {
            (Self::AtStart | Self::AtEnd | Self::Unread | Self::Answered, _) => (1, "Done", 1),
            (Self::Unbegun, _) if is_told => (1, "Done", 1),
            (Self::Unbegun | Self::Begun, true) => (0, "Lost", 0),
            (Self::Unanswered, true) => (1, "Lost", 1),
            (Self::Unbegun | Self::Begun, false) => (1, "Done", 2),
            (Self::Unanswered, false) => (2, "Done", 2),
        }
    }
}

/// A crash at that point, at each of these times, in small and large windows, for tasks that may and may not run twice, with
/// and without being told of starts. Gives how many plays that were.
fn play_point(trial: &Trial, point: Point, times: &[u64]) -> usize {
    let mut plays = Vec::new();
    for time in times {
        for window in ["1", "8"] {
            for mode in ["often", "once"] {
                plays.extend(["told", "untold"].map(|told| (*time, window, mode, told)));
            }
        }
    }
    let count = plays.len();
    side_by_side(plays, |(time, window, mode, told)| {
        let tasks = TASKS.to_string();
        let scene = trial.scene(&[&tasks, window, mode, told]).env("CRASH_AT", format!("{point:?}:{time}"));
        let played = scene.usable().run();
        assert_eq!(crashes(&played), 1, "{point:?} was not reached: {played:?}");
        let (runs, end, attempt) = expected(point).of(mode == "once", told == "told");
        for number in 1..=TASKS {
            let task = format!("t{number}");
            let (runs, end, attempt) = if number == time { (runs, end, attempt) } else { (1, "Done", 1) };
            let what = format!("{task}, killed at {point:?} of t{time}: {played:?}");
            assert_eq!((played.runs_of(&task), played.outcome_of(&task)), (runs, end), "{what}");
            assert_eq!(
                played.runs.get(&task).map_or(0, |runs| runs[runs.len() - 1].attempt),
                attempt,
                "{what}"
            );
        }
    });
    count
}

/// How often a child came to its crash point.
fn crashes(played: &Finished) -> usize {
    played.effects.iter().filter(|effect| effect.starts_with("crashed at ")).count()
}

fn a10_killed_at_any_of_its_system_calls(trial: &Trial) {
    if !strace::is_there("killing a worker at its system calls") {
        return;
    }
    let scene = |mode, expression: &str| {
        let scene = trial.scene(&["4", "8", mode, "untold"]).env("STRACE", expression);
        scene.deadline(Duration::from_secs(20)).usable().run()
    };
    let calls = calls_in(&scene("often", "trace=all").strace);
    let mut plays = Vec::new();
    for (call, count) in &calls {
        for time in first_middle_last(*count) {
            plays.extend(["often", "once"].map(|mode| (call.as_str(), time, mode)));
        }
    }
    let (all, killed) = (plays.len(), Mutex::new(0));
    side_by_side(plays, |(call, time, mode)| {
        let played = scene(mode, &format!("inject={call}:signal=SIGKILL:when={time}"));
        let done = played.count("Done");
        assert_eq!(done + played.count("Lost"), 5, "{call} {time}: {played:?}");
        assert!(done >= if mode == "once" { 4 } else { 5 }, "{call} {time}: {played:?}");
        *killed.lock().unwrap() += usize::from(played.strace.contains("killed by SIGKILL"));
    });
    let killed = killed.into_inner().unwrap();
    println!("killed at {killed} of {all} system calls");
    // Which calls there are depends a little on timing.
    assert!(calls.len() > 15 && killed * 10 >= all * 9, "killed at {killed} of {all} in {calls:?}");
}

fn a11_a_task_that_always_kills_is_dead_after_exactly_its_lives(trial: &Trial) {
    for lives in [1, 3, 5] {
        let played = trial.scene(&[&lives.to_string()]).typed("Dead").usable().run();
        assert_eq!((played.runs_of("poison"), played.outcome_of("poison")), (lives, "Dead"));
        assert_eq!(played.count("Done"), 11, "{:?}", played.outcomes);
    }
}

fn a12_a_task_that_always_kills_hurts_none_of_its_window(trial: &Trial) {
    let played = trial.scene(&[]).typed("Dead").usable().run();
    for task in ["1", "2", "3", "4", "6", "7", "8"] {
        assert_eq!((played.runs_of(task), played.outcome_of(task)), (1, "Done"), "{task}");
    }
    assert_eq!((played.runs_of("5"), played.outcome_of("5")), (3, "Dead"));
}

fn a13_killed_in_the_middle_of_a_long_answer_is_seen_at_once(trial: &Trial) {
    // A machine that is busy with other tests may be late once.
    let play = || {
        let scene = trial.scene(&[]).deadline(Duration::from_secs(30)).typed("Exited").usable();
        let played = scene.memory_below(600 << 20).run();
        assert_eq!(
            played.runs.get("long").map(|runs| runs.iter().map(|run| run.attempt).collect()),
            Some(vec![1, 2])
        );
        played.number("milliseconds")
    };
    let fastest = (0..3).map(|_| play()).find(|milliseconds| *milliseconds < 100);
    assert!(fastest.is_some(), "three times the retry came later than 100 ms after the death");
}

fn a14_a_storm_of_kills_loses_no_task(trial: &Trial) {
    for seed in [14, 4711] {
        println!("seed {seed}");
        let played = trial.scene(&[&seed.to_string()]).deadline(Duration::from_secs(60)).usable().run();
        let (done, dead) = (played.count("Done"), played.count("Dead"));
        assert_eq!(done + dead, 401, "seed {seed}: {:?}", played.outcomes);
        assert!(done >= 397, "seed {seed}: only {done} of 401 were done, and {dead} died");
        assert!(played.number("kills") >= 20, "seed {seed}: the storm was none");
    }
}

fn a15_every_way_to_die_is_its_own_cause(trial: &Trial) {
    let played =
        trial.scene(&[]).typed("Dead").typed("Failed").typed("Broken").typed("Exited").usable().run();
    for how in ["segfault", "abort", "kill", "exit 0", "exit 3", "panic", "exit 125"] {
        assert_eq!(played.runs_of(how), 1, "{how}");
    }
}

fn a16_a_worker_out_of_memory_is_not_retried_for_ever(trial: &Trial) {
    let played = trial.scene(&[]).deadline(Duration::from_secs(20)).typed("Dead").usable().run();
    assert_eq!((played.runs_of("meal"), played.number("attempt")), (3, 3));
    if played.fact("limit") == "group" {
        assert_eq!((played.fact("signal"), played.fact("out_of_memory")), ("9", "Some(true)"));
    } else {
        println!("no memory group: {}", played.fact("limit"));
        assert_eq!(played.fact("signal"), "6");
    }
}

fn a17_workers_that_always_die_at_ready_break_the_pool_and_answer_everybody(trial: &Trial) {
    for workers in [1, 2, 8] {
        let scene = trial.scene(&[&workers.to_string()]);
        let scene = scene.env("CRASH_AT", "AfterReady:1").env("CRASH_ALWAYS", "1");
        let played = scene.typed("Broken").typed("Exited").run();
        assert_eq!((played.outcomes.len(), played.count("Broken")), (20, 20));
        assert!(played.runs.is_empty(), "{:?}", played.runs);
        // Five in ten seconds; the pauses between them add up to less.
        assert!(played.number("milliseconds") < 8_000, "{:?}", played.facts);
        assert!(crashes(&played) <= 6 * workers, "they were started {} times", crashes(&played));
    }
}

fn a18_a_program_that_cannot_be_executed_is_told_by_its_error(trial: &Trial) {
    trial.scene(&[]).typed("Spawn").typed("Broken").run();
}

fn a19_a_worker_that_closes_its_output_is_dead(trial: &Trial) {
    trial.scene(&[]).typed("ClosedOutput").usable().run();
}

fn a20_a_worker_that_closes_its_input_is_dead(trial: &Trial) {
    for how in ["read", "unread"] {
        let played = trial.scene(&[how]).typed("ClosedInput").usable().run();
        assert_eq!(played.count("Done"), 3, "{how}: {:?}", played.outcomes);
    }
}
