//! What a parent in a process of its own leaves behind for whoever judges it: which tasks it submitted, how each ended, facts;
//! and which task ran where and when, by the workers themselves. Each line is one write to a file of the arena, so that it is
//! there when its writer is killed the next moment. Judges nothing.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::Arena;
use crate::arena::directory;

/// One run of a handler.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Run {
    /// Which attempt its worker was told, from 1.
    pub attempt: u32,
    /// The worker's process id.
    pub pid: u32,
    /// When it began, on the monotonic clock.
    pub at: Duration,
}

/// What was left behind.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// By the name of each submitted task, how often it may run.
    pub submitted: BTreeMap<String, u32>,
    /// By name, how it ended, as often as that was recorded.
    pub outcomes: BTreeMap<String, Vec<String>>,
    /// By name, what was told last.
    pub facts: BTreeMap<String, String>,
    /// The names of all errors that were told.
    pub errors: Vec<String>,
    /// By the name of each task, its runs.
    pub runs: BTreeMap<String, Vec<Run>>,
}

impl Record {
    /// What is there now. A line that is not whole yet is left out.
    pub fn read(arena: &Arena) -> Self {
        let mut record = Self::default();
        let text = std::fs::read_to_string(arena.path("record")).unwrap_or_default();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            record.learn(line);
        }
        for line in arena.effects() {
            record.learn_run(&line);
        }
        record
    }

    fn learn(&mut self, line: &str) {
        let mut fields = line.splitn(3, '\t');
        let (kind, name) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let value = fields.next().unwrap_or_default();
        match kind {
            "submitted" => {
                self.submitted.insert(name.to_owned(), value.parse().unwrap_or(0));
            }
            "outcome" => self.outcomes.entry(name.to_owned()).or_default().push(value.to_owned()),
            "error" => self.errors.push(name.to_owned()),
            _ => {
                self.facts.insert(name.to_owned(), value.to_owned());
            }
        }
    }

    /// "NAME ATTEMPT PID NANOSECONDS"; other effects are other people's.
    fn learn_run(&mut self, line: &str) {
        let mut fields = line.rsplitn(4, ' ');
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (Some(at), Some(pid), Some(attempt)) = (number(), number(), number()) else { return };
        let Some(name) = fields.next() else { return };
        let (Ok(pid), Ok(attempt)) = (pid.try_into(), attempt.try_into()) else { return };
        let run = Run { attempt, pid, at: Duration::from_nanos(at) };
        self.runs.entry(name.to_owned()).or_default().push(run);
    }
}

/// For workers: notes that a task's handler runs.
///
/// # Errors
/// Outside an arena, or when the file cannot be written.
pub fn effect(task: &str, attempt: u32) -> io::Result<()> {
    let at = clock_gettime(ClockId::Monotonic);
    let nanoseconds = i128::from(at.tv_sec) * 1_000_000_000 + i128::from(at.tv_nsec);
    crate::note(&format!("{task} {attempt} {} {nanoseconds}", std::process::id()))
}

/// For parents: a task was submitted that may run so often.
///
/// # Errors
/// As [`effect`].
pub fn record_submitted(task: &str, lives: u32) -> io::Result<()> {
    write("submitted", task, lives)
}

/// For parents: a task ended so, in one word.
///
/// # Errors
/// As [`effect`].
pub fn record_outcome(task: &str, outcome: &str) -> io::Result<()> {
    write("outcome", task, outcome)
}

/// For parents: an error of that name was seen.
///
/// # Errors
/// As [`effect`].
pub fn record_error(name: &str) -> io::Result<()> {
    write("error", name, "")
}

/// For parents: anything else.
///
/// # Errors
/// As [`effect`].
pub fn record_fact(name: &str, value: impl Display) -> io::Result<()> {
    write("fact", name, value)
}

/// One line. What would break it is replaced.
fn write(kind: &str, name: &str, value: impl Display) -> io::Result<()> {
    let plain = |text: String| text.replace(['\n', '\t'], " ");
    let line = format!("{kind}\t{}\t{}\n", plain(name.to_owned()), plain(value.to_string()));
    let mut file = OpenOptions::new().create(true).append(true).open(directory()?.join("record"))?;
    file.write_all(line.as_bytes())
}
