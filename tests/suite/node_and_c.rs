//! The SDKs for Node and for C: their testees under a real pool, and against every test vector. Skipped, with a message, where
//! there is no Node or no C compiler.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use stokehold::{Policy, Pool, Request, Streamed, TaskErrorKind, WorkerCommand};
use stokehold_tests::{Arena, kill, within};

use crate::stage::{ECHO, PATIENCE, command, running_in};

#[derive(Clone, Serialize)]
struct Fail {
    code: &'static str,
    message: &'static str,
    retry: bool,
}

#[derive(Clone, Serialize)]
struct Items {
    n: u64,
}

#[derive(Clone, Serialize)]
struct Sleep {
    ms: u64,
}

#[derive(Clone, Serialize)]
struct Print {
    text: &'static str,
    how: &'static str,
}

#[derive(Debug, Deserialize)]
struct Meta {
    attempt: u32,
    key: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Pid {
    pid: u32,
}

const BYTES: Request<ByteBuf, ByteBuf> = Request::new("test.echo");
const FAIL: Request<Fail, ()> = Request::new("test.fail");
const ITEMS: Request<Items, u64> = Request::new("test.items");
const SLEEP: Request<Sleep, u64> = Request::new("test.sleep");
const PRINT: Request<Print, ()> = Request::new("test.print");
const META: Request<(), Meta> = Request::new("test.meta");
const PID: Request<(), Pid> = Request::new("test.pid");

fn sdks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("sdks")
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// A program of the SDK for C, compiled once; none without a compiler.
fn compiled(name: &str, options: &[&str]) -> Option<PathBuf> {
    if !runs("cc") {
        println!("skipped: there is no cc in the path");
        return None;
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // Other test processes may use it already; a program that runs cannot be written to, but it can be replaced.
    let fresh = program.with_extension(std::process::id().to_string());
    let output = Command::new("cc")
        .args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread"])
        .args(options)
        .arg("-o")
        .arg(&fresh)
        .arg(sdks().join("c/testee.c"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("cannot find") {
        println!("skipped: this cc has no libraries for {options:?}");
        return None;
    }
    assert!(output.status.success(), "{said}");
    std::fs::rename(&fresh, &program).unwrap();
    Some(program)
}

fn c_testee() -> Option<&'static PathBuf> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM.get_or_init(|| compiled("c_testee", &["-O2"])).as_ref()
}

/// The testee in C that ends at the first thing that no C program may do.
pub(crate) fn sanitized_c_testee() -> Option<&'static PathBuf> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let sanitizers = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
    PROGRAM.get_or_init(|| compiled("c_testee_sanitized", &sanitizers)).as_ref()
}

/// The testee in Node; none without Node.
fn node_testee(arena: &Arena) -> Option<WorkerCommand> {
    if !runs("node") {
        println!("skipped: there is no node in the path");
        return None;
    }
    Some(command(arena, "node").arg(sdks().join("node/testee.js")))
}

/// Every testee there is, with the protocol on stdin and stdout and on descriptors of its own.
fn with_each(test: impl Fn(&Arena, WorkerCommand)) {
    within(PATIENCE, || {
        let arena = Arena::new();
        let c = c_testee().map(|program| command(&arena, &program.to_string_lossy()));
        for testee in node_testee(&arena).into_iter().chain(c) {
            test(&arena, testee.clone());
            test(&arena, testee.dedicated_pipes());
        }
    });
}

fn pool(testee: WorkerCommand) -> Pool {
    Pool::builder(testee).workers(1).start().unwrap()
}

#[test]
fn they_echo_in_order_and_large() {
    with_each(|_, testee| {
        let pool = pool(testee);
        let words: Vec<String> = (0..2000).map(|number| format!("wörd {number}")).collect();
        let echoed: Result<Vec<String>, _> = pool.map(ECHO, words.clone()).into_iter().collect();
        assert_eq!(echoed.unwrap(), words);
        let large = ByteBuf::from(vec![7; 3 << 20]);
        assert_eq!(pool.submit(BYTES, &large).unwrap().wait().unwrap(), large);
    });
}

#[test]
fn they_fail_with_code_and_message_and_live_on() {
    with_each(|_, testee| {
        let pool = pool(testee);
        let before = pool.submit(PID, &()).unwrap().wait().unwrap().pid;
        let how = Fail { code: "acme.busy", message: "why not", retry: false };
        let error = pool.submit(FAIL, &how).unwrap().wait().unwrap_err();
        assert_eq!(error.code(), "acme.busy");
        assert!(error.to_string().contains("why not"), "{error}");
        let unknown: Request<(), ()> = Request::new("no.such");
        assert_eq!(pool.submit(unknown, &()).unwrap().wait().unwrap_err().code(), "unknown_request");
        assert_eq!(pool.submit(PID, &()).unwrap().wait().unwrap().pid, before);
    });
}

#[test]
fn they_stream_results() {
    with_each(|_, testee| {
        let pool = pool(testee);
        let stream = pool.submit_stream::<u64, _, _>(ITEMS, &Items { n: 500 }).unwrap();
        let mut elements = stream.collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(elements.pop(), Some(Streamed::Finished(500)));
        let expected: Vec<_> = (0..500).map(|value| Streamed::Item { attempt: 1, value }).collect();
        assert_eq!(elements, expected);
    });
}

#[test]
fn they_stop_a_cancelled_task_and_live_on() {
    with_each(|_, testee| {
        let pool = pool(testee);
        let before = pool.submit(PID, &()).unwrap().wait().unwrap().pid;
        let task = pool.submit(SLEEP, &Sleep { ms: 60_000 }).unwrap();
        running_in(&task);
        task.cancel();
        let error = task.wait().unwrap_err();
        assert!(matches!(error.kind(), TaskErrorKind::Cancelled { .. }), "{error}");
        assert_eq!(pool.submit(PID, &()).unwrap().wait().unwrap().pid, before);
    });
}

#[test]
fn a_task_of_a_killed_one_is_run_again() {
    with_each(|_, testee| {
        let pool = pool(testee);
        let task = pool.submit(SLEEP, &Sleep { ms: 300 }).unwrap();
        let pid = running_in(&task);
        kill(pid);
        assert_eq!(task.wait().unwrap(), 300);
        assert_ne!(pool.submit(PID, &()).unwrap().wait().unwrap().pid, pid);
        let keyed = pool.with(Policy::default().with_key());
        let meta = keyed.submit(META, &()).unwrap().wait().unwrap();
        assert!(meta.attempt == 1 && meta.key.is_some(), "{meta:?}");
    });
}

#[test]
fn what_they_print_does_no_harm() {
    with_each(|_, testee| {
        let pool = pool(testee);
        for how in ["print", "raw", "process"] {
            pool.submit(PRINT, &Print { text: "a stray line", how }).unwrap().wait().unwrap();
        }
        assert_eq!(pool.submit(ECHO, "still here").unwrap().wait().unwrap(), "still here");
        assert!(pool.shutdown(PATIENCE).is_graceful());
    });
}

/// `sdks/node/vectors.js` with that testee.
fn assert_vectors(testee: &[PathBuf]) {
    let output = Command::new("node").arg(sdks().join("node/vectors.js")).args(testee).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn every_vector_is_judged_as_it_says_in_node() {
    if runs("node") {
        let values = Command::new("node").arg(sdks().join("node/values.test.js")).output().unwrap();
        assert!(values.status.success(), "{}", String::from_utf8_lossy(&values.stderr));
        assert_vectors(&["node".into(), sdks().join("node/testee.js")]);
    } else {
        println!("skipped: there is no node in the path");
    }
}

#[test]
fn every_vector_is_judged_as_it_says_in_c_under_sanitizers() {
    let Some(testee) = sanitized_c_testee() else { return };
    if runs("node") {
        assert_vectors(std::slice::from_ref(testee));
    } else {
        println!("skipped: there is no node in the path, which reads the vectors");
    }
}
