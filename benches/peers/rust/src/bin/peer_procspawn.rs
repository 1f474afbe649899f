//! procspawn's pool of processes. A task is a function and its arguments; there is a handle to join for each. W4 also
//! with `way=bytes`, where serde is told that the payload is bytes and not a list of numbers; W6 also with `chunk=…`,
//! and as often as `rounds=…` says.

use std::collections::VecDeque;
use std::fs;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use peers::{Answers, Outcome, Report, Settings, is_echo, numbered, set_number, start};
use procspawn::{JoinHandle, Pool, spawn};
use serde_bytes::ByteBuf;

const WORKERS: usize = 2;
const WARM_UP: usize = 200;
/// Handles not joined yet.
const WINDOW: usize = 2048;

fn main() -> Outcome {
    // First of all: in a process of the pool it does not return.
    procspawn::init();
    let settings = Settings::from_command_line()?;
    match settings.workload.as_str() {
        "w1" => w1(&settings),
        "w2" => w2(&settings),
        "w4" => w4(&settings),
        "w6" => w6(&settings),
        "w7" => w7(&settings),
        other => Err(format!("procspawn does not do {other}").into()),
    }
}

fn pool(workers: usize) -> Outcome<Pool> {
    // Stdin is the runner's line to this process alone.
    Ok(Pool::builder(workers).disable_stdin().build()?)
}

fn echo(pool: &Pool, payload: &[u8]) -> JoinHandle<Vec<u8>> {
    spawn!(in pool, (payload.to_vec() => bytes) || -> Vec<u8> { bytes })
}

fn w1(settings: &Settings) -> Outcome {
    let n = settings.number("n", 5000)?;
    let mut payload = numbered(64);
    let pool = pool(1)?;
    let mut times = Vec::with_capacity(n);
    let mut round = |number: usize| -> Outcome<_> {
        set_number(&mut payload, number as u64);
        let sent = Instant::now();
        let answer = echo(&pool, &payload).join()?;
        let time = sent.elapsed();
        if answer == payload { Ok(time) } else { Err("a wrong answer".into()) }
    };
    for number in 0..WARM_UP {
        round(number)?;
    }
    let clock = start()?;
    for number in 0..n {
        times.push(round(number)?);
    }
    Report::new(n, clock.elapsed()).with_latencies(times).hand_in()?;
    pool.shutdown();
    Ok(())
}

fn w2(settings: &Settings) -> Outcome {
    let n = settings.number("n", 20_000)?;
    let size = settings.number("size", 64)?;
    let mut payload = numbered(size);
    let pool = pool(WORKERS)?;
    let mut echo_all = |n: usize| -> Outcome {
        let mut answers = Answers::new(n, &payload);
        let mut handles = VecDeque::new();
        for number in 0..n {
            set_number(&mut payload, number as u64);
            handles.push_back(echo(&pool, &payload));
            if handles.len() > WINDOW {
                join_first(&mut handles, |answer| answers.take(&answer))?;
            }
        }
        while !handles.is_empty() {
            join_first(&mut handles, |answer| answers.take(&answer))?;
        }
        if answers.missing() == 0 { Ok(()) } else { Err("an answer is missing".into()) }
    };
    echo_all(WARM_UP)?;
    let clock = start()?;
    echo_all(n)?;
    Report::new(n, clock.elapsed()).with_bytes(2 * n * size).hand_in()?;
    pool.shutdown();
    Ok(())
}

fn join_first<T>(handles: &mut VecDeque<JoinHandle<T>>, mut take: impl FnMut(T) -> Outcome) -> Outcome
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let handle = handles.pop_front().ok_or("nothing to join")?;
    take(handle.join()?)
}

fn w4(settings: &Settings) -> Outcome {
    let n = settings.number("n", 50)?;
    let size = settings.number("size", 1 << 20)?;
    let there_and_back = settings.text("dir", "oneway") == "rt";
    let as_bytes = settings.text("way", "numbers") == "bytes";
    let mut payload = numbered(size);
    let pool = pool(1)?;
    let mut round = |number: usize| -> Outcome {
        set_number(&mut payload, number as u64);
        let right = match (there_and_back, as_bytes) {
            (true, false) => is_echo(&payload, &echo(&pool, &payload).join()?),
            (true, true) => {
                let task = ByteBuf::from(payload.clone());
                is_echo(&payload, &spawn!(in pool, (task) || -> ByteBuf { task }).join()?)
            }
            (false, false) => {
                let task = payload.clone();
                spawn!(in pool, (task) || -> usize { task.len() }).join()? == size
            }
            (false, true) => {
                let task = ByteBuf::from(payload.clone());
                spawn!(in pool, (task) || -> usize { task.len() }).join()? == size
            }
        };
        if right { Ok(()) } else { Err("a wrong answer".into()) }
    };
    round(0)?;
    round(1)?;
    let clock = start()?;
    for number in 0..n {
        round(number)?;
    }
    let directions = if there_and_back { 2 } else { 1 };
    Report::new(n, clock.elapsed()).with_bytes(n * size * directions).hand_in()?;
    pool.shutdown();
    Ok(())
}

fn w6(settings: &Settings) -> Outcome {
    let n = settings.number("n", 100_000)?;
    let rounds = settings.number("rounds", 1)?;
    let chunk = settings.number("chunk", 1)?;
    let pool = pool(WORKERS)?;
    let map = |n: usize| if chunk == 1 { map_singly(&pool, n) } else { map_in_chunks(&pool, n, chunk) };
    map(WARM_UP)?;
    start()?;
    let mut time = Duration::ZERO;
    for _ in 0..rounds {
        let clock = Instant::now();
        let results = map(n)?;
        time += clock.elapsed();
        if !results.into_iter().eq(1..=n as u64) {
            return Err("the results are not the numbers plus one".into());
        }
    }
    Report::new(n * rounds, time).hand_in()?;
    pool.shutdown();
    Ok(())
}

fn map_singly(pool: &Pool, n: usize) -> Outcome<Vec<u64>> {
    let (mut results, mut handles) = (Vec::with_capacity(n), VecDeque::new());
    let mut keep = |result| -> Outcome {
        results.push(result);
        Ok(())
    };
    for number in 0..n as u64 {
        handles.push_back(spawn!(in pool, (number) || -> u64 { number + 1 }));
        if handles.len() > WINDOW {
            join_first(&mut handles, &mut keep)?;
        }
    }
    while !handles.is_empty() {
        join_first(&mut handles, &mut keep)?;
    }
    Ok(results)
}

fn map_in_chunks(pool: &Pool, n: usize, chunk: usize) -> Outcome<Vec<u64>> {
    let numbers: Vec<u64> = (0..n as u64).collect();
    let handles: Vec<_> = numbers
        .chunks(chunk)
        .map(|part| {
            let part = part.to_vec();
            spawn!(in pool, (part) || -> Vec<u64> { part.iter().map(|number| number + 1).collect() })
        })
        .collect();
    let mut results = Vec::with_capacity(n);
    for handle in handles {
        results.extend(handle.join()?);
    }
    Ok(results)
}

fn w7(settings: &Settings) -> Outcome {
    let workers = settings.number("workers", 8)?;
    let hold = Duration::from_millis(settings.number("hold_ms", 500)? as u64);
    let before = resident_kib()?;
    let clock = start()?;
    let pool = pool(workers)?;
    let first = spawn!(in pool, () || -> u32 { process::id() }).join()?;
    let first_time = clock.elapsed();
    // Each task holds its worker until every other task has one; that each had its own is seen by the process ids.
    let hold_ms = hold.as_millis() as u64;
    let handles: Vec<_> = (0..workers)
        .map(|_| {
            spawn!(in pool, (hold_ms) || -> u32 {
                thread::sleep(Duration::from_millis(hold_ms));
                process::id()
            })
        })
        .collect();
    let mut answered = Vec::new();
    for handle in handles {
        answered.push(handle.join()?);
    }
    let all_time = clock.elapsed() - hold;
    answered.sort_unstable();
    answered.dedup();
    if answered.len() != workers || !answered.contains(&first) {
        return Err(format!("only {} of {workers} workers answered", answered.len()).into());
    }
    let growth = resident_kib()? - before;
    Report::new(workers, all_time)
        .with("first_ms", first_time.as_secs_f64() * 1e3)
        .with("all_ms", all_time.as_secs_f64() * 1e3)
        .with("rss_kib_per_worker", growth / workers as f64)
        .hand_in()?;
    pool.shutdown();
    Ok(())
}

/// VmRSS of this process.
fn resident_kib() -> Outcome<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
