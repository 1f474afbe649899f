//! W3: one way. Records of 1 KiB into two workers that count them; lines of text through two workers that count them.

use std::thread;

use stokehold::{Data, Order};

use super::command_line::CommandLine;
use super::{Report, Settings, compete, timed};
use crate::measure::Outcome;
use crate::ours;
use crate::raw::{RawChild, Transport};

const RECORD_BYTES: usize = 1024;
/// With its newline.
const LINE_BYTES: usize = 20;
const WORKERS: usize = 2;
/// Bytes in one write.
const BATCH_BYTES: usize = 256 * 1024;
const WARM_UP: u64 = 10_000;

pub(super) fn run(settings: &Settings<'_>) -> Outcome<()> {
    let ours = settings.is_ours();
    match settings.text("mode", "records") {
        "records" if ours => records_ours(settings.number("n", 1_000_000)?),
        "records" => records_raw(settings.number("n", 4_000_000)?),
        _ if ours => lines_ours(settings.number("n", 2_000_000)?),
        _ => lines_raw(settings.number("n", 100_000_000)?),
    }
}

/// Every record is a task: it is leased, acknowledged, and would run again if its worker died.
fn records_ours(records: u64) -> Outcome<()> {
    let pool = ours::builder(&["count"])?.workers(WORKERS).start()?;
    let record = Data::bytes(&[9; RECORD_BYTES]);
    let feed = |records: u64| -> Outcome<()> {
        let (jobs, results) = pool.channel_data("DO", Order::Completion)?;
        thread::scope(|scope| {
            let record = &record;
            let sending = scope.spawn(move || (0..records).try_for_each(|_| jobs.send_data(record)));
            let mut counted = 0;
            for result in results {
                result?;
                counted += 1;
            }
            sending.join().map_err(|_| "the sending thread panicked")??;
            if counted == records { Ok(()) } else { Err(format!("{counted} of {records}").into()) }
        })
    };
    feed(WARM_UP)?;
    compete(|| {
        let ((), time) = timed(|| feed(records))?;
        Ok(Report::new(records, time).with("bytes", records as f64 * RECORD_BYTES as f64))
    })?;
    ours::end(pool)
}

/// Records, each behind its length, copied together and written to one child after the other.
fn records_raw(records: u64) -> Outcome<()> {
    let mut children = (0..WORKERS)
        .map(|_| RawChild::start(&["count-records"], Transport::WidePipe))
        .collect::<Outcome<Vec<_>>>()?;
    let record = [9; RECORD_BYTES];
    let mut batch = Vec::with_capacity(BATCH_BYTES + RECORD_BYTES + 4);
    let mut feed = |records: u64| -> Outcome<()> {
        let mut left = records;
        for child in (0..WORKERS).cycle() {
            batch.clear();
            while left > 0 && batch.len() < BATCH_BYTES {
                batch.extend_from_slice(&u32::try_from(RECORD_BYTES)?.to_ne_bytes());
                batch.extend_from_slice(&record);
                left -= 1;
            }
            children.get_mut(child).ok_or("a child is missing")?.send(&batch)?;
            if left == 0 {
                break;
            }
        }
        let mut counted = 0;
        for child in &mut children {
            // A length of nothing asks for the count.
            child.send(&0_u32.to_ne_bytes())?;
            counted += u64::from_ne_bytes(child.first_bytes()?);
        }
        if counted == records { Ok(()) } else { Err(format!("{counted} of {records}").into()) }
    };
    feed(WARM_UP)?;
    compete(|| {
        let ((), time) = timed(|| feed(records))?;
        Ok(Report::new(records, time).with("bytes", records as f64 * RECORD_BYTES as f64))
    })?;
    children.into_iter().try_for_each(RawChild::finish)
}

/// The lines, a batch of them again and again.
fn write_lines(lines: u64, mut to: impl FnMut(&[u8]) -> Outcome<()>) -> Outcome<()> {
    let in_batch = BATCH_BYTES / LINE_BYTES;
    let mut batch: Vec<u8> =
        (0..in_batch).flat_map(|line| format!("line {line:014}\n").into_bytes()).collect();
    let mut left = lines;
    while left > 0 {
        let count = usize::try_from(left)?.min(in_batch);
        batch.truncate(count * LINE_BYTES);
        to(&batch)?;
        left -= count as u64;
    }
    Ok(())
}

/// `stokehold run --lines`, started within the clock as a user would.
fn lines_ours(lines: u64) -> Outcome<()> {
    compete(|| {
        let (peak, time) = timed(|| {
            let mut command = CommandLine::start("2", &["count"])?;
            write_lines(lines, |batch| command.send(batch))?;
            // It never falls, so that this is all but the last moment's.
            let peak = command.peak_kib();
            command.finish()?;
            Ok(peak)
        })?;
        let bytes = lines as f64 * LINE_BYTES as f64;
        Ok(Report::new(lines, time).with("bytes", bytes).with("peak_kib", peak))
    })
}

/// Lines written to one child after the other, which count newlines.
fn lines_raw(lines: u64) -> Outcome<()> {
    compete(|| {
        let ((), time) = timed(|| {
            let mut children = (0..WORKERS)
                .map(|_| RawChild::start(&["count-lines"], Transport::WidePipe))
                .collect::<Outcome<Vec<_>>>()?;
            let mut turn = 0;
            write_lines(lines, |batch| {
                turn = (turn + 1) % WORKERS;
                children.get_mut(turn).ok_or("a child is missing")?.send(batch)
            })?;
            let mut counted = 0;
            for child in &mut children {
                child.close_input();
                counted += u64::from_ne_bytes(child.first_bytes()?);
            }
            children.into_iter().try_for_each(RawChild::finish)?;
            if counted == lines { Ok(()) } else { Err(format!("{counted} of {lines}").into()) }
        })?;
        Ok(Report::new(lines, time).with("bytes", lines as f64 * LINE_BYTES as f64))
    })
}
