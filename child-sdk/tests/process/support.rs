//! Starts the test worker and plays its parent, under a watchdog: whatever goes wrong, the worker is killed and reaped.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use stokehold_protocol::{Failure, FrameError, FrameEvent, Message, Recipient, Splitter};

/// No test needs a tenth of it; what is still running then hangs.
const WATCHDOG: Duration = Duration::from_secs(30);

/// The example that is no example.
const TEST_WORKER: &str = "child_sdk_test_worker";

/// A running worker. Dropping it kills and reaps.
pub(crate) struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<Box<dyn Read>>,
    stderr: Option<JoinHandle<String>>,
    splitter: Splitter,
    watchdog: Option<(Sender<()>, JoinHandle<()>)>,
}

/// A frame of the worker.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) id: u32,
    pub(crate) request: String,
    pub(crate) data: Vec<u8>,
}

impl Answer {
    pub(crate) fn value<T: DeserializeOwned>(&self) -> T {
        assert_eq!(self.request, "FINISHED", "{:?}", Failure::decode(&self.data));
        rmp_serde::from_slice(&self.data).unwrap()
    }

    pub(crate) fn failure(&self) -> Failure {
        assert_eq!(self.request, "FAILED", "{self:?}");
        Failure::decode(&self.data)
    }
}

/// A command for an example of this package. Cargo builds them for `cargo test`, but not when tests are picked by name.
pub(crate) fn example(name: &str) -> Command {
    let tests: PathBuf = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    let built = modified(&path);
    let own = if name == TEST_WORKER { "tests/children" } else { "examples" };
    let sources = ["src", own].map(|name| package().join(name));
    let newest = sources
        .iter()
        .flat_map(|folder| folder.read_dir().unwrap())
        .map(|file| modified(&file.unwrap().path()));
    assert!(
        built.is_some() && built >= newest.max().flatten(),
        "{} is missing or older than its sources: run `cargo build --examples`",
        path.display()
    );
    Command::new(path)
}

fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// When the file was written. Folders are as old as nothing: they change with files that have nothing to say.
fn modified(path: &Path) -> Option<SystemTime> {
    let metadata = path.metadata().ok()?;
    if metadata.is_dir() { None } else { metadata.modified().ok() }
}

/// A command for the test worker, as a parent would start it.
pub(crate) fn test_worker() -> Command {
    let mut command = example(TEST_WORKER);
    command
        .env("STOKEHOLD_IO", "stdio")
        .env("STOKEHOLD_PROTO", "1")
        .env("STOKEHOLD_CODEC", "msgpack")
        .env("STOKEHOLD_WORKER", "3")
        .env("STOKEHOLD_RUN", "a-run")
        .env("STOKEHOLD_PARENT", std::process::id().to_string());
    command
}

impl Worker {
    /// Starts it and reads HELLO and READY.
    pub(crate) fn ready(command: Command) -> Self {
        let mut worker = Self::start(command);
        worker.expect("HELLO");
        worker.expect("READY");
        worker
    }

    /// Starts it, with the protocol on its standard input and output.
    pub(crate) fn start(mut command: Command) -> Self {
        // A worker dies with the *thread* that started it. A test's thread outlives its worker.
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let output = Box::new(child.stdout.take().unwrap());
        Self::wrap(child, input, output)
    }

    /// Starts it with `output` as the place where its frames arrive, and whatever standard streams the command has.
    pub(crate) fn start_with(mut command: Command, output: impl Read + 'static) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        Self::wrap(child, input, Box::new(output))
    }

    fn wrap(mut child: Child, input: Option<ChildStdin>, output: Box<dyn Read>) -> Self {
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd: OwnedFd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let (alive, watched) = mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            if watched.recv_timeout(WATCHDOG) == Err(RecvTimeoutError::Timeout) {
                let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            }
        });
        let mut pipe = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        Self {
            child,
            input,
            output: Some(output),
            stderr: Some(stderr),
            splitter: Splitter::new(),
            watchdog: Some((alive, watchdog)),
        }
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// As [`send_bytes`](Self::send_bytes), to a worker that may be dead.
    pub(crate) fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.input.as_mut().unwrap().write_all(bytes)
    }

    pub(crate) fn send<T: Serialize>(&mut self, id: u32, request: &str, value: &T) {
        self.send_bytes(&frame(id, request, &rmp_serde::to_vec_named(value).unwrap()));
    }

    /// The next frame, or `None` at the end of its output.
    pub(crate) fn receive(&mut self) -> Option<Answer> {
        self.try_receive().unwrap()
    }

    /// As [`receive`](Self::receive); an error if the output ends inside a frame or is none.
    pub(crate) fn try_receive(&mut self) -> Result<Option<Answer>, FrameError> {
        loop {
            if let Some(event) = self.splitter.next_frame()? {
                let FrameEvent::Frame { id, body } = event else { unreachable!("a giant frame") };
                let (request, data) = Message::decode(body)
                    .map(|message| (message.request.to_owned(), message.data.to_vec()))
                    .unwrap();
                return Ok(Some(Answer { id, request, data }));
            }
            let count = self.output.as_mut().unwrap().read(self.splitter.space()).unwrap();
            if count == 0 {
                self.splitter.finish()?;
                return Ok(None);
            }
            self.splitter.filled(count);
        }
    }

    pub(crate) fn expect(&mut self, request: &str) -> Answer {
        let answer =
            self.receive().unwrap_or_else(|| panic!("the worker ended instead of sending {request}"));
        assert_eq!(answer.request, request, "{:?}", Failure::decode(&answer.data));
        answer
    }

    /// Sends one task and gives its answer.
    pub(crate) fn ask<T: Serialize>(&mut self, request: &str, value: &T) -> Answer {
        self.send(1, request, value);
        let answer = self.receive().unwrap();
        assert_eq!(answer.id, 1);
        answer
    }

    /// Its process id, or that of the wrapper around it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    pub(crate) fn close_output(&mut self) {
        self.output = None;
    }

    /// Kills the process that was started: the worker, or the wrapper around it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits for its end; gives the status and all of stderr.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        (status, stderr)
    }

    /// Closes its input, expects BYE, and waits.
    pub(crate) fn finish(mut self) -> String {
        self.close_input();
        self.expect("BYE");
        assert!(self.receive().is_none());
        let (status, stderr) = self.end();
        assert_eq!(status.code(), Some(0), "{stderr}");
        stderr
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some((alive, watchdog)) = self.watchdog.take() {
            drop(alive);
            let _ = watchdog.join();
        }
    }
}

pub(crate) fn frame(id: u32, request: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Message { request, sender: 1, recipient: Recipient::Anyone, data }.encode_frame(id, &mut out);
    out
}
