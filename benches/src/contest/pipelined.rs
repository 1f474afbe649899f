//! W2: many small tasks, there and back through two workers, pipelined, each acknowledged.

use std::collections::VecDeque;
use std::thread;

use stokehold::{Data, Order, Pool, Task};

use super::{Report, Settings, compete, timed};
use crate::measure::Outcome;
use crate::ours;
use crate::raw::{Batched, Codec, Transport};

const WARM_UP: u64 = 50_000;
/// Handles kept unanswered.
const HANDLES: usize = 1024;

pub(super) fn run(settings: &Settings<'_>) -> Outcome<()> {
    let tasks = settings.number("n", 1_000_000)?;
    let workers = settings.size("workers", 2)?;
    let data = Data::bytes(&vec![7; settings.size("size", 64)?]);
    if settings.is_ours() {
        let pool = ours::builder(&["echo"])?.workers(workers).start()?;
        let way = settings.text("way", "channel");
        through(&pool, way, WARM_UP.min(tasks), &data)?;
        compete(|| {
            let ((), time) = timed(|| through(&pool, way, tasks, &data))?;
            Ok(Report::new(tasks, time))
        })?;
        return ours::end(pool);
    }
    let transport = match settings.text("by", "") {
        "socketpair" => Transport::Socketpair,
        _ => Transport::Pipe,
    };
    let codec = Codec::named(settings.text("codec", "rmp-serde"))?;
    let mut limit = Batched::start(workers, transport, codec)?;
    limit.echo(WARM_UP.min(tasks), &data)?;
    compete(|| {
        let ((), time) = timed(|| limit.echo(tasks, &data))?;
        Ok(Report::new(tasks, time))
    })?;
    limit.finish()
}

fn through(pool: &Pool, way: &str, tasks: u64, data: &Data) -> Outcome<()> {
    let answered = match way {
        "channel" => through_channel(pool, Order::Completion, tasks, data)?,
        "channel-in-order" => through_channel(pool, Order::Input, tasks, data)?,
        "handles" => through_handles(pool, tasks, data)?,
        other => return Err(format!("unknown way {other:?}").into()),
    };
    if answered == tasks { Ok(()) } else { Err(format!("{answered} of {tasks} were echoed").into()) }
}

pub(super) fn through_channel(pool: &Pool, order: Order, tasks: u64, data: &Data) -> Outcome<u64> {
    let (jobs, results) = pool.channel_data("DO", order)?;
    thread::scope(|scope| {
        let sending = scope.spawn(move || (0..tasks).try_for_each(|_| jobs.send_data(data)));
        let mut answered = 0;
        for result in results {
            answered += u64::from(result? == *data);
        }
        sending.join().map_err(|_| "the sending thread panicked")??;
        Ok(answered)
    })
}

fn through_handles(pool: &Pool, tasks: u64, data: &Data) -> Outcome<u64> {
    let mut waiting: VecDeque<Task<Data>> = VecDeque::with_capacity(HANDLES);
    let mut answered = 0;
    for _ in 0..tasks {
        if waiting.len() == HANDLES
            && let Some(task) = waiting.pop_front()
        {
            answered += u64::from(task.wait()? == *data);
        }
        waiting.push_back(pool.submit_data("DO", data)?);
    }
    for task in waiting {
        answered += u64::from(task.wait()? == *data);
    }
    Ok(answered)
}
