//! What several threads do with one pool: close it while others submit, let it follow the work, and what `map` gives when it ends
//! in the middle.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use stokehold::{Event, Policy, Retirement, SubmitError, TaskErrorKind, TrySubmitError};
use stokehold_tests::{Arena, eventually, is_alive, within};

use crate::performer::{RUN, STAY, events_until, performers, runs, wait_for_runs};
use crate::stage::{MOMENT, PATIENCE};

#[test]
fn a_closed_pool_lets_nobody_in_and_finishes_what_it_has() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = Arc::new(performers(&arena, 1, "").queue(1, 1 << 20).start().unwrap());
        let running = pool.submit(STAY, "running").unwrap();
        wait_for_runs(&arena, "running", 1);
        let permitless = pool.reserve_timeout(Duration::ZERO).map(drop);
        assert!(matches!(permitless, Err(SubmitError::Timeout(_))), "{permitless:?}");
        let theirs = Arc::clone(&pool);
        let waiting = thread::spawn(move || theirs.submit(RUN, "waiting").map(drop));
        pool.close();
        pool.close();
        assert!(matches!(waiting.join().unwrap(), Err(SubmitError::Closed)));
        let refused = pool.try_submit(RUN, "late").unwrap_err();
        assert!(matches!(refused, TrySubmitError::Submit(SubmitError::Closed)), "{refused}");
        arena.open("running");
        running.wait().unwrap();
        let report = Arc::into_inner(pool).unwrap().shutdown(MOMENT);
        assert!(report.is_graceful(), "{report:?}");
        assert!(runs(&arena, "waiting").is_empty() && runs(&arena, "late").is_empty());
    });
}

#[test]
fn a_permit_lets_nobody_into_a_closed_pool() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").start().unwrap();
        let permit = pool.reserve_blocking().unwrap();
        pool.close();
        assert!(matches!(permit.submit(RUN, "late"), Err(SubmitError::Closed)));
    });
}

#[test]
fn a_map_has_one_result_for_each_job_also_when_the_pool_closes_in_the_middle() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").queue(2, 1 << 20).start().unwrap();
        let names: Vec<String> = (0..50).map(|number| format!("job {number}")).collect();
        let (first, _) = names.split_first().unwrap();
        let results = thread::scope(|scope| {
            let map = scope.spawn(|| pool.map(STAY, names.iter().map(String::as_str)));
            wait_for_runs(&arena, first, 1);
            pool.close();
            names.iter().for_each(|name| arena.open(name));
            map.join().unwrap()
        });
        assert_eq!(results.len(), names.len());
        let good = results.iter().take_while(|result| result.is_ok()).count();
        assert!((1..=2).contains(&good), "{good}");
        assert!(
            results[good..].iter().all(|result| result.as_ref().unwrap_err().kind() == TaskErrorKind::Closed)
        );
        let unordered = pool.map_unordered(STAY, names.iter().map(String::as_str));
        assert!(unordered.iter().zip(0..).all(|((index, _), expected)| *index == expected));
        assert_eq!(unordered.len(), names.len());
        // An iterator without an end comes to one.
        assert_eq!(pool.imap(STAY, std::iter::repeat("again")).count(), 1);
        assert_eq!(pool.with(Policy::once()).imap_unordered(STAY, std::iter::repeat("again")).count(), 1);
    });
}

#[test]
fn a_pool_that_had_a_fixed_size_follows_the_work_when_it_is_told_to() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let idle = Duration::from_millis(100);
        let pool = performers(&arena, 1, "").window(1).idle_timeout(idle).start().unwrap();
        let events = pool.events();
        pool.resize_between(1, 3);
        let names = ["a", "b", "c", "d"];
        let tasks = names.map(|name| pool.submit(STAY, name).unwrap());
        let busy = names[..3].iter().map(|name| wait_for_runs(&arena, name, 1).pid).collect::<Vec<_>>();
        assert!(runs(&arena, "d").is_empty());
        names.iter().for_each(|name| arena.open(name));
        for task in tasks {
            task.wait().unwrap();
        }
        let mut let_go = 0;
        events_until(&events, |event| {
            let_go += usize::from(matches!(event, Event::WorkerRetired { why: Retirement::Idle, .. }));
            let_go == 2
        });
        assert!(eventually(MOMENT, || busy.iter().filter(|pid| is_alive(**pid)).count() == 1));
    });
}
