//! A worker process: this program started again with `worker` as its first argument. Its stdin and stdout serve only to
//! say that it is up and that it may go; the peer under measurement carries the rest.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{self, Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::contest::{Outcome, Settings};

const ROLE: &str = "worker";
/// For a worker that is not done when its stdin ends.
const GRACE: Duration = Duration::from_secs(2);

/// The parent's side.
pub struct Worker {
    process: Child,
    stdin: Option<ChildStdin>,
}

impl Worker {
    pub fn start(words: &[String]) -> Outcome<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ROLE)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = process.stdin.take();
        Ok(Self { process, stdin })
    }

    /// Blocks until the worker has said that it is ready to receive.
    pub fn wait_until_up(&mut self) -> Outcome {
        let stdout = self.process.stdout.take().ok_or("asked twice whether a worker is up")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        if line == "up\n" { Ok(()) } else { Err("a worker ended before it was up".into()) }
    }

    /// Lets the worker end. It must have been told to stop, in the way of the peer.
    pub fn release(mut self) -> Outcome {
        drop(self.stdin.take());
        let status = self.process.wait()?;
        if status.success() { Ok(()) } else { Err(format!("a worker ended with {status}").into()) }
    }
}

impl Drop for Worker {
    /// For the way out after an error; after `release` there is nothing left to kill.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The worker's side.
pub struct WorkerSide {
    pub settings: Settings,
    released: Receiver<()>,
}

impl WorkerSide {
    /// None in the parent.
    pub fn of_this_process() -> Outcome<Option<Self>> {
        let mut words = std::env::args().skip(1);
        if words.next().as_deref() != Some(ROLE) {
            return Ok(None);
        }
        let (release, released) = mpsc::channel();
        // So that no worker outlives a parent that was killed.
        thread::spawn(move || {
            let _ = io::stdin().lock().read_to_end(&mut Vec::new());
            let _ = release.send(());
            thread::sleep(GRACE);
            process::exit(1);
        });
        Ok(Some(Self { settings: Settings::from_words(words)?, released }))
    }

    pub fn say_up(&self) -> Outcome {
        let mut out = io::stdout();
        writeln!(out, "up")?;
        Ok(out.flush()?)
    }

    /// Blocks until the parent has what this worker sent, and lets it go.
    pub fn wait_for_release(self) -> Outcome {
        Ok(self.released.recv()?)
    }
}
