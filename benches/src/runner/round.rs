//! One contestant, once: start it, wait until it is ready, let it work, take its report.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use super::plan::Entry;
use super::results::Figures;
use super::tree;
use crate::measure::Outcome;

/// Longer than any contestant should need for anything.
const PATIENCE: Duration = Duration::from_secs(180);

/// How much of what it said to stderr is shown when it fails.
const LAST_WORDS: usize = 400;

/// Measures a contestant once.
pub(super) fn run(entry: &Entry) -> Outcome<Figures> {
    let mut running = Running::start(&entry.command)?;
    let figures = running.compete();
    let ended = running.end(figures.is_ok());
    match (figures, ended) {
        (Ok(figures), Ok(())) => Ok(figures),
        (Err(error), _) | (Ok(_), Err(error)) => {
            let words = running.last_words();
            let shown = words.char_indices().nth_back(LAST_WORDS).map_or(0, |(place, _)| place);
            Err(format!("{error}: {}", words.get(shown..).unwrap_or_default().trim()).into())
        }
    }
}

struct Running {
    child: Child,
    lines: Receiver<String>,
    words: Receiver<String>,
}

impl Running {
    fn start(command: &str) -> Outcome<Self> {
        let target = PathBuf::from(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
        let peers = env::current_dir()?.join(target).join("peers");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).env("OWN", env::current_exe()?).env("PEERS", peers);
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (out, errors) = (child.stdout.take(), child.stderr.take());
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            let lines = out.map(BufReader::new).into_iter().flat_map(BufRead::lines);
            // Nobody listens any more when the report is there.
            let _ = lines.map_while(Result::ok).try_for_each(|line| send.send(line));
        });
        let (send, words) = mpsc::channel();
        thread::spawn(move || {
            let mut text = Vec::new();
            let _ = errors.map(|mut errors| errors.read_to_end(&mut text));
            send.send(String::from_utf8_lossy(&text).into_owned())
        });
        Ok(Self { child, lines, words })
    }

    fn compete(&mut self) -> Outcome<Figures> {
        let line = self.line()?;
        if line != "ready" {
            return Err(format!("it said {line:?} instead of `ready`").into());
        }
        let before = tree::usage(self.child.id());
        self.say()?;
        let report = self.line()?;
        let used = tree::usage(self.child.id()).since(before);
        Figures::read(&report, used)
    }

    fn line(&self) -> Outcome<String> {
        self.lines.recv_timeout(PATIENCE).map_err(|_| "it said nothing more".into())
    }

    fn say(&mut self) -> Outcome<()> {
        Ok(self.child.stdin.as_mut().ok_or("its input is closed")?.write_all(b"\n")?)
    }

    /// Lets it end, or makes it.
    fn end(&mut self, well: bool) -> Outcome<()> {
        drop(self.child.stdin.take());
        if !well {
            self.child.kill()?;
        }
        let status = self.child.wait()?;
        if !well || status.success() { Ok(()) } else { Err(format!("it ended with {status}").into()) }
    }

    fn last_words(&self) -> String {
        self.words.recv_timeout(Duration::from_secs(1)).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
