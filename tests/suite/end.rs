//! The end of a pool, and of its parent. The parent is a process of its own here, so that its descriptors, threads and
//! children can be counted.

use std::time::{Duration, Instant};

use stokehold::{Pool, Rung, TaskErrorKind};
use stokehold_tests::{Arena, children_of, eventually, is_alive, stirrings, stop, within};

use crate::child;
use crate::stage::{
    ECHO, MOMENT, Overseer, PATIENCE, SQUARE, WAIT_AT, WHO, command, honest, wait_for_effect,
};

/// Runs a scene with so many workers; gives it back when it left nothing, in its own process and outside.
fn run(scene: &str, workers: usize, program: &[&str]) -> Overseer {
    let arena = Arena::new();
    let overseer = Overseer::run(&arena, scene, workers, program);
    overseer.assert_nothing_left();
    assert!(arena.survivors().is_empty(), "{scene}: {:?} live on", arena.survivors());
    overseer
}

#[test]
fn workers_that_are_asked_to_end_do() {
    within(PATIENCE, || {
        let overseer = run("shutdown", 4, &[child!("honest")]);
        assert_eq!((overseer.fact("answer"), overseer.fact("tasks")), ("5", "1"));
        assert_eq!((overseer.fact("complete"), overseer.fact("graceful")), ("true", "true"));
        assert_eq!(overseer.fact("rungs"), "Asked Asked Asked Asked");
        assert!(overseer.number("milliseconds") < 5_000);
    });
}

#[test]
fn workers_that_ignore_die_are_terminated() {
    within(PATIENCE, || {
        let overseer = run("shutdown at once", 2, &[child!("stubborn")]);
        assert_eq!((overseer.fact("complete"), overseer.fact("graceful")), ("true", "false"));
        assert_eq!(overseer.fact("rungs"), "Terminated Terminated");
        assert!((100..1_600).contains(&overseer.number("milliseconds")), "{overseer:?}");
    });
}

#[test]
fn workers_that_ignore_sigterm_are_killed() {
    within(PATIENCE, || {
        let overseer = run("shutdown at once", 2, &[child!("stubborn"), "TERM"]);
        assert_eq!((overseer.fact("complete"), overseer.fact("graceful")), ("true", "false"));
        assert_eq!(overseer.fact("rungs"), "Killed Killed");
        assert!((600..2_100).contains(&overseer.number("milliseconds")), "{overseer:?}");
    });
}

#[test]
fn a_worker_that_left_its_process_group_does_not_outlive_the_pool() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = Pool::builder(command(&arena, child!("fugitive"))).workers(1).start().unwrap();
        let task = pool.submit(ECHO, "hello").unwrap();
        wait_for_effect(&arena, "fled");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| task.wait());
            let begun = Instant::now();
            let report = pool.shutdown(Duration::from_millis(100));
            assert!(report.complete, "{report:?}");
            assert!(begun.elapsed() < Duration::from_secs(3), "{report:?}");
            assert_eq!(waiter.join().unwrap().unwrap_err().kind(), TaskErrorKind::Closed);
        });
        assert!(arena.survivors().is_empty(), "{:?}", arena.survivors());
    });
}

#[test]
fn kill_leaves_nothing() {
    within(PATIENCE, || {
        for (program, argument) in [(child!("honest"), ""), (child!("stubborn"), "TERM")] {
            let overseer = run("kill", 3, &[program, argument]);
            assert_eq!(overseer.fact("rungs"), "Killed Killed Killed");
        }
    });
}

#[test]
fn a_dropped_pool_leaves_nothing() {
    within(PATIENCE, || {
        run("drop", 3, &[child!("honest")]);
        run("drop", 1, &[child!("stubborn"), "TERM"]);
    });
}

#[test]
fn a_pool_dropped_with_work_in_hand_leaves_nothing() {
    within(PATIENCE, || drop(run("drop busy", 2, &[child!("honest")])));
}

#[test]
fn a_pool_that_could_not_start_leaves_nothing() {
    within(PATIENCE, || {
        for program in [&[child!("text_first")][..], &[child!("quitter"), "3"], &["/nonexistent/worker"]] {
            let overseer = run("fail to start", 3, program);
            assert!(!overseer.fact("error").is_empty());
        }
    });
}

#[test]
fn pools_one_after_another_add_nothing_up() {
    within(PATIENCE, || drop(run("again and again", 3, &[child!("honest")])));
}

#[test]
fn a_shutdown_releases_the_threads_that_wait() {
    within(PATIENCE, || {
        let overseer = run("shutdown while others wait", 2, &[child!("honest")]);
        assert_eq!((overseer.fact("waiter_closed"), overseer.fact("reader_closed")), ("true", "true"));
        assert_eq!(overseer.fact("complete"), "true");
    });
}

#[test]
fn a_shutdown_finishes_what_was_accepted() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 2).window(1).start().unwrap();
        let held = pool.submit(WAIT_AT, "gate").unwrap();
        wait_for_effect(&arena, "at gate");
        let tasks: Vec<_> = (0..1000).map(|n| pool.submit(SQUARE, &n).unwrap()).collect();
        let report = std::thread::scope(|scope| {
            let ending = scope.spawn(|| pool.shutdown(MOMENT));
            arena.open("gate");
            ending.join().unwrap()
        });
        assert!(report.is_graceful(), "{report:?}");
        assert!(
            report
                .workers
                .iter()
                .all(|worker| worker.rung == Rung::Asked && worker.status.unwrap().success())
        );
        assert_eq!(report.workers.iter().map(|worker| worker.tasks).sum::<u64>(), 1001);
        held.wait().unwrap();
        for (task, n) in tasks.into_iter().zip(0..) {
            assert_eq!(task.wait().unwrap(), n * n);
        }
    });
}

#[test]
fn a_stopped_worker_is_woken_to_be_ended() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = honest(&arena, 1).start().unwrap();
        let (pid, ..) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        stop(pid);
        let begun = Instant::now();
        let report = pool.shutdown(Duration::from_millis(100));
        assert!(report.complete && report.workers[0].rung == Rung::Terminated, "{report:?}");
        assert!(begun.elapsed() < MOMENT);
    });
}

#[test]
fn a_worker_that_reads_nothing_blocks_neither_submit_nor_shutdown() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = Pool::builder(command(&arena, child!("unheeding"))).workers(1).window(64).start().unwrap();
        let large = "x".repeat(1 << 20);
        let tasks: Vec<_> = std::iter::from_fn(|| pool.try_submit(ECHO, &large).ok()).take(100).collect();
        assert!((20..=32).contains(&tasks.len()), "{} MiB were let in, the queue takes 32", tasks.len());
        let begun = Instant::now();
        let report = pool.shutdown(Duration::from_millis(100));
        assert!(report.complete && report.workers[0].rung == Rung::Terminated, "{report:?}");
        assert!(begun.elapsed() < MOMENT);
        for task in tasks {
            assert_eq!(task.wait().unwrap_err().kind(), TaskErrorKind::Closed);
        }
    });
}

#[test]
fn nobody_outlives_a_killed_parent() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let mut overseer = Overseer::start(&arena, "held", 2, &[child!("honest")]);
        let sleeper: u32 = overseer.wait_for("sleeper").parse().unwrap();
        wait_for_effect(&arena, "spins");
        // Two workers, the sleeper of one, the program without the protocol, the guardian.
        assert!(
            eventually(MOMENT, || children_of(overseer.pid()).len() == 4),
            "{:?}",
            children_of(overseer.pid())
        );
        let mut everybody = children_of(overseer.pid());
        everybody.push(sleeper);
        assert!(everybody.iter().all(|pid| is_alive(*pid)));
        overseer.kill();
        let gone = eventually(Duration::from_secs(2), || {
            everybody.iter().all(|pid| !is_alive(*pid)) && arena.survivors().is_empty()
        });
        everybody.retain(|pid| is_alive(*pid));
        assert!(gone, "{everybody:?} and {:?} live on", arena.survivors());
    });
}

#[test]
fn an_idle_pool_does_nothing_at_all() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let mut overseer = Overseer::start(&arena, "idle", 2, &[child!("honest")]);
        overseer.wait_for("idle");
        let mut resting = 0;
        let mut last = stirrings(overseer.pid());
        let calm = eventually(MOMENT, || {
            let now = stirrings(overseer.pid());
            resting = if now == last { resting + 1 } else { 0 };
            last = now;
            resting == 50
        });
        assert!(calm, "the pool never came to rest");
        // Not a wait for something: the time in which nothing must happen.
        let begun = Instant::now();
        let stirred = eventually(Duration::from_secs(2), || stirrings(overseer.pid()) != last);
        assert!(!stirred, "a thread of an idle pool ran after {:?}", begun.elapsed());
    });
}

#[test]
fn sixty_four_workers_take_three_threads_of_the_parent_at_most() {
    within(PATIENCE, || {
        let overseer = run("all threads", 64, &[child!("honest")]);
        assert_eq!((overseer.number("answers"), overseer.number("children")), (1000, 65));
        assert!(overseer.number("threads") <= 3, "{overseer:?}");
    });
}

#[test]
fn results_that_nobody_takes_are_bounded_in_memory() {
    within(PATIENCE, || {
        let overseer = run("hoard", 2, &[child!("honest")]);
        assert_eq!((overseer.number("results"), overseer.fact("sent")), (400, "true"));
        let hoarded = overseer.number("hoarded");
        assert!(hoarded < 64 << 20, "{hoarded} bytes for results that may take 16 MiB");
    });
}
