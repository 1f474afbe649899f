//! What is tried again, when, and how often; crashes, timeouts and failures apart.

use std::time::Duration;

use stokehold_protocol::{Capability, ChildHello, Failure, code};

use super::world::{GRACE, World, able, parallel, retry_after, serial};
use crate::core::{Event, Policy, RetryFailures, TaskErrorKind};

const MS: Duration = Duration::from_millis(1);

fn pauses(world: &World) -> Vec<Duration> {
    let pauses = world.events.iter().filter_map(|event| match event {
        Event::TaskRetried { pause, .. } => Some(*pause),
        _ => None,
    });
    pauses.collect()
}

#[test]
fn the_first_retry_of_a_crash_comes_at_once_and_later_ones_after_a_random_pause() {
    let mut longest = [Duration::ZERO; 4];
    for _ in 0..40 {
        let mut world = World::ready(1, 1);
        for _ in 0..8 {
            let task = world.submit_as(Policy::default().attempts(5).backoff(100 * MS, 250 * MS), 0);
            while world.end_of(task).is_none() {
                world.die(0, 11);
                world.advance(5_000 * MS);
                world.start(0, &serial(1));
            }
        }
        for (index, pause) in pauses(&world).into_iter().enumerate() {
            longest[index % 4] = longest[index % 4].max(pause);
        }
    }
    assert_eq!(longest[0], Duration::ZERO);
    for (pause, most) in longest[1..].iter().zip([100 * MS, 200 * MS, 250 * MS]) {
        assert!(*pause <= most && *pause > most / 2, "{pause:?} of {most:?}: full jitter, doubled, to a cap");
    }
}

#[test]
fn a_pause_ends_exactly_when_it_said() {
    let mut world = World::ready(1, 1);
    let task = world.submit_as(Policy::default().backoff(300 * MS, 300 * MS), 0);
    world.fail(0, &retry_after(None));
    let pause = pauses(&world)[0];
    assert!(pause > Duration::ZERO);
    world.advance(pause - Duration::from_micros(1));
    assert!(!world.has_tasks(0));
    world.advance(Duration::from_micros(1));
    assert_eq!(world.held(0), [task]);
}

#[test]
fn crashes_are_not_tried_again_if_the_policy_says_so() {
    let mut world = World::ready(1, 2);
    let task = world.submit_as(Policy::default().retry_crashes(false), 0);
    let behind = world.submit_as(Policy::default().retry_crashes(false), 0);
    world.die(0, 11);
    assert_eq!(world.end_of(task), Some(Err(TaskErrorKind::Dead)));
    world.start(0, &serial(2));
    assert_eq!(world.answer(0), behind, "it only waited");
}

#[test]
fn timeouts_are_not_tried_again_if_the_policy_says_so() {
    let mut world = World::ready(1, 1);
    let task = world.submit_as(Policy::default().timeout(MS).retry_timeouts(false), 0);
    world.advance(MS);
    world.die(0, 15);
    assert!(matches!(world.end_of(task), Some(Err(TaskErrorKind::TimedOut { may_have_run: true, .. }))));
}

#[test]
fn failures_are_tried_again_as_the_policy_says() {
    let final_one = Failure::new("acme.broken", "no");
    let asking = retry_after(Some(0));
    for (which, failure, again) in [
        (RetryFailures::Never, &asking, false),
        (RetryFailures::Never, &final_one, false),
        (RetryFailures::WhenAsked, &asking, true),
        (RetryFailures::WhenAsked, &final_one, false),
        (RetryFailures::Always, &final_one, true),
        (RetryFailures::Always, &Failure::new(code::BAD_DATA, "what?"), false),
    ] {
        let mut world = World::ready(1, 1);
        let task = world.submit_as(Policy::default().retry_failures(which).backoff(MS, MS), 0);
        world.fail(0, failure);
        world.advance(MS);
        assert_eq!(world.held(0).contains(&task), again, "{which:?} and {failure:?}");
    }
}

#[test]
fn a_later_attempt_knows_that_it_is_one_and_how_long_it_has() {
    let hello = ChildHello { ..able(serial(1), &[Capability::Meta]) };
    let mut world = World::ready_as(1, &hello);
    world.submit();
    assert_eq!(world.child(0).tasks[0].attempt, None);
    world.fail(0, &retry_after(Some(0)));
    assert_eq!(world.child(0).tasks[0].attempt, Some(2));
    world.answer(0);
    world.submit_as(Policy::default().timeout(900 * MS), 0);
    assert_eq!(world.child(0).tasks[0].deadline_ms, Some(900));
}

#[test]
fn those_beside_late_tasks_are_tried_again_as_often_as_it_takes() {
    let mut world = World::ready_as(1, &parallel(2));
    let patient = world.submit_as(Policy::default().attempts(1), 0);
    for _ in 0..30 {
        world.submit_as(Policy::default().timeout(MS).retry_timeouts(false), 0);
        world.advance(MS);
        world.die(0, 15);
        world.start(0, &parallel(2));
    }
    world.advance(GRACE);
    assert_eq!(world.attempts(patient).len(), 31);
    world.fail(0, &Failure { begun: Some(false), ..retry_after(Some(0)) });
    world.answer(0);
    assert!(matches!(world.end_of(patient), Some(Ok(_))), "none of that was its fault");
}
