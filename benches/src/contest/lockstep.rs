//! W1: one task in flight, 64 bytes to one worker and back.

use std::time::Instant;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use stokehold::{Data, Latency, Pool};

use super::{Report, Settings, compete, timed};
use crate::measure::{Outcome, own_children};
use crate::ours;
use crate::raw::{RawChild, Transport};

const PAYLOAD_BYTES: usize = 64;
const WARM_UP: u64 = 2_000;

pub(super) fn run(settings: &Settings<'_>) -> Outcome<()> {
    let trips = settings.number("n", 20_000)?;
    let cores = settings.text("cores", "any");
    match settings.text("by", "stokehold") {
        "stokehold" => {
            let latency = match settings.text("latency", "spin") {
                "spin" => Latency::Spin,
                _ => Latency::Block,
            };
            let pool = ours::builder(&["echo"])?.workers(1).latency(latency).start()?;
            let data = Data::bytes(&[7; PAYLOAD_BYTES]);
            measure(trips, cores, || round_trip(&pool, &data))?;
            ours::end(pool)
        }
        "spinning-pipe" => raw(trips, cores, true),
        _ => raw(trips, cores, false),
    }
}

fn raw(trips: u64, cores: &str, spins: bool) -> Outcome<()> {
    let size = PAYLOAD_BYTES.to_string();
    let mode = if spins { ["spin-echo", &size] } else { ["echo", &size] };
    let child = RawChild::start(&mode, Transport::Pipe)?;
    let mut bytes = [7; PAYLOAD_BYTES];
    if spins {
        child.set_nonblocking()?;
    }
    measure(trips, cores, || child.round_trip(&mut bytes))?;
    child.finish()
}

fn measure(trips: u64, cores: &str, mut trip: impl FnMut() -> Outcome<()>) -> Outcome<()> {
    trip()?;
    pin(cores)?;
    (0..WARM_UP).try_for_each(|_| trip())?;
    compete(|| {
        let mut micros = Vec::with_capacity(usize::try_from(trips)?);
        let ((), time) = timed(|| {
            for _ in 0..trips {
                let before = Instant::now();
                trip()?;
                micros.push(before.elapsed().as_secs_f64() * 1e6);
            }
            Ok(())
        })?;
        Ok(Report::new(trips, time).with_latencies(micros))
    })
}

fn round_trip(pool: &Pool, data: &Data) -> Outcome<()> {
    let answer = pool.submit_data("DO", data)?.wait()?;
    if answer == *data { Ok(()) } else { Err("an echo of something else".into()) }
}

/// This thread, which waits, to one core, and the children to the same or to another: a wake-up costs ten times as much from core to
/// core, and the scheduler changes its mind about it, so that two programs are compared best where neither has the choice.
fn pin(cores: &str) -> Outcome<()> {
    let allowed = sched_getaffinity(None)?;
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    let (first, second) = (allowed.next(), allowed.next());
    let child = match cores {
        "one" => first,
        "two" => Some(second.ok_or("this machine has one core")?),
        _ => return Ok(()),
    };
    let set = |cpu: Option<usize>| {
        let mut set = CpuSet::new();
        cpu.into_iter().for_each(|cpu| set.set(cpu));
        set
    };
    sched_setaffinity(None, &set(first))?;
    for process in own_children()? {
        let pid = process.file_name().and_then(|name| name.to_str()?.parse().ok()).and_then(Pid::from_raw);
        sched_setaffinity(Some(pid.ok_or("a child without a number")?), &set(child))?;
    }
    Ok(())
}
