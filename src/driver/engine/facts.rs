//! The first phase of a turn: what the system and the user's threads have to tell goes to the core.

use std::io;
use std::time::Instant;

use rustix::io::Errno;
use stokehold_protocol::{Codec, FrameEvent, PeerError};

use super::answers::Outgo;
use super::{Engine, READ_BYTES};
use crate::core::Event;
use crate::driver::Shared;
use crate::driver::connection::{Connection, Part, ReadOutcome, from_token};
use crate::driver::gate::Mail;
use crate::sys::{Ready, SpawnError, Spawned};

/// Reads of one pipe in a row before the others get their turn.
const READS_IN_A_ROW: usize = 4;

/// What a dead worker's pipe may still give: more than the largest pipe an unprivileged process can have, so that everything
/// it wrote is read, and an end if something else still writes there.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;

impl Engine {
    pub(super) fn handle_mail(&mut self, shared: &Shared, mail: Mail, now: Instant) {
        match mail {
            Mail::Cancel(handle) => {
                if let Some(key) = handle.cell().key() {
                    self.core.cancel(key, now);
                }
            }
            Mail::Kill => self.core.kill(),
            Mail::Resize(min, max) => self.core.resize(min, max, now),
            Mail::Shutdown(deadline) => self.core.shutdown(shared.clock.inside(deadline), now),
            Mail::Spawned { slot, result } => self.handle_spawned(slot, result, now),
            Mail::StreamRoom(items) => {
                if let Some(key) = items.cell.key() {
                    self.core.resume(key, now);
                }
            }
        }
    }

    fn handle_spawned(&mut self, slot: usize, result: Result<Spawned, SpawnError>, now: Instant) {
        let place = self.place(slot);
        place.incarnation = place.incarnation.wrapping_add(1);
        let incarnation = place.incarnation;
        let spawned = match result {
            Ok(spawned) => spawned,
            Err(error) => {
                let (kind, transient) = (error.error.kind(), is_shortage(&error.error));
                return self.core.handle_spawn_failed(slot, kind, transient, &error.to_string(), now);
            }
        };
        let pid = spawned.process.pid();
        match Connection::new(slot, incarnation, spawned, &self.poll) {
            Ok(mut connection) => {
                connection.splitter.set_max_frame(self.core.max_frame(slot));
                self.place(slot).connection = Some(connection);
                self.core.handle_spawned(slot, pid, now);
            }
            Err(error) => {
                let (kind, transient) = (error.kind(), is_shortage(&error));
                let message = format!("cannot watch it: {error}");
                self.core.handle_spawn_failed(slot, kind, transient, &message, now);
            }
        }
    }

    pub(super) fn handle_ready(&mut self, shared: &Shared, ready: Ready, now: Instant) {
        let (slot, incarnation, part) = from_token(ready.token);
        let current = self.connection(slot).is_some_and(|connection| connection.incarnation == incarnation);
        if !current {
            return;
        }
        match part {
            Part::Output => self.read_output(shared, slot, now),
            Part::Input if ready.closed => self.lose_input(slot, now),
            Part::Input => self.dirty.push(slot),
            Part::Stderr => self.read_stderr(shared, slot),
            Part::Process => self.handle_exit(shared, slot, now),
        }
    }

    /// A worker closed its input.
    fn lose_input(&mut self, slot: usize, now: Instant) {
        if let Some(connection) = self.places.get_mut(slot).and_then(|place| place.connection.as_mut()) {
            connection.lose_input(&self.poll);
        }
        self.core.handle_input_closed(slot, now);
    }

    /// Reads what a worker wrote, a few times, and hands the frames to the core.
    fn read_output(&mut self, shared: &Shared, slot: usize, now: Instant) {
        for _ in 0..READS_IN_A_ROW {
            if self.connection(slot).is_none_or(|connection| connection.is_paused()) {
                return;
            }
            match self.read_frames(shared, slot, now) {
                // A stream that is full may want this worker to be left alone: the core must be asked first.
                ReadOutcome::Bytes(_, true) if !shared.arrivals().take_full() => {}
                ReadOutcome::Bytes(..) | ReadOutcome::Blocked => return,
                ReadOutcome::End => return self.end_output(slot, now),
            }
        }
    }

    /// Nothing more of a worker's output is read.
    pub(super) fn end_output(&mut self, slot: usize, now: Instant) {
        if let Some(connection) = self.places.get_mut(slot).and_then(|place| place.connection.as_mut()) {
            connection.close_output(&self.poll);
        }
        self.core.handle_output_closed(slot, now);
    }

    pub(super) fn read_frames(&mut self, shared: &Shared, slot: usize, now: Instant) -> ReadOutcome {
        let Some(connection) = self.places.get_mut(slot).and_then(|place| place.connection.as_mut()) else {
            return ReadOutcome::Blocked;
        };
        connection.splitter.swap_buffer(&mut self.spare_buffer);
        let outcome = connection.read_output();
        if connection.splitter.codec() == Some(Codec::Json) {
            // Before its HELLO is answered.
            self.core.set_text_mode(slot);
        }
        let mut answers = Outgo { gathered: &mut self.gathered, gate: shared.gate(), large: None };
        loop {
            if let Some((id, body)) = connection.splitter.take_large() {
                let mut answers = Outgo { large: Some(&body), ..answers.again() };
                self.core.handle_frame(slot, id, &body, now, &mut answers);
                continue;
            }
            match connection.splitter.next_frame() {
                Ok(Some(FrameEvent::Frame { id, body })) => {
                    self.core.handle_frame(slot, id, body, now, &mut answers);
                }
                Ok(Some(FrameEvent::TooLarge { id, len, head })) => {
                    self.core.handle_too_large(slot, id, len, head, now);
                }
                Ok(Some(FrameEvent::BadData { id, head, error })) => {
                    self.core.handle_bad_data(slot, (id, head), error, now, &mut answers);
                }
                Ok(Some(FrameEvent::BadLine { id, quote, error })) => {
                    self.core.handle_bad_line(slot, PeerError::BadLine { id, quote: *quote, error });
                }
                Ok(None) => break,
                Err(error) => {
                    self.core.handle_frame_error(slot, error);
                    connection.close_output(&self.poll);
                    break;
                }
            }
        }
        if matches!(outcome, ReadOutcome::Bytes(..)) {
            self.core.handle_read(slot, connection.splitter.finish().is_err(), now);
        }
        connection.splitter.set_max_frame(self.core.max_frame(slot));
        connection.splitter.swap_buffer(&mut self.spare_buffer);
        if self.spare_buffer.len() < READ_BYTES {
            self.spare_buffer.resize(READ_BYTES, 0);
        }
        outcome
    }

    fn read_stderr(&mut self, shared: &Shared, slot: usize) {
        let Some(place) = self.places.get_mut(slot) else { return };
        let Some(connection) = place.connection.as_mut() else { return };
        match connection.read_stderr(&mut self.scratch) {
            ReadOutcome::Bytes(count, _) => {
                let bytes = self.scratch.get(..count).unwrap_or_default();
                let (worker, pid) = (place.worker, connection.process.pid());
                let tell = |line| shared.tell(Event::Stderr { worker, pid, line });
                connection.stderr_tail.feed(bytes, shared.wants_stderr().then_some(tell));
            }
            ReadOutcome::Blocked => {}
            ReadOutcome::End => connection.close_stderr(&self.poll),
        }
    }

    /// A worker has exited: reap, drain, judge.
    fn handle_exit(&mut self, shared: &Shared, slot: usize, now: Instant) {
        let Some(place) = self.places.get_mut(slot) else { return };
        let Some(connection) = place.connection.as_mut().filter(|connection| connection.process.has_exited())
        else {
            return;
        };
        let remains = connection.reap(&self.poll);
        place.status = remains.status;
        let mut drained = 0;
        while drained < DRAIN_BYTES_MAX
            && let ReadOutcome::Bytes(count, _) = self.read_frames(shared, slot, now)
        {
            drained += count;
        }
        let mut tail = String::new();
        if let Some((worker, mut connection)) =
            self.places.get_mut(slot).and_then(|place| Some((place.worker, place.connection.take()?)))
        {
            tail = self.drain_stderr(shared, worker, &mut connection);
            connection.close(&self.poll);
            self.gone.push(connection.process.pid());
        }
        self.core.handle_exit(slot, remains, &tail, now);
    }

    /// Reads what a dead worker wrote to stderr, and gives the end of it.
    fn drain_stderr(&mut self, shared: &Shared, worker: usize, connection: &mut Connection) -> String {
        let pid = connection.process.pid();
        let tell = |line| shared.tell(Event::Stderr { worker, pid, line });
        let mut drained = 0;
        while drained < DRAIN_BYTES_MAX
            && let ReadOutcome::Bytes(count, _) = connection.read_stderr(&mut self.scratch)
        {
            drained += count;
            let bytes = self.scratch.get(..count).unwrap_or_default();
            connection.stderr_tail.feed(bytes, shared.wants_stderr().then_some(tell));
        }
        if shared.wants_stderr() {
            connection.stderr_tail.finish(tell);
        }
        connection.stderr_tail.tail()
    }
}

/// Whether a process could not be made for want of processes, descriptors or memory. That passes, and says nothing of the
/// program.
fn is_shortage(error: &io::Error) -> bool {
    const SHORTAGES: [Errno; 4] = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| SHORTAGES.contains(&errno))
}
