//! How a pool starts, and why not: the cause is in the error's type and in its text, and it comes in time.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stokehold::{Cause, Death, Event, Pool, PoolBuilder, Request, StartError, WorkerCommand};
use stokehold_protocol::PeerError;
use stokehold_tests::{Arena, within};

use crate::child;
use crate::stage::{PATIENCE, WHO, command, events, honest, wait_for_event};

/// A timeout short enough to wait for, and long enough for a child that does speak.
const SHORT: Duration = Duration::from_millis(700);

/// The start fails with the death of a worker; gives it with its text.
fn failure(builder: &PoolBuilder) -> (Death, String) {
    let begun = Instant::now();
    let error = builder.start().expect_err("it started");
    assert!(begun.elapsed() < Duration::from_secs(20), "{error} took {:?}", begun.elapsed());
    let text = error.to_string();
    match error {
        StartError::Worker(death) => ((*death).clone(), text),
        other => panic!("another error: {other:?}"),
    }
}

fn two(command: WorkerCommand) -> PoolBuilder {
    Pool::builder(command).workers(2)
}

#[test]
fn a_pool_is_usable_at_the_first_ready_while_another_worker_is_slow() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let slot: Request<(), u32> = Request::DO;
        let pool = two(command(&arena, child!("slow_start"))).start().unwrap();
        let events = events(&pool);
        assert_eq!(pool.submit(slot, &()).unwrap().wait().unwrap(), 0);
        arena.open("start");
        let ready = wait_for_event(&events, |event| match event {
            Event::WorkerReady { worker, .. } => Some(*worker),
            _ => None,
        });
        assert_eq!(ready, 1);
        drop(pool);
    });
}

#[test]
fn recorded_events_begin_with_what_came_before_the_pool_was_ready() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let talking = command(&arena, "sh").arg("-c").arg("echo warming up >&2; exec \"$0\"");
        let pool = Pool::builder(talking.arg(child!("honest"))).workers(1).record_events().start().unwrap();
        pool.submit(WHO, &()).unwrap().wait().unwrap();
        let events = events(&pool);
        let (mut line_seen, mut ready_seen) = (false, false);
        wait_for_event(&events, |event| {
            match event {
                Event::Stderr { worker: 0, line, .. } => line_seen |= line == "warming up",
                Event::WorkerReady { worker: 0, .. } => ready_seen = true,
                _ => {}
            }
            (line_seen && ready_seen).then_some(())
        });
        drop(pool);
    });
}

/// A name for a program in the directory of this test's executable. Dropping it removes it.
struct Beside(PathBuf);

impl Beside {
    fn link(program: &str, name: &str) -> Self {
        let path = std::env::current_exe().unwrap().with_file_name(name);
        std::os::unix::fs::symlink(program, &path).unwrap();
        Self(path)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Nothing else can be done about it.
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_sibling_is_found_beside_this_program_and_one_directory_above() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (mark, value) = arena.mark();
        let honest = Path::new(child!("honest"));
        let above = std::env::current_exe().unwrap().ancestors().nth(2).map(Path::to_owned);
        assert_eq!(honest.parent(), above.as_deref(), "cargo puts the children elsewhere");
        let beside = format!("honest-beside-{}", std::process::id());
        let link = Beside::link(child!("honest"), &beside);
        for name in ["honest", &beside] {
            let command = WorkerCommand::sibling(name).env(mark, value);
            let pool = Pool::builder(command).workers(1).start().unwrap();
            assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap().2, 1);
        }
        drop(link);
        let (death, text) = failure(&two(WorkerCommand::sibling(&beside)));
        assert!(matches!(death.cause, Cause::Spawn { kind: ErrorKind::NotFound, .. }), "{death:?}");
        assert!(text.contains(&beside), "{text}");
    });
}

#[test]
fn a_program_that_does_not_exist_is_not_found() {
    within(PATIENCE, || {
        for program in ["/nonexistent/worker", "no-program-has-this-name"] {
            let (death, text) = failure(&two(WorkerCommand::new(program)));
            assert!(matches!(death.cause, Cause::Spawn { kind: ErrorKind::NotFound, .. }), "{death:?}");
            assert_eq!((death.pid, death.was_ready), (None, false));
            assert!(text.contains(program) && text.contains("could not be started"), "{text}");
        }
    });
}

#[test]
fn a_file_that_is_not_executable_is_refused() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let file = arena.path("worker");
        fs::write(&file, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let (death, text) = failure(&two(WorkerCommand::new(&file)));
        assert!(matches!(death.cause, Cause::Spawn { kind: ErrorKind::PermissionDenied, .. }), "{death:?}");
        assert!(text.contains("ermission denied"), "{text}");
    });
}

#[test]
fn a_file_of_junk_is_no_program() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let file = arena.path("junk");
        fs::write(&file, [0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3]).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let (death, text) = failure(&two(WorkerCommand::new(&file)));
        assert!(matches!(death.cause, Cause::Spawn { .. }), "{death:?}");
        assert!(text.contains("could not be started"), "{text}");
    });
}

#[test]
fn a_missing_directory_is_named() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let nowhere = arena.path("nowhere");
        let (death, text) = failure(&two(command(&arena, child!("honest")).current_dir(&nowhere)));
        assert!(matches!(death.cause, Cause::Spawn { kind: ErrorKind::NotFound, .. }), "{death:?}");
        assert!(text.contains("nowhere"), "{text}");
    });
}

#[test]
fn a_worker_that_exits_before_hello_is_reported_with_its_code_and_last_words() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (death, text) = failure(&two(command(&arena, child!("quitter")).arg("7")));
        assert!(matches!(death.cause, Cause::Exited), "{death:?}");
        assert_eq!((death.code(), death.signal(), death.was_ready), (Some(7), None, false));
        assert!(death.pid.is_some());
        assert_eq!(&*death.stderr_tail, "first line of a long story\ncannot open the model: no such file\n");
        assert!(text.contains("exited with code 7 before it was ready"), "{text}");
        assert!(text.contains("cannot open the model"), "{text}");
    });
}

#[test]
fn a_worker_that_exits_for_good_is_started_once() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let begun = Instant::now();
        let (death, _) = failure(&Pool::builder(command(&arena, child!("quitter")).arg("125")).workers(1));
        assert_eq!(death.code(), Some(125));
        assert!(begun.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn a_worker_killed_before_hello_is_reported_with_the_signal() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (death, text) = failure(&two(command(&arena, child!("quitter")).arg("KILL")));
        assert_eq!((death.code(), death.signal()), (None, Some(9)));
        assert!(text.contains("SIGKILL") && text.contains("cannot open the model"), "{text}");
    });
}

#[test]
fn a_worker_that_never_says_hello_is_given_up_after_its_timeout() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (death, text) = failure(&two(command(&arena, child!("silent"))).hello_timeout(SHORT));
        assert!(matches!(death.cause, Cause::HelloTimeout(limit) if limit == SHORT), "{death:?}");
        assert!(text.contains("no HELLO within 700ms"), "{text}");
    });
}

#[test]
fn a_program_that_knows_no_protocol_at_all_is_given_up() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let sleeper = command(&arena, "sleep").arg("1000");
        let (death, _) = failure(&two(sleeper).hello_timeout(SHORT));
        assert!(matches!(death.cause, Cause::HelloTimeout(_)), "{death:?}");
    });
}

#[test]
fn a_worker_that_is_never_ready_is_given_up_after_its_timeout() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (death, text) = failure(&two(command(&arena, child!("unready"))).ready_timeout(SHORT));
        assert!(matches!(death.cause, Cause::ReadyTimeout(limit) if limit == SHORT), "{death:?}");
        assert!(text.contains("said HELLO but not READY within 700ms"), "{text}");
    });
}

#[test]
fn the_start_timeout_ends_the_wait_and_the_workers() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let error = two(command(&arena, child!("unready"))).start_timeout(SHORT).start().unwrap_err();
        assert!(matches!(error, StartError::Timeout { limit, .. } if limit == SHORT), "{error:?}");
        assert!(arena.survivors().is_empty(), "the pool is gone, its workers are not");
    });
}

#[test]
fn a_worker_of_another_version_is_reported_with_both_versions() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (death, text) = failure(&two(command(&arena, child!("newcomer"))));
        let Cause::Protocol(error) = &death.cause else { panic!("{death:?}") };
        assert!(matches!(**error, PeerError::Incompatible { theirs: 99, ours: 1 }), "{error:?}");
        assert!(text.contains("version 99"), "{text}");
    });
}

#[test]
fn a_worker_that_refuses_our_version_is_reported_with_its_words() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (death, text) = failure(&two(command(&arena, child!("refuser"))));
        let Cause::Protocol(error) = &death.cause else { panic!("{death:?}") };
        assert!(matches!(&**error, PeerError::Refused { code, .. } if code == "version"), "{error:?}");
        assert!(text.contains("this worker needs version 2 or later"), "{text}");
    });
}

#[test]
fn text_on_the_output_is_quoted() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (death, text) = failure(&two(command(&arena, child!("text_first"))));
        let Cause::Protocol(error) = &death.cause else { panic!("{death:?}") };
        assert!(matches!(**error, PeerError::Frame(_)), "{error:?}");
        assert!(text.contains("wrote text where a frame was expected: \"Loading model"), "{text}");
        assert!(text.contains("print to stderr"), "no advice in: {text}");
    });
}

#[test]
fn the_same_text_does_no_harm_with_dedicated_pipes() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let shouting = command(&arena, "sh").arg("-c").arg("echo Loading model weights; exec \"$0\"");
        let pool = two(shouting.arg(child!("honest")).dedicated_pipes()).start().unwrap();
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap().2, 1);
        drop(pool);
    });
}

#[test]
fn half_a_frame_and_silence_is_no_hello() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let (death, _) = failure(&two(command(&arena, child!("half_frame"))).hello_timeout(SHORT));
        assert!(matches!(death.cause, Cause::HelloTimeout(_)), "{death:?}");
    });
}

#[test]
fn bytes_of_junk_on_the_output_are_quoted_in_hex() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let junk =
            command(&arena, "sh").arg("-c").arg("printf '\\336\\255\\276\\357\\000\\001'; exec sleep 1000");
        let (death, text) = failure(&two(junk));
        assert!(matches!(death.cause, Cause::Protocol(_)), "{death:?}");
        assert!(text.contains("de ad be ef"), "{text}");
    });
}

#[test]
fn workers_live_on_when_the_thread_that_started_the_pool_ends() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let builder = honest(&arena, 1);
        let (pool, first) = std::thread::spawn(move || {
            let pool = builder.start().unwrap();
            let first = pool.submit(WHO, &()).unwrap().wait().unwrap();
            (pool, first)
        })
        .join()
        .unwrap();
        let events = events(&pool);
        for _ in 0..20 {
            assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap(), first);
        }
        assert!(stokehold_tests::is_alive(first.0));
        let report = pool.shutdown(crate::stage::MOMENT);
        assert!(report.is_graceful(), "{report:?}");
        let died = std::iter::from_fn(|| crate::stage::Events::next(&events, Duration::ZERO))
            .any(|event| matches!(event, Event::WorkerDied(_)));
        assert!(!died);
    });
}

#[test]
fn a_worker_sees_the_environment_but_not_the_pools_own_variables() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let print = "env >\"$ARENA_OF_TEST/environment\"; exec \"$0\"";
        let shell = command(&arena, "sh").args(["-c", print, child!("honest")]).env("COLOUR", "green");
        let pool = Pool::builder(shell.env("STOKEHOLD_SECRET", "x")).workers(1).start().unwrap();
        let text = fs::read_to_string(arena.path("environment")).unwrap();
        assert!(text.contains("COLOUR=green\n") && text.contains("STOKEHOLD_IO=stdio\n"), "{text}");
        assert!(!text.contains("STOKEHOLD_SECRET"), "{text}");
        drop(pool);
    });
}
