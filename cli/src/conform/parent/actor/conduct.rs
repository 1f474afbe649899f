//! Whole conducts of a played child, from serving honestly to dying, and what it does to its own ends.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use stokehold_protocol::ChildHello;

use super::{Actor, Event, Played};
use crate::conform::process::Identity;
use crate::conform::trace::json;

/// More frames than a parent has on its way when it has said DIE.
const BEHIND_DIE_MAX: usize = 1_000;

impl Actor {
    /// Does what it is given, to the end.
    pub(crate) fn serve(&mut self) -> Played {
        while let Some(task) = self.task()? {
            self.finish(&task)?;
        }
        self.leave()
    }

    /// An honest child from its beginning to its end.
    pub(crate) fn honest(&mut self) -> Played {
        self.begin(&ChildHello::default())?;
        self.serve()
    }

    /// BYE, and the code of a clean end. What came behind DIE is recorded, and not obeyed.
    pub(crate) fn leave(&mut self) -> Played {
        for _ in 0..BEHIND_DIE_MAX {
            if !self.has_more(Instant::now())? || self.next_frame()?.is_none() {
                break;
            }
        }
        self.say(0, "BYE", &json("null"))?;
        self.record(Event::Left)?;
        Ok(0)
    }

    /// Reads on, answers nothing, and leaves at the end of input or at DIE.
    pub(crate) fn stall(&mut self) -> Played {
        while self.task()?.is_some() {}
        self.record(Event::Left)?;
        Ok(1)
    }

    /// Writes the same frame again and again, with a pause between, until nobody reads it.
    pub(crate) fn repeat(&mut self, frame: &[u8], pause: Duration) -> Played {
        self.note("it goes on writing the same")?;
        loop {
            self.raw(frame)?;
            self.listen(pause)?;
        }
    }

    /// Neither reads nor writes, nor ends, until it is killed.
    pub(crate) fn hang(&mut self) -> Played {
        self.note("it does nothing any more")?;
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// Reads bytes that it does not look at, so many at a time, with a pause between, until something has been read to that
    /// number; then they are taken for what they are.
    pub(crate) fn sip(&mut self, bytes: usize, pause: Duration, until: usize) -> io::Result<()> {
        let mut all = 0;
        while all < until {
            let Some(mut input) = self.input.as_ref() else { return Ok(()) };
            let mut piece = vec![0; bytes];
            let count = input.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            self.splitter.feed(piece.get(..count).unwrap_or_default());
            all += count;
            thread::sleep(pause);
        }
        Ok(())
    }

    pub(crate) fn close_input(&mut self) -> io::Result<()> {
        self.note("it closes its input")?;
        self.input = None;
        Ok(())
    }

    pub(crate) fn close_output(&mut self) -> io::Result<()> {
        self.record(Event::Left)?;
        self.output = None;
        Ok(())
    }

    /// SIGTERM does nothing from now on.
    pub(crate) fn ignore_term(&self) -> io::Result<()> {
        signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::new(AtomicBool::new(false)))
            .map(|_| ())
    }

    /// Dies as by `kill -9`.
    pub(crate) fn die(&mut self) -> Played {
        self.note("it kills itself")?;
        kill_process(getpid(), Signal::KILL)?;
        self.hang()
    }

    /// Starts a process that keeps the pipes open.
    pub(crate) fn spawn_holder(&mut self) -> io::Result<()> {
        let ends = self.input.as_ref().zip(self.output.as_ref());
        let (input, output) = ends.ok_or_else(|| io::Error::other("the pipes are closed"))?;
        let mut command = Command::new("sleep");
        command.arg("60").stdin(Stdio::from(input.try_clone()?)).stdout(Stdio::from(output.try_clone()?));
        let identity = Identity::of(command.spawn()?.id());
        identity.map_or(Ok(()), |identity| self.record(Event::Spawned(identity)))
    }
}
