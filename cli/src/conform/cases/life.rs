//! L: how a child ends, by its parent's wish, by its death, or by nonsense on its input.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::framing::desync;
use crate::conform::case::Case;
use crate::conform::process::{Ended, Setup};
use crate::conform::session::Session;
use crate::conform::stage::{Greeting, Stage};
use crate::conform::trace::json;
use crate::conform::vectors;
use crate::conform::verdict::{Checked, Stop, must};

pub(super) static CASES: &[Case] = &[
    Case::must("L1", "the end of input while idle", &["L-1"], idle_end),
    Case::must("L2", "the end of input behind many tasks", &["L-1", "R-19"], end_behind_tasks),
    Case::must("L3", "DIE", &["L-2", "R-7"], die),
    Case::must("L4", "DIE behind tasks", &["L-2"], die_behind_tasks),
    Case::must("L5", "DIE with now, while a task runs", &["L-3"], die_now),
    Case::must("L6", "the end of input inside a message, behind tasks", &["L-4"], end_inside),
    Case::info("L7", "SIGTERM", &["X-10"], terminated),
    Case::must("L8", "nobody reads its output any more", &["L-5"], no_reader),
    Case::must("L9", "text and other nonsense where a frame should be", &["F-5", "F-7"], garbage).of_frames(),
    Case::must("L10", "its parent is killed", &["L-1", "L-5"], orphan),
    Case::must("L11", "twenty starts and ends, one after the other", &["L-1"], many_lives),
    Case::should("L12", "BYE is last, behind all answers", &["S-7"], bye),
    Case::should("L13", "SIGINT", &["X-11"], interrupted),
    Case::must("L14", "the end of input before the parent's HELLO", &["L-1"], end_at_once),
    Case::should("L15", "waiting costs no processor time", &["W-13"], idle_cost),
    Case::info("L16", "a handler that ends the process", &[], exit_in_handler),
];

const END: &str = "at the end of input, and at DIE, finish what was received, then exit with code 0";

/// The code is 0.
fn clean(session: &mut Session, statement: &'static str, after: &str) -> Checked {
    let ended = session.end(statement, END)?;
    must(ended == Ended::Code(0), statement, || format!("after {after} the child {ended}"), END)
}

fn idle_end(stage: &mut Stage<'_>) -> Checked {
    stage.ready()?.finish()?;
    let mut session = stage.ready()?;
    stage.check_alive(&mut session)?;
    session.finish()
}

/// As many tasks as the window allows, up to 20.
fn some_tasks(stage: &Stage<'_>, session: &mut Session) -> Checked<Vec<u32>> {
    let (input, _) = stage.sample()?;
    let count = session.hello().window.clamp(1, 20);
    Ok((0..count).map(|_| session.submit("DO", &input)).collect())
}

fn all_answered(session: &Session, ids: &[u32], statement: &'static str) -> Checked {
    let missing = ids.iter().filter(|id| !session.answered(**id)).count();
    must(
        missing == 0,
        statement,
        || format!("{missing} of {} tasks were not answered before the end", ids.len()),
        "answer everything that was received before the end, and flush before you exit",
    )
}

fn end_behind_tasks(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let ids = some_tasks(stage, &mut session)?;
    session.close_input()?;
    clean(&mut session, "L-1", "the end of input")?;
    all_answered(&session, &ids, "L-1")
}

fn die(stage: &mut Stage<'_>) -> Checked {
    for data in ["null", r#"{"now":false}"#] {
        let mut session = stage.ready()?;
        stage.check_alive(&mut session)?;
        // Its input stays open: DIE alone has to do.
        session.send(0, "DIE", &json(data));
        clean(&mut session, "L-2", "DIE")?;
    }
    Ok(())
}

fn die_behind_tasks(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let ids = some_tasks(stage, &mut session)?;
    session.send(0, "DIE", &json("null"));
    clean(&mut session, "L-2", "tasks and DIE")?;
    all_answered(&session, &ids, "L-2")
}

fn die_now(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let runs = stage.offers(&mut session, "test.sleep", &json(r#"{"ms":0}"#))?;
    if runs {
        session.submit("test.sleep", &json(r#"{"ms":1000}"#));
        session.drain()?;
    }
    session.send(0, "DIE", &json(r#"{"now":true}"#));
    let begun = Instant::now();
    clean(&mut session, "L-3", "DIE with now")?;
    if runs {
        stage.inform(format!("it took {} ms of a task of 1000 ms", begun.elapsed().as_millis()));
    }
    Ok(())
}

fn end_inside(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let ids = some_tasks(stage, &mut session)?;
    let half = session.frame(999, "DO", &json(r#"["half","of","this"]"#));
    session.send_bytes(half.get(..half.len() / 2).unwrap_or_default());
    session.close_input()?;
    let hint =
        "drop a frame or line that is not whole, write out the answers there are, and exit with code 3";
    let ended = session.end("L-4", hint)?;
    must(ended != Ended::Code(0), "L-4", || format!("the child {ended}"), hint)?;
    session.should(ended == Ended::Code(3), "L-4", &format!("the child {ended}"), hint);
    let answered = ids.iter().all(|id| session.answered(*id));
    session.should(answered, "L-4", "the answers before it were not written", hint);
    Ok(())
}

fn terminated(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.check_alive(&mut session)?;
    session.signal(Signal::TERM)?;
    let limit = session.patience.min(Duration::from_secs(1));
    session.wait_for(limit, |session| session.process.ended().is_some())?;
    match session.process.ended() {
        Some(ended) => stage.inform(format!("at SIGTERM it {ended}")),
        None => stage.inform("it lives on after SIGTERM, and ends when its parent uses SIGKILL"),
    }
    Ok(())
}

fn no_reader(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.check_alive(&mut session)?;
    session.close_output();
    let hint = "watch for the end of the output's reader, and exit at once with code 1; at least exit when a write fails";
    let limit = session.patience.min(Duration::from_millis(1000));
    let at_once = session.wait_for(limit, |session| session.process.ended().is_some())?;
    session.should(at_once, "L-5", "it does not notice before it writes", hint);
    if !at_once {
        let before = session.process.ticks();
        for _ in 0..3 {
            session.submit("DO", &stage.sample()?.0);
        }
        session.wait(|session| session.process.ended().is_some())?;
        let spent = session.process.ticks().zip(before).map(|(after, before)| after.saturating_sub(before));
        if let (Some(spent), None) = (spent, session.process.ended()) {
            let found = || format!("it is still there, and spent {spent} ticks of processor time");
            return Err(Stop::fail("L-5", found(), hint));
        }
    }
    let ended = session.end("L-5", hint)?;
    session.should(
        matches!(ended, Ended::Code(1) | Ended::Signal(13)),
        "L-5",
        &format!("the child {ended}"),
        hint,
    );
    let quiet = session.stderr_bytes == 0;
    session.should(
        quiet,
        "L-5",
        "it complained on standard error",
        "exit without a message: nobody reads it",
    );
    Ok(())
}

fn garbage(stage: &mut Stage<'_>) -> Checked {
    let all = vectors::all().map_err(Stop::Harness)?;
    for vector in all.iter().filter(|vector| vector.id.starts_with("S6.")) {
        desync(stage, vector)?;
    }
    Ok(())
}

/// A parent that dies closes its ends of the pipes, and does nothing else.
fn orphan(stage: &mut Stage<'_>) -> Checked {
    let hint = "read the input at all times, or watch for its end: it is the only sign that the parent died";
    for is_ready in [true, false] {
        let mut session = if is_ready { stage.ready()? } else { stage.greeted_by(&Setup::default())? };
        session.flush()?;
        session.note("its parent is killed");
        session.process.lose_parent()?;
        session.end("L-1", hint)?;
    }
    Ok(())
}

fn many_lives(stage: &mut Stage<'_>) -> Checked {
    for _ in 0..20 {
        let mut session = stage.ready()?;
        session.close_input()?;
        clean(&mut session, "L-1", "the end of input")?;
    }
    Ok(())
}

fn bye(stage: &mut Stage<'_>) -> Checked {
    for by_die in [true, false] {
        let mut session = stage.ready()?;
        let ids = some_tasks(stage, &mut session)?;
        if by_die {
            session.send(0, "DIE", &json("null"));
        } else {
            session.close_input()?;
        }
        clean(&mut session, "L-2", "the end")?;
        all_answered(&session, &ids, "L-1")?;
        let said = session.referee.bye;
        session.should(said, "S-7", "no BYE before the end", "write BYE with nil as the last frame");
    }
    Ok(())
}

fn interrupted(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.check_alive(&mut session)?;
    session.signal(Signal::INT)?;
    let answer = stage.check_alive(&mut session);
    must(
        answer.is_ok(),
        "X-11",
        || "it ended at SIGINT".to_owned(),
        "ignore SIGINT: Ctrl-C reaches the parent too, and that decides",
    )?;
    session.finish()
}

fn end_at_once(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.start(&Setup::default())?;
    session.close_input()?;
    clean(&mut session, "L-1", "an input that is empty")
}

fn idle_cost(stage: &mut Stage<'_>) -> Checked {
    for may_spin in [true, false] {
        let greeting = Greeting { may_spin, ..Greeting::default() };
        let mut session = stage.ready_in(&Setup::default(), &greeting)?;
        stage.check_alive(&mut session)?;
        // It may look for a moment before it sleeps.
        session.wait_for(Duration::from_millis(50), |_| false)?;
        let before = session.process.ticks();
        session.wait_for(Duration::from_millis(300), |_| false)?;
        let after = session.process.ticks();
        let Some(spent) = after.zip(before).map(|(after, before)| after.saturating_sub(before)) else {
            return Err(Stop::skip("processor time cannot be told"));
        };
        session.should(
            spent < 15,
            "W-13",
            &format!("{spent} ticks of processor time in 300 ms without a task"),
            "wait for input in a read that blocks",
        );
    }
    Ok(())
}

fn exit_in_handler(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.needs(&session, "test.exit")?;
    let (input, _) = stage.sample()?;
    let before = session.submit("DO", &input);
    session.answer(before)?;
    let id = session.submit("test.exit", &json(r#"{"code":42}"#));
    session.wait(|session| session.answered(id) || session.process.ended().is_some())?;
    let answered = if session.answered(id) { "answered" } else { "not answered" };
    stage.inform(match session.process.ended() {
        Some(ended) => format!("it {ended}, and the task is {answered}"),
        None => format!("it lives on, and the task is {answered}"),
    });
    Ok(())
}
