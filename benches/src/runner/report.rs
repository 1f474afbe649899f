//! The results as Markdown: the machine, the goals, a table in short, a table for each workload.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use super::goals::{self, Goal};
use super::plan::{OURS, WORKLOADS, Who};
use super::results::{Measured, Metric, Results};
use crate::measure::Spread;

/// All that is shown of a run.
#[derive(Debug)]
pub(super) struct Report {
    /// From [`machine`] at the start: the run itself makes load.
    pub(super) machine: String,
    pub(super) rounds: usize,
    pub(super) results: Results,
}

/// By what each workload is compared in short.
const IN_SHORT: [(&str, Metric); 11] = [
    ("W1", Metric::P50),
    ("W2-64", Metric::Rate),
    ("W2-1K", Metric::Rate),
    ("W3-records", Metric::Rate),
    ("W3-lines", Metric::Rate),
    ("W4-1M-oneway", Metric::Bytes),
    ("W4-1M-rt", Metric::Bytes),
    ("W4-64M-oneway", Metric::Bytes),
    ("W4-64M-rt", Metric::Bytes),
    ("W6", Metric::Rate),
    ("W7-64", Metric::All),
];

// Writing to a string cannot fail.
impl Report {
    /// With links to the plots, if they are kept.
    pub(super) fn to_markdown(&self, plots: Option<&[String]>) -> String {
        let mut text = String::from("# Benchmarks\n\n");
        let _ = writeln!(
            text,
            "{}\n\nMedians of {} interleaved rounds, least and most in brackets; every contestant is a process of its own, \
             in an order by chance. Throughput counts the bytes of both ways. CPU is user and system time of all its processes; calls are their reads and \
             writes. Read the ratios: the machine is not yours.\n",
            self.machine, self.rounds
        );
        self.goals(&mut text);
        self.in_short(&mut text);
        for name in plots.unwrap_or_default() {
            let _ = writeln!(text, "![{name}]({name})\n");
        }
        for (workload, what) in WORKLOADS {
            self.workload(workload, what, &mut text);
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }

    fn goals(&self, text: &mut String) {
        let goals = goals::judge(&self.results);
        if goals.is_empty() {
            return;
        }
        text.push_str("## Goals\n\n| | goal | Stokehold | beside | ratio | |\n|---|---|---|---|---|---|\n");
        for goal in goals {
            let Goal { workload, promise, metric, ours, other, is_met } = &goal;
            let beside = other
                .as_ref()
                .map_or_else(|| "–".to_owned(), |(name, value)| format!("{} ({name})", metric.show(*value)));
            let ratio = goal.ratio().map_or_else(|| "–".to_owned(), number);
            let met = if *is_met { "met" } else { "**missed**" };
            let ours = metric.show(*ours);
            let _ = writeln!(text, "| {workload} | {promise} | {ours} | {beside} | {ratio} | {met} |");
        }
        text.push('\n');
    }

    fn in_short(&self, text: &mut String) {
        text.push_str("## In short\n\n| | Stokehold | the machine | the best peer |\n|---|---|---|---|\n");
        for (workload, metric) in IN_SHORT {
            let Some((_, what)) = WORKLOADS.iter().find(|(name, _)| *name == workload) else { continue };
            let ours = self.results.of(workload).into_iter().find(|row| row.entry.who == Who::Stokehold);
            let Some(ours) = ours.and_then(|row| row.median(metric)) else { continue };
            let limit = self.results.best(workload, Who::Limit, metric);
            let peer = self.results.best(workload, Who::Peer, metric);
            let show = |best: Option<(&Measured, f64)>| {
                best.map_or_else(
                    || "–".to_owned(),
                    |(row, value)| format!("{} ({})", metric.show(value), row.entry.title()),
                )
            };
            let (limit, peer) = (show(limit), show(peer));
            let _ = writeln!(
                text,
                "| {workload}: {what}; {} | **{}** | {limit} | {peer} |",
                metric.name(),
                metric.show(ours)
            );
        }
        text.push('\n');
    }

    fn workload(&self, workload: &str, what: &str, text: &mut String) {
        let rows = self.results.of(workload);
        // Peers tell more of some than is compared.
        let metrics: Vec<Metric> = Metric::ALL
            .into_iter()
            .filter(|metric| rows.iter().any(|row| !row.entry.is_peer() && row.has(*metric)))
            .collect();
        let Some(first) = metrics.first().copied() else { return };
        let _ = write!(text, "## {workload}: {what}\n\n| |");
        for metric in &metrics {
            let _ = write!(text, " {} |", metric.name());
        }
        let _ = writeln!(text, " Stokehold ÷ it |\n|---|{}", "---|".repeat(metrics.len() + 1));
        let ours = self.results.named(workload, OURS, first);
        for row in rows {
            let title = row.entry.title();
            let title = if row.entry.who == Who::Stokehold { format!("**{title}**") } else { title };
            if let Some(why) = &row.failure {
                let why = why.lines().last().unwrap_or_default().replace('|', "/");
                let _ = writeln!(text, "| {title} | could not be measured: {why} |");
                continue;
            }
            let _ = write!(text, "| {title} |");
            for metric in &metrics {
                let figure =
                    row.spread(*metric).map_or_else(|| "–".to_owned(), |spread| spread_of(*metric, spread));
                let _ = write!(text, " {figure} |");
            }
            let ratio =
                ours.zip(row.median(first)).map_or_else(|| "–".to_owned(), |(ours, it)| number(ours / it));
            let _ = writeln!(text, " {ratio} |");
        }
        text.push('\n');
    }
}

fn spread_of(metric: Metric, Spread { median, min, max }: Spread) -> String {
    let shown = metric.show(median);
    if min == max { shown } else { format!("{shown} ({}–{})", metric.figure(min), metric.figure(max)) }
}

impl Metric {
    /// In the order of the columns.
    const ALL: [Self; 13] = [
        Self::P50,
        Self::P99,
        Self::All,
        Self::First,
        Self::Threads,
        Self::WakeUps,
        Self::WorkersWakeUps,
        Self::PerWorker,
        Self::Bytes,
        Self::Rate,
        Self::Cpu,
        Self::Calls,
        Self::Peak,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Bytes => "throughput",
            Self::Cpu => "CPU each",
            Self::Calls => "calls each",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::First => "the first",
            Self::All => "all ready",
            Self::PerWorker => "memory of the parent a worker",
            Self::Peak => "peak memory",
            Self::Threads => "threads of the parent",
            Self::WakeUps => "wake-ups of the engine",
            Self::WorkersWakeUps => "wake-ups of the workers",
        }
    }

    /// What a figure is divided by, and the unit it then has.
    fn unit(self, figure: f64) -> (f64, &'static str) {
        match self {
            Self::Rate if figure >= 1e6 => (1e6, " M/s"),
            Self::Rate if figure >= 1e3 => (1e3, " k/s"),
            Self::Rate => (1.0, " /s"),
            Self::Bytes => (1e9, " GB/s"),
            Self::Cpu if figure >= 1e6 => (1e6, " ms"),
            Self::Cpu if figure >= 1e4 => (1e3, " µs"),
            Self::Cpu => (1.0, " ns"),
            Self::P50 | Self::P99 => (1.0, " µs"),
            Self::First | Self::All => (1.0, " ms"),
            Self::PerWorker => (1.0, " KiB"),
            Self::Peak => (1024.0, " MiB"),
            Self::Calls | Self::Threads | Self::WakeUps | Self::WorkersWakeUps => (1.0, ""),
        }
    }

    fn figure(self, figure: f64) -> String {
        number(figure / self.unit(figure).0)
    }

    /// With its unit.
    pub(super) fn show(self, figure: f64) -> String {
        self.figure(figure) + self.unit(figure).1
    }
}

/// Three significant digits, without decimals for whole numbers.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// What all this ran on.
pub(super) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let run = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output();
        output.map_or_else(
            |_| format!("unknown {program}"),
            |out| String::from_utf8_lossy(&out.stdout).trim().to_owned(),
        )
    };
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "{} · {model} · {cores} cores · Linux {} · {} · load before the run {load}",
        run("date", "+%F"),
        kernel.trim(),
        run("rustc", "--version")
    )
}
