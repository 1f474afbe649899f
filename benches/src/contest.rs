//! A contestant: one program that does one workload in one way. It says `ready` when it is set up and warm, waits for a line,
//! works, prints one line of JSON, and waits for another line or the end of its input. The peers in `benches/peers` talk the same
//! way, so that the runner measures all alike.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant};

use crate::measure::{Outcome, percentile};

mod command_line;
mod feed;
mod growth;
mod idle;
mod large;
mod lockstep;
mod map;
mod pipelined;
mod start;

pub(crate) use large::touch;

/// `contest <workload> [key=value …]`
pub(crate) fn run(words: &[&str]) -> Outcome<()> {
    let Some((workload, settings)) = words.split_first() else {
        return Err("which workload? see --help".into());
    };
    let settings = Settings::parse(settings)?;
    match *workload {
        "W1" => lockstep::run(&settings),
        "W2" => pipelined::run(&settings),
        "W3" => feed::run(&settings),
        "W4" => large::run(&settings),
        "W6" => map::run(&settings),
        "W7" => start::run(&settings),
        "growth" => growth::run(&settings),
        "idle" => idle::run(&settings),
        "command-start" => command_line::start(&settings),
        other => Err(format!("unknown workload {other:?}").into()),
    }
}

/// What follows the workload.
#[derive(Debug)]
pub(crate) struct Settings<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Settings<'a> {
    fn parse(words: &[&'a str]) -> Outcome<Self> {
        let pair = |word: &&'a str| word.split_once('=').ok_or_else(|| format!("{word:?} is not key=value"));
        Ok(Self(words.iter().map(pair).collect::<Result<_, _>>()?))
    }

    pub(crate) fn text(&self, key: &str, default: &'a str) -> &'a str {
        self.0.iter().find(|(name, _)| *name == key).map_or(default, |(_, value)| value)
    }

    /// Whether this is Stokehold, and not a limit.
    pub(crate) fn is_ours(&self) -> bool {
        self.text("by", "stokehold") == "stokehold"
    }

    /// `k` and `m` stand for 1024 and 1024 × 1024.
    pub(crate) fn number(&self, key: &str, default: u64) -> Outcome<u64> {
        let text = self.text(key, "");
        let (digits, unit) = match text.as_bytes().last() {
            None => return Ok(default),
            Some(b'k') => (text.trim_end_matches('k'), 1 << 10),
            Some(b'm') => (text.trim_end_matches('m'), 1 << 20),
            _ => (text, 1),
        };
        let number: u64 = digits.parse().map_err(|_| format!("{key}={text} is no number"))?;
        Ok(number * unit)
    }

    pub(crate) fn size(&self, key: &str, default: usize) -> Outcome<usize> {
        Ok(usize::try_from(self.number(key, default as u64)?)?)
    }
}

/// What a contestant reports.
#[derive(Debug)]
pub(crate) struct Report(Vec<(&'static str, f64)>);

impl Report {
    pub(crate) fn new(operations: u64, time: Duration) -> Self {
        Self(vec![("n", operations as f64), ("seconds", time.as_secs_f64())])
    }

    /// Where nothing is counted by the second.
    pub(crate) fn of(name: &'static str, figure: f64) -> Self {
        Self(vec![(name, figure)])
    }

    pub(crate) fn with(mut self, name: &'static str, figure: f64) -> Self {
        self.0.push((name, figure));
        self
    }

    /// From times in µs.
    pub(crate) fn with_latencies(self, mut micros: Vec<f64>) -> Self {
        micros.sort_unstable_by(f64::total_cmp);
        self.with("p50_us", percentile(&micros, 50)).with("p99_us", percentile(&micros, 99))
    }

    fn to_json(&self) -> String {
        let mut json = String::from("{");
        for (place, (name, figure)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            // Writing to a string cannot fail.
            let _ = write!(json, "{comma}\"{name}\": {figure:.6}");
        }
        json + "}"
    }
}

/// Says `ready`, waits for the word, works, reports, and waits for the end.
pub(crate) fn compete(work: impl FnOnce() -> Outcome<Report>) -> Outcome<()> {
    let mut out = io::stdout();
    writeln!(out, "ready")?;
    out.flush()?;
    wait()?;
    let report = work()?;
    writeln!(out, "{}", report.to_json())?;
    out.flush()?;
    wait()
}

/// Until a line, or the end of the input.
fn wait() -> Outcome<()> {
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// How long something takes.
pub(crate) fn timed<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Duration)> {
    let started = Instant::now();
    let done = work()?;
    Ok((done, started.elapsed()))
}
