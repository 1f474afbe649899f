//! P: how fast it is. The numbers are this machine's, at this moment, and no number fails; a rule that is broken on the way does.

use std::time::{Duration, Instant};

use super::window::{bytes, pipeline_until};
use crate::conform::case::Case;
use crate::conform::process::Setup;
use crate::conform::session::{Pacing, Session};
use crate::conform::stage::{Greeting, Stage};
use crate::conform::verdict::{Checked, Stop};

pub(super) static CASES: &[Case] = &[
    Case::info("P1", "start to READY", &[], start),
    Case::info("P2", "a task there and back", &[], round_trip),
    Case::info("P3", "tasks a second, at its window", &[], rate),
    Case::info("P4", "bytes a second, 64 KiB each", &[], |stage| throughput(stage, 64 << 10, 256))
        .of_frames(),
    Case::info("P5", "bytes a second, 1 MiB each", &[], |stage| throughput(stage, 1 << 20, 32)).of_frames(),
    Case::info("P6", "memory after 20,000 tasks", &["F-11"], growth).of_frames(),
];

/// A child without disturbances.
fn calm(stage: &mut Stage<'_>) -> Checked<Session> {
    let greeting = Greeting { grease: false, ..Greeting::default() };
    let mut session = stage.ready_in(&Setup::default(), &greeting)?;
    session.pacing = Pacing::Whole;
    session.quiet = true;
    session.patience *= 2;
    session.ends += session.patience * 2;
    Ok(session)
}

/// When there is enough to tell a number from: a slow child does less than a fast one.
fn enough(session: &Session) -> Instant {
    Instant::now() + session.patience
}

fn start(stage: &mut Stage<'_>) -> Checked {
    let mut times = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        stage.ready()?;
        times.push(begun.elapsed());
    }
    times.sort();
    stage.inform(format!("{:.1} ms, the median of five", millis(times.get(2))));
    Ok(())
}

fn millis(time: Option<&Duration>) -> f64 {
    time.map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

fn round_trip(stage: &mut Stage<'_>) -> Checked {
    let mut session = calm(stage)?;
    let (input, _) = stage.sample()?;
    let mut times = Vec::new();
    let until = enough(&session);
    while times.len() < 500 && Instant::now() < until {
        let begun = Instant::now();
        session.ask("DO", &input)?;
        times.push(begun.elapsed());
    }
    session.finish()?;
    times.sort();
    let at = |percent: usize| millis(times.get(times.len() * percent / 100)) * 1e3;
    let (half, most) = (at(50), at(99));
    stage.inform(format!("p50 {half:.0} µs, p99 {most:.0} µs"));
    Ok(())
}

fn rate(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session = calm(stage)?;
    let (input, _) = stage.sample()?;
    let window = session.hello().window.min(1024);
    let begun = Instant::now();
    let done = pipeline_until(enough(&session), &mut session, 5_000, &input, window)?;
    let rate = f64::from(done) / begun.elapsed().as_secs_f64();
    session.finish()?;
    stage.inform(format!("{rate:.0} tasks a second, {window} at once"));
    Ok(())
}

fn throughput(stage: &mut Stage<'_>, size: usize, count: u32) -> Checked {
    stage.needs_echo()?;
    let mut session = calm(stage)?;
    let window = session.hello().window.min(8);
    let data = bytes(size);
    let begun = Instant::now();
    let done = pipeline_until(enough(&session), &mut session, count, &data, window)?;
    let moved = f64::from(done) * 2.0 * f64::from(u32::try_from(size).unwrap_or(u32::MAX));
    let rate = moved / begun.elapsed().as_secs_f64() / f64::from(1 << 20);
    session.finish()?;
    stage.inform(format!("{rate:.0} MiB a second, there and back counted"));
    Ok(())
}

fn growth(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session = calm(stage)?;
    let (input, _) = stage.sample()?;
    let window = session.hello().window.min(1024);
    let until = enough(&session);
    pipeline_until(until, &mut session, 2_000, &input, window)?;
    let before = session.process.memory();
    let mut done = 0;
    for _ in 0..10 {
        session.referee.tasks.clear();
        session.referee.answered.clear();
        done += pipeline_until(until, &mut session, 2_000, &input, window)?;
    }
    let after = session.process.memory();
    session.finish()?;
    let Some((before, after)) = before.zip(after) else {
        return Err(Stop::skip("the memory of a process cannot be told"));
    };
    stage.inform(format!("{} KiB before, {} KiB after {done} more", before / 1024, after / 1024));
    Ok(())
}
