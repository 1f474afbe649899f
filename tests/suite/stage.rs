//! What the tests of this suite begin with: commands for the children, a pool in its arena, and the overseer, a parent in a
//! process of its own. No test stands here.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

use stokehold::{Event, Pool, PoolBuilder, Request, Task, TaskStatus, WorkerCommand};
use stokehold_tests::{Arena, eventually};

/// No test here takes a tenth of it on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// For something that should be there in a moment.
pub(crate) const MOMENT: Duration = Duration::from_secs(10);

/// Gives back what it gets.
pub(crate) const ECHO: Request<str, String> = Request::DO;
/// Answers with the square.
pub(crate) const SQUARE: Request<u64, u64> = Request::new("square");
/// Answers with process, slot and attempt.
pub(crate) const WHO: Request<(), (u32, u32, u32)> = Request::new("who");
/// Notes its text as an effect; answers with the attempt.
pub(crate) const NOTE: Request<str, u32> = Request::new("note");
/// Notes "at GATE" and waits until the test opens that gate; answers as `WHO`.
pub(crate) const WAIT_AT: Request<str, (u32, u32, u32)> = Request::new("wait_at");

/// The path of a child of this package.
#[macro_export]
macro_rules! child {
    ($name:literal) => {
        env!(concat!("CARGO_BIN_EXE_", $name))
    };
}

/// A command for a program that carries the arena's mark.
pub(crate) fn command(arena: &Arena, program: &str) -> WorkerCommand {
    let (name, value) = arena.mark();
    WorkerCommand::new(program).env(name, value)
}

/// A pool of so many honest workers, to be started.
pub(crate) fn honest(arena: &Arena, workers: usize) -> PoolBuilder {
    Pool::builder(command(arena, child!("honest"))).workers(workers)
}

/// Waits until a worker has the task; gives its process id.
pub(crate) fn running_in<R>(task: &Task<R>) -> u32 {
    let mut found = None;
    let seen = eventually(MOMENT, || {
        if let TaskStatus::Running { pid, .. } = task.status() {
            found = Some(pid);
        }
        found.is_some()
    });
    assert!(seen, "no worker took {task:?}");
    found.unwrap()
}

/// Waits until an effect was noted.
pub(crate) fn wait_for_effect(arena: &Arena, effect: &str) {
    let seen = eventually(MOMENT, || arena.count(effect) > 0);
    assert!(seen, "nobody noted {effect:?}, only {:?}", arena.effects());
}

/// Takes events until one is what is looked for.
pub(crate) fn wait_for_event<T>(events: &impl Events, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
    loop {
        let event = events.next(MOMENT).expect("an event that was expected did not come");
        if let Some(picked) = pick(&event) {
            return picked;
        }
    }
}

/// A receiver of events, without naming its crate.
pub(crate) trait Events {
    /// The next event.
    fn next(&self, patience: Duration) -> Option<Event>;
}

impl<F: Fn(Duration) -> Option<Event>> Events for F {
    fn next(&self, patience: Duration) -> Option<Event> {
        self(patience)
    }
}

/// The pool's events from now on.
pub(crate) fn events(pool: &Pool) -> impl Events + use<> {
    let receiver = pool.events();
    move |patience| receiver.recv_timeout(patience).ok()
}

/// A running overseer. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Overseer {
    child: Child,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    facts: BTreeMap<String, String>,
}

impl Overseer {
    /// Starts it with that scene, which is in its source.
    pub(crate) fn start(arena: &Arena, scene: &str, workers: usize, program: &[&str]) -> Self {
        let (name, value) = arena.mark();
        let mut child = Command::new(child!("overseer"))
            .arg(scene)
            .arg(workers.to_string())
            .args(program)
            .env(name, value)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines, reader: Some(reader), facts: BTreeMap::new() }
    }

    /// Runs it to its end; gives it back for its facts.
    pub(crate) fn run(arena: &Arena, scene: &str, workers: usize, program: &[&str]) -> Self {
        let mut overseer = Self::start(arena, scene, workers, program);
        let status = overseer.child.wait().unwrap();
        overseer.reader.take().unwrap().join().unwrap();
        while let Ok(line) = overseer.lines.try_recv() {
            overseer.learn(&line);
        }
        assert!(status.success(), "{scene}: {status}, {:?}", overseer.facts);
        overseer
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A fact that it told already.
    pub(crate) fn fact(&self, name: &str) -> &str {
        self.facts.get(name).unwrap_or_else(|| panic!("it never told {name}, only {:?}", self.facts))
    }

    /// A fact that is a number.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.fact(name).parse().unwrap()
    }

    /// Waits until it tells that fact.
    pub(crate) fn wait_for(&mut self, name: &str) -> String {
        while !self.facts.contains_key(name) {
            let line = self.lines.recv_timeout(MOMENT);
            let line = line.unwrap_or_else(|_| panic!("it never told {name}, only {:?}", self.facts));
            self.learn(&line);
        }
        self.fact(name).to_owned()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// It gave everything back.
    pub(crate) fn assert_nothing_left(&self) {
        for what in ["children_left", "descriptors_left", "threads_left"] {
            assert_eq!(self.number(what), 0, "{what}: {:?}", self.facts);
        }
    }

    fn learn(&mut self, line: &str) {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        self.facts.insert(name.to_owned(), value.to_owned());
    }
}

impl Drop for Overseer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
