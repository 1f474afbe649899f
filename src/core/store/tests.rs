//! The store against a naive model, with operations by chance.

use std::rc::Rc;
use std::time::{Duration, Instant};

use stokehold_protocol::{Message, wire};

use super::line::STALE_KEPT;
use super::*;
use crate::core::sim::random::Random;
use crate::core::{ItemFate, Policy, Source, Ticket};

/// A ticket for some tasks that follow each other.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) number: u64,
    pub(super) count: u32,
    pub(super) source: Option<Rc<Source>>,
}

impl Ticket for Card {
    fn accepted(&self, _: TaskKey) {}

    fn source(&self) -> Option<&Source> {
        self.source.as_deref()
    }

    fn split_front(&mut self, count: u32) -> Self {
        assert!((1..=self.count).contains(&count), "{count} of {self:?}");
        let first = Self { number: self.number, count, source: self.source.clone() };
        self.number += u64::from(count);
        self.count -= count;
        self.source = self.source.take().filter(|_| self.count > 0);
        first
    }

    fn delivered(&self, _: usize, _: u32, _: u32) {}

    fn is_wanted(&self) -> bool {
        true
    }

    fn item(&self, _: u32, _: &[u8]) -> ItemFate {
        ItemFate::Unwanted
    }

    fn restarted(&self, _: u32) {}
}

/// A task of the model, a batch, or a run: its number, how many bytes each input has, and where it is.
#[derive(Clone, Debug)]
struct Known {
    /// A run has none.
    key: Option<TaskKey>,
    /// Of the first that is left.
    number: u64,
    /// Of those that are left.
    sizes: Vec<usize>,
    /// How many bytes it counts for.
    weight: usize,
    /// Several in one frame.
    is_batch: bool,
    is_once: bool,
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
    /// What is pulled next, and how many of it if it is a run.
    fn next(&self, which: Pull, most: u32, bytes: usize) -> Option<(usize, usize)> {
        let places = self.tasks.iter().enumerate().filter_map(|(index, task)| match (task.at, which) {
            (Where::Alone(place), Pull::Alone) | (Where::Queue(place), Pull::First | Pull::Company) => {
                Some((place, index))
            }
            _ => None,
        });
        let (_, first) = places.min()?;
        let task = self.tasks.get(first).filter(|task| which != Pull::Company || !task.is_once)?;
        let mut sum = 0;
        let fitting = task.sizes.iter().take(most as usize).take_while(|size| {
            sum += **size;
            sum <= bytes
        });
        Some((first, fitting.count().max(1)))
    }

    fn count(&self, is: impl Fn(Where) -> bool) -> usize {
        self.tasks.iter().filter(|task| is(task.at)).map(|task| task.sizes.len()).sum()
    }

    fn put_first(&mut self) -> i64 {
        self.front -= 1;
        self.front
    }

    fn put_last(&mut self) -> i64 {
        self.back += 1;
        self.back
    }

    /// A task that a worker has, with a key.
    fn some_held(&self, random: &mut Random, is: impl Fn(&Known) -> bool) -> Option<(usize, TaskKey)> {
        let held = self.tasks.iter().enumerate().filter(|(_, task)| task.at == Where::Held && is(task));
        let held: Vec<(usize, TaskKey)> =
            held.filter_map(|(index, task)| task.key.map(|key| (index, key))).collect();
        random.pick(&held)
    }

    /// What is pulled of it is with a worker.
    fn pull(&mut self, (index, count): (usize, usize), key: TaskKey) {
        let task = &mut self.tasks[index];
        if task.key.is_some() {
            task.at = Where::Held;
            return;
        }
        let rest = task.sizes.split_off(count);
        let number = task.number + count as u64;
        let weight = task.sizes.iter().sum();
        let run = Known { number, sizes: rest, ..task.clone() };
        *task = Known { key: Some(key), weight, is_batch: count > 1, at: Where::Held, ..task.clone() };
        if !run.sizes.is_empty() {
            self.tasks.push(run);
        }
    }
}

/// So many tasks are in the table at most.
const TASKS_MAX: usize = 100;

/// The inputs of a run have no more bytes.
const SIZE_MAX: usize = 30;

/// Every fifth must not run twice.
fn task(number: u64) -> NewTask<Card> {
    let policy = if number.is_multiple_of(5) { Policy::once() } else { Policy::default() };
    let ticket = Card { number, count: 1, source: None };
    NewTask { ticket, number, body: vec![0; 3].into(), weight: 3, policy }
}

/// An input that names its task, and how many bytes it has.
pub(super) fn input(number: u64, padding: usize) -> Vec<u8> {
    let mut input = Vec::new();
    wire::write_str(&mut input, &format!("{number:05}{}", " ".repeat(padding)));
    input
}

/// The inputs that a task would be sent with.
fn inputs_of(task: &Task<Card>) -> Vec<Vec<u8>> {
    let Some(source) = task.ticket.source() else { return Vec::new() };
    if !task.is_batch() {
        return vec![Message::decode(&task.body.clone().into_vec()).unwrap().data.to_vec()];
    }
    let mut inputs = source.inputs(task.items, &task.body);
    std::iter::from_fn(|| inputs.next_value().unwrap().map(<[u8]>::to_vec)).collect()
}

fn names(task: u64, input: &[u8]) -> bool {
    input.windows(5).any(|window| window == format!("{task:05}").as_bytes())
}

#[test]
fn the_store_does_what_a_list_would_do() {
    let mut random = Random::new(Random::asked_seed().unwrap_or(7));
    for _ in 0..20 {
        walk(&mut random, 2_000);
    }
}

fn walk(random: &mut Random, steps: usize) {
    let sources = [Policy::default(), Policy::once()].map(|policy| Rc::new(Source::new("work", 7, policy)));
    let mut store = MemoryStore::new();
    let mut model = Model { tasks: Vec::new(), gone: Vec::new(), front: 0, back: 0 };
    let mut now = Instant::now();
    let mut number = 0;
    for _ in 0..steps {
        let is_full = model.count(|_| true) >= TASKS_MAX;
        match random.below(18) {
            0..=2 if !is_full => {
                number += 1;
                let key = Some(store.push(task(number)));
                let (is_once, at) = (number.is_multiple_of(5), Where::Queue(model.put_last()));
                let known = Known { key, number, sizes: vec![3], weight: 3, is_batch: false, is_once, at };
                model.tasks.push(known);
            }
            3 | 4 if !is_full => {
                let source = &sources[usize::from(random.once_in(4))];
                let at = Where::Queue(model.put_last());
                let known = push_run(&mut store, source, number + 1, random, at);
                number += known.sizes.len() as u64;
                model.tasks.push(known);
            }
            5..=8 => {
                let which = [Pull::Alone, Pull::Company, Pull::First][random.below(3)];
                let limit = if random.once_in(3) { 100_000 } else { 4 * SIZE_MAX };
                let (most, bytes) = (1 + random.below(8) as u32, random.below(limit));
                let pulled = store.pull(which, most, bytes);
                let expected = model.next(which, most, bytes);
                assert_eq!(pulled.is_some(), expected.is_some(), "{which:?} {most} {bytes}");
                if let (Some(key), Some(next)) = (pulled, expected) {
                    model.pull(next, key);
                    let known = &model.tasks[next.0];
                    assert_eq!(known.key, pulled);
                    check_inputs(&store, known);
                }
            }
            9 | 10 => finish_some(&mut store, &mut model, random),
            11 | 12 => release_some(&mut store, &mut model, random, now),
            13 => give_some(&mut store, &mut model, random),
            14 => split_some(&mut store, &mut model, random),
            15 => {
                now += Duration::from_micros(random.below(2_000) as u64);
                store.wake(now);
                wake(&mut model, now);
            }
            16 if random.once_in(100) => end_all_that_waits(&mut store, &mut model),
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

fn push_run(
    store: &mut MemoryStore<Card>,
    source: &Rc<Source>,
    first: u64,
    random: &mut Random,
    at: Where,
) -> Known {
    let count = 1 + random.below(12) as u32;
    let ticket = Card { number: first, count, source: Some(Rc::clone(source)) };
    let mut run = Run::new(ticket, first, store.run_buffers().pop().unwrap_or_default());
    let mut sizes = Vec::new();
    // Large enough to be sent as it lies, now and then.
    let most = if random.once_in(4) { 8_000 } else { SIZE_MAX };
    for number in (first..).take(count as usize) {
        let input = input(number, random.below(most));
        sizes.push(input.len());
        run.push(&input);
    }
    store.push_run(run);
    let is_once = source.policy().at_most_once;
    Known { key: None, number: first, sizes, weight: 0, is_batch: false, is_once, at }
}

/// What is handed out has the inputs of its tasks.
fn check_inputs(store: &MemoryStore<Card>, known: &Known) {
    let task = store.peek(known.key.unwrap()).unwrap();
    assert_eq!((task.ticket.number, task.ticket.count), (known.number, task.left()));
    if task.ticket.source.is_some() {
        let inputs = inputs_of(task);
        assert_eq!(inputs.iter().map(Vec::len).collect::<Vec<_>>(), known.sizes);
        assert!((known.number..).zip(&inputs).all(|(number, input)| names(number, input)));
    }
}

fn finish_some(store: &mut MemoryStore<Card>, model: &mut Model, random: &mut Random) {
    let keyed: Vec<usize> = (0..model.tasks.len()).filter(|at| model.tasks[*at].key.is_some()).collect();
    let Some(index) = random.pick(&keyed) else { return };
    let known = model.tasks.remove(index);
    let key = known.key.unwrap();
    let task = store.finish(key).unwrap();
    assert_eq!((task.number, task.left() as usize), (known.number, known.sizes.len()));
    model.gone.push(key);
    if known.at == Where::Held && random.once_in(3) {
        // It is needed again.
        let key = store.hold(task);
        model.tasks.push(Known { key, ..known });
    } else if random.once_in(2) {
        store.recycle(task.body);
    }
}

fn release_some(store: &mut MemoryStore<Card>, model: &mut Model, random: &mut Random, now: Instant) {
    let keyed: Vec<usize> = (0..model.tasks.len()).filter(|at| model.tasks[*at].key.is_some()).collect();
    let Some(index) = random.pick(&keyed) else { return };
    let place = model.put_first();
    let known = &mut model.tasks[index];
    if known.is_batch && known.weight > known.sizes.iter().sum() {
        // Results of it were given: it is taken apart before it is released.
        return;
    }
    let (how, at) = match random.below(3) {
        // Several in one frame neither pause nor run alone.
        _ if known.is_batch => (Release::Again, Where::Queue(place)),
        0 => (Release::Again, Where::Queue(place)),
        1 => (Release::Alone, Where::Alone(place)),
        _ => {
            // Each at another time, or the order of waking would be open.
            let at = now + Duration::from_micros(1 + known.number * 10 + place.unsigned_abs() % 7);
            (Release::Later(at), Where::Paused(at))
        }
    };
    store.release(known.key.unwrap(), how);
    if known.at == Where::Held {
        known.at = at;
    }
}

/// Results of a batch are given.
fn give_some(store: &mut MemoryStore<Card>, model: &mut Model, random: &mut Random) {
    let Some((index, key)) = model.some_held(random, |known| known.is_batch) else { return };
    let known = &mut model.tasks[index];
    let given = random.below(known.sizes.len() + 1);
    let mut task = store.lend(key).unwrap();
    assert!(store.get_mut(key).is_none() && store.finish(key).is_none(), "it is not there meanwhile");
    let given_now = u32::try_from(given).unwrap();
    if given_now > 0 {
        task.ticket.split_front(given_now);
    }
    task.given += given_now;
    task.number += given as u64;
    store.take_back(key, task, given_now);
    known.sizes.drain(..given);
    known.number += given as u64;
}

/// A batch is taken apart.
fn split_some(store: &mut MemoryStore<Card>, model: &mut Model, random: &mut Random) {
    let Some((index, key)) = model.some_held(random, |known| known.is_batch) else { return };
    let known = model.tasks.remove(index);
    model.gone.push(key);
    let (keys, freed) = store.split(key);
    assert_eq!(keys.len(), known.sizes.len());
    assert_eq!(freed, known.weight - known.sizes.iter().sum::<usize>());
    for ((number, size), key) in (known.number..).zip(&known.sizes).zip(keys) {
        let (key, sizes) = (Some(key), vec![*size]);
        let one = Known { key, number, sizes, weight: *size, is_batch: false, ..known };
        check_inputs(store, &one);
        model.tasks.push(one);
    }
}

fn end_all_that_waits(store: &mut MemoryStore<Card>, model: &mut Model) {
    let held = |task: &Known| task.at == Where::Held;
    let waiting = model.tasks.iter().filter(|task| !held(task));
    let mut expected: Vec<(u64, usize)> = waiting.map(|task| (task.number, task.sizes.len())).collect();
    expected.sort_unstable();
    let waiting = store.take_waiting();
    let ended = waiting.into_iter().filter_map(|key| store.finish(key));
    let ended: Vec<(u64, usize)> = ended.map(|task| (task.number, task.left() as usize)).collect();
    assert_eq!(ended, expected);
    model.gone.extend(model.tasks.iter().filter(|task| !held(task)).filter_map(|task| task.key));
    model.tasks.retain(held);
}

/// Those whose pause is over go to the front, the first to be woken foremost.
fn wake(model: &mut Model, now: Instant) {
    let mut due: Vec<(Instant, Option<TaskKey>, usize)> = Vec::new();
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

fn compare(store: &mut MemoryStore<Card>, model: &Model) {
    let alone = model.count(|at| matches!(at, Where::Alone(_)));
    let queued = model.count(|at| matches!(at, Where::Queue(_)));
    let paused = model.count(|at| matches!(at, Where::Paused(_)));
    assert_eq!((store.waiting(), store.waiting_alone(), store.pausing()), (queued + alone, alone, paused));
    assert_eq!(store.len(), model.count(|_| true));
    for task in &model.tasks {
        let Some(key) = task.key else { continue };
        assert_eq!(store.is_waiting(key), task.at != Where::Held);
        let inside = store.get_mut(key).map(|task| (task.number, task.left() as usize, task.weight));
        assert_eq!(inside, Some((task.number, task.sizes.len(), task.weight)));
    }
    let first = model.next(Pull::First, 1, 0).map(|(index, _)| model.tasks[index].number);
    assert_eq!(store.peek_ticket().map(|ticket| ticket.number), first);
    let soonest = model.tasks.iter().filter_map(|task| match task.at {
        Where::Paused(at) => Some(at),
        _ => None,
    });
    assert!(store.next_wake() <= soonest.min() || store.next_wake().is_some());
    assert!(store.lines_len() <= 3 * (2 * TASKS_MAX + STALE_KEPT + 1), "finished tasks pile up");
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
    assert!(store.lines_len() <= STALE_KEPT + 1 && store.tasks().count() == 0);
    assert_eq!(store.places(), 1, "the same place again and again");
}
