//! The SDK for Go, by its testee: as a worker of a real pool, against every vector and session, and its own tests. Where there
//! is no Go, these tests say so and do nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use stokehold::{Policy, Pool, Request, Streamed, TaskErrorKind, WorkerCommand};
use stokehold_tests::{Arena, kill, within};

use crate::sdks::{is_there, python};
use crate::stage::{ECHO, MOMENT, PATIENCE, command, running_in};

#[derive(Clone, Serialize)]
struct Fail {
    code: &'static str,
    message: &'static str,
    retry: bool,
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
    key: Option<String>,
}

const BAD_RESULT: Request<(), ()> = Request::new("test.bad_result");
const FAIL: Request<Fail, ()> = Request::new("test.fail");
const GOEXIT: Request<(), ()> = Request::new("test.goexit");
const ITEMS: Request<N, u64> = Request::new("test.items");
const META: Request<(), Meta> = Request::new("test.meta");
const PANIC: Request<str, ()> = Request::new("test.panic");
const PRINT: Request<Print<'_>, ()> = Request::new("test.print");
const RAISE: Request<str, ()> = Request::new("test.raise");
const SLEEP: Request<Ms, u64> = Request::new("test.sleep");
const WRAP: Request<str, ()> = Request::new("test.wrap");

/// `go` with these arguments, in the SDK's folder. It fetches nothing, and writes into the target folder only.
fn go(arguments: &[&str]) -> Command {
    let mut go = Command::new("go");
    go.args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("sdks/go"))
        .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache"))
        .env("GOPATH", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-path"))
        .env("GOFLAGS", "-buildvcs=false")
        .env("GOPROXY", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off");
    go
}

/// The testee, built once; nothing where there is no Go.
fn testee() -> Option<&'static Path> {
    static TESTEE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let testee = TESTEE.get_or_init(|| {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-testee");
        // Other test processes may run it already; a program that runs cannot be written to, but it can be replaced.
        let fresh = program.with_extension(std::process::id().to_string());
        let output = go(&["build", "-o"]).arg(&fresh).arg("./testee").output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(&fresh, &program).unwrap();
        Some(program)
    });
    if testee.is_none() {
        println!("skipped: there is no go in the path");
    }
    testee.as_deref()
}

fn worker(arena: &Arena, testee: &Path, options: &[&str]) -> WorkerCommand {
    command(arena, testee.to_str().unwrap()).args(options)
}

#[test]
fn a_go_worker_answers_fails_streams_prints_and_stops_when_cancelled() {
    let Some(testee) = testee() else { return };
    within(PATIENCE, || {
        for (dedicated, options) in [(false, &[][..]), (true, &["concurrency=4"])] {
            let arena = Arena::new();
            let mut command = worker(&arena, testee, options);
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
fn errors_panics_and_goexit_in_a_go_worker_fail_their_task_and_nothing_else() {
    let Some(testee) = testee() else { return };
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool =
            Pool::builder(worker(&arena, testee, &[])).workers(1).ready_timeout(MOMENT).start().unwrap();
        let pid = {
            let task = pool.submit(SLEEP, &Ms { ms: 300 }).unwrap();
            let pid = running_in(&task);
            task.wait().unwrap();
            pid
        };
        let error = pool.submit(RAISE, "out of paper").unwrap().wait().unwrap_err();
        assert_eq!((error.kind(), error.code()), (TaskErrorKind::Failed, "error"));
        assert!(error.to_string().contains("out of paper"), "{error}");
        let error = pool.submit(PANIC, "out of ink").unwrap().wait().unwrap_err();
        assert_eq!(error.code(), "error");
        assert!(error.to_string().contains("panic: out of ink"), "{error}");
        let error = pool.submit(WRAP, "the disk").unwrap().wait().unwrap_err();
        assert_eq!(error.code(), "acme.full");
        assert!(error.to_string().contains("while it worked: the disk"), "{error}");
        let fail = Fail { code: "acme.busy", message: "later", retry: false };
        assert_eq!(pool.submit(FAIL, &fail).unwrap().wait().unwrap_err().code(), "acme.busy");
        assert_eq!(pool.submit(BAD_RESULT, &()).unwrap().wait().unwrap_err().code(), "bad_data");
        let error = pool.submit(GOEXIT, &()).unwrap().wait().unwrap_err();
        assert!(error.to_string().contains("runtime.Goexit"), "{error}");
        let next = pool.submit(SLEEP, &Ms { ms: 300 }).unwrap();
        assert_eq!(running_in(&next), pid, "it is the same worker");
        next.wait().unwrap();
    });
}

#[test]
fn a_killed_go_worker_is_replaced_and_its_tasks_run_again() {
    let Some(testee) = testee() else { return };
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = Pool::builder(worker(&arena, testee, &["concurrency=4"]))
            .workers(1)
            .ready_timeout(MOMENT)
            .start()
            .unwrap();
        let tasks: Vec<_> = (0..4).map(|_| pool.submit(SLEEP, &Ms { ms: 700 }).unwrap()).collect();
        kill(running_in(&tasks[0]));
        for task in tasks {
            assert_eq!(task.wait().unwrap(), 700);
        }
    });
}

#[test]
fn a_go_worker_sees_which_attempt_it_is_and_its_key() {
    let Some(testee) = testee() else { return };
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool =
            Pool::builder(worker(&arena, testee, &[])).workers(1).ready_timeout(MOMENT).start().unwrap();
        let seen = pool.submit(META, &()).unwrap().wait().unwrap();
        assert_eq!((seen.attempt, seen.key), (1, None));
        let keyed = pool.with(Policy::default().with_key());
        assert!(keyed.submit(META, &()).unwrap().wait().unwrap().key.is_some());
    });
}

#[test]
fn many_tiny_tasks_go_through_a_go_worker_in_order() {
    let Some(testee) = testee() else { return };
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool =
            Pool::builder(worker(&arena, testee, &[])).workers(1).ready_timeout(MOMENT).start().unwrap();
        let echo: Request<u64, u64> = Request::DO;
        let answers = pool.map(echo, 0..50_000_u64);
        assert!(answers.into_iter().map(Result::unwrap).eq(0..50_000));
    });
}

#[test]
fn the_go_sdk_keeps_every_vector_and_session() {
    let Some(testee) = testee() else { return };
    if is_there("python3") {
        let testee = testee.to_str().unwrap();
        python(&["protocol/vectors/replay.py", "--", testee]);
        python(&["protocol/vectors/replay.py", "--sessions", "--", testee, "concurrency=4"]);
    }
}

#[test]
fn the_go_sdk_passes_its_own_tests() {
    if testee().is_none() {
        return;
    }
    within(PATIENCE, || {
        for arguments in [&["vet", "./..."][..], &["test", "-count=1", "."]] {
            let output = go(arguments).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "go {arguments:?}: {}", String::from_utf8_lossy(&said));
        }
    });
}
