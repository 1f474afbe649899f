//! Everything that can happen, by chance and in any order; what must hold is checked after every step (see `World::check`).
//!
//! `STOKEHOLD_SEED=n` walks one walk, the one that was named with a failure; `STOKEHOLD_STEPS=n` walks further.

use std::cell::Cell;
use std::time::Duration;

use super::random::Random;
use super::world::{Batches, World, config};
use crate::core::{Event, Flaw, Recycle, SupervisorConfig, TaskErrorKind};

mod children;
mod users;

/// Steps of the ordinary run.
const STEPS: usize = 1_000_000;

/// Steps of one walk, before the pool is ended.
const WALK_STEPS: usize = 400;

/// So many threads walk, each other walks.
const WALKERS: u64 = 2;

#[test]
fn every_accepted_task_has_exactly_one_end_whatever_happens() {
    let taken = Cell::new(0);
    if let Some(seed) = Random::asked_seed() {
        walk(seed, None, &taken);
        return;
    }
    let steps =
        std::env::var("STOKEHOLD_STEPS").map_or(STEPS, |steps| steps.parse().expect("a number of steps"));
    let each = steps / WALKERS as usize + 1;
    let walkers: Vec<_> =
        (0..WALKERS).map(|walker| std::thread::spawn(move || walk_on(walker, each))).collect();
    let mut ends = Ends::default();
    let mut walked = 0;
    for walker in walkers {
        let (steps, found) = walker.join().expect("nothing to be found");
        walked += steps;
        ends.add(&found);
    }
    println!("{walked} steps: {ends:?}");
    let Ends { done, failed, dead, lost, timed_out, cancelled, closed, broken, restarted, .. } = ends;
    assert!(
        [done, failed, dead, lost, timed_out, cancelled, closed, broken, restarted]
            .iter()
            .all(|count| *count > 0),
        "the walks miss a way to end: {ends:?}"
    );
    let Batches { handed, whole_again, parts, bad, failed, wrong, deaths, blamed, .. } = ends.batches;
    assert!(
        [handed, whole_again, parts, bad, failed, wrong, deaths, blamed].iter().all(|count| *count > 0),
        "the walks miss something of batches: {ends:?}"
    );
}

/// Walks with the seeds of one walker, until there are enough steps.
fn walk_on(walker: u64, steps: usize) -> (usize, Ends) {
    let (taken, mut ends) = (Cell::new(0), Ends::default());
    for seed in (walker..).step_by(WALKERS as usize) {
        walk(seed, None, &taken).tally(&mut ends);
        if taken.get() >= steps {
            break;
        }
    }
    (taken.get(), ends)
}

/// How the tasks of some walks ended, so that it can be seen that the walks get everywhere.
#[derive(Debug, Default)]
struct Ends {
    pools_broken: usize,
    done: usize,
    failed: usize,
    dead: usize,
    lost: usize,
    timed_out: usize,
    cancelled: usize,
    closed: usize,
    broken: usize,
    restarted: usize,
    batches: Batches,
}

impl Ends {
    fn add(&mut self, other: &Self) {
        self.pools_broken += other.pools_broken;
        self.done += other.done;
        self.failed += other.failed;
        self.dead += other.dead;
        self.lost += other.lost;
        self.timed_out += other.timed_out;
        self.cancelled += other.cancelled;
        self.closed += other.closed;
        self.broken += other.broken;
        self.restarted += other.restarted;
        self.batches.add(&other.batches);
    }
}

/// Names the seed when a walk fails.
#[derive(Debug)]
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again with STOKEHOLD_SEED={}", self.0);
        }
    }
}

/// One walk, counted in `taken`; with a mistake in the core if one is to be made.
pub(super) fn walk<'a>(seed: u64, flaw: Option<Flaw>, taken: &'a Cell<usize>) -> Walk<'a> {
    let _named = Named(seed);
    let mut random = Random::new(seed);
    let all_serial = random.once_in(2);
    let config = any_config(&mut random, all_serial);
    // How the children of this walk behave: some walks are all calm, or none ever crashes.
    let hostile = 1 + random.below(40);
    let is_frail = random.once_in(8);
    let is_quick = random.once_in(3);
    let mut world = World::of(config);
    world.core.flaw = flaw;
    world.core.timers.keeps = flaw == Some(Flaw::KeepsTimers);
    world.core.store.forgets_given = flaw == Some(Flaw::ForgetsGivenParts);
    world.all_serial = all_serial;
    Walk { world, hostile, is_frail, is_quick, taken, channels: Vec::new(), random }.run()
}

fn any_config(random: &mut Random, all_serial: bool) -> SupervisorConfig {
    let mut millis = |most: usize| Duration::from_millis(1 + random.below(most) as u64);
    let (idle, beat, frame, stream) = (millis(3_000), millis(2_000) * 4, millis(20_000), millis(8_000));
    let (cancel, terminate, age) = (millis(500) - Duration::from_millis(1), millis(500), millis(10_000));
    let workers = 1 + random.below(3);
    let most = if random.once_in(3) { 40 } else { 6 };
    let window = 1 + random.below(most) as u32;
    let mut recycle = Recycle::default();
    if random.once_in(3) {
        recycle = recycle.tasks(1 + random.below(20) as u64);
    }
    if random.once_in(4) {
        recycle = recycle.age(age);
    }
    if random.once_in(4) {
        recycle = recycle.memory(1_500);
    }
    SupervisorConfig {
        workers_max: workers + random.below(2) * random.below(3),
        idle_timeout: random.once_in(2).then_some(idle),
        recycle,
        window: random.once_in(2).then_some(window),
        heartbeat: random.once_in(3).then_some(beat),
        frame_timeout: frame,
        stream_timeout: stream,
        cancel_grace: cancel,
        terminate_grace: terminate,
        reports_starts: !all_serial && random.once_in(2),
        task_events: random.once_in(4),
        keeps_dead_letters: random.once_in(2),
        seed: random.below(usize::MAX) as u64,
        ..config(workers)
    }
}

#[derive(Debug)]
pub(super) struct Walk<'a> {
    world: World,
    random: Random,
    /// Bad things happen once in so many times.
    hostile: usize,
    /// Its children are good for nothing and live for a moment; there is little to do.
    is_frail: bool,
    /// It is mostly about channels of tasks that take no time: several of them go in one frame.
    is_quick: bool,
    /// How many steps there were.
    taken: &'a Cell<usize>,
    /// The channels that tasks are sent into.
    channels: Vec<usize>,
}

impl Walk<'_> {
    fn run(mut self) -> Self {
        for _ in 0..WALK_STEPS {
            self.step();
        }
        if self.random.once_in(3) {
            self.world.kill();
        } else {
            let time = Duration::from_millis(self.random.below(5_000) as u64);
            self.world.shutdown(time);
        }
        let mut left = 5_000;
        while !self.world.core.is_over() {
            self.end_step();
            left -= 1;
            assert!(left > 0, "the pool does not end: {:?}", self.world.core);
        }
        assert!(self.world.all_answered());
        self.check_ends();
        self
    }

    /// What the ends of all tasks must be like.
    fn check_ends(&self) {
        let started = |event: &&Event| matches!(event, Event::TaskStarted { .. });
        let told = self.world.events.iter().filter(started).count();
        let handed: usize = self.world.deliveries.iter().map(|delivery| delivery.count as usize).sum();
        assert_eq!(told, if self.world.config.task_events { handed } else { 0 }, "every hand-out is told");
        for task in 1..=self.world.accepted {
            let Err(error) = self.world.outcome(task) else { continue };
            let policy = self.world.policy(task);
            let attempts = policy.attempts;
            let is_plain = policy.retries_crashes && !self.world.has_stream(task);
            if self.world.all_serial && is_plain && error.kind() == TaskErrorKind::Dead {
                let in_vain = self.world.attempts(task).len() >= attempts as usize + 8;
                let lost = self.world.lives_lost(task);
                assert!(
                    lost == attempts || in_vain,
                    "task {task} lost {lost} of {attempts} lives: {error:?}"
                );
            }
        }
    }

    fn tally(self, ends: &mut Ends) {
        ends.pools_broken += usize::from(self.world.core.broken().is_some());
        ends.batches.add(&self.world.batches);
        for task in 1..=self.world.accepted {
            if self.world.has_stream(task) {
                ends.restarted += usize::from(self.world.stream(task).restarts > 0);
            }
            match self.world.end_of(task) {
                Some(Ok(_)) => ends.done += 1,
                Some(Err(TaskErrorKind::Failed)) => ends.failed += 1,
                Some(Err(TaskErrorKind::Dead)) => ends.dead += 1,
                Some(Err(TaskErrorKind::Lost)) => ends.lost += 1,
                Some(Err(TaskErrorKind::TimedOut { .. })) => ends.timed_out += 1,
                Some(Err(TaskErrorKind::Cancelled { .. })) => ends.cancelled += 1,
                Some(Err(TaskErrorKind::Closed)) => ends.closed += 1,
                Some(Err(TaskErrorKind::Broken)) => ends.broken += 1,
                other => panic!("task {task} ended as {other:?}"),
            }
        }
    }

    fn step(&mut self) {
        self.count_step();
        match self.random.below(10) {
            0 | 1 if !self.is_frail || self.random.once_in(10) => self.user(),
            0..=2 => self.time(),
            3 | 4 => self.start(),
            _ => self.child(),
        }
    }

    fn count_step(&mut self) {
        self.taken.set(self.taken.get() + 1);
        self.world.batches.steps += usize::from(self.world.has_batches());
    }

    fn time(&mut self) {
        let scales = match self.is_quick {
            true => [1, 1, 10, 50, 50, 1_000, 1_000_000],
            false => [1, 50, 1_000, 60_000, 600_000, 600_000, 3_000_000],
        };
        let scale = scales[self.random.below(7)];
        let micros = self.random.below(scale) as u64;
        self.world.advance(Duration::from_micros(micros));
    }

    /// After the end was asked for: children do what they must, and some do no more than that.
    fn end_step(&mut self) {
        self.count_step();
        let world = &mut self.world;
        if let Some(slot) = world.spawning.first().copied() {
            if self.random.once_in(5) {
                world.fail_spawn(slot);
            } else {
                world.spawn(slot);
            }
            return;
        }
        let slot = self.random.below(world.children.len());
        let Some(child) = &world.children[slot] else { return self.time() };
        if child.killed || (child.terminated && self.random.once_in(2)) {
            return world.die(slot, if child.killed { 9 } else { 15 });
        }
        if child.input_ended && child.tasks.is_empty() && self.random.once_in(3) {
            return world.exit(slot, 0);
        }
        if self.random.once_in(2) { self.child() } else { self.time() }
    }
}
