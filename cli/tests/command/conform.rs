//! `stokehold conform`: what it says of children that keep the rules, and that each mistake is found by the case for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::SystemTime;

use rustix::process::Signal;
use serde_json::Value;

use super::support::{Dir, Finished, Run, STOKEHOLD, until, within};

/// Where the Rust testee is, made if need be: cargo builds examples for `cargo test`, but not when tests are picked by name.
fn testee() -> PathBuf {
    let directory = Path::new(STOKEHOLD).parent().unwrap();
    let path = directory.join("examples").join("testee");
    let sources =
        ["child-sdk/src", "child-sdk/examples", "protocol/src"].map(|folder| newest(&root().join(folder)));
    if modified(&path) >= sources.into_iter().max().flatten() && path.exists() {
        return path;
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--offline", "-p", "stokehold-child", "--example", "testee"]);
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.env("CARGO_TARGET_DIR", directory.parent().unwrap()).status();
    assert!(path.exists(), "{} was not built: {built:?}", path.display());
    path
}

/// When the youngest file below a folder was written.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter_map(|path| if path.is_dir() { newest(&path) } else { modified(&path) }).max()
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().ok()?.modified().ok()
}

/// The Python that a shim in the path would start: shims are slow, and there are hundreds of starts. None, and a word, if
/// there is none.
fn python() -> Option<String> {
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let found = asked.ok().filter(|output| output.status.success());
    if found.is_none() {
        eprintln!("skipped: there is no python3");
    }
    found.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The names of the scripts of sessions, in their order.
fn scripts() -> Vec<String> {
    let entries = fs::read_dir(root().join("protocol/vectors/sessions")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn mutant() -> String {
    root().join("cli/tests/command/conform/mutant.py").to_str().unwrap().to_owned()
}

fn conform(args: &[&str], child: &[&str]) -> Finished {
    let args = ["conform", "child"].iter().chain(args).chain(&["--"]).chain(child);
    Run::new(args).feed("")
}

fn report(finished: &Finished) -> Value {
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// Id, first statement and words of every case with that verdict.
fn with_verdict<'a>(report: &'a Value, verdict: &str) -> Vec<(&'a str, &'a str, &'a str)> {
    let cases = report["cases"].as_array().unwrap();
    let these = cases.iter().filter(|case| case["verdict"] == verdict);
    let text = |value: &'a Value| value.as_str().unwrap_or_default();
    these
        .map(|case| {
            let finding = &case["findings"][0];
            (text(&case["id"]), text(&finding["statement"]), text(&finding["what"]))
        })
        .collect()
}

#[test]
fn the_rust_testee_reaches_the_third_level() {
    within(|| {
        let child = testee();
        let finished =
            conform(&["--testee", "--report", "json", "--timeout", "10s"], &[child.to_str().unwrap()]);
        let report = report(&finished);
        assert_eq!(with_verdict(&report, "FAIL"), []);
        assert_eq!(with_verdict(&report, "HARNESS"), []);
        assert_eq!(report["reached"], "L3");
        assert!(report["counts"]["pass"].as_u64().unwrap() > 220, "{}", report["counts"]);
        // It has all there is, so that no session is skipped.
        let passed = with_verdict(&report, "PASS");
        let sessions: Vec<_> =
            passed.iter().filter_map(|(id, ..)| Some(format!("{}.jsonl", id.strip_prefix("V.")?))).collect();
        assert_eq!(sessions, scripts());
        finished.expect_code(0);
    });
}

/// The cases that tell something, and those that start a child for each of many vectors, stand aside: they take long in an
/// interpreter, and the Rust testee goes through them.
const QUICK: &str = "H*,F1,F2,F3,F7,F8,F9,F10,F13,F14,F15,F16,F17,F18,F19,F2*,W*,X*,C4,E*,L1,L2,L3,L4,L5,L6,L8,L10,L12,L14,L16,S*";

#[test]
fn the_child_of_the_specification_breaks_no_must() {
    let Some(python) = python() else { return };
    within(|| {
        let spec = fs::read_to_string(root().join("protocol/SPEC.md")).unwrap();
        let code = spec.split("<!-- child.py -->\n```python\n").nth(1).unwrap().split("```").next().unwrap();
        let dir = Dir::new("spec-child");
        let path = dir.file("child.py", code);
        let args = ["--case", QUICK, "--report", "json", "--timeout", "10s"];
        let finished = conform(&args, &[&python, "-IS", &path]);
        let report = report(&finished);
        assert_eq!(with_verdict(&report, "FAIL"), []);
        finished.expect_code(0);
    });
}

#[test]
fn the_worker_of_the_examples_breaks_no_rule() {
    let Some(python) = python() else { return };
    within(|| {
        let path = root().join("examples/python_worker/worker.py");
        let args = ["--case", QUICK, "--report", "json", "--timeout", "10s"];
        let finished = conform(&args, &[&python, "-IS", path.to_str().unwrap()]);
        let report = report(&finished);
        assert_eq!(with_verdict(&report, "FAIL"), []);
        finished.expect_code(0);
    });
}

/// A mistake, the case that is meant for it, and the statement it breaks.
const MISTAKES: [(&str, &str, &str); 28] = [
    ("answers_one_way", "X2", "R-21"),
    ("answers_one_way", "V.one_way", "R-21"),
    ("answers_strays", "X3", "R-19"),
    ("answers_twice", "W3", "R-19"),
    ("answers_unknown_words", "X6", "R-11"),
    ("answers_unknown_words", "V.protocol_names_are_ignored", "R-7"),
    ("drops_the_last_answer", "L2", "L-1"),
    ("fails_at_the_end", "V.end_idle", "L-1"),
    ("fails_at_the_end", "L1", "L-1"),
    ("half_frame_is_the_end", "L6", "L-4"),
    ("half_frame_is_the_end", "V.truncated_after_an_answer", "L-4"),
    ("holds_back_answers", "W12", "R-19"),
    ("ignores_die", "L3", "L-2"),
    ("ignores_die", "V.die", "L-2"),
    ("no_eof_exit", "L1", "L-1"),
    ("no_length_check", "F12", "F-5"),
    ("no_length_check", "L9", "F-5"),
    ("no_length_check", "V.desync_text", "F-5"),
    ("prints_unguarded", "F1", "F-1"),
    ("reads_past_a_frame", "F1", "R-19"),
    ("ready_before_hello", "H1", "S-1"),
    ("refuses_unknown_keys", "H6", ""),
    ("short_reads", "F2", ""),
    ("trailing_byte", "F1", "D-1"),
    ("wrong_code", "X1", "R-20"),
    ("wrong_code", "V.unknown_request", "R-20"),
    ("wrong_id", "F1", "R-11"),
    ("wrong_version", "H1", "V-2"),
];

#[test]
fn every_mistake_is_found_by_the_case_that_is_meant_for_it() {
    let Some(python) = python() else { return };
    within(|| {
        let mutant = mutant();
        // Without a mistake all of these cases pass.
        let cases = MISTAKES.iter().map(|(_, case, _)| *case);
        let (sessions, others): (Vec<_>, Vec<_>) = cases.partition(|case| case.starts_with("V."));
        for (cases, testee) in [(others, None), (sessions, Some("--testee"))] {
            let args = ["--case", &cases.join(","), "--timeout", "10s", "--report", "json"];
            let args: Vec<_> = args.into_iter().chain(testee).collect();
            let finished = conform(&args, &[&python, "-IS", &mutant]);
            let report = report(&finished);
            for verdict in ["FAIL", "SKIP"] {
                assert_eq!(with_verdict(&report, verdict), []);
            }
            finished.expect_code(0);
        }
        // Most of the time is spent with waiting for what does not come.
        for some in MISTAKES.chunks(7) {
            thread::scope(|scope| {
                for (mistake, case, statement) in some {
                    let (python, mutant) = (&python, &mutant);
                    scope.spawn(move || {
                        let variable = format!("MUTATION={mistake}");
                        let child = ["env", &variable, python, "-IS", mutant];
                        let args = ["--case", case, "--timeout", "3s", "--report", "json"];
                        let testee = case.starts_with("V.").then_some("--testee");
                        let args: Vec<_> = args.into_iter().chain(testee).collect();
                        let finished = conform(&args, &child);
                        let report = report(&finished);
                        let failed = with_verdict(&report, "FAIL");
                        assert_eq!(failed.len(), 1, "{mistake} passes {case}: {report:#}");
                        let (_, broken, what) = failed[0];
                        assert!(
                            statement.is_empty() || broken == *statement,
                            "{mistake}: {case} says {broken}, {what}"
                        );
                        finished.expect_code(1);
                    });
                }
            });
        }
    });
}

#[test]
fn known_failures_are_no_failures_until_they_pass() {
    let Some(python) = python() else { return };
    within(|| {
        let dir = Dir::new("baseline");
        let known = dir.path("known.txt");
        let mutant = mutant();
        let child = ["env", "MUTATION=wrong_code", &python, "-IS", &mutant];
        let args = ["--case", "X1,X2", "--timeout", "10s", "--baseline", &known];
        assert!(conform(&args, &child).expect_code(2).stderr.contains("cannot read"));
        conform(&[&args[..], &["--fix"]].concat(), &child).expect_code(0);
        assert!(fs::read_to_string(&known).unwrap().contains("X1 #"));
        conform(&args, &child).expect_code(0);
        // It keeps the rule now: the file is stale.
        let mended = conform(&args, &[&python, "-IS", &mutant]).expect_code(1);
        assert!(mended.stderr.contains("X1 does not fail any more"), "{mended:?}");
        // Another failure is news.
        let other = ["env", "MUTATION=answers_one_way", &python, "-IS", &mutant];
        let broken = conform(&args, &other).expect_code(1);
        assert!(broken.stderr.contains("X2 fails"), "{broken:?}");
    });
}

#[test]
fn a_failure_shows_the_frames_and_what_to_do() {
    let Some(python) = python() else { return };
    within(|| {
        let mutant = mutant();
        let child = ["env", "MUTATION=wrong_code", &python, "-IS", &mutant];
        let dir = Dir::new("traces");
        let args = ["--case", "X1", "--timeout", "10s", "--keep-trace", &dir.path("kept")];
        let finished = conform(&args, &child).expect_code(1);
        let text = finished.text();
        let expected = [
            "FAIL    X1",
            "[R-20]",
            "hint: ",
            "→ 00 00 00",
            "← 00 00 00",
            "[\"grease.unknown\",1234,",
            "{\"code\":\"error\"}",
            "1 failed",
        ];
        for part in expected {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
        assert!(fs::read_to_string(dir.path("kept/X1.txt")).unwrap().contains("grease.unknown"));
        for (form, part) in
            [("junit", "<failure message="), ("tap", "not ok 1 - X1"), ("md", "| X1 | FAIL |")]
        {
            let told =
                conform(&["--case", "X1", "--timeout", "10s", "--report", form], &child).expect_code(1);
            assert!(told.text().contains(part), "{form}: {}", told.text());
        }
    });
}

#[test]
fn the_cases_are_listed_and_a_wrong_name_is_told() {
    within(|| {
        let listed = Run::new(["conform", "child", "--list", "--case", "F1,L*"]).feed("").expect_code(0);
        assert!(listed.text().starts_with("F1   L2 must"), "{}", listed.text());
        assert!(listed.text().lines().count() > 10);
        conform(&["--case", "Z9"], &["true"]).expect_code(2);
        let missing = conform(&["--case", "F1"], &["/no/such/program"]).expect_code(3);
        assert!(missing.stderr.contains("cannot run"), "{missing:?}");
    });
}

#[test]
fn a_child_that_does_something_else_is_given_a_sample() {
    let Some(python) = python() else { return };
    within(|| {
        let path = root().join("examples/python_worker/worker.py");
        let child = [&python, "-IS", path.to_str().unwrap()];
        let args = ["--case", "F1,X1,F20", "--timeout", "10s", "--do", "[1,2]", "--expect"];
        let good = conform(&[&args[..], &["[1,2]"]].concat(), &child).expect_code(0);
        assert!(good.text().contains("SKIP    F20"), "{}", good.text());
        conform(&[&args[..], &["[2,1]"]].concat(), &child).expect_code(1);
    });
}

#[test]
fn a_matrix_has_a_column_for_each_child() {
    let Some(python) = python() else { return };
    within(|| {
        let good = format!("good={python} -IS {}", mutant());
        let bad = format!("bad=env MUTATION=wrong_code {python} -IS {}", mutant());
        let args = [
            "conform",
            "matrix",
            "--case",
            "F1,X1,X2",
            "--timeout",
            "10s",
            "--child",
            &good,
            "--child",
            &bad,
        ];
        let finished = Run::new(args).feed("").expect_code(1);
        assert!(
            finished.text().starts_with("| group | good | bad |\n|---|---|---|\n"),
            "{}",
            finished.text()
        );
        let extensions = finished.text().lines().find(|line| line.starts_with("| X ")).unwrap();
        assert!(extensions.contains("1 / 2 1?") && extensions.contains("1 / 2 1!"), "{extensions}");
        Run::new(["conform", "matrix", "--child", "nonsense"]).feed("").expect_code(2);
    });
}

#[test]
fn children_die_with_a_kit_that_is_killed() {
    within(|| {
        let child = testee();
        let child = child.to_str().unwrap();
        let args = ["conform", "child", "--testee", "--case", "W12,C6,C10", "--timeout", "10s", "--", child];
        let running = Run::new(args).start();
        // The process that becomes the child has its name among the arguments, and is not it yet.
        let children = || {
            let mut found = running.descendants(child);
            found.retain(|pid| {
                fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.ends_with("testee"))
            });
            found
        };
        until("a child is there", || !children().is_empty());
        running.signal(Signal::KILL);
        until("no child is left", || running.descendants("").is_empty());
    });
}

#[test]
fn what_a_child_leaves_behind_is_ended_with_its_case() {
    let Some(python) = python() else { return };
    within(|| {
        // It leaves the process group and has no pipe of the child's; `feed` looks whether anything is left.
        let script = "setsid sleep 1000 <&- >/dev/null 2>&1 & exec \"$@\"";
        let mutant = mutant();
        let child = ["sh", "-c", script, "sh", &python, "-IS", &mutant];
        conform(&["--case", "F1,L1,L3", "--timeout", "10s"], &child).expect_code(0);
    });
}

#[test]
fn a_program_that_is_no_worker_is_told_at_once() {
    within(|| {
        let finished = conform(&["--timeout", "10s"], &["true"]).expect_code(1);
        assert!(finished.text().contains("FAIL    H1"), "{}", finished.text());
        assert!(finished.text().contains("1 case: 0 passed, 1 failed"), "{}", finished.text());
    });
}

#[test]
fn the_vectors_are_printed_as_they_are_and_as_a_table() {
    within(|| {
        let plain = Run::new(["conform", "vectors"]).feed("").expect_code(0);
        let file = fs::read(root().join("protocol/vectors/frames.jsonl")).unwrap();
        assert!(plain.stdout == file);
        let table = Run::new(["conform", "vectors", "--tsv"]).feed("").expect_code(0);
        let lines: Vec<Vec<&str>> = table.text().lines().map(|line| line.split('\t').collect()).collect();
        assert_eq!(lines.len(), plain.text().lines().count() - 1);
        assert!(lines.iter().all(|fields| fields.len() == 8));
        assert_eq!(
            lines[0][..5],
            ["F1.1", "accept", "data", "frames", "000000160000000794a2444fcd04d2cd303981a576616c756514"]
        );
        assert_eq!(lines[0][6..], ["M-1", "81a576616c756514"]);
        let whole = lines.iter().find(|fields| fields[0] == "F6.1").unwrap();
        assert_eq!(whole[4].len(), 2 * (16_777_215 + 4), "runs are expanded");
    });
}

#[test]
fn the_scripts_of_sessions_are_given_out_as_they_are() {
    within(|| {
        let dir = Dir::new("scripts");
        let directory = dir.path("sessions");
        Run::new(["conform", "vectors", "--sessions", &directory]).feed("").expect_code(0);
        for name in scripts() {
            let written = fs::read(Path::new(&directory).join(&name)).unwrap();
            assert!(
                written == fs::read(root().join("protocol/vectors/sessions").join(&name)).unwrap(),
                "{name}"
            );
        }
        let file = dir.file("taken", "");
        let refused = Run::new(["conform", "vectors", "--sessions", &file]).feed("").expect_code(1);
        assert!(refused.stderr.contains("cannot write"), "{refused:?}");
    });
}
