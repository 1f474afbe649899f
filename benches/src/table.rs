//! The table: rows as measured, printed as Markdown, with the machine they were measured on.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use crate::measure::Spread;

/// What a figure should reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Nothing was promised.
    None,
    AtLeast(f64),
    AtMost(f64),
    /// Ours ÷ limit.
    RatioAtMost(f64),
}

/// One comparison.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) limit: Option<Spread>,
    pub(crate) ours: Spread,
    pub(crate) goal: Goal,
}

/// All rows of a run.
#[derive(Debug)]
pub(crate) struct Table {
    /// Noted at the start: the run itself makes load.
    machine: String,
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { machine: machine(), rows: Vec::new(), notes: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(crate) fn to_markdown(&self) -> String {
        let mut text = format!(
            "{}\n\nMedians of interleaved rounds, minimum and maximum in brackets. Ratio: Stokehold ÷ limit.\n\n\
             | what | unit | limit | Stokehold | ratio | goal | |\n|---|---|---|---|---|---|---|\n",
            self.machine
        );
        for Row { what, unit, limit, ours, goal } in &self.rows {
            let ratio = limit.map(|limit| ours.median / limit.median);
            let limit = limit.map_or_else(|| "–".to_owned(), show);
            let shown_ratio = ratio.map_or_else(|| "–".to_owned(), number);
            let (goal, met) = judge(*goal, ours.median, ratio);
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {what} | {unit} | {limit} | {} | {shown_ratio} | {goal} | {met} |",
                show(*ours)
            );
        }
        for note in &self.notes {
            let _ = write!(text, "\n{note}\n");
        }
        text
    }
}

fn judge(goal: Goal, ours: f64, ratio: Option<f64>) -> (String, &'static str) {
    let (text, met) = match goal {
        Goal::None => return ("–".to_owned(), ""),
        Goal::AtLeast(bound) => (format!("≥ {}", number(bound)), ours >= bound),
        Goal::AtMost(bound) => (format!("≤ {}", number(bound)), ours <= bound),
        Goal::RatioAtMost(bound) => (format!("ratio ≤ {bound}"), ratio.is_some_and(|ratio| ratio <= bound)),
    };
    (text, if met { "met" } else { "**missed**" })
}

fn show(Spread { median, min, max }: Spread) -> String {
    if min == max {
        number(median)
    } else {
        format!("{} ({}–{})", number(median), number(min), number(max))
    }
}

/// Three significant digits, without decimals for whole numbers.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc
        .map_or_else(|_| "unknown rustc".to_owned(), |out| String::from_utf8_lossy(&out.stdout).into_owned());
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "{model} · {cores} cores · Linux {} · {} · load before the run {load}",
        kernel.trim(),
        rustc.trim()
    )
}
