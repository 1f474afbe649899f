//! Everything that can happen, by chance and in any order; what must hold is checked after every step (see `World::check`).
//!
//! `STOKEHOLD_SEED=n` walks one walk, the one that was printed with a failure; `STOKEHOLD_STEPS=n` walks further.

use std::time::Duration;

use stokehold_protocol::{ChildHello, Failure, limits::MAX_FRAME_FLOOR};

use super::random::Random;
use super::world::{World, parallel, retry_after, serial};
use crate::core::store::Store;
use crate::core::{Policy, TaskErrorKind};

/// Steps of the ordinary run.
const STEPS: usize = 250_000;

/// Steps of one walk, before the pool is ended.
const WALK_STEPS: usize = 400;

#[test]
fn every_accepted_task_has_exactly_one_end_whatever_happens() {
    if let Some(seed) = Random::asked_seed() {
        walk(seed);
        return;
    }
    let steps =
        std::env::var("STOKEHOLD_STEPS").map_or(STEPS, |steps| steps.parse().expect("a number of steps"));
    let (mut walked, mut ends) = (0, Ends::default());
    for seed in 0u64.. {
        walked += walk(seed).tally(&mut ends);
        if walked >= steps {
            break;
        }
    }
    println!("{walked} steps: {ends:?}");
    let Ends { done, failed, dead, lost, cancelled, closed, broken, .. } = ends;
    assert!(
        [done, failed, dead, lost, cancelled, closed, broken].iter().all(|count| *count > 0),
        "the walks miss a way to end: {ends:?}"
    );
}

/// How the tasks of some walks ended, so that it can be seen that the walks get everywhere.
#[derive(Debug, Default)]
struct Ends {
    pools_broken: usize,
    done: usize,
    failed: usize,
    dead: usize,
    lost: usize,
    cancelled: usize,
    closed: usize,
    broken: usize,
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

fn walk(seed: u64) -> Walk {
    let _named = Named(seed);
    let mut random = Random::new(seed);
    let window = random.once_in(2).then(|| 1 + random.below(6) as u32);
    // How the children of this walk behave: some walks are all calm, or none ever crashes.
    let walk = Walk {
        world: World::with_window(1 + random.below(4), window),
        all_serial: random.once_in(2),
        hostile: 1 + random.below(40),
        steps: 0,
        random,
    };
    walk.run()
}

#[derive(Debug)]
struct Walk {
    world: World,
    random: Random,
    all_serial: bool,
    /// Bad things happen once in so many times.
    hostile: usize,
    steps: usize,
}

impl Walk {
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
        assert_eq!(self.world.core.store.len(), 0);
        self.check_ends();
        self
    }

    /// What the ends of all tasks must be like.
    fn check_ends(&self) {
        for task in 1..=self.world.accepted {
            let Err(error) = self.world.outcome(task) else { continue };
            let attempts = self.world.policy(task).attempts;
            if self.all_serial && error.kind() == TaskErrorKind::Dead {
                assert!(error.attempt() <= attempts, "task {task} had {attempts} lives: {error:?}");
                let in_vain = self.world.attempts(task).len() >= attempts as usize + 8;
                let lost = self.world.lives_lost(task);
                assert!(
                    lost == attempts || in_vain,
                    "task {task} lost {lost} of {attempts} lives: {error:?}"
                );
            }
            if error.kind() == TaskErrorKind::Lost {
                assert!(self.world.policy(task).at_most_once);
            }
        }
    }

    fn tally(self, ends: &mut Ends) -> usize {
        ends.pools_broken += usize::from(self.world.core.broken().is_some());
        for task in 1..=self.world.accepted {
            match self.world.end_of(task) {
                Some(Ok(_)) => ends.done += 1,
                Some(Err(TaskErrorKind::Failed)) => ends.failed += 1,
                Some(Err(TaskErrorKind::Dead)) => ends.dead += 1,
                Some(Err(TaskErrorKind::Lost)) => ends.lost += 1,
                Some(Err(TaskErrorKind::Cancelled { .. })) => ends.cancelled += 1,
                Some(Err(TaskErrorKind::Closed)) => ends.closed += 1,
                Some(Err(TaskErrorKind::Broken)) => ends.broken += 1,
                other => panic!("task {task} ended as {other:?}"),
            }
        }
        self.steps
    }

    fn step(&mut self) {
        self.steps += 1;
        match self.random.below(10) {
            0 | 1 => self.user(),
            2 => self.time(),
            3 | 4 => self.start(),
            _ => self.child(),
        }
    }

    fn user(&mut self) {
        let task = 1 + self.random.below(self.world.accepted as usize) as u64;
        match self.random.below(12) {
            0 if task <= self.world.accepted => self.world.cancel(task),
            1 if task <= self.world.accepted => self.world.forget(task),
            2 if self.random.once_in(60) => self.world.shutdown(Duration::from_secs(30)),
            _ => {
                for _ in 0..=self.random.below(6) {
                    let policy = match self.random.below(5) {
                        0 => Policy::once(),
                        lives => Policy::default().attempts(lives as u32),
                    };
                    let padding = if self.random.once_in(50) { MAX_FRAME_FLOOR as usize } else { 0 };
                    self.world.put(policy, padding);
                }
                self.world.settle();
            }
        }
    }

    fn time(&mut self) {
        let scale = [1, 50, 1_000, 60_000, 20_000_000][self.random.below(5)];
        let micros = self.random.below(scale) as u64;
        self.world.advance(Duration::from_micros(micros));
    }

    /// A process for somebody who waits for one.
    fn start(&mut self) {
        let waiting: Vec<usize> = self.world.spawning.iter().copied().collect();
        let Some(slot) = self.random.pick(&waiting) else { return };
        if self.random.once_in(8 * self.hostile) {
            return self.world.fail_spawn(slot);
        }
        if self.random.once_in(2 * self.hostile) {
            return self.world.run_short(slot);
        }
        self.world.spawn(slot);
    }

    fn child(&mut self) {
        let alive: Vec<usize> =
            (0..self.world.children.len()).filter(|slot| self.world.children[*slot].is_some()).collect();
        let Some(slot) = self.random.pick(&alive) else { return };
        if self.random.once_in(self.hostile) {
            return self.misbehave(slot);
        }
        let child = self.world.child(slot);
        if child.killed {
            return self.world.die(slot, 9);
        }
        if !child.can_speak() {
            if self.random.once_in(3) {
                self.world.exit(slot, 0);
            }
            return;
        }
        if !child.has_greeted {
            let hello = self.any_hello();
            return self.world.hello(slot, &hello);
        }
        if !child.is_ready {
            if self.random.once_in(4) {
                self.world.say_progress(slot)
            } else {
                self.world.say_ready(slot)
            }
            return;
        }
        let held = child.tasks.len();
        let serial = child.serial;
        match self.random.below(20) {
            0 => self.world.credit(slot, 2),
            1 if self.random.once_in(2) => self.world.reads(slot, true),
            1 if !self.all_serial => self.world.say_serial(slot, !serial),
            _ if held == 0 => {}
            2 | 3 => self.fail(slot),
            4..=8 => self.world.answer_all(slot),
            9..=14 if !serial => drop(self.world.answer_at(slot, held - 1)),
            _ => drop(self.world.answer(slot)),
        }
    }

    fn any_hello(&mut self) -> ChildHello {
        let window = 1 + self.random.below(6) as u32;
        let hello = if self.all_serial || self.random.once_in(2) { serial(window) } else { parallel(window) };
        let max_frame = if self.random.once_in(4) { MAX_FRAME_FLOOR } else { hello.max_frame };
        ChildHello { ready: self.random.once_in(2), max_frame, ..hello }
    }

    fn fail(&mut self, slot: usize) {
        let after = self.random.below(3_000) as u64;
        let failure = match self.random.below(5) {
            0 => Failure::new("acme.never", "no"),
            1 => retry_after(None),
            2 => Failure { begun: Some(false), ..retry_after(None) },
            3 => Failure { begun: Some(false), ..retry_after(Some(after)) },
            _ => retry_after(Some(after)),
        };
        self.world.fail(slot, &failure);
    }

    /// What a child should not do, or not so.
    fn misbehave(&mut self, slot: usize) {
        let verb = self.random.below(14);
        let speaks = self.world.child(slot).can_speak();
        let held = if speaks { self.world.held(slot).len() } else { 0 };
        match verb {
            0 if speaks => self.world.garbage(slot),
            1 if speaks => self.world.close_output(slot),
            2 if !self.world.child(slot).input_ended => self.world.close_input(slot),
            3 if held > 0 => drop(self.world.answer_too_large(slot)),
            4 if speaks => self.world.answer_nothing(slot),
            5 if speaks && self.world.child(slot).is_ready => self.world.bye(slot),
            6 if speaks && self.world.child(slot).is_ready => self.world.ask(slot, 7),
            7 => self.world.reads(slot, false),
            8 if speaks && self.world.child(slot).is_ready => self.world.credit(slot, 0),
            9 if self.random.once_in(10) => self.world.exit(slot, 125),
            9 => self.world.exit(slot, 1),
            10 => self.world.exit(slot, 0),
            _ => self.world.die(slot, 11),
        }
    }

    /// After the end was asked for: children do what they must, and some do no more than that.
    fn end_step(&mut self) {
        self.steps += 1;
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
