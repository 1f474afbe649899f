//! How the world moves: processes, time, bytes, and what the core wants done, as the driver would do it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use stokehold_protocol::limits::FRAME_HEADER_BYTES;
use stokehold_protocol::{ChildEvent, FrameEvent, Message};

use super::channels::{CHANNEL_REQUEST, is_request, read_batch, read_input};
use super::child::Parcel;
use super::seat::Seat;
use super::{Child, Delivery, Job, Tag, World};
use crate::core::sim::faults::{Effect, Link};
use crate::core::{Action, CpuTime, Event, Flaw, Released, Remains};

impl World {
    // What the system does.

    pub(crate) fn spawn(&mut self, slot: usize) -> u32 {
        self.spawn_over(slot, Link::default())
    }

    /// A process with something wrong between it and the parent.
    pub(crate) fn spawn_over(&mut self, slot: usize, link: Link) -> u32 {
        assert!(self.spawning.remove(&slot), "no process was asked for in slot {slot}");
        self.next_pid += 1;
        let pid = self.next_pid;
        self.children[slot] = Some(Child { link, ..Child::new(pid) });
        self.core.handle_spawned(slot, pid, self.now);
        self.settle();
        pid
    }

    pub(crate) fn fail_spawn(&mut self, slot: usize) {
        assert!(self.spawning.remove(&slot), "no process was asked for in slot {slot}");
        let kind = std::io::ErrorKind::NotFound;
        self.core.handle_spawn_failed(slot, kind, false, "no such file", self.now);
        self.settle();
    }

    /// There are too many processes, descriptors, or bytes.
    pub(crate) fn run_short(&mut self, slot: usize) {
        assert!(self.spawning.remove(&slot), "no process was asked for in slot {slot}");
        let kind = std::io::ErrorKind::WouldBlock;
        self.core.handle_spawn_failed(slot, kind, true, "too many processes", self.now);
        self.settle();
    }

    /// Time passes, deadline by deadline.
    pub(crate) fn advance(&mut self, by: Duration) {
        let target = self.now + by;
        loop {
            let due = self.core.next_deadline();
            let arrival = self.next_arrival();
            let Some(at) = [due, arrival].into_iter().flatten().min().filter(|at| *at <= target) else {
                break;
            };
            self.now = self.now.max(at);
            if arrival == Some(at) {
                self.pump_all();
            }
            if self.core.next_deadline().is_some_and(|due| due <= self.now) {
                self.core.handle_time(self.now);
            }
            self.settle();
            let next = self.core.next_deadline();
            assert!(
                next.is_none_or(|next| next > self.now),
                "a deadline is over and stays: the engine would spin"
            );
        }
        self.now = target;
    }

    pub(crate) fn exit(&mut self, slot: usize, code: i32) {
        self.end(slot, ExitStatus::from_raw(code << 8));
    }

    pub(crate) fn die(&mut self, slot: usize, signal: i32) {
        self.end(slot, ExitStatus::from_raw(signal));
    }

    /// Dies with the last `unread` bytes still in its pipe.
    pub(crate) fn die_with_unread(&mut self, slot: usize, unread: u64) {
        self.unread = unread;
        self.end(slot, ExitStatus::from_raw(9));
    }

    fn end(&mut self, slot: usize, status: ExitStatus) {
        let unread = std::mem::take(&mut self.unread);
        if !self.core.has_flaw(Flaw::JudgesBeforeDrain) {
            while self.feed_one(slot, true) {}
        }
        self.check_all_was_read(slot);
        // It leaves bytes of the newest task at most: what was written to it since counts as read.
        let unread = unread.min(self.child(slot).newest_bytes as u64);
        self.note_death(slot, unread);
        self.children[slot] = None;
        let cpu = Some(CpuTime { user: Duration::from_millis(7), system: Duration::from_millis(3) });
        let remains = Remains { status: Some(status), cpu, out_of_memory: Some(false), unread };
        self.core.handle_exit(slot, remains, "last words", self.now);
        self.settle();
    }

    // How bytes come from a child.

    /// Bytes of a child go on their way.
    pub(super) fn send(&mut self, slot: usize, bytes: Vec<u8>) -> Vec<Effect> {
        let now = self.now;
        let child = self.child(slot);
        if child.output_closed {
            return Vec::new();
        }
        let (pieces, effects) = child.link.carry(bytes);
        let mut last = child.pipe.back().map_or(now, |parcel| parcel.due);
        for piece in pieces {
            last = last.max(now + piece.after);
            child.pipe.push_back(Parcel { due: last, bytes: piece.bytes });
        }
        while self.feed_one(slot, false) {}
        effects
    }

    /// When bytes arrive that are on their way.
    fn next_arrival(&self) -> Option<Instant> {
        let open = self.children.iter().flatten().filter(|child| !child.paused && !child.output_closed);
        open.filter_map(|child| child.pipe.front().map(|parcel| parcel.due)).min()
    }

    /// What has arrived is read.
    fn pump_all(&mut self) {
        for slot in 0..self.children.len() {
            while self.feed_one(slot, false) {}
        }
    }

    /// The parent reads what has arrived of a child; everything there is if the child is gone.
    fn feed_one(&mut self, slot: usize, is_gone: bool) -> bool {
        let now = self.now;
        let Some(child) = self.children[slot].as_mut().filter(|child| !child.output_closed) else {
            return false;
        };
        if !is_gone && child.paused {
            return false;
        }
        if child.pipe.front().is_none_or(|parcel| !is_gone && parcel.due > now) {
            return false;
        }
        let Some(parcel) = child.pipe.pop_front() else { return false };
        child.output.feed(&parcel.bytes);
        child.output.set_max_frame(self.core.max_frame(slot));
        loop {
            // Out of its place, so that the world can be asked about what it reads.
            let Some(mut child) = self.children[slot].take() else { return false };
            let frame = match child.output.next_frame() {
                Ok(Some(FrameEvent::Frame { id, body })) => {
                    let due = self.note_frame(slot, id, body, true);
                    self.core.handle_frame(slot, id, body, now, &mut self.post);
                    self.note_answers(&due);
                    true
                }
                Ok(Some(FrameEvent::TooLarge { id, len, head })) => {
                    self.note_frame(slot, id, head, false);
                    self.core.handle_too_large(slot, id, len, head, now);
                    true
                }
                Ok(Some(FrameEvent::BadData { .. } | FrameEvent::BadLine { .. })) => {
                    panic!("the children of the world write frames")
                }
                Ok(None) => false,
                Err(error) => {
                    child.output_closed = true;
                    self.core.handle_frame_error(slot, error);
                    false
                }
            };
            self.review(slot);
            if !frame {
                self.core.handle_read(slot, child.output.finish().is_err(), now);
            }
            child.output.set_max_frame(self.core.max_frame(slot));
            self.children[slot] = Some(child);
            if !frame {
                break;
            }
        }
        self.perform_all();
        true
    }

    // What the core wants.

    /// What the driver does after every event.
    pub(crate) fn settle(&mut self) {
        self.perform_all();
        self.check();
    }

    fn perform_all(&mut self) {
        self.core.dispatch(self.now);
        self.take_deliveries();
        let mut turns = 0;
        loop {
            let mut actions = Vec::new();
            self.core.take_actions(&mut actions);
            let quiet = actions.is_empty();
            for action in actions {
                self.perform(action);
            }
            let mut dirty = Vec::new();
            self.core.take_dirty(&mut dirty);
            for slot in dirty {
                self.flush(slot);
            }
            if quiet {
                break;
            }
            self.core.dispatch(self.now);
            self.take_deliveries();
            turns += 1;
            assert!(turns < 10_000, "one action leads to another for ever");
        }
        let Released { tasks, bytes } = self.core.take_released();
        self.released.tasks += tasks;
        self.released.bytes += bytes;
        // What is read again is read in the next turn of the engine, not in the middle of this one.
        for slot in std::mem::take(&mut self.resumed) {
            while self.feed_one(slot, false) {}
        }
    }

    fn perform(&mut self, action: Action<Tag>) {
        match action {
            Action::Bury(letter) => {
                assert_eq!(letter.task, letter.error.task());
                let message = Message::decode(&letter.body).expect("a dead letter with its input");
                assert_eq!(read_input(message.data), letter.task, "a dead letter with the input of another");
                self.buried.push(letter.task);
            }
            Action::CloseInput { slot } => {
                if let Some(child) = &mut self.children[slot] {
                    child.closes_input = true;
                }
                self.flush(slot);
            }
            Action::Fail { ticket, error } => {
                assert_eq!(ticket.count, 1, "one error for several tasks");
                self.note_end(ticket.number, Err(error));
            }
            Action::Kill { slot } => self.child(slot).killed = true,
            Action::Notice(event) => {
                self.note_event(&event);
                self.events.push(event);
            }
            Action::PauseReading { slot } => {
                if let Some(child) = &mut self.children[slot] {
                    child.paused = true;
                }
            }
            Action::ResumeReading { slot } => {
                if let Some(child) = &mut self.children[slot] {
                    child.paused = false;
                }
                self.resumed.push(slot);
            }
            Action::Sample { slot } => {
                let memory = self.children[slot].as_ref().map(|child| child.memory);
                if let Some(memory) = memory {
                    self.core.handle_memory(slot, memory, memory + 1, self.now);
                }
            }
            Action::Spawn { slot, .. } => {
                while self.children.len() <= slot {
                    self.children.push(None);
                    self.seats.push(Seat::default());
                }
                assert!(self.children[slot].is_none(), "slot {slot} has a process already");
                assert!(self.spawning.insert(slot), "a process was asked for twice in slot {slot}");
                self.check_intensity(slot);
            }
            Action::Terminate { slot } => {
                self.check_reason(slot);
                self.child(slot).terminated = true;
            }
        }
    }

    /// Bytes reach a child.
    pub(super) fn flush(&mut self, slot: usize) {
        let Some(child) = &mut self.children[slot] else { return };
        let Some(outbox) = self.core.outbox(slot) else { return };
        if !child.reads && !outbox.is_empty() {
            return;
        }
        if child.input_ended {
            if !outbox.is_empty() {
                self.core.handle_input_closed(slot, self.now);
            }
            return;
        }
        while !outbox.is_empty() {
            let bytes = outbox.pending().concat();
            child.input.feed(&bytes);
            outbox.wrote(bytes.len());
        }
        let mut replies = Vec::new();
        let mut meta_for = None;
        while let Some(event) = child.input.next_frame().expect("a parent's stream is frames") {
            let FrameEvent::Frame { id, body } = event else { panic!("a parent's frame is too large") };
            assert!(child.has_greeted, "nothing is said before HELLO");
            assert!(body.len() + 4 <= child.max_frame as usize, "a frame above what the child takes");
            assert!(child.takes_batches || !is_request(body, "BATCH"), "a BATCH for a child that takes none");
            let is_task = [CHANNEL_REQUEST, "BATCH", "DO"].iter().any(|request| is_request(body, request));
            child.newest_bytes = if is_task { body.len() + FRAME_HEADER_BYTES } else { 0 };
            let told_of = std::mem::replace(&mut meta_for, is_request(body, "META").then_some(id));
            match child.session.handle_frame(id, body, &mut replies).expect("a parent keeps the rules") {
                ChildEvent::Task { id, request, data, meta } => {
                    let task = read_input(data);
                    self.seats[slot].check_input(id, task..task + 1);
                    let is_of_channel = self.tasks[task as usize - 1].is_of_channel;
                    assert_eq!(request, if is_of_channel { CHANNEL_REQUEST } else { "DO" });
                    child.has_read = id;
                    child.tasks.push_back(Job {
                        id,
                        task,
                        count: 1,
                        given: 0,
                        started: false,
                        cancelled: false,
                        items: 0,
                        attempt: meta.attempt,
                        deadline_ms: meta.deadline_ms,
                    });
                }
                ChildEvent::Batch { id, request, items } => {
                    assert_ne!(told_of, Some(id), "META is not for a batch");
                    assert_eq!(request, CHANNEL_REQUEST);
                    let job = read_batch(id, items);
                    self.seats[slot].check_input(id, job.open());
                    child.has_read = id;
                    child.tasks.push_back(job);
                }
                ChildEvent::Cancel { id } => {
                    for job in child.tasks.iter_mut().filter(|job| job.id == id) {
                        assert!(!job.cancelled, "CANCEL comes once");
                        job.cancelled = true;
                    }
                }
                ChildEvent::Die(_) => child.was_told_to_die = true,
                ChildEvent::Ping { .. } => child.pings += 1,
                ChildEvent::Hello | ChildEvent::Ignored => {}
                other => panic!("a parent does not say {other:?}"),
            }
        }
        assert!(replies.is_empty(), "nothing is to be refused");
        if child.closes_input {
            child.input_ended = true;
            child.session.handle_eof();
        }
    }

    /// What was handed out is noted at once, before anything can follow from it.
    fn take_deliveries(&mut self) {
        let fresh = std::mem::take(&mut *self.fresh.borrow_mut());
        for delivery in fresh {
            let Delivery { task, count, pid, .. } = delivery;
            let is_it = |child: &Option<Child>| child.as_ref().is_some_and(|child| child.pid == pid);
            let slot = self.children.iter().position(is_it).expect("a process that tasks are handed to");
            let id = self.id_of(slot, task, count);
            self.note_delivery(delivery, (slot, id));
            self.deliveries.push(delivery);
        }
    }

    /// Under which id a worker has that task and those behind it.
    fn id_of(&mut self, slot: usize, task: u64, count: u32) -> u32 {
        let store = &self.core.store;
        let mut leases = self.core.slots[slot].session.leases().iter();
        let held = leases.find_map(|(id, key)| {
            // One with all its results has nothing in it, and the number of the one behind.
            let held = store.peek(*key).filter(|held| held.number == task && held.left() > 0)?;
            Some((id, held))
        });
        let (id, held) = held.expect("a lease of what was handed out");
        assert_eq!((held.holder, held.left()), ((slot, id), count));
        id
    }

    /// The events so far, which are forgotten.
    pub(crate) fn events_now(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}
