//! Many inputs in one frame, in memory (SPEC 6.7).

use std::time::Duration;

use stokehold_protocol::{BatchResult, Results, write_batch_head};

use super::*;

/// A BATCH of encoded inputs.
fn batch(id: u32, request: &str, items: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::new();
    write_batch_head(&mut data, request, u32::try_from(items.len()).unwrap());
    items.iter().for_each(|item| data.extend_from_slice(item));
    frame(id, "BATCH", &data)
}

fn numbers(id: u32, request: &str, numbers: &[u8]) -> Vec<u8> {
    let items: Vec<&[u8]> = numbers.chunks(1).collect();
    batch(id, request, &items)
}

/// The results in a FINISHED or ITEM: a value, or a failure with its code and whether it had begun.
fn results(answer: &Answer) -> Vec<Result<u64, (String, Option<bool>)>> {
    let mut list = Results::decode(&answer.data).unwrap();
    let mut all = Vec::new();
    while let Some(result) = list.next_result().unwrap() {
        all.push(match result {
            BatchResult::Good(value) => Ok(rmp_serde::from_slice(value).unwrap()),
            BatchResult::Bad(failure) => {
                let failure = WireFailure::decode(failure);
                Err((failure.code, failure.begun))
            }
        });
    }
    all
}

fn bad(code: &str, begun: Option<bool>) -> Result<u64, (String, Option<bool>)> {
    Err((code.to_owned(), begun))
}

#[test]
fn every_input_runs_in_order_and_has_a_result_good_or_bad() {
    // SPEC B-2
    let items: [&[u8]; 6] =
        [b"\x02", b"\xa3two", b"\x03", b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\x92\x01\x02", b"\x04"];
    for script in [
        Script::whole([batch(1, "square", &items), task(2, "add", &5u64)].concat()),
        Script::bytewise(&[batch(1, "square", &items), task(2, "add", &5u64)].concat()),
    ] {
        let (answers, ended) = run(worker(), script);
        assert!(ended.is_ok());
        let not_begun = || bad("bad_data", Some(false));
        assert_eq!((answers[2].request.as_str(), answers[2].id), ("FINISHED", 1));
        assert_eq!(
            results(&answers[2]),
            [Ok(4), not_begun(), Ok(9), bad("error", None), not_begun(), Ok(16)]
        );
        assert_eq!(answers[3].value::<u64>(), 5);
        assert_eq!(answers.len(), 5);
    }
}

#[test]
fn a_panic_fails_its_input_only() {
    let input = [batch(1, "panic", &[b"\xa2oh", b"\xa2no"]), numbers(2, "add", &[1, 2])].concat();
    let (answers, ended) = run(worker(), Script::whole(input));
    assert!(ended.is_ok());
    assert_eq!(results(&answers[2]), [bad("error", None), bad("error", None)]);
    assert_eq!(results(&answers[3]), [Ok(201), Ok(203)], "the state is as the panics left it");
}

#[test]
fn a_batch_that_cannot_be_begun_is_refused_as_a_whole() {
    // SPEC B-5
    let input =
        [numbers(1, "resize", &[1, 2]), frame(2, "BATCH", &[0x80]), numbers(3, "square", &[3])].concat();
    let (answers, ended) = run(worker(), Script::whole(input));
    assert!(ended.is_ok());
    for (answer, code) in answers[2..4].iter().zip(["unknown_request", "bad_data"]) {
        let failure = answer.failure();
        assert_eq!((failure.code.as_str(), failure.begun), (code, Some(false)));
    }
    assert_eq!(results(&answers[4]), [Ok(9)]);
}

#[test]
fn a_batch_that_breaks_off_gives_what_was_done_and_fails_the_rest() {
    let mut data = Vec::new();
    write_batch_head(&mut data, "square", 3);
    data.extend_from_slice(b"\x02\x03\xa9cut");
    let (answers, ended) = run(worker(), Script::whole(frame(1, "BATCH", &data)));
    assert!(ended.is_ok());
    // In one part, or in two where this machine was slow.
    let (parts, failed) = answers[2..].split_at(answers.len() - 4);
    assert!(parts.iter().all(|part| (part.request.as_str(), part.id) == ("ITEM", 1)));
    assert_eq!(parts.iter().flat_map(results).collect::<Vec<_>>(), [Ok(4), Ok(9)]);
    let failure = failed[0].failure();
    assert_eq!((failure.code.as_str(), failure.begun), ("bad_data", Some(false)));
}

/// A worker that takes so many milliseconds as it is told.
fn sleeper<'h>() -> Worker<'h, ()> {
    Worker::new(|_: &mut Init| Ok::<(), io::Error>(())).on(Request::<u64, u64>::DO, |(), ms, ctx| {
        ctx.item(&"nobody asked for this")?;
        std::thread::sleep(Duration::from_millis(ms));
        Ok::<_, crate::ItemError>(ms)
    })
}

#[test]
fn results_that_wait_behind_a_long_input_are_given_before_the_next() {
    // SPEC B-3, B-4, B-10
    let mut inputs = [0; 200];
    inputs[1] = 20;
    let (answers, ended) = run(sleeper(), Script::whole(numbers(1, "DO", &inputs)));
    assert!(ended.is_ok());
    let [_, _, first, .., last, _] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((first.request.as_str(), first.id), ("ITEM", 1));
    assert_eq!((last.request.as_str(), last.id), ("FINISHED", 1));
    let given = results(first).len();
    assert!((2..100).contains(&given), "{given} results were given when 20 ms had passed");
    let all: Vec<_> = answers[2..answers.len() - 1].iter().flat_map(results).collect();
    assert!(all.into_iter().eq(inputs.map(|ms| Ok(u64::from(ms)))));
}

#[test]
fn large_results_are_given_in_parts_and_one_that_is_too_large_fails_alone() {
    let worker = Worker::new(|_: &mut Init| Ok::<(), io::Error>(())).on_raw("DO", |(), input, _| {
        Ok::<_, io::Error>(Data::bytes(&vec![7; usize::from(input[0]) * 10_000]))
    });
    let mut hello = Vec::new();
    ParentHello {
        version: 1,
        pid: 7,
        parent: 3,
        capabilities: Capabilities::NONE,
        max_frame: 100_000,
        spin: true,
    }
    .encode(&mut hello);
    let input = [frame(0, "HELLO", &hello), numbers(1, "DO", &[1, 3, 3, 11, 1])].concat();
    let (answers, ended) = run(worker, Script::whole(input));
    assert!(ended.is_ok());
    let (mut lens, mut frames) = (Vec::new(), 0);
    for answer in &answers[2..answers.len() - 1] {
        assert!(answer.data.len() < 100_000);
        let mut list = Results::decode(&answer.data).unwrap();
        while let Some(result) = list.next_result().unwrap() {
            lens.push(match result {
                BatchResult::Good(value) => value.len() / 10_000,
                BatchResult::Bad(failure) => {
                    assert_eq!(WireFailure::decode(failure).code, "too_large");
                    0
                }
            });
        }
        frames += 1;
    }
    assert_eq!((lens, frames), (vec![1, 3, 3, 0, 1], 2));
}

#[test]
fn answers_before_a_batch_and_the_batch_itself_are_written_before_the_next_task() {
    let tape = Tape::default();
    let seen = tape.clone();
    let worker =
        Worker::new(|_: &mut Init| Ok::<(), io::Error>(())).on(Request::<u64, u64>::DO, move |(), n, _| {
            // What was written when this one began.
            Ok::<_, io::Error>(n * 100 + seen.frames().len() as u64)
        });
    let input = [task(1, "DO", &1u64), numbers(2, "DO", &[2, 3]), task(3, "DO", &4u64)].concat();
    assert!(run_to(worker, Script::whole(input), tape.clone()).is_ok());
    let answers = tape.frames();
    assert_eq!(answers[2].value::<u64>(), 102);
    assert_eq!(results(&answers[3]), [Ok(203), Ok(303)]);
    assert_eq!(answers[4].value::<u64>(), 404);
}

#[test]
fn a_cancelled_batch_is_answered_without_being_begun() {
    // SPEC B-11: CANCEL stands behind it in the same read.
    let ran = Arc::new(Mutex::new(0));
    let count = Arc::clone(&ran);
    let worker =
        Worker::new(|_: &mut Init| Ok::<(), io::Error>(())).on(Request::<u64, u64>::DO, move |(), n, _| {
            *count.lock().unwrap() += 1;
            Ok::<_, io::Error>(n)
        });
    let input = [numbers(1, "DO", &[1, 2]), frame(1, "CANCEL", &[0xc0]), task(2, "DO", &7u64)].concat();
    let (answers, ended) = run(worker, Script::whole(input));
    assert!(ended.is_ok());
    assert_eq!((answers[2].failure().code.as_str(), answers[2].failure().begun), ("cancelled", Some(false)));
    assert_eq!((answers[3].value::<u64>(), *ran.lock().unwrap()), (7, 1));
}

#[test]
fn a_worker_with_a_window_of_one_takes_no_batches() {
    let (answers, _) = run(worker().window(1), Script::whole(numbers(1, "square", &[1])));
    assert!(!ChildHello::decode(&answers[0].data).unwrap().capabilities.has(Capability::Batch));
    assert_eq!(answers.len(), 3, "and ignores one: HELLO, READY, BYE");
}
