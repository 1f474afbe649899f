//! F, its first half: frames in pieces, many at once, large, too large, and lengths that no frame has.

use std::time::Duration;

use stokehold_protocol::wire;

use super::{code, said};
use crate::conform::case::Case;
use crate::conform::process::{Ended, Setup};
use crate::conform::same::{Same, compare};
use crate::conform::session::{Pacing, Session};
use crate::conform::stage::{Greeting, Stage};
use crate::conform::trace::json;
use crate::conform::vectors::{self, Vector};
use crate::conform::verdict::{Checked, Stop, must};

pub(super) static CASES: &[Case] = &[
    Case::must("F1", "a task comes back with its id", &["R-19", "F-1", "M-1", "W-4"], echo),
    Case::must("F2", "a message a byte at a time", &["F-4"], byte_by_byte),
    Case::must("F3", "many messages in one write, the last cut", &["F-4"], many_at_once),
    Case::must("F4", "a frame cut at every place; the end inside one", &["F-4", "L-4"], cut_everywhere)
        .of_frames(),
    Case::must(
        "F6",
        "a frame of exactly max_frame, and one byte more",
        &["F-10", "F-2", "F-12"],
        exactly_max_frame,
    )
    .of_frames(),
    Case::must("F11", "a length below 5", &["F-5", "F-7", "F-1"], too_short).of_frames(),
    Case::must("F12", "a length above every frame", &["F-5", "F-7", "F-1"], too_long).of_frames(),
    Case::must("F26", "a length without its bytes takes no memory", &["F-11", "D-9"], no_memory).of_frames(),
    Case::should("F27", "answers in their shortest form", &["M-8"], shortest_form).of_frames(),
];

/// What leads out of the loop at a length that no frame has.
const DESYNC: &str =
    "check the length of each frame before you read its body: below 5 or above 134,217,727 exit with code 4";

fn echo(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    for _ in 0..3 {
        stage.check_alive(&mut session)?;
    }
    session.finish()
}

fn byte_by_byte(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    session.pacing = Pacing::Pieces(1);
    stage.check_alive(&mut session)?;
    stage.check_alive(&mut session)?;
    session.finish()
}

fn many_at_once(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let (input, _) = stage.sample()?;
    session.pacing = Pacing::Whole;
    let count = session.hello().window.clamp(1, 50);
    let mut bytes = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..count {
        // Between them what nobody answers, so that also a child with a window of 1 gets many frames at once.
        bytes.extend(session.frame(0, "X_GREASE", &json("[1,2,3]")));
        let id = session.fresh_id();
        session.referee.open(id);
        ids.push(id);
        bytes.extend(session.frame(id, "DO", &input));
    }
    let (first, last) = bytes.split_at(bytes.len() - input.len() / 2 - 1);
    session.send_bytes(first);
    session.drain()?;
    session.send_bytes(last);
    for id in ids {
        let answer = session.answer(id)?;
        must(
            answer.finished,
            "F-4",
            || format!("the answer is {}", said(&answer)),
            "read whole frames, whatever a read gives",
        )?;
    }
    session.finish()
}

fn cut_everywhere(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    session.pacing = Pacing::Whole;
    let (input, result) = stage.sample()?;
    for place in 1..session.frame(1, "DO", &input).len() {
        let id = session.fresh_id();
        let frame = session.frame(id, "DO", &input);
        session.referee.open(id);
        let (first, last) = frame.split_at(place.min(frame.len()));
        session.send_bytes(first);
        session.drain()?;
        session.send_bytes(last);
        let answer = session.answer(id)?;
        must(
            answer.finished && compare(&result, &answer.data) != Same::No,
            "F-4",
            || format!("a frame cut after {place} bytes was read as another"),
            "go on reading until a frame is whole: a read may give any number of its bytes",
        )?;
    }
    session.finish()?;
    for vector in chosen("F4")? {
        ends_inside(stage, &vector)?;
    }
    Ok(())
}

/// The input ends inside a frame.
fn ends_inside(stage: &mut Stage<'_>, vector: &Vector) -> Checked {
    let mut session =
        stage.ready_in(&Setup::default(), &Greeting { grease: false, ..Greeting::default() })?;
    session.note(format!("{}: {}", vector.id, vector.why));
    session.send_bytes(&vector.bytes());
    session.close_input()?;
    let hint = "an end of input inside a frame, also inside its length, means: exit with code 3";
    let ended = session.end("L-4", hint)?;
    let found = || format!("{}: {}, and the child {ended}", vector.id, vector.why);
    must(ended != Ended::Code(0), "L-4", found, hint)?;
    session.should(ended == Ended::Code(3), "L-4", &found(), hint);
    Ok(())
}

/// The vectors of a case.
fn chosen(case: &str) -> Checked<Vec<Vector>> {
    let all = vectors::all().map_err(Stop::Harness)?;
    Ok(all.into_iter().filter(|vector| vector.id.split('.').next() == Some(case)).collect())
}

/// A task whose frame has exactly so many bytes behind its length.
fn task_of_len(session: &Session, id: u32, len: u64) -> Vec<u8> {
    let head = session.frame(id, "DO", &[]).len() as u64;
    // Four bytes of the length do not count; five are the mark and the length of a large byte string.
    let content = len.saturating_add(4).saturating_sub(head).saturating_sub(5);
    let mut data = Vec::new();
    wire::write_bin(&mut data, &vec![b'a'; usize::try_from(content).unwrap_or(0)]);
    session.frame(id, "DO", &data)
}

fn exactly_max_frame(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session = stage.ready()?;
    let max_frame = u64::from(session.hello().max_frame);
    if max_frame > 0x0200_0000 {
        return Err(Stop::skip(format!("max_frame is {max_frame}: that takes too long here")));
    }
    session.patience *= 4;
    let id = session.fresh_id();
    let whole = task_of_len(&session, id, max_frame);
    session.referee.open(id);
    session.send_bytes(&whole);
    let answer = session.answer(id)?;
    // Its answer has the name FINISHED and may be above the parent's limit.
    must(
        answer.finished || code(&answer) == "too_large",
        "F-12",
        || format!("a frame of exactly max_frame was answered with {}", said(&answer)),
        "read every frame up to the max_frame you announce, 16,777,215 if you announce none",
    )?;
    let id = session.fresh_id();
    let over = task_of_len(&session, id, max_frame + 1);
    session.referee.open(id);
    session.send_bytes(&over);
    session.wait(|session| session.answered(id) || session.process.ended().is_some())?;
    let hint = "at a frame above your max_frame exit with code 4, or skip it and answer FAILED `too_large`";
    if let Some(answer) = session.task(id).answer {
        must(!answer.finished, "F-10", || "a frame above max_frame was taken".to_owned(), hint)?;
        let is_named = code(&answer) == "too_large";
        session.should(is_named, "F-10", &format!("the answer is {}", said(&answer)), hint);
        return stage.check_alive(&mut session);
    }
    let did = session.process.ended().map_or("went on without a word".to_owned(), |ended| ended.to_string());
    let is_right = session.process.ended() == Some(Ended::Code(4));
    must(is_right, "F-10", || format!("at a frame above max_frame the child {did}"), hint)
}

/// What a child does with bytes that are no frame.
pub(super) fn desync(stage: &mut Stage<'_>, vector: &Vector) -> Checked {
    let mut session =
        stage.ready_in(&Setup::default(), &Greeting { grease: false, ..Greeting::default() })?;
    session.note(format!("{}: {}", vector.id, vector.why));
    session.send_bytes(&vector.bytes());
    let found = |what: String| format!("{}: {}; {what}", vector.id, vector.why);
    // More than the header must not be needed, but a child may read eight bytes at once.
    if vector.bytes().len() < 8 {
        session.send_bytes(&[0; 4]);
    }
    let ended = session.end("F-5", DESYNC).map_err(|stop| match stop {
        Stop::Fail(finding) => Stop::fail("F-5", found(finding.what), DESYNC),
        stop => stop,
    })?;
    must(ended != Ended::Code(0), "F-7", || found(format!("the child {ended}")), DESYNC)?;
    session.should(ended == Ended::Code(4), "F-7", &found(format!("the child {ended}")), DESYNC);
    session.should(
        session.stderr_bytes > 0,
        "F-7",
        &found("nothing on standard error".to_owned()),
        "say in one line on stderr what was no frame",
    );
    Ok(())
}

fn too_short(stage: &mut Stage<'_>) -> Checked {
    for vector in chosen("F11")?.iter().filter(|vector| vector.error == "desync") {
        desync(stage, vector)?;
    }
    Ok(())
}

fn too_long(stage: &mut Stage<'_>) -> Checked {
    for vector in chosen("F12")?.iter().filter(|vector| vector.error == "desync") {
        desync(stage, vector)?;
    }
    Ok(())
}

/// A header that promises 16 MiB, or 128 MiB, and then nothing.
fn no_memory(stage: &mut Stage<'_>) -> Checked {
    for promised in [0x00ff_ffff_u32, 0x07ff_ffff] {
        let mut session = stage.ready()?;
        stage.check_alive(&mut session)?;
        let before = session.process.memory().unwrap_or(0);
        let mut header = promised.to_be_bytes().to_vec();
        header.extend([0, 0, 0, 77, 0x94]);
        session.send_bytes(&header);
        session.drain()?;
        // It has read the header; what it does with it needs moments that nothing tells: until nothing grows any more.
        let (mut after, mut quiet) = (before, 0);
        while quiet < 4 && after.saturating_sub(before) < 64 << 20 {
            session.wait_for(Duration::from_millis(50), |session| session.process.ended().is_some())?;
            let now = session.process.memory().unwrap_or(after);
            quiet = if now > after { 0 } else { quiet + 1 };
            after = after.max(now);
        }
        let more = after.saturating_sub(before);
        let found = format!("after a header of {promised} bytes the child has {} KiB more", more / 1024);
        let hint = "do not take memory for a length before its bytes have come";
        // Memory that is reserved and never touched costs nothing, and does not show here.
        must(more < 64 << 20, "F-11", || found.clone(), hint)?;
        session.should(more < 12 << 20, "F-11", &found, hint);
    }
    Ok(())
}

fn shortest_form(stage: &mut Stage<'_>) -> Checked {
    // The referee notes a head that is wider than it need be.
    let mut session = stage.ready()?;
    stage.check_alive(&mut session)?;
    session.ask("grease.unknown", &json("null"))?;
    session.finish()
}
