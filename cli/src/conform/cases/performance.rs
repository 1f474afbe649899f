//! P: how fast it is. Nothing here fails: the numbers are this machine's, at this moment.

use std::time::{Duration, Instant};

use super::window::{bytes, pipeline};
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
    for _ in 0..500 {
        let begun = Instant::now();
        session.ask("DO", &input)?;
        times.push(begun.elapsed());
    }
    times.sort();
    let (half, most) = (millis(times.get(250)) * 1e3, millis(times.get(495)) * 1e3);
    stage.inform(format!("p50 {half:.0} µs, p99 {most:.0} µs"));
    Ok(())
}

fn rate(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session = calm(stage)?;
    let (input, _) = stage.sample()?;
    let window = session.hello().window.min(1024);
    let begun = Instant::now();
    pipeline(&mut session, 5_000, &input, window)?;
    let rate = 5_000.0 / begun.elapsed().as_secs_f64();
    stage.inform(format!("{rate:.0} tasks a second, {window} at once"));
    Ok(())
}

fn throughput(stage: &mut Stage<'_>, size: usize, count: u32) -> Checked {
    stage.needs_echo()?;
    let mut session = calm(stage)?;
    let window = session.hello().window.min(8);
    let data = bytes(size);
    let begun = Instant::now();
    pipeline(&mut session, count, &data, window)?;
    let moved = f64::from(count) * 2.0 * f64::from(u32::try_from(size).unwrap_or(u32::MAX));
    let rate = moved / begun.elapsed().as_secs_f64() / f64::from(1 << 20);
    stage.inform(format!("{rate:.0} MiB a second, there and back counted"));
    Ok(())
}

fn growth(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session = calm(stage)?;
    let (input, _) = stage.sample()?;
    let window = session.hello().window.min(1024);
    pipeline(&mut session, 2_000, &input, window)?;
    let before = session.process.memory();
    for _ in 0..10 {
        session.referee.tasks.clear();
        session.referee.answered.clear();
        pipeline(&mut session, 2_000, &input, window)?;
    }
    let after = session.process.memory();
    let Some((before, after)) = before.zip(after) else {
        return Err(Stop::skip("the memory of a process cannot be told"));
    };
    stage.inform(format!("{} KiB before, {} KiB after", before / 1024, after / 1024));
    Ok(())
}
