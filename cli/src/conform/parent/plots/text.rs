//! PT: children in text mode, where a parent offers it.

use stokehold_protocol::ChildHello;
use stokehold_protocol::limits::FRAME_LEN_CEILING;

use super::fatal;
use crate::conform::parent::actor::{Actor, Played, Task};
use crate::conform::parent::evidence::Evidence;
use crate::conform::parent::plot::Plot;
use crate::conform::verdict::{Checked, must};
use crate::value;

pub(super) static PLOTS: &[Plot] = &[
    Plot::must("PT1", "an honest child in text mode", &["S-3", "S-4", "T-2", "T-8", "T-9"], |actor| {
        actor.speaks_lines()?;
        actor.honest()
    })
    .judged(|evidence| evidence.nothing_ran_twice("S-3")),
    Plot::must("PT2", "lines with white space, without an id, and with nothing in them", &["F-4"], odd_lines)
        .judged(|evidence| evidence.nothing_ran_twice("F-4")),
    Plot::must("PT3", "a line that is no JSON", &["M-14"], |actor| {
        bad_line(actor, "M-14", "[\"FINISHED\",0,null,")
    }),
    Plot::must("PT4", "a line that begins like no message", &["F-5"], |actor| {
        bad_line(actor, "F-5", "Working on ")
    }),
    Plot::must("PT5", "a result that stands for no value", &["D-15"], no_value)
        .own(|seq| seq == 2)
        .judged(is_bad_data),
    Plot::must("PT6", "an ITEM that stands for no value", &["T-16"], no_item)
        .own(|seq| seq == 2)
        .judged(is_bad_data),
    Plot::must("PT7", "killed in the middle of a line", &["L-9", "R-19"], half_a_line),
    Plot::must("PT8", "an answer in a line without end", &["T-4", "F-11"], |actor| {
        endless(actor, "T-4", "ID [\"FINISHED\",0,null,\"")
    })
    .judged(|evidence| stops_reading(evidence, "T-4", LONGEST_LINE + READ_AHEAD)),
    Plot::should("PT9", "a line without end that begins like none", &["T-6"], |actor| {
        endless(actor, "T-6", "Working on ")
    })
    .judged(|evidence| stops_reading(evidence, "T-6", READ_AHEAD)),
];

/// No line is longer.
const LONGEST_LINE: u64 = FRAME_LEN_CEILING as u64;

/// What may be in pipes and buffers besides.
const READ_AHEAD: u64 = 8 << 20;

fn line(task: &Task, text: &str) -> Vec<u8> {
    let mut data = Vec::new();
    // The kit's own inputs are values.
    let _ = value::write_json(&task.data, &mut data);
    text.replace("ID", &task.id.to_string()).replace("DATA", &String::from_utf8_lossy(&data)).into_bytes()
}

fn odd_lines(actor: &mut Actor) -> Played {
    if !actor.speaks_lines()? {
        return actor.honest();
    }
    actor.hello(&ChildHello::default())?;
    actor.raw(b" \t\r\n[ \"LOG\" , 0 , null , \"x\" ]\r\n")?;
    actor.say(0, "READY", b"\xc0")?;
    while let Some(task) = actor.task()? {
        actor.raw(b"\n\n[\"PROGRESS\",0,null,1]\n0 [\"FUTURE\",0,null,[ 1 ,2]]\n")?;
        actor.answers_by_line(&task, &line(&task, "ID [\t\"FINISHED\", 0 ,null, DATA ]\r\n"))?;
    }
    actor.leave()
}

fn bad_line(actor: &mut Actor, statement: &str, text: &str) -> Played {
    if actor.ordinal() > 1 || !actor.speaks_lines()? {
        return actor.honest();
    }
    fatal(actor, |actor, task| {
        actor.breaks(statement)?;
        actor.raw(format!("{text}{}\n", task.id).as_bytes())?;
        actor.finish(task)?;
        actor.serve()
    })
}

fn endless(actor: &mut Actor, statement: &str, beginning: &str) -> Played {
    if actor.ordinal() > 1 || !actor.speaks_lines()? {
        return actor.honest();
    }
    fatal(actor, |actor, task| {
        actor.breaks(statement)?;
        actor.raw(&line(task, beginning))?;
        actor.pour(b"x", LONGEST_LINE + 4 * READ_AHEAD)?;
        actor.stall()
    })
}

fn stops_reading(evidence: &Evidence<'_>, statement: &'static str, most: u64) -> Checked {
    let taken = evidence.taken();
    let hint = "do not wait for the end of a line that cannot be one: end the child";
    must(
        taken <= most,
        statement,
        || format!("the parent took {} MiB of a line without end", taken >> 20),
        hint,
    )?;
    evidence.memory_is_bounded(statement)
}

fn no_value(actor: &mut Actor) -> Played {
    if !actor.speaks_lines()? {
        return actor.honest();
    }
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        if task.number() == 2 {
            actor.answers_by_line(&task, &line(&task, "ID [\"FINISHED\",0,null,{\"a\":1,\"a\":2}]\n"))?;
        } else {
            actor.finish(&task)?;
        }
    }
    actor.leave()
}

fn no_item(actor: &mut Actor) -> Played {
    if !actor.speaks_lines()? {
        return actor.honest();
    }
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        if task.number() == 2 {
            actor.raw(&line(&task, "ID [\"ITEM\",0,null,{\"$bin\":\"?\"}]\n"))?;
        }
        actor.finish(&task)?;
    }
    actor.leave()
}

fn is_bad_data(evidence: &Evidence<'_>) -> Checked {
    if evidence.code(2).is_none() && evidence.is_unfit() {
        return Ok(());
    }
    let hint = "end a task whose answer stands for no value with bad_data, and keep the connection";
    evidence.must_fail_by(2, "bad_data", "D-15", hint)?;
    evidence.nothing_ran_twice("D-15")
}

fn half_a_line(actor: &mut Actor) -> Played {
    if actor.ordinal() > 1 || !actor.speaks_lines()? {
        return actor.honest();
    }
    fatal(actor, |actor, task| {
        // It would be a whole answer, had it an end.
        actor.note("an answer without its end")?;
        actor.raw(&line(task, "ID [\"FINISHED\",0,null,\"forged\"]"))?;
        actor.die()
    })
}
