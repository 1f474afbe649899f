//! What each way to feed a pool allocates for a task when it has been busy for a while: nothing, or what is the user's.

use std::alloc::System;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use stokehold::{Data, JobSender, Order, Policy, Pool, Request, Results, Task, WorkerCommand};
use stokehold_tests::{Arena, within};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// No test here takes a tenth of it on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Answers with the square.
const SQUARE: Request<u64, u64> = Request::new("square");

/// Tasks of one round.
const TASKS: u64 = 10_000;

/// Buffers grow to what is needed at a time, and then stay. How soon that is depends on what the scheduler does; what each task
/// allocates is in every round.
const ROUNDS: usize = 30;

/// What is left: now and then a buffer that grows. One allocation a task would be twenty times as much.
const NEARLY_NONE: f64 = 0.05;

/// Counts one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A pool that has the process for itself for the time of a test.
fn alone(test: impl FnOnce(&Pool)) {
    within(PATIENCE, || {
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let arena = Arena::new();
        let (name, value) = arena.mark();
        let command = WorkerCommand::new(env!("CARGO_BIN_EXE_honest")).env(name, value);
        test(&Pool::builder(command).workers(2).start().unwrap());
    });
}

/// Some round of so many tasks must have at most `most` allocations for each.
#[track_caller]
fn assert_allocates(most: f64, mut round: impl FnMut(u64)) {
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        let before = ALLOCATOR.stats();
        round(TASKS);
        let after = ALLOCATOR.stats();
        let allocations = after.allocations - before.allocations;
        let reallocations = after.reallocations - before.reallocations;
        seen.push((allocations + reallocations) as f64 / TASKS as f64);
        if seen.last().is_some_and(|each| *each <= most) {
            return;
        }
    }
    panic!("more than {most} allocations a task in every round: {seen:?}");
}

/// Sends on one thread and receives on another.
fn pass<J, R>(
    (jobs, results): &mut (JobSender<J>, Results<R>),
    tasks: u64,
    send: impl Fn(&JobSender<J>, u64) + Sync,
) where
    J: ?Sized + Sync,
{
    std::thread::scope(|scope| {
        scope.spawn(|| (0..tasks).for_each(|task| send(jobs, task)));
        for _ in 0..tasks {
            results.recv().unwrap().result.unwrap();
        }
    });
}

#[test]
fn a_channel_allocates_nothing() {
    alone(|pool| {
        for order in [Order::Completion, Order::Input] {
            let mut ends = pool.channel(SQUARE, order);
            assert_allocates(NEARLY_NONE, |tasks| {
                pass(&mut ends, tasks, |jobs, task| jobs.send(&task).unwrap());
            });
        }
    });
}

#[test]
fn a_channel_of_data_allocates_the_data_that_is_received() {
    alone(|pool| {
        let data = Data::bytes(&[7; 64]);
        for order in [Order::Completion, Order::Input] {
            let mut ends = pool.channel_data("DO", order).unwrap();
            assert_allocates(1.0 + NEARLY_NONE, |tasks| {
                pass(&mut ends, tasks, |jobs, _| jobs.send_data(&data).unwrap());
            });
        }
    });
}

#[test]
fn a_channel_allocates_nothing_for_tasks_that_go_one_by_one() {
    alone(|pool| {
        // In frames of their own, one after the other, and with each waited for before the next.
        let mut ends = pool.with(Policy::once()).channel(SQUARE, Order::Completion);
        assert_allocates(NEARLY_NONE, |tasks| {
            pass(&mut ends, tasks, |jobs, task| jobs.send(&task).unwrap());
        });
        let (jobs, mut results) = pool.channel(SQUARE, Order::Input);
        assert_allocates(NEARLY_NONE, |tasks| {
            for task in 0..tasks {
                jobs.send(&task).unwrap();
                assert_eq!(results.recv().unwrap().result.unwrap(), task * task);
            }
        });
    });
}

#[test]
fn a_limit_of_time_allocates_once_a_task() {
    alone(|pool| {
        let mut ends = pool.with(Policy::default().timeout(PATIENCE)).channel(SQUARE, Order::Completion);
        assert_allocates(1.0 + NEARLY_NONE, |tasks| {
            pass(&mut ends, tasks, |jobs, task| jobs.send(&task).unwrap());
        });
    });
}

#[test]
fn maps_allocate_nothing() {
    alone(|pool| {
        assert_allocates(NEARLY_NONE, |tasks| {
            assert_eq!(pool.imap(SQUARE, 0..tasks).filter(Result::is_ok).count() as u64, tasks);
        });
        assert_allocates(NEARLY_NONE, |tasks| {
            assert_eq!(pool.imap_unordered(SQUARE, 0..tasks).filter(Result::is_ok).count() as u64, tasks);
        });
        // The list of results grows by doubling.
        assert_allocates(NEARLY_NONE, |tasks| {
            assert_eq!(pool.map(SQUARE, 0..tasks).len() as u64, tasks);
        });
    });
}

#[test]
fn a_handle_allocates_its_task_and_the_place_of_its_outcome() {
    // The answer comes in the memory of the task.
    alone(|pool| {
        let data = Data::bytes(&[7; 64]);
        assert_allocates(2.0 + NEARLY_NONE, |tasks| {
            for _ in 0..tasks {
                pool.submit_data("DO", &data).unwrap().wait().unwrap();
            }
        });
        assert_allocates(2.0 + NEARLY_NONE, |tasks| {
            let mut open: VecDeque<Task<Data>> = VecDeque::with_capacity(64);
            for _ in 0..tasks {
                if open.len() == 64 {
                    open.pop_front().unwrap().wait().unwrap();
                }
                open.push_back(pool.submit_data("DO", &data).unwrap());
            }
            open.into_iter().for_each(|task| drop(task.wait().unwrap()));
        });
    });
}
