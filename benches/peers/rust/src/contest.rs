//! A contestant's talk with the runner: the settings from the command line, `ready`, the start, and the report.

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// `<program> <workload> [key=value …]`
pub struct Settings {
    pub workload: String,
    values: Vec<(String, String)>,
}

impl Settings {
    pub fn from_command_line() -> Outcome<Self> {
        Self::from_words(std::env::args().skip(1))
    }

    pub fn from_words(mut words: impl Iterator<Item = String>) -> Outcome<Self> {
        let workload = words.next().ok_or("which workload? `w1` to `w7`, then `key=value`")?;
        let mut values = Vec::new();
        for word in words {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is not `key=value`"))?;
            values.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self { workload, values })
    }

    pub fn text<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.values.iter().find(|(name, _)| name == key).map_or(default, |(_, value)| value)
    }

    /// The suffixes `k` and `m` stand for 1024 and 1024 × 1024.
    pub fn number(&self, key: &str, default: usize) -> Outcome<usize> {
        let text = self.text(key, "");
        if text.is_empty() {
            return Ok(default);
        }
        let (digits, unit) = match text.as_bytes().last() {
            Some(b'k') => (&text[..text.len() - 1], 1 << 10),
            Some(b'm') => (&text[..text.len() - 1], 1 << 20),
            _ => (text, 1),
        };
        let number: usize = digits.parse().map_err(|_| format!("`{key}={text}` is not a number"))?;
        Ok(number * unit)
    }
}

/// Says `ready`, waits for the runner's word, and starts the clock.
pub fn start() -> Outcome<Instant> {
    let mut out = io::stdout();
    writeln!(out, "ready")?;
    out.flush()?;
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(Instant::now())
}

/// The line of JSON that a contestant ends with.
pub struct Report(Vec<String>);

impl Report {
    pub fn new(operations: usize, time: Duration) -> Self {
        Self(vec![format!("\"n\": {operations}"), format!("\"seconds\": {:.6}", time.as_secs_f64())])
    }

    pub fn with(mut self, name: &str, figure: f64) -> Self {
        self.0.push(format!("\"{name}\": {figure:.3}"));
        self
    }

    /// Payload bytes in both directions.
    pub fn with_bytes(mut self, bytes: usize) -> Self {
        self.0.push(format!("\"bytes\": {bytes}"));
        self
    }

    pub fn with_latencies(self, mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e6;
        let (p50, p99) = (at(50), at(99));
        self.with("p50_us", p50).with("p99_us", p99)
    }

    /// Prints it, and waits until the runner has looked at our processes. After that they may end.
    pub fn hand_in(self) -> Outcome {
        let mut out = io::stdout();
        writeln!(out, "{{{}}}", self.0.join(", "))?;
        out.flush()?;
        io::stdin().lock().read_line(&mut String::new())?;
        Ok(())
    }
}
