//! What scenes begin with: commands for the children, tasks whose submit and outcome are recorded, and the account of what
//! this process holds. No scene stands here.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Debug;
use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stokehold::{
    Event, Policy, Pool, PoolBuilder, Receiver, Request, Task, TaskError, TaskStatus, WorkerCommand,
};
use stokehold_tests::{
    children_of, eventually, peak_memory_bytes, record_error, record_fact, record_outcome, record_submitted,
    thread_count,
};

/// What a scene gives: nothing, or why the case failed.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A scene. Whatever it started is gone when it returns.
pub(crate) type Scene = fn(&Stage) -> Outcome;

/// For something that should be there in a moment.
pub(crate) const MOMENT: Duration = Duration::from_secs(10);

/// Gives back what it gets: every child of the suite knows it.
pub(crate) const ECHO: Request<str, String> = Request::DO;

/// Ends the scene with a text unless that is so.
#[macro_export]
macro_rules! ensure {
    ($so:expr, $($text:tt)+) => {
        if !$so {
            return Err(format!($($text)+).into());
        }
    };
}

/// What a scene is told, and what this process held before it.
#[derive(Debug)]
pub(crate) struct Stage {
    arguments: Vec<String>,
    descriptors: BTreeSet<String>,
    threads: usize,
}

impl Stage {
    pub(crate) fn new(arguments: Vec<String>) -> Self {
        Self { arguments, descriptors: descriptors(), threads: thread_count() }
    }

    /// The arguments after the case's name.
    pub(crate) fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// One of them.
    pub(crate) fn argument(&self, index: usize) -> Outcome<&str> {
        let argument = self.arguments.get(index).map(String::as_str);
        argument.ok_or_else(|| format!("argument {index} is missing").into())
    }

    /// One that is a number.
    pub(crate) fn number(&self, index: usize) -> Outcome<u64> {
        Ok(self.argument(index)?.parse()?)
    }

    /// The scene is over: tells what is held that was not held before. At once, because what a pool leaves to do after it
    /// returned is left too much.
    pub(crate) fn clear(&self) -> Outcome {
        record_fact("children_left", children_of(std::process::id()).len())?;
        let left: Vec<String> = descriptors().difference(&self.descriptors).cloned().collect();
        record_fact("descriptors_left", left.join(" "))?;
        // A thread that was joined may be seen for a moment.
        eventually(Duration::from_secs(1), || thread_count() <= self.threads);
        record_fact("threads_left", thread_count().saturating_sub(self.threads))?;
        record_fact("peak_memory", peak_memory_bytes())?;
        Ok(record_fact("cleared", true)?)
    }
}

/// The open descriptors: number and what they lead to.
pub(crate) fn descriptors() -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return BTreeSet::new() };
    let shown = |entry: fs::DirEntry| {
        let target = fs::read_link(entry.path()).ok()?;
        // The directory that is being read is not held.
        let is_this = target.starts_with("/proc") && target.ends_with("fd");
        (!is_this).then(|| format!("{}:{}", entry.file_name().display(), target.display()))
    };
    entries.flatten().filter_map(shown).collect()
}

/// The path of a program of this package.
pub(crate) fn child(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    here.with_file_name(name)
}

/// A command for a child of this package. It has the arena's mark, as this process has.
pub(crate) fn command(name: &str) -> WorkerCommand {
    WorkerCommand::new(child(name))
}

/// A pool of one worker, the child of that name, to be started.
pub(crate) fn one(name: &str, arguments: &[&str]) -> PoolBuilder {
    Pool::builder(command(name).args(arguments)).workers(1)
}

/// Submits tasks to a pool and records them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Desk<'a> {
    pool: &'a Pool,
    policy: Policy,
    lives: u32,
}

impl<'a> Desk<'a> {
    /// With the default policy: three lives.
    pub(crate) fn of(pool: &'a Pool) -> Self {
        Self::with(pool, Policy::default(), 3)
    }

    /// For tasks that may run once.
    pub(crate) fn once(pool: &'a Pool) -> Self {
        Self::with(pool, Policy::once(), 1)
    }

    /// With a policy, and how many attempts it allows.
    pub(crate) fn with(pool: &'a Pool, policy: Policy, lives: u32) -> Self {
        Self { pool, policy: policy.attempts(lives), lives }
    }

    /// Submits a task of that name, which is used once. Whoever submits waits: a task without a recorded outcome is a lost
    /// one.
    pub(crate) fn submit<J, R>(&self, name: &str, request: Request<J, R>, job: &J) -> Outcome<Tracked<R>>
    where
        J: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        // Recorded first, so that one that is lost on the way in is seen.
        record_submitted(name, self.lives)?;
        let task = self.pool.with(self.policy).submit(request, job)?;
        Ok(Tracked { name: name.to_owned(), task })
    }
}

/// A task under its name.
#[derive(Debug)]
#[must_use = "a task without a recorded outcome is taken for a lost one"]
pub(crate) struct Tracked<R> {
    pub(crate) name: String,
    pub(crate) task: Task<R>,
}

impl<R> Tracked<R> {
    /// Waits for its outcome, and records it.
    pub(crate) fn wait(self) -> Outcome<Result<R, TaskError>> {
        let outcome = self.task.wait();
        outcome_of(&self.name, &outcome)?;
        Ok(outcome)
    }

    /// As [`wait`](Self::wait), for one that must be answered.
    pub(crate) fn answer(self) -> Outcome<R> {
        let name = self.name.clone();
        self.wait()?.map_err(|error| format!("{name} was not answered: {error}").into())
    }

    /// As [`wait`](Self::wait), for one that must not be; its kind and its cause are recorded as errors.
    pub(crate) fn error(self) -> Outcome<TaskError> {
        let name = self.name.clone();
        let Err(error) = self.wait()? else { return Err(format!("{name} was answered").into()) };
        tell_error(&error)?;
        Ok(error)
    }

    /// Waits until a worker has it; gives its process id.
    pub(crate) fn running_in(&self) -> Outcome<u32> {
        let mut found = None;
        let seen = eventually(MOMENT, || {
            if let TaskStatus::Running { pid, .. } = self.task.status() {
                found = Some(pid);
            }
            found.is_some() || self.task.is_done()
        });
        ensure!(seen, "no worker took {}", self.name);
        found.ok_or_else(|| format!("{} was done too soon", self.name).into())
    }
}

impl<R> Deref for Tracked<R> {
    type Target = Task<R>;

    fn deref(&self) -> &Task<R> {
        &self.task
    }
}

/// Records how a task ended, for those that come from a channel or a stream.
pub(crate) fn outcome_of<R>(name: &str, outcome: &Result<R, TaskError>) -> Outcome {
    let word = outcome.as_ref().map_or_else(|error| first_word(&error.kind()), |_| "Done".to_owned());
    Ok(record_outcome(name, &word)?)
}

/// Records the name of an error or a cause: the first word of its `Debug`.
pub(crate) fn tell(error: &impl Debug) -> Outcome {
    Ok(record_error(&first_word(error))?)
}

/// Records what a task's error is, and what its worker died of.
pub(crate) fn tell_error(error: &TaskError) -> Outcome {
    tell(&error.kind())?;
    match error.death() {
        Some(death) => tell(&death.cause),
        None => Ok(()),
    }
}

fn first_word(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}

/// One more task is done: the pool is usable.
pub(crate) fn prove_usable(pool: &Pool) -> Outcome {
    prove_usable_by(pool, ECHO, "still there")
}

/// As [`prove_usable`], for children that know no echo.
pub(crate) fn prove_usable_by<J, R>(pool: &Pool, request: Request<J, R>, job: &J) -> Outcome
where
    J: Serialize + ?Sized,
    R: DeserializeOwned,
{
    Desk::of(pool).submit("usable", request, job)?.answer()?;
    Ok(())
}

/// Takes events until one is what is looked for.
pub(crate) fn wait_for_event<T>(
    events: &Receiver<Event>,
    mut pick: impl FnMut(&Event) -> Option<T>,
) -> Outcome<T> {
    loop {
        let event = events.recv_timeout(MOMENT).map_err(|_| "an event that was expected did not come")?;
        if let Some(picked) = pick(&event) {
            return Ok(picked);
        }
    }
}
