//! Tests with real processes, and what they share: starting under a watchdog, looking into `/proc`, and running
//! a test alone in a process of its own where it changes what belongs to the whole process.

mod containing;
mod ending;
mod failing;
mod orphans;
mod readiness;
mod starting;
mod using;

use std::env;
use std::fs;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::command::{ChildIo, SpawnCommand};
use super::containment::Containment;
use super::failure::SpawnError;
use super::poll::{Interest, Poll};
use super::process::{Process, Spawned};
use super::spawner::Spawner;

const WATCHDOG: Duration = Duration::from_secs(20);
const ALONE: &str = "STOKEHOLD_SYS_TEST_ALONE";

fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    super::write(fd, &[IoSlice::new(bytes)])
}

fn command(program: &str, args: &[&str]) -> SpawnCommand {
    SpawnCommand {
        program: program.into(),
        arg0: None,
        args: args.iter().map(Into::into).collect(),
        env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
        cwd: None,
        io: ChildIo::Stdio,
        containment: Containment::Group,
    }
}

fn sh(script: &str) -> SpawnCommand {
    command("/bin/sh", &["-c", script])
}

fn spawn(command: SpawnCommand) -> Result<Spawned, SpawnError> {
    spawn_with(&Spawner::get().unwrap(), command)
}

fn spawn_with(spawner: &Spawner, command: SpawnCommand) -> Result<Spawned, SpawnError> {
    let (sender, receiver) = mpsc::channel();
    spawner.spawn(command, move |result| sender.send(result).unwrap());
    receiver.recv_timeout(WATCHDOG).expect("the spawner answers")
}

/// Everything up to the end of the stream.
fn read_to_end(fd: &OwnedFd) -> String {
    let mut all = Vec::new();
    while let Some(bytes) = read_some(fd) {
        all.extend(bytes);
    }
    String::from_utf8(all).unwrap()
}

fn read_line(fd: &OwnedFd) -> String {
    let mut all = Vec::new();
    while !all.ends_with(b"\n") {
        all.extend(read_some(fd).expect("a line before the end"));
    }
    String::from_utf8(all).unwrap().trim_end().to_owned()
}

/// `None` at the end of the stream.
fn read_some(fd: &OwnedFd) -> Option<Vec<u8>> {
    let poll = Poll::new().unwrap();
    poll.add(fd.as_fd(), 0, Interest::Read).unwrap();
    let mut buffer = [0; 4096];
    loop {
        match super::read(fd.as_fd(), &mut buffer) {
            Ok(0) => return None,
            Ok(count) => return Some(buffer[..count].to_vec()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut ready = Vec::new();
                poll.wait(Some(WATCHDOG), &mut ready).unwrap();
                assert!(!ready.is_empty(), "nothing to read in time");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn wait_exit(process: &Process) {
    let poll = Poll::new().unwrap();
    poll.add(process.pidfd(), 0, Interest::Read).unwrap();
    let mut ready = Vec::new();
    poll.wait(Some(WATCHDOG), &mut ready).unwrap();
    assert!(process.has_exited(), "it exits in time");
}

fn eventually(what: &str, within: Duration, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + within;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Exists, and is not a zombie that its new parent has yet to reap.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), Some('Z' | 'X'))
    })
}

/// Living processes with this text in their environment.
fn alive_with(mark: &str) -> Vec<u32> {
    let numbers =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let marked = |pid: &u32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environ| environ.windows(mark.len()).any(|part| part == mark.as_bytes()))
    };
    numbers.filter(marked).filter(|&pid| is_alive(pid)).collect()
}

/// The children of this process, zombies included.
fn children() -> Vec<u32> {
    let mut all = Vec::new();
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let list = fs::read_to_string(task.unwrap().path().join("children")).unwrap();
        all.extend(list.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    all
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs the named test of the module that asks again, in a process of its own, and checks that it passes. True in that
/// process, where the test should go on.
fn alone(module: &str, test: &str) -> bool {
    if env::var_os(ALONE).is_some() {
        return true;
    }
    check_passes(this_test(module, test), &format!("{test} alone"));
    false
}

/// Runs a test in a process of its own, under the watchdog, and shows what it said if it fails.
fn check_passes(mut command: Command, what: &str) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let deadline = Instant::now() + 2 * WATCHDOG;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{what}: not done in time");
        }
        thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success(), "{what}: {status}\n{}", reader.join().unwrap());
}

/// The command that runs one test in a process of its own.
fn this_test(module: &str, test: &str) -> Command {
    // The harness names tests without the crate.
    let (_, path) = module.split_once("::").unwrap();
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("{path}::{test}"), "--nocapture", "--test-threads=1"]).env(ALONE, "1");
    command
}

/// Changes what the whole process does with a signal, so only for tests that are [`alone`].
#[expect(unsafe_code, reason = "there is no safe way to set a disposition")]
fn set_disposition(signal: i32, handler: libc::sighandler_t) {
    // SAFETY: the handlers given are SIG_IGN and SIG_DFL, which run no code.
    let before = unsafe { libc::signal(signal, handler) };
    assert_ne!(before, libc::SIG_ERR);
}
