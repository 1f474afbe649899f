//! Many small tasks: 64 bytes there and back, two workers, default settings, in every way the API has, against frames
//! batched over raw pipes with the same codec.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use stokehold::{Data, Order, Pool, Request, Task};

use crate::limits;
use crate::measure::{Outcome, Scale, Spread, cpu_ns};
use crate::ours::{self, Transport};
use crate::table::{Goal, Row, Table};

const WORKERS: usize = 2;
const PAYLOAD_BYTES: usize = 64;
/// Handles kept unanswered.
const HANDLES: usize = 1024;
const MILLION: f64 = 1e6;

/// How the tasks get in and the answers out.
#[derive(Clone, Copy, Debug)]
enum Way {
    Channel(Order),
    Handles,
    Imap,
}

impl Way {
    const ALL: [Self; 4] =
        [Self::Channel(Order::Completion), Self::Channel(Order::Input), Self::Handles, Self::Imap];

    fn name(self) -> &'static str {
        match self {
            Self::Channel(Order::Completion) => "channel, order of completion",
            Self::Channel(Order::Input) => "channel, order of input",
            Self::Handles => "submit and wait, 1024 handles",
            Self::Imap => "imap of u64",
        }
    }

    fn run(self, tasks: u64, data: &Data) -> Outcome<Duration> {
        let mode: &[&str] = if matches!(self, Self::Imap) { &["numbers"] } else { &["echo", "any"] };
        let pool = ours::start(Transport::Dedicated, WORKERS, mode)?;
        let started = Instant::now();
        let answered = match self {
            Self::Channel(order) => through_channel(&pool, order, tasks, data)?,
            Self::Handles => through_handles(&pool, tasks, data)?,
            Self::Imap => through_imap(&pool, tasks)?,
        };
        let elapsed = started.elapsed();
        if answered != tasks {
            return Err(format!("{answered} of {tasks} tasks were answered").into());
        }
        ours::end(pool)?;
        Ok(elapsed)
    }
}

/// Millions of tasks a second, and CPU ns a task of all processes, by round.
#[derive(Debug, Default)]
struct Figures {
    rate: Vec<f64>,
    cpu: Vec<f64>,
}

impl Figures {
    fn round(&mut self, tasks: u64, run: impl FnOnce() -> Outcome<Duration>) -> Outcome<()> {
        let before = cpu_ns()?;
        let elapsed = run()?;
        self.cpu.push((cpu_ns()? - before) as f64 / tasks as f64);
        self.rate.push(tasks as f64 / elapsed.as_secs_f64() / MILLION);
        Ok(())
    }
}

pub(crate) fn run(scale: &Scale, table: &mut Table) -> Outcome<()> {
    let data = Data::bytes(&[7; PAYLOAD_BYTES]);
    let tasks = scale.tasks;
    let mut limit = Figures::default();
    let mut ours = Way::ALL.map(|way| (way, Figures::default()));
    for _ in 0..scale.rounds {
        limit.round(tasks, || limits::batched_frames(WORKERS, tasks, &data))?;
        for (way, figures) in &mut ours {
            figures.round(tasks, || way.run(tasks, &data))?;
        }
    }
    let (limit_rate, limit_cpu) = (Spread::of(limit.rate), Spread::of(limit.cpu));
    for (way, Figures { rate, cpu }) in ours {
        let what = format!("pipelined, 2 workers, {}", way.name());
        // The limit carries 64 bytes, these carry a number.
        let comparable = !matches!(way, Way::Imap);
        table.add(Row {
            what: what.clone(),
            unit: "M tasks/s",
            limit: comparable.then_some(limit_rate),
            ours: Spread::of(rate),
            goal: Goal::AtLeast(1.0),
        });
        table.add(Row {
            what: format!("{what}: CPU of all processes"),
            unit: "ns/task",
            limit: comparable.then_some(limit_cpu),
            ours: Spread::of(cpu),
            goal: Goal::None,
        });
    }
    Ok(())
}

fn through_channel(pool: &Pool, order: Order, tasks: u64, data: &Data) -> Outcome<u64> {
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

fn through_imap(pool: &Pool, tasks: u64) -> Outcome<u64> {
    let mut answered = 0;
    for (number, result) in (0..).zip(pool.imap(Request::<u64, u64>::DO, 0..tasks)) {
        answered += u64::from(result? == number);
    }
    Ok(answered)
}
