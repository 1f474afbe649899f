//! The scenes of group D, and of all cases that are played by a script: a pool of villains is given orders that say what they
//! are to write, and what came of each is told. The scripts are the tests'; `wire_villain` says how they are written.

use std::time::{Duration, Instant};

use stokehold::protocol::{Data, Message, check};
use stokehold::{Event, Policy, Pool, PoolBuilder, Receiver, TaskError};
use stokehold_tests::{WireCase, peak_memory_bytes, record_fact, record_submitted};

use crate::ensure;
use crate::stage::{Desk, ECHO, Outcome, Scene, Stage, Tracked, command, outcome_of, tell, tell_error};

/// Longer than any of these tasks takes, so that no mistake hides behind a hang.
const TOTAL: Duration = Duration::from_secs(8);

/// What every worker is sent at last.
const LAST: &str = "usable: answer";

/// Small tasks that are timed beside the mischief.
const SMALL: usize = 300;

/// Pools at a time whose worker has a flipped bit: most of them wait for a limit and do nothing.
const FLIPS_AT_ONCE: usize = 12;

/// The scene of a case.
pub(crate) fn scene(case: WireCase) -> Scene {
    match case {
        WireCase::D1
        | WireCase::D2
        | WireCase::D3
        | WireCase::D5
        | WireCase::D6
        | WireCase::D7
        | WireCase::D8
        | WireCase::D9
        | WireCase::D10
        | WireCase::D11
        | WireCase::D13
        | WireCase::D15
        | WireCase::D16 => play,
        WireCase::D4 => nested,
        WireCase::D12 => beside,
        WireCase::D14 => flips,
    }
}

/// What a pool is started with, and what is given to it.
#[derive(Debug)]
struct Play {
    workers: usize,
    window: u32,
    lives: u32,
    arguments: Vec<String>,
    policy: Policy,
    frame_timeout: Duration,
    hello_timeout: Duration,
    together: bool,
    /// Bodies of messages to be decoded without any pool.
    decodes: Vec<Vec<u8>>,
    orders: Vec<String>,
}

impl Play {
    /// Words in front of `--` are options, the rest are orders.
    fn parse(words: &[String]) -> Outcome<Self> {
        let mut play = Self {
            workers: 1,
            window: 1,
            lives: 3,
            arguments: Vec::new(),
            policy: Policy::default().total_timeout(TOTAL),
            frame_timeout: Duration::from_secs(5),
            hello_timeout: Duration::from_secs(5),
            together: false,
            decodes: Vec::new(),
            orders: Vec::new(),
        };
        let mut words = words.iter();
        for word in words.by_ref().take_while(|word| *word != "--") {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let milliseconds = || value.parse().map(Duration::from_millis);
            match name {
                "workers" => play.workers = value.parse()?,
                "window" => play.window = value.parse()?,
                "lives" => play.lives = value.parse()?,
                "together" => play.together = true,
                "timeout" => play.policy = play.policy.timeout(milliseconds()?),
                "soft" => play.policy = play.policy.soft_timeout(milliseconds()?),
                "total" => play.policy = play.policy.total_timeout(milliseconds()?),
                "decode" => play.decodes.push(bytes(value)?),
                "frame" => play.frame_timeout = milliseconds()?,
                "hello" => play.hello_timeout = milliseconds()?,
                _ => play.arguments.push(word.clone()),
            }
        }
        play.orders = words.cloned().collect();
        Ok(play)
    }

    fn builder(&self) -> PoolBuilder {
        let mut villain = command("wire_villain");
        if !self.arguments.iter().any(|argument| argument.starts_with("start=")) {
            villain = villain.arg(format!("start=greet {}", self.window));
        }
        Pool::builder(villain.args(&self.arguments))
            .workers(self.workers)
            .window(self.window)
            .policy(self.policy)
            .frame_timeout(self.frame_timeout)
            .hello_timeout(self.hello_timeout)
            .ready_timeout(self.hello_timeout)
            .stop_graces(Duration::from_millis(50), Duration::from_millis(50))
            .record_events()
    }

    fn submit(&self, pool: &Pool, order: &str) -> Outcome<Tracked<String>> {
        Desk::with(pool, self.policy, self.lives).submit(name_of(order), ECHO, order)
    }

    /// Gives an order and tells what came of it.
    fn give(&self, pool: &Pool, order: &str) -> Outcome {
        tell_end(order, self.submit(pool, order)?)
    }
}

/// Gives the orders to a pool of villains, one after another or together, and tells what came of each.
pub(crate) fn play(stage: &Stage) -> Outcome {
    let play = Play::parse(stage.arguments())?;
    let before = peak_memory_bytes();
    for body in &play.decodes {
        let data = Message::decode(body).map(|message| message.data);
        ensure!(data.is_err() || data.is_ok_and(|data| check(data).is_err()), "a lie was believed");
    }
    record_fact("decode_growth", peak_memory_bytes().saturating_sub(before))?;
    let begun = Instant::now();
    let pool = match play.builder().start() {
        Ok(pool) => pool,
        Err(error) => {
            record_fact("start_milliseconds", begun.elapsed().as_millis())?;
            return Ok(record_fact("start_error", &error)?);
        }
    };
    let events = pool.events();
    if play.together {
        let tasks: Vec<_> =
            play.orders.iter().map(|order| play.submit(&pool, order)).collect::<Outcome<_>>()?;
        for (task, order) in tasks.into_iter().zip(&play.orders) {
            tell_end(order, task)?;
        }
    } else {
        for order in &play.orders {
            play.give(&pool, order)?;
        }
    }
    record_fact("milliseconds", begun.elapsed().as_millis())?;
    play.give(&pool, LAST)?;
    tell_events(&events)?;
    Ok(record_fact("memory_growth", peak_memory_bytes().saturating_sub(before))?)
}

/// The first order keeps one worker at its mischief; beside it small tasks are answered by another, and each is timed.
pub(crate) fn beside(stage: &Stage) -> Outcome {
    let play = Play::parse(stage.arguments())?;
    let before = peak_memory_bytes();
    let pool = play.builder().start()?;
    let events = pool.events();
    let order = play.orders.first().ok_or("no order")?;
    let begun = Instant::now();
    let mischief = play.submit(&pool, order)?;
    let mut latencies = Vec::new();
    while latencies.len() < SMALL || !mischief.is_done() {
        let small = format!("small{}: answer", latencies.len());
        let sent = Instant::now();
        let task = play.submit(&pool, &small)?;
        let answered = task.wait()?.is_ok_and(|answer| answer == small);
        latencies.push(sent.elapsed());
        if !answered {
            record_fact("small_error", &small)?;
        }
    }
    tell_end(order, mischief)?;
    record_fact("milliseconds", begun.elapsed().as_millis())?;
    latencies.sort_unstable();
    let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
    record_fact("p99_milliseconds", p99.as_millis())?;
    play.give(&pool, LAST)?;
    tell_events(&events)?;
    Ok(record_fact("memory_growth", peak_memory_bytes().saturating_sub(before))?)
}

/// The orders, waited for on a thread with a small stack, and so is the engine turned there. The first brings data nested
/// without end: it is opaque until somebody decodes it, and a relay may not pass it on unchecked.
fn nested(stage: &Stage) -> Outcome {
    let play = Play::parse(stage.arguments())?;
    let pool = play.builder().start()?;
    let events = pool.events();
    let scene = || -> Outcome {
        for order in &play.orders {
            play.give(&pool, order)?;
        }
        let order = format!(
            "relay:{}",
            play.orders.first().and_then(|order| order.split(':').nth(1)).ok_or("no order")?
        );
        record_submitted("relay", 3)?;
        let answer = pool.submit_data("DO", &Data::text(&order))?.wait();
        outcome_of("relay", &answer)?;
        let data = answer?;
        record_fact("opaque_bytes", data.as_bytes().len())?;
        let refusal = Data::from_encoded(data.into_bytes()).err();
        record_fact("relay_error", refusal.map_or_else(|| "none".to_owned(), |error| error.to_string()))?;
        play.give(&pool, LAST)?;
        tell_events(&events)
    };
    std::thread::scope(|scope| {
        let small = std::thread::Builder::new().stack_size(256 * 1024);
        let thread = small.spawn_scoped(scope, || scene().map_err(|error| error.to_string()))?;
        Ok(thread.join().map_err(|_| "it panicked")??)
    })
}

/// A pool for each bit, whose worker turns over that bit of all that it ever writes; its replacement does not.
fn flips(stage: &Stage) -> Outcome {
    for bits in stage.arguments().chunks(FLIPS_AT_ONCE) {
        std::thread::scope(|scope| {
            let flip = |bit| move || flip(bit).map_err(|error| error.to_string());
            let threads: Vec<_> = bits.iter().map(|bit| scope.spawn(flip(bit))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "it panicked".to_owned())?)
        })?;
    }
    Ok(())
}

fn flip(bit: &str) -> Outcome {
    let flip = format!("flip={bit}");
    let limits = ["timeout=300", "total=6000", "frame=300", "hello=300", &flip].map(str::to_owned);
    let play = Play::parse(&limits)?;
    let fact = format!("flip{bit}");
    let pool = match play.builder().start() {
        Ok(pool) => pool,
        Err(error) => return Ok(record_fact(&fact, format!("no start: {error}"))?),
    };
    for number in 0..3 {
        play.give(&pool, &format!("{fact}-{number}: answer"))?;
    }
    Ok(record_fact(&fact, "played")?)
}

fn bytes(digits: &str) -> Outcome<Vec<u8>> {
    let pairs = (0..digits.len()).step_by(2).map(|at| digits.get(at..at + 2).unwrap_or_default());
    Ok(pairs.map(|pair| u8::from_str_radix(pair, 16)).collect::<Result<_, _>>()?)
}

fn name_of(order: &str) -> &str {
    order.split(':').next().unwrap_or(order)
}

/// How a task ended: its answer is right, or it is wrong, or there is an error.
fn tell_end(order: &str, task: Tracked<String>) -> Outcome {
    let result: Result<String, TaskError> = task.wait()?;
    let end = match &result {
        Ok(answer) if answer == order => "done".to_owned(),
        Ok(answer) => format!("wrong: {answer:.100}"),
        Err(error) => {
            tell_error(error)?;
            format!("{:?} [{}] in {} attempts: {error:.300}", error.kind(), error.code(), error.attempt())
        }
    };
    Ok(record_fact(&format!("end.{}", name_of(order)), end)?)
}

/// The deaths so far, in their order, and how many warnings there were.
fn tell_events(events: &Receiver<Event>) -> Outcome {
    let (mut deaths, mut overdue, mut progress) = (0, 0, 0);
    for event in events.try_iter() {
        match event {
            Event::WorkerDied(death) => {
                tell(&death.cause)?;
                let text = death.to_string();
                record_fact(
                    &format!("death.{deaths}"),
                    format!("{:?} by {:?}: {text:.400}", death.cause, death.rung),
                )?;
                deaths += 1;
            }
            Event::TaskOverdue { .. } => overdue += 1,
            Event::Progress { .. } => progress += 1,
            _ => {}
        }
    }
    record_fact("deaths", deaths)?;
    record_fact("overdue", overdue)?;
    Ok(record_fact("progress", progress)?)
}
