//! Lines in, results out: order, bytes, forms.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::{Dir, Run, STOKEHOLD, within};

fn echo(options: &[&str]) -> Run {
    Run::new([&["run"], options, &["--", STOKEHOLD, "echo-worker"]].concat())
}

fn numbers(count: u32) -> String {
    (1..=count).map(|number| format!("{number}\n")).collect()
}

#[test]
fn a_hundred_thousand_lines_come_back_in_order() {
    within(|| {
        let input = numbers(100_000);
        let finished = echo(&["-j", "2", "--lines", "--raw"]).feed(input.clone()).expect_code(0);
        assert!(finished.text() == input, "{} bytes came back", finished.stdout.len());
        assert_eq!(finished.stderr, "");
    });
}

#[test]
fn a_last_line_without_its_end_and_empty_lines_are_records() {
    within(|| {
        assert_eq!(echo(&["--raw"]).feed("a\n\nb\r\nlast").expect_code(0).text(), "a\n\nb\r\nlast\n");
    });
}

#[test]
fn records_that_end_with_nul_may_have_lines_in_them() {
    within(|| {
        let finished = echo(&["--nul", "-j", "1"]).feed("a\nb\0\0last\n").expect_code(0);
        let data: Vec<Value> = finished
            .text()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"].take())
            .collect();
        assert_eq!(data, ["a\nb", "", "last\n"]);
    });
}

#[test]
fn of_more_records_only_the_first_are_taken_and_no_more_is_waited_for() {
    within(|| {
        assert_eq!(echo(&["--raw", "--limit", "2"]).feed("1\n2\n3\n").expect_code(0).text(), "1\n2\n");
        assert_eq!(echo(&["--raw", "--limit", "0"]).feed("1\n").expect_code(0).text(), "");
        // Blank lines are none with --jsonl, and bad ones are.
        let finished = echo(&["--raw", "--jsonl", "--limit", "2"]).feed("\n1\n\nx\n2\n").expect_code(1);
        assert_eq!(finished.text(), "1\n");
        // The input goes on, and is not waited for.
        let mut running = echo(&["--raw", "--limit", "1", "-j", "1"]).start();
        running.write("first\n");
        assert_eq!(running.line(), "first\n");
        running.finish().expect_code(0);
    });
}

#[test]
fn no_input_is_no_output() {
    within(|| {
        assert_eq!(echo(&["--raw"]).feed("").expect_code(0).text(), "");
        assert_eq!(echo(&["--jsonl"]).feed("").expect_code(0).text(), "");
    });
}

#[test]
fn bytes_that_are_no_text_come_back_as_they_were() {
    within(|| {
        let input = b"t\xc3\xbcr\n\xff\xfe\x00\n".to_vec();
        assert_eq!(echo(&["--raw"]).feed(input.clone()).expect_code(0).stdout, input);
        let records = echo(&[]).feed(input).expect_code(0);
        let data: Vec<Value> = records
            .text()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"].clone())
            .collect();
        assert_eq!(data, [Value::from("tür"), serde_json::json!({"$bin": "//4A"})]);
    });
}

#[test]
fn unordered_gives_every_result_once() {
    within(|| {
        let finished = echo(&["-j", "3", "--unordered"]).feed(numbers(20_000)).expect_code(0);
        let mut seen = BTreeSet::new();
        for line in finished.text().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            let seq = record["seq"].as_u64().unwrap();
            assert_eq!(record["data"], seq.to_string(), "the number of a record is that of its line");
            assert!(seen.insert(seq), "record {seq} came twice");
        }
        assert_eq!(seen.len(), 20_000);
    });
}

#[test]
fn results_come_out_while_input_still_waits() {
    within(|| {
        let mut running = echo(&["--raw"]).start();
        for line in ["one\n", "two\n"] {
            running.write(line);
            assert_eq!(running.line(), line);
        }
        drop(running.stdin.take());
        running.finish().expect_code(0);
    });
}

#[test]
fn files_are_read_and_written() {
    within(|| {
        let dir = Dir::new("files");
        let input = dir.file("in.txt", "a\nb\n");
        let output = dir.path("out.txt");
        let finished = echo(&["--raw", "--in", &input, "--out", &output]).feed("not read").expect_code(0);
        assert_eq!(finished.text(), "");
        assert_eq!(fs::read(&output).unwrap(), b"a\nb\n");
    });
}

#[test]
fn a_line_too_long_for_a_frame_fails_alone() {
    within(|| {
        let long = "x".repeat(16 << 20);
        let finished = echo(&[]).feed(format!("before\n{long}\nafter\n{long}")).expect_code(1);
        let records: Vec<Value> =
            finished.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(records.len(), 4);
        assert_eq!((&records[0]["data"], &records[2]["data"]), (&"before".into(), &"after".into()));
        for (index, seq) in [(1, 2), (3, 4)] {
            assert_eq!(
                (&records[index]["seq"], &records[index]["error"]["code"]),
                (&seq.into(), &"too_large".into())
            );
        }
        assert!(finished.stderr.contains("stdin:2:"), "{}", finished.stderr);
    });
}

#[test]
fn the_longest_line_that_fits_comes_back() {
    within(|| {
        let long = "x".repeat((16 << 20) - 512);
        let finished = echo(&["--raw", "-j", "1"]).feed(format!("{long}\n")).expect_code(0);
        assert_eq!(finished.stdout.len(), long.len() + 1);
    });
}
