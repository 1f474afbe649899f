//! Growth: the same small tasks with more workers, or more tasks: rate, and the most memory the parent had.

use stokehold::{Data, Order};

use super::pipelined::through_channel;
use super::{Report, Settings, compete, timed};
use crate::measure::{Outcome, status_field};
use crate::ours;
use crate::raw::{Batched, Codec, Transport};

const WARM_UP: u64 = 200_000;

pub(super) fn run(settings: &Settings<'_>) -> Outcome<()> {
    let (tasks, workers) = (settings.number("n", 1_000_000)?, settings.size("workers", 2)?);
    let rounds = settings.number("rounds", 1)?;
    if !settings.is_ours() {
        return limit(tasks, rounds, workers);
    }
    let pool = ours::builder(&["echo"])?.workers(workers).start()?;
    let data = Data::bytes(&[7; 64]);
    through_channel(&pool, Order::Completion, WARM_UP, &data)?;
    compete(|| {
        let (answered, time) = timed(|| {
            (0..rounds).map(|_| through_channel(&pool, Order::Completion, tasks, &data)).sum::<Outcome<u64>>()
        })?;
        if answered != tasks * rounds {
            return Err(format!("{answered} were echoed").into());
        }
        let peak = status_field("/proc/self", "VmHWM").unwrap_or_default();
        Ok(Report::new(answered, time).with("peak_kib", peak as f64))
    })?;
    ours::end(pool)
}

fn limit(tasks: u64, rounds: u64, workers: usize) -> Outcome<()> {
    let data = Data::bytes(&[7; 64]);
    let mut limit = Batched::start(workers, Transport::Pipe, Codec::named("rmp-serde")?)?;
    limit.echo(WARM_UP, &data)?;
    compete(|| {
        let ((), time) = timed(|| (0..rounds).try_for_each(|_| limit.echo(tasks, &data)))?;
        Ok(Report::new(tasks * rounds, time))
    })?;
    limit.finish()
}
