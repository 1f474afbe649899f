//! The SDK for Java, by its testee: as a worker of a real pool, and against every vector of `protocol/vectors/frames.jsonl`.
//! Where there is no JDK, these tests say so and do nothing.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::Value as Json;
use stokehold::{Pool, Request, Streamed, TaskErrorKind, WorkerCommand};
use stokehold_protocol::limits::{FRAME_HEADER_BYTES, FRAME_LEN_CEILING, MAX_FRAME_DEFAULT};
use stokehold_protocol::{Message, Recipient, wire};
use stokehold_tests::{Arena, kill, within};

use crate::stage::{ECHO, MOMENT, PATIENCE, command, running_in};

/// A JVM that starts fast and takes little memory. The testee needs no speed.
pub(crate) const JVM: [&str; 4] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-cp"];

const VECTORS: &str = include_str!("../../protocol/vectors/frames.jsonl");

/// The folder with the compiled testee, or nothing where there is no JDK. Compiled once for each state of the sources.
pub(crate) fn classes() -> Option<&'static Path> {
    static CLASSES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let classes = CLASSES.get_or_init(|| {
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("sdks/java");
        let files = ["StokeholdWorker.java", "Testee.java"].map(|name| sources.join(name));
        let mut hasher = DefaultHasher::new();
        files.iter().for_each(|file| fs::read(file).unwrap().hash(&mut hasher));
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("java-{:x}", hasher.finish()));
        if !built.exists() {
            // Made beside and renamed, because another process may do the same now.
            let making = built.with_extension(std::process::id().to_string());
            let javac =
                Command::new("javac").args(["--release", "11", "-d"]).arg(&making).args(&files).output();
            let output = javac.ok()?;
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            if fs::rename(&making, &built).is_err() {
                fs::remove_dir_all(&making).unwrap();
            }
        }
        Command::new("java").arg("-version").output().ok()?;
        Some(built)
    });
    if classes.is_none() {
        eprintln!("skipped: there is no JDK here (javac and java)");
    }
    classes.as_deref()
}

/// The command of a testee in an arena.
fn testee(arena: &Arena, classes: &Path, options: &[&str]) -> WorkerCommand {
    command(arena, "java").args(JVM).arg(classes).arg("Testee").args(options)
}

#[derive(Serialize)]
struct Ms {
    ms: u64,
}

#[derive(Serialize)]
struct Print<'a> {
    text: &'a str,
    how: &'a str,
}

#[derive(Serialize)]
struct N {
    n: u64,
}

#[derive(Deserialize)]
struct Meta {
    attempt: u32,
}

const SLEEP: Request<Ms, u64> = Request::new("test.sleep");
const RAISE: Request<str, ()> = Request::new("test.raise");
const ITEMS: Request<N, u64> = Request::new("test.items");
const PRINT: Request<Print<'_>, ()> = Request::new("test.print");
const META: Request<(), Meta> = Request::new("test.meta");
const BAD_RESULT: Request<(), ()> = Request::new("test.bad_result");

#[test]
fn a_java_worker_answers_fails_streams_prints_and_stops_when_cancelled() {
    let Some(classes) = classes() else { return };
    within(PATIENCE, || {
        for dedicated in [false, true] {
            let arena = Arena::new();
            let mut command = testee(&arena, classes, &[]);
            if dedicated {
                command = command.dedicated_pipes();
            }
            let pool = Pool::builder(command).workers(1).ready_timeout(MOMENT).start().unwrap();
            for how in ["print", "raw", "process"] {
                pool.submit(PRINT, &Print { text: "no frame", how }).unwrap().wait().unwrap();
            }
            assert_eq!(pool.submit(ECHO, "ünï").unwrap().wait().unwrap(), "ünï");
            let bytes: Request<ByteBuf, ByteBuf> = Request::DO;
            let large = ByteBuf::from(vec![7; 3_000_000]);
            assert!(pool.submit(bytes, &large).unwrap().wait().unwrap() == large);
            let error = pool.submit(RAISE, "out of paper").unwrap().wait().unwrap_err();
            assert_eq!((error.kind(), error.code()), (TaskErrorKind::Failed, "error"));
            assert!(error.to_string().contains("out of paper"), "{error}");
            assert_eq!(pool.submit(BAD_RESULT, &()).unwrap().wait().unwrap_err().code(), "bad_data");
            let mut items: Vec<Streamed<u64, u64>> =
                pool.submit_stream(ITEMS, &N { n: 1_000 }).unwrap().collect::<Result<_, _>>().unwrap();
            assert_eq!(items.pop(), Some(Streamed::Finished(1_000)));
            assert!(items.into_iter().eq((0..1_000).map(|value| Streamed::Item { attempt: 1, value })));
            let long = pool.submit(SLEEP, &Ms { ms: 60_000 }).unwrap();
            let pid = running_in(&long);
            long.cancel();
            assert_eq!(long.wait().unwrap_err().code(), "cancelled");
            let next = pool.submit(SLEEP, &Ms { ms: 300 }).unwrap();
            assert_eq!(running_in(&next), pid, "the cancelled worker lives on");
            assert_eq!(next.wait().unwrap(), 300);
            assert!(pool.shutdown(MOMENT).is_graceful());
        }
    });
}

#[test]
fn a_killed_java_worker_is_replaced_and_its_task_runs_again() {
    let Some(classes) = classes() else { return };
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = Pool::builder(testee(&arena, classes, &["threads=4"]))
            .workers(1)
            .ready_timeout(MOMENT)
            .start()
            .unwrap();
        let tasks: Vec<_> = (0..4).map(|_| pool.submit(SLEEP, &Ms { ms: 700 }).unwrap()).collect();
        let metas: Vec<_> = (0..4).map(|_| pool.submit(META, &()).unwrap()).collect();
        kill(running_in(&tasks[0]));
        for task in tasks {
            assert_eq!(task.wait().unwrap(), 700);
        }
        for meta in metas {
            assert!(meta.wait().unwrap().attempt >= 1);
        }
    });
}

#[test]
fn many_tiny_tasks_go_through_a_java_worker_in_order() {
    let Some(classes) = classes() else { return };
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool =
            Pool::builder(testee(&arena, classes, &[])).workers(1).ready_timeout(MOMENT).start().unwrap();
        let echo: Request<u64, u64> = Request::DO;
        let answers = pool.map(echo, 0..50_000_u64);
        assert!(answers.into_iter().map(Result::unwrap).eq(0..50_000));
    });
}

/// The data of FINISHED, or the code of FAILED.
#[derive(Debug, PartialEq)]
enum Answer {
    Finished(Vec<u8>),
    Failed(String),
}

/// A testee that is spoken to byte by byte. Dropping it kills it.
struct Raw {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl Raw {
    fn start(classes: &Path, max_frame: u64) -> Self {
        let mut child = Command::new("java")
            .args(JVM)
            .arg(classes)
            .args(["Testee".to_owned(), format!("max_frame={max_frame}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn greet(&mut self) {
        for request in ["HELLO", "READY"] {
            assert_eq!(self.next().1, request);
        }
        let mut data = Vec::new();
        wire::write_map_len(&mut data, 1);
        wire::write_str(&mut data, "max_frame");
        wire::write_uint(&mut data, u64::from(FRAME_LEN_CEILING));
        let mut frame = Vec::new();
        Message { request: "HELLO", sender: 1, recipient: Recipient::Anyone, data: &data }
            .encode_frame(0, &mut frame);
        self.write(&frame);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// The next frame: id, request, data.
    fn next(&mut self) -> (u32, String, Vec<u8>) {
        let mut header = [0; FRAME_HEADER_BYTES];
        self.output.read_exact(&mut header).unwrap();
        let (length, id) = header.split_at(4);
        let length = u32::from_be_bytes(length.try_into().unwrap());
        let mut body = vec![0; usize::try_from(length).unwrap() - 4];
        self.output.read_exact(&mut body).unwrap();
        let message = Message::decode(&body).unwrap();
        (u32::from_be_bytes(id.try_into().unwrap()), message.request.to_owned(), message.data.to_vec())
    }

    /// Sends a frame and waits for the answer to that id.
    fn answer(&mut self, frame: &[u8], id: u32) -> Answer {
        self.write(frame);
        loop {
            let (found, request, data) = self.next();
            match request.as_str() {
                "FINISHED" if found == id => return Answer::Finished(data),
                "FAILED" if found == id => {
                    return Answer::Failed(stokehold_protocol::Failure::decode(&data).code);
                }
                "CREDIT" => {}
                _ => panic!("{request} for {found}"),
            }
        }
    }

    fn exit_code(&mut self) -> Option<i32> {
        let end = Instant::now() + MOMENT;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("the worker did not end");
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// DO with another message's addresses and data.
fn echo(id: u32, body: &[u8]) -> Vec<u8> {
    let message = Message::decode(body).unwrap();
    let mut frame = Vec::new();
    Message { request: "DO", ..message }.encode_frame(id, &mut frame);
    frame
}

#[test]
fn a_java_worker_reads_every_message_of_the_vectors_as_they_say() {
    let Some(classes) = classes() else { return };
    within(PATIENCE, || {
        let mut worker = Raw::start(classes, u64::from(MAX_FRAME_DEFAULT));
        worker.greet();
        let mut count = 0;
        for vector in vectors().filter(|vector| vector["stage"] != "frame") {
            let name = vector["id"].as_str().unwrap();
            let bytes = bytes(&vector["bytes"]);
            let body = &bytes[FRAME_HEADER_BYTES..];
            count += 1;
            match (vector["verdict"].as_str().unwrap(), vector["error"].as_str()) {
                ("accept", _) => {
                    let mut expected = Vec::new();
                    encode(&vector["msg"][3], &mut expected);
                    let found = worker.answer(&echo(count, body), count);
                    assert!(found == Answer::Finished(expected), "{name}: {found:?}");
                }
                ("reject", Some("bad_data")) => {
                    assert_eq!(
                        worker.answer(&echo(count, body), count),
                        Answer::Failed("bad_data".to_owned()),
                        "{name}"
                    );
                }
                ("reject", Some("bad_message")) if vector["task"] != 0 => {
                    let id = u32::try_from(vector["task"].as_u64().unwrap()).unwrap();
                    assert_eq!(worker.answer(&bytes, id), Answer::Failed("bad_message".to_owned()), "{name}");
                }
                // A bad head without an id is ignored: the next answer is that of the next vector.
                ("reject", _) => worker.write(&bytes),
                _ => drop(worker.answer(&bytes, u32::try_from(vector["task"].as_u64().unwrap()).unwrap())),
            }
        }
        assert!(count > 200, "{count} vectors");
        drop(worker.input.take());
        assert_eq!(worker.exit_code(), Some(0));
    });
}

#[test]
fn a_java_worker_ends_at_every_broken_stream_of_the_vectors_as_they_say() {
    let Some(classes) = classes() else { return };
    within(PATIENCE, || {
        let vectors: Vec<Json> = vectors().filter(|vector| vector["stage"] == "frame").collect();
        assert!(vectors.len() > 40, "{} vectors", vectors.len());
        for some in vectors.chunks(5) {
            // A few at a time, because a JVM's start is mostly waiting.
            let workers: Vec<Raw> = some
                .iter()
                .map(|vector| {
                    Raw::start(
                        classes,
                        vector["max_frame"].as_u64().unwrap_or_else(|| MAX_FRAME_DEFAULT.into()),
                    )
                })
                .collect();
            for (vector, mut worker) in some.iter().zip(workers) {
                let name = vector["id"].as_str().unwrap();
                let error = vector["error"].as_str().unwrap();
                let bytes = bytes(&vector["bytes"]);
                worker.greet();
                let partial = vector["partial"] == true;
                if error == "too_large" && !partial {
                    let id = u32::try_from(vector["task"].as_u64().unwrap()).unwrap();
                    assert_eq!(worker.answer(&bytes, id), Answer::Failed("too_large".to_owned()), "{name}");
                    continue;
                }
                worker.write(&bytes);
                if error == "desync" {
                    // Its input stays open: it must not wait for more.
                    assert_eq!(worker.exit_code(), Some(4), "{name}");
                } else {
                    drop(worker.input.take());
                    assert_eq!(worker.exit_code(), Some(3), "{name}");
                }
            }
        }
    });
}

/// Those that are frames.
fn vectors() -> impl Iterator<Item = Json> {
    let all = VECTORS.lines().skip(1).map(|line| serde_json::from_str::<Json>(line).unwrap());
    all.filter(|vector| vector.get("carrier").is_none())
}

/// The bytes of a vector: hexadecimal digits, or an array of them and of runs.
fn bytes(json: &Json) -> Vec<u8> {
    match json {
        Json::String(text) => hex(text),
        Json::Array(parts) => parts.iter().flat_map(bytes).collect(),
        _ => run(&json["repeat"]),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// Bytes that repeat, or that stand there once.
fn run(json: &Json) -> Vec<u8> {
    match json {
        Json::String(text) => hex(text),
        _ => hex(json[0].as_str().unwrap()).repeat(usize::try_from(json[1].as_u64().unwrap()).unwrap()),
    }
}

/// A value in the notation of the vectors, in its shortest form.
fn encode(json: &Json, out: &mut Vec<u8>) {
    match json {
        Json::Null => wire::write_nil(out),
        Json::Bool(value) => wire::write_bool(out, *value),
        Json::Number(number) => integer(number.as_i64().unwrap().into(), out),
        Json::String(text) => wire::write_str(out, text),
        Json::Array(values) => {
            wire::write_array_len(out, u32::try_from(values.len()).unwrap());
            values.iter().for_each(|value| encode(value, out));
        }
        Json::Object(object) => {
            let (kind, value) = object.iter().next().unwrap();
            match kind.as_str() {
                "$int" => integer(value.as_str().unwrap().parse().unwrap(), out),
                "$f64" => {
                    let bits = u64::from_str_radix(value.as_str().unwrap(), 16).unwrap();
                    wire::write_float(out, f64::from_bits(bits));
                }
                "$bin" => wire::write_bin(out, &run(value)),
                "$str" => wire::write_str(out, &String::from_utf8(run(value)).unwrap()),
                _ => {
                    let pairs = value.as_array().unwrap();
                    wire::write_map_len(out, u32::try_from(pairs.len()).unwrap());
                    for pair in pairs {
                        encode(&pair[0], out);
                        encode(&pair[1], out);
                    }
                }
            }
        }
    }
}

fn integer(value: i128, out: &mut Vec<u8>) {
    if let Ok(value) = u64::try_from(value) {
        return wire::write_uint(out, value);
    }
    let value = i64::try_from(value).unwrap();
    let be = value.to_be_bytes();
    match value {
        -32.. => out.push(be[7]),
        -0x80.. => out.extend([0xd0, be[7]]),
        -0x8000.. => out.extend([&[0xd1], &be[6..]].concat()),
        -0x8000_0000.. => out.extend([&[0xd2], &be[4..]].concat()),
        _ => out.extend([&[0xd3], &be[..]].concat()),
    }
}
