//! PF: frames in pieces, frames that are none, and frames that are too large.

use std::io;
use std::time::Duration;

use stokehold_protocol::limits::{FRAME_LEN_CEILING, MAX_FRAME_FLOOR};
use stokehold_protocol::{ChildHello, Recipient, write_head};

use super::{fatal, forged, plain};
use crate::conform::parent::actor::{Actor, Played, Task};
use crate::conform::parent::evidence::Evidence;
use crate::conform::parent::plot::{LATE, Plot};
use crate::conform::parent::record::Event;
use crate::conform::trace::{frame, json};
use crate::conform::verdict::{Checked, must};

/// A parent reads so much of a stream before it sees that it is none: its buffers, and what pipes hold.
const READ_AHEAD: u64 = 8 << 20;

/// How much of such a stream there is.
const FLOOD: u64 = 192 << 20;

/// What a program prints that was not meant for its parent.
const STRAY: &str = "Traceback (most recent call last)";

pub(super) static PLOTS: &[Plot] = &[
    Plot::must("PF1", "answers a byte at a time", &["F-4"], byte_by_byte)
        .judged(|evidence| evidence.nothing_ran_twice("F-4")),
    Plot::must("PF2", "many frames in one write", &["F-4", "R-8"], together)
        .judged(|evidence| evidence.nothing_ran_twice("F-4")),
    Plot::must("PF3", "a length of 2 GiB, and bytes without end", &["F-5", "F-11"], huge_length)
        .judged(stops_reading),
    Plot::must("PF4", "a length below 5", &["F-5"], short_length),
    Plot::must("PF5", "a text behind 1,000 good frames", &["F-5"], stray_text),
    Plot::should("PF6", "the text is shown", &["F-6"], stray_text).judged(stray_is_shown),
    Plot::must("PF7", "part of an answer, and nothing more", &["R-47", "L-17"], half_and_stall)
        .ending_by(LATE)
        .judged(|evidence| evidence.does_not_spin("R-47")),
    Plot::must("PF8", "part of an answer, and the exit", &["L-9", "R-19"], |actor| half_and_exit(actor, 1)),
    Plot::must("PF9", "part of an answer, and an exit that says all is well", &["L-8", "L-9"], |actor| {
        half_and_exit(actor, 0)
    }),
    Plot::must("PF10", "the header of the largest frame, and hardly more", &["F-11", "D-9"], announced)
        .ending_by(LATE)
        .judged(|evidence| evidence.memory_is_bounded("F-11")),
    Plot::should("PF11", "an answer above the parent's max_frame", &["F-8", "F-9", "F-11"], |actor| {
        too_large(actor, "FINISHED")
    })
    .own(|seq| seq == 2)
    .judged(answer_is_too_large),
    Plot::should("PF12", "an ITEM above the parent's max_frame", &["F-8", "F-9"], |actor| {
        too_large(actor, "ITEM")
    })
    .own(|seq| seq == 2)
    .judged(answer_is_too_large),
    Plot::should("PF13", "a LOG above the parent's max_frame", &["F-8", "F-9"], |actor| {
        too_large(actor, "LOG")
    })
    .judged(|evidence| {
        evidence.nothing_ran_twice("F-8")?;
        evidence.memory_is_bounded("F-11")
    }),
    Plot::must("PF14", "a task above the child's max_frame", &["F-2"], |actor| {
        actor.begin(&ChildHello { max_frame: MAX_FRAME_FLOOR, ..ChildHello::default() })?;
        actor.serve()
    })
    .tasks(|| with_text(3, 100_000))
    .own(|seq| seq == 3)
    .judged(input_is_too_large),
    Plot::must("PF15", "a max_frame that is smaller than may be", &["F-14"], |actor| {
        odd_max_frame(actor, r#"{"v":1,"max_frame":1000}"#)
    })
    .tasks(|| with_text(3, 60_000)),
    Plot::must("PF16", "a max_frame that is larger than may be", &["F-14"], |actor| {
        odd_max_frame(actor, r#"{"v":1,"max_frame":1099511627776}"#)
    })
    .tasks(|| with_text(3, 1_000_000)),
];

/// Six inputs, of which that one has a text of that length.
pub(super) fn with_text(long: u64, len: usize) -> Vec<String> {
    let text = |seq: u64| if seq == long { "a".repeat(len) } else { "a".to_owned() };
    (1..=6).map(|seq| serde_json::json!({"task": seq, "text": text(seq)}).to_string()).collect()
}

fn answer(task: &Task) -> Vec<u8> {
    frame(task.id, "FINISHED", 0, Recipient::Anyone, &task.data)
}

fn byte_by_byte(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        actor.drip(&answer(&task), Duration::from_millis(1))?;
    }
    actor.leave()
}

fn together(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        let news = (0..50).map(|done| plain(task.id, "PROGRESS", &done.to_string()));
        let logs = (0..50).map(|_| plain(0, "LOG", r#""working""#));
        let frames: Vec<_> = news.chain(logs).chain([answer(&task)]).collect();
        actor.send_together(&frames)?;
    }
    actor.leave()
}

fn huge_length(actor: &mut Actor) -> Played {
    fatal(actor, |actor, task| {
        actor.breaks("F-5")?;
        actor.raw(&0x7fff_ffff_u32.to_be_bytes())?;
        actor.raw(&task.id.to_be_bytes())?;
        actor.pour(&[0], FLOOD)?;
        actor.stall()
    })
}

fn stops_reading(evidence: &Evidence<'_>) -> Checked {
    must(
        evidence.taken() <= READ_AHEAD,
        "F-5",
        || format!("the parent took {} MiB behind a length of 2 GiB", evidence.taken() >> 20),
        "take a length below 5 or above 134,217,727 for the end of the stream: read no more, and end the child",
    )?;
    evidence.memory_is_bounded("F-11")
}

fn short_length(actor: &mut Actor) -> Played {
    fatal(actor, |actor, task| {
        actor.breaks("F-5")?;
        actor.raw(&[0, 0, 0, 4, 0, 0, 0, 0])?;
        actor.send(&forged(task.id))?;
        actor.serve()
    })
}

fn stray_text(actor: &mut Actor) -> Played {
    fatal(actor, |actor, task| {
        for _ in 0..1_000 {
            actor.say(0, "LOG", &json(r#"{"level":"info","msg":"working"}"#))?;
        }
        actor.breaks("F-5")?;
        actor.raw(format!("{STRAY}\n").as_bytes())?;
        actor.send(&forged(task.id))?;
        actor.serve()
    })
}

fn stray_is_shown(evidence: &Evidence<'_>) -> Checked {
    // So much of it as there has to be.
    let shown = STRAY.get(..16).unwrap_or(STRAY);
    must(
        evidence.words().contains(shown),
        "F-6",
        || "the child's text is nowhere in the outcomes and on standard error".to_owned(),
        "show up to 32 bytes from where a frame should have begun, as text if they are printable",
    )
}

fn half(actor: &mut Actor, task: &Task) -> io::Result<()> {
    let answer = answer(task);
    actor.note("half of an answer")?;
    actor.raw(answer.get(..answer.len() / 2).unwrap_or_default())
}

fn half_and_stall(actor: &mut Actor) -> Played {
    fatal(actor, |actor, task| {
        half(actor, task)?;
        actor.stall()
    })
}

fn half_and_exit(actor: &mut Actor, code: u8) -> Played {
    fatal(actor, |actor, task| {
        half(actor, task)?;
        Ok(code)
    })
}

fn announced(actor: &mut Actor) -> Played {
    fatal(actor, |actor, task| {
        actor.greeted()?;
        let len = actor.max_frame();
        actor.raw(&len.to_be_bytes())?;
        actor.raw(&task.id.to_be_bytes())?;
        let mut head = Vec::new();
        write_head(&mut head, "FINISHED", 0, Recipient::Anyone);
        actor.raw(&head)?;
        // An array of so many values, which never come.
        actor.raw(&[0xdd, 0x00, 0xff, 0xff, 0x00])?;
        actor.stall()
    })
}

/// With the second task in hand: a frame that is one byte larger than the parent reads.
fn too_large(actor: &mut Actor, request: &str) -> Played {
    if actor.ordinal() > 1 {
        return actor.honest();
    }
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        if task.number() != 2 {
            actor.finish(&task)?;
            continue;
        }
        actor.greeted()?;
        let len = actor.max_frame().saturating_add(1);
        if len > FRAME_LEN_CEILING {
            actor.record(Event::Unfit("the parent reads every frame".to_owned()))?;
            actor.finish(&task)?;
            continue;
        }
        let mut head = Vec::new();
        write_head(&mut head, request, 0, Recipient::Anyone);
        let bytes = len as usize - 4 - head.len() - 5;
        let mut data = vec![0xc6];
        data.extend(u32::try_from(bytes).unwrap_or(0).to_be_bytes());
        data.resize(5 + bytes, 0x61);
        actor.widen();
        actor.say(task.id, request, &data)?;
        if request != "FINISHED" {
            actor.finish(&task)?;
        }
    }
    actor.leave()
}

fn answer_is_too_large(evidence: &Evidence<'_>) -> Checked {
    let hint = "skip the frame, end its task with too_large, and go on with the next frame";
    evidence.must_fail_by(2, "too_large", "F-9", hint)?;
    evidence.nothing_ran_twice("F-8")?;
    evidence.memory_is_bounded("F-11")
}

fn input_is_too_large(evidence: &Evidence<'_>) -> Checked {
    let hint =
        "end a task whose frame is above the child's max_frame with too_large, and go on with the others";
    evidence.must_fail_by(3, "too_large", "F-2", hint)
}

fn odd_max_frame(actor: &mut Actor, hello: &str) -> Played {
    actor.say(0, "HELLO", &json(hello))?;
    actor.say(0, "READY", &json("null"))?;
    actor.serve()
}
