//! The children that are printed in the specification: each is taken out of the document as it stands there, and works in a real
//! pool.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use stokehold::{Data, Pool, Request};
use stokehold_tests::{Arena, within};

use crate::stage::{ECHO, PATIENCE, command};

const SUM: Request<[i64], i64> = Request::new("sum");

/// The block of code behind that mark.
fn printed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/SPEC.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, behind) = text.split_once(&format!("<!-- {name} -->\n```")).unwrap();
    let (_, code) = behind.split_once('\n').unwrap();
    code.split_once("\n```").unwrap().0.to_owned() + "\n"
}

/// Whether there is such a program. What is missing is told.
fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok();
    if !found {
        println!("skipped: there is no {program} in the path");
    }
    found
}

/// Runs the child of that name, with `interpreter` and its arguments in front.
fn works(interpreter: &[&str], name: &str, sums: bool) {
    within(PATIENCE, || {
        let arena = Arena::new();
        let script = arena.path(name);
        fs::write(&script, printed(name)).unwrap();
        let command = command(&arena, interpreter[0]).args(&interpreter[1..]).arg(script);
        let pool = Pool::builder(command).workers(2).start().unwrap();
        let tasks: Vec<_> = (0..50)
            .map(|n| format!("{n}, \"Zoë\"]\n\\ {}", "x".repeat(n * 100)))
            .map(|text| (pool.submit(ECHO, &text).unwrap(), text))
            .collect();
        for (task, text) in tasks {
            assert_eq!(task.wait().unwrap(), text);
        }
        let data = Data::from_encoded(b"\x82\xa1a\xc4\x02\x00\xff\xa1b\x93\xc0\xc3\x01".to_vec()).unwrap();
        assert_eq!(pool.submit_data("DO", &data).unwrap().wait().unwrap(), data);
        if sums {
            for numbers in [&[1, -20, 300][..], &[], &[7], &[1_000_000_007; 1000]] {
                let task = pool.submit(SUM, numbers).unwrap();
                assert_eq!(task.wait().unwrap(), numbers.iter().sum::<i64>());
            }
        }
        let unknown: Request<(), ()> = Request::new("no such thing");
        let error = pool.submit(unknown, &()).unwrap().wait().unwrap_err();
        assert_eq!(error.code(), "unknown_request", "{error}");
        let report = pool.shutdown(PATIENCE);
        assert!(report.is_graceful(), "{report:?}");
    });
}

#[test]
fn the_child_in_python_works() {
    if is_there("python3") {
        works(&["python3"], "child.py", false);
    }
}

#[test]
fn the_child_in_bash_works() {
    if is_there("bash") {
        works(&["bash"], "child.bash", true);
    }
}

#[test]
fn the_child_in_awk_works() {
    if is_there("gawk") {
        works(&["gawk", "-f"], "child.awk", true);
    }
    if is_there("mawk") {
        works(&["mawk", "-W", "interactive", "-f"], "child.awk", true);
    }
}

#[test]
fn the_child_in_jq_works() {
    if is_there("jq") {
        works(&["jq", "--unbuffered", "-nRr", "-f"], "child.jq", true);
    }
}

#[test]
fn the_child_in_tcl_works() {
    if is_there("tclsh") {
        works(&["tclsh"], "child.tcl", true);
    }
}
