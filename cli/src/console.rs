//! What people read on stderr: one message a line, tagged, with everything escaped that could drive a terminal.
//!
//! Nothing here can fail loudly: stderr may be closed.

use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};

use stokehold::Event;

/// So many messages of a kind are shown unless more are asked for; the rest are counted.
pub(crate) const SHOWN: u64 = 10;

/// Writes one line, in one write so that lines of several threads do not mix.
pub(crate) fn line(message: impl Display) {
    let mut text = message.to_string();
    text.push('\n');
    // A message that cannot be written has nowhere else to go.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// The text with its control characters spelled out, on one line. Tabs stay.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\t' => out.push('\t'),
            // Besides the controls: the marks that turn the direction of a line around.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(out, "{}", char.escape_unicode());
            }
            char if char.is_control() => {
                let _ = write!(out, "{}", char.escape_default());
            }
            char => out.push(char),
        }
    }
    out
}

/// Shows what happens in a pool.
#[derive(Debug)]
pub(crate) struct Commentary {
    verbose: bool,
    deaths: u64,
    retries: u64,
    is_told_of_items: bool,
}

impl Commentary {
    pub(crate) fn new(verbose: bool) -> Self {
        Self { verbose, deaths: 0, retries: 0, is_told_of_items: false }
    }

    /// Workers that died so far.
    pub(crate) fn deaths(&self) -> u64 {
        self.deaths
    }

    /// Tasks that were tried again so far.
    pub(crate) fn retries(&self) -> u64 {
        self.retries
    }

    pub(crate) fn show(&mut self, event: &Event) {
        match event {
            Event::Stderr { worker, line: text, .. } => {
                line(format_args!("[worker {worker}] {}", escaped(text)))
            }
            Event::Log { worker, level, message, .. } if self.verbose || !is_minor(level) => {
                line(format_args!("[worker {worker}] {}: {}", escaped(level), escaped(message)))
            }
            Event::ItemsUnwanted { worker, .. } if !self.is_told_of_items => {
                self.is_told_of_items = true;
                line(format_args!(
                    "warning: worker {worker} gives results one by one; only the last of each record is written"
                ));
            }
            Event::WorkerDied(death) => {
                self.deaths += 1;
                let text = death.explain().to_string();
                let lines: Vec<_> = text.lines().map(escaped).collect();
                self.limited(self.deaths, "deaths", lines.join("\n"));
            }
            Event::TaskRetried { task, attempt, .. } => {
                self.retries += 1;
                let next = attempt.saturating_add(1);
                self.limited(
                    self.retries,
                    "retries",
                    format_args!("warning: task {task} is tried again, attempt {next}"),
                );
            }
            Event::WorkerReady { worker, pid } if self.verbose => {
                line(format_args!("worker {worker} (pid {pid}) is ready"));
            }
            _ => {}
        }
    }

    fn limited(&self, count: u64, of_what: &str, message: impl Display) {
        if self.verbose || count <= SHOWN {
            line(message);
        } else if count == SHOWN + 1 {
            line(format_args!("warning: further {of_what} are not shown; -v shows them"));
        }
    }
}

/// What a worker says at these levels is for who looks for something.
fn is_minor(level: &str) -> bool {
    matches!(level, "debug" | "trace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_drives_a_terminal_is_left() {
        assert_eq!(escaped("a\tb ü"), "a\tb ü");
        assert_eq!(escaped("\x1b[31mred\x07\r\n\x7f\u{9b}"), "\\u{1b}[31mred\\u{7}\\r\\n\\u{7f}\\u{9b}");
        assert_eq!(escaped("\u{202e}txt"), "\\u{202e}txt");
    }
}
