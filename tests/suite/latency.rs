//! Both ways to wait: the answers are the same, and a pool that has nothing to do does nothing.

use std::time::Duration;

use stokehold::Latency;
use stokehold_tests::{Arena, eventually, stirrings, within};

use crate::child;
use crate::stage::{ECHO, MOMENT, Overseer, PATIENCE, SQUARE, honest};

const BOTH: [Latency; 2] = [Latency::Block, Latency::Spin];

#[test]
fn answers_are_right_in_lock_step_and_pipelined() {
    within(PATIENCE, || {
        for latency in BOTH {
            for workers in [1, 2] {
                let arena = Arena::new();
                let pool = honest(&arena, workers).latency(latency).start().unwrap();
                // Each way after the other, because what one has learned must not harm the other.
                for round in 0..3 {
                    for number in 0..500 {
                        assert_eq!(pool.submit(SQUARE, &number).unwrap().wait().unwrap(), number * number);
                    }
                    let squares = pool.map(SQUARE, 0..5_000_u64);
                    assert!(
                        squares.into_iter().map(Result::unwrap).eq((0..5_000).map(|number| number * number))
                    );
                    let tasks: Vec<_> =
                        (0..500_u64).map(|number| pool.submit(SQUARE, &number).unwrap()).collect();
                    let squares = tasks.into_iter().map(|task| task.wait().unwrap());
                    assert!(squares.eq((0..500).map(|number| number * number)));
                    // One that is too large to be looked for.
                    let text = "x".repeat(100_000 + round);
                    assert!(pool.submit(ECHO, &*text).unwrap().wait().unwrap() == text);
                }
            }
        }
    });
}

#[test]
fn several_threads_in_lock_step_have_their_own_answers() {
    within(PATIENCE, || {
        for latency in BOTH {
            let arena = Arena::new();
            let pool = &honest(&arena, 2).latency(latency).start().unwrap();
            std::thread::scope(|scope| {
                for thread in 1..=3_u64 {
                    scope.spawn(move || {
                        for number in (0..1_000).map(|number| number * thread) {
                            assert_eq!(
                                pool.submit(SQUARE, &number).unwrap().wait().unwrap(),
                                number * number
                            );
                        }
                    });
                }
            });
        }
    });
}

#[test]
fn nobody_stirs_after_work_whichever_way_they_wait() {
    within(PATIENCE, || {
        for scene in ["rest, block", "rest, spin"] {
            let arena = Arena::new();
            let mut overseer = Overseer::start(&arena, scene, 2, &[child!("honest")]);
            overseer.wait_for("idle");
            // The parent, its workers, and who looks after them.
            let everybody = arena.survivors();
            assert!(everybody.len() >= 3 && everybody.contains(&overseer.pid()), "{everybody:?}");
            let all = || everybody.iter().map(|pid| stirrings(*pid)).collect::<Vec<_>>();
            let (mut resting, mut last) = (0, all());
            let calm = eventually(MOMENT, || {
                let now = all();
                resting = if now == last { resting + 1 } else { 0 };
                last = now;
                resting == 50
            });
            assert!(calm, "{scene}: somebody never came to rest");
            // Not a wait for something: the time in which nothing must happen.
            let stirred = eventually(Duration::from_millis(500), || all() != last);
            assert!(!stirred, "{scene}: {last:?} became {:?}", all());
        }
    });
}
