//! Workers in text mode, written as shells are: what a pool makes of their lines, good and bad. The oracle everywhere: every task
//! has exactly one outcome, and a worker that only gave a bad value lives on.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use stokehold::{
    Cause, Data, Event, Policy, Pool, PoolBuilder, Request, StartError, TaskError, TaskErrorKind,
    WorkerCommand,
};
use stokehold_protocol::{DataError, FrameError, MessageError, PeerError};
use stokehold_tests::{Arena, within};

use crate::child;
use crate::stage::{ECHO, Events, PATIENCE, SQUARE, WHO, command, events, wait_for_event};

/// What every child begins with. `HELLO` and `READY` may be said otherwise.
const GREETING: &str = r#"printf '%s\n' '["HELLO",0,null,{"v":1}]' '["READY",0,null,null]'"#;

/// A loop over lines: `$id`, `$name`, and `$data`, which ends with the bracket of its message.
const LOOP: &str = r#"
while IFS= read -r line; do
    id=${line%% *} name=${line#*\"} name=${name%%\"*} data=${line#*,*,*,}
    case $id-$name in 0-DIE) exit 0 ;; 0-*) continue ;; esac
"#;

/// A command for a child that says `greeting`, and does `body` for every task.
fn scripted(arena: &Arena, greeting: &str, body: &str) -> WorkerCommand {
    command(arena, "sh").args(["-c".to_owned(), format!("{greeting}\n{LOOP}\n{body}\ndone")])
}

/// A pool of one such child, with the usual greeting.
fn one(arena: &Arena, body: &str) -> PoolBuilder {
    Pool::builder(scripted(arena, GREETING, body)).workers(1)
}

const FINISH: &str = r#"printf '%s ["FINISHED",0,null,%s\n' "$id" "$data""#;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Everything {
    nothing: Option<bool>,
    whether: Vec<bool>,
    large: u64,
    small: i64,
    whole: f64,
    part: f64,
    text: String,
    bytes: ByteBuf,
    map: BTreeMap<String, ByteBuf>,
}

const ALL: Request<Everything, Everything> = Request::DO;

/// How a task failed: with that code.
fn code<T: std::fmt::Debug>(outcome: Result<T, TaskError>) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), TaskErrorKind::Failed, "{error}");
    error.code().to_owned()
}

fn one_attempt() -> Policy {
    Policy::default().attempts(1)
}

/// The rule that a worker broke, when it dies of that.
fn broken(events: &impl Events) -> PeerError {
    wait_for_event(events, |event| match event {
        Event::WorkerDied(death) => match &death.cause {
            Cause::Protocol(error) => Some(PeerError::clone(error)),
            other => panic!("another cause: {other:?}"),
        },
        _ => None,
    })
}

#[test]
fn an_echo_in_shell_gives_back_every_kind_of_value() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena, FINISH).start().unwrap();
        let everything = Everything {
            nothing: None,
            whether: vec![true, false],
            large: u64::MAX,
            small: i64::MIN,
            whole: 1.0,
            part: -0.1,
            text: "Zoë said \"no\\yes\"\n\t\u{1}\u{7f}\u{2028}\u{1f6a2} %s $x".to_owned(),
            bytes: ByteBuf::from((0..=255).collect::<Vec<u8>>()),
            map: BTreeMap::from([("$bin".to_owned(), ByteBuf::new())]),
        };
        assert_eq!(pool.submit(ALL, &everything).unwrap().wait().unwrap(), everything);
        // Larger than a pipe.
        let long = "0123456789 ".repeat(30_000);
        assert_eq!(pool.submit(ECHO, &long).unwrap().wait().unwrap(), long);
        // To the byte.
        for bytes in [&b"\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"[..], b"\x01", b"\x81\xa1$\x90", b"\xc4\x00"] {
            let data = Data::from_encoded(bytes.to_vec()).unwrap();
            let back = pool.submit_data("DO", &data).unwrap().wait().unwrap();
            assert_eq!(back.as_bytes(), bytes);
        }
        let report = pool.shutdown(PATIENCE);
        assert!(report.is_graceful(), "{report:?}");
    });
}

#[test]
fn a_failure_is_what_the_child_says_and_it_lives_on() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let body = r#"printf '%s ["FAILED",0,null,{"code":"acme.no","message":"not today"}]\n' "$id""#;
        let pool = one(&arena, body).start().unwrap();
        for _ in 0..3 {
            let error = pool.submit(ECHO, "x").unwrap().wait().unwrap_err();
            assert_eq!((error.code(), error.to_string().contains("not today")), ("acme.no", true), "{error}");
        }
    });
}

#[test]
fn answers_of_a_wider_window_come_in_any_order() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let greeting = r#"printf '%s\n' '0 ["HELLO",0,null,{"v":1,"window":2,"ready":true}]'"#;
        // Two at a time, the second first.
        let body = format!(
            r#"if [ -z "$first" ]; then first=$id kept=$data; continue; fi
            {FINISH}; id=$first data=$kept first=; {FINISH}"#
        );
        let pool = Pool::builder(scripted(&arena, greeting, &body)).workers(1).window(2).start().unwrap();
        let tasks: Vec<_> = (0..10).map(|n| (n, pool.submit(ECHO, &format!("text {n}")).unwrap())).collect();
        for (n, task) in tasks {
            assert_eq!(task.wait().unwrap(), format!("text {n}"));
        }
    });
}

#[test]
fn what_is_printed_first_is_no_text_mode_and_quoted() {
    within(PATIENCE, || {
        let arena = Arena::new();
        for line in [
            "[INFO] loading",
            "2026-11-20 12:00:00 up",
            "0 files read",
            "{\"HELLO\": 1}",
            "[\"hello\",0,null,1]",
        ] {
            let script = format!("echo '{line}'\n{GREETING}\ncat >/dev/null");
            let pool =
                Pool::builder(command(&arena, "sh").args(["-c".to_owned(), script])).workers(1).start();
            let Err(StartError::Worker(death)) = pool else { panic!("{pool:?}") };
            let Cause::Protocol(error) = &death.cause else { panic!("{death:?}") };
            let PeerError::Frame(FrameError::Desync { quote }) = **error else { panic!("{error:?}") };
            assert!(quote.as_bytes().starts_with(line.as_bytes()), "{quote}");
        }
    });
}

#[test]
fn a_refusal_in_a_line_is_reported_with_its_words() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let line = r#"["FAILED",0,null,{"code":"version","message":"too old for me"}]"#;
        let script = format!("echo '{line}'; exit 5");
        let pool = Pool::builder(command(&arena, "sh").args(["-c".to_owned(), script])).workers(1).start();
        let Err(error) = pool else { panic!("{pool:?}") };
        assert!(error.to_string().contains("too old for me"), "{error}");
    });
}

#[test]
fn a_line_above_the_limit_fails_its_task_and_no_other() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let body = format!(
            r#"case $data in '"large"]')
                printf '%s ["FINISHED",0,null,"' "$id"; head -c 17000000 /dev/zero | tr '\0' x; printf '"]\n' ;;
            *) {FINISH} ;; esac"#
        );
        let pool = one(&arena, &body).start().unwrap();
        assert_eq!(code(pool.submit(ECHO, "large").unwrap().wait()), "too_large");
        assert_eq!(pool.submit(ECHO, "small").unwrap().wait().unwrap(), "small");
        // The other way: each of these becomes six bytes.
        let long = "\u{1}".repeat(3_000_000);
        let error = pool.submit(ECHO, &long).unwrap().wait().unwrap_err();
        assert_eq!((error.code(), error.to_string().contains("line has")), ("too_large", true), "{error}");
        assert_eq!(pool.submit(ECHO, "small").unwrap().wait().unwrap(), "small");
    });
}

#[test]
fn a_line_that_is_no_message_ends_the_worker_and_is_quoted() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let cases = [
            (r#"["FINISHED",0,null]"#, MessageError::FieldCount(3)),
            (r#"["FINISHED",0,null,1,2]"#, MessageError::FieldCount(5)),
            (r#"["FINISHED",0,null,{"a":}]"#, MessageError::NotJson { at: 24 }),
            (r#"["FINISHED",0,null,'text']"#, MessageError::NotJson { at: 19 }),
            (r#"["FINISHED",0,null,1"#, MessageError::NotJson { at: 20 }),
            (r#"[1,0,null,1]"#, MessageError::BadRequest),
            (r#"["FINISHED",0.5,null,1]"#, MessageError::BadSender),
        ];
        for (array, expected) in cases {
            let script = format!("printf '%s %s\\n' \"$id\" '{}'", array.replace('\'', r"'\''"));
            let pool = one(&arena, &script).start().unwrap();
            let events = events(&pool);
            let task = pool.with(one_attempt()).submit(ECHO, "x").unwrap();
            let error = task.wait().unwrap_err();
            assert_eq!(error.kind(), TaskErrorKind::Dead, "{error}");
            let PeerError::BadLine { id, quote, error } = broken(&events) else { panic!("another error") };
            assert_eq!(error, expected, "{array}");
            assert!(quote.as_bytes().starts_with(format!("{id} [").as_bytes()), "{quote}");
        }
    });
}

#[test]
fn what_is_printed_between_the_lines_ends_the_worker_and_is_quoted() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena, "echo Hello, world").start().unwrap();
        let events = events(&pool);
        let error = pool.with(one_attempt()).submit(ECHO, "x").unwrap().wait().unwrap_err();
        assert!(error.to_string().contains("Hello, world"), "{error}");
        let PeerError::Frame(FrameError::Desync { quote }) = broken(&events) else { panic!("another error") };
        assert_eq!(quote.as_bytes(), b"Hello, world");
    });
}

#[test]
fn a_line_may_end_with_crlf_and_blank_ones_mean_nothing() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let greeting = r#"printf '["HELLO",0,null,{"v":1}]\r\n\r\n["READY",0,null,null]\r\n'"#;
        let body = r#"printf '\n \n%s [ "FINISHED" , 0 , null , %s\r\n\n' "$id" "$data""#;
        let pool = Pool::builder(scripted(&arena, greeting, body)).workers(1).start().unwrap();
        for text in ["a", "b\r\n", ""] {
            assert_eq!(pool.submit(ECHO, text).unwrap().wait().unwrap(), text);
        }
    });
}

#[test]
fn an_answer_without_its_newline_is_none() {
    within(PATIENCE, || {
        let arena = Arena::new();
        for end in ["exit 0", "kill -9 $$"] {
            let script = format!("printf '%s [\"FINISHED\",0,null,%s' \"$id\" \"$data\"; {end}");
            let pool = one(&arena, &script).start().unwrap();
            let events = events(&pool);
            let error = pool.with(one_attempt()).submit(ECHO, "x").unwrap().wait().unwrap_err();
            assert_eq!(error.kind(), TaskErrorKind::Dead, "{error}");
            let signal = wait_for_event(&events, |event| match event {
                Event::WorkerDied(death) => Some(death.signal()),
                _ => None,
            });
            assert_eq!(signal.is_some(), end.starts_with("kill"));
        }
    });
}

#[test]
fn escapes_and_surrogate_pairs_are_characters_and_half_a_pair_is_bad_data() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let body = format!(
            r#"case $data in
            '"pair"]') printf '%s ["\\u0046INISHED",0,null,"\\u00e9\\ud83d\\uDEA2\\u0000\\/"]\n' "$id" ;;
            '"half"]') printf '%s ["FINISHED",0,null,["\\ud83d"]]\n' "$id" ;;
            *) {FINISH} ;; esac"#
        );
        let pool = one(&arena, &body).start().unwrap();
        let ask = |text| pool.submit(ECHO, text).unwrap().wait();
        assert_eq!(ask("pair").unwrap(), "é\u{1f6a2}\0/");
        let error = ask("half").unwrap_err();
        assert!(error.to_string().contains(&DataError::LoneSurrogate.to_string()), "{error}");
        assert_eq!((error.code(), error.attempts().len() < 2), ("bad_data", true));
        assert_eq!(ask("the same worker").unwrap(), "the same worker");
    });
}

#[test]
fn what_json_says_and_the_data_model_does_not_is_bad_data() {
    within(PATIENCE, || {
        let arena = Arena::new();
        // The text is the line's fourth field.
        let body = r#"data=${data#?}; printf '%s ["FINISHED",0,null,%s]\n' "$id" "$(printf '%s' "${data%\"]}" | tr "'" '"')""#;
        let pool = one(&arena, body).start().unwrap();
        let ask = |text: &str| pool.submit_data("DO", &Data::text(text)).unwrap().wait();
        for wrong in
            ["{'a':1,'a':2}", "18446744073709551616", "1e999", "{'$bin':'?'}", "{'$bin':1}", "{'$date':1}"]
        {
            assert_eq!(code(ask(wrong)), "bad_data", "{wrong}");
        }
        let too_deep = "[".repeat(65) + &"]".repeat(65);
        assert_eq!(code(ask(&too_deep)), "bad_data");
        for (right, bytes) in
            [("{'$bin':'Zm8'}", &b"\xc4\x02fo"[..]), ("{'$$bin':1}", b"\x81\xa4$bin\x01"), ("1", b"\x01")]
        {
            assert_eq!(ask(right).unwrap().as_bytes(), bytes);
        }
    });
}

#[test]
fn an_input_that_json_cannot_say_fails_before_it_is_sent() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let pool = one(&arena, FINISH).start().unwrap();
        let number: Request<f64, f64> = Request::DO;
        for wrong in [f64::NAN, f64::INFINITY] {
            let error = pool.submit(number, &wrong).unwrap().wait().unwrap_err();
            assert_eq!(
                (error.code(), error.to_string().contains("text mode")),
                ("bad_data", true),
                "{error}"
            );
        }
        assert_eq!(pool.submit(number, &1e300).unwrap().wait().unwrap(), 1e300);
    });
}

#[test]
fn the_neighbours_of_a_deadly_task_lose_nothing() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let greeting =
            r#"printf '%s\n' '["HELLO",0,null,{"v":1,"window":4,"serial":true}]' '["READY",0,null,null]'"#;
        // A shell reads byte by byte, so that what it did not get to stays in the pipe.
        let body = format!(r#"case $data in '"deadly"]') kill -9 $$ ;; esac; {FINISH}"#);
        let pool = Pool::builder(scripted(&arena, greeting, &body)).workers(1).start().unwrap();
        let events = events(&pool);
        let policy = Policy::default().attempts(2).backoff(Duration::ZERO, Duration::ZERO);
        let deadly = pool.with(policy).submit(ECHO, "deadly").unwrap();
        let others: Vec<_> =
            (0..6).map(|n| pool.with(one_attempt()).submit(ECHO, &format!("\u{1} {n}")).unwrap()).collect();
        assert_eq!(deadly.wait().unwrap_err().kind(), TaskErrorKind::Dead);
        for (n, task) in others.into_iter().enumerate() {
            assert_eq!(task.wait().unwrap(), format!("\u{1} {n}"));
        }
        let retried = std::iter::from_fn(|| events.next(Duration::ZERO))
            .filter(|event| matches!(event, Event::TaskRetried { .. }))
            .count();
        assert_eq!(retried, 1, "the deadly one alone");
    });
}

#[test]
fn a_child_may_list_meta_and_is_told_the_attempt_in_a_line() {
    within(PATIENCE, || {
        let arena = Arena::new();
        let greeting = r#"printf '%s\n' '["HELLO",0,null,{"v":1,"caps":["meta"],"ready":true}]'"#;
        let body = format!(
            r#"case $name in
            META) case $line in "$id "'["META",'*'"attempt":2'*) second=yes ;; esac ;;
            *) if [ "$second" = yes ]; then {FINISH}; else exit 9; fi ;; esac"#
        );
        let pool = Pool::builder(scripted(&arena, greeting, &body)).workers(1).start().unwrap();
        assert_eq!(pool.submit(ECHO, "again").unwrap().wait().unwrap(), "again");
    });
}

#[test]
fn a_worker_of_the_sdk_speaks_text_where_nothing_else_is_offered() {
    within(PATIENCE, || {
        let arena = Arena::new();
        // What it writes is kept beside.
        let tee = "\"$0\" | tee -a \"$ARENA_OF_TEST/lines\"";
        let honest = command(&arena, "sh").args(["-c", tee, child!("honest")]).text_mode();
        let pool = Pool::builder(honest).workers(1).start().unwrap();
        assert_eq!(pool.submit(ECHO, "Zoë \"\n").unwrap().wait().unwrap(), "Zoë \"\n");
        let squares: Vec<_> = (0..2_000_u64).map(|n| (n, pool.submit(SQUARE, &n).unwrap())).collect();
        for (n, task) in squares {
            assert_eq!(task.wait().unwrap(), n * n);
        }
        let unknown: Request<(), ()> = Request::new("nobody_knows");
        assert_eq!(code(pool.submit(unknown, &()).unwrap().wait()), "unknown_request");
        assert_eq!(code(pool.submit(Request::<str, u64>::new("square"), "x").unwrap().wait()), "bad_data");
        assert_eq!(pool.submit(WHO, &()).unwrap().wait().unwrap().2, 1);
        assert!(pool.shutdown(PATIENCE).is_graceful());
        let lines = std::fs::read_to_string(arena.path("lines")).unwrap();
        assert!(lines.starts_with("0 [\"HELLO\","), "{lines}");
        assert!(lines.lines().last().is_some_and(|line| line.starts_with("0 [\"BYE\",")), "{lines}");
    });
}
