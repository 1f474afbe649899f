//! What the specification asks of a parent and a hostile child cannot show: what it tells its children, and for what it does not
//! end them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use stokehold::{Cause, Data, Event, Policy, Pool, PoolBuilder, SubmitError, TaskErrorKind};
use stokehold_tests::{Arena, eventually, within};

use crate::child;
use crate::stage::{ECHO, MOMENT, PATIENCE, command, wait_for_effect};

/// A pool of so many recorders, to be started.
fn recorders(arena: &Arena, workers: usize) -> PoolBuilder {
    Pool::builder(command(arena, child!("recorder"))).workers(workers)
}

/// The words of every note that begins with that word, without it.
fn noted(arena: &Arena, first: &str) -> Vec<Vec<String>> {
    let notes = arena.effects();
    let words = notes.iter().filter_map(|note| note.strip_prefix(first)?.strip_prefix(' '));
    words.map(|words| words.split(' ').map(str::to_owned).collect()).collect()
}

#[test]
fn each_worker_has_an_address_of_its_own_also_after_many_deaths() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = recorders(&arena, 2).start().unwrap();
        for _ in 0..10 {
            let error = pool.with(Policy::once()).submit(ECHO, "die").unwrap().wait().unwrap_err();
            assert_eq!(error.exit_code(), Some(7), "{error}");
            assert_eq!(pool.submit(ECHO, "hello").unwrap().wait().unwrap(), "hello");
        }
        let all = || noted(&arena, "hello");
        assert!(eventually(MOMENT, || all().len() >= 12), "{:?}", all());
        let (mut processes, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for hello in all() {
            let (process, address): (u64, u64) = (hello[0].parse().unwrap(), hello[1].parse().unwrap());
            assert!(addresses.insert(address), "{address} was given twice");
            // A process id that comes again is no address again.
            let expected = if processes.insert(process) { address == process } else { address > 1 << 22 };
            assert!(expected, "{process} has the address {address}");
        }
    });
}

#[test]
fn workers_may_always_answer_with_16_mib() {
    within(PATIENCE, || {
        for max_frame in [0, 1, 1 << 20, 0x0100_0000, u32::MAX] {
            let arena = Arena::new();
            let pool = recorders(&arena, 1).max_frame(max_frame).start().unwrap();
            pool.submit(ECHO, "hello").unwrap().wait().unwrap();
            let announced: Vec<u32> =
                noted(&arena, "hello").iter().map(|hello| hello[2].parse().unwrap()).collect();
            assert_eq!(announced, [max_frame.clamp(0x00ff_ffff, 0x07ff_ffff)]);
        }
    });
}

#[test]
fn a_key_is_that_of_all_attempts_of_its_task_and_of_no_other_in_any_run() {
    within(PATIENCE, || {
        let mut keys = BTreeSet::new();
        for _ in 0..2 {
            let arena = Arena::new();
            let pause = Duration::from_millis(1);
            let policy = Policy::default().attempts(3).backoff(pause, pause).with_key();
            let pool = recorders(&arena, 2).policy(policy).start().unwrap();
            let names = ["first", "second", "third"];
            let tasks = names.map(|name| pool.submit(ECHO, &format!("thrice {name}")).unwrap());
            for task in tasks {
                task.wait().unwrap();
            }
            for name in names {
                let attempts: BTreeMap<String, String> = noted(&arena, name)
                    .into_iter()
                    .map(|note| <[String; 2]>::try_from(note).unwrap().into())
                    .collect();
                assert_eq!(attempts.keys().collect::<Vec<_>>(), ["1", "2", "3"], "{name}");
                let of_task: BTreeSet<&String> = attempts.values().collect();
                assert_eq!(of_task.len(), 1, "{name}: {attempts:?}");
                let key = of_task.first().unwrap().to_string();
                assert!(!key.is_empty() && keys.insert(key), "{name}: {attempts:?}");
            }
        }
        assert_eq!(keys.len(), 6);
    });
}

#[test]
fn whatever_a_worker_writes_is_a_sign_of_life() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = recorders(&arena, 1).heartbeat(Duration::from_millis(400)).start().unwrap();
        let events = pool.events();
        // It does not answer PING meanwhile, and says what nobody knows.
        assert_eq!(pool.submit(ECHO, "hum").unwrap().wait().unwrap(), "hum");
        assert!(!events.try_iter().any(|event| matches!(event, Event::WorkerDied(_))));
    });
}

#[test]
fn a_worker_that_lists_no_ping_may_be_silent() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let silence = Duration::from_millis(50);
        let pool =
            Pool::builder(command(&arena, child!("plain"))).workers(1).heartbeat(silence).start().unwrap();
        let events = pool.events();
        let task = pool.submit(ECHO, "stay").unwrap();
        wait_for_effect(&arena, "stays");
        let begun = Instant::now();
        assert!(eventually(MOMENT, || begun.elapsed() > silence * 10));
        arena.open("stay");
        assert_eq!(task.wait().unwrap(), "stay");
        assert!(!events.try_iter().any(|event| matches!(event, Event::WorkerDied(_))));
    });
}

#[test]
fn an_exit_with_code_0_and_nothing_unanswered_costs_nobody_anything() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = Pool::builder(command(&arena, child!("parting"))).workers(1).start().unwrap();
        let events = pool.events();
        // It exits behind every answer, without BYE, more often than a worker may die in a row.
        for number in 0..40 {
            let word = format!("word {number}");
            assert_eq!(pool.submit(ECHO, &word).unwrap().wait().unwrap(), word);
        }
        let seen: Vec<Event> = events.try_iter().collect();
        for event in &seen {
            match event {
                Event::WorkerDied(death) => {
                    assert!(matches!(death.cause, Cause::Exited) && death.code() == Some(0), "{death:?}");
                    assert_eq!(death.task, None, "{death:?}");
                }
                Event::WorkerGivenUp(_) | Event::Broken(_) => panic!("{event:?}"),
                _ => {}
            }
        }
    });
}

#[test]
fn an_answer_that_is_no_value_never_reaches_another_worker() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = Pool::builder(command(&arena, child!("wire_villain"))).workers(1).start().unwrap();
        // Nobody looked at them yet: the byte c1, two values, an array without its second value.
        for (number, bytes) in ["c1", "0102", "9201"].iter().enumerate() {
            let job = Data::text(&format!("{number}:data {bytes}"));
            let answer = pool.submit_data("DO", &job).unwrap().wait().unwrap();
            assert!(answer.decode::<u64>().is_err());
            let error = pool.submit_data("DO", &answer).unwrap_err();
            assert!(matches!(error, SubmitError::Encode(_)), "{error}");
        }
        let error = pool.submit(ECHO, "last:data c1").unwrap().wait().unwrap_err();
        assert_eq!(error.kind(), TaskErrorKind::Decode);
        assert_eq!(pool.submit(ECHO, "hello").unwrap().wait().unwrap(), "hello");
    });
}
