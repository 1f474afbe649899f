//! F, its second half: what is in a frame. The test vectors are driven through the child, in the order of their ids.

use super::drive::{accept, drive, of_case};
use crate::conform::case::Case;
use crate::conform::same::{Same, compare};
use crate::conform::stage::Stage;
use crate::conform::trace::json;
use crate::conform::verdict::{Checked, must};

pub(super) static CASES: &[Case] = &[
    Case::must("F5", "byte strings of 64 KiB and 1 MiB", &["D-8"], |stage| drive(stage, "F5")).of_frames(),
    Case::must("F7", "nil as data", &["D-1"], nil),
    Case::must("F8", "ids from 1 to 2^32 − 1", &["R-2", "R-21"], |stage| drive(stage, "F8")).of_frames(),
    Case::must(
        "F9",
        "heads of every legal width, and senders that are none",
        &["M-7", "M-8", "M-9", "M-4", "M-11"],
        |stage| drive(stage, "F9"),
    )
    .of_frames(),
    Case::must("F10", "recipients, and what is none", &["M-5", "M-11"], |stage| drive(stage, "F10"))
        .of_frames(),
    Case::must("F13", "heads that are none", &["M-2", "M-3", "M-13"], |stage| drive(stage, "F13"))
        .of_frames(),
    Case::must("F14", "more than four fields", &["M-2"], |stage| drive(stage, "F14")).of_frames(),
    Case::must("F15", "bytes behind the value", &["D-1", "D-13", "D-14"], |stage| drive(stage, "F15"))
        .of_frames(),
    Case::must("F16", "the byte c1", &["D-7", "M-2", "M-3"], |stage| drive(stage, "F16")).of_frames(),
    Case::must("F17", "messages and values that end too early", &["M-6", "D-1", "D-13"], |stage| {
        drive(stage, "F17")
    })
    .of_frames(),
    Case::must("F18", "values 64 levels deep, and deeper", &["D-2", "D-13"], |stage| drive(stage, "F18"))
        .of_frames(),
    Case::must("F19", "counts whose values never come", &["D-9", "M-6"], |stage| drive(stage, "F19"))
        .of_frames(),
    Case::must("F20", "every kind of value comes back", &["D-8", "D-12", "D-3", "D-4"], |stage| {
        drive(stage, "F20")
    })
    .of_frames(),
    Case::should("F21", "floats stay floats", &["D-8"], floats).of_frames(),
    Case::must("F22", "texts that are not UTF-8", &["D-3", "M-3", "D-13"], |stage| drive(stage, "F22"))
        .of_frames(),
    Case::must("F23", "keys that are no text, or twice", &["D-4", "D-5", "D-13"], |stage| {
        drive(stage, "F23")
    })
    .of_frames(),
    Case::must("F24", "extension types", &["D-6", "D-13"], |stage| drive(stage, "F24")).of_frames(),
    Case::must("F25", "NaN, infinities, −0.0, floats of 32 bits", &["D-10", "D-8"], |stage| {
        drive(stage, "F25")
    })
    .of_frames(),
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
        let sent = vector.data();
        session.should(
            compare(&sent, &answer.data) == Same::Yes,
            "D-8",
            &format!("{}: {}, and it came back as an integer", vector.id, vector.why),
            "write a float as a float, also if it is whole",
        );
    }
    session.finish()
}
