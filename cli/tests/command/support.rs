//! Runs the command under a watchdog, with a mark in its environment by which everything it started can be found.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The command under test.
pub(crate) const STOKEHOLD: &str = env!("CARGO_BIN_EXE_stokehold");

/// Anything here takes a second at most; a machine under load takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The bytes of HELLO and READY of a minimal worker, for `printf` in a shell.
pub(crate) const HELLO_AND_READY: &str = "\\000\\000\\000\\021\\000\\000\\000\\000\\224\\245HELLO\\000\\300\\201\\241v\\001\
                                          \\000\\000\\000\\016\\000\\000\\000\\000\\224\\245READY\\000\\300\\300";

/// Runs a test under a watchdog: a hang becomes the end of the test process, with the test's name.
pub(crate) fn within<R>(test: impl FnOnce() -> R) -> R {
    let (done, watch) = mpsc::channel::<()>();
    let name = thread::current().name().unwrap_or("a test").to_owned();
    thread::spawn(move || {
        if watch.recv_timeout(PATIENCE * 2) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("watchdog: {name} hangs");
            std::process::abort();
        }
    });
    let result = test();
    drop(done);
    result
}

/// Waits for something that can only be looked at.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Finished {
    /// The output as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// Checks the exit code; everything is shown if it is another.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

/// A command line on its way.
#[derive(Debug)]
pub(crate) struct Run {
    command: Command,
    mark: String,
}

impl Run {
    /// `stokehold` with these arguments.
    pub(crate) fn new<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        Self::of(STOKEHOLD, args)
    }

    /// Another program, which runs `stokehold`.
    pub(crate) fn of<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("CLI_TEST_MARK={}-{}-", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("CLI_TEST_MARK", mark.split_once('=').unwrap().1);
        Self { command, mark }
    }

    /// Gives it the input and waits for its end; then nothing it started may be left.
    pub(crate) fn feed(self, input: impl Into<Vec<u8>>) -> Finished {
        let input = input.into();
        let mut running = self.start();
        let mut stdin = running.stdin.take().unwrap();
        // The command may end before it has read everything.
        let feeder = thread::spawn(move || drop(stdin.write_all(&input)));
        let finished = running.finish();
        feeder.join().unwrap();
        finished
    }

    /// Starts it, with the pipes in the test's hands.
    pub(crate) fn start(mut self) -> Running {
        let mut child = self.command.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let told = Arc::new(Mutex::new(String::new()));
        let theirs = Arc::clone(&told);
        let reader = thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut piece) {
                theirs.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..count]));
            }
        });
        let stdout = child.stdout.take().map(BufReader::new);
        Running { stdin: child.stdin.take(), stdout, told, reader: Some(reader), child, mark: self.mark }
    }
}

/// A command that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<BufReader<std::process::ChildStdout>>,
    told: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
    child: Child,
    mark: String,
}

impl Running {
    pub(crate) fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The next line of output, with its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// What it has written to stderr.
    pub(crate) fn stderr_so_far(&self) -> String {
        self.told.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    /// Everything it started that still lives, itself not included, whose command line contains `part`.
    pub(crate) fn descendants(&self, part: &str) -> Vec<u32> {
        let mut found = marked(&self.mark);
        found.retain(|pid| *pid != self.child.id() && command_line(*pid).contains(part));
        found
    }

    /// Waits for its end; then nothing it started may be left.
    pub(crate) fn finish(mut self) -> Finished {
        let mut stdout = Vec::new();
        if let Some(mut out) = self.stdout.take() {
            out.read_to_end(&mut stdout).unwrap();
        }
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        let stderr = self.stderr_so_far();
        assert_eq!(status.signal(), None, "{stderr}");
        until("everything the command started is gone", || marked(&self.mark).is_empty());
        Finished { code: status.code(), stdout, stderr }
    }
}

impl Drop for Running {
    /// After a failed test: whatever it started must not outlive it.
    fn drop(&mut self) {
        let _ = self.child.kill();
        for pid in marked(&self.mark) {
            kill(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal);
}

/// Whether a test of this signal makes sense: what was ignored when the tests were started stays ignored below.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
}

/// A fresh directory that goes with the test.
#[derive(Debug)]
pub(crate) struct Dir(pub(crate) PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Living processes that were started with the mark. A zombie has no environment, so that it is not among them.
pub(crate) fn marked(mark: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes())
    })
    .collect()
}

fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ")
}
