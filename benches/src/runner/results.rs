//! What was measured, by contestant and round, and the medians of it.

use std::collections::BTreeMap;

use super::plan::{Entry, WORKLOADS, Who};
use super::tree::Usage;
use crate::dice::Dice;
use crate::measure::{Outcome, Spread};

/// One round of one contestant.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    told: BTreeMap<String, f64>,
    used: Usage,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Metric {
    /// Operations a second.
    Rate,
    /// Payload bytes a second.
    Bytes,
    /// CPU ns of all processes, an operation.
    Cpu,
    /// Reads and writes of all processes, an operation.
    Calls,
    /// Of the latencies, in µs.
    P50,
    P99,
    /// Milliseconds.
    First,
    All,
    /// KiB of the parent a worker.
    PerWorker,
    /// The most KiB of the parent.
    Peak,
    /// Of the parent.
    Threads,
    /// Switches to or from the engine's threads, and to or from workers.
    WakeUps,
    WorkersWakeUps,
}

impl Figures {
    /// The contestant's line of JSON, and what it used.
    pub(super) fn read(report: &str, used: Usage) -> Outcome<Self> {
        let told: BTreeMap<String, serde_json::Value> =
            serde_json::from_str(report).map_err(|error| format!("it reported {report:?}: {error}"))?;
        let told = told.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect();
        Ok(Self { told, used })
    }

    fn get(&self, metric: Metric) -> Option<f64> {
        let told = |name: &str| self.told.get(name).copied();
        // A start is not something done so many times a second.
        let operations = told("n").filter(|_| told("first_ms").is_none());
        match metric {
            Metric::Rate => Some(operations? / told("seconds")?),
            Metric::Bytes => Some(told("bytes")? / told("seconds")?),
            Metric::Cpu => Some(self.used.cpu_ns as f64 / operations?),
            Metric::Calls => Some(self.used.calls as f64 / operations?),
            Metric::P50 => told("p50_us"),
            Metric::P99 => told("p99_us"),
            Metric::First => told("first_ms"),
            Metric::All => told("all_ms"),
            Metric::PerWorker => told("rss_kib_per_worker"),
            Metric::Peak => told("peak_kib"),
            Metric::Threads => told("threads"),
            Metric::WakeUps => told("wake_ups"),
            Metric::WorkersWakeUps => told("wake_ups_of_workers"),
        }
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Results {
    rows: Vec<Measured>,
}

/// A contestant with its rounds.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) entry: Entry,
    rounds: Vec<Figures>,
    /// Why it could not be measured.
    pub(super) failure: Option<String>,
}

impl Measured {
    /// The median and the extremes, if it was measured.
    pub(super) fn spread(&self, metric: Metric) -> Option<Spread> {
        let values: Vec<f64> = self.rounds.iter().filter_map(|figures| figures.get(metric)).collect();
        (!values.is_empty()).then(|| Spread::of(values))
    }

    pub(super) fn has(&self, metric: Metric) -> bool {
        self.rounds.iter().any(|figures| figures.get(metric).is_some())
    }

    pub(super) fn median(&self, metric: Metric) -> Option<f64> {
        self.spread(metric).map(|spread| spread.median)
    }
}

impl Results {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let rows =
            entries.into_iter().map(|entry| Measured { entry, rounds: Vec::new(), failure: None }).collect();
        Self { rows }
    }

    /// Those that are measured, in their order.
    pub(super) fn workloads(&self) -> Vec<String> {
        let is_measured = |name: &str| self.rows.iter().any(|row| row.entry.workload == name);
        let known = WORKLOADS.iter().map(|(name, _)| *name);
        known.filter(|name| is_measured(name)).map(str::to_owned).collect()
    }

    /// The contestants of a workload that have not failed, in an order by chance.
    pub(super) fn order(&self, workload: &str, dice: &mut Dice) -> Vec<usize> {
        let rows = self.rows.iter().enumerate();
        let mut places: Vec<usize> = rows
            .filter(|(_, row)| row.entry.workload == workload && row.failure.is_none())
            .map(|(place, _)| place)
            .collect();
        for last in (1..places.len()).rev() {
            places.swap(last, usize::try_from(dice.below(last as u64 + 1)).unwrap_or(last));
        }
        places
    }

    pub(super) fn entry(&self, place: usize) -> Option<&Entry> {
        self.rows.get(place).map(|row| &row.entry)
    }

    pub(super) fn add(&mut self, place: usize, figures: Figures) {
        if let Some(row) = self.rows.get_mut(place) {
            row.rounds.push(figures);
        }
    }

    pub(super) fn fail(&mut self, place: usize, why: String) {
        if let Some(row) = self.rows.get_mut(place) {
            row.failure = Some(why);
        }
    }

    /// The contestants of a workload: ours, the limits, the peers.
    pub(super) fn of(&self, workload: &str) -> Vec<&Measured> {
        let mut rows: Vec<&Measured> =
            self.rows.iter().filter(|row| row.entry.workload == workload).collect();
        rows.sort_by_key(|row| row.entry.who);
        rows
    }

    /// The median of the one whose title begins so.
    pub(super) fn named(&self, workload: &str, title: &str, metric: Metric) -> Option<f64> {
        self.of(workload).into_iter().find(|row| row.entry.title().starts_with(title))?.median(metric)
    }

    /// The one of a kind with the best median, by that metric.
    pub(super) fn best(&self, workload: &str, who: Who, metric: Metric) -> Option<(&Measured, f64)> {
        let rows = self.of(workload).into_iter().filter(|row| row.entry.who == who);
        let measured = rows.filter_map(|row| Some((row, row.median(metric)?)));
        let less_is_better = metric.less_is_better();
        measured.max_by(|(_, a), (_, b)| if less_is_better { b.total_cmp(a) } else { a.total_cmp(b) })
    }
}

impl Metric {
    pub(super) fn less_is_better(self) -> bool {
        !matches!(self, Self::Rate | Self::Bytes)
    }
}
