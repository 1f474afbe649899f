//! W7: the start of workers: until the first result, until all are ready, and what each takes of the parent's memory. The parent
//! may be large.

use std::time::Instant;

use stokehold::{Data, Event};

use super::{Report, Settings, compete};
use crate::measure::{Outcome, status_field};
use crate::ours;
use crate::raw::{RawChild, Transport};

pub(super) fn run(settings: &Settings<'_>) -> Outcome<()> {
    let workers = settings.size("workers", 8)?;
    // Every page is written to: it must be copied, or must not, when a process is made.
    let ballast = vec![1_u8; settings.size("gib", 0)? << 30];
    if settings.is_ours() {
        ours(workers)?
    } else {
        bare(workers)?
    };
    drop(ballast);
    Ok(())
}

fn ours(workers: usize) -> Outcome<()> {
    let builder = ours::builder(&["echo"])?.workers(workers).record_events();
    let mut pool = None;
    compete(|| {
        let memory = || status_field("/proc/self", "VmRSS").unwrap_or_default();
        let before = memory();
        let started = Instant::now();
        let running = builder.start()?;
        running.submit_data("DO", &Data::nil())?.wait()?;
        let first = started.elapsed();
        let events = running.events();
        let mut ready = 0;
        while ready < workers {
            ready += usize::from(matches!(events.recv()?, Event::WorkerReady { .. }));
        }
        let all = started.elapsed();
        let grown = memory().saturating_sub(before) as f64 / workers as f64;
        pool = Some(running);
        Ok(Report::of("first_ms", first.as_secs_f64() * 1e3)
            .with("all_ms", all.as_secs_f64() * 1e3)
            .with("rss_kib_per_worker", grown))
    })?;
    pool.map_or(Ok(()), ours::end)
}

/// Processes of this program that say a byte.
fn bare(workers: usize) -> Outcome<()> {
    let mut children = Vec::with_capacity(workers);
    compete(|| {
        let started = Instant::now();
        for _ in 0..workers {
            children.push(RawChild::start(&["wait"], Transport::Pipe)?);
        }
        let mut first = None;
        for child in &mut children {
            child.first_bytes::<1>()?;
            first.get_or_insert_with(|| started.elapsed());
        }
        let all = started.elapsed();
        Ok(Report::of("first_ms", first.unwrap_or_default().as_secs_f64() * 1e3)
            .with("all_ms", all.as_secs_f64() * 1e3))
    })?;
    children.into_iter().try_for_each(RawChild::finish)
}
