//! What the children of a walk do: mostly their work, sometimes anything else.

use stokehold_protocol::{Capability, ChildHello, Failure, code, limits::MAX_FRAME_FLOOR};

use super::Walk;
use crate::core::sim::faults::{Fault, Link};
use crate::core::sim::world::{Wrong, able, parallel, retry_after, serial, stopped};

impl Walk<'_> {
    /// A process for somebody who waits for one.
    pub(super) fn start(&mut self) {
        let waiting: Vec<usize> = self.world.spawning.iter().copied().collect();
        let Some(slot) = self.random.pick(&waiting) else { return };
        if self.random.once_in(8 * self.hostile) {
            return self.world.fail_spawn(slot);
        }
        if self.random.once_in(2 * self.hostile) {
            return self.world.run_short(slot);
        }
        let link = self.any_link();
        self.world.spawn_over(slot, link);
        if self.random.once_in(4) {
            self.world.child(slot).memory = 1_200 + self.random.below(600) as u64;
        }
    }

    /// What is wrong with a child: most often nothing, seldom several things.
    fn any_link(&mut self) -> Link {
        let count = [0, 0, 0, 1, 1, 2, 3][self.random.below(7)];
        let faults = (0..count).map(|_| self.any_fault()).collect();
        Link::new(faults, self.random.below(usize::MAX) as u64)
    }

    fn any_fault(&mut self) -> Fault {
        let step = 2 + self.random.below(10) as u32;
        match self.random.below(14) {
            0 => Fault::ClosesInput { step },
            1 => Fault::Delay { micros: 1 + self.random.below(200_000) },
            2 => Fault::Dies { step },
            3 => Fault::Duplicates { step },
            4 => Fault::ExitsWhenCancelled,
            5 => Fault::Half { step },
            6 => Fault::IgnoresCancel,
            7 => Fault::LateCancel,
            8 if !self.world.all_serial => Fault::LiesAboutOrder,
            9 => Fault::Silence { step },
            10 => Fault::Stall { step },
            11 => Fault::StopsReading { step },
            12 => Fault::IgnoresPing,
            _ => Fault::Split,
        }
    }

    pub(super) fn child(&mut self) {
        let alive = self.world.alive();
        let Some(slot) = self.random.pick(&alive) else { return };
        if self.random.once_in(self.hostile * 2) {
            return self.misbehave(slot);
        }
        let child = self.world.child(slot);
        if child.killed {
            return self.world.die(slot, 9);
        }
        if child.terminated && self.random.once_in(3) {
            // It may have something to say before it goes.
            if self.random.once_in(2) && child_can_answer(child) {
                self.world.answer(slot);
            }
            if self.world.alive().contains(&slot) {
                self.world.die(slot, 15);
            }
            return;
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
                self.world.say_progress(slot);
            } else {
                self.world.say_ready(slot);
            }
            return;
        }
        if self.is_frail && child.tasks.is_empty() && self.random.once_in(2) {
            return self.world.die(slot, 11);
        }
        self.serve(slot);
    }

    /// What a good child does, one thing of it.
    fn serve(&mut self, slot: usize) {
        let child = self.world.child(slot);
        if child.pings > 0 && !child.link.has(Fault::IgnoresPing) {
            return self.world.pong(slot);
        }
        if let Some(index) = child.tasks.iter().position(|job| job.cancelled)
            && !child.link.has(Fault::IgnoresCancel)
            && (child.terminated || !child.link.has(Fault::LateCancel))
        {
            return self.give_up(slot, index);
        }
        let child = self.world.child(slot);
        let (held, in_order) = (child.tasks.len(), child.in_order && !child.link.lies);
        let index = if in_order || held == 0 { 0 } else { self.random.below(held) };
        match self.random.below(24) {
            0 => self.world.credit(slot, 2),
            1 if self.random.once_in(2) => self.world.reads(slot, true),
            1 if !self.world.all_serial => {
                let says = self.world.child(slot).serial;
                self.world.say_serial(slot, !says);
            }
            2 if self.random.once_in(4) => self.world.log(slot),
            _ if held == 0 => {}
            2 => self.world.begin(slot, index),
            3 | 4 => self.fail(slot, index),
            9..=20 if self.world.child(slot).tasks[index].is_batch() => self.serve_batch(slot, index),
            5..=7 => self.world.answer_all(slot),
            8..=10 => self.world.progress(slot, index),
            11..=16 if self.gives_items(slot, index) => {
                let count = 1 + self.random.below(4) as u32;
                self.world.items(slot, index, count);
            }
            _ => drop(self.world.answer_at(slot, index)),
        }
    }

    fn gives_items(&mut self, slot: usize, index: usize) -> bool {
        let task = self.world.child(slot).tasks[index].task;
        !self.repeats(slot) && self.world.has_stream(task)
    }

    /// Whether a child writes something twice. Nobody can tell a result that is written twice from two results.
    fn repeats(&mut self, slot: usize) -> bool {
        let faults = &self.world.child(slot).link.faults;
        faults.iter().any(|fault| matches!(fault, Fault::Duplicates { .. }))
    }

    /// What a good child does with several tasks in one frame.
    fn serve_batch(&mut self, slot: usize, index: usize) {
        let left = self.world.child(slot).tasks[index].open().count();
        let bad = [0, 0, 6, 2][self.random.below(4)];
        if self.random.once_in(2) && !self.repeats(slot) {
            let count = self.random.below(left + 1).min(1 + self.random.below(8));
            let results = self.any_results(count, bad);
            return self.world.give(slot, index, &results);
        }
        let results = self.any_results(left, bad);
        self.world.finish(slot, index, &results);
    }

    /// So many results, of which one in `bad` is bad, or none.
    fn any_results(&mut self, count: usize, bad: usize) -> Vec<Option<Failure>> {
        (0..count).map(|_| (bad > 0 && self.random.once_in(bad)).then(|| self.any_failure())).collect()
    }

    /// It was told to stop a task.
    fn give_up(&mut self, slot: usize, index: usize) {
        if self.world.child(slot).link.has(Fault::ExitsWhenCancelled) {
            return self.world.exit(slot, 0);
        }
        if self.random.once_in(4) {
            self.world.answer_at(slot, index);
            return;
        }
        let had_begun = index == 0 || !self.world.child(slot).in_order;
        let begun = (!had_begun).then_some(false);
        self.world.fail_at(slot, index, &Failure { begun, ..stopped() });
    }

    fn any_hello(&mut self) -> ChildHello {
        let all =
            [Capability::Batch, Capability::Cancel, Capability::Meta, Capability::Ping, Capability::Started];
        let mut able_to: Vec<Capability> = all.into_iter().filter(|_| self.random.once_in(2)).collect();
        if self.is_quick && !self.random.once_in(8) {
            able_to.push(Capability::Batch);
        }
        let window = 1 + self.random.below(6) as u32;
        let hello =
            if self.world.all_serial || self.random.once_in(2) { serial(window) } else { parallel(window) };
        let max_frame = if self.random.once_in(4) { MAX_FRAME_FLOOR } else { hello.max_frame };
        let window_bytes = self.random.once_in(4).then_some(100);
        able(ChildHello { ready: self.random.once_in(2), max_frame, window_bytes, ..hello }, &able_to)
    }

    fn fail(&mut self, slot: usize, index: usize) {
        let failure = self.any_failure();
        self.world.fail_at(slot, index, &failure);
    }

    fn any_failure(&mut self) -> Failure {
        let after = self.random.below(3_000) as u64;
        let begun = if self.random.once_in(2) { Some(false) } else { None };
        let code = [code::UNKNOWN_REQUEST, code::BAD_DATA, code::TOO_LARGE, code::OVERLOADED, "acme.never"];
        match self.random.below(9) {
            0..=4 => Failure { begun, ..Failure::new(code[self.random.below(5)], "no") },
            5 => Failure { begun, ..retry_after(None) },
            6 => Failure { begun, ..retry_after(Some(0)) },
            7 => Failure { code: code::OVERLOADED.into(), begun: Some(false), ..retry_after(None) },
            _ => Failure { begun, ..retry_after(Some(after)) },
        }
    }

    /// What a child should not do, or not so.
    fn misbehave(&mut self, slot: usize) {
        let verb = self.random.below(18);
        let child = self.world.child(slot);
        let speaks = child.can_speak();
        let is_ready = child.is_ready;
        let held = if speaks { child.tasks.len() } else { 0 };
        match verb {
            0 if speaks => self.world.garbage(slot),
            1 if speaks => self.world.close_output(slot),
            2 if !self.world.child(slot).input_ended => self.world.close_input(slot),
            3 if held > 0 => drop(self.world.answer_too_large(slot)),
            4 if speaks => self.world.answer_nothing(slot),
            5 if speaks && is_ready => self.world.bye(slot),
            6 if speaks && is_ready => self.world.ask(slot, 7),
            7 => self.world.reads(slot, false),
            8 if speaks && is_ready => self.world.credit(slot, 0),
            9 if self.random.once_in(10) => self.world.exit(slot, 125),
            9 => self.world.exit(slot, 1),
            10 => self.world.exit(slot, 0),
            11 => self.world.child(slot).memory = 2_000,
            12..=14 if held > 0 => self.spoil(slot),
            15 if speaks && self.world.child(slot).newest_bytes > 0 => {
                // It dies while it reads the newest, or before.
                let bytes = self.world.child(slot).newest_bytes;
                let unread = 1 + self.random.below(bytes);
                self.world.die_with_unread(slot, unread as u64);
            }
            _ => self.world.die(slot, 11),
        }
    }

    /// Something is wrong with the results of a batch.
    fn spoil(&mut self, slot: usize) {
        let jobs = &self.world.child(slot).tasks;
        let batches =
            (0..jobs.len()).filter(|index| jobs[*index].is_batch() && !jobs[*index].open().is_empty());
        let batches: Vec<usize> = batches.collect();
        let Some(index) = self.random.pick(&batches) else { return };
        let left = self.world.child(slot).tasks[index].open().count();
        let count = 1 + self.random.below(left);
        let is_part = self.random.once_in(2);
        let wrong = self.random.pick(&Wrong::ALL).filter(|wrong| !is_part || *wrong != Wrong::TooFew);
        match wrong {
            Some(wrong) if !is_part || !self.repeats(slot) => {
                self.world.give_wrong(slot, index, is_part.then_some(count), wrong);
            }
            _ => self.world.give_too_large(slot, index, count as u32),
        }
    }
}

fn child_can_answer(child: &crate::core::sim::world::Child) -> bool {
    child.can_speak() && child.is_ready && !child.tasks.is_empty()
}
