//! Plays test vectors to a child, frames or lines, and judges what it makes of each.

use super::{code, said};
use crate::conform::process::{Ended, Setup};
use crate::conform::referee::{Answer, Form};
use crate::conform::same::{Same, compare, loses_its_sign};
use crate::conform::session::Session;
use crate::conform::stage::{Greeting, Stage};
use crate::conform::trace::json;
use crate::conform::vectors::{self, Vector};
use crate::conform::verdict::{Checked, Stop, must};

/// The vectors of a case that are whole messages and that a parent may send.
pub(super) fn of_case(case: &str) -> Checked<Vec<Vector>> {
    let all = vectors::all().map_err(Stop::Harness)?;
    let is_of = |vector: &Vector| vector.id.split('.').next() == Some(case);
    let is_message = |vector: &Vector| vector.stage != "frame" && !vector.for_parents;
    Ok(all.into_iter().filter(is_of).filter(is_message).collect())
}

/// Sends every such vector of a case, each as one task, and judges what comes back. A child that exits at
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

pub(super) fn fresh(stage: &mut Stage<'_>) -> Checked<Session> {
    let mut session =
        stage.ready_in(&Setup::default(), &Greeting { grease: false, ..Greeting::default() })?;
    // The vectors have ids of their own.
    while session.fresh_id() < 1000 {}
    Ok(session)
}

/// A good message. Whether the child lives on.
pub(super) fn accept(session: &mut Session, vector: &Vector) -> Checked<bool> {
    session.referee.open(vector.task);
    session.send_bytes(&vector.bytes());
    if vector.task == 0 {
        return Ok(true);
    }
    let found = |what: &str| format!("{}: {}; {what}", vector.id, vector.why);
    let statement = statement(&vector.spec);
    let is_task = vector.request() == "DO";
    let expected = if is_task { "FINISHED with the same value" } else { "FAILED `unknown_request`" };
    let answer = answer(session, vector, statement, expected, "")?;
    let hint = if vector.is_line { WAYS } else { WIDTHS };
    if !is_task {
        must(
            code(&answer) == "unknown_request",
            "R-20",
            || found(&format!("the answer is {}", said(&answer))),
            "answer FAILED `unknown_request` to a request without a handler",
        )?;
        return Ok(true);
    }
    if !answer.finished {
        // A number that the language cannot hold.
        let may = code(&answer) == "bad_data" && vector.stage == "data" && is_hard_number(vector);
        must(may, statement, || found(&format!("the answer is {}", said(&answer))), hint)?;
        return Ok(true);
    }
    match compare(&vector.data(), &answer.data) {
        Same::Yes => {}
        Same::ButForNumbers => session.should(
            false,
            if vector.is_line { "T-11" } else { "D-8" },
            &found("a float came back as an integer, or the other way round"),
            "write a float as a float, also if it is whole",
        ),
        Same::No if loses_its_sign(&vector.data(), &answer.data) => {
            let hint =
                "tell −0.0 from 0.0: compare their bits, and do not write a float as an integer and back";
            return Err(Stop::fail("D-10", found("0.0 came back: its sign is lost"), hint));
        }
        Same::No => {
            return Err(Stop::fail(statement, found("another value came back"), hint));
        }
    }
    Ok(true)
}

const WIDTHS: &str = "read every width that MessagePack has for a value, and give back the same value";
const WAYS: &str =
    "read every way in which JSON writes a value, `$bin` and `$$` too, and give back the same value";

/// The answer to a vector. If there is none, what was seen instead; the hint of the case, if it has one, goes before the one
/// that follows from that.
fn answer(
    session: &mut Session,
    vector: &Vector,
    statement: &'static str,
    expected: &str,
    hint: &str,
) -> Checked<Answer> {
    let choose = |seen: String| if hint.is_empty() { seen } else { hint.to_owned() };
    let found = |what: &str| format!("{}: {}; {what}", vector.id, vector.why);
    let heard = session.hear(vector.task).map_err(|stop| match stop {
        Stop::Fail(finding) => Stop::fail(statement, found(&finding.what), choose(finding.hint)),
        stop => stop,
    })?;
    match heard {
        Some(answer) => Ok(answer),
        None => {
            let seen = session.unanswered(vector.task)?;
            let what = found(&format!("{}; expected: {expected}", seen.what));
            Err(Stop::fail(statement, what, choose(seen.hint)))
        }
    }
}

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
        // Nothing is owed for it.
        session.referee.tasks.remove(&id);
        return Ok(true);
    };
    let is_address = matches!(vector.spec.as_str(), "M-4" | "M-5");
    if answer.finished && is_address {
        // A child may ignore both ([M-11]), and need not notice then.
        session.should(false, statement(&vector.spec), &found("it was taken".to_owned()), hint);
        return Ok(true);
    }
    // A child that cuts lines at commas and quotes, as it may ([T-2]), passes on what it did not read.
    let is_unread = vector.is_line && (answer.form != Form::Good || !vector.stricter || vector.spec == "M-3");
    if answer.finished && is_unread {
        session.should(false, "M-13", &found("it was passed on unread".to_owned()), hint);
        return Ok(true);
    }
    must(!answer.finished, statement(&vector.spec), || found("it was taken".to_owned()), hint)?;
    let is_named = code(&answer) == "bad_message";
    session.should(is_named, "M-13", &found(format!("the answer is {}", said(&answer))), hint);
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

/// A message whose data is none: FAILED `bad_data`, or the same bytes, or JSON, back from a child that never decodes.
fn refuse_data(session: &mut Session, vector: &Vector) -> Checked<bool> {
    session.referee.open(vector.task);
    session.referee.blind = true;
    session.send_bytes(&vector.bytes());
    let hint = "decode the data strictly; what is not one value of SPEC 5.2 is answered with FAILED `bad_data`, and the child goes on";
    let found = |what: String| format!("{}: {}; {what}", vector.id, vector.why);
    let answer = answer(session, vector, "D-13", "FAILED `bad_data`", hint)?;
    if !answer.finished {
        must(
            code(&answer) == "bad_data",
            "D-13",
            || found(format!("the answer is {}", said(&answer))),
            hint,
        )?;
        return Ok(true);
    }
    let never_decodes = match vector.is_line {
        true => answer.form == Form::BadData,
        false => answer.data == vector.data(),
    };
    let need_not_notice = matches!(vector.spec.as_str(), "D-4" | "D-5" | "D-6" | "D-7");
    let is_value = answer.form == Form::Good && stokehold_protocol::check(&answer.data).is_ok();
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
    const KNOWN: [&str; 31] = [
        "M-1", "M-2", "M-3", "M-4", "M-5", "M-6", "M-7", "M-8", "M-9", "M-12", "M-13", "D-1", "D-2", "D-3",
        "D-4", "D-5", "D-6", "D-7", "D-8", "D-9", "D-10", "R-2", "T-1", "T-2", "T-4", "T-7", "T-11", "T-12",
        "T-13", "T-14", "T-17",
    ];
    KNOWN.into_iter().find(|known| *known == spec).unwrap_or("M-1")
}
