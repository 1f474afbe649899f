//! E: handlers that fail, results that cannot be sent, and how a failure is told.

use stokehold_protocol::limits::MAX_FRAME_DEFAULT;

use super::{code, look, said};
use crate::conform::case::Case;
use crate::conform::referee::Answer;
use crate::conform::session::Session;
use crate::conform::stage::Stage;
use crate::conform::trace::json;
use crate::conform::verdict::{Checked, must};

pub(super) static CASES: &[Case] = &[
    Case::must("E1", "a handler that raises", &["R-25", "E-1"], raises),
    Case::must("E2", "a result that is no value", &["R-26"], bad_result),
    Case::must("E3", "a result above the parent's max_frame", &["R-27", "F-2", "E-10"], too_large),
    Case::must("E4", "an error text of 9 MiB, with everything in it", &["E-10", "E-1", "D-3"], long_text),
    Case::must("E5", "a task that fails between two that do not", &["R-25"], neighbours),
    Case::must("E6", "a failure with a code, a retry and a delay", &["E-2", "E-1"], told),
    Case::must("E7", "a failure without a code", &["E-1"], plain),
    Case::must("E8", "a code that nobody may make up", &["E-2"], made_up),
    Case::must("E9", "an input of the wrong kind", &["R-25", "D-13"], wrong_input),
    Case::should("E10", "data of a failure for programs", &["E-1"], with_data),
    Case::must("E11", "a result of 8 MiB", &["R-19", "F-2"], large_result),
];

/// The codes of the specification that a child may send.
const CODES: [&str; 8] = [
    "error",
    "unknown_request",
    "bad_data",
    "bad_message",
    "too_large",
    "cancelled",
    "overloaded",
    "unavailable",
];

/// Has a testee's request done that is to fail, and makes sure that the child goes on.
fn fails(stage: &Stage<'_>, session: &mut Session, request: &str, data: &[u8]) -> Checked<Answer> {
    stage.needs(session, request)?;
    let answer = session.ask(request, data)?;
    must(
        !answer.finished,
        "R-25",
        || format!("{request} was FINISHED"),
        "catch what a handler raises, and answer FAILED",
    )?;
    let fields = look(&answer.data);
    session.should(
        fields.is_object() && fields.get("code").is_some() && fields.get("message").is_some(),
        "E-1",
        &format!("FAILED has the data {fields:.80}"),
        "give FAILED a map with `code` and `message`",
    );
    stage.check_alive(session)?;
    Ok(answer)
}

fn raises(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let answer = fails(stage, &mut session, "test.raise", &json(r#""no such file: a.png""#))?;
    let fields = look(&answer.data);
    let text = fields.get("message").and_then(serde_json::Value::as_str).unwrap_or_default();
    must(
        code(&answer) == "error" && text.contains("no such file: a.png"),
        "R-25",
        || format!("the answer is {} {text:?}", said(&answer)),
        "the code is `error`, and the exception's text stands in `message`",
    )?;
    session.finish()
}

fn bad_result(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let answer = fails(stage, &mut session, "test.bad_result", &json("null"))?;
    must(
        code(&answer) == "bad_data",
        "R-26",
        || format!("the answer is {}", said(&answer)),
        "encode the result before you write anything of its frame, and answer FAILED `bad_data` if that fails",
    )?;
    session.finish()
}

fn too_large(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    session.patience *= 3;
    let data = json(&format!(r#"{{"bytes":{MAX_FRAME_DEFAULT}}}"#));
    let answer = fails(stage, &mut session, "test.big", &data)?;
    must(
        code(&answer) == "too_large",
        "R-27",
        || format!("the answer is {}", said(&answer)),
        "compare the length of each answer with the parent's max_frame, and answer FAILED `too_large` instead",
    )?;
    session.finish()
}

fn long_text(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    session.patience *= 3;
    let text = format!("\0 \u{1f600} grüße {}", "é".repeat(4 << 20) + &"x".repeat(1 << 20));
    let mut data = Vec::new();
    stokehold_protocol::wire::write_str(&mut data, &text);
    // A frame above the limit, and a text cut inside a character, are the referee's.
    fails(stage, &mut session, "test.raise", &data)?;
    session.finish()
}

fn neighbours(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.needs(&session, "test.raise")?;
    let (input, _) = stage.sample()?;
    let before = session.submit("DO", &input);
    let bad = session.submit("test.raise", &json(r#""on purpose""#));
    let after = session.submit("DO", &input);
    let (before, bad, after) = (session.answer(before)?, session.answer(bad)?, session.answer(after)?);
    must(
        before.finished && !bad.finished && after.finished,
        "R-25",
        || format!("the answers are {}, {}, {}", said(&before), said(&bad), said(&after)),
        "a failure is one task's, and the child goes on",
    )?;
    session.finish()
}

fn told(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let data = json(r#"{"code":"acme.busy","message":"later","retry":true,"after_ms":1500}"#);
    let answer = fails(stage, &mut session, "test.fail", &data)?;
    let fields = look(&answer.data);
    let holds = |key: &str, value: serde_json::Value| fields.get(key) == Some(&value);
    must(
        holds("code", "acme.busy".into()) && holds("message", "later".into()),
        "E-2",
        || format!("FAILED has the data {fields}"),
        "send the code and the message as the handler gave them",
    )?;
    must(
        holds("retry", true.into()),
        "E-1",
        || format!("FAILED has the data {fields}"),
        "send `retry` true if the handler says that another attempt may help",
    )?;
    session.should(
        holds("after_ms", 1500.into()),
        "E-1",
        "FAILED does not say `after_ms`",
        "send `after_ms` if the handler gave a delay",
    );
    session.finish()
}

fn plain(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    for data in ["null", "{}"] {
        let answer = fails(stage, &mut session, "test.fail", &json(data))?;
        must(
            code(&answer) == "error",
            "E-1",
            || format!("the answer is {}", said(&answer)),
            "without a code of the handler's the code is `error`",
        )?;
    }
    session.finish()
}

fn made_up(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    for made_up in ["nonsense", "crashed", "timeout"] {
        let answer = fails(stage, &mut session, "test.fail", &json(&format!(r#"{{"code":"{made_up}"}}"#)))?;
        let sent = look(&answer.data).get("code").and_then(|code| Some(code.as_str()?.to_owned()));
        let sent = sent.unwrap_or_else(|| "error".to_owned());
        must(
            sent.contains('.') || CODES.contains(&sent.as_str()),
            "E-2",
            || format!("FAILED has the code {sent:?}"),
            "send `error` for a code that is not in the table of SPEC 6.5 and has no dot",
        )?;
    }
    session.finish()
}

fn wrong_input(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let answer = fails(stage, &mut session, "test.spin", &json(r#""no map""#))?;
    session.should(
        code(&answer) == "bad_data",
        "D-13",
        &format!("an input that the handler does not take was answered by {}", said(&answer)),
        "answer FAILED `bad_data` for an input of the wrong kind",
    );
    session.finish()
}

fn with_data(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let answer = fails(stage, &mut session, "test.fail", &json(r#"{"data":{"a":[1]}}"#))?;
    let fields = look(&answer.data);
    if fields.get("data") != Some(&serde_json::json!({"a": [1]})) {
        // No statement asks for it: an SDK may have no way to send it.
        return Err(crate::conform::verdict::Stop::skip("the SDK sends no `data` with a failure"));
    }
    session.finish()
}

fn large_result(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.needs(&session, "test.big")?;
    session.patience *= 3;
    let answer = session.ask("test.big", &json(r#"{"bytes":8388608}"#))?;
    must(
        answer.finished && answer.data == super::window::bytes(8 << 20),
        "R-19",
        || format!("not FINISHED with 8 MiB: {}", said(&answer)),
        "write all bytes of a frame: a write may take only some of them",
    )?;
    session.finish()
}
