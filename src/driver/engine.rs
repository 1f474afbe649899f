//! One turn of the engine in three phases: take events, ask the core, carry out what it decided.
//!
//! The engine belongs to whoever holds its lease (see `lease`); it has no thread of its own.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock::Clock;
use super::connection::{Connection, Launch};
use super::gate::{Mail, NewWork};
use super::wakes::Wakes;
use super::{Shared, Ticket};
use crate::core::{Action, Rung, Supervisor};
use crate::sys::{Poll, Ready, Spawner};

mod actions;
mod answers;
mod facts;
mod spin;

use answers::Gathered;
use spin::{Look, Looked};

/// Bytes read from one pipe at a time: more than a pipe holds by default, so that one call empties it.
const READ_BYTES: usize = 256 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Engine {
    core: Supervisor<Ticket>,
    launch: Launch,
    spawner: Spawner,
    poll: Poll,
    places: Vec<Place>,
    ready: Vec<Ready>,
    actions: Vec<Action<Ticket>>,
    dirty: Vec<usize>,
    work: Vec<NewWork>,
    mail: Vec<Mail>,
    spare_buffer: Vec<u8>,
    scratch: Vec<u8>,
    /// Processes that are gone, of whose end nobody was told yet.
    gone: Vec<u32>,
    /// Looking for answers without sleeping.
    look: Look,
    /// What is to be told when the turn is over.
    gathered: Gathered,
    /// When the next thing is due, by the core's clock, as of the last wait.
    due: Option<Instant>,
    /// When the alarm rings, by the system's clock.
    alarm: Option<Instant>,
}

/// A slot as the engine sees it.
#[derive(Debug, Default)]
struct Place {
    connection: Option<Connection>,
    incarnation: u32,
    /// The number of the worker that fills it.
    worker: usize,
    status: Option<ExitStatus>,
}

/// How the last worker of one slot of an ended pool ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) worker: usize,
    pub(crate) pid: u32,
    pub(crate) rung: Rung,
    pub(crate) finished: u64,
    pub(crate) status: Option<ExitStatus>,
}

impl Engine {
    pub(crate) fn new(core: Supervisor<Ticket>, launch: Launch, spin: bool) -> io::Result<Self> {
        Ok(Self {
            look: Look::new(spin, core.cores()),
            core,
            launch,
            spawner: Spawner::get()?,
            poll: Poll::new()?,
            places: Vec::new(),
            ready: Vec::new(),
            actions: Vec::new(),
            dirty: Vec::new(),
            work: Vec::new(),
            mail: Vec::new(),
            spare_buffer: vec![0; READ_BYTES],
            scratch: vec![0; 16 * 1024],
            gone: Vec::new(),
            gathered: Gathered::default(),
            due: None,
            alarm: None,
        })
    }

    /// Wakes the thread that waits in [`turn`](Self::turn).
    pub(super) fn waker(&self) -> crate::sys::Waker {
        self.poll.waker()
    }

    /// Carries out the core's first decisions: the start of the workers.
    pub(super) fn begin(&mut self, shared: &Arc<Shared>) {
        self.settle(shared, shared.clock.inside(Instant::now()));
    }

    /// One turn: what came in, what the system has to tell within `patience`, what follows from both.
    pub(super) fn turn(&mut self, shared: &Arc<Shared>, patience: Option<Duration>) {
        self.attend(shared);
        let mut patience = self.expect(patience, &shared.clock);
        match self.look_for_answers(shared, patience) {
            Looked::Found => {
                let now = self.look(&shared.clock);
                return self.settle(shared, now);
            }
            Looked::Aside => patience = Some(Duration::ZERO),
            Looked::Nothing => {}
        }
        let patience = shared.before_sleep(patience);
        // An error of the wait itself (out of memory) is treated as nothing being ready; deadlines still hold.
        let mut ready = std::mem::take(&mut self.ready);
        if self.poll.wait(patience, &mut ready).is_err() {
            ready.clear();
        }
        shared.after_sleep();
        let now = self.look(&shared.clock);
        for ready in ready.drain(..) {
            self.handle_ready(shared, ready, now);
        }
        self.ready = ready;
        // What became due only now is seen before the next wait.
        if self.due.is_some_and(|at| at <= now) {
            self.core.handle_time(now);
        }
        self.settle(shared, now);
    }

    /// Takes what came in, and does what follows from it, without waiting.
    pub(super) fn attend(&mut self, shared: &Arc<Shared>) {
        if !shared.gate().has_mail() {
            return;
        }
        let now = self.look(&shared.clock);
        let mut work = std::mem::take(&mut self.work);
        let mut mail = std::mem::take(&mut self.mail);
        shared.gate().collect(&mut work, &mut mail, self.core.run_buffers());
        for work in work.drain(..) {
            match work {
                NewWork::Run(run) => self.core.submit_run(run, now),
                NewWork::Task(task) => self.core.submit(task, now),
            }
        }
        for mail in mail.drain(..) {
            self.handle_mail(shared, mail, now);
        }
        self.work = work;
        self.mail = mail;
        self.settle(shared, now);
    }

    /// Whom to wake when the lease is not held.
    pub(super) fn take_wakes(&mut self) -> Wakes {
        Wakes::take(&mut self.gathered.wakes)
    }

    /// Whether somebody is to be woken.
    pub(super) fn has_wakes(&self) -> bool {
        !self.gathered.wakes.is_empty()
    }

    /// How each slot's last worker ended.
    pub(super) fn endings(&self) -> Vec<Ended> {
        let slots = 0..self.core.slot_count();
        slots
            .filter_map(|slot| {
                let summary = self.core.summary(slot)?;
                Some(Ended {
                    worker: summary.worker,
                    pid: summary.pid,
                    rung: summary.rung,
                    finished: summary.finished,
                    status: self.places.get(slot).and_then(|place| place.status),
                })
            })
            .collect()
    }

    /// The core's time now.
    fn look(&mut self, clock: &Clock) -> Instant {
        let now = Instant::now();
        self.alarm = self.alarm.filter(|at| *at > now);
        if let Some(due) = self.due {
            clock.look(now, due);
        }
        clock.inside(now)
    }

    /// Sees that the wait ends when something is due: by an alarm, which is set for the first of many things that are due, and
    /// else left alone. Gives how long the wait may be beside that.
    fn expect(&mut self, asked: Option<Duration>, clock: &Clock) -> Option<Duration> {
        self.due = self.core.next_deadline();
        let Some(due) = self.due else {
            // One that rang in an idle pool would wake it for nothing.
            if self.alarm.take().is_some() {
                let _ = self.poll.set_alarm(None);
            }
            return asked;
        };
        let at = clock.outside(due);
        if self.alarm.is_some_and(|alarm| alarm <= at) {
            return asked;
        }
        let left = at.saturating_duration_since(Instant::now());
        if self.poll.set_alarm(Some(left)).is_ok() {
            self.alarm = Some(at);
            return asked;
        }
        Some(asked.map_or(left, |asked| asked.min(left)))
    }

    fn connection(&mut self, slot: usize) -> Option<&mut Connection> {
        self.places.get_mut(slot)?.connection.as_mut()
    }
}
