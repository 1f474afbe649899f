//! W: many tasks at once, full pipes, slow readers, and results that stream.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use stokehold_protocol::wire;

use super::{code, said};
use crate::conform::case::Case;
use crate::conform::process::Setup;
use crate::conform::same::{Same, compare};
use crate::conform::session::{Pacing, Session};
use crate::conform::stage::{Greeting, Sample, Stage};
use crate::conform::trace::json;
use crate::conform::verdict::{Checked, must};

pub(super) static CASES: &[Case] = &[
    Case::must(
        "W1",
        "a full window, each task answered once",
        &["W-6", "W-2", "R-19", "R-23", "L-12", "W-12"],
        full_window,
    ),
    Case::must("W2", "a parent that reads late: 8 MiB of results", &["W-8", "R-19"], slow_parent),
    Case::must("W3", "no answer that nobody asked for", &["R-19", "R-24", "R-34", "R-11"], nothing_besides),
    Case::must("W4", "more tasks than the window", &["W-6"], beyond_window),
    Case::must("W5", "both pipes full at once", &["W-8"], both_full),
    Case::must("W6", "results that stream keep their order", &["R-24", "R-34"], items).of_level_3().needed(),
    Case::must("W9", "results of several tasks stay apart", &["R-24", "R-4"], items_of_several).of_level_3(),
    Case::must("W10", "pipes of one page", &["F-4"], tiny_pipes),
    Case::must("W11", "stopped and continued in the middle of a frame", &["F-4"], stopped),
    Case::must("W12", "answers are written before the child waits", &["W-9", "L-13"], written_before_waiting),
    Case::must("W13", "credit that is named is kept", &["W-2", "D-18"], credit_is_legal),
    Case::must("W14", "2,000 tasks, a few more at a time", &["R-19", "R-11", "W-6"], many_rounds),
];

/// A byte string of that size.
pub(super) fn bytes(size: usize) -> Vec<u8> {
    let mut data = Vec::new();
    wire::write_bin(&mut data, &vec![b'a'; size]);
    data
}

/// Has `count` tasks done, never more than the window at once.
pub(super) fn pipeline(session: &mut Session, count: u32, data: &[u8], window: u32) -> Checked {
    pipeline_until(session.ends, session, count, data, window)?;
    Ok(())
}

/// The same, and sends none any more at that time. How many were done.
pub(super) fn pipeline_until(
    until: Instant,
    session: &mut Session,
    count: u32,
    data: &[u8],
    window: u32,
) -> Checked<u32> {
    let mut open = std::collections::VecDeque::new();
    let mut sent = 0;
    while sent < count && Instant::now() < until {
        if open.len() >= window.max(1) as usize
            && let Some(id) = open.pop_front()
        {
            finished(session, id, data)?;
        }
        open.push_back(session.submit("DO", data));
        sent += 1;
    }
    for id in open {
        finished(session, id, data)?;
    }
    Ok(sent)
}

/// Waits for an echo, and forgets the task.
fn finished(session: &mut Session, id: u32, data: &[u8]) -> Checked {
    let answer = session.answer(id)?;
    must(
        answer.finished && (answer.data == data || compare(data, &answer.data) != Same::No),
        "R-19",
        || match answer.finished {
            true => format!("id {id} was answered with another result than its own"),
            false => format!("id {id} was answered by {}", said(&answer)),
        },
        "answer each id with the result of its own task",
    )?;
    if let Some(task) = session.referee.tasks.get_mut(&id)
        && let Some(answer) = &mut task.answer
    {
        answer.data = Vec::new();
    }
    Ok(())
}

fn full_window(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session = stage.ready()?;
    session.pacing = Pacing::Whole;
    let window = session.hello().window.min(2048);
    let is_serial = session.hello().serial;
    let mut ids = Vec::new();
    for number in 0..window {
        ids.push(session.submit("DO", &json(&number.to_string())));
    }
    for (number, id) in ids.iter().enumerate() {
        finished(&mut session, *id, &json(&number.to_string()))?;
    }
    if is_serial {
        let answered: Vec<u32> = session.referee.answered.clone();
        must(
            answered == ids,
            "L-12",
            || "the answers are in another order than the tasks".to_owned(),
            "a child that says `serial` true does its tasks in the order of their arrival",
        )?;
    }
    session.finish()
}

fn slow_parent(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session = stage.ready()?;
    session.patience *= 2;
    let data = bytes(1 << 20);
    let window = usize::try_from(session.hello().window).unwrap_or(1).min(8);
    let mut left = 8;
    while left > 0 {
        session.reading = false;
        let round = left.min(window);
        let ids: Vec<u32> = (0..round).map(|_| session.submit("DO", &data)).collect();
        // Until nothing moves: the child waits to write, and does not read.
        session.wait_for(Duration::from_millis(60), |_| false)?;
        session.reading = true;
        for id in ids {
            finished(&mut session, id, &data)?;
        }
        left -= round;
    }
    session.finish()
}

fn nothing_besides(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    for _ in 0..3 {
        stage.check_alive(&mut session)?;
        session.ask("grease.unknown", &json("null"))?;
        session.send(0, "grease.note", &json("1"));
    }
    // To the end of its output: the referee fails a second answer, and one for an id that no task has.
    session.finish()
}

fn beyond_window(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let (input, _) = stage.sample()?;
    session.pacing = Pacing::Whole;
    let window = session.hello().window.min(2048);
    let ids: Vec<u32> = (0..window + 16).map(|_| session.submit("DO", &input)).collect();
    for id in ids {
        let answer = session.answer(id)?;
        must(
            answer.finished || code(&answer) == "overloaded",
            "W-6",
            || format!("id {id} was answered by {}", said(&answer)),
            "do the tasks beyond your window too, or answer FAILED `overloaded` with `retry` true",
        )?;
    }
    session.finish()
}

fn both_full(stage: &mut Stage<'_>) -> Checked {
    stage.needs_echo()?;
    let mut session =
        stage.ready_in(&Setup { tiny_pipes: true, ..Setup::default() }, &Greeting::default())?;
    session.patience *= 2;
    let data = bytes(64 << 10);
    let window = session.hello().window.min(32);
    pipeline(&mut session, 64, &data, window)?;
    session.finish()
}

fn items(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.needs(&session, "test.items")?;
    let id = session.submit("test.items", &json(r#"{"n":100}"#));
    let answer = session.answer(id)?;
    let task = session.task(id);
    let hint = "send each result as an ITEM with the task's id, in order, and FINISHED behind them";
    must(answer.finished, "R-24", || format!("the answer is {}", said(&answer)), hint)?;
    let expected: Vec<Vec<u8>> = (0..100).map(|number: u32| json(&number.to_string())).collect();
    let same = task.items.len() == 100
        && expected.iter().zip(&task.items).all(|(want, got)| compare(want, got) != Same::No);
    must(same, "R-24", || format!("{} ITEMs instead of 0 to 99 in order", task.items.len()), hint)?;
    // Large ones too, which do not fit a pipe.
    let id = session.submit("test.items", &json(r#"{"n":16,"size":100000}"#));
    session.answer(id)?;
    let good = session.task(id).items.iter().filter(|item| **item == bytes(100_000)).count();
    must(good == 16, "R-24", || format!("{good} of 16 large ITEMs came"), hint)?;
    session.finish()
}

fn items_of_several(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.needs(&session, "test.items")?;
    let ids: Vec<u32> =
        [3, 5, 7].iter().map(|n| session.submit("test.items", &json(&format!(r#"{{"n":{n}}}"#)))).collect();
    for (id, n) in ids.into_iter().zip([3, 5, 7]) {
        session.answer(id)?;
        let count = session.task(id).items.len();
        must(
            count == n,
            "R-24",
            || format!("{count} ITEMs for a task of {n}"),
            "give each ITEM the id of its own task",
        )?;
    }
    session.finish()
}

fn tiny_pipes(stage: &mut Stage<'_>) -> Checked {
    let mut session =
        stage.ready_in(&Setup { tiny_pipes: true, ..Setup::default() }, &Greeting::default())?;
    stage.check_alive(&mut session)?;
    if stage.testee.sample == Sample::Echo {
        pipeline(&mut session, 4, &bytes(100_000), 1)?;
    }
    session.finish()
}

fn stopped(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let (input, _) = stage.sample()?;
    session.pacing = Pacing::Whole;
    for _ in 0..3 {
        let id = session.fresh_id();
        session.referee.open(id);
        let frame = session.frame(id, "DO", &input);
        let (first, last) = frame.split_at(frame.len() / 2);
        session.send_bytes(first);
        session.drain()?;
        session.signal(Signal::STOP)?;
        session.send_bytes(last);
        session.flush()?;
        session.signal(Signal::CONT)?;
        session.answer(id)?;
    }
    session.finish()
}

fn written_before_waiting(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let (input, _) = stage.sample()?;
    // Nothing follows that could push the answer out.
    let id = session.submit("DO", &input);
    session.answer(id)?;
    if !stage.offers(&mut session, "test.spin", &json(r#"{"ms":0}"#))? {
        return session.finish();
    }
    let first = session.submit("DO", &input);
    let long = session.submit("test.spin", &json(r#"{"ms":1500}"#));
    session.answer(first)?;
    must(
        !session.answered(long),
        "W-9",
        || "the answer of a task came only after the handler behind it was done".to_owned(),
        "write out all answers before a handler that may run longer than a millisecond",
    )?;
    session.answer(long)?;
    session.finish()
}

/// Each task has an input of its own, so that an answer with another's result is told from its own. A child is slow at will: what
/// it does not get done within its patience is left out.
fn many_rounds(stage: &mut Stage<'_>) -> Checked {
    const TASKS: u32 = 2_000;
    stage.needs_echo()?;
    let mut session = stage.ready()?;
    session.pacing = Pacing::Whole;
    let most = session.hello().window.clamp(1, 8);
    let until = Instant::now() + session.patience;
    let (mut done, mut round) = (0, 1);
    while done < TASKS && Instant::now() < until {
        let tasks: Vec<(u32, Vec<u8>)> = (done..TASKS.min(done + round))
            .map(|number| json(&number.to_string()))
            .map(|input| (session.submit("DO", &input), input))
            .collect();
        for (id, input) in &tasks {
            finished(&mut session, *id, input)?;
            done += 1;
        }
        round = round % most + 1;
    }
    if done < TASKS {
        stage.inform(format!("{done} tasks only: the others would have taken too long"));
    }
    session.finish()
}

fn credit_is_legal(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.check_alive(&mut session)?;
    session.finish()?;
    for (name, data) in session.referee.loose.clone() {
        if !matches!(name.as_str(), "READY" | "CREDIT") {
            continue;
        }
        let fields = super::look(&data);
        let window = fields.get("window").is_none_or(serde_json::Value::is_u64);
        let serial = fields.get("serial").is_none_or(serde_json::Value::is_boolean);
        let is_nil = fields.is_null() && name == "READY";
        must(
            is_nil || fields.is_object() && window && serial,
            "D-18",
            || format!("{name} has the data {fields}"),
            "give READY nil, or a map with `window` and `serial`; CREDIT such a map",
        )?;
    }
    Ok(())
}
