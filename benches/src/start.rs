//! Start: how long until the first worker is ready, and until all are, against bare processes of the same program that say
//! one byte.

use std::time::Instant;

use crate::limits::RawChild;
use crate::measure::{Outcome, Scale, Scratch, Spread, monotonic_ns};
use crate::ours::{self, Transport};
use crate::table::{Goal, Row, Table};

pub(crate) fn run(scale: &Scale, table: &mut Table) -> Outcome<()> {
    for workers in [8, 64] {
        let mut figures = [(); 4].map(|()| Vec::with_capacity(scale.rounds));
        for _ in 0..scale.rounds {
            let (first, all) = start_pool(workers)?;
            let round = [start_bare(1)?, first, start_bare(workers)?, all];
            figures.iter_mut().zip(round).for_each(|(figures, ms)| figures.push(ms));
        }
        let [first_limit, first, all_limit, all] = figures.map(Spread::of);
        let mut add = |what, limit, ours| {
            let what = format!("start of {workers} workers, {what}");
            table.add(Row { what, unit: "ms", limit: Some(limit), ours, goal: Goal::None });
        };
        add("first READY (limit: one bare process)", first_limit, first);
        add("all ready", all_limit, all);
    }
    Ok(())
}

/// Milliseconds until all processes have said a byte.
fn start_bare(count: usize) -> Outcome<f64> {
    let started = Instant::now();
    let mut children = (0..count).map(|_| RawChild::start(&["wait"])).collect::<Outcome<Vec<_>>>()?;
    for child in &mut children {
        child.first_bytes::<1>()?;
    }
    let elapsed = started.elapsed();
    children.into_iter().try_for_each(RawChild::finish)?;
    Ok(elapsed.as_secs_f64() * 1e3)
}

/// Milliseconds until `start` returned, and until the last worker went from HELLO to READY by its own clock.
fn start_pool(workers: usize) -> Outcome<(f64, f64)> {
    let file = Scratch::new("ready");
    let started = monotonic_ns();
    let pool = ours::start(Transport::Dedicated, workers, &["stamp-ready", ours::as_arg(&file)?])?;
    let first = monotonic_ns() - started;
    let stamps = ours::wait_for_stamps(&file, workers)?;
    let all = stamps.last().map_or(0, |last| last.saturating_sub(started));
    ours::end(pool)?;
    Ok((first as f64 / 1e6, all as f64 / 1e6))
}
