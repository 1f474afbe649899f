//! T: text mode. Lines as a parent may write them, and what is no line, no message, or no value. What a child that cuts lines at
//! commas and quotes need not notice ([T-2], [T-17]) is no mistake here.

use stokehold_protocol::Recipient;
use stokehold_protocol::limits::MAX_FRAME_DEFAULT;
use stokehold_protocol::wire;

use super::drive::{accept, drive, fresh, of_case};
use super::{code, said};
use crate::conform::case::Case;
use crate::conform::process::{Ended, Setup};
use crate::conform::referee::Form;
use crate::conform::same::{Same, compare};
use crate::conform::session::{PARENT, Pacing, Session};
use crate::conform::stage::{Greeting, Stage};
use crate::conform::trace::json;
use crate::conform::vectors::{self, Vector};
use crate::conform::verdict::{Checked, Stop, must};

pub(super) static CASES: &[Case] = &[
    Case::must("T1", "HELLO is a line", &["T-1", "T-3", "S-1"], hello).of_lines(),
    Case::must("T2", "one line there, one back, with its id", &["T-1", "T-3", "R-19"], lock_step).of_lines(),
    Case::must("T3", "many lines at once, for a wider window", &["T-3", "R-19", "W-6"], many).of_lines(),
    Case::must("T4", "lines that end with CR LF", &["T-1"], with_cr).of_lines(),
    Case::must("T5", "input that ends behind a line without its end", &["T-5", "L-4"], unfinished).of_lines(),
    Case::must("T6", "escapes, pairs of surrogates, and characters as they are", &["T-1", "D-3"], |stage| {
        drive(stage, "T6")
    })
    .of_lines(),
    Case::must("T7", "$bin, $$, and maps that look like them", &["T-12", "T-13"], |stage| drive(stage, "T7"))
        .of_lines(),
    Case::must("T8", "lines of 1 MiB", &["T-4"], long).of_lines(),
    Case::must("T9", "blank lines", &["T-1"], blank).of_lines(),
    Case::must("T10", "lines that are no JSON", &["T-7", "M-13"], |stage| drive(stage, "T10")).of_lines(),
    Case::must(
        "T11",
        "arrays that are not of four, and heads that are none",
        &["T-7", "M-2", "M-13"],
        |stage| drive(stage, "T11"),
    )
    .of_lines(),
    Case::must("T12", "what begins like no line", &["T-6", "F-5", "F-7"], desync).of_lines(),
    Case::must("T13", "white space", &["T-1"], white_space).of_lines(),
    Case::must("T14", "a line of exactly max_frame, and one byte more", &["T-4", "F-10", "F-12"], max_frame)
        .of_lines(),
    Case::must("T15", "JSON that stands for no value", &["T-14", "T-15", "D-13"], |stage| {
        drive(stage, "T15")
    })
    .of_lines(),
    Case::must("T16", "integers up to 64 bits", &["T-11", "T-17", "D-12"], |stage| drive(stage, "T16"))
        .of_lines(),
    Case::must("T17", "ids from 1 to 2^32 − 1", &["T-1", "R-2"], |stage| drive(stage, "T17")).of_lines(),
    Case::must("T18", "lines a byte at a time", &["T-1", "F-4"], byte_by_byte).of_lines(),
    Case::must("T19", "floats are exact, and stay floats", &["T-11", "D-10"], floats).of_lines(),
    Case::info("T20", "it speaks lines where both codecs are on offer", &["T-10"], choice).of_lines(),
];

fn hello(stage: &mut Stage<'_>) -> Checked {
    // What does not begin so is no line to the kit ([T-8]), and fails there.
    let mut session = stage.ready()?;
    let hello = session.hello();
    must(
        hello.version == 1,
        "V-2",
        || format!("HELLO says v {}, and 1 was offered", hello.version),
        "write {\"v\": 1}",
    )?;
    session.finish()
}

fn lock_step(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    for _ in 0..20 {
        // The referee fails an answer with another id, and one without.
        stage.check_alive(&mut session)?;
    }
    session.finish()
}

fn many(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session = stage.ready()?;
    let window = session.hello().window.min(1000);
    if window <= 1 {
        return Err(Stop::skip("its window is 1"));
    }
    session.pacing = Pacing::Whole;
    let mut sent = Vec::new();
    for number in 0..window {
        let data = json(&format!(r#"{{"number":{number}}}"#));
        sent.push((session.submit("DO", &data), data));
    }
    for (id, data) in sent {
        let answer = session.answer(id)?;
        must(
            answer.finished && compare(&data, &answer.data) == Same::Yes,
            "T-3",
            || format!("id {id} has another task's answer, or {}", said(&answer)),
            "begin each answer with the id of its task",
        )?;
    }
    session.finish()
}

fn with_cr(stage: &mut Stage<'_>) -> Checked {
    drive(stage, "T4")?;
    let mut session = stage.ready()?;
    let die = session.frame(0, "DIE", &json("null"));
    session.send_bytes(&[die.strip_suffix(b"\n").unwrap_or(&die), b"\r\n"].concat());
    let hint = "take CR LF for the end of a line, too";
    let ended = session.end("T-1", hint)?;
    must(ended == Ended::Code(0), "T-1", || format!("after DIE with CR LF the child {ended}"), hint)
}

fn unfinished(stage: &mut Stage<'_>) -> Checked {
    let hint = "a last line without LF is none, even if it looks whole: drop it, and exit with code 3";
    for vector in all_of("T5")? {
        let mut session =
            stage.ready_in(&Setup::default(), &Greeting { grease: false, ..Greeting::default() })?;
        session.note(format!("{}: {}", vector.id, vector.why));
        let (input, _) = stage.sample()?;
        let before = session.submit("DO", &input);
        // Its answer would be seen.
        session.referee.open(7);
        session.send_bytes(&vector.bytes());
        session.close_input()?;
        let ended = session.end("L-4", hint)?;
        let found = |what: &str| format!("{}: {}; {what}", vector.id, vector.why);
        must(!session.answered(7), "T-5", || found("it was taken for a line"), hint)?;
        must(ended != Ended::Code(0), "L-4", || found(&format!("the child {ended}")), hint)?;
        session.should(ended == Ended::Code(3), "L-4", &found(&format!("the child {ended}")), hint);
        let answered = session.answered(before);
        session.should(answered, "L-4", &found("the answer before it was not written"), hint);
    }
    Ok(())
}

fn all_of(case: &str) -> Checked<Vec<Vector>> {
    let all = vectors::all().map_err(Stop::Harness)?;
    Ok(all.into_iter().filter(|vector| vector.id.split('.').next() == Some(case)).collect())
}

fn long(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session = fresh(stage)?;
    // A shell reads byte by byte.
    session.patience *= 4;
    session.ends += session.patience * 2;
    for vector in of_case("T8")? {
        session.referee.open(vector.task);
        session.send_bytes(&vector.bytes());
        let answer = session.answer(vector.task)?;
        let found = |what: &str| format!("{}: {}; {what}", vector.id, vector.why);
        let hint = "read up to LF, however long a line is, and give back the same value";
        // It may refuse what its language cannot take; it must not spoil it.
        session.should(answer.finished, "T-4", &found(&format!("the answer is {}", said(&answer))), hint);
        let same = !answer.finished || compare(&vector.data(), &answer.data) == Same::Yes;
        must(same, "T-4", || found("another value came back"), hint)?;
    }
    session.finish()
}

fn blank(stage: &mut Stage<'_>) -> Checked {
    // A blank line at the very beginning, too.
    let mut session = stage.greeted_by(&Setup::default())?;
    session.send_bytes(b"\n \t \r\n");
    crate::conform::stage::greet(&mut session, &Greeting::default());
    crate::conform::stage::get_ready(&mut session)?;
    stage.check_alive(&mut session)?;
    session.send_bytes(b"\n\r\n");
    session.finish()?;
    drive(stage, "T9")
}

fn desync(stage: &mut Stage<'_>) -> Checked {
    let hint =
        "exit with code 4 at a line that begins neither with an id, a space and a bracket nor with a bracket";
    for vector in all_of("T12")? {
        let mut session =
            stage.ready_in(&Setup::default(), &Greeting { grease: false, ..Greeting::default() })?;
        session.note(format!("{}: {}", vector.id, vector.why));
        let bytes = vector.bytes();
        // What is answered is told by the exit code; the answer may be as odd as the line.
        session.referee.blind = true;
        session.referee.open(7);
        session.send_bytes(&bytes);
        let found = |what: String| format!("{}: {}; {what}", vector.id, vector.why);
        // Something that is nearly an id must not end a child that looks less closely.
        let is_near = bytes.first().is_some_and(|first| matches!(first, b'0'..=b'9' | b'+' | b'-' | b' '));
        if is_near {
            let later = session.submit("DO", &stage.sample()?.0);
            // An odd answer to an odd line is no worse than none.
            let waited = session.wait(|session| session.answered(later) || session.process.ended().is_some());
            let ends = session.process.ended();
            let exits = waited.is_ok() && ends.is_some_and(|ended| ended != Ended::Code(0));
            session.should(exits, "T-6", &found("the child goes on".to_owned()), hint);
            continue;
        }
        let ended = session.end("F-5", hint).map_err(|stop| match stop {
            Stop::Fail(finding) => Stop::fail("T-6", found(finding.what), hint),
            stop => stop,
        })?;
        must(ended != Ended::Code(0), "F-7", || found(format!("the child {ended}")), hint)?;
        session.should(ended == Ended::Code(4), "F-7", &found(format!("the child {ended}")), hint);
        let told = session.stderr_bytes > 0;
        session.should(
            told,
            "F-7",
            &found("nothing on standard error".to_owned()),
            "say in one line on stderr what was no line",
        );
    }
    Ok(())
}

fn white_space(stage: &mut Stage<'_>) -> Checked {
    drive(stage, "T13")?;
    // A parent writes none between the parts, so that a child may cut there: what becomes of it is only told.
    let mut taken = 0;
    let vectors: Vec<Vector> = all_of("T13")?.into_iter().filter(|vector| vector.for_parents).collect();
    for vector in &vectors {
        let mut session = fresh(stage)?;
        session.referee.blind = true;
        session.referee.open(vector.task);
        session.send_bytes(&vector.bytes());
        let later = session.submit("DO", &stage.sample()?.0);
        let over = |session: &Session| session.answered(later) || session.is_over();
        if session.wait(over).is_err() {
            continue;
        }
        let answer = session.task(vector.task).answer.unwrap_or_default();
        let is_good = answer.finished && answer.form == Form::Good;
        taken += u32::from(is_good && compare(&vector.data(), &answer.data) != Same::No);
    }
    stage.inform(format!(
        "it takes {taken} of {} lines with white space or escapes where a child may cut",
        vectors.len()
    ));
    Ok(())
}

/// A task whose line has exactly so many bytes, its end not counted.
fn task_of_len(session: &Session, id: u32, len: u64) -> Vec<u8> {
    let empty =
        session.addressed(id, "DO", PARENT, Recipient::Process(session.address), &json("\"\"")).len() as u64;
    let letters = usize::try_from(len.saturating_add(1).saturating_sub(empty)).unwrap_or(0);
    let mut data = Vec::new();
    wire::write_str(&mut data, &"x".repeat(letters));
    session.frame(id, "DO", &data)
}

fn max_frame(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session = stage.ready()?;
    let max_frame = session.hello().max_frame;
    if max_frame > 2 * MAX_FRAME_DEFAULT {
        return Err(Stop::skip(format!("max_frame is {max_frame}: that takes too long here")));
    }
    session.patience *= 12;
    session.ends += session.patience * 2;
    // Its answer has a longer name, and may be above the parent's limit.
    session.referee.blind = true;
    let id = session.fresh_id();
    let whole = task_of_len(&session, id, u64::from(max_frame));
    session.referee.open(id);
    session.send_bytes(&whole);
    let answer = session.answer(id)?;
    must(
        answer.finished || code(&answer) == "too_large",
        "F-12",
        || format!("a line of exactly max_frame was answered with {}", said(&answer)),
        "read every line up to the max_frame you announce, 16,777,215 bytes if you announce none",
    )?;
    let id = session.fresh_id();
    let over = task_of_len(&session, id, u64::from(max_frame) + 1);
    session.referee.open(id);
    session.send_bytes(&over);
    session.wait(|session| session.answered(id) || session.process.ended().is_some())?;
    let hint = "at a line above your max_frame exit with code 4, or skip it and answer FAILED `too_large`";
    if let Some(answer) = session.task(id).answer {
        let is_named = code(&answer) == "too_large";
        session.should(is_named, "F-10", &format!("the answer is {}", said(&answer)), hint);
        return stage.check_alive(&mut session);
    }
    let ended = session.end("F-10", hint)?;
    must(ended == Ended::Code(4), "F-10", || format!("at a line above max_frame the child {ended}"), hint)
}

fn byte_by_byte(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session = fresh(stage)?;
    session.pacing = Pacing::Pieces(1);
    for case in ["T4", "T17"] {
        for vector in of_case(case)?.iter().filter(|vector| vector.request() == "DO") {
            accept(&mut session, vector)?;
        }
    }
    let data = json(r#""Zoë 🚢 \n\\""#);
    let answer = session.ask("DO", &data)?;
    must(
        answer.finished && compare(&data, &answer.data) == Same::Yes,
        "F-4",
        || "another value came back".to_owned(),
        "read up to LF, whatever a read gives, and decode whole lines only",
    )?;
    session.finish()
}

fn floats(stage: &mut Stage<'_>) -> Checked {
    // That one came back as an integer is only a warning.
    drive(stage, "T19")
}

fn choice(stage: &mut Stage<'_>) -> Checked {
    let setup = Setup { env: vec![("STOKEHOLD_CODEC", Some("msgpack,json"))], ..Setup::default() };
    let session = stage.greeted_by(&setup)?;
    let chosen = session.codec().name();
    stage.inform(format!("of msgpack and json it chooses {chosen}"));
    Ok(())
}
