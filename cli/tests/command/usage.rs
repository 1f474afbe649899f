//! The command line itself: wrong usage is exit code 2, and help is good.

use crate::support::{Dir, Run, STOKEHOLD, within};

#[test]
fn wrong_usage_is_exit_code_2() {
    within(|| {
        let echo = ["--", STOKEHOLD, "echo-worker"];
        for args in [
            &["frobnicate"][..],
            &["run"],
            &["run", "cat"],
            &[&["run", "--nonsense"][..], &echo].concat(),
            &[&["run", "-j", "0"][..], &echo].concat(),
            &[&["run", "--attempts", "0"][..], &echo].concat(),
            &[&["run", "--timeout", "0s"][..], &echo].concat(),
            &[&["run", "--timeout", "5"][..], &echo].concat(),
            &[&["run", "--lines", "--jsonl"][..], &echo].concat(),
            &[&["run", "--request", "SHOUT"][..], &echo].concat(),
            &["demo", "--nonsense"],
            &["demo", "/no/such/directory"],
        ] {
            let finished = Run::new(args).feed("").expect_code(2);
            assert!(!finished.stderr.is_empty() && finished.stdout.is_empty(), "{args:?}: {finished:?}");
        }
    });
}

#[test]
fn files_that_cannot_be_opened_are_named() {
    within(|| {
        let dir = Dir::new("unopenable");
        let input = dir.file("same.txt", "a\n");
        for (options, name) in [
            (["--in", "/no/such/input"], "/no/such/input"),
            (["--in", "/"], "directory"),
            (["--out", "/no/such/output"], "/no/such/output"),
        ] {
            let args = [&["run"][..], &options, &["--", STOKEHOLD, "echo-worker"]].concat();
            let finished = Run::new(args).feed("").expect_code(2);
            assert!(finished.stderr.contains(name), "{}", finished.stderr);
        }
        let args = ["run", "--in", &input, "--out", &input, "--", STOKEHOLD, "echo-worker"];
        Run::new(args).feed("").expect_code(2);
        assert_eq!(std::fs::read(&input).unwrap(), b"a\n", "the input was not emptied");
    });
}

#[test]
fn help_and_version_are_on_stdout() {
    within(|| {
        let long = Run::new(["--help"]).feed("").expect_code(0);
        let short = Run::new(["-h"]).feed("").expect_code(0);
        assert!(long.text().contains("A worker that echoes, for trying things"), "{}", long.text());
        assert!(long.text().contains("Exit codes") && short.stdout.len() < long.stdout.len());
        for subcommand in ["run", "demo", "echo-worker"] {
            let help = Run::new([subcommand, "--help"]).feed("").expect_code(0);
            assert!(help.text().contains("stokehold "), "{subcommand} has no example: {}", help.text());
        }
        let run = Run::new(["run", "--help"]).feed("").expect_code(0);
        assert!(
            run.text().contains("is replaced, and the task it was doing is tried again"),
            "{}",
            run.text()
        );
        let version = Run::new(["--version"]).feed("").expect_code(0);
        assert_eq!(version.text(), format!("stokehold {}\n", env!("CARGO_PKG_VERSION")));
    });
}
