//! PL: how children end, and how they do not.

use std::thread;
use std::time::Duration;

use stokehold_protocol::ChildHello;

use super::{fatal, forged, plain};
use crate::conform::parent::actor::{Actor, Played};
use crate::conform::parent::evidence::Evidence;
use crate::conform::parent::plot::{LATE, Plot, numbered};
use crate::conform::trace::json;
use crate::conform::verdict::{Checked, must};

/// A parent that starts so many children in vain never gives up.
const STARTS_MAX: usize = 100;

pub(super) static PLOTS: &[Plot] = &[
    Plot::must("PL1", "killed with a task in hand", &["L-9", "L-10"], |actor| {
        fatal(actor, |actor, _| actor.die())
    }),
    Plot::must(
        "PL2",
        "killed when some of its tasks are answered",
        &["L-7", "L-10", "L-18"],
        answers_and_dies,
    )
    .tasks(|| numbered(12))
    .judged(written_answers_count),
    Plot::must("PL3", "exit 0 with a task in hand", &["L-8", "L-9"], |actor| fatal(actor, |_, _| Ok(0))),
    Plot::must("PL4", "exit 0 with nothing in hand", &["L-8"], |actor| {
        if actor.ordinal() > 3 {
            return actor.honest();
        }
        actor.begin(&ChildHello::default())?;
        if let Some(task) = actor.task()? {
            actor.finish(&task)?;
        }
        Ok(0)
    }),
    Plot::must("PL5", "BYE with a task in hand, three times", &["S-8"], bye_with_a_task).judged(|evidence| {
        evidence.must_succeed(
            1,
            "S-8",
            "run a task that was unanswered at BYE again as if it had never begun",
        )
    }),
    Plot::must("PL6", "an answer behind BYE", &["S-9", "S-8"], answer_after_bye),
    Plot::must("PL7", "BYE, and no end", &["S-8", "L-6"], |actor| {
        fatal(actor, |actor, _| {
            actor.leave()?;
            actor.hang()
        })
    })
    .ending_by(LATE),
    Plot::must("PL8", "a child that ignores DIE, the end of input, and SIGTERM", &["L-6"], |actor| {
        actor.ignore_term()?;
        actor.begin(&ChildHello::default())?;
        while let Some(task) = actor.task()? {
            actor.finish(&task)?;
        }
        actor.hang()
    }),
    Plot::must("PL9", "a child that stalls with a task", &["L-17", "R-31", "R-39"], |actor| {
        fatal(actor, |actor, _| actor.stall())
    })
    .ending_by(LATE)
    .judged(|evidence| evidence.does_not_spin("L-17")),
    Plot::must("PL10", "a child that stalls with a task, and ignores SIGTERM", &["L-17", "R-31"], |actor| {
        actor.ignore_term()?;
        fatal(actor, |actor, _| actor.hang())
    })
    .ending_by(LATE),
    Plot::must("PL11", "a child that closes its input", &["L-9"], |actor| {
        fatal(actor, |actor, task| {
            actor.close_input()?;
            actor.finish(task)?;
            actor.hang()
        })
    })
    .ending_by(LATE),
    Plot::must("PL12", "a child that closes its output", &["L-9"], |actor| {
        fatal(actor, |actor, _| {
            actor.close_output()?;
            actor.hang()
        })
    })
    .ending_by(LATE),
    Plot::must("PL13", "a child that ends, and whose child holds the pipes", &["L-9", "X-9"], |actor| {
        fatal(actor, |actor, _| {
            actor.spawn_holder()?;
            Ok(1)
        })
    }),
    Plot::must("PL14", "one task kills every child", &["L-9", "L-10", "L-18"], poison)
        .own(|seq| seq == POISON)
        .judged(poison_alone_fails),
    Plot::must("PL15", "the same, with others in its window", &["L-10", "L-18"], poison_in_a_window)
        .own(|seq| seq == POISON)
        .tasks(|| numbered(12))
        .judged(poison_alone_fails),
    Plot::must(
        "PL16",
        "the same, of a child that says it holds back answers",
        &["W-11", "L-10"],
        poison_unordered,
    )
    .own(|seq| seq == POISON)
    .tasks(|| numbered(12))
    .judged(poison_alone_fails),
    Plot::must("PL17", "every child ends before HELLO", &["L-9"], |_| Ok(1))
        .hopeless()
        .judged(|evidence| starts_few(evidence, STARTS_MAX)),
    Plot::must("PL18", "every child says that it will never work here", &["L-9"], |actor| {
        actor.begin(&ChildHello::default())?;
        Ok(125)
    })
    .hopeless()
    .judged(|evidence| starts_few(evidence, STARTS_MAX)),
    Plot::must("PL19", "a flood on standard error", &["X-3"], stderr_flood).judged(|evidence| {
        evidence.nothing_ran_twice("X-3")?;
        evidence.memory_is_bounded("X-3")
    }),
    Plot::must("PL20", "a child behind a shell", &["X-12"], Actor::honest)
        .wrapped()
        .judged(|evidence| evidence.nothing_ran_twice("X-12")),
    Plot::must("PL21", "killed behind a shell, with a task in hand", &["X-12", "L-9"], |actor| {
        fatal(actor, |actor, _| actor.die())
    })
    .wrapped(),
    Plot::must("PL22", "a child that stalls behind a shell", &["X-12", "L-17"], |actor| {
        fatal(actor, |actor, _| actor.stall())
    })
    .wrapped()
    .ending_by(LATE),
    Plot::must("PL23", "PROGRESS without end, and no answer", &["L-19", "L-17"], |actor| {
        fatal(actor, |actor, task| actor.repeat(&plain(task.id, "PROGRESS", "1"), Duration::from_millis(50)))
    })
    .ending_by(LATE),
];

/// With a window of 4: answers two, and dies.
fn answers_and_dies(actor: &mut Actor) -> Played {
    let hello = ChildHello { window: 4, serial: true, ..ChildHello::default() };
    actor.begin(&hello)?;
    if actor.ordinal() > 1 {
        return actor.serve();
    }
    for _ in 0..2 {
        if let Some(task) = actor.task()? {
            // The others of its window are there then, if the parent fills it.
            actor.listen(Duration::from_millis(20))?;
            actor.finish(&task)?;
        }
    }
    actor.die()
}

fn written_answers_count(evidence: &Evidence<'_>) -> Checked {
    for seq in evidence.answered_by(1) {
        evidence.must_run_once(seq, "L-7")?;
        evidence.must_succeed(seq, "L-7", "read what a dead child had written before you judge its death")?;
    }
    Ok(())
}

fn bye_with_a_task(actor: &mut Actor) -> Played {
    if actor.ordinal() > 3 {
        return actor.honest();
    }
    actor.begin(&ChildHello::default())?;
    actor.task()?;
    actor.leave()
}

fn answer_after_bye(actor: &mut Actor) -> Played {
    fatal(actor, |actor, task| {
        actor.leave()?;
        actor.send(&forged(task.id))?;
        actor.say(0, "LOG", &json("\"still here\""))?;
        Ok(0)
    })
}

/// The task that kills.
const POISON: u64 = 3;

fn poison(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        if task.number() == POISON {
            return actor.die();
        }
        actor.finish(&task)?;
    }
    actor.leave()
}

fn poison_in_a_window(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello { window: 4, serial: true, ..ChildHello::default() })?;
    while let Some(task) = actor.task()? {
        actor.listen(Duration::from_millis(20))?;
        if task.number() == POISON {
            return actor.die();
        }
        actor.finish(&task)?;
    }
    actor.leave()
}

/// The oldest task is not to blame, and nobody knows which is: an innocent one is the oldest when the child dies.
fn poison_unordered(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello { window: 4, serial: true, ..ChildHello::default() })?;
    actor.say(0, "CREDIT", &json(r#"{"serial":false}"#))?;
    while let Some(task) = actor.task()? {
        actor.listen(Duration::from_millis(20))?;
        let mut tasks = actor.take_waiting();
        tasks.insert(0, task);
        if tasks.iter().any(|task| task.number() == POISON) {
            return actor.die();
        }
        for task in &tasks {
            actor.finish(task)?;
        }
    }
    actor.leave()
}

fn poison_alone_fails(evidence: &Evidence<'_>) -> Checked {
    let code = evidence.code(POISON);
    must(
        code.is_some_and(|code| ["crashed", "killed", "lost", "rejected"].contains(&code)),
        "L-9",
        || format!("the task that kills every child ended by {code:?}"),
        "end a task by crashed when its attempts are used up",
    )?;
    for seq in (1..).take(evidence.tasks()).filter(|seq| *seq != POISON) {
        evidence.must_succeed(
            seq,
            "L-10",
            "blame a death on the oldest unanswered task of a serial child alone",
        )?;
    }
    Ok(())
}

fn starts_few(evidence: &Evidence<'_>, most: usize) -> Checked {
    let started = evidence.records.len();
    must(
        started <= most,
        "L-9",
        || format!("{started} children were started, and each ended at once"),
        "give up, or slow down, when children end as soon as they are started",
    )
}

fn stderr_flood(actor: &mut Actor) -> Played {
    use std::io::Write;
    actor.begin(&ChildHello::default())?;
    let lines = "a line that nobody asked for, of which there are very many\n".repeat(1_000);
    while let Some(task) = actor.task()? {
        // 6 times 4 MiB, and a line without an end.
        for _ in 0..70 {
            std::io::stderr().write_all(lines.as_bytes())?;
        }
        std::io::stderr().write_all(&[b'x'; 1 << 20])?;
        thread::yield_now();
        actor.finish(&task)?;
    }
    actor.leave()
}
