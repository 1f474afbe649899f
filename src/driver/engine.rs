//! One turn of the engine in three phases: take events, ask the core, carry out what it decided.
//!
//! The engine belongs to whoever holds its lease (see `lease`); it has no thread of its own.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use stokehold_protocol::FrameEvent;

use super::connection::{Connection, Flushed, Launch, Part, ReadOutcome, from_token};
use super::gate::{Mail, Refusal};
use super::{Shared, Ticket};
use crate::core::{Action, Event, NewTask, Rung, Supervisor};
use crate::sys::{Poll, Ready, Signal, SpawnError, Spawned, Spawner};

/// Reads of one pipe in a row before the others get their turn.
const READS_IN_A_ROW: usize = 4;

/// Bytes read from one pipe at a time: more than a pipe holds by default, so that one call empties it.
const READ_BYTES: usize = 256 * 1024;

/// What a dead worker's pipe may still give: more than the largest pipe an unprivileged process can have, so that everything
/// it wrote is read, and an end if something else still writes there.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Engine {
    core: Supervisor<Ticket>,
    launch: Launch,
    spawner: Spawner,
    poll: Poll,
    connections: Vec<Place>,
    ready: Vec<Ready>,
    actions: Vec<Action<Ticket>>,
    dirty: Vec<usize>,
    tasks: Vec<NewTask<Ticket>>,
    mail: Vec<Mail>,
    spare_buffer: Vec<u8>,
    scratch: Vec<u8>,
    done: Tally,
    /// Whom to wake when the lease is not held.
    wakes: Vec<Waker>,
}

/// A slot as the engine sees it.
#[derive(Debug, Default)]
struct Place {
    connection: Option<Connection>,
    incarnation: u32,
    status: Option<ExitStatus>,
}

/// Tasks completed since the gate was told.
#[derive(Debug, Default)]
struct Tally {
    tasks: usize,
    bytes: usize,
}

/// How one worker of an ended pool ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) pid: u32,
    pub(crate) rung: Rung,
    pub(crate) finished: u64,
    pub(crate) status: Option<ExitStatus>,
}

impl Engine {
    pub(crate) fn new(core: Supervisor<Ticket>, launch: Launch, workers: usize) -> io::Result<Self> {
        let mut connections = Vec::new();
        connections.resize_with(workers, Place::default);
        Ok(Self {
            core,
            launch,
            spawner: Spawner::get()?,
            poll: Poll::new()?,
            connections,
            ready: Vec::new(),
            actions: Vec::new(),
            dirty: Vec::new(),
            tasks: Vec::new(),
            mail: Vec::new(),
            spare_buffer: vec![0; READ_BYTES],
            scratch: vec![0; 16 * 1024],
            done: Tally::default(),
            wakes: Vec::new(),
        })
    }

    /// Wakes the thread that waits in [`turn`](Self::turn).
    pub(super) fn waker(&self) -> crate::sys::Waker {
        self.poll.waker()
    }

    /// Carries out the core's first decisions: the start of the workers.
    pub(super) fn begin(&mut self, shared: &Arc<Shared>) {
        self.settle(shared, Instant::now());
    }

    /// One turn: what came in, what the system has to tell within `patience`, what follows from both.
    pub(super) fn turn(&mut self, shared: &Arc<Shared>, patience: Option<Duration>) {
        self.attend(shared);
        let patience = shared.before_sleep(self.patience(patience));
        // An error of the wait itself (out of memory) is treated as nothing being ready; deadlines still hold.
        let mut ready = std::mem::take(&mut self.ready);
        if self.poll.wait(patience, &mut ready).is_err() {
            ready.clear();
        }
        shared.after_sleep();
        let now = Instant::now();
        for ready in ready.drain(..) {
            self.handle_ready(shared, ready, now);
        }
        self.ready = ready;
        if self.core.next_deadline().is_some_and(|at| at <= now) {
            self.core.handle_time(now);
        }
        self.settle(shared, now);
    }

    /// Takes what came in, and does what follows from it, without waiting.
    pub(super) fn attend(&mut self, shared: &Arc<Shared>) {
        if !shared.gate().has_mail() {
            return;
        }
        let now = Instant::now();
        let mut tasks = std::mem::take(&mut self.tasks);
        let mut mail = std::mem::take(&mut self.mail);
        shared.gate().collect(&mut tasks, &mut mail);
        for task in tasks.drain(..) {
            let cell = task.ticket.cell().map(Arc::clone);
            if let (Some(key), Some(cell)) = (self.core.submit(task), cell) {
                cell.set_key(key);
            }
        }
        for mail in mail.drain(..) {
            self.handle_mail(mail, now);
        }
        self.tasks = tasks;
        self.mail = mail;
        self.settle(shared, now);
    }

    /// Whom to wake when the lease is not held.
    pub(super) fn take_wakes(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.wakes)
    }

    /// Whether somebody is to be woken.
    pub(super) fn has_wakes(&self) -> bool {
        !self.wakes.is_empty()
    }

    /// How each worker ended.
    pub(super) fn endings(&self) -> Vec<Ended> {
        let places = self.connections.iter().enumerate();
        places
            .filter_map(|(slot, place)| {
                let (pid, rung, finished) = self.core.summary(slot)?;
                Some(Ended { pid, rung, finished, status: place.status })
            })
            .collect()
    }

    fn patience(&self, asked: Option<Duration>) -> Option<Duration> {
        let due = self.core.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        match (asked, due) {
            (Some(asked), Some(due)) => Some(asked.min(due)),
            (asked, due) => asked.or(due),
        }
    }

    // Take events.

    fn handle_mail(&mut self, mail: Mail, now: Instant) {
        match mail {
            Mail::Cancel(cell) => {
                if let Some(key) = cell.key() {
                    self.core.cancel(key);
                }
            }
            Mail::Kill => self.core.kill(),
            Mail::Shutdown(deadline) => self.core.shutdown(deadline, now),
            Mail::Spawned { slot, result } => self.handle_spawned(slot, result, now),
        }
    }

    fn handle_spawned(&mut self, slot: usize, result: Result<Spawned, SpawnError>, now: Instant) {
        let Some(place) = self.connections.get_mut(slot) else { return };
        place.incarnation = place.incarnation.wrapping_add(1);
        let spawned = match result {
            Ok(spawned) => spawned,
            Err(error) => {
                let (kind, transient) = (error.error.kind(), is_shortage(&error.error));
                return self.core.handle_spawn_failed(slot, kind, transient, &error.to_string(), now);
            }
        };
        let pid = spawned.process.pid();
        match Connection::new(slot, place.incarnation, spawned, &self.poll) {
            Ok(mut connection) => {
                connection.splitter.set_max_frame(self.core.max_frame(slot));
                place.connection = Some(connection);
                self.core.handle_spawned(slot, pid, now);
            }
            Err(error) => {
                let (kind, transient) = (error.kind(), is_shortage(&error));
                let message = format!("cannot watch it: {error}");
                self.core.handle_spawn_failed(slot, kind, transient, &message, now);
            }
        }
    }

    fn handle_ready(&mut self, shared: &Shared, ready: Ready, now: Instant) {
        let (slot, incarnation, part) = from_token(ready.token);
        let current = self.connections.get(slot).is_some_and(|place| {
            place.connection.as_ref().is_some_and(|connection| connection.incarnation == incarnation)
        });
        if !current {
            return;
        }
        match part {
            Part::Output => self.read_output(slot, now),
            Part::Input if ready.closed => self.lose_input(slot, now),
            Part::Input => self.dirty.push(slot),
            Part::Stderr => self.read_stderr(shared, slot),
            Part::Process => self.handle_exit(shared, slot, now),
        }
    }

    /// A worker closed its input.
    fn lose_input(&mut self, slot: usize, now: Instant) {
        if let Some(connection) = self.connections.get_mut(slot).and_then(|place| place.connection.as_mut()) {
            connection.lose_input(&self.poll);
        }
        self.core.handle_input_closed(slot, now);
    }

    /// Reads what a worker wrote, a few times, and hands the frames to the core.
    fn read_output(&mut self, slot: usize, now: Instant) {
        for _ in 0..READS_IN_A_ROW {
            match self.read_frames(slot, now) {
                ReadOutcome::Bytes(_, true) => {}
                ReadOutcome::Bytes(_, false) | ReadOutcome::Blocked => return,
                ReadOutcome::End => {
                    if let Some(connection) =
                        self.connections.get_mut(slot).and_then(|place| place.connection.as_mut())
                    {
                        connection.close_output(&self.poll);
                    }
                    return self.core.handle_output_closed(slot, now);
                }
            }
        }
    }

    fn read_frames(&mut self, slot: usize, now: Instant) -> ReadOutcome {
        let Some(connection) = self.connections.get_mut(slot).and_then(|place| place.connection.as_mut())
        else {
            return ReadOutcome::Blocked;
        };
        connection.splitter.swap_buffer(&mut self.spare_buffer);
        let outcome = connection.read_output();
        loop {
            match connection.splitter.next_frame() {
                Ok(Some(FrameEvent::Frame { id, body })) => self.core.handle_frame(slot, id, body, now),
                Ok(Some(FrameEvent::TooLarge { id, len, head })) => {
                    self.core.handle_too_large(slot, id, len, head, now);
                }
                Ok(None) => break,
                Err(error) => {
                    self.core.handle_frame_error(slot, error);
                    connection.close_output(&self.poll);
                    break;
                }
            }
        }
        connection.splitter.set_max_frame(self.core.max_frame(slot));
        connection.splitter.swap_buffer(&mut self.spare_buffer);
        if self.spare_buffer.len() < READ_BYTES {
            self.spare_buffer.resize(READ_BYTES, 0);
        }
        outcome
    }

    fn read_stderr(&mut self, shared: &Shared, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot).and_then(|place| place.connection.as_mut())
        else {
            return;
        };
        match connection.read_stderr(&mut self.scratch) {
            ReadOutcome::Bytes(count, _) => {
                let bytes = self.scratch.get(..count).unwrap_or_default();
                let pid = connection.process.pid();
                let tell = |line| shared.listener().tell(Event::Stderr { worker: slot, pid, line });
                connection.stderr_tail.feed(bytes, shared.listener().is_there().then_some(tell));
            }
            ReadOutcome::Blocked => {}
            ReadOutcome::End => connection.close_stderr(&self.poll),
        }
    }

    /// A worker has exited: reap, drain, judge.
    fn handle_exit(&mut self, shared: &Shared, slot: usize, now: Instant) {
        let Some(place) = self.connections.get_mut(slot) else { return };
        let Some(connection) = place.connection.as_mut().filter(|connection| connection.process.has_exited())
        else {
            return;
        };
        let status = connection.reap(&self.poll);
        let unread = connection.unread_input();
        place.status = status;
        let mut drained = 0;
        while drained < DRAIN_BYTES_MAX
            && let ReadOutcome::Bytes(count, _) = self.read_frames(slot, now)
        {
            drained += count;
        }
        let mut tail = String::new();
        if let Some(mut connection) = self.connections.get_mut(slot).and_then(|place| place.connection.take())
        {
            let pid = connection.process.pid();
            let tell = |line| shared.listener().tell(Event::Stderr { worker: slot, pid, line });
            let mut drained = 0;
            while drained < DRAIN_BYTES_MAX
                && let ReadOutcome::Bytes(count, _) = connection.read_stderr(&mut self.scratch)
            {
                drained += count;
                let bytes = self.scratch.get(..count).unwrap_or_default();
                connection.stderr_tail.feed(bytes, shared.listener().is_there().then_some(tell));
            }
            if shared.listener().is_there() {
                connection.stderr_tail.finish(tell);
            }
            tail = connection.stderr_tail.tail();
            connection.close(&self.poll);
        }
        self.core.handle_exit(slot, status, unread, &tail, now);
    }

    // Carry out.

    /// Hands out, carries out, writes, until nothing more follows.
    fn settle(&mut self, shared: &Arc<Shared>, now: Instant) {
        self.core.dispatch(now);
        loop {
            let mut actions = std::mem::take(&mut self.actions);
            self.core.take_actions(&mut actions);
            let quiet = actions.is_empty();
            for action in actions.drain(..) {
                self.perform(shared, action);
            }
            self.actions = actions;
            self.flush(now);
            if quiet {
                break;
            }
            self.core.dispatch(now);
        }
        let Tally { tasks, bytes } = std::mem::take(&mut self.done);
        if tasks > 0 {
            self.wakes.extend(shared.gate().release(tasks, bytes));
        }
        self.publish(shared);
    }

    fn perform(&mut self, shared: &Arc<Shared>, action: Action<Ticket>) {
        match action {
            Action::Complete { ticket, outcome, bytes } => {
                self.done.tasks += 1;
                self.done.bytes += bytes;
                self.wakes.extend(ticket.complete(outcome, shared.gate()));
            }
            Action::CloseInput { slot } => {
                if let Some(connection) = self.connection(slot) {
                    connection.close_input_when_flushed();
                }
                self.dirty.push(slot);
            }
            Action::Kill { slot } => self.signal(slot, &[Signal::Kill]),
            Action::Terminate { slot } => self.signal(slot, &[Signal::Term, Signal::Cont]),
            Action::Notice(event) => {
                if matches!(event, Event::WorkerReady { .. }) {
                    self.wakes.extend(shared.gate().set_ready());
                }
                shared.listener().tell(event);
            }
            Action::Spawn { slot } => {
                let shared = Arc::clone(shared);
                let reply = move |result| shared.post(Mail::Spawned { slot, result });
                self.spawner.spawn(self.launch.command(slot), reply);
            }
        }
    }

    fn signal(&mut self, slot: usize, signals: &[Signal]) {
        if let Some(connection) = self.connection(slot) {
            for signal in signals {
                connection.process.signal_group(*signal);
            }
        }
    }

    fn flush(&mut self, now: Instant) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.core.take_dirty(&mut dirty);
        for slot in dirty.drain(..) {
            let Some(connection) = self.connections.get_mut(slot).and_then(|place| place.connection.as_mut())
            else {
                continue;
            };
            let Some(outbox) = self.core.outbox(slot) else { continue };
            if connection.flush(outbox, &self.poll) == Flushed::Closed {
                self.core.handle_input_closed(slot, now);
            }
        }
        self.dirty = dirty;
    }

    /// Lets the other threads see what they may ask for without the lease.
    fn publish(&mut self, shared: &Shared) {
        shared.set_hungry(self.core.has_idle_worker());
        if let Some(death) = self.core.broken() {
            self.wakes.extend(shared.close_for(Refusal::Broken(Arc::clone(death))));
        }
        if self.core.is_over() {
            shared.set_over();
        }
    }

    fn connection(&mut self, slot: usize) -> Option<&mut Connection> {
        self.connections.get_mut(slot)?.connection.as_mut()
    }
}

/// Whether a process could not be made for want of processes, descriptors or memory. That passes, and says nothing of the
/// program.
fn is_shortage(error: &io::Error) -> bool {
    const SHORTAGES: [Errno; 4] = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| SHORTAGES.contains(&errno))
}
