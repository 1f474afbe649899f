//! How many workers a pool has, and which: replacing them in time, growing and shrinking, giving them up. No task is lost or run
//! twice for it, and there are never fewer than there should be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stokehold::{Event, Pool, Receiver, Recycle, Request, Retirement, SubmitError, TaskErrorKind};
use stokehold_tests::{Arena, eventually, is_alive, kill, within};

use crate::child;
use crate::performer::{RUN, STAY, events_until, performers, runs, wait_for_runs};
use crate::stage::{MOMENT, PATIENCE, SQUARE, WAIT_AT, WHO, command, honest, running_in, wait_for_effect};

const EAT: Request<(usize, u64), usize> = Request::new("eat");
const SLOT: Request<(), u32> = Request::DO;
/// `RUN`, with names that are made on the way.
const RUN_OWNED: Request<String, u32> = Request::new("note");

/// Follows a pool's events: who is ready, by worker's number.
#[derive(Debug, Default)]
struct Staff {
    ready: BTreeMap<u32, usize>,
    /// The fewest at any time after the first was ready for all.
    fewest: usize,
    retired: Vec<(usize, Retirement)>,
    deaths: Vec<stokehold::Cause>,
    pids: BTreeSet<u32>,
}

impl Staff {
    fn after(workers: usize, events: impl IntoIterator<Item = Event>) -> Self {
        let mut staff = Self { fewest: usize::MAX, ..Self::default() };
        let mut complete = false;
        for event in events {
            match event {
                Event::WorkerReady { worker, pid } => {
                    staff.ready.insert(pid, worker);
                    staff.pids.insert(pid);
                }
                Event::WorkerRetired { worker, pid, why } => {
                    staff.ready.remove(&pid);
                    staff.retired.push((worker, why));
                }
                Event::WorkerDied(death) => {
                    staff.ready.remove(&death.pid.unwrap_or(0));
                    staff.deaths.push(death.cause.clone());
                }
                _ => continue,
            }
            complete |= staff.ready.len() >= workers;
            if complete {
                staff.fewest = staff.fewest.min(staff.ready.len());
            }
        }
        staff
    }
}

fn retired(event: &Event) -> Option<Retirement> {
    match event {
        Event::WorkerRetired { why, .. } => Some(*why),
        _ => None,
    }
}

/// The events until so many workers got ready.
fn events_until_ready(events: &Receiver<Event>, count: usize) -> Vec<Event> {
    let mut ready = 0;
    events_until(events, |event| {
        ready += usize::from(matches!(event, Event::WorkerReady { .. }));
        ready == count
    })
}

/// Waits until so many workers got ready; gives their process ids.
fn wait_for_ready(events: &Receiver<Event>, count: usize) -> Vec<u32> {
    Staff::after(count, events_until_ready(events, count)).ready.into_keys().collect()
}

#[test]
fn workers_are_replaced_after_so_many_tasks_and_nobody_is_missed() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let recycle = Recycle::default().tasks(50);
        let pool = honest(&arena, 2).record_events().recycle(recycle).start().unwrap();
        let events = pool.events();
        let mut seen = events_until_ready(&events, 2);
        let mut by_pid: BTreeMap<u32, usize> = BTreeMap::new();
        let enough = eventually(MOMENT, || {
            for answer in pool.map(WHO, [(); 50]) {
                let (pid, slot, attempt) = answer.unwrap();
                assert!(slot < 2 && attempt == 1, "{slot} {attempt}");
                *by_pid.entry(pid).or_default() += 1;
            }
            seen.extend(events.try_iter());
            seen.iter().filter(|event| retired(event).is_some()).count() >= 6
        });
        assert!(enough, "{by_pid:?}");
        let staff = Staff::after(2, seen);
        assert!(staff.retired.iter().all(|(worker, why)| *worker < 2 && *why == Retirement::Tasks));
        assert!(staff.fewest >= 2 && staff.deaths.is_empty(), "{staff:?}");
        // Nobody did fewer than nine tenths before it was replaced.
        let live: BTreeSet<u32> = staff.ready.keys().copied().collect();
        let short: Vec<_> =
            by_pid.iter().filter(|(pid, tasks)| **tasks < 45 && !live.contains(pid)).collect();
        assert!(short.is_empty(), "{short:?}");
        let old: Vec<u32> = staff.pids.difference(&live).copied().collect();
        assert!(eventually(MOMENT, || old.iter().all(|pid| !is_alive(*pid))), "the replaced ones live on");
        assert_eq!(live.len(), 2);
    });
}

#[test]
fn a_worker_that_is_to_be_replaced_works_until_the_other_is_ready() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let recycle = Recycle::default().tasks(1);
        // Its first life is honest; the one that should come is never ready.
        let command = command(&arena, child!("fickle")).arg("boot");
        let pool = Pool::builder(command).workers(1).recycle(recycle).start().unwrap();
        let events = pool.events();
        let mut answers = 0;
        let mut died = false;
        while !died {
            assert_eq!(pool.submit(SLOT, &()).unwrap().wait().unwrap(), 0);
            answers += 1;
            died |= events
                .try_iter()
                .any(|event| matches!(event, Event::WorkerDied(death) if death.code() == Some(7)));
        }
        // It goes on, and not every task is followed by another try.
        for _ in 0..50 {
            assert_eq!(pool.submit(SLOT, &()).unwrap().wait().unwrap(), 0);
        }
        let others = events.try_iter().filter(|event| !matches!(event, Event::Stderr { .. })).count();
        assert_eq!(others, 0, "after {answers} answers");
        assert_eq!(arena.survivors().len(), 1);
    });
}

#[test]
fn workers_are_replaced_at_an_age_and_not_in_the_middle_of_a_task() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let recycle = Recycle::default().age(Duration::from_millis(150));
        let pool = honest(&arena, 1).record_events().recycle(recycle).start().unwrap();
        let events = pool.events();
        let held = pool.submit(WAIT_AT, "gate").unwrap();
        wait_for_effect(&arena, "at gate");
        let old = running_in(&held);
        let seen = events_until(&events, |event| retired(event).is_some());
        assert_eq!(seen.last().and_then(retired), Some(Retirement::Age));
        let staff = Staff::after(1, seen);
        assert_eq!((staff.fewest, staff.ready.len(), staff.pids.len()), (1, 1, 2));
        // It has its task still, and the new one takes the others, under the same number.
        let (pid, slot, _) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        assert!(pid != old && slot == 0 && is_alive(old));
        arena.open("gate");
        assert_eq!(held.wait().unwrap(), (old, 0, 1));
        assert!(eventually(MOMENT, || !is_alive(old)));
    });
}

#[test]
fn workers_that_grow_too_large_are_replaced() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let recycle = Recycle::default().memory(48 << 20);
        let pool = performers(&arena, 1, "").record_events().recycle(recycle).start().unwrap();
        let events = pool.events();
        let (old, ..) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        assert_eq!(pool.submit(EAT, &(96, 600)).unwrap().wait().unwrap(), 1);
        let seen = events_until(&events, |event| retired(event).is_some());
        assert_eq!(seen.last().and_then(retired), Some(Retirement::Memory));
        let (new, slot, attempt) = pool.submit(WHO, &()).unwrap().wait().unwrap();
        assert!(new != old && (slot, attempt) == (0, 1));
        assert_eq!(Staff::after(1, seen).fewest, 1);
        assert!(eventually(MOMENT, || !is_alive(old)));
    });
}

#[test]
fn a_pool_is_resized_while_it_works() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = performers(&arena, 1, "").window(1).record_events().start().unwrap();
        let events = pool.events();
        let first = pool.submit(STAY, "first").unwrap();
        wait_for_runs(&arena, "first", 1);
        pool.resize(4);
        assert_eq!(wait_for_ready(&events, 4).len(), 4);
        // All four are busy now; three are told to go, and finish first.
        let tasks = ["b", "c", "d"].map(|name| pool.submit(STAY, name).unwrap());
        let pids: BTreeSet<u32> =
            ["first", "b", "c", "d"].iter().map(|name| wait_for_runs(&arena, name, 1).pid).collect();
        assert_eq!(pids.len(), 4);
        pool.resize(1);
        let mut gone = 0;
        let seen = events_until(&events, |event| {
            gone += usize::from(retired(event) == Some(Retirement::Resized));
            gone == 3
        });
        assert!(pids.iter().all(|pid| is_alive(*pid)));
        let queued = pool.submit(RUN, "queued").unwrap();
        for name in ["first", "b", "c", "d"] {
            arena.open(name);
        }
        first.wait().unwrap();
        for task in tasks {
            task.wait().unwrap();
        }
        assert_eq!(queued.wait().unwrap(), 1);
        assert!(eventually(MOMENT, || pids.iter().filter(|pid| is_alive(**pid)).count() == 1));
        assert!(["first", "b", "c", "d"].iter().all(|name| runs(&arena, name).len() == 1));
        assert!(
            !seen.into_iter().chain(events.try_iter()).any(|event| matches!(event, Event::WorkerDied(_)))
        );
        // There and back under load, often: nothing is lost.
        std::thread::scope(|scope| {
            let load = scope.spawn(|| pool.map(RUN_OWNED, (0..300).map(|number| number.to_string())));
            for workers in [3, 1, 4, 2, 5, 1, 2] {
                pool.resize(workers);
                pool.submit(RUN, "between").unwrap().wait().unwrap();
            }
            assert!(load.join().unwrap().into_iter().all(|attempt| attempt.unwrap() == 1));
        });
        assert!((0..300).all(|number| runs(&arena, &number.to_string()).len() == 1));
        assert!(eventually(MOMENT, || arena.survivors().len() == 2), "{:?}", arena.survivors());
    });
}

#[test]
fn a_pool_grows_with_its_work_and_shrinks_without() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let idle = Duration::from_millis(150);
        let pool =
            honest(&arena, 1).workers_max(3).idle_timeout(idle).window(1).record_events().start().unwrap();
        let events = pool.events();
        // One task at a time needs one worker.
        for number in 0..20 {
            assert_eq!(pool.submit(SQUARE, &number).unwrap().wait().unwrap(), number * number);
        }
        let held: Vec<_> = (0..6).map(|_| pool.submit(WAIT_AT, "gate").unwrap()).collect();
        assert!(eventually(MOMENT, || arena.count("at gate") == 3));
        assert_eq!(arena.survivors().len(), 3);
        arena.open("gate");
        let pids: BTreeSet<u32> = held.into_iter().map(|task| task.wait().unwrap().0).collect();
        assert_eq!(pids.len(), 3);
        let mut gone = Vec::new();
        events_until(&events, |event| {
            gone.extend(retired(event));
            gone.len() == 2
        });
        assert_eq!(gone, [Retirement::Idle; 2]);
        assert!(eventually(MOMENT, || arena.survivors().len() == 1));
        // The fewest stay, and it grows again.
        let again: Vec<_> = (0..3).map(|_| pool.submit(WAIT_AT, "again").unwrap()).collect();
        assert!(eventually(MOMENT, || arena.count("at again") == 3));
        arena.open("again");
        assert!(again.into_iter().all(|task| task.wait().is_ok()));
        assert!(!events.try_iter().any(|event| matches!(event, Event::WorkerDied(_))));
    });
}

#[test]
fn a_worker_that_says_that_no_try_will_help_is_given_up_and_the_others_go_on() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let command = command(&arena, child!("fickle")).arg("125 in 1");
        let pool = Pool::builder(command).workers(2).record_events().start().unwrap();
        let events = pool.events();
        let given_up = events_until(&events, |event| matches!(event, Event::WorkerGivenUp(_))).pop().unwrap();
        let Event::WorkerGivenUp(death) = given_up else { panic!("{given_up:?}") };
        assert_eq!((death.worker, death.code(), death.was_ready), (1, Some(125), false));
        assert!(death.stderr_tail.contains("no licence for two"), "{death:?}");
        for _ in 0..20 {
            assert_eq!(pool.submit(SLOT, &()).unwrap().wait().unwrap(), 0);
        }
        // Nobody tried again meanwhile. A resize does.
        let is_start = |event: &Event| matches!(event, Event::WorkerStarted { worker: 1, .. });
        assert!(!events.try_iter().any(|event| is_start(&event)));
        arena.open("well");
        pool.resize(2);
        events_until(&events, |event| matches!(event, Event::WorkerReady { worker: 1, .. }));
        let mut slots = BTreeSet::new();
        assert!(eventually(MOMENT, || {
            let tasks = [(); 4].map(|()| pool.submit(SLOT, &()).unwrap());
            slots.extend(tasks.map(|task| task.wait().unwrap()));
            slots.len() == 2
        }));
        assert_eq!(slots, BTreeSet::from([0, 1]));
    });
}

/// Kills the one worker of a pool whose later workers do not last, with tasks in the queue; gives the deaths from the second on,
/// when the pool has broken and has answered everything.
fn break_down(how: &str) -> Vec<std::sync::Arc<stokehold::Death>> {
    let arena = Arena::new();
    let command = command(&arena, child!("fickle")).arg(how);
    let pool = Pool::builder(command).workers(1).record_events().start().unwrap();
    let events = pool.events();
    let [first] = wait_for_ready(&events, 1)[..] else { panic!() };
    assert_eq!(pool.submit(SLOT, &()).unwrap().wait().unwrap(), 0);
    kill(first);
    assert!(eventually(MOMENT, || !is_alive(first)));
    // Those that need a worker wait for the pause between restarts to pass, and are answered at the end.
    let seen = events_until(&events, |event| matches!(event, Event::Broken(_)));
    let Some(Event::Broken(last)) = seen.last() else { panic!() };
    let refused = pool.submit(SLOT, &()).unwrap_err();
    assert!(
        matches!(&refused, SubmitError::Broken(death) if death.code() == last.code() && death.pid == last.pid),
        "{refused:?}"
    );
    assert!(matches!(pool.reserve_blocking(), Err(SubmitError::Broken(_))));
    let given_up = seen.iter().filter(|event| matches!(event, Event::WorkerGivenUp(_))).count();
    assert_eq!(given_up, 1);
    assert!(pool.shutdown(MOMENT).complete);
    let mut deaths: Vec<_> = seen
        .into_iter()
        .filter_map(|event| match event {
            Event::WorkerDied(death) => Some(death),
            _ => None,
        })
        .collect();
    assert_eq!(deaths.remove(0).signal(), Some(9));
    deaths
}

#[test]
fn a_worker_that_dies_at_every_start_is_given_up_after_three() {
    within(PATIENCE, || {
        let deaths = break_down("boot");
        assert_eq!(deaths.len(), 3, "{deaths:?}");
        assert!(deaths.iter().all(|death| death.code() == Some(7) && !death.was_ready), "{deaths:?}");
    });
}

#[test]
fn a_worker_that_dies_without_work_is_given_up_after_six() {
    within(PATIENCE, || {
        let deaths = break_down("idle");
        assert_eq!(deaths.len(), 6, "{deaths:?}");
        assert!(deaths.iter().all(|death| death.code() == Some(9) && death.was_ready), "{deaths:?}");
    });
}

#[test]
fn a_worker_that_exits_for_good_is_given_up_at_once() {
    within(PATIENCE, || assert_eq!(break_down("for good").len(), 1));
}

#[test]
fn a_pool_that_breaks_answers_everything_that_waits() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let command = command(&arena, child!("fickle")).arg("boot");
        let pool =
            Pool::builder(command).workers(1).window(1).record_events().dead_letters(100).start().unwrap();
        let events = pool.events();
        let [first] = wait_for_ready(&events, 1)[..] else { panic!() };
        stokehold_tests::stop(first);
        let tasks: Vec<_> = (0..20).map(|_| pool.submit(SLOT, &()).unwrap()).collect();
        let stream = pool.submit_stream::<(), _, _>(SLOT, &()).unwrap();
        let (jobs, results) = pool.channel(SLOT, stokehold::Order::Input);
        jobs.send(&()).unwrap();
        kill(first);
        for task in tasks {
            let error = task.wait().unwrap_err();
            assert_eq!(
                (error.kind(), error.code(), error.exit_code()),
                (TaskErrorKind::Broken, "unavailable", Some(7))
            );
        }
        assert_eq!(stream.finish().unwrap_err().kind(), TaskErrorKind::Broken);
        assert!(jobs.send(&()).is_err());
        drop(jobs);
        let kinds: Vec<_> = results.map(|result| result.unwrap_err().kind()).collect();
        assert_eq!(kinds, [TaskErrorKind::Broken]);
        assert!(pool.dead_letters().is_empty());
    });
}
