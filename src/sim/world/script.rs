//! What children do: the rules of the protocol, and the ways to break them.

use stokehold_protocol::{
    ApiMisuse, Capability, ChildHello, ChildSession, Failure, Recipient, begin_frame, finish_frame, wire,
    write_head,
};

use super::batches::write_results;
use super::{Child, Job, MAX_FRAME, World};
use crate::core::sim::faults::Effect;

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
        child.in_order = hello.serial;
        child.takes_batches = hello.capabilities.has(Capability::Batch);
        child.max_frame = hello.max_frame;
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

    /// PROGRESS of one of its tasks.
    pub(crate) fn progress(&mut self, slot: usize, index: usize) {
        let id = self.child(slot).tasks[index].id;
        self.say(slot, |child, out| child.session.progress(id, &[0x01], out).expect(RULES));
    }

    /// It begins one of its tasks, if that is to be told.
    pub(crate) fn begin(&mut self, slot: usize, index: usize) {
        self.say(slot, |child, out| begin(child, index, out));
    }

    /// One more result of one of its tasks.
    pub(crate) fn item(&mut self, slot: usize, index: usize) {
        self.items(slot, index, 1);
    }

    /// So many more results of one of its tasks, in one write.
    pub(crate) fn items(&mut self, slot: usize, index: usize, count: u32) {
        self.say(slot, |child, out| {
            begin(child, index, out);
            for _ in 0..count {
                let job = &mut child.tasks[index];
                let mut item = Vec::new();
                wire::write_uint(&mut item, u64::from(job.items));
                job.items += 1;
                child.session.item(job.id, &item, out).expect(RULES);
            }
        });
    }

    /// A line for the log.
    pub(crate) fn log(&mut self, slot: usize) {
        self.say(slot, |child, out| child.session.log(0, b"\x81\xa3msg\xa2hi", out).expect(RULES));
    }

    /// Answers what PING it had.
    pub(crate) fn pong(&mut self, slot: usize) {
        self.child(slot).pings = 0;
        self.say(slot, |child, out| child.session.pong(&[0], out));
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
        self.child(slot).in_order |= serial;
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
        let job = self.child(slot).tasks[index];
        if job.is_batch() {
            self.finish(slot, index, &vec![None; job.open().count()]);
            return job.task;
        }
        self.say_final(slot, index, |child, job, out| {
            child.session.finished(job.id, out, |out| wire::write_str(out, &job.task.to_string()))
        });
        job.task
    }

    /// Answers all it has, in one write.
    pub(crate) fn answer_all(&mut self, slot: usize) {
        let pid = self.child(slot).pid;
        let jobs = self.child(slot).tasks.clone();
        for job in &jobs {
            for task in job.open() {
                self.known(task).answered_by = Some((pid, job.id, job.items));
            }
        }
        self.say(slot, |child, out| {
            while !child.tasks.is_empty() {
                begin(child, 0, out);
                let Some(job) = child.tasks.pop_front() else { break };
                child.answered.push(job.id);
                let answered = child.session.finished(job.id, out, |out| match job.is_batch() {
                    true => write_results(job.open().start, &vec![None; job.open().count()], out),
                    false => wire::write_str(out, &job.task.to_string()),
                });
                answered.expect(RULES);
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
        self.fail_at(slot, 0, failure)
    }

    pub(crate) fn fail_at(&mut self, slot: usize, index: usize, failure: &Failure) -> u64 {
        let task = self.child(slot).tasks[index].task;
        self.say_final(slot, index, |child, job, out| child.session.failed(job.id, failure, out));
        task
    }

    /// Answers its oldest task with more than the pool takes.
    pub(crate) fn answer_too_large(&mut self, slot: usize) -> u64 {
        let task = self.child(slot).tasks[0].task;
        self.say_final(slot, 0, |child, job, out| {
            // A good SDK would hold it back.
            frame(out, job.id, "FINISHED", u64::from(child.pid), |out| {
                wire::write_bin(out, &[0; MAX_FRAME as usize])
            });
            Ok(())
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
        if let Some(child) = &mut self.children[slot] {
            child.output_closed = true;
        }
    }

    /// Bytes of its own making.
    pub(crate) fn say(&mut self, slot: usize, write: impl FnOnce(&mut Child, &mut Vec<u8>)) {
        let mut bytes = Vec::new();
        let child = self.child(slot);
        let before = (child.answered.len(), child.given.len());
        write(child, &mut bytes);
        let effects = self.send(slot, bytes);
        let child = self.child(slot);
        if child.link.is_torn || child.output_closed {
            child.answered.truncate(before.0);
            child.given.truncate(before.1);
        }
        self.settle();
        for effect in effects {
            match effect {
                Effect::ClosesInput if !self.child(slot).input_ended => self.close_input(slot),
                Effect::ClosesInput => {}
                Effect::Dies => return self.die(slot, 11),
                Effect::StopsReading => self.reads(slot, false),
            }
        }
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

    /// The final answer of one of its tasks.
    pub(super) fn say_final(
        &mut self,
        slot: usize,
        index: usize,
        write: impl FnOnce(&mut Child, Job, &mut Vec<u8>) -> Result<(), ApiMisuse>,
    ) {
        let child = self.child(slot);
        let (pid, job) = (child.pid, child.tasks[index]);
        for task in job.open() {
            self.known(task).answered_by = Some((pid, job.id, job.items));
        }
        self.say(slot, |child, out| {
            begin(child, index, out);
            child.tasks.remove(index);
            child.answered.push(job.id);
            write(child, job, out).expect(RULES);
        });
    }
}

/// STARTED, if it is to be said and was not.
pub(super) fn begin(child: &mut Child, index: usize, out: &mut Vec<u8>) {
    let tells = child.tells_starts();
    let job = &mut child.tasks[index];
    if tells && !std::mem::replace(&mut job.started, true) {
        child.session.started(job.id, out).expect(RULES);
    }
}

pub(super) fn frame(out: &mut Vec<u8>, id: u32, request: &str, pid: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let start = begin_frame(out, id);
    write_head(out, request, pid, Recipient::Anyone);
    write(out);
    finish_frame(out, start);
}
