//! How a case is run, and the oracle that judges every one of them in the same way:
//!
//! - every submitted task has exactly one outcome, and no handler ran more often than the task has lives;
//! - the case ends in time, or its whole group is killed and the case has failed;
//! - a second later nothing that it started is alive, and its parent left no child, descriptor or thread behind;
//! - where the case says so: errors of these names were seen, memory stayed below a bound, one more task was done.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use stokehold_tests::{Arena, Case, Record, Run, eventually};

/// How long a case may take, unless it says otherwise.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long something may live on after its parent.
const SURVIVAL: Duration = Duration::from_secs(1);

/// The path of a program of this package.
#[macro_export]
macro_rules! program {
    ($name:literal) => {
        env!(concat!("CARGO_BIN_EXE_", $name))
    };
}

/// The tests of a group: each case with a function that gets its [`Trial`]. A test has the function's name. The match is what
/// lets a case without a test not compile.
#[macro_export]
macro_rules! cases {
    ($group:ident { $($case:ident: $test:ident,)+ }) => {
        mod case {
            $(
                #[test]
                fn $test() {
                    super::$test(&$crate::harness::Trial::of(stokehold_tests::$group::$case));
                }
            )+

            #[test]
            fn none_is_missing() {
                let has_a_test = |case| match case { $(stokehold_tests::$group::$case => true,)+ };
                assert!(stokehold_tests::$group::ALL.into_iter().all(has_a_test));
            }
        }
    };
}

/// One case.
#[derive(Debug)]
pub(crate) struct Trial {
    case: Case,
}

impl Trial {
    pub(crate) fn of(case: impl Into<Case>) -> Self {
        Self { case: case.into() }
    }

    /// The case's scene in a casebook of its own, to be run. May be called as often as needed.
    pub(crate) fn scene(&self, arguments: &[&str]) -> Scene {
        Scene {
            name: format!("{} {}", self.case, arguments.join(" ")),
            case: self.case,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            deadline: DEADLINE,
            wrapper: Vec::new(),
            trace: None,
            output: None,
            environment: Vec::new(),
            program: program!("casebook").into(),
            user: None,
            demands: Demands::default(),
        }
    }
}

/// What a case demands besides what all do.
#[derive(Clone, Debug, Default)]
struct Demands {
    errors: Vec<&'static str>,
    memory: Option<u64>,
    usable: bool,
    /// The parent is killed, so that it cannot account for itself.
    killed: bool,
}

/// A scene to be run.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    name: String,
    case: Case,
    arguments: Vec<String>,
    deadline: Duration,
    wrapper: Vec<String>,
    trace: Option<String>,
    output: Option<Arc<OwnedFd>>,
    environment: Vec<(String, OsString)>,
    program: OsString,
    user: Option<u32>,
    demands: Demands,
}

impl Scene {
    /// Another deadline than 10 s.
    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// An error or a cause of that name must have been told.
    pub(crate) fn typed(mut self, name: &'static str) -> Self {
        self.demands.errors.push(name);
        self
    }

    /// The most memory that the parent may ever have had, in bytes.
    pub(crate) fn memory_below(mut self, bytes: u64) -> Self {
        self.demands.memory = Some(bytes);
        self
    }

    /// One more task must have been done.
    pub(crate) fn usable(mut self) -> Self {
        self.demands.usable = true;
        self
    }

    /// The parent will be killed. What it held and what it had submitted is gone with it; its children must be, too.
    pub(crate) fn killed(mut self) -> Self {
        self.demands.killed = true;
        self
    }

    /// The casebook is started by these words.
    pub(crate) fn wrapped_in(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Its main thread is traced by strace with that expression.
    pub(crate) fn traced(mut self, expression: &str) -> Self {
        self.trace = Some(expression.to_owned());
        self
    }

    /// Its standard output and stderr are this.
    pub(crate) fn output(mut self, output: OwnedFd) -> Self {
        self.output = Some(Arc::new(output));
        self
    }

    /// A variable of the casebook, and so of its workers.
    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Another copy of the casebook.
    pub(crate) fn program(mut self, program: &Path) -> Self {
        self.program = program.into();
        self
    }

    /// As another user. Needs root.
    pub(crate) fn user(mut self, user: u32) -> Self {
        self.user = Some(user);
        self
    }

    /// Starts it, in an arena of its own.
    pub(crate) fn start(self) -> Running {
        self.start_in(Arena::new())
    }

    /// Starts it, in an arena that was prepared.
    pub(crate) fn start_in(self, arena: Arena) -> Running {
        let (mark, directory) = arena.mark();
        let mut words: Vec<OsString> = self.wrapper.iter().map(OsString::from).collect();
        if let Some(expression) = &self.trace {
            words.extend(["strace", "-qq", "-e", expression, "-o"].map(OsString::from));
            words.push(arena.path("strace").into());
        }
        words.push(self.program.clone());
        words.push(self.case.to_string().into());
        words.extend(self.arguments.iter().map(OsString::from));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env(mark, directory).envs(self.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(arena.path("stderr")).unwrap());
        if let Some(output) = &self.output {
            command.stdout(output.try_clone().unwrap()).stderr(output.try_clone().unwrap());
        }
        // A group of its own, so that it can be killed with everything that wraps it.
        command.process_group(0);
        if let Some(user) = self.user {
            fs::set_permissions(directory, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
            command.uid(user).gid(user);
        }
        let begun = Instant::now();
        let child = command.spawn().unwrap_or_else(|error| panic!("{} was not started: {error}", self.name));
        Running { scene: self, arena, child, begun, ended: None }
    }

    /// Runs it to its end, and judges it.
    pub(crate) fn run(self) -> Finished {
        self.start().finish()
    }
}

/// A scene that is playing. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    scene: Scene,
    pub(crate) arena: Arena,
    child: Child,
    begun: Instant,
    ended: Option<ExitStatus>,
}

impl Running {
    /// The process id of what was started: the casebook, or what wraps it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the scene tells that fact.
    pub(crate) fn wait_for(&mut self, name: &str) -> String {
        loop {
            if let Some(value) = Record::read(&self.arena).facts.remove(name) {
                return value;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                self.ended = Some(status);
                if Record::read(&self.arena).facts.contains_key(name) {
                    continue;
                }
                self.fail(&format!("it ended ({status}) and never told {name}"));
            }
            if self.begun.elapsed() > self.scene.deadline {
                self.hang(name);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Opens a gate that the scene or a child waits at.
    pub(crate) fn open(&self, gate: &str) {
        self.arena.open(gate);
    }

    /// SIGKILL to what was started, and to nothing else.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.ended = Some(self.child.wait().unwrap());
    }

    /// Waits for its end, at most until its deadline.
    pub(crate) fn wait_for_end(&mut self) -> ExitStatus {
        loop {
            self.ended = self.ended.or_else(|| self.child.try_wait().unwrap());
            if let Some(status) = self.ended {
                return status;
            }
            if self.begun.elapsed() > self.scene.deadline {
                self.hang("its end");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end, and judges it.
    pub(crate) fn finish(mut self) -> Finished {
        let status = self.wait_for_end();
        let took = self.begun.elapsed();
        self.judge();
        let Record { outcomes, facts, runs, .. } = Record::read(&self.arena);
        let outcomes = outcomes.into_iter().filter_map(|(name, words)| Some((name, words.first()?.clone())));
        Finished {
            name: self.scene.name.clone(),
            outcomes: outcomes.collect(),
            facts,
            runs,
            effects: self.arena.effects(),
            strace: fs::read_to_string(self.arena.path("strace")).unwrap_or_default(),
            took,
            status,
        }
    }

    /// The oracle.
    fn judge(&self) {
        let record = Record::read(&self.arena);
        // A process that is just becoming another program has no environment for a moment, and is not seen.
        let mut looks = 0;
        let gone = eventually(SURVIVAL, || {
            looks = if self.arena.survivors().is_empty() { looks + 1 } else { 0 };
            looks == 3
        });
        if !gone {
            self.fail(&format!("these outlived it: {}", shown(&self.arena.survivors())));
        }
        for (task, runs) in &record.runs {
            // A worker that notes what nobody submitted by that name is the case's own business.
            let lives = record.submitted.get(task).copied().unwrap_or(u32::MAX);
            if runs.len() > lives as usize {
                self.fail(&format!("{task} has {lives} lives and ran {} times: {runs:?}", runs.len()));
            }
        }
        for (task, outcomes) in &record.outcomes {
            if outcomes.len() != 1 || !record.submitted.contains_key(task) {
                self.fail(&format!("{task} ended as {outcomes:?}"));
            }
        }
        if self.scene.demands.killed {
            return;
        }
        if !self.ended.is_some_and(|status| status.success()) {
            self.fail(&format!("it ended with {:?}", self.ended));
        }
        let lost: Vec<&String> =
            record.submitted.keys().filter(|task| !record.outcomes.contains_key(*task)).collect();
        if !lost.is_empty() {
            self.fail(&format!("these tasks have no outcome: {lost:?}"));
        }
        for (what, none) in
            [("children_left", "0"), ("descriptors_left", ""), ("threads_left", "0"), ("cleared", "true")]
        {
            let left = record.facts.get(what).map_or("unknown", String::as_str);
            if left != none {
                self.fail(&format!("{what}: {left}"));
            }
        }
        self.judge_demands(&record);
    }

    fn judge_demands(&self, record: &Record) {
        let demands = &self.scene.demands;
        for error in &demands.errors {
            if !record.errors.iter().any(|told| told == error) {
                self.fail(&format!("no {error} was seen, only {:?}", record.errors));
            }
        }
        let peak = record.facts.get("peak_memory").and_then(|peak| peak.parse::<u64>().ok());
        if let (Some(most), Some(peak)) = (demands.memory, peak)
            && peak > most
        {
            self.fail(&format!("the parent had {peak} bytes, and may have {most}"));
        }
        let is_usable = record.outcomes.get("usable").is_some_and(|outcomes| outcomes == &["Done"]);
        if demands.usable && !is_usable {
            self.fail("nobody showed that the pool is usable");
        }
    }

    fn hang(&self, what: &str) -> ! {
        let places = where_they_are(&self.arena.survivors());
        self.fail(&format!(
            "it hangs, {:?} after its start, waiting for {what}:\n{places}",
            self.begun.elapsed()
        ))
    }

    /// The end of the test, with everything that is known.
    fn fail(&self, what: &str) -> ! {
        let text = |name| fs::read_to_string(self.arena.path(name)).unwrap_or_default();
        let (errors, record) = (text("stderr"), text("record"));
        panic!("{}: {what}\nits stderr: {}\nits record:\n{}", self.scene.name, last(&errors), last(&record))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Its group, because what wraps it does not always take it along.
            if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            for pid in self.arena.survivors() {
                stokehold_tests::kill(pid);
            }
        }
    }
}

/// A scene that was judged.
#[derive(Debug)]
pub(crate) struct Finished {
    name: String,
    /// How each task ended, in one word.
    pub(crate) outcomes: BTreeMap<String, String>,
    /// What the scene told.
    pub(crate) facts: BTreeMap<String, String>,
    /// Which task ran when and where.
    pub(crate) runs: BTreeMap<String, Vec<Run>>,
    /// All that was noted.
    pub(crate) effects: Vec<String>,
    /// What strace wrote, if it was asked to.
    pub(crate) strace: String,
    /// From its start to its end.
    pub(crate) took: Duration,
    status: ExitStatus,
}

impl Finished {
    /// How often a task ran.
    pub(crate) fn runs_of(&self, task: &str) -> usize {
        self.runs.get(task).map_or(0, Vec::len)
    }

    /// How a task ended.
    pub(crate) fn outcome_of(&self, task: &str) -> &str {
        self.outcomes.get(task).map_or("none", String::as_str)
    }

    /// How many tasks ended so.
    pub(crate) fn count(&self, outcome: &str) -> usize {
        self.outcomes.values().filter(|word| *word == outcome).count()
    }

    /// A fact that the scene told.
    pub(crate) fn fact(&self, name: &str) -> &str {
        self.facts
            .get(name)
            .unwrap_or_else(|| panic!("{}: it never told {name}, only {:?}", self.name, self.facts))
    }

    /// A fact that is a number.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let fact = self.fact(name);
        fact.parse().unwrap_or_else(|_| panic!("{}: {name} is {fact:?}", self.name))
    }

    /// The signal that ended it.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

/// Plays several at once: most of their time is waiting.
pub(crate) fn side_by_side<T: Send>(plays: Vec<T>, play: impl Fn(T) + Sync) {
    const AT_ONCE: usize = 3;
    let plays = Mutex::new(plays);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = plays.lock().unwrap().pop();
                    let Some(next) = next else { return };
                    play(next);
                }
            });
        }
    });
}

/// The end of a text: a failing case has been talkative.
fn last(text: &str) -> &str {
    let from = text.len().saturating_sub(4_000);
    text.get(from..).unwrap_or(text)
}

fn shown(pids: &[u32]) -> String {
    let command =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
    pids.iter().map(|pid| format!("{pid} ({})", command(pid).trim())).collect::<Vec<_>>().join(", ")
}

/// What each thread of these processes waits for, as far as the system tells.
fn where_they_are(pids: &[u32]) -> String {
    let mut text = String::new();
    for pid in pids {
        text += &format!("  {}\n", shown(&[*pid]));
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let read = |name| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            let (comm, wchan, call) = (read("comm"), read("wchan"), read("syscall"));
            let call: Vec<&str> = call.split_whitespace().take(3).collect();
            text += &format!("    {} in {wchan}, call {}\n", comm.trim(), call.join(" "));
        }
    }
    text
}

#[cfg(test)]
mod tests;
