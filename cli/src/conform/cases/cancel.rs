//! C: what is said about a task besides its answer: CANCEL, META, PING, PROGRESS, LOG, STARTED.

use std::time::{Duration, Instant};

use stokehold_protocol::Capability;

use super::{code, look, said};
use crate::conform::case::Case;
use crate::conform::process::Setup;
use crate::conform::session::Session;
use crate::conform::stage::{Greeting, Stage};
use crate::conform::trace::json;
use crate::conform::verdict::{Checked, must};

pub(super) static CASES: &[Case] = &[
    Case::must("C1", "CANCEL of a running task", &["R-36"], cancel_running).of_level_3().needed(),
    Case::must("C2", "CANCEL behind the answer", &["R-37"], cancel_late).of_level_3(),
    Case::must(
        "C3",
        "CANCEL of a task that waits; its neighbours go on",
        &["R-36", "R-41", "R-42"],
        cancel_waiting,
    )
    .of_level_3(),
    Case::must("C4", "an id that was answered comes again", &["R-3", "R-2"], id_again),
    Case::must("C5", "META reaches the handler", &["R-28", "L-14"], meta).of_level_3().needed(),
    Case::must("C6", "PING while a task runs", &["R-38"], ping_while_busy).of_level_3().needed(),
    Case::must("C7", "PROGRESS", &["R-34"], progress).of_level_3().needed(),
    Case::must("C8", "LOG", &["R-34"], log).of_level_3().needed(),
    Case::must("C9", "META that is followed by something else", &["R-30"], meta_forgotten).of_level_3(),
    Case::should("C10", "STARTED, if both list it", &["R-35", "R-44"], started).of_level_3(),
    Case::must("C11", "PING with data of every kind", &["R-38"], ping_idle).of_level_3(),
    Case::must("C12", "a task without META is a first attempt", &["R-29"], no_meta).of_level_3(),
    Case::must(
        "C13",
        "CANCEL never touches the next task with that id",
        &["R-42", "R-3"],
        cancel_stays_behind,
    )
    .of_level_3(),
];

fn cancel_running(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    session.needs_capability(Capability::Cancel)?;
    stage.needs(&session, "test.sleep")?;
    // Progress of another kind: the handler runs when the task before is answered and this one is read.
    let id = session.submit("test.sleep", &json(r#"{"ms":20000}"#));
    session.drain()?;
    let begun = Instant::now();
    session.send(id, "CANCEL", &json("null"));
    let answer = session.answer(id)?;
    let hint = "read the input while a handler runs, tell it that it is cancelled, and answer once";
    must(
        answer.finished || code(&answer) == "cancelled",
        "R-36",
        || format!("a cancelled task was answered by {}", said(&answer)),
        hint,
    )?;
    let took = begun.elapsed();
    session.should(took < Duration::from_secs(2), "R-36", &format!("it took {took:?}"), hint);
    stage.check_alive(&mut session)?;
    session.finish()
}

fn cancel_late(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    session.needs_capability(Capability::Cancel)?;
    let id = session.submit("DO", &stage.sample()?.0);
    session.answer(id)?;
    session.send(id, "CANCEL", &json("null"));
    stage.check_alive(&mut session)?;
    session.finish()
}

fn cancel_waiting(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    session.needs_capability(Capability::Cancel)?;
    stage.needs(&session, "test.sleep")?;
    let first = session.submit("test.sleep", &json(r#"{"ms":300}"#));
    let second = session.submit("test.sleep", &json(r#"{"ms":299}"#));
    let third = session.submit("DO", &stage.sample()?.0);
    session.send(second, "CANCEL", &json("null"));
    let (a, b, c) = (session.answer(first)?, session.answer(second)?, session.answer(third)?);
    must(
        a.finished && c.finished,
        "R-42",
        || format!("its neighbours were answered by {} and {}", said(&a), said(&c)),
        "CANCEL is about the task with its id only",
    )?;
    must(
        b.finished || code(&b) == "cancelled",
        "R-36",
        || format!("the cancelled one was answered by {}", said(&b)),
        "answer a cancelled task by FINISHED or FAILED `cancelled`",
    )?;
    session.finish()
}

fn id_again(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let (input, _) = stage.sample()?;
    for id in [9, 9, 0xffff_ffff, 1, 0xffff_ffff, 9] {
        session.send(id, "DO", &input);
        let answer = session.answer(id)?;
        must(
            answer.finished,
            "R-3",
            || format!("id {id} was answered by {}", said(&answer)),
            "an id is free again when it was answered",
        )?;
    }
    session.finish()
}

/// Sends META and the task behind it, with nothing in between.
fn with_meta(session: &mut Session, meta: &str) -> Checked<serde_json::Value> {
    let id = session.fresh_id();
    let mut bytes = session.frame(id, "META", &json(meta));
    bytes.extend(session.frame(id, "test.meta", &json("null")));
    session.referee.open_for(id, "test.meta");
    session.send_bytes(&bytes);
    Ok(look(&session.answer(id)?.data))
}

fn meta(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    session.needs_capability(Capability::Meta)?;
    stage.needs(&session, "test.meta")?;
    let seen = with_meta(
        &mut session,
        r#"{"attempt":3,"deadline_ms":60000,"key":"a-key","x-new":[1],"traceparent":"00-1"}"#,
    )?;
    let hint =
        "META is about the request in the next frame: keep its attempt, key and deadline for that handler";
    must(seen.get("attempt").is_some_and(|it| it == 3), "R-28", || format!("the handler saw {seen}"), hint)?;
    must(
        seen.get("key").is_some_and(|it| it == "a-key"),
        "R-28",
        || format!("the handler saw {seen}"),
        hint,
    )?;
    let deadline = seen.get("deadline_ms").and_then(serde_json::Value::as_f64);
    let fits = deadline.is_some_and(|ms| (1.0..=60_000.0).contains(&ms));
    must(fits, "L-14", || format!("the handler saw {seen}"), hint)?;
    let seen = with_meta(&mut session, r#"{"attempt":2}"#)?;
    must(
        seen.get("attempt").is_some_and(|it| it == 2)
            && seen.get("key").is_none_or(serde_json::Value::is_null),
        "R-28",
        || format!("after a META of its own the next handler saw {seen}"),
        hint,
    )?;
    session.finish()
}

fn meta_forgotten(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    session.needs_capability(Capability::Meta)?;
    stage.needs(&session, "test.meta")?;
    let hint = "forget a META whose id is not that of the next frame";
    // Followed by the request of another id.
    let (about, other) = (session.fresh_id(), session.fresh_id());
    let mut bytes = session.frame(about, "META", &json(r#"{"attempt":7,"key":"k"}"#));
    bytes.extend(session.frame(other, "test.meta", &json("null")));
    session.referee.open_for(other, "test.meta");
    session.send_bytes(&bytes);
    let seen = look(&session.answer(other)?.data);
    must(seen.get("attempt").is_some_and(|it| it == 1), "R-30", || format!("the handler saw {seen}"), hint)?;
    // Its own request comes too late.
    session.send(about, "test.meta", &json("null"));
    let seen = look(&session.answer(about)?.data);
    must(seen.get("attempt").is_some_and(|it| it == 1), "R-30", || format!("the handler saw {seen}"), hint)?;
    session.finish()
}

fn no_meta(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.needs(&session, "test.meta")?;
    let seen = look(&session.ask("test.meta", &json("null"))?.data);
    let is_first = seen.get("attempt").is_some_and(|attempt| attempt == 1);
    must(is_first, "R-29", || format!("the handler saw {seen}"), "without META the attempt is 1")?;
    session.finish()
}

fn ping_while_busy(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    session.needs_capability(Capability::Ping)?;
    stage.needs(&session, "test.spin")?;
    let id = session.submit("test.spin", &json(r#"{"ms":2000}"#));
    session.drain()?;
    session.send(0, "PING", &json(r#"{"n":1}"#));
    let pong = session.loose("PONG")?;
    let hint = "answer PING from a thread that the handler does not keep from it, or do not list `ping`";
    must(
        pong.as_deref() == Some(&json(r#"{"n":1}"#)),
        "R-38",
        || "no PONG with the data of PING".to_owned(),
        hint,
    )?;
    must(!session.answered(id), "R-38", || "PONG came only after the task".to_owned(), hint)?;
    session.answer(id)?;
    session.finish()
}

fn ping_idle(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    session.needs_capability(Capability::Ping)?;
    let longest = format!("{:?}", "x".repeat(62));
    let all = ["null", "7", "-1.5", r#""text""#, r#"[1,{"a":[]}]"#, longest.as_str()];
    for data in all {
        session.send(0, "PING", &json(data));
    }
    stage.check_alive(&mut session)?;
    session.wait(|session| {
        session.referee.loose.iter().filter(|(name, _)| name == "PONG").count() >= all.len()
    })?;
    let pongs: Vec<Vec<u8>> = session
        .referee
        .loose
        .iter()
        .filter(|(name, _)| name == "PONG")
        .map(|(_, data)| data.clone())
        .collect();
    let expected: Vec<Vec<u8>> = all.iter().map(|data| json(data)).collect();
    must(
        pongs == expected,
        "R-38",
        || format!("{} PINGs were answered by {} PONGs, or not with the same data", all.len(), pongs.len()),
        "give PONG the bytes of PING's data as they came",
    )?;
    session.finish()
}

fn progress(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.needs(&session, "test.progress")?;
    let id = session.submit("test.progress", &json(r#"{"n":5}"#));
    session.answer(id)?;
    let hint = "write PROGRESS with the task's id and {\"done\": …, \"total\": …} before its answer; some may be left out, the last not";
    let done: Vec<f64> = session
        .task(id)
        .notes
        .iter()
        .filter(|(name, _)| name == "PROGRESS")
        .filter_map(|(_, data)| {
            let data = look(data);
            data.as_f64().or_else(|| data.get("done")?.as_f64())
        })
        .collect();
    must(!done.is_empty(), "R-34", || "no PROGRESS".to_owned(), hint)?;
    session.should(done.is_sorted(), "R-34", &format!("`done` goes {done:?}"), hint);
    session.should(
        done.last() == Some(&5.0),
        "R-34",
        &format!("`done` ends at {:?} of 5", done.last()),
        hint,
    );
    session.finish()
}

fn log(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.needs(&session, "test.log")?;
    let id = session.submit("test.log", &json(r#"{"level":"warn","msg":"grüße"}"#));
    session.answer(id)?;
    let about_it = session.task(id).notes.into_iter().find(|(name, _)| name == "LOG");
    let loose = session.referee.loose.iter().find(|(name, _)| name == "LOG").cloned();
    let hint = "write LOG with {\"level\": …, \"msg\": …} and the task's id before its answer";
    let Some((_, data)) = about_it.or(loose) else {
        return must(false, "R-34", || "no LOG".to_owned(), hint);
    };
    let seen = look(&data);
    must(
        seen.get("level").is_some_and(|level| level == "warn")
            && seen.get("msg").is_some_and(|msg| msg == "grüße"),
        "R-34",
        || format!("LOG has the data {seen}"),
        hint,
    )?;
    session.finish()
}

fn started(stage: &mut Stage<'_>) -> Checked {
    let greeting = Greeting { offers_started: true, ..Greeting::default() };
    let mut session = stage.ready_in(&Setup::default(), &greeting)?;
    session.needs_capability(Capability::Started)?;
    let (input, _) = stage.sample()?;
    if stage.offers(&mut session, "test.spin", &json(r#"{"ms":0}"#))? {
        let long = session.submit("test.spin", &json(r#"{"ms":700}"#));
        session.wait(|session| !session.task(long).notes.is_empty() || session.answered(long))?;
        must(
            !session.answered(long),
            "R-44",
            || "STARTED came only with the answer".to_owned(),
            "write STARTED out before the handler begins",
        )?;
        session.answer(long)?;
    }
    let ids: Vec<u32> = (0..session.hello().window.min(5)).map(|_| session.submit("DO", &input)).collect();
    for id in ids {
        session.answer(id)?;
        let said = session.task(id).notes.iter().filter(|(name, _)| name == "STARTED").count();
        must(
            said == 1,
            "R-35",
            || format!("{said} STARTED for the id {id}"),
            "write STARTED with the task's id when its handler begins, if the parent's HELLO lists `started`",
        )?;
    }
    session.finish()
}

fn cancel_stays_behind(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    session.needs_capability(Capability::Cancel)?;
    stage.needs(&session, "test.sleep")?;
    for _ in 0..5 {
        // The answer and CANCEL cross each other; then the id comes again.
        session.send(77, "test.sleep", &json(r#"{"ms":0}"#));
        session.send(77, "CANCEL", &json("null"));
        session.answer(77)?;
        session.send(77, "test.sleep", &json(r#"{"ms":20}"#));
        let answer = session.answer(77)?;
        must(
            answer.finished,
            "R-42",
            || format!("a task that nobody cancelled was answered by {}", said(&answer)),
            "forget a CANCEL when its task is answered",
        )?;
    }
    session.finish()
}
