//! One child process: started with the pipes a case wants, never left behind.
//!
//! It leads a process group of its own, which is killed when the case is over; it is killed by the kernel when the kit dies;
//! and what escaped both is adopted by the kit and swept away.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::io::Errno;
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group,
    pidfd_open, waitid, waitpid,
};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde::{Deserialize, Serialize};

use super::carrier::Carrier;
use super::verdict::{Checked, Stop};

/// How a case wants its child.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Variables that differ from the usual ones: another value, or none.
    pub(crate) env: Vec<(&'static str, Option<&'static str>)>,
    pub(crate) input: Input,
    /// Standard error is closed before the child starts.
    pub(crate) closed_stderr: bool,
    /// Pipes that hold one page only.
    pub(crate) tiny_pipes: bool,
    /// The frames go over descriptors 3 and 4.
    pub(crate) far_descriptors: bool,
}

/// What the child's standard input is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Input {
    Pipe,
    Terminal,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            env: Vec::new(),
            input: Input::Pipe,
            closed_stderr: false,
            tiny_pipes: false,
            far_descriptors: false,
        }
    }
}

impl Setup {
    /// The environment of a parent: it is nobody's child.
    pub(crate) fn of_a_parent() -> Self {
        let names = ENVIRONMENT.iter().map(|(name, _)| *name).chain(["STOKEHOLD_PARENT"]);
        Self { env: names.map(|name| (name, None)).collect(), ..Self::default() }
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    Code(i32),
    Signal(i32),
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
        }
    }
}

/// A child that was started.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
    /// The end that frames for the child are written to.
    pub(crate) input: Option<OwnedFd>,
    /// The end that its frames are read from.
    pub(crate) output: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    /// The other end of a terminal: it must stay open.
    _terminal: Option<OwnedFd>,
}

/// The usual environment of a child, as a parent makes it.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("STOKEHOLD_IO", "stdio"),
    ("STOKEHOLD_PROTO", "1"),
    ("STOKEHOLD_WORKER", "0"),
    ("STOKEHOLD_RUN", "0193a3f0-6a5e-7c21-b0c4-5d1f3a9e2b77"),
];

impl Process {
    /// Starts the command as a child that is offered this carrier.
    pub(crate) fn start(words: &[OsString], carrier: Carrier, setup: &Setup) -> Checked<Self> {
        let mut command = kit("launch")?;
        command.arg("--");
        // A shell moves descriptors that the standard library cannot.
        let script = match (setup.far_descriptors, setup.closed_stderr) {
            (true, _) => Some("exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2"),
            (false, true) => Some("exec \"$@\" 2>&-"),
            (false, false) => None,
        };
        if let Some(script) = script {
            command.args(["sh", "-c", script, "sh"]);
        }
        command.args(words).process_group(0);
        set_environment(&mut command, carrier, setup);
        let mut terminal = None;
        match setup.input {
            Input::Pipe => command.stdin(Stdio::piped()),
            Input::Terminal => {
                let (ours, theirs) =
                    open_terminal().map_err(|error| Stop::system("a terminal for the child", error))?;
                terminal = Some(ours);
                command.stdin(theirs)
            }
        };
        let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| Stop::system("starting the child", error))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Stop::Harness("the child has no process id".to_owned()))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| Stop::system("watching the child", error))?;
        let process = Self {
            pid,
            pidfd,
            input: child.stdin.take().map(OwnedFd::from),
            output: child.stdout.take().map(OwnedFd::from),
            stderr: child.stderr.take().map(OwnedFd::from),
            _terminal: terminal,
            child,
        };
        process.prepare_pipes(setup).map_err(|error| Stop::system("the pipes of the child", error))?;
        Ok(process)
    }

    fn prepare_pipes(&self, setup: &Setup) -> Result<(), Errno> {
        for end in [&self.input, &self.output, &self.stderr].into_iter().flatten() {
            fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?;
        }
        if setup.tiny_pipes {
            for end in [&self.input, &self.output].into_iter().flatten() {
                fcntl_setpipe_size(end, 4096)?;
            }
        }
        Ok(())
    }

    /// Gives the pipes to a process that does nothing with them, and has it killed: what is left of a parent that was killed.
    pub(crate) fn lose_parent(&mut self) -> Checked {
        let mut parent = kit("hold")?;
        let end = |end: Option<OwnedFd>| end.map_or_else(Stdio::null, Stdio::from);
        parent.stdin(end(self.output.take())).stdout(end(self.input.take())).stderr(end(self.stderr.take()));
        let mut started =
            parent.spawn().map_err(|error| Stop::system("starting the parent to be killed", error))?;
        // Only that process has the ends now.
        drop(parent);
        let killed = started.kill().and_then(|()| started.wait());
        killed.map(drop).map_err(|error| Stop::system("killing the parent", error))
    }

    /// The number the system knows it by.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Becomes readable when the child has ended.
    pub(crate) fn end(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How it ended, if it did. It stays a zombie, so that its group cannot become another's.
    pub(crate) fn ended(&self) -> Option<Ended> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::PidFd(self.pidfd.as_fd()), options).ok()??;
        let code = status.exit_status().map(Ended::Code);
        code.or_else(|| status.terminating_signal().map(Ended::Signal))
    }

    /// Sends a signal to the child, and to nothing else.
    pub(crate) fn signal(&self, signal: Signal) -> Checked {
        kill_process(self.pid, signal).map_err(|error| Stop::system("sending a signal", error))
    }

    /// Resident memory in bytes, as far as it can be told.
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib.saturating_mul(1024))
    }

    /// The largest peak of resident memory, in bytes, of the process and of everything below it.
    pub(crate) fn peak_memory(&self) -> u64 {
        peak_of(self.pid(), 0)
    }

    /// How long its busiest thread ran, or waited for a processor: the same on an idle machine and on a full one. Zero where the
    /// kernel does not tell (`schedstat` in proc(5)).
    pub(crate) fn busy(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let nanoseconds = threads.filter_map(|thread| {
            let told = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            let mut fields = told.split(' ').map_while(|field| field.parse::<u64>().ok());
            Some(fields.next()?.saturating_add(fields.next()?))
        });
        Duration::from_nanos(nanoseconds.max().unwrap_or(0))
    }

    /// Clock ticks (usually hundredths of a second) of processor time, as far as they can be told.
    pub(crate) fn ticks(&self) -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        let ticks: Vec<u64> =
            fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
        (ticks.len() == 2).then(|| ticks.iter().sum())
    }
}

fn peak_of(pid: u32, depth: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    let own = kib.unwrap_or(0).saturating_mul(1024);
    // Deep enough for a shell around a parent and another around its children.
    if depth >= 8 {
        return own;
    }
    children_of(&format!("/proc/{pid}/task"))
        .into_iter()
        .filter_map(|child| u32::try_from(child).ok())
        .map(|child| peak_of(child, depth + 1))
        .fold(own, u64::max)
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is not reaped yet, so that the group is still its own. What is gone already needs no signal.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The kit's own program, to run one of its hidden steps.
fn kit(step: &str) -> Checked<Command> {
    let program = std::env::current_exe().map_err(|error| Stop::system("the kit's own program", error))?;
    let mut command = Command::new(program);
    command.args(["conform", step, "--parent", &std::process::id().to_string()]);
    Ok(command)
}

fn set_environment(command: &mut Command, carrier: Carrier, setup: &Setup) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STOKEHOLD_") {
            command.env_remove(name);
        }
    }
    command.envs(ENVIRONMENT).env("STOKEHOLD_CODEC", carrier.offer());
    command.env("STOKEHOLD_PARENT", std::process::id().to_string());
    for (name, value) in &setup.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// Both ends of a new terminal: the kit's, and the one the child gets.
fn open_terminal() -> Result<(OwnedFd, OwnedFd), Errno> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let theirs =
        open(ptsname(&ours, Vec::new())?, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((ours, theirs))
}

/// Kills and reaps whatever an ended case left: children of children, which the kit has adopted. Call it when no child of a
/// case is alive. Says how many there were.
pub(crate) fn sweep() -> usize {
    let mut swept = 0;
    // Each round may set free children of what it killed.
    for _ in 0..64 {
        let left = adopted();
        if left.is_empty() {
            break;
        }
        for pid in left {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
            swept += 1;
        }
    }
    swept
}

/// The children of this process.
fn adopted() -> Vec<Pid> {
    children_of("/proc/self/task").into_iter().filter_map(Pid::from_raw).collect()
}

/// The children of all threads of a process, by its directory of them.
fn children_of(threads: &str) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(threads) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| numbers(&list)).collect()
}

fn numbers(list: &str) -> Vec<i32> {
    list.split_whitespace().filter_map(|number| number.parse().ok()).collect()
}

/// Whether a process is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

/// A process as no other can be taken for it: its number, and when it was started, in clock ticks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    born: u64,
}

impl Identity {
    /// Of a process that is there.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = stat.rsplit_once(") ")?;
        Some(Self { pid, born: fields.split(' ').nth(19)?.parse().ok()? })
    }

    /// Whether it is still there, and no zombie.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self) && is_alive(self.pid)
    }

    /// Kills it, if it is still there.
    pub(crate) fn kill(self) {
        if self.is_alive()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Bytes that wait in a pipe.
pub(crate) fn waiting(end: &OwnedFd) -> u64 {
    rustix::io::ioctl_fionread(end).unwrap_or(0)
}
