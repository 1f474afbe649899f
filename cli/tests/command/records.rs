//! JSON lines, result records, and the errors in them.

use serde_json::{Value, json};

use crate::support::{Dir, HELLO_AND_READY, Run, STOKEHOLD, within};

fn echo(options: &[&str]) -> Run {
    Run::new([&["run"], options, &["--", STOKEHOLD, "echo-worker"]].concat())
}

fn records(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_record_says_what_came_from_where() {
    within(|| {
        let finished = echo(&["-j", "1"]).feed("hello\n").expect_code(0);
        let record = &records(finished.text())[0];
        assert_eq!(
            (&record["seq"], &record["ok"], &record["data"], &record["worker"], &record["attempt"]),
            (&json!(1), &json!(true), &json!("hello"), &json!(0), &json!(1))
        );
        assert!(record["ms"].as_f64().unwrap() >= 0.0);
        assert!(
            finished.text().starts_with(r#"{"seq":1,"ok":true,"data":"hello","ms":"#),
            "{}",
            finished.text()
        );
    });
}

#[test]
fn json_values_come_back_exactly() {
    within(|| {
        let lines = "{\"z\":[1,-2,1.5],\"a\":{\"k\":null}}\n18446744073709551615\n-9223372036854775808\n\"ü\\u0001\"\n";
        let finished = echo(&["--jsonl", "--raw"]).feed(lines).expect_code(0);
        assert_eq!(
            finished.text(),
            "{\"z\":[1,-2,1.5],\"a\":{\"k\":null}}\n18446744073709551615\n-9223372036854775808\nü\u{1}\n"
        );
    });
}

#[test]
fn json_values_come_back_exactly_in_text_mode_too() {
    within(|| {
        let lines = "{\"z\":[1,-2,1.5],\"a\":{\"k\":null}}\n18446744073709551615\n-9223372036854775808\n\"ü\\u0001\"\n";
        let finished = echo(&["--jsonl", "--codec", "json", "--raw"]).feed(lines).expect_code(0);
        assert_eq!(
            finished.text(),
            "{\"z\":[1,-2,1.5],\"a\":{\"k\":null}}\n18446744073709551615\n-9223372036854775808\nü\u{1}\n"
        );
    });
}

#[test]
fn bytes_and_maps_that_look_like_them_are_told_apart_in_both_codecs() {
    within(|| {
        let lines = "{\"$bin\":\"/w==\"}\n{\"$$bin\":\"/w==\"}\n[{\"$$oid\":{\"a\":1}}]\n";
        for codec in [&[][..], &["--codec", "json"]] {
            let finished = echo(&[&["--jsonl"], codec].concat()).feed(lines).expect_code(0);
            let data = finished.text().lines().map(|line| {
                let (_, rest) = line.split_once("\"data\":").unwrap();
                rest.split_once(",\"ms\"").unwrap().0.to_owned() + "\n"
            });
            assert_eq!(data.collect::<String>(), lines, "{codec:?}");
            // The bytes themselves, where they are asked for.
            let raw = echo(&[&["--jsonl", "--raw"], codec].concat()).feed(lines).expect_code(0);
            assert!(raw.stdout.starts_with(b"\xff\n{\"$$bin\""), "{codec:?}: {raw:?}");
        }
        let wrong = echo(&["--jsonl"]).feed("{\"$bin\":\"?\"}\n").expect_code(1);
        assert!(wrong.text().contains("bad_input") && wrong.text().contains("no base64"), "{wrong:?}");
    });
}

#[test]
fn a_bad_line_is_an_error_in_its_place_with_file_and_line() {
    within(|| {
        let dir = Dir::new("bad-line");
        let input = dir.file("items.jsonl", "1\nnonsense\n\n{\"a\":1,\"a\":2}\n[5]");
        let finished = echo(&["--jsonl", "--in", &input]).feed("").expect_code(1);
        let records = records(finished.text());
        let seen: Vec<_> = records
            .iter()
            .map(|record| (record["seq"].as_u64().unwrap(), record["ok"].as_bool().unwrap()))
            .collect();
        assert_eq!(seen, [(1, true), (2, false), (4, false), (5, true)], "a blank line is no record");
        assert_eq!(records[1]["error"]["code"], "bad_input");
        let message = records[1]["error"]["message"].as_str().unwrap();
        assert!(message.contains("items.jsonl:2: "), "{message}");
        assert!(finished.stderr.contains("items.jsonl:2: "), "{}", finished.stderr);
        assert!(finished.stderr.contains("2 of 4 records failed"), "{}", finished.stderr);

        let raw = echo(&["--jsonl", "--raw", "--in", &input]).feed("").expect_code(1);
        assert_eq!(raw.text(), "1\n[5]\n", "raw output has nothing in place of a failure");
    });
}

#[test]
fn bad_lines_keep_their_places_among_many_good_ones() {
    within(|| {
        let line = |seq: u64| if seq.is_multiple_of(7) { "?\n".to_owned() } else { format!("{seq}\n") };
        let input: String = (1..=30_000).map(line).collect();
        for options in [&["--jsonl", "-j", "2"][..], &["--jsonl", "-j", "2", "--unordered"]] {
            let finished = echo(options).feed(input.clone()).expect_code(1);
            let mut records = records(finished.text());
            if options.len() > 3 {
                records.sort_by_key(|record| record["seq"].as_u64());
            }
            assert_eq!(records.len(), 30_000);
            for (record, seq) in records.iter().zip(1_u64..) {
                assert_eq!(record["seq"], seq);
                assert_eq!(record["ok"], seq % 7 != 0);
                assert!(seq % 7 == 0 || record["data"] == seq, "{record}");
            }
            assert_eq!(
                finished.stderr.lines().filter(|line| line.contains("stdin:")).count(),
                10,
                "the first ten"
            );
            assert!(finished.stderr.contains("4285 of 30000 records failed (4275 of them not shown above)"));
        }
    });
}

#[test]
fn nothing_but_bad_lines_ends_too() {
    within(|| {
        let finished = echo(&["--jsonl"]).feed("?\n".repeat(5_000)).expect_code(1);
        assert_eq!(finished.text().lines().count(), 5_000);
    });
}

#[test]
fn a_bad_line_is_told_while_input_still_waits() {
    within(|| {
        let mut running = echo(&["--jsonl"]).start();
        running.write("?\n");
        assert!(running.line().contains("bad_input"));
        drop(running.stdin.take());
        running.finish().expect_code(1);
    });
}

#[test]
fn a_failure_has_the_code_of_the_worker() {
    within(|| {
        let finished = echo(&["--request", "resize", "-j", "1"]).feed("a\n").expect_code(1);
        let record = &records(finished.text())[0];
        assert_eq!((&record["ok"], &record["error"]["code"]), (&json!(false), &json!("unknown_request")));
        assert_eq!((&record["error"]["worker"], &record["error"]["attempt"]), (&json!(0), &json!(1)));
        assert!(finished.stderr.contains("record 1 failed in worker 0"), "{}", finished.stderr);
    });
}

/// A worker that gives three results of each record one by one, says two things for the log, and fails `bad`.
const TALKER: &str = r#"printf '["HELLO",0,null,{"v":1}]\n["READY",0,null,null]\n'
while IFS= read -r line; do
    id=${line%% *}
    case $line in
    *bad*) printf '%s ["FAILED",0,null,{"code":"acme.bad","message":"no","data":{"why":[1]}}]\n' "$id" ;;
    *DO*) printf '%s ["ITEM",0,null,1]\n%s ["LOG",0,null,{"level":"info","msg":"half"}]\n' "$id" "$id"
        printf '%s ["LOG",0,null,{"level":"debug","msg":"small"}]\n%s ["FINISHED",0,null,2]\n' "$id" "$id" ;;
    esac
done"#;

#[test]
fn what_a_worker_says_beside_its_answers_is_told_on_stderr() {
    within(|| {
        let talker =
            |options: &[&str]| Run::new([&["run", "-j", "1"], options, &["--", "sh", "-c", TALKER]].concat());
        let finished = talker(&[]).feed("a\nb\nbad\n").expect_code(1);
        let results = records(finished.text());
        assert_eq!((&results[0]["data"], &results[1]["data"]), (&json!(2), &json!(2)));
        assert_eq!(results[2]["error"]["data"], json!({"why": [1]}));
        let stderr = &finished.stderr;
        assert_eq!(stderr.matches("[worker 0] info: half").count(), 2, "{stderr}");
        assert_eq!(stderr.matches("gives results one by one").count(), 1, "{stderr}");
        assert!(!stderr.contains("small"), "{stderr}");
        let finished = talker(&["-v"]).feed("a\n").expect_code(0);
        assert!(finished.stderr.contains("[worker 0] debug: small"), "{}", finished.stderr);
    });
}

/// Reads to the end of the record `zzz`, so that the worker surely had it: a record that was not read whole is not blamed.
const READ_ZZZ: &str = "perl -e 'do { sysread(STDIN, $_, 65536) or exit } until /zzz$/'";

#[test]
fn a_worker_that_dies_with_a_record_is_described_in_it() {
    within(|| {
        let script = format!("printf '{HELLO_AND_READY}'; {READ_ZZZ}; echo oh no >&2; exit 7");
        let finished = Run::new(["run", "-j", "1", "--attempts", "1", "--", "sh", "-c", &script])
            .feed("zzz\n")
            .expect_code(1);
        let error = &records(finished.text())[0]["error"];
        assert_eq!(
            (&error["code"], &error["exit_code"], &error["attempt"]),
            (&json!("crashed"), &json!(7), &json!(1))
        );
        assert_eq!(error["stderr_tail"].as_str().unwrap().trim(), "oh no");
        assert!(error["pid"].is_u64() && error["worker"] == 0, "{error}");
        assert!(finished.stderr.contains("[worker 0] oh no"), "{}", finished.stderr);
    });
}

#[test]
fn what_a_worker_writes_to_stderr_cannot_drive_the_terminal() {
    within(|| {
        let script =
            format!("printf '{HELLO_AND_READY}'; {READ_ZZZ}; printf '\\033[31mred\\007\\n' >&2; exit 7");
        let finished = Run::new(["run", "-j", "1", "--attempts", "1", "--", "sh", "-c", &script])
            .feed("zzz\n")
            .expect_code(1);
        assert!(finished.stderr.contains("[worker 0] \\u{1b}[31mred\\u{7}\n"), "{}", finished.stderr);
        assert!(!finished.stderr.contains('\u{1b}'));
    });
}

#[test]
fn a_worker_that_stops_itself_when_it_took_too_long_is_told_so() {
    let slow = r#"import sys, time
sys.path.insert(0, sys.argv[1])
import stokehold_worker
def slow(value, task):
    while True:
        task.check_cancelled()
        time.sleep(0.01)
stokehold_worker.serve(slow)
"#;
    let sdk = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdks/python");
    within(|| {
        let words = ["--timeout", "300ms", "--attempts", "1", "-j", "1", "--", "python3", "-c", slow, sdk];
        let finished = Run::new([&["run"][..], &words].concat()).feed("a\n").expect_code(1);
        let error = &records(finished.text())[0]["error"];
        assert_eq!(error["code"], "timeout");
        assert_eq!(error["message"], "took too long in one attempt; the worker stopped it: cancelled");
    });
}

#[test]
fn a_record_that_takes_too_long_is_stopped_and_tells_which_limit_it_passed() {
    within(|| {
        let script = format!("printf '{HELLO_AND_READY}'; exec sleep 1000");
        let finished =
            Run::new(["run", "-j", "1", "--attempts", "2", "--timeout", "50ms", "--", "sh", "-c", &script])
                .feed("zzz\n")
                .expect_code(1);
        let error = &records(finished.text())[0]["error"];
        assert_eq!((&error["code"], &error["attempt"]), (&json!("timeout"), &json!(2)));
        for part in
            ["task 1 took longer than 50ms in one attempt", "\ncause: ", "sent it SIGTERM", "\nhint:  raise"]
        {
            assert!(finished.stderr.contains(part), "no {part:?} in {}", finished.stderr);
        }
    });
}
