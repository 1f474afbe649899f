//! H: how a session begins. HELLO, READY, what the environment offers, and what the parent's HELLO may hold.

use stokehold_protocol::limits::HELLO_LEN_MAX;

use super::{look, said};
use crate::conform::case::Case;
use crate::conform::process::{Ended, Input, Setup};
use crate::conform::session::Session;
use crate::conform::stage::{Greeting, Stage, get_ready, greet, hear_hello};
use crate::conform::trace::json;
use crate::conform::verdict::{Checked, Stop, must};

pub(super) static CASES: &[Case] = &[
    Case::must(
        "H1",
        "HELLO comes first, with v 1",
        &["S-1", "R-13", "V-1", "V-2", "F-3", "M-1", "D-1", "R-11"],
        hello_first,
    ),
    Case::must("H2", "READY comes", &["R-14", "R-15"], ready_comes),
    Case::should("H3", "four children start at once", &["R-14"], four_at_once),
    Case::should("H4", "sender and recipient are the given ones", &["R-16", "M-9"], addresses),
    Case::must("H5", "no version in common", &["V-3", "S-1"], no_version),
    Case::must("H6", "a HELLO with unknown keys and capabilities", &["D-17", "R-17", "V-5"], unknown_keys),
    Case::should("H7", "a second HELLO", &["R-10", "R-18"], second_hello),
    Case::must("H8", "nothing is asked before READY", &["S-5"], silent_before_ready),
    Case::must("H10", "no variable at all", &["V-2"], no_environment),
    Case::should("H11", "run in a terminal", &["X-8"], terminal),
    Case::must("H12", "no codec in common", &["V-3"], no_codec),
    Case::must("H13", "frames on descriptors 3 and 4", &["X-2"], far_descriptors),
    Case::must("H14", "descriptors that are not open", &["X-7"], missing_descriptors),
    Case::must("H15", "a max_frame below what there may be", &["F-14", "F-2"], small_max_frame),
    Case::must("H16", "DIE before READY was read", &["L-2"], die_at_once),
    Case::must("H17", "a max_frame of its own that may be", &["F-12"], own_max_frame),
    Case::should("H18", "a window above 1 says how its tasks are judged", &["L-11"], blame),
];

fn hello_first(stage: &mut Stage<'_>) -> Checked {
    let session = stage.greeted_by(&Setup::default())?;
    let hello = session.hello();
    must(
        hello.version == 1,
        "V-2",
        || format!("HELLO says v {}, and 1 was offered", hello.version),
        "write {\"v\": 1}",
    )?;
    let len = session.referee.hello_data.len();
    must(
        len < HELLO_LEN_MAX as usize,
        "F-3",
        || format!("HELLO has {len} bytes of data"),
        "leave `methods` out if the list is long",
    )
}

fn ready_comes(stage: &mut Stage<'_>) -> Checked {
    stage.ready()?;
    Ok(())
}

fn four_at_once(stage: &mut Stage<'_>) -> Checked {
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(stage.start(&Setup::default())?);
    }
    for session in &mut sessions {
        hear_hello(session)?;
        greet(session, &Greeting::default());
    }
    for session in &mut sessions {
        get_ready(session)?;
    }
    Ok(())
}

fn addresses(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    // What is wrong the referee notes.
    stage.check_alive(&mut session)?;
    session.finish()
}

/// What a child does that is offered nothing it knows.
fn refusal(stage: &mut Stage<'_>, variable: &'static str, offer: &'static str, expected: &str) -> Checked {
    let setup = Setup { env: vec![(variable, Some(offer))], ..Setup::default() };
    let mut session = stage.start(&setup)?;
    session.wait(|session| {
        session.referee.hello.is_some() || session.referee.refused.is_some() || session.is_over()
    })?;
    let hint =
        format!("read {variable}; without a match write FAILED {expected:?} with id 0 and exit with code 5");
    if session.referee.hello.is_some() {
        // "None of them needs to be read by a child that speaks version 1 over standard input and output."
        session.should(false, "V-3", &format!("HELLO, although {variable} offers {offer} only"), &hint);
        return Ok(());
    }
    let Some(data) = session.referee.refused.clone() else {
        return Err(Stop::fail("V-3", "neither HELLO nor FAILED", hint));
    };
    let failure = stokehold_protocol::Failure::decode(&data);
    must(failure.code == expected, "V-3", || format!("the code is {:?}", failure.code), &hint)?;
    let ended = session.end("V-3", &hint)?;
    must(ended == Ended::Code(5), "V-3", || format!("the child {ended}"), &hint)?;
    must(session.referee.frames == 1, "V-3", || "FAILED is not its only frame".to_owned(), &hint)?;
    let supported = look(&data).pointer("/data/supported").is_some_and(serde_json::Value::is_array);
    session.should(
        supported,
        "V-3",
        "FAILED does not say what is supported",
        "give it the data {\"supported\": […]}",
    );
    Ok(())
}

fn no_version(stage: &mut Stage<'_>) -> Checked {
    refusal(stage, "STOKEHOLD_PROTO", "2,3", "version")
}

fn no_codec(stage: &mut Stage<'_>) -> Checked {
    refusal(stage, "STOKEHOLD_CODEC", "x-grease", "codec")
}

fn unknown_keys(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.greeted_by(&Setup::default())?;
    let address = session.address;
    let hello = format!(
        r#"{{"x-new":[{{"a":null}}],"caps":["teleport","started2"],"v":1,"pid":{address},"parent":1234,"max_frame":16777215,"spin":true,"z":1.5}}"#
    );
    session.send(0, "HELLO", &json(&hello));
    get_ready(&mut session)?;
    stage.check_alive(&mut session)?;
    session.finish()
}

fn second_hello(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    greet(&mut session, &Greeting::default());
    stage.check_alive(&mut session)?;
    session.finish()
}

fn silent_before_ready(stage: &mut Stage<'_>) -> Checked {
    // The referee fails a request before READY, and anything but HELLO at the start.
    let mut session = stage.greeted_by(&Setup::default())?;
    greet(&mut session, &Greeting { grease: false, ..Greeting::default() });
    get_ready(&mut session)?;
    let known = ["READY", "PROGRESS", "LOG", "CREDIT"];
    let other = session.referee.loose.iter().find(|(name, _)| !known.contains(&name.as_str()));
    let other = other.map(|(name, _)| name.clone());
    must(
        other.is_none(),
        "S-5",
        || format!("{} before READY", other.unwrap_or_default()),
        "say nothing but HELLO, PROGRESS and LOG before READY",
    )
}

fn no_environment(stage: &mut Stage<'_>) -> Checked {
    let names = [
        "STOKEHOLD_IO",
        "STOKEHOLD_PROTO",
        "STOKEHOLD_CODEC",
        "STOKEHOLD_WORKER",
        "STOKEHOLD_RUN",
        "STOKEHOLD_PARENT",
    ];
    let setup = Setup { env: names.map(|name| (name, None)).to_vec(), ..Setup::default() };
    let mut session = stage.ready_in(&setup, &Greeting::default())?;
    stage.check_alive(&mut session)?;
    session.finish()
}

fn terminal(stage: &mut Stage<'_>) -> Checked {
    let setup = Setup { env: vec![("STOKEHOLD_IO", None)], input: Input::Terminal, ..Setup::default() };
    let mut session = stage.start(&setup)?;
    let hint = "when descriptor 0 is a terminal and STOKEHOLD_IO is not set, say on stderr how to run it, and exit with code 2";
    let ended = session.end("X-8", hint)?;
    must(ended == Ended::Code(2), "X-8", || format!("the child {ended}"), hint)?;
    must(session.stderr_bytes > 0, "X-8", || "nothing on standard error".to_owned(), hint)
}

/// Skips a child that does not look at `STOKEHOLD_IO`, as it may.
fn skip_if_deaf(session: &Session) -> Checked {
    if session.stderr_text().contains("HELLO") || session.referee.hello.is_some() {
        return Err(Stop::skip("the child speaks over standard input and output only"));
    }
    Ok(())
}

fn far_descriptors(stage: &mut Stage<'_>) -> Checked {
    let setup =
        Setup { env: vec![("STOKEHOLD_IO", Some("fd:3,4"))], far_descriptors: true, ..Setup::default() };
    let mut session = stage.start(&setup)?;
    session.wait(|session| {
        session.referee.hello.is_some() || session.is_over() || session.stderr_text().contains("HELLO")
    })?;
    if session.referee.hello.is_none() {
        skip_if_deaf(&session)?;
    }
    hear_hello(&mut session)?;
    greet(&mut session, &Greeting::default());
    get_ready(&mut session)?;
    stage.check_alive(&mut session)?;
    session.finish()
}

fn missing_descriptors(stage: &mut Stage<'_>) -> Checked {
    let hint = "check both descriptors of STOKEHOLD_IO before HELLO; say on stderr what is wrong, and exit with code 2";
    for value in ["fd:97,98", "fd:x", "carrier-pigeon"] {
        let setup = Setup { env: vec![("STOKEHOLD_IO", Some(value))], ..Setup::default() };
        let mut session = stage.start(&setup)?;
        session.wait(|session| session.referee.hello.is_some() || session.process.ended().is_some())?;
        skip_if_deaf(&session)?;
        let ended = session.end("X-7", hint)?;
        let found = || format!("with STOKEHOLD_IO={value} the child {ended}");
        must(ended == Ended::Code(2), "X-7", found, hint)?;
        must(session.stderr_bytes > 0, "X-7", || format!("nothing on stderr about {value:?}"), hint)?;
    }
    Ok(())
}

fn small_max_frame(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let greeting = Greeting { max_frame: 1, ..Greeting::default() };
    let mut session = stage.ready_in(&Setup::default(), &greeting)?;
    let text = format!("{:?}", "a".repeat(60_000));
    let answer = session.ask("DO", &json(&text))?;
    must(
        answer.finished,
        "F-14",
        || format!("an answer of 60 KB was refused with {}", said(&answer)),
        "take a max_frame below 65,536 as 65,536",
    )?;
    // No parent announces less than the default ([F-13]), so that a child which reads no HELLO ([R-16]) is right all the same.
    if session.referee.is_addressed {
        let answer = session.ask("DO", &json(&format!("{:?}", "a".repeat(70_000))))?;
        session.should(
            !answer.finished,
            "F-2",
            "an answer above the parent's max_frame was written",
            "answer FAILED `too_large` instead of a frame above the max_frame of the parent's HELLO",
        );
    }
    session.finish()
}

fn die_at_once(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.greeted_by(&Setup::default())?;
    greet(&mut session, &Greeting { grease: false, ..Greeting::default() });
    session.send(0, "DIE", &json("null"));
    let hint = "read DIE in any state, and exit with code 0";
    let ended = session.end("L-2", hint)?;
    must(ended == Ended::Code(0), "L-2", || format!("after DIE the child {ended}"), hint)
}

fn own_max_frame(stage: &mut Stage<'_>) -> Checked {
    let session = stage.greeted_by(&Setup::default())?;
    let said = look(&session.referee.hello_data).get("max_frame").cloned();
    let Some(said) = said else { return Ok(()) };
    let fits = said.as_u64().is_some_and(|bytes| (65_536..=134_217_727).contains(&bytes));
    must(
        fits,
        "F-12",
        || format!("max_frame is {said}"),
        "announce a max_frame from 65,536 to 134,217,727, or none",
    )
}

fn blame(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.greeted_by(&Setup::default())?;
    let hello = session.hello();
    if hello.window <= 1 {
        return Ok(());
    }
    let says = hello.serial || session.can(stokehold_protocol::Capability::Started);
    session.should(
        says,
        "L-11",
        "a window above 1, and neither `serial` nor `started`",
        "say `serial` true if tasks are done in order, or list `started`",
    );
    Ok(())
}
