//! Large payloads: 1 MiB there and back, one in flight and four, against raw pipes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use stokehold::{Data, Pool, Task};

use crate::limits::{self, RawChild};
use crate::measure::{Outcome, Scale, Spread};
use crate::ours::{self, Transport};
use crate::table::{Goal, Row, Table};

const PAYLOAD_BYTES: usize = 1 << 20;
const IN_FLIGHT: usize = 4;

pub(crate) fn run(scale: &Scale, table: &mut Table) -> Outcome<()> {
    let data = Data::bytes(&vec![7; PAYLOAD_BYTES]);
    let count = scale.payloads;
    // Both ways count, as on the wire.
    let rate = |elapsed: Duration| (2 * count * PAYLOAD_BYTES) as f64 / elapsed.as_secs_f64() / 1e9;
    let mut figures = [(); 4].map(|()| Vec::with_capacity(scale.rounds));
    for _ in 0..scale.rounds {
        let round = [
            one_by_one_raw(count)?,
            through_pool(count, 1, &data)?,
            limits::batched_frames(1, count as u64, &data)?,
            through_pool(count, IN_FLIGHT, &data)?,
        ];
        figures.iter_mut().zip(round).for_each(|(figures, elapsed)| figures.push(rate(elapsed)));
    }
    let [one_limit, one, several_limit, several] = figures.map(Spread::of);
    table.add(Row {
        what: "1 MiB there and back, one in flight".to_owned(),
        unit: "GB/s",
        limit: Some(one_limit),
        ours: one,
        goal: Goal::None,
    });
    table.add(Row {
        what: format!("1 MiB there and back, {IN_FLIGHT} in flight (limit: frames over raw pipes)"),
        unit: "GB/s",
        limit: Some(several_limit),
        ours: several,
        goal: Goal::None,
    });
    Ok(())
}

fn one_by_one_raw(count: usize) -> Outcome<Duration> {
    let mut raw = RawChild::start(&["echo", &PAYLOAD_BYTES.to_string(), "any"])?;
    let mut bytes = vec![7; PAYLOAD_BYTES];
    let started = Instant::now();
    for _ in 0..count {
        raw.round_trip(&mut bytes)?;
    }
    let elapsed = started.elapsed();
    raw.finish()?;
    Ok(elapsed)
}

fn through_pool(count: usize, in_flight: usize, data: &Data) -> Outcome<Duration> {
    let pool = ours::start(Transport::Dedicated, 1, &["echo", "any"])?;
    let started = Instant::now();
    feed(&pool, count, in_flight, data)?;
    let elapsed = started.elapsed();
    ours::end(pool)?;
    Ok(elapsed)
}

fn feed(pool: &Pool, count: usize, in_flight: usize, data: &Data) -> Outcome<()> {
    let mut waiting: VecDeque<Task<Data>> = VecDeque::with_capacity(in_flight);
    for submitted in 0..count + in_flight {
        if (waiting.len() == in_flight || submitted >= count)
            && let Some(task) = waiting.pop_front()
            && task.wait()?.as_bytes().len() != data.as_bytes().len()
        {
            return Err("an echo of another length".into());
        }
        if submitted < count {
            waiting.push_back(pool.submit_data("DO", data)?);
        }
    }
    Ok(())
}
