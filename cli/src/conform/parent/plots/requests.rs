//! PR: who may say what, about which task, and what may be said besides.

use std::time::Duration;

use stokehold_protocol::{Capabilities, Capability, ChildHello, Failure};

use super::{each_breaks, fatal, forged, midway, plain};
use crate::conform::parent::actor::{Actor, Played, Task};
use crate::conform::parent::evidence::Evidence;
use crate::conform::parent::plot::{LATE, Plot, numbered};
use crate::conform::parent::record::{Event, parse};
use crate::conform::trace::json;
use crate::conform::verdict::{Checked, Stop, must};

/// How long a CANCEL is waited for: longer than the limit that a parent under test should have for a task.
const CANCEL_WITHIN: Duration = Duration::from_secs(12);

pub(super) static PLOTS: &[Plot] = &[
    Plot::must("PR1", "a second answer to the same task", &["R-11", "R-19"], twice),
    Plot::must("PR2", "an answer to an id that no task has", &["R-11"], |actor| {
        midway(actor, |actor, task| {
            actor.breaks("R-11")?;
            actor.send(&forged(task.id.wrapping_add(1_000)))
        })
    }),
    Plot::must("PR3", "an answer with id 0", &["R-11"], |actor| {
        midway(actor, |actor, _| {
            actor.breaks("R-11")?;
            actor.send(&forged(0))
        })
    }),
    Plot::must("PR4", "requests that only a parent may send", &["R-11"], |actor| {
        each_breaks(actor, "R-11", PARENTS_WORDS)
    })
    .tasks(|| numbered(16)),
    Plot::must("PR5", "ids that a request must not have", &["R-11"], |actor| {
        each_breaks(actor, "R-11", WRONG_IDS)
    })
    .tasks(|| numbered(16)),
    Plot::must("PR6", "a request of the child's own", &["R-32"], ask).judged(refused),
    Plot::must("PR7", "words that no version knows, and calls for nobody", &["R-9", "V-5"], unknown_words)
        .judged(|evidence| evidence.nothing_ran_twice("R-9")),
    Plot::must("PR8", "PROGRESS and LOG with anything in them", &["R-40"], odd_news)
        .judged(|evidence| evidence.nothing_ran_twice("R-40")),
    Plot::must("PR9", "everything that a child may send, without a capability", &["R-8"], everything)
        .judged(|evidence| evidence.nothing_ran_twice("R-8")),
    Plot::must("PR10", "a CREDIT that cannot be read", &["D-18"], |actor| {
        midway(actor, |actor, _| {
            actor.breaks("D-18")?;
            actor.say(0, "CREDIT", &json(r#"{"window":"many"}"#))
        })
    }),
    Plot::must("PR11", "FINISHED for a cancelled task", &["R-43"], |actor| cancelled(actor, true))
        .own(|seq| seq == 2)
        .judged(late_answer_counts),
    Plot::must("PR12", "FAILED cancelled for a cancelled task", &["R-36", "L-18"], |actor| {
        cancelled(actor, false)
    })
    .own(|seq| seq == 2)
    .judged(|evidence| {
        sends_cancel(evidence)?;
        ends_by(evidence, 2, LATE)
    }),
    Plot::should("PR13", "a second attempt is called one", &["R-29", "R-28"], second_attempt)
        .judged(attempt_is_told),
    Plot::must("PR14", "100,000 ITEMs", &["R-45", "F-11"], items)
        .judged(|evidence| evidence.memory_is_bounded("F-11")),
    Plot::must("PR15", "a flood of LOG and PROGRESS", &["R-46", "F-11"], news_flood)
        .judged(|evidence| evidence.memory_is_bounded("F-11")),
];

/// Two answers, and the second must count for nothing; nor may the child get more than what was on its way.
fn twice(actor: &mut Actor) -> Played {
    if actor.ordinal() > 1 {
        return actor.honest();
    }
    actor.begin(&ChildHello::default())?;
    if let Some(task) = actor.task()? {
        actor.finish(&task)?;
        actor.breaks("R-11")?;
        actor.send(&forged(task.id))?;
    }
    actor.serve()
}

static PARENTS_WORDS: &[fn(&Task) -> Vec<u8>] = &[
    |_| plain(0, "DIE", "null"),
    |task| plain(task.id, "CANCEL", "null"),
    |task| plain(task.id, "META", r#"{"attempt":2}"#),
    |_| plain(0, "PING", "1"),
    |task| plain(task.id, "BATCH", r#"{"req":"DO","items":[1]}"#),
];

static WRONG_IDS: &[fn(&Task) -> Vec<u8>] = &[
    |task| plain(task.id, "READY", "null"),
    |task| plain(task.id, "BYE", "null"),
    |task| plain(task.id, "PONG", "1"),
    |_| plain(0, "ITEM", "1"),
    |_| plain(0, "STARTED", "null"),
];

fn ask(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    let (mut id, mut refused) = (70_000, true);
    while let Some(task) = actor.task()? {
        id += 1;
        // One that is not answered is enough.
        refused = refused && actor.ask(id)?;
        actor.finish(&task)?;
    }
    actor.leave()
}

fn refused(evidence: &Evidence<'_>) -> Checked {
    evidence.nothing_ran_twice("R-32")?;
    let hint = "answer a child's request that has an id by FAILED unavailable with that id";
    let mut answers = 0;
    for frame in evidence.frames() {
        let Some((id, message)) = parse(&frame).filter(|(_, message)| message.request == "FAILED") else {
            continue;
        };
        let code = Failure::decode(message.data).code;
        must(code == "unavailable", "R-32", || format!("FAILED {code} for the request {id}"), hint)?;
        answers += 1;
    }
    must(answers == 6, "R-32", || format!("{answers} answers to 6 requests of the child"), hint)
}

fn unknown_words(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        actor.say(0, "FUTURE_1", &json(r#"{"a":[1]}"#))?;
        actor.say(task.id, "FUTURE_2", &json("null"))?;
        actor.say(4_000_000, "X9", &json("1"))?;
        actor.say(0, "anybody.there", &json("null"))?;
        actor.finish(&task)?;
    }
    actor.leave()
}

fn odd_news(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    let odd = [
        "null",
        "1",
        "-7.5",
        "\"text\"",
        "[]",
        "{}",
        r#"{"done":"x","total":[]}"#,
        r#"{"level":7,"msg":null}"#,
    ];
    while let Some(task) = actor.task()? {
        for data in odd {
            actor.say(task.id, "PROGRESS", &json(data))?;
            actor.say(0, "PROGRESS", &json(data))?;
            actor.say(task.id, "LOG", &json(data))?;
            actor.say(0, "LOG", &json(data))?;
        }
        // No value at all.
        actor.say(task.id, "LOG", b"\xc1")?;
        actor.say(task.id, "PROGRESS", b"\x92")?;
        actor.finish(&task)?;
    }
    actor.leave()
}

fn everything(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        actor.say(task.id, "STARTED", &json("null"))?;
        actor.say(0, "PONG", &json("7"))?;
        actor.say(0, "CREDIT", &json("{}"))?;
        actor.say(0, "CREDIT", &json(r#"{"serial":true,"x-new":1}"#))?;
        actor.say(task.id, "ITEM", &json("1"))?;
        actor.say(task.id, "PROGRESS", &json("0.5"))?;
        actor.finish(&task)?;
    }
    actor.leave()
}

fn cancelled(actor: &mut Actor, finishes: bool) -> Played {
    if actor.ordinal() > 1 {
        return actor.honest();
    }
    let capabilities = Capabilities::NONE.with(Capability::Cancel);
    actor.begin(&ChildHello { capabilities, ..ChildHello::default() })?;
    while let Some(task) = actor.task()? {
        if task.number() != 2 || !actor.cancelled.is_empty() {
            actor.finish(&task)?;
            continue;
        }
        actor.listen(CANCEL_WITHIN)?;
        if !actor.cancelled.contains(&task.id) {
            actor
                .record(Event::Unfit("no CANCEL came: give the parent's tasks a limit of time".to_owned()))?;
        }
        if finishes {
            actor.finish(&task)?;
        } else {
            actor.fail(&task, r#"{"code":"cancelled"}"#)?;
        }
    }
    actor.leave()
}

fn sends_cancel(evidence: &Evidence<'_>) -> Checked {
    if evidence.ever_sent("CANCEL") { Ok(()) } else { Err(Stop::skip("the parent sends no CANCEL")) }
}

fn late_answer_counts(evidence: &Evidence<'_>) -> Checked {
    sends_cancel(evidence)?;
    evidence.must_succeed(2, "R-43", "take FINISHED as the answer of its task also after CANCEL")?;
    evidence.nothing_ran_twice("R-43")
}

fn ends_by(evidence: &Evidence<'_>, seq: u64, codes: &[&str]) -> Checked {
    let code = evidence.code(seq);
    must(
        code.is_none_or(|code| codes.contains(&code)),
        "L-17",
        || format!("the task {seq} ended by {code:?}"),
        "end a task that was cancelled because it took too long by timeout or cancelled, or run it again",
    )
}

fn second_attempt(actor: &mut Actor) -> Played {
    let capabilities = Capabilities::NONE.with(Capability::Meta);
    let hello = ChildHello { capabilities, ..ChildHello::default() };
    if actor.ordinal() == 1 {
        actor.begin(&hello)?;
        if let Some(task) = actor.task()? {
            actor.finish(&task)?;
        }
        return match actor.task()? {
            Some(_) => actor.die(),
            None => actor.leave(),
        };
    }
    actor.begin(&hello)?;
    actor.serve()
}

/// Every task that a second child got had a META in front of it that says so.
fn attempt_is_told(evidence: &Evidence<'_>) -> Checked {
    if evidence.attempts(2) < 2 {
        return Err(Stop::skip("the parent ran no task again"));
    }
    let is_told = evidence.frames().any(|frame| {
        let meta = parse(&frame).filter(|(_, message)| message.request == "META");
        let meta = meta.and_then(|(_, message)| stokehold_protocol::Meta::decode(message.data).ok());
        meta.and_then(|meta| meta.attempt).is_some_and(|attempt| attempt >= 2)
    });
    must(
        is_told,
        "R-29",
        || "a task was run again, and no META said so".to_owned(),
        "send META with `attempt` before a second attempt to a child that lists `meta`",
    )
}

fn items(actor: &mut Actor) -> Played {
    fatal(actor, |actor, task| {
        let item = plain(task.id, "ITEM", r#"{"number":1,"text":"one of very many results"}"#);
        actor.pour(&item, item.len() as u64 * 100_000)?;
        actor.finish(task)?;
        actor.serve()
    })
}

fn news_flood(actor: &mut Actor) -> Played {
    fatal(actor, |actor, task| {
        let news =
            [plain(0, "LOG", r#"{"level":"info","msg":"again"}"#), plain(task.id, "PROGRESS", "1")].concat();
        actor.pour(&news, news.len() as u64 * 200_000)?;
        actor.finish(task)?;
        actor.serve()
    })
}
