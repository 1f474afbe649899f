//! W4: large payloads to one worker, one at a time: one way, or there and back. Whoever gets one has it as one slice, and reads a
//! byte of each line of the processor's cache.

use stokehold::{Data, Pool};

use super::{Report, Settings, compete, timed};
use crate::measure::Outcome;
use crate::ours;
use crate::raw::{RawChild, Transport};

/// A cache line.
const STRIDE: usize = 64;
/// Larger than any payload of these.
const FRAME_BYTES: u32 = 134_217_727;

/// Reads a little of all of it.
pub(crate) fn touch(bytes: &[u8]) -> u64 {
    bytes.iter().step_by(STRIDE).map(|byte| u64::from(*byte)).sum()
}

pub(super) fn run(settings: &Settings<'_>) -> Outcome<()> {
    let size = settings.size("size", 1 << 20)?;
    let count = settings.number("n", 1_000)?;
    let there_and_back = settings.text("dir", "rt") == "rt";
    let warm_up = (count / 10).max(2);
    let bytes = count as f64 * size as f64 * if there_and_back { 2.0 } else { 1.0 };
    let payload = vec![7; size];
    if settings.is_ours() {
        let mode = if there_and_back { "echo" } else { "touch" };
        let pool = ours::builder(&[mode])?.workers(1).max_frame(FRAME_BYTES).start()?;
        let data = Data::bytes(&payload);
        let expected = touch(data.as_bytes());
        // What a cache line says is the same wherever the payload begins.
        let send = |count| (0..count).try_for_each(|_| one(&pool, &data, there_and_back, expected));
        send(warm_up)?;
        compete(|| {
            let ((), time) = timed(|| send(count))?;
            Ok(Report::new(count, time).with("bytes", bytes))
        })?;
        return ours::end(pool);
    }
    let transport = match settings.text("by", "") {
        "socketpair" => Transport::Socketpair,
        _ => Transport::WidePipe,
    };
    let mode = if there_and_back { "echo" } else { "sink" };
    let child = RawChild::start(&[mode, &size.to_string()], transport)?;
    let mut back = vec![0; if there_and_back { size } else { 1 }];
    let expected = touch(&payload);
    let mut send = |count: u64| -> Outcome<()> {
        for _ in 0..count {
            child.send(&payload)?;
            child.receive(&mut back)?;
            if there_and_back && touch(&back) != expected {
                return Err("an echo of something else".into());
            }
        }
        Ok(())
    };
    send(warm_up)?;
    compete(|| {
        let ((), time) = timed(|| send(count))?;
        Ok(Report::new(count, time).with("bytes", bytes))
    })?;
    child.finish()
}

fn one(pool: &Pool, data: &Data, there_and_back: bool, expected: u64) -> Outcome<()> {
    let answer = pool.submit_data("DO", data)?.wait()?;
    let found = if there_and_back { touch(answer.as_bytes()) } else { answer.decode()? };
    if found == expected { Ok(()) } else { Err("an echo of something else".into()) }
}
