//! Mistakes on purpose: the checks must find each. A new one is walked with as soon as it is in the list.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::walk::walk;
use crate::core::Flaw;

/// A mistake that is not found in so many walks is not watched for.
const WALKS_MAX: u64 = 3_000;

/// Walks until something is found.
fn is_found(flaw: Flaw) {
    let taken = Cell::new(0);
    for seed in 0..WALKS_MAX {
        let found = catch_unwind(AssertUnwindSafe(|| {
            walk(seed, Some(flaw), &taken);
        }));
        if let Err(what) = found {
            let what = what.downcast_ref::<String>().map_or("", String::as_str);
            let what: String = what.chars().take(160).collect();
            println!("{flaw:?}: found after {} steps, seed {seed}: {what}", taken.get());
            return;
        }
    }
    panic!("{flaw:?} is not found in {} steps", taken.get());
}

/// One test for each mistake. The match has no arm for any other, so that none is without its test.
macro_rules! each_is_found {
    ($($flaw:ident => $test:ident),+ $(,)?) => {
        #[test]
        fn every_mistake_has_its_test() {
            for flaw in Flaw::ALL {
                match flaw {
                    $(Flaw::$flaw => {})+
                }
            }
        }

        $(
            #[test]
            fn $test() {
                is_found(Flaw::$flaw);
            }
        )+
    };
}

each_is_found! {
    BatchesAnything => it_is_found_that_a_task_with_limits_of_its_own_goes_with_others,
    BatchesForAnybody => it_is_found_that_a_worker_gets_a_batch_and_takes_none,
    BlamesTheOldestAlways => it_is_found_that_a_worker_that_works_on_all_at_once_is_blamed_by_order,
    BlamesTheQueued => it_is_found_that_a_task_that_only_waited_loses_a_life,
    BlamesTheWholeBatch => it_is_found_that_every_task_of_a_batch_loses_a_life,
    CancelHitsTheNext => it_is_found_that_a_cancel_stops_the_next_task,
    DropsDeadLetters => it_is_found_that_a_dead_letter_is_dropped,
    ForgetsGivenParts => it_is_found_that_tasks_run_again_whose_results_were_given,
    ForgetsIntensity => it_is_found_that_a_worker_is_started_again_and_again,
    ForgetsTotalWhilePaused => it_is_found_that_the_limit_of_all_attempts_stands_still_with_a_full_stream,
    JudgesBeforeDrain => it_is_found_that_a_death_is_judged_before_the_pipe_is_drained,
    KeepsTimers => it_is_found_that_a_timer_outlives_its_task,
    LeavesGhosts => it_is_found_that_a_task_goes_on_when_it_has_ended,
    LosesTheRest => it_is_found_that_the_rest_of_a_batch_is_lost,
    NeverResumes => it_is_found_that_a_worker_is_never_read_again,
    OnceInCompany => it_is_found_that_a_task_for_once_has_company,
    ProgressExtendsTheHardLimit => it_is_found_that_progress_extends_the_hard_limit,
    ProgressExtendsNothing => it_is_found_that_progress_does_not_extend_the_soft_limit,
    ReleasesTwice => it_is_found_that_room_in_the_queue_is_given_back_twice,
    RetiresBeforeReady => it_is_found_that_a_worker_leaves_before_another_is_ready,
    RetriesBeforeReap => it_is_found_that_attempts_overlap,
    RetriesForEver => it_is_found_that_a_deadly_task_is_tried_for_ever,
    TakesAnyAnswer => it_is_found_that_an_answer_is_taken_for_another,
}
