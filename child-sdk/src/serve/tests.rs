//! Whole sessions in memory: prepared bytes in, all answers out. What needs a process is in the crate's `tests/`.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use stokehold_protocol::limits::MAX_FRAME_DEFAULT;
use stokehold_protocol::{
    Capabilities, Capability, Codec, Failure as WireFailure, FrameEvent, LogLine, Message, Meta, ParentHello,
    PeerError, Progress, Recipient, Request, wire,
};

use super::*;
use crate::intake::Source;
use crate::probe::NoProbe;
use crate::stream::Wake;
use crate::{Ctx, Data, Failure, Init, Level, Worker};

mod batch; // many inputs in one frame
mod talk; // what a handler says and is told while it runs, STARTED, CANCEL, PING, crash points

/// Gives its bytes in the chunks it is told, then the end.
struct Script {
    chunks: Vec<Vec<u8>>,
}

impl Script {
    fn whole(bytes: Vec<u8>) -> Self {
        Self { chunks: vec![bytes] }
    }

    fn bytewise(bytes: &[u8]) -> Self {
        Self { chunks: bytes.iter().map(|byte| vec![*byte]).collect() }
    }
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunks.is_empty() {
            return Ok(0);
        }
        let chunk = &mut self.chunks[0];
        let count = chunk.len().min(buffer.len());
        buffer[..count].copy_from_slice(&chunk[..count]);
        chunk.drain(..count);
        if chunk.is_empty() {
            self.chunks.remove(0);
        }
        Ok(count)
    }
}

impl Source for Script {
    fn wait(&self, _: Duration) -> bool {
        true
    }
}

/// Keeps what was written, one entry a write, where a handler can look too.
#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Vec<Vec<u8>>>>);

impl Tape {
    fn frames(&self) -> Vec<Answer> {
        let mut splitter = Splitter::new();
        splitter.feed(&self.0.lock().unwrap().concat());
        let mut answers = Vec::new();
        while let Some(FrameEvent::Frame { id, body }) = splitter.next_frame().unwrap() {
            let message = Message::decode(body).unwrap();
            answers.push(Answer { id, request: message.request.to_owned(), data: message.data.to_vec() });
        }
        splitter.finish().unwrap();
        answers
    }
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Answer {
    id: u32,
    request: String,
    data: Vec<u8>,
}

impl Answer {
    fn failure(&self) -> WireFailure {
        assert_eq!(self.request, "FAILED", "{self:?}");
        WireFailure::decode(&self.data)
    }

    fn value<T: serde::de::DeserializeOwned>(&self) -> T {
        assert_eq!(self.request, "FINISHED", "{:?}", WireFailure::decode(&self.data));
        rmp_serde::from_slice(&self.data).unwrap()
    }
}

fn frame(id: u32, request: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Message { request, sender: 1, recipient: Recipient::Anyone, data }.encode_frame(id, &mut out);
    out
}

fn task<T: Serialize>(id: u32, request: &str, value: &T) -> Vec<u8> {
    frame(id, request, Data::encode(value).unwrap().as_bytes())
}

/// Runs a worker over `input`; gives all frames it wrote and how it ended.
fn run<S>(worker: Worker<'_, S>, input: Script) -> (Vec<Answer>, Result<(), Stop>) {
    let tape = Tape::default();
    let ended = run_to(worker, input, tape.clone());
    (tape.frames(), ended)
}

fn run_to<S>(
    worker: Worker<'_, S>,
    input: impl Source + 'static,
    output: impl Write + Send + 'static,
) -> Result<(), Stop> {
    run_on(worker, Line::new(Box::new(input), Box::new(output), None), NoProbe)
}

fn run_probed<S>(
    worker: Worker<'_, S>,
    input: impl Source + 'static,
    output: impl Write + Send + 'static,
    probe: impl Probe,
) -> Result<(), Stop> {
    run_on(worker, Line::new(Box::new(input), Box::new(output), None), probe)
}

fn run_on<S>(worker: Worker<'_, S>, line: Line, probe: impl Probe) -> Result<(), Stop> {
    let (hello, mut entries, init) = worker.into_parts();
    let plan = Plan {
        hello,
        pid: 42,
        entries: &mut entries,
        worker: Some(3),
        run: None,
        line: Arc::new(line),
        codec: Codec::MessagePack,
        probe: Arc::new(probe),
    };
    serve(plan, init, || {})
}

/// A worker that squares, fails, panics, adds up, and echoes.
fn worker<'h>() -> Worker<'h, u64> {
    const SQUARE: Request<u64, u64> = Request::new("square");
    const FAIL: Request<String, ()> = Request::new("fail");
    const PANIC: Request<String, ()> = Request::new("panic");
    const ADD: Request<u64, u64> = Request::new("add");
    const ABOUT: Request<(), (String, u32, u32, Option<u32>)> = Request::new("about");
    Worker::new(|_: &mut Init| Ok::<u64, io::Error>(0))
        .on(SQUARE, |_: &mut u64, n, _: &mut Ctx| n.checked_mul(n).ok_or("too big"))
        .on(FAIL, |_, text: String, _| {
            Err::<(), _>(Failure::new(text).code("test.fail").retry().caused_by("the cause"))
        })
        .on(PANIC, |sum, text: String, _| {
            *sum += 100;
            panic!("{text}");
            #[expect(unreachable_code, reason = "gives the closure its type")]
            Ok::<(), io::Error>(())
        })
        .on(ADD, |sum, n, _| {
            *sum += n;
            Ok::<_, io::Error>(*sum)
        })
        .on(ABOUT, |_, (), ctx| {
            Ok::<_, io::Error>((ctx.request().to_owned(), ctx.task_id(), ctx.attempt(), ctx.worker()))
        })
        .on_raw("DO", |_, input, _| Data::from_encoded(input.to_vec()))
}

#[test]
fn a_session_greets_answers_in_order_and_says_bye() {
    let input =
        [task(1, "square", &7u64), task(2, "DO", &"text"), task(3, "add", &1u64), task(4, "add", &2u64)]
            .concat();
    for script in [Script::whole(input.clone()), Script::bytewise(&input)] {
        let (answers, ended) = run(worker(), script);
        assert!(ended.is_ok());
        let names: Vec<(&str, u32)> =
            answers.iter().map(|answer| (answer.request.as_str(), answer.id)).collect();
        let expected = [
            ("HELLO", 0),
            ("READY", 0),
            ("FINISHED", 1),
            ("FINISHED", 2),
            ("FINISHED", 3),
            ("FINISHED", 4),
            ("BYE", 0),
        ];
        assert_eq!(names, expected);
        assert_eq!(answers[2].value::<u64>(), 49);
        assert_eq!(answers[3].value::<String>(), "text");
        assert_eq!(answers[5].value::<u64>(), 3);
        assert_eq!(answers[6].data, b"\x82\xa4done\x04\xa6failed\x00");
    }
}

#[test]
fn hello_says_what_the_worker_is() {
    let (answers, _) = run(worker().window(7), Script::whole(Vec::new()));
    let hello = ChildHello::decode(&answers[0].data).unwrap();
    let capabilities: Vec<&str> = hello.capabilities.iter().map(Capability::name).collect();
    assert_eq!(capabilities, ["batch", "cancel", "meta", "ping", "started"]);
    assert_eq!((hello.version, hello.window, hello.serial, hello.ready), (1, 7, true, false));
    assert_eq!(hello.methods, ["square", "fail", "panic", "add", "about", "DO"]);
    assert!(hello.sdk.starts_with("rust/"));
    assert_eq!(hello.max_frame, MAX_FRAME_DEFAULT);
}

#[test]
fn a_failing_start_says_hello_and_nothing_more() {
    let worker = Worker::new(|_: &mut Init| Err::<(), _>("no model"))
        .on_raw("DO", |(), _, _| Ok::<_, io::Error>(Data::nil()));
    let (answers, ended) = run(worker, Script::whole(task(1, "DO", &1)));
    assert_eq!(answers.len(), 1);
    assert!(matches!(ended, Err(Stop::NotReady(error)) if error.to_string() == "no model"));
}

#[test]
fn errors_and_panics_fail_their_task_only() {
    let input = [
        task(1, "fail", &"words"),
        task(2, "panic", &"oh"),
        task(3, "add", &1u64),
        task(4, "square", &u64::MAX),
    ];
    let (answers, ended) = run(worker(), Script::whole(input.concat()));
    assert!(ended.is_ok());
    let failed = answers[2].failure();
    assert_eq!((failed.code.as_str(), failed.message.as_str(), failed.retry), ("test.fail", "words", true));
    assert_eq!(failed.chain, ["the cause"]);
    let panicked = answers[3].failure();
    assert_eq!(panicked.code, "error");
    assert!(
        panicked.message.starts_with("panicked") && panicked.message.ends_with("oh"),
        "{}",
        panicked.message
    );
    assert_eq!(answers[4].value::<u64>(), 101, "the state is as the panic left it");
    assert_eq!(answers[5].failure().message, "too big");
}

#[test]
fn wrong_input_fails_before_the_handler_and_names_the_type() {
    let input = [
        task(1, "square", &"seven"),
        frame(2, "square", &[7, 7]),
        frame(3, "DO", &[0xc1]),
        task(4, "square", &2u64),
    ];
    let (answers, ended) = run(worker(), Script::whole(input.concat()));
    assert!(ended.is_ok());
    for answer in &answers[2..5] {
        let failure = answer.failure();
        assert_eq!((failure.code.as_str(), failure.begun), ("bad_data", Some(false)));
    }
    assert!(answers[2].failure().message.contains("u64"));
    assert_eq!(answers[5].value::<u64>(), 4);
}

#[test]
fn a_result_against_the_data_model_is_bad_data() {
    let worker = Worker::new(|_: &mut Init| Ok::<(), io::Error>(()))
        .on(Request::<u32, _>::DO, |(), n, _| Ok::<_, io::Error>(std::collections::BTreeMap::from([(n, n)])));
    let (answers, _) = run(worker, Script::whole(task(1, "DO", &1)));
    assert_eq!(answers[2].failure().code, "bad_data");
}

#[test]
fn a_result_above_the_parents_limit_is_too_large_and_the_next_one_comes() {
    let mut hello = Vec::new();
    wire::write_map_len(&mut hello, 1);
    wire::write_str(&mut hello, "max_frame");
    wire::write_uint(&mut hello, 65_536);
    let worker = Worker::new(|_: &mut Init| Ok::<(), io::Error>(()))
        .on(Request::<usize, _>::DO, |(), n, _| Ok::<_, io::Error>("x".repeat(n)));
    let input = [frame(0, "HELLO", &hello), task(1, "DO", &70_000), task(2, "DO", &1)].concat();
    let (answers, ended) = run(worker, Script::whole(input));
    assert!(ended.is_ok());
    assert_eq!(answers[2].failure().code, "too_large");
    assert_eq!(answers[3].value::<String>(), "x");
}

#[test]
fn a_task_above_our_limit_is_refused_and_the_next_one_runs() {
    let giant = frame(1, "DO", &[vec![0xc6, 1, 0, 0, 0], vec![0; 1 << 24]].concat());
    let ignored = frame(2, "PING", &[vec![0xc6, 1, 0, 0, 0], vec![0; 1 << 24]].concat());
    let (answers, ended) = run(worker(), Script::whole([giant, ignored, task(3, "square", &3u64)].concat()));
    assert!(ended.is_ok());
    assert_eq!((answers[2].id, answers[2].failure().code.as_str()), (1, "too_large"));
    assert_eq!(answers[3].value::<u64>(), 9);
    assert_eq!(answers.len(), 5);
}

#[test]
fn an_unknown_request_is_refused_with_the_known_names_and_unknown_verbs_are_ignored() {
    let input = [task(1, "resize", &1), frame(2, "FUTURE", &[0xc0]), frame(0, "resize", &[0xc0])].concat();
    let (answers, ended) = run(worker(), Script::whole(input));
    assert!(ended.is_ok());
    let failure = answers[2].failure();
    assert_eq!((failure.code.as_str(), failure.begun), ("unknown_request", Some(false)));
    assert!(
        failure.message.contains("\"resize\"") && failure.message.contains("square, fail"),
        "{}",
        failure.message
    );
    assert_eq!(answers.len(), 4);
}

#[test]
fn a_bad_head_is_answered_and_the_session_goes_on() {
    let bad = |id: u32| [&[0, 0, 0, 6][..], &id.to_be_bytes(), &[0x91, 0xc0]].concat();
    let (answers, ended) = run(worker(), Script::whole([bad(5), bad(0), task(6, "square", &1u64)].concat()));
    assert!(ended.is_ok());
    assert_eq!((answers[2].id, answers[2].failure().code.as_str()), (5, "bad_message"));
    assert_eq!(answers[3].value::<u64>(), 1);
}

#[test]
fn one_way_requests_run_and_are_never_answered() {
    let input = [
        frame(0, "add", &[5]),
        frame(0, "fail", &[0xa1, b'x']),
        frame(0, "panic", &[0xa1, b'x']),
        task(1, "add", &1u64),
    ];
    let (answers, ended) = run(worker(), Script::whole(input.concat()));
    assert!(ended.is_ok());
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[2].value::<u64>(), 106);
}

#[test]
fn a_handler_knows_its_task_and_meta_is_for_the_next_frame_only() {
    let meta =
        [frame(1, "META", b"\x81\xa7attempt\x02"), task(1, "about", &()), task(2, "about", &())].concat();
    let (answers, _) = run(worker(), Script::whole(meta));
    assert_eq!(answers[2].value::<(String, u32, u32, Option<u32>)>(), ("about".to_owned(), 1, 2, Some(3)));
    assert_eq!(answers[3].value::<(String, u32, u32, Option<u32>)>(), ("about".to_owned(), 2, 1, Some(3)));
}

#[test]
fn die_finishes_what_came_before_it_and_nothing_after() {
    let input = [task(1, "add", &1u64), frame(0, "DIE", &[0xc0]), task(2, "add", &1u64)].concat();
    let (answers, ended) = run(worker(), Script::whole(input));
    assert!(ended.is_ok());
    assert_eq!(answers.last().map(|answer| answer.request.as_str()), Some("BYE"));
    assert_eq!(answers.len(), 4);
}

#[test]
fn die_now_drops_what_waits_and_ends_without_bye() {
    let before = task(1, "add", &1u64);
    let now = [frame(0, "DIE", b"\x81\xa3now\xc3"), task(2, "add", &1u64)].concat();
    let (answers, ended) = run(worker(), Script::whole([before.clone(), now.clone()].concat()));
    assert!(ended.is_ok());
    assert_eq!(answers.len(), 2, "task 1 came in the same read, and had not begun");
    let (answers, ended) = run(worker(), Script { chunks: vec![before, now] });
    assert!(ended.is_ok());
    assert_eq!(answers.last().map(|answer| answer.id), Some(1));
}

#[test]
fn the_end_inside_a_frame_and_text_are_errors_but_what_was_answered_stays() {
    let half = task(2, "add", &1u64);
    let (answers, ended) =
        run(worker(), Script::whole([task(1, "add", &1u64), half[..half.len() - 1].to_vec()].concat()));
    assert!(matches!(ended, Err(Stop::Truncated(_))));
    assert_eq!(answers.len(), 3);
    let (answers, ended) =
        run(worker(), Script::whole([task(1, "add", &1u64), b"hello there".to_vec()].concat()));
    assert!(matches!(ended, Err(Stop::Peer(PeerError::Frame(_)))));
    assert_eq!(answers.len(), 3);
}

#[test]
fn a_ping_is_answered() {
    let (answers, _) = run(worker(), Script::whole(frame(0, "PING", &[0xa1, b'x'])));
    assert_eq!((answers[2].request.as_str(), answers[2].data.as_slice()), ("PONG", &[0xa1, b'x'][..]));
}

#[test]
fn an_answer_is_written_before_the_next_handler_starts() {
    let tape = Tape::default();
    let seen = tape.clone();
    let began = Cell::new(0u32);
    let worker = Worker::new(|_: &mut Init| Ok::<(), io::Error>(())).on_raw("DO", |(), _, _| {
        let answered = seen.frames().iter().filter(|answer| answer.request == "FINISHED").count();
        assert_eq!(answered, began.get() as usize);
        began.set(began.get() + 1);
        Ok::<_, io::Error>(Data::nil())
    });
    let input: Vec<u8> = (1..=50).flat_map(|id| task(id, "DO", &id)).collect();
    run_to(worker, Script::whole(input), tape.clone()).unwrap();
    assert_eq!(tape.frames().iter().filter(|answer| answer.request == "FAILED").count(), 0);
}

#[test]
fn answers_of_tiny_handlers_come_all_and_in_order() {
    const TASKS: u32 = 20_000;
    let tape = Tape::default();
    let input: Vec<u8> = (1..=TASKS).flat_map(|id| task(id, "DO", &id)).collect();
    let wake = Some(Wake::new().unwrap());
    run_on(worker(), Line::new(Box::new(Script::whole(input)), Box::new(tape.clone()), wake), NoProbe)
        .unwrap();
    let answers = tape.frames();
    let ids: Vec<u32> =
        answers.iter().filter(|answer| answer.request == "FINISHED").map(|answer| answer.id).collect();
    assert!(ids.into_iter().eq(1..=TASKS));
}

/// What [`Supply`] sends for a task that takes long.
const LONG_TASK: u64 = 7;

/// Sends tiny tasks until answers are held back, a few more, then a long one and tiny ones behind it, then the end.
struct Supply {
    tape: Tape,
    /// How many writes have been looked through.
    seen: usize,
    next: u32,
    /// Chunks still to come once coalescing has begun; before, `None`.
    left: Option<u32>,
    begun: Instant,
    ready: Vec<u8>,
}

impl Read for Supply {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() {
            if self.begun.elapsed() > Duration::from_secs(60) {
                return Err(io::Error::new(ErrorKind::TimedOut, "answers are never held back"));
            }
            let writes = self.tape.0.lock().unwrap();
            let announced =
                writes[self.seen..].iter().any(|write| write.windows(6).any(|six| six == b"CREDIT"));
            self.seen = writes.len();
            drop(writes);
            self.left = self.left.or(announced.then_some(20));
            let long_at = match &mut self.left {
                Some(0) => return Ok(0),
                Some(left) => {
                    *left -= 1;
                    (*left == 10).then_some(self.next + 50)
                }
                None => None,
            };
            for id in self.next..self.next + 100 {
                let input = if long_at == Some(id) { LONG_TASK } else { 0 };
                self.ready.extend(task(id, "DO", &input));
            }
            self.next += 100;
        }
        let count = self.ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.ready[..count]);
        self.ready.drain(..count);
        Ok(count)
    }
}

impl Source for Supply {
    fn wait(&self, _: Duration) -> bool {
        false
    }
}

/// Serves a [`Supply`] with such a window; gives every write as (request, data) of its frames.
fn coalesced(window: u32, left: Option<u32>) -> Vec<Vec<(String, Vec<u8>)>> {
    let tape = Tape::default();
    let supply =
        Supply { tape: tape.clone(), seen: 0, next: 1, left, begun: Instant::now(), ready: Vec::new() };
    let worker = Worker::new(|_: &mut Init| Ok::<(), io::Error>(()))
        .on(Request::<u64, u64>::DO, |(), n, _| {
            let start = Instant::now();
            while n == LONG_TASK && start.elapsed() < Duration::from_millis(2) {}
            Ok::<_, io::Error>(n)
        })
        .window(window);
    // Answers wait only where somebody would write them in time. Here nobody has to: no handler takes long enough.
    let wake = Wake::new().unwrap();
    let line = Line::new(Box::new(supply), Box::new(tape.clone()), Some(wake));
    run_on(worker, line, NoProbe).unwrap();
    let writes = std::mem::take(&mut *tape.0.lock().unwrap());
    let frames = |write: Vec<u8>| Tape(Arc::new(Mutex::new(vec![write]))).frames();
    let named = |answer: Answer| (answer.request, answer.data);
    writes.into_iter().map(|write| frames(write).into_iter().map(named).collect()).collect()
}

#[test]
fn the_parent_knows_whenever_answers_are_held_back() {
    const SERIAL: &[u8] = b"\x81\xa6serial\xc3";
    const NOT_SERIAL: &[u8] = b"\x81\xa6serial\xc2";
    let (mut serial, mut changes) = (true, Vec::new());
    for write in coalesced(64, None) {
        let believed = serial;
        let mut answers = 0;
        for (request, data) in write {
            match request.as_str() {
                "FINISHED" => answers += 1,
                "CREDIT" => {
                    assert!([SERIAL, NOT_SERIAL].contains(&data.as_slice()), "{data:?}");
                    serial = data == SERIAL;
                    changes.push(serial);
                }
                _ => {}
            }
        }
        assert!(answers <= 1 || !believed, "{answers} answers came together and the parent was not told");
    }
    assert_eq!(changes.first(), Some(&false));
    assert!(changes.contains(&true), "the long task ends it: {changes:?}");
    assert!(changes.windows(2).all(|two| two[0] != two[1]), "said once each: {changes:?}");
}

#[test]
fn without_a_monitor_no_answer_is_held_back() {
    let tape = Tape::default();
    let input: Vec<u8> = (1..=5000).flat_map(|id| task(id, "DO", &id)).collect();
    run_to(worker(), Script::whole(input), tape.clone()).unwrap();
    assert_eq!(tape.0.lock().unwrap().len(), 5003, "HELLO, READY, a write for each answer, BYE");
    assert!(tape.frames().iter().all(|answer| answer.request != "CREDIT"));
}

#[test]
fn a_window_of_one_needs_no_announcement() {
    let writes = coalesced(1, Some(100));
    assert!(writes.iter().flatten().all(|(request, _)| request != "CREDIT"));
}

#[test]
fn a_vanished_reader_is_told_from_a_failing_one() {
    struct Broken(ErrorKind);
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let ended = run_to(worker(), Script::whole(Vec::new()), Broken(ErrorKind::BrokenPipe));
    assert!(matches!(ended, Err(Stop::ReaderGone)));
    let ended = run_to(worker(), Script::whole(Vec::new()), Broken(ErrorKind::StorageFull));
    assert!(matches!(ended, Err(Stop::Io(_))));
}

#[test]
fn structs_travel_by_field_name() {
    #[derive(Clone, Deserialize, Serialize)]
    struct Job {
        name: String,
        wait: Duration,
    }
    let worker = Worker::new(|_: &mut Init| Ok::<(), io::Error>(()))
        .on(Request::<Job, _>::DO, |(), job, _| Ok::<_, io::Error>(job));
    let job = Job { name: "a".to_owned(), wait: Duration::from_secs(1) };
    let (answers, _) = run(worker, Script::whole(task(1, "DO", &job)));
    assert_eq!(answers[2].data, b"\x82\xa4name\xa1a\xa4wait\x82\xa4secs\x01\xa5nanos\x00");
}

#[test]
#[should_panic(expected = "two handlers")]
fn a_name_with_two_handlers_is_found_at_the_start() {
    drop(worker().on_raw("add", |_, _, _| Ok::<_, io::Error>(Data::nil())));
}

#[test]
#[should_panic(expected = "cannot be a request's name")]
fn a_protocol_name_for_a_handler_is_found_at_the_start() {
    drop(worker().on_raw("FINISHED", |_, _, _| Ok::<_, io::Error>(Data::nil())));
}
