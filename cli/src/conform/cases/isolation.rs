//! S: what user code does must not reach the stream: prints, subprocesses, the environment, standard error.

use stokehold_protocol::wire;

use super::{look, said};
use crate::conform::case::Case;
use crate::conform::process::Setup;
use crate::conform::session::Session;
use crate::conform::stage::{Greeting, Stage};
use crate::conform::trace::json;
use crate::conform::verdict::{Checked, must};

pub(super) static CASES: &[Case] = &[
    Case::must("S1", "a handler prints", &["X-4", "F-1"], |stage| print(stage, "print")),
    Case::must("S2", "a handler writes to descriptor 1", &["X-4", "F-1"], |stage| print(stage, "raw")),
    Case::must("S3", "a subprocess writes to its output", &["X-4", "F-1"], |stage| print(stage, "process")),
    Case::must("S4", "a handler, and a subprocess, read standard input", &["X-4"], stdin),
    Case::should("S5", "a subprocess that outlives the child", &["X-5"], survivor),
    Case::must("S7", "64 MiB of stray prints lose no frame", &["X-4"], flood),
    Case::must("S9", "standard error is closed", &["X-4"], closed_stderr),
    Case::should("S10", "the environment of user code is clean", &["X-6"], environment),
    Case::must("S11", "prints over descriptors 3 and 4", &["X-2"], far_print),
];

const GUARD: &str = "before any other code runs keep copies of descriptors 0 and 1 for the protocol, put /dev/null on 0 and standard error on 1";

fn ask_to_print(session: &mut Session, text: &str, how: &str) -> Checked {
    let mut data = Vec::new();
    wire::write_map_len(&mut data, 2);
    wire::write_str(&mut data, "text");
    wire::write_str(&mut data, text);
    wire::write_str(&mut data, "how");
    wire::write_str(&mut data, how);
    let answer = session.ask("test.print", &data)?;
    must(answer.finished, "X-4", || format!("test.print by {how}: FAILED {}", said(&answer)), GUARD)
}

fn print(stage: &mut Stage<'_>, how: &str) -> Checked {
    let mut session = stage.ready()?;
    stage.needs(&session, "test.print")?;
    for text in ["stray words 7341", "", "\0\0\0\u{5}\0\0\0\u{1}x"] {
        ask_to_print(&mut session, text, how)?;
        stage.check_alive(&mut session)?;
    }
    session.finish()?;
    let arrived = session.stderr_text().contains("stray words 7341");
    session.should(arrived, "X-4", "what was printed is not on standard error", GUARD);
    Ok(())
}

fn stdin(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.needs(&session, "test.stdin")?;
    let (input, _) = stage.sample()?;
    for how in ["read", "process"] {
        let reading = session.submit("test.stdin", &json(&format!(r#"{{"how":"{how}"}}"#)));
        // Frames that must not be read by anybody else.
        let behind = session.submit("DO", &input);
        let answer = session.answer(reading)?;
        must(
            answer.finished && look(&answer.data) == 0,
            "X-4",
            || format!("by {how} it read {}", look(&answer.data)),
            GUARD,
        )?;
        session.answer(behind)?;
    }
    session.finish()
}

fn survivor(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.needs(&session, "test.spawn")?;
    let answer = session.ask("test.spawn", &json(r#"{"ms":60000}"#))?;
    must(
        answer.finished,
        "X-5",
        || format!("the answer is {}", said(&answer)),
        "start a program and answer with its process id",
    )?;
    session.close_input()?;
    session.end("L-1", "end at the end of input, also while a program that you started runs")?;
    session.wait(Session::is_over)?;
    must(
        session.is_over(),
        "X-5",
        || "a program that the child started holds its output open".to_owned(),
        "make the copies of the protocol's descriptors close-on-exec",
    )
}

fn flood(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.needs(&session, "test.print")?;
    session.patience *= 3;
    session.ends += session.patience * 4;
    // One print of 4 MiB after the other, with a task between them.
    let text = "0123456789abcde\n".repeat(1 << 18);
    for _ in 0..16 {
        ask_to_print(&mut session, &text, "print")?;
        stage.check_alive(&mut session)?;
    }
    session.finish()?;
    let printed = session.stderr_bytes;
    session.should(printed >= 64 << 20, "X-4", &format!("{printed} bytes of it came"), GUARD);
    Ok(())
}

fn closed_stderr(stage: &mut Stage<'_>) -> Checked {
    let setup = Setup { closed_stderr: true, ..Setup::default() };
    let mut session = stage.ready_in(&setup, &Greeting::default())?;
    stage.check_alive(&mut session)?;
    if stage.offers(&mut session, "test.print", &json(r#"{"text":"","how":"print"}"#))? {
        // Printing again may fail then; it must not get between the frames.
        let answer = session.ask("test.print", &json(r#"{"text":"nobody reads this","how":"print"}"#))?;
        if !answer.finished {
            stage.inform(format!("printing without standard error fails with {}", said(&answer)));
        }
        stage.check_alive(&mut session)?;
    }
    session.finish()
}

fn environment(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.needs(&session, "test.env")?;
    let answer = session.ask("test.env", &json("null"))?;
    let names = look(&answer.data);
    must(
        names.as_array().is_some_and(Vec::is_empty),
        "X-6",
        || format!("user code finds {names}"),
        "remove every STOKEHOLD_ variable from the environment before user code runs",
    )?;
    session.finish()
}

fn far_print(stage: &mut Stage<'_>) -> Checked {
    let setup =
        Setup { env: vec![("STOKEHOLD_IO", Some("fd:3,4"))], far_descriptors: true, ..Setup::default() };
    let mut session = stage.start(&setup)?;
    session.wait(|session| {
        session.referee.hello.is_some() || session.is_over() || session.stderr_text().contains("HELLO")
    })?;
    if session.referee.hello.is_none() {
        return Err(crate::conform::verdict::Stop::skip(
            "the child speaks over standard input and output only",
        ));
    }
    crate::conform::stage::greet(&mut session, &Greeting::default());
    crate::conform::stage::get_ready(&mut session)?;
    stage.needs(&session, "test.print")?;
    for how in ["print", "raw"] {
        ask_to_print(&mut session, "stray words", how)?;
        stage.check_alive(&mut session)?;
    }
    session.finish()
}
