//! One task in flight: 64 bytes to one worker and back, against a ping-pong over raw pipes.

use std::time::Instant;

use stokehold::{Data, Pool};

use crate::limits::RawChild;
use crate::measure::{Cores, Outcome, Scale, Spread, percentile};
use crate::ours::{self, Transport};
use crate::table::{Goal, Row, Table};

const PAYLOAD_BYTES: usize = 64;

/// Percentiles in µs, one of each per slice.
#[derive(Debug, Default)]
struct Latency {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Latency {
    /// Measures one slice.
    fn slice(&mut self, trips: usize, mut trip: impl FnMut() -> Outcome<()>) -> Outcome<()> {
        let mut micros = Vec::with_capacity(trips);
        let mut before = Instant::now();
        for _ in 0..trips {
            trip()?;
            let now = Instant::now();
            micros.push((now - before).as_secs_f64() * 1e6);
            before = now;
        }
        micros.sort_unstable_by(f64::total_cmp);
        self.p50.push(percentile(&micros, 50));
        self.p99.push(percentile(&micros, 99));
        Ok(())
    }
}

pub(crate) fn run(scale: &Scale, table: &mut Table) -> Outcome<()> {
    Cores::all()?.into_iter().try_for_each(|cores| cores.around(|| compare(scale, cores, table)))
}

fn compare(scale: &Scale, cores: Cores, table: &mut Table) -> Outcome<()> {
    let cpu = cores.child_arg();
    let mut raw = RawChild::start(&["echo", &PAYLOAD_BYTES.to_string(), &cpu])?;
    let mut bytes = [7; PAYLOAD_BYTES];
    let data = Data::bytes(&bytes);
    let mut limit = Latency::default();
    let mut pools = Vec::new();
    for transport in Transport::ALL {
        pools.push((transport, ours::start(transport, 1, &["echo", &cpu])?, Latency::default()));
    }
    // One slice to warm up that does not count.
    for slice in 0..=scale.slices {
        limit.slice(scale.trips, || raw.round_trip(&mut bytes))?;
        for (_, pool, latency) in &mut pools {
            latency.slice(scale.trips, || round_trip(pool, &data))?;
        }
        if slice == 0 {
            limit = Latency::default();
            pools.iter_mut().for_each(|(_, _, latency)| *latency = Latency::default());
        }
    }
    let (limit_p50, limit_p99) = (Spread::of(limit.p50), Spread::of(limit.p99));
    for (transport, pool, latency) in pools {
        ours::end(pool)?;
        let what = format!("lock-step, {}, {}", cores.name(), transport.name());
        table.add(Row {
            what: format!("{what}, p50"),
            unit: "µs",
            limit: Some(limit_p50),
            ours: Spread::of(latency.p50),
            goal: Goal::RatioAtMost(1.5),
        });
        table.add(Row {
            what: format!("{what}, p99"),
            unit: "µs",
            limit: Some(limit_p99),
            ours: Spread::of(latency.p99),
            goal: Goal::None,
        });
    }
    raw.finish()
}

fn round_trip(pool: &Pool, data: &Data) -> Outcome<()> {
    let answer = pool.submit_data("DO", data)?.wait()?;
    if answer == *data { Ok(()) } else { Err("an echo of something else".into()) }
}
