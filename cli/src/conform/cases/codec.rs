//! F, its second half: what is in a frame. The test vectors are driven through the child, in the order of their ids.

use super::code;
use crate::conform::case::Case;
use crate::conform::process::{Ended, Setup};
use crate::conform::same::{Same, compare};
use crate::conform::session::Session;
use crate::conform::stage::{Greeting, Stage};
use crate::conform::trace::json;
use crate::conform::vectors::{self, Vector};
use crate::conform::verdict::{Checked, Stop, must};

pub(super) static CASES: &[Case] = &[
    Case::must("F5", "byte strings of 64 KiB and 1 MiB", &["D-8"], |stage| drive(stage, "F5")),
    Case::must("F7", "nil as data", &["D-1"], nil),
    Case::must("F8", "ids from 1 to 2^32 − 1", &["R-2", "R-21"], |stage| drive(stage, "F8")),
    Case::must(
        "F9",
        "heads of every legal width, and senders that are none",
        &["M-7", "M-8", "M-9", "M-4", "M-11"],
        |stage| drive(stage, "F9"),
    ),
    Case::must("F10", "recipients, and what is none", &["M-5", "M-11"], |stage| drive(stage, "F10")),
    Case::must("F13", "heads that are none", &["M-2", "M-3", "M-13"], |stage| drive(stage, "F13")),
    Case::must("F14", "more than four fields", &["M-2"], |stage| drive(stage, "F14")),
    Case::must("F15", "bytes behind the value", &["D-1", "D-13", "D-14"], |stage| drive(stage, "F15")),
    Case::must("F16", "the byte c1", &["D-7", "M-2", "M-3"], |stage| drive(stage, "F16")),
    Case::must("F17", "messages and values that end too early", &["M-6", "D-1", "D-13"], |stage| {
        drive(stage, "F17")
    }),
    Case::must("F18", "values 64 levels deep, and deeper", &["D-2", "D-13"], |stage| drive(stage, "F18")),
    Case::must("F19", "counts whose values never come", &["D-9", "M-6"], |stage| drive(stage, "F19")),
    Case::must("F20", "every kind of value comes back", &["D-8", "D-12", "D-3", "D-4"], |stage| {
        drive(stage, "F20")
    }),
    Case::should("F21", "floats stay floats", &["D-8"], floats),
    Case::must("F22", "texts that are not UTF-8", &["D-3", "M-3", "D-13"], |stage| drive(stage, "F22")),
    Case::must("F23", "keys that are no text, or twice", &["D-4", "D-5", "D-13"], |stage| {
        drive(stage, "F23")
    }),
    Case::must("F24", "extension types", &["D-6", "D-13"], |stage| drive(stage, "F24")),
    Case::must("F25", "NaN, infinities, −0.0, floats of 32 bits", &["D-10", "D-8"], |stage| {
        drive(stage, "F25")
    }),
];

fn nil(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session = stage.ready()?;
    let answer = session.ask("DO", &json("null"))?;
    must(
        answer.finished && answer.data == [0xc0],
        "D-1",
        || "nil did not come back as nil".to_owned(),
        "take nil as an input, and write it as a result: every message has four fields",
    )?;
    session.finish()
}

fn floats(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session = stage.ready()?;
    for vector in of_case("F21")? {
        accept(&mut session, &vector)?;
        let answer = session.task(vector.task).answer.unwrap_or_default();
        let sent = data_of(&vector);
        session.should(
            compare(&sent, &answer.data) == Same::Yes,
            "D-8",
            &format!("{}: {}, and it came back as an integer", vector.id, vector.why),
            "write a float as a float, also if it is whole",
        );
    }
    session.finish()
}

fn of_case(case: &str) -> Checked<Vec<Vector>> {
    let all = vectors::all().map_err(Stop::Harness)?;
    let is_of = |vector: &Vector| vector.id.split('.').next() == Some(case);
    Ok(all.into_iter().filter(is_of).filter(|vector| vector.stage != "frame").collect())
}

/// Sends every vector of a case that a parent may send, each as one task, and judges what comes back. A child that exits at
/// one, as it may at a bad head, is started again.
pub(super) fn drive(stage: &mut Stage<'_>, case: &str) -> Checked {
    stage.needs_echo()?;
    let mut session = None;
    for vector in of_case(case)? {
        let mut current = match session.take() {
            Some(session) => session,
            None => fresh(stage)?,
        };
        current.note(format!("{}: {}", vector.id, vector.why));
        let lives = match (vector.verdict.as_str(), vector.stage.as_str()) {
            ("accept", _) => accept(&mut current, &vector)?,
            ("either", _) => either(&mut current, &vector)?,
            (_, "head") => refuse_head(&mut current, &vector)?,
            _ => refuse_data(&mut current, &vector)?,
        };
        if lives {
            // Proves that nothing else was answered, and that it works on.
            current.referee.blind = false;
            stage.check_alive(&mut current)?;
            session = Some(current);
        }
    }
    session.map_or(Ok(()), |mut session| session.finish())
}

fn fresh(stage: &mut Stage<'_>) -> Checked<Session> {
    let mut session =
        stage.ready_in(&Setup::default(), &Greeting { grease: false, ..Greeting::default() })?;
    // The vectors have ids of their own.
    while session.fresh_id() < 1000 {}
    Ok(session)
}

/// The data of a vector's message: what stands behind the head.
fn data_of(vector: &Vector) -> Vec<u8> {
    let bytes = vector.bytes();
    let body = bytes.get(8..).unwrap_or_default();
    stokehold_protocol::Message::decode(body).map(|message| message.data.to_vec()).unwrap_or_default()
}

/// A good message. Whether the child lives on.
fn accept(session: &mut Session, vector: &Vector) -> Checked<bool> {
    session.referee.open(vector.task);
    session.send_bytes(&vector.bytes());
    if vector.task == 0 {
        return Ok(true);
    }
    let found = |what: &str| format!("{}: {}; {what}", vector.id, vector.why);
    let statement = statement(&vector.spec);
    let answer = session.answer(vector.task).map_err(|stop| match stop {
        Stop::Fail(finding) => Stop::fail(statement, found(&finding.what), WIDTHS),
        stop => stop,
    })?;
    if vector.request() != "DO" {
        let code = code(&answer);
        must(
            code == "unknown_request",
            "R-20",
            || found(&format!("the answer is {code}")),
            "answer FAILED `unknown_request` to a request without a handler",
        )?;
        return Ok(true);
    }
    if !answer.finished {
        // A number that the language cannot hold.
        let may = code(&answer) == "bad_data" && vector.stage == "data" && is_hard_number(vector);
        must(may, statement, || found(&format!("FAILED {}", code(&answer))), WIDTHS)?;
        return Ok(true);
    }
    match compare(&data_of(vector), &answer.data) {
        Same::Yes => {}
        Same::ButForNumbers => session.should(
            false,
            "D-8",
            &found("a float came back as an integer, or the other way round"),
            "write a float as a float, also if it is whole",
        ),
        Same::No => {
            return Err(Stop::fail(statement, found("another value came back"), WIDTHS));
        }
    }
    Ok(true)
}

const WIDTHS: &str = "read every width that MessagePack has for a value, and give back the same value";

/// A message that some readers refuse: whatever the child does with it is right, save a crash or a hang.
fn either(session: &mut Session, vector: &Vector) -> Checked<bool> {
    session.referee.open(vector.task);
    session.send_bytes(&vector.bytes());
    let later = session.submit("DO", &json("1"));
    session.wait(|session| session.answered(later) || session.is_over())?;
    ended_at(session, vector, "refuse it as a bad head, or take it").map(|ended| !ended)
}

/// Whether it is an integer above 2^53, which some languages do not have.
fn is_hard_number(vector: &Vector) -> bool {
    let data = vector.message.as_ref().and_then(|fields| fields.get(3));
    data.is_some_and(|data| data.get("$int").is_some())
}

/// A message whose head is none: FAILED `bad_message`, or an exit. Whether the child lives on.
fn refuse_head(session: &mut Session, vector: &Vector) -> Checked<bool> {
    let id = vector.task;
    session.referee.open(id);
    // An answer that gives back what was no data cannot be judged as data.
    session.referee.blind = true;
    session.send_bytes(&vector.bytes());
    let hint = "check the head: an array of exactly four, the request a text of 1 to 255 bytes, sender and recipient integers in their ranges; else answer FAILED `bad_message` if the id is not 0, or exit with code 4";
    let found = |what: String| format!("{}: {}; {what}", vector.id, vector.why);
    if id == 0 {
        // The task behind it tells whether it was ignored.
        let later = session.submit("DO", &json("1"));
        session.wait(|session| session.answered(later) || session.is_over())?;
        return ended_at(session, vector, hint).map(|ended| !ended);
    }
    // A later task makes sure that there is an end to the wait if the bad one is not answered at all.
    let later = session.submit("DO", &json("1"));
    session.wait(|session| session.answered(id) || session.answered(later) || session.is_over())?;
    session.wait(|session| session.answered(later) || session.is_over())?;
    if ended_at(session, vector, hint)? {
        return Ok(false);
    }
    let Some(answer) = session.task(id).answer else {
        session.should(false, "M-13", &found("it was not answered".to_owned()), hint);
        // Its id stays open, and is used again by the next vector.
        return Ok(true);
    };
    let is_address = matches!(vector.spec.as_str(), "M-4" | "M-5");
    if answer.finished && is_address {
        // A child may ignore both ([M-11]), and need not notice then.
        session.should(false, statement(&vector.spec), &found("it was taken".to_owned()), hint);
        return Ok(true);
    }
    must(!answer.finished, statement(&vector.spec), || found("it was taken".to_owned()), hint)?;
    let code = code(&answer);
    session.should(code == "bad_message", "M-13", &found(format!("the code is {code}")), hint);
    Ok(true)
}

/// Whether the child has ended at a bad head, which it may with a code other than 0.
fn ended_at(session: &mut Session, vector: &Vector, hint: &str) -> Checked<bool> {
    if !session.is_over() && session.process.ended().is_none() {
        return Ok(false);
    }
    let ended = session.end("M-13", hint)?;
    let found = format!("{}: {}; the child {ended}", vector.id, vector.why);
    must(ended != Ended::Code(0), "M-13", || found.clone(), hint)?;
    must(!matches!(ended, Ended::Signal(_)), "M-13", || found.clone(), hint)?;
    session.should(ended == Ended::Code(4), "M-13", &found, hint);
    Ok(true)
}

/// A message whose data is none: FAILED `bad_data`, or the same bytes back from a child that never decodes.
fn refuse_data(session: &mut Session, vector: &Vector) -> Checked<bool> {
    session.referee.open(vector.task);
    session.referee.blind = true;
    session.send_bytes(&vector.bytes());
    let hint = "decode the data strictly; what is not one value of SPEC 5.2 is answered with FAILED `bad_data`, and the child goes on";
    let found = |what: String| format!("{}: {}; {what}", vector.id, vector.why);
    let answer = session.answer(vector.task).map_err(|stop| match stop {
        Stop::Fail(finding) => Stop::fail("D-13", found(finding.what), hint),
        stop => stop,
    })?;
    if !answer.finished {
        let code = code(&answer);
        must(code == "bad_data", "D-13", || found(format!("the code is {code}")), hint)?;
        return Ok(true);
    }
    let never_decodes = answer.data == data_of(vector);
    let need_not_notice = matches!(vector.spec.as_str(), "D-4" | "D-5" | "D-6" | "D-7");
    let is_value = stokehold_protocol::check(&answer.data).is_ok();
    must(
        never_decodes || need_not_notice && is_value,
        "D-13",
        || found("it was taken, and another value came back".to_owned()),
        hint,
    )?;
    Ok(true)
}

/// The statement of a vector as one that lives as long as the kit.
fn statement(spec: &str) -> &'static str {
    const KNOWN: [&str; 22] = [
        "M-1", "M-2", "M-3", "M-4", "M-5", "M-6", "M-7", "M-8", "M-9", "M-12", "M-13", "D-1", "D-2", "D-3",
        "D-4", "D-5", "D-6", "D-7", "D-8", "D-9", "D-10", "R-2",
    ];
    KNOWN.into_iter().find(|known| *known == spec).unwrap_or("M-1")
}
