//! B: many inputs in one frame, for a child that lists `batch`.

use serde_json::{Value, json as value};
use stokehold_protocol::{Capability, wire};

use super::{code, look, said};
use crate::conform::case::Case;
use crate::conform::session::Session;
use crate::conform::stage::Stage;
use crate::conform::trace::json;
use crate::conform::verdict::{Checked, Stop, must};

pub(super) static CASES: &[Case] = &[
    Case::must("B1", "a BATCH of three, and one of one", &["B-2", "B-3", "B-6"], results).of_level_3(),
    Case::must("B2", "a BATCH of an unknown request", &["B-5", "R-20"], unknown).of_level_3(),
    Case::must("B3", "one input of a BATCH fails", &["B-2", "B-4", "R-25"], one_fails).of_level_3(),
    Case::must("B4", "a BATCH of 20,000 inputs", &["B-2", "B-6"], many).of_level_3(),
    Case::should("B5", "CANCEL of a BATCH", &["B-11", "R-36"], cancelled).of_level_3(),
    Case::must("B6", "a handler that gives ITEMs, in a BATCH", &["B-10"], no_items).of_level_3(),
    Case::must("B7", "a BATCH with unknown keys, and one that cannot be read", &["D-17", "B-5"], odd)
        .of_level_3(),
    Case::must("B8", "an input of a BATCH 64 levels deep", &["B-1", "D-2"], deep).of_level_3(),
];

/// The results of a BATCH: those given before, and those of the answer.
fn batch(session: &mut Session, request: &str, items: &[Value]) -> Checked<Vec<Value>> {
    let id = submit(session, request, items);
    collect(session, id, items.len())
}

/// Sends a BATCH, which is refused like its request.
fn submit(session: &mut Session, request: &str, items: &[Value]) -> u32 {
    let data = json(&value!({"req": request, "items": items}).to_string());
    let id = session.submit("BATCH", &data);
    session.referee.open_for(id, request);
    id
}

fn collect(session: &mut Session, id: u32, count: usize) -> Checked<Vec<Value>> {
    let answer = session.answer(id)?;
    let hint = "answer a BATCH by FINISHED with an array of [true, value] or [false, failure], one for each input that no ITEM gave before";
    must(answer.finished, "B-2", || format!("the answer is {}", said(&answer)), hint)?;
    let task = session.task(id);
    let mut results = Vec::new();
    for part in task.items.iter().chain([&answer.data]) {
        let Value::Array(part) = look(part) else {
            return Err(Stop::fail("B-6", "results that are no array", hint));
        };
        results.extend(part);
    }
    let is_result = |result: &Value| {
        result.as_array().is_some_and(|pair| pair.len() == 2 && pair.first().is_some_and(Value::is_boolean))
    };
    must(results.iter().all(is_result), "B-6", || "a result that is no pair".to_owned(), hint)?;
    must(results.len() == count, "B-6", || format!("{} results for {count} inputs", results.len()), hint)?;
    // One refusal for each input is allowed too ([B-5]).
    let is_refusal = |result: &Value| result.pointer("/1/code").is_some_and(|code| code == "unknown_request");
    if task.request != "DO" && !task.request.is_empty() && results.iter().all(is_refusal) {
        return Err(Stop::skip(format!("the testee has no {}", task.request)));
    }
    Ok(results)
}

fn able(stage: &mut Stage<'_>) -> Checked<Session> {
    stage.needs_echo()?;
    let session = stage.ready()?;
    session.needs_capability(Capability::Batch)?;
    Ok(session)
}

fn results(stage: &mut Stage<'_>) -> Checked {
    let mut session = able(stage)?;
    for items in [vec![value!(20), value!("x"), value!({"a": [1, null]})], vec![value!(null)]] {
        let results = batch(&mut session, "DO", &items)?;
        let expected: Vec<Value> = items.iter().map(|item| value!([true, item])).collect();
        must(
            results == expected,
            "B-2",
            || format!("the results are {results:?}"),
            "do the inputs of a BATCH in their order, as if each were a request",
        )?;
    }
    session.finish()
}

fn unknown(stage: &mut Stage<'_>) -> Checked {
    let mut session = able(stage)?;
    let id = session.submit("BATCH", &json(r#"{"req":"grease.unknown","items":[1,2]}"#));
    let answer = session.answer(id)?;
    let hint = "answer a BATCH of an unknown request by one FAILED `unknown_request`";
    if answer.finished {
        // One failure for each is allowed, and less good.
        let results = collect(&mut session, id, 2)?;
        let refused = results
            .iter()
            .all(|result| result.pointer("/1/code").is_some_and(|code| code == "unknown_request"));
        must(refused, "R-20", || format!("the results are {results:?}"), hint)?;
        session.should(false, "B-5", "each input was refused by itself", hint);
    } else {
        must(
            code(&answer) == "unknown_request",
            "R-20",
            || format!("the answer is {}", said(&answer)),
            hint,
        )?;
    }
    stage.check_alive(&mut session)?;
    session.finish()
}

/// The levels of a BATCH itself do not count: 64 are left for each input.
fn deep(stage: &mut Stage<'_>) -> Checked {
    let mut session = able(stage)?;
    let mut nested = vec![0x91; 63];
    nested.push(0x90);
    let mut data = Vec::new();
    wire::write_map_len(&mut data, 2);
    wire::write_str(&mut data, "req");
    wire::write_str(&mut data, "DO");
    wire::write_str(&mut data, "items");
    wire::write_array_len(&mut data, 1);
    data.extend_from_slice(&nested);
    // As the data of a message it would be too deep, and so are its results.
    session.referee.blind = true;
    let id = session.submit("BATCH", &data);
    let answer = session.answer(id)?;
    let task = session.task(id);
    let given = task.items.iter().chain([&answer.data]).any(|part| part.ends_with(&nested));
    must(
        answer.finished && given,
        "B-1",
        || format!("an input 64 levels deep was answered by {}", said(&answer)),
        "count the levels of each input by itself",
    )?;
    session.referee.blind = false;
    session.finish()
}

fn one_fails(stage: &mut Stage<'_>) -> Checked {
    let mut session = able(stage)?;
    stage.needs(&session, "test.spin")?;
    // The second input is not what the handler takes.
    let items = [value!({"ms": 0}), value!("no map"), value!({"ms": 1})];
    let results = batch(&mut session, "test.spin", &items)?;
    let good: Vec<bool> =
        results.iter().map(|result| result.pointer("/0") == Some(&Value::Bool(true))).collect();
    must(
        good == [true, false, true],
        "B-2",
        || format!("the results are {results:?}"),
        "an input that fails is [false, failure]; the others go on",
    )?;
    // A short input before a long one.
    let id = submit(&mut session, "test.spin", &[value!({"ms": 0}), value!({"ms": 800})]);
    session.wait(|session| !session.task(id).items.is_empty() || session.answered(id))?;
    let came_first = !session.answered(id);
    session.should(
        came_first,
        "B-4",
        "a result waited for the long input behind it",
        "give results that have waited for more than a few milliseconds as an ITEM",
    );
    collect(&mut session, id, 2)?;
    session.finish()
}

fn many(stage: &mut Stage<'_>) -> Checked {
    let mut session = able(stage)?;
    let items: Vec<Value> = (0..20_000).map(|number| value!(number)).collect();
    let results = batch(&mut session, "DO", &items)?;
    let same = results.iter().zip(&items).all(|(result, item)| result.pointer("/1") == Some(item));
    must(
        same,
        "B-2",
        || "the results are in another order".to_owned(),
        "do the inputs of a BATCH in their order",
    )?;
    session.finish()
}

fn cancelled(stage: &mut Stage<'_>) -> Checked {
    let mut session = able(stage)?;
    session.needs_capability(Capability::Cancel)?;
    stage.needs(&session, "test.sleep")?;
    let items = vec![value!({"ms": 1000}); 20];
    let id = submit(&mut session, "test.sleep", &items);
    session.drain()?;
    session.send(id, "CANCEL", &json("null"));
    let answer = session.answer(id)?;
    if code(&answer) == "cancelled" && session.task(id).items.is_empty() {
        // It came before the first input was begun.
        return session.finish();
    }
    let results = collect(&mut session, id, 20)?;
    let stopped =
        results.iter().filter(|result| result.pointer("/1/code").is_some_and(|code| code == "cancelled"));
    let stopped = stopped.count();
    session.should(
        stopped > 0,
        "B-11",
        "CANCEL stopped none of its inputs",
        "give [false, {\"code\": \"cancelled\", \"begun\": false}] for the inputs that were not begun",
    );
    session.finish()
}

fn no_items(stage: &mut Stage<'_>) -> Checked {
    let mut session = able(stage)?;
    stage.needs(&session, "test.items")?;
    let results = batch(&mut session, "test.items", &[value!({"n": 2}), value!({"n": 3})])?;
    let values: Vec<Option<&Value>> = results.iter().map(|result| result.pointer("/1")).collect();
    must(
        values == [Some(&value!(2)), Some(&value!(3))],
        "B-10",
        || format!("the results are {results:?}"),
        "do not send the ITEMs of a handler while it works on a BATCH",
    )?;
    session.finish()
}

fn odd(stage: &mut Stage<'_>) -> Checked {
    let mut session = able(stage)?;
    let id = session.submit("BATCH", &json(r#"{"x-new":1,"items":[5],"req":"DO"}"#));
    let results = collect(&mut session, id, 1)?;
    must(
        results == [value!([true, 5])],
        "D-17",
        || format!("the results are {results:?}"),
        "ignore unknown keys of BATCH",
    )?;
    let hint = "answer a BATCH that cannot be read by FAILED, and go on";
    for data in [r#"{"req":"DO"}"#, "7", r#"{"req":7,"items":[1]}"#, r#"{"req":"DO","items":7}"#] {
        let id = session.submit("BATCH", &json(data));
        session.wait(|session| session.answered(id) || session.process.ended().is_some())?;
        if session.process.ended().is_some() && !session.answered(id) {
            let ended = session.end("D-18", hint)?;
            return must(
                ended == crate::conform::process::Ended::Code(4),
                "D-18",
                || format!("at a BATCH with the data {data} the child {ended}"),
                hint,
            );
        }
        let answer = session.answer(id)?;
        must(!answer.finished, "B-5", || format!("a BATCH with the data {data} was done"), hint)?;
    }
    stage.check_alive(&mut session)?;
    session.finish()
}
