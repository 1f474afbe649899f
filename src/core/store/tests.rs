//! The store against a naive model, with operations by chance.

use std::time::{Duration, Instant};

use super::*;
use crate::core::Policy;
use crate::core::sim::random::Random;

/// A task of the model: its number and where it is.
#[derive(Clone, Copy, Debug)]
struct Known {
    key: TaskKey,
    number: u64,
    at: Where,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Where {
    Alone(i64),
    Held,
    Paused(Instant),
    Queue(i64),
}

/// Everything in one list; places in a line are numbers that only need to be compared.
#[derive(Debug)]
struct Model {
    tasks: Vec<Known>,
    gone: Vec<TaskKey>,
    front: i64,
    back: i64,
}

impl Model {
    fn next(&self, which: Pull) -> Option<usize> {
        let places = self.tasks.iter().enumerate().filter_map(|(index, task)| match (task.at, which) {
            (Where::Alone(place), Pull::Alone) | (Where::Queue(place), Pull::First | Pull::Company) => {
                Some((place, index))
            }
            _ => None,
        });
        let first = places.min().map(|(_, index)| index);
        first.filter(|index| which != Pull::Company || !self.tasks[*index].number.is_multiple_of(5))
    }

    fn count(&self, is: impl Fn(Where) -> bool) -> usize {
        self.tasks.iter().filter(|task| is(task.at)).count()
    }

    fn put_first(&mut self) -> i64 {
        self.front -= 1;
        self.front
    }
}

/// So many tasks are in the table at most.
const TASKS_MAX: usize = 100;

/// Every fifth must not run twice.
fn task(number: u64) -> NewTask<()> {
    let policy = if number.is_multiple_of(5) { Policy::once() } else { Policy::default() };
    NewTask { ticket: (), number, body: vec![0; 3], policy }
}

#[test]
fn the_store_does_what_a_list_would_do() {
    let mut random = Random::new(Random::asked_seed().unwrap_or(7));
    for _ in 0..20 {
        walk(&mut random, 2_000);
    }
}

fn walk(random: &mut Random, steps: usize) {
    let mut store = MemoryStore::new();
    let mut model = Model { tasks: Vec::new(), gone: Vec::new(), front: 0, back: 0 };
    let mut now = Instant::now();
    let mut number = 0;
    for _ in 0..steps {
        let some = random.below(model.tasks.len());
        match random.below(12) {
            0..=3 if model.tasks.len() < TASKS_MAX => {
                number += 1;
                model.back += 1;
                let key = store.push(task(number));
                model.tasks.push(Known { key, number, at: Where::Queue(model.back) });
            }
            0..=5 => {
                let which = [Pull::Alone, Pull::Company, Pull::First][random.below(3)];
                let expected = model.next(which);
                assert_eq!(store.pull(which), expected.map(|index| model.tasks[index].key));
                if let Some(index) = expected {
                    model.tasks[index].at = Where::Held;
                }
            }
            6 | 7 if !model.tasks.is_empty() => {
                let known = model.tasks.remove(some);
                assert_eq!(store.finish(known.key).map(|task| task.number), Some(known.number));
                model.gone.push(known.key);
            }
            8 | 9 if !model.tasks.is_empty() => {
                let place = model.put_first();
                let (how, at) = match random.below(3) {
                    0 => (Release::Again, Where::Queue(place)),
                    1 => (Release::Alone, Where::Alone(place)),
                    _ => {
                        // Each at another time, or the order of waking would be open.
                        let at = now + Duration::from_micros(1 + number * 10 + place.unsigned_abs() % 7);
                        (Release::Later(at), Where::Paused(at))
                    }
                };
                let known = &mut model.tasks[some];
                store.release(known.key, how);
                if known.at == Where::Held {
                    known.at = at;
                }
            }
            10 => {
                now += Duration::from_micros(random.below(2_000) as u64);
                store.wake(now);
                wake(&mut model, now);
            }
            11 if random.once_in(200) => {
                let mut expected: Vec<u64> = model
                    .tasks
                    .iter()
                    .filter(|task| task.at != Where::Held)
                    .map(|task| task.number)
                    .collect();
                expected.sort_unstable();
                let waiting = store.waiting_keys();
                let ended = waiting.into_iter().filter_map(|key| store.finish(key));
                let buried: Vec<u64> = ended.map(|task| task.number).collect();
                assert_eq!(buried, expected);
                model
                    .gone
                    .extend(model.tasks.iter().filter(|task| task.at != Where::Held).map(|task| task.key));
                model.tasks.retain(|task| task.at == Where::Held);
            }
            _ => {
                if let Some(key) = random.pick(&model.gone) {
                    store.release(key, Release::Again);
                    assert!(
                        store.finish(key).is_none() && store.get_mut(key).is_none() && !store.is_waiting(key)
                    );
                }
            }
        }
        compare(&mut store, &model);
    }
}

/// Those whose pause is over go to the front, the first to be woken foremost.
fn wake(model: &mut Model, now: Instant) {
    let mut due: Vec<(Instant, TaskKey, usize)> = Vec::new();
    for (index, task) in model.tasks.iter().enumerate() {
        if let Where::Paused(at) = task.at
            && at <= now
        {
            due.push((at, task.key, index));
        }
    }
    due.sort();
    for (_, _, index) in due.into_iter().rev() {
        model.tasks[index].at = Where::Queue(model.put_first());
    }
}

fn compare(store: &mut MemoryStore<()>, model: &Model) {
    let alone = model.count(|at| matches!(at, Where::Alone(_)));
    let queued = model.count(|at| matches!(at, Where::Queue(_)));
    let paused = model.count(|at| matches!(at, Where::Paused(_)));
    assert_eq!((store.waiting(), store.waiting_alone(), store.pausing()), (queued + alone, alone, paused));
    assert_eq!(store.len(), model.tasks.len());
    for task in &model.tasks {
        assert_eq!(store.is_waiting(task.key), task.at != Where::Held);
        assert_eq!(store.get_mut(task.key).map(|task| task.number), Some(task.number));
    }
    let soonest = model.tasks.iter().filter_map(|task| match task.at {
        Where::Paused(at) => Some(at),
        _ => None,
    });
    assert!(store.next_wake() <= soonest.min() || store.next_wake().is_some());
    for keys in [store.queue.keys.len(), store.alone.keys.len(), store.paused.len()] {
        assert!(keys <= 2 * TASKS_MAX + STALE_KEPT + 1, "finished tasks pile up");
    }
}

#[test]
fn a_key_survives_being_kept_as_a_number() {
    let key = TaskKey { index: 7, generation: u32::MAX };
    assert_eq!(TaskKey::from_bits(key.to_bits()), key);
}

#[test]
fn cancelled_tasks_leave_nothing_behind() {
    let mut store = MemoryStore::new();
    for number in 0..100_000 {
        let key = store.push(task(number));
        store.finish(key);
    }
    assert!(store.queue.keys.len() <= STALE_KEPT + 1 && store.entries.len() == 1);
}
