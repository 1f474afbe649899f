//! PE: FAILED, whatever is in it.

use stokehold_protocol::ChildHello;

use super::midway;
use crate::conform::parent::actor::{Actor, Played};
use crate::conform::parent::evidence::Evidence;
use crate::conform::parent::plot::{Plot, numbered};
use crate::conform::trace::json;
use crate::conform::verdict::{Checked, must};

pub(super) static PLOTS: &[Plot] = &[
    Plot::must("PE1", "FAILED with data that is no map", &["E-5"], |actor| failures(actor, NO_MAPS))
        .own(|seq| seq <= 4)
        .judged(|evidence| all_end_by(evidence, "E-5", &["error"; 4])),
    Plot::must("PE2", "wrong types inside FAILED", &["E-6", "D-17"], |actor| failures(actor, WRONG_TYPES))
        .own(|seq| seq <= 4)
        .judged(|evidence| all_end_by(evidence, "E-6", &["error"; 4])),
    Plot::must("PE3", "codes that are not the child's to say", &["E-3"], |actor| {
        failures(actor, NOT_ITS_OWN)
    })
    .own(|seq| seq <= 6)
    .tasks(|| numbered(8))
    .judged(|evidence| all_end_by(evidence, "E-3", &["error"; 6])),
    Plot::must("PE4", "codes of the table, and codes of its own", &["E-3", "E-2"], |actor| {
        failures(actor, ITS_OWN)
    })
    .own(|seq| seq <= 4)
    .judged(|evidence| {
        all_end_by(evidence, "E-3", &["acme.no_such_image", "bad_data", "unknown_request", "too_large"])
    }),
    Plot::must("PE5", "retry decides, and the code does not", &["E-4"], retries)
        .own(|seq| seq <= 3)
        .judged(retry_decides),
    Plot::must("PE6", "FAILED with id 0 in the middle", &["E-8"], |actor| {
        midway(actor, |actor, _| {
            actor.breaks("E-8")?;
            actor.say(0, "FAILED", &json(r#"{"code":"error","message":"all is lost"}"#))
        })
    }),
    Plot::must("PE7", "a message of a million bytes", &["E-7", "E-6"], long_message)
        .own(|seq| seq == 2)
        .judged(|evidence| {
            evidence.must_fail_by(2, "error", "E-7", "take what can be read of a FAILED, cut if need be")?;
            evidence.nothing_ran_twice("E-6")
        }),
];

const NO_MAPS: &[&str] = &["null", "17", "\"no such file\"", "[\"no\",{\"code\":\"lost\"}]"];

const WRONG_TYPES: &[&str] = &[
    r#"{"code":17,"message":"x"}"#,
    r#"{"code":"error","message":["x"],"retry":"yes","after_ms":-1,"begun":0,"trace":1,"chain":7}"#,
    r#"{"retry":1,"x-new":{"a":[]}}"#,
    r#"{"code":null,"chain":[1,"x",null]}"#,
];

const NOT_ITS_OWN: &[&str] = &[
    r#"{"code":"timeout"}"#,
    r#"{"code":"crashed"}"#,
    r#"{"code":"killed"}"#,
    r#"{"code":"lost"}"#,
    r#"{"code":"rejected"}"#,
    r#"{"code":"made_up_without_a_dot"}"#,
];

const ITS_OWN: &[&str] = &[
    r#"{"code":"acme.no_such_image","message":"x"}"#,
    r#"{"code":"bad_data"}"#,
    r#"{"code":"unknown_request"}"#,
    r#"{"code":"too_large"}"#,
];

/// The first tasks fail so, the others do not.
fn failures(actor: &mut Actor, failures: &[&str]) -> Played {
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        let place = usize::try_from(task.number()).unwrap_or(0).checked_sub(1);
        match place.and_then(|place| failures.get(place)) {
            Some(failure) => actor.fail(&task, failure)?,
            None => actor.finish(&task)?,
        }
    }
    actor.leave()
}

/// The first tasks ended by these codes, and none ran again.
fn all_end_by(evidence: &Evidence<'_>, statement: &'static str, codes: &[&str]) -> Checked {
    for (seq, code) in (1..).zip(codes) {
        let hint = "take from FAILED what can be read; `error` stands for a code that is none, or not the child's to say";
        evidence.must_fail_by(seq, code, statement, hint)?;
    }
    evidence.nothing_ran_twice(statement)
}

/// The first is not to be tried again, the second is, once, and the third always.
fn retries(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    let mut before = false;
    while let Some(task) = actor.task()? {
        match task.number() {
            1 => actor.fail(&task, r#"{"code":"overloaded","message":"no room"}"#)?,
            2 if !before => {
                before = true;
                actor.fail(&task, r#"{"code":"bad_data","retry":true,"after_ms":1}"#)?;
            }
            3 => actor.fail(&task, r#"{"code":"acme.busy","retry":true,"after_ms":1}"#)?,
            _ => actor.finish(&task)?,
        }
    }
    actor.leave()
}

fn retry_decides(evidence: &Evidence<'_>) -> Checked {
    let hint = "run a task that FAILED again if `retry` is true, whatever its code, and else not";
    evidence.must_fail_by(1, "overloaded", "E-4", hint)?;
    must(
        evidence.attempts(1) == 1,
        "E-4",
        || format!("the task 1 ran {} times", evidence.attempts(1)),
        hint,
    )?;
    // A parent need not try again, but if it does not it must be for want of attempts.
    if evidence.attempts(2) > 1 {
        evidence.must_succeed(2, "E-4", hint)?;
    } else {
        evidence.must_fail_by(2, "bad_data", "E-4", hint)?;
    }
    evidence.must_fail_by(3, "acme.busy", "E-4", hint)
}

fn long_message(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        if task.number() == 2 {
            let text = "ü".repeat(500_000);
            actor.fail(&task, &serde_json::json!({"code": "error", "message": text}).to_string())?;
        } else {
            actor.finish(&task)?;
        }
    }
    actor.leave()
}
