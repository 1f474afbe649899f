//! What was promised, and whether it is kept: `Goal`s from the results. The promises stand in the table of the report; where one is
//! not kept, docs/adr says what the floor is and what was tried.

use super::plan::{OURS, Who};
use super::results::{Metric, Results};

/// A promise, ours, and what it is compared with.
#[derive(Debug)]
pub(super) struct Goal {
    pub(super) workload: &'static str,
    pub(super) promise: String,
    pub(super) metric: Metric,
    pub(super) ours: f64,
    /// By name; none where the promise is a plain figure.
    pub(super) other: Option<(String, f64)>,
    pub(super) is_met: bool,
}

impl Goal {
    pub(super) fn ratio(&self) -> Option<f64> {
        self.other.as_ref().map(|(_, other)| self.ours / other)
    }
}

/// How ours is to stand to the other, or to the figure.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    fn words(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("≥ {bound}"),
            Self::AtMost(bound) => format!("≤ {bound}"),
        }
    }
}

use Bound::{AtLeast, AtMost};

/// All that can be judged by these results: what was not measured is left out.
pub(super) fn judge(results: &Results) -> Vec<Goal> {
    let judge = Judge { results, goals: Vec::new() };
    let pipe = "pipe, 1 MiB";
    judge
        .ratio("W1", "Stokehold, Latency::Block, two", Metric::P50, "pipe, blocking, two cores", AtMost(1.25))
        .ratio("W1", "Stokehold, Latency::Block, one", Metric::P50, "pipe, blocking, one core", AtMost(1.25))
        .ratio("W1", OURS, Metric::P50, "pipe, spinning", AtMost(3.0))
        .peer("W1", Metric::P50, "iceoryx2, event")
        .peer("W1", Metric::P50, "ipc-channel")
        .peer("W1", Metric::P50, "procspawn")
        .peer("W1", Metric::P99, "iceoryx2, event")
        .peer("W1", Metric::P99, "ipc-channel")
        .peer("W1", Metric::P99, "procspawn")
        .figure("W2-64", OURS, Metric::Rate, AtLeast(4e6), 4e6)
        .ratio("W2-64", OURS, Metric::Rate, "pipe, batched, codec rmp-serde", AtLeast(0.4))
        .figure("W2-64", OURS, Metric::Cpu, AtMost(400.0), 400.0)
        .best_peer("W2-64", Metric::Rate, 1.0)
        .ratio("W2-1K", OURS, Metric::Rate, "pipe, batched, codec rmp-serde", AtLeast(0.4))
        .best_peer("W2-1K", Metric::Rate, 1.0)
        .ratio("W3-records", OURS, Metric::Rate, "pipe", AtLeast(0.85))
        .ratio("W3-lines", OURS, Metric::Rate, "pipe", AtLeast(0.8))
        .ratio("W4-1M-oneway", OURS, Metric::Bytes, pipe, AtLeast(0.85))
        .ratio("W4-1M-rt", OURS, Metric::Bytes, pipe, AtLeast(0.85))
        .ratio("W4-64M-oneway", OURS, Metric::Bytes, pipe, AtLeast(0.85))
        .ratio("W4-64M-rt", OURS, Metric::Bytes, pipe, AtLeast(0.85))
        .ratio("W6", OURS, Metric::Rate, "Pool, default", AtLeast(2.0))
        .figure("W7-64-2GiB", OURS, Metric::All, AtMost(0.5), 0.5 * 64.0)
        .figure("idle-64", OURS, Metric::PerWorker, AtMost(64.0), 64.0)
        .figure("idle-64", OURS, Metric::WakeUps, AtMost(0.0), 0.0)
        .figure("command-start", "stokehold run", Metric::First, AtMost(20.0), 20.0)
        .flat(Metric::Rate, &["growth-1", "growth-2", "growth-8", "growth-64"], 1.1)
        .flat(Metric::Cpu, &["growth-1", "growth-2", "growth-8", "growth-64"], 1.1)
        .flat(Metric::Rate, &["growth-10^3", "growth-10^4", "growth-10^5", "growth-10^6", "growth-10^7"], 1.1)
        .flat(Metric::Rate, &["growth-10^5", "growth-10^6", "growth-10^7"], 1.1)
        .flat(Metric::Cpu, &["growth-10^5", "growth-10^6", "growth-10^7"], 1.1)
        // Before, the queue is not full.
        .flat(Metric::Peak, &["growth-10^5", "growth-10^6", "growth-10^7"], 1.1)
        .goals
}

struct Judge<'a> {
    results: &'a Results,
    goals: Vec<Goal>,
}

impl Judge<'_> {
    /// Ours to the other's, both medians.
    fn ratio(
        mut self,
        workload: &'static str,
        ours: &str,
        metric: Metric,
        other: &str,
        bound: Bound,
    ) -> Self {
        let medians = |title| self.results.named(workload, title, metric);
        if let (Some(ours), Some(theirs)) = (medians(ours), medians(other)) {
            let promise = format!("{} {} × {other}", metric.name(), bound.words());
            self.goals.push(Goal {
                workload,
                promise,
                metric,
                ours,
                other: Some((other.to_owned(), theirs)),
                is_met: bound.holds(ours / theirs),
            });
        }
        self
    }

    /// Ours to a figure. `shown` is what the bound is for one of the things that `metric` counts.
    fn figure(
        mut self,
        workload: &'static str,
        ours: &str,
        metric: Metric,
        shown: Bound,
        figure: f64,
    ) -> Self {
        let bound = match shown {
            AtLeast(_) => AtLeast(figure),
            AtMost(_) => AtMost(figure),
        };
        if let Some(ours) = self.results.named(workload, ours, metric) {
            let each = if metric == Metric::All { " a worker" } else { "" };
            let words = match shown {
                AtLeast(each) => format!("≥ {}", metric.show(each)),
                AtMost(each) => format!("≤ {}", metric.show(each)),
            };
            let promise = format!("{} {words}{each}", metric.name());
            self.goals.push(Goal { workload, promise, metric, ours, other: None, is_met: bound.holds(ours) });
        }
        self
    }

    /// Ours is to be less than that peer's.
    fn peer(mut self, workload: &'static str, metric: Metric, peer: &str) -> Self {
        let medians = |title| self.results.named(workload, title, metric);
        if let (Some(ours), Some(theirs)) = (medians(OURS), medians(peer)) {
            self.goals.push(Goal {
                workload,
                promise: format!("{} ahead of {peer}", metric.name()),
                metric,
                ours,
                other: Some((peer.to_owned(), theirs)),
                is_met: ours < theirs,
            });
        }
        self
    }

    /// Ours is to be so many times the best peer's.
    fn best_peer(mut self, workload: &'static str, metric: Metric, times: f64) -> Self {
        let best = self.results.best(workload, Who::Peer, metric);
        if let (Some(ours), Some((peer, theirs))) = (self.results.named(workload, OURS, metric), best) {
            self.goals.push(Goal {
                workload,
                promise: format!("{} ahead of every peer", metric.name()),
                metric,
                ours,
                other: Some((peer.entry.title(), theirs)),
                is_met: ours >= times * theirs,
            });
        }
        self
    }

    /// The largest of these medians is to be at most so many times the least.
    fn flat(mut self, metric: Metric, workloads: &[&'static str], times: f64) -> Self {
        let medians: Option<Vec<(&'static str, f64)>> =
            workloads.iter().map(|name| Some((*name, self.results.named(name, OURS, metric)?))).collect();
        let Some(mut medians) = medians else { return self };
        medians.sort_by(|(_, a), (_, b)| a.total_cmp(b));
        if let (Some((least_at, least)), Some((_, most)), Some(first), Some(last)) =
            (medians.first(), medians.last(), workloads.first(), workloads.last())
        {
            let (from, to) = (first.trim_start_matches("growth-"), last.trim_start_matches("growth-"));
            let of = if from.contains('^') { "tasks" } else { "workers" };
            self.goals.push(Goal {
                workload: "growth",
                promise: format!("{} flat within 10 % from {from} to {to} {of}", metric.name()),
                metric,
                ours: *most,
                other: Some(((*least_at).to_owned(), *least)),
                is_met: most / least <= times,
            });
        }
        self
    }
}
