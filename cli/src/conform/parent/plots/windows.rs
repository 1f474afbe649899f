//! PW: how many tasks a child may have, and who may wait for whom.

use std::time::Duration;

use stokehold_protocol::ChildHello;

use super::frames::with_text;
use super::plain;
use crate::conform::parent::actor::{Actor, Played};
use crate::conform::parent::plot::{LATE, Plot, numbered};
use crate::conform::trace::json;

/// Long enough for a task that must not come.
const MOMENT: Duration = Duration::from_millis(50);

/// What a child writes before it reads on: more than any pipe holds.
const WRITTEN: u64 = 4 << 20;

pub(super) static PLOTS: &[Plot] = &[
    Plot::must("PW1", "a window of 3, answered in reverse", &["W-1", "R-23", "R-3"], reverse)
        .tasks(|| numbered(30))
        .judged(|evidence| evidence.nothing_ran_twice("R-23")),
    Plot::must("PW2", "a window of a thousand million", &["W-3"], |actor| {
        odd_window(actor, r#"{"v":1,"window":1000000000,"serial":true}"#)
    })
    .tasks(|| numbered(200))
    .judged(|evidence| {
        evidence.nothing_ran_twice("W-3")?;
        evidence.memory_is_bounded("W-3")
    }),
    Plot::must("PW3", "a window of 0 in HELLO", &["W-3"], |actor| odd_window(actor, r#"{"v":1,"window":0}"#))
        .judged(|evidence| evidence.nothing_ran_twice("W-3")),
    Plot::must("PW4", "a window of 0 by CREDIT, and then 1 again", &["W-2"], pause)
        .judged(|evidence| evidence.nothing_ran_twice("W-2")),
    Plot::must("PW5", "a smaller window by CREDIT", &["W-1", "W-2"], shrink)
        .tasks(|| numbered(24))
        .judged(|evidence| evidence.nothing_ran_twice("W-1")),
    Plot::must("PW6", "a smaller window by READY", &["W-2"], smaller_at_ready)
        .tasks(|| numbered(12))
        .judged(|evidence| evidence.nothing_ran_twice("W-2")),
    Plot::should("PW7", "window_bytes", &["W-5"], bytes).tasks(large),
    Plot::must("PW8", "a child that writes and does not read", &["W-7", "W-8"], writes_first)
        .tasks(|| with_text(3, 1_000_000))
        .judged(|evidence| evidence.nothing_ran_twice("W-7")),
    Plot::must("PW9", "a child that reads slowly", &["W-7"], sips)
        .tasks(|| with_text(1, 400_000))
        .judged(|evidence| evidence.nothing_ran_twice("W-7")),
    Plot::must("PW10", "a child that never reads", &["L-17", "R-31"], never_reads)
        .tasks(|| with_text(1, 1_000_000))
        .ending_by(LATE)
        .judged(|evidence| evidence.does_not_spin("L-17")),
];

/// Gathers what comes, and answers the last first.
fn reverse(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello { window: 3, serial: false, ..ChildHello::default() })?;
    while let Some(task) = actor.task()? {
        actor.listen(MOMENT / 5)?;
        let mut tasks = actor.take_waiting();
        tasks.insert(0, task);
        for task in tasks.iter().rev() {
            actor.finish(task)?;
        }
    }
    actor.leave()
}

fn odd_window(actor: &mut Actor, hello: &str) -> Played {
    actor.say(0, "HELLO", &json(hello))?;
    actor.say(0, "READY", &json("null"))?;
    while let Some(task) = actor.task()? {
        actor.listen(Duration::from_millis(1))?;
        actor.finish(&task)?;
    }
    actor.leave()
}

fn pause(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    let mut id = 70_000;
    while let Some(task) = actor.task()? {
        id += 1;
        actor.say(0, "CREDIT", &json(r#"{"window":0}"#))?;
        // The refusal tells that it was read.
        actor.ask(id)?;
        actor.finish(&task)?;
        actor.listen(MOMENT)?;
        actor.say(0, "CREDIT", &json(r#"{"window":1}"#))?;
    }
    actor.leave()
}

fn shrink(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello { window: 4, serial: true, ..ChildHello::default() })?;
    let mut served = 0;
    while let Some(task) = actor.task()? {
        served += 1;
        if served == 8 {
            actor.say(0, "CREDIT", &json(r#"{"window":1}"#))?;
            actor.ask(70_000)?;
        }
        actor.listen(MOMENT / 5)?;
        actor.finish(&task)?;
    }
    actor.leave()
}

fn smaller_at_ready(actor: &mut Actor) -> Played {
    actor.hello(&ChildHello { window: 8, serial: true, ..ChildHello::default() })?;
    actor.say(0, "READY", &json(r#"{"window":2}"#))?;
    while let Some(task) = actor.task()? {
        actor.listen(MOMENT / 2)?;
        actor.finish(&task)?;
    }
    actor.leave()
}

fn large() -> Vec<String> {
    let text = "a".repeat(30_000);
    (1..=12).map(|seq| serde_json::json!({"task": seq, "text": text}).to_string()).collect()
}

fn bytes(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello {
        window: 8,
        window_bytes: Some(70_000),
        serial: true,
        ..ChildHello::default()
    })?;
    while let Some(task) = actor.task()? {
        actor.listen(MOMENT / 2)?;
        actor.finish(&task)?;
    }
    actor.leave()
}

fn writes_first(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    actor.greeted()?;
    let log = plain(0, "LOG", &format!(r#"{{"level":"info","msg":"{}"}}"#, "x".repeat(8_000)));
    let mut tasks = 0;
    while let Some(task) = actor.task()? {
        tasks += 1;
        actor.finish(&task)?;
        if tasks == 2 {
            // The next task is in the pipe, as far as that goes, and the parent is writing the rest of it.
            actor.sip(64, Duration::ZERO, 64)?;
            actor.pour(&log, WRITTEN)?;
        }
    }
    actor.leave()
}

fn sips(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    actor.greeted()?;
    // Some of the task may have been read with the greeting.
    actor.sip(4096, Duration::from_millis(1), 300_000)?;
    actor.serve()
}

fn never_reads(actor: &mut Actor) -> Played {
    if actor.ordinal() > 1 {
        return actor.honest();
    }
    actor.begin(&ChildHello::default())?;
    actor.hang()
}
