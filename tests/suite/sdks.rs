//! The SDKs for workers, by their own tests: `protocol/vectors/replay.py` plays every vector and every session to the testee of each,
//! and the Python SDK has tests of its codec. A missing interpreter is a reason to skip. To the Rust testee the conformance kit plays
//! them (`cli/tests/command/conform.rs`).

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use stokehold_tests::{eventually, within};

use crate::java::{JVM, classes};
use crate::node_and_c::sanitized_c_testee;

/// No test of these needs a fifth of it on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub(crate) fn is_there(program: &str) -> bool {
    let version = Command::new(program).arg("-c").arg("exit").stdin(Stdio::null()).output();
    if version.is_err() {
        println!("skipped: there is no {program} in the path");
    }
    version.is_ok()
}

/// Runs `python3` with these arguments, from the root of the repository; it must end well.
pub(crate) fn python<A: AsRef<OsStr>>(arguments: &[A]) {
    let arguments: Vec<OsString> = arguments.iter().map(|argument| argument.as_ref().to_owned()).collect();
    within(LIMIT * 2, move || {
        let mut child = Command::new("python3")
            .args(&arguments)
            .current_dir(root())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let text = |mut stream: Box<dyn std::io::Read + Send>| {
            thread::spawn(move || {
                let mut text = Vec::new();
                stream.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
            })
        };
        let (stdout, stderr) = (text(Box::new(stdout)), text(Box::new(stderr)));
        let ended = eventually(LIMIT, || child.try_wait().unwrap().is_some());
        if !ended {
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        let said = format!("{}{}", stdout.join().unwrap().unwrap(), stderr.join().unwrap().unwrap());
        assert!(
            ended && status.success(),
            "python3 {arguments:?}: {status}, after the limit: {}\n{said}",
            !ended
        );
        print!("{said}");
    });
}

#[test]
fn the_python_sdk_keeps_every_vector_and_session() {
    if is_there("python3") {
        python(&["protocol/vectors/replay.py", "--", "python3", "sdks/python/testee.py", "--pure"]);
    }
}

#[test]
fn the_python_sdk_keeps_every_session_with_async_handlers() {
    if is_there("python3") {
        python(&[
            "protocol/vectors/replay.py",
            "--sessions",
            "--",
            "python3",
            "sdks/python/testee.py",
            "--async",
        ]);
    }
}

#[test]
fn the_python_sdk_passes_its_own_tests() {
    if is_there("python3") {
        python(&["sdks/python/test_stokehold_worker.py"]);
    }
}

#[test]
fn the_perl_sdk_keeps_every_vector_and_session() {
    if is_there("python3") && is_there("perl") {
        python(&["protocol/vectors/replay.py", "--", "perl", "sdks/perl/testee.pl"]);
    }
}

#[test]
fn the_node_sdk_keeps_every_vector_and_session() {
    // JavaScript has one kind of number, and the SDK writes a whole one as an integer.
    if is_there("python3") && is_there("node") {
        python(&["protocol/vectors/replay.py", "--loose-floats", "--", "node", "sdks/node/testee.js"]);
    }
}

#[test]
fn the_c_sdk_keeps_every_vector_and_session_under_sanitizers() {
    let Some(testee) = sanitized_c_testee() else { return };
    if is_there("python3") {
        python(&["protocol/vectors/replay.py".as_ref(), "--".as_ref(), testee.as_os_str()]);
    }
}

#[test]
fn the_java_sdk_keeps_every_vector_and_session() {
    let Some(classes) = classes() else { return };
    if is_there("python3") {
        // What a subprocess of a JVM prints cannot be sent to the JVM's standard error.
        let replay = ["protocol/vectors/replay.py", "--but", "guard_print", "--", "java"];
        let words = replay.iter().chain(&JVM).map(OsStr::new);
        let words: Vec<_> = words.chain([classes.as_os_str(), OsStr::new("Testee")]).collect();
        python(&words);
    }
}
