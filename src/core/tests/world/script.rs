//! What children do: the rules of the protocol, and the ways to break them.

use stokehold_protocol::{
    ChildHello, ChildSession, Failure, Recipient, begin_frame, finish_frame, wire, write_head,
};

use super::{Child, MAX_FRAME, World};

/// What a script does with the child's half of a session is allowed.
const RULES: &str = "the script keeps the rules of the session";

impl World {
    /// From nothing to READY.
    pub(crate) fn start(&mut self, slot: usize, hello: &ChildHello) -> u32 {
        let pid = self.spawn(slot);
        self.hello(slot, hello);
        if !hello.ready {
            self.say_ready(slot);
        }
        pid
    }

    pub(crate) fn hello(&mut self, slot: usize, hello: &ChildHello) {
        let child = self.child(slot);
        child.serial = hello.serial;
        child.has_greeted = true;
        child.is_ready = hello.ready;
        child.session = ChildSession::new(hello.clone(), u64::from(child.pid));
        self.say(slot, |child, out| child.session.hello(out).expect(RULES));
    }

    pub(crate) fn say_ready(&mut self, slot: usize) {
        self.child(slot).is_ready = true;
        self.say(slot, |child, out| child.session.ready(out).expect(RULES));
    }

    /// PROGRESS of its start.
    pub(crate) fn say_progress(&mut self, slot: usize) {
        self.say(slot, |child, out| child.session.progress(0, &[0xc0], out).expect(RULES));
    }

    pub(crate) fn credit(&mut self, slot: usize, window: u32) {
        self.say(slot, |child, out| {
            frame(out, 0, "CREDIT", u64::from(child.pid), |out| {
                wire::write_map_len(out, 1);
                wire::write_str(out, "window");
                wire::write_uint(out, u64::from(window));
            });
        });
    }

    /// It works in order from now on, or not.
    pub(crate) fn say_serial(&mut self, slot: usize, serial: bool) {
        self.child(slot).serial = serial;
        self.say(slot, |child, out| child.session.serial(serial, out).expect(RULES));
    }

    /// A request of its own.
    pub(crate) fn ask(&mut self, slot: usize, id: u32) {
        self.say(slot, |child, out| frame(out, id, "acme.ask", u64::from(child.pid), wire::write_nil));
    }

    /// Answers its oldest task.
    pub(crate) fn answer(&mut self, slot: usize) -> u64 {
        self.answer_at(slot, 0)
    }

    pub(crate) fn answer_at(&mut self, slot: usize, index: usize) -> u64 {
        let (id, task) = self.take(slot, index);
        self.say(slot, |child, out| {
            child.session.finished(id, out, |out| wire::write_str(out, &task.to_string())).expect(RULES);
        });
        task
    }

    /// Answers all it has, in one write.
    pub(crate) fn answer_all(&mut self, slot: usize) {
        let tasks: Vec<(u32, u64)> = self.child(slot).tasks.drain(..).collect();
        for (_, task) in &tasks {
            self.holders.remove(task);
        }
        self.say(slot, |child, out| {
            for (id, task) in tasks {
                child.session.finished(id, out, |out| wire::write_str(out, &task.to_string())).expect(RULES);
            }
        });
    }

    /// Answers all there is, until nobody has anything.
    pub(crate) fn answer_everything(&mut self) {
        while let Some(slot) = (0..self.children.len()).find(|slot| self.has_tasks(*slot)) {
            self.answer_all(slot);
        }
    }

    /// Its oldest task failed.
    pub(crate) fn fail(&mut self, slot: usize, failure: &Failure) -> u64 {
        let (id, task) = self.take(slot, 0);
        *self.lives.entry(task).or_default() += u32::from(failure.begun != Some(false));
        self.say(slot, |child, out| child.session.failed(id, failure, out).expect(RULES));
        task
    }

    /// Answers its oldest task with more than the pool takes.
    pub(crate) fn answer_too_large(&mut self, slot: usize) -> u64 {
        let (id, task) = self.take(slot, 0);
        self.say(slot, |child, out| {
            // A good SDK would hold it back.
            frame(out, id, "FINISHED", u64::from(child.pid), |out| {
                wire::write_bin(out, &[0; MAX_FRAME as usize])
            });
        });
        task
    }

    pub(crate) fn bye(&mut self, slot: usize) {
        let child = self.child(slot);
        child.said_bye = true;
        self.say(slot, |child, out| child.session.bye(out).expect(RULES));
    }

    /// What its runtime printed.
    pub(crate) fn garbage(&mut self, slot: usize) {
        self.say(slot, |_, out| out.extend_from_slice(b"Hello, world! This is no frame.\n"));
    }

    /// Answers what it was never asked.
    pub(crate) fn answer_nothing(&mut self, slot: usize) {
        self.say(slot, |child, out| frame(out, 4_000_000, "FINISHED", u64::from(child.pid), wire::write_nil));
        self.child(slot).output_closed = true;
    }

    /// Bytes of its own making.
    pub(crate) fn say(&mut self, slot: usize, write: impl FnOnce(&mut Child, &mut Vec<u8>)) {
        let mut bytes = Vec::new();
        let child = self.child(slot);
        write(child, &mut bytes);
        if !child.output_closed {
            child.output.feed(&bytes);
            self.read(slot);
        }
        self.settle();
    }

    pub(crate) fn close_output(&mut self, slot: usize) {
        self.child(slot).output_closed = true;
        self.core.handle_output_closed(slot, self.now);
        self.settle();
    }

    pub(crate) fn close_input(&mut self, slot: usize) {
        self.child(slot).input_ended = true;
        self.core.handle_input_closed(slot, self.now);
        self.settle();
    }

    /// Whether it reads its input from now on.
    pub(crate) fn reads(&mut self, slot: usize, reads: bool) {
        self.child(slot).reads = reads;
        self.flush(slot);
        self.settle();
    }

    fn take(&mut self, slot: usize, index: usize) -> (u32, u64) {
        let child = self.child(slot);
        let (id, task) = child.tasks.remove(index).expect("a task to answer");
        self.holders.remove(&task);
        (id, task)
    }
}

fn frame(out: &mut Vec<u8>, id: u32, request: &str, pid: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let start = begin_frame(out, id);
    write_head(out, request, pid, Recipient::Anyone);
    write(out);
    finish_frame(out, start);
}
