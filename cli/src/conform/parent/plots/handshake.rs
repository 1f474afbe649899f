//! PH: how a child begins, and how it must not.

use std::time::Duration;

use stokehold_protocol::ChildHello;

use super::{plain, second};
use crate::conform::parent::actor::{Actor, Played};
use crate::conform::parent::evidence::Evidence;
use crate::conform::parent::plot::{LATE, Plot, numbered};
use crate::conform::trace::json;
use crate::conform::verdict::{Checked, must};

pub(super) static PLOTS: &[Plot] = &[
    // What every other case is compared with.
    Plot::must(
        "PH1",
        "an honest child",
        &["S-3", "S-4", "S-6", "X-1", "F-13", "M-12", "M-16", "R-1", "R-12", "R-28"],
        Actor::honest,
    )
    .judged(|evidence| evidence.nothing_ran_twice("R-19")),
    Plot::must("PH2", "a child that never says HELLO", &["S-10", "S-3"], |actor| second(actor, Actor::stall))
        .ending_by(LATE)
        .judged(|evidence| evidence.does_not_spin("S-10")),
    Plot::must("PH3", "HELLO, and never READY", &["S-10", "S-4"], never_ready).ending_by(LATE),
    Plot::must("PH4", "a second HELLO, with another window", &["R-18"], hello_twice)
        .judged(|evidence| evidence.nothing_ran_twice("R-18")),
    Plot::must("PH5", "a second READY, with another window", &["R-18", "W-2"], ready_twice)
        .tasks(|| numbered(12))
        .judged(|evidence| evidence.nothing_ran_twice("R-18")),
    Plot::must("PH6", "READY without HELLO", &["S-2"], ready_first),
    Plot::must("PH7", "an unknown protocol request comes first", &["S-2", "R-9"], unknown_first),
    Plot::must("PH8", "a text comes first", &["F-5"], text_first),
    Plot::must("PH9", "a version that was not on offer", &["V-4"], |actor| {
        odd_hello(actor, "V-4", r#"{"v":99}"#)
    }),
    Plot::must("PH10", "HELLO without a version", &["D-18"], |actor| {
        odd_hello(actor, "D-18", r#"{"window":1}"#)
    }),
    Plot::must("PH11", "HELLO with a wrong type under a key", &["D-18", "R-13"], |actor| {
        odd_hello(actor, "D-18", r#"{"v":1,"window":"many"}"#)
    }),
    Plot::must("PH12", "HELLO with an id", &["R-11"], hello_with_id),
    Plot::must("PH13", "HELLO that is READY too", &["R-15", "S-4"], ready_at_once)
        .judged(|evidence| evidence.nothing_ran_twice("R-15")),
    Plot::must("PH14", "HELLO with unknown keys and capabilities", &["D-17", "R-17", "V-5"], greased)
        .judged(|evidence| evidence.nothing_ran_twice("D-17")),
    Plot::must("PH15", "PROGRESS and LOG before READY", &["R-8", "R-33"], news_before_ready)
        .judged(|evidence| evidence.nothing_ran_twice("R-8")),
    Plot::must("PH16", "every child refuses the version", &["E-8"], |actor| refuse(actor, "version"))
        .hopeless()
        .judged(refusal_is_shown),
    Plot::must("PH17", "every child refuses the codec", &["E-8"], |actor| refuse(actor, "codec"))
        .hopeless()
        .judged(refusal_is_shown),
    Plot::must("PH18", "HELLO and READY a byte at a time", &["F-4"], slow_start)
        .judged(|evidence| evidence.nothing_ran_twice("F-4")),
    Plot::must("PH19", "PROGRESS without end, and never READY", &["R-33", "S-10"], loads_for_ever)
        .ending_by(LATE),
];

fn never_ready(actor: &mut Actor) -> Played {
    second(actor, |actor| {
        actor.hello(&ChildHello::default())?;
        actor.stall()
    })
}

fn loads_for_ever(actor: &mut Actor) -> Played {
    second(actor, |actor| {
        actor.hello(&ChildHello::default())?;
        actor.repeat(&plain(0, "PROGRESS", "1"), Duration::from_millis(50))
    })
}

fn hello_twice(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        actor.hello(&ChildHello { window: 5, ..ChildHello::default() })?;
        // Long enough for what must not come.
        actor.listen(Duration::from_millis(50))?;
        actor.finish(&task)?;
    }
    actor.leave()
}

fn ready_twice(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    actor.say(0, "READY", &json("null"))?;
    actor.say(0, "READY", &json(r#"{"window":3}"#))?;
    while let Some(task) = actor.task()? {
        actor.listen(Duration::from_millis(20))?;
        actor.finish(&task)?;
    }
    actor.leave()
}

fn ready_first(actor: &mut Actor) -> Played {
    second(actor, |actor| {
        actor.breaks("S-2")?;
        actor.say(0, "READY", &json("null"))?;
        actor.honest()
    })
}

fn unknown_first(actor: &mut Actor) -> Played {
    second(actor, |actor| {
        actor.breaks("S-2")?;
        actor.say(0, "FUTURE_1", &json("null"))?;
        actor.honest()
    })
}

fn text_first(actor: &mut Actor) -> Played {
    second(actor, |actor| {
        actor.breaks("F-5")?;
        actor.raw(b"Loading the model\n")?;
        actor.honest()
    })
}

fn odd_hello(actor: &mut Actor, statement: &str, data: &str) -> Played {
    second(actor, |actor| {
        actor.breaks(statement)?;
        actor.say(0, "HELLO", &json(data))?;
        actor.say(0, "READY", &json("null"))?;
        actor.serve()
    })
}

fn hello_with_id(actor: &mut Actor) -> Played {
    second(actor, |actor| {
        actor.breaks("R-11")?;
        actor.say(7, "HELLO", &json(r#"{"v":1}"#))?;
        actor.say(0, "READY", &json("null"))?;
        actor.serve()
    })
}

fn ready_at_once(actor: &mut Actor) -> Played {
    actor.hello(&ChildHello { ready: true, ..ChildHello::default() })?;
    actor.serve()
}

fn greased(actor: &mut Actor) -> Played {
    let hello = r#"{"":null,"v":1,"x-new":[{"a":[1.5]}],"caps":["teleport","","x"],"methods":["DO","x-y"],"sdk":"villain/1"}"#;
    actor.say(0, "HELLO", &json(hello))?;
    actor.say(0, "READY", &json(r#"{"x-new":1}"#))?;
    actor.serve()
}

fn news_before_ready(actor: &mut Actor) -> Played {
    actor.hello(&ChildHello::default())?;
    actor.say(0, "PROGRESS", &json(r#"{"done":1,"total":2}"#))?;
    actor.say(0, "LOG", &json(r#"{"level":"info","msg":"loading"}"#))?;
    actor.say(0, "READY", &json("null"))?;
    actor.serve()
}

/// What a refusal says to people.
const REFUSAL: &str = "only the seventh will do";

fn refuse(actor: &mut Actor, code: &str) -> Played {
    actor.say(0, "FAILED", &json(&format!(r#"{{"code":{code:?},"message":{REFUSAL:?}}}"#)))?;
    Ok(5)
}

fn refusal_is_shown(evidence: &Evidence<'_>) -> Checked {
    must(
        evidence.words().contains(REFUSAL),
        "E-8",
        || "the child's own words are nowhere in the outcomes and on standard error".to_owned(),
        "show the code and the message of a FAILED with id 0 as the cause",
    )
}

fn slow_start(actor: &mut Actor) -> Played {
    actor.drip(&plain(0, "HELLO", r#"{"v":1}"#), Duration::from_millis(2))?;
    actor.drip(&plain(0, "READY", "null"), Duration::from_millis(2))?;
    actor.serve()
}
