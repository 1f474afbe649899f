//! `stokehold conform`: what it says of children that keep the rules, and that each mistake is found by the case for it.

mod mistakes;
mod mutants;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::SystemTime;

use rustix::process::Signal;
use serde_json::Value;

use super::support::{Dir, Finished, Run, Running, STOKEHOLD, until, within};

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
pub(super) fn python() -> Option<String> {
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let found = asked.ok().filter(|output| output.status.success());
    if found.is_none() {
        eprintln!("skipped: there is no python3");
    }
    found.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

pub(super) fn root() -> PathBuf {
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
    script("mutant.py")
}

/// A child of these tests.
fn script(name: &str) -> String {
    root().join("cli/tests/command/conform").join(name).to_str().unwrap().to_owned()
}

fn conform(args: &[&str], child: &[&str]) -> Finished {
    let args = ["conform", "child"].iter().chain(args).chain(&["--"]).chain(child);
    Run::new(args).feed("")
}

pub(super) fn report(finished: &Finished) -> Value {
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// Id, first statement and words of every case with that verdict.
pub(super) fn with_verdict<'a>(report: &'a Value, verdict: &str) -> Vec<(&'a str, &'a str, &'a str)> {
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
        let dir = Dir::new("spec-child");
        let path = dir.file("child.py", printed("child.py"));
        let args = ["--case", QUICK, "--report", "json", "--timeout", "10s"];
        let finished = conform(&args, &[&python, "-IS", &path]);
        let report = report(&finished);
        assert_eq!(with_verdict(&report, "FAIL"), []);
        finished.expect_code(0);
    });
}

/// The block of code behind that mark of the specification.
fn printed(name: &str) -> String {
    let spec = fs::read_to_string(root().join("protocol/SPEC.md")).unwrap();
    let (_, behind) = spec.split_once(&format!("<!-- {name} -->\n```")).unwrap();
    let (_, code) = behind.split_once('\n').unwrap();
    code.split_once("\n```").unwrap().0.to_owned() + "\n"
}

/// A shell reads byte by byte, so that long lines stand aside here; `sdks/matrix.sh` has them too.
const QUICK_IN_TEXT: &str = "H1,H2,H6,H7,H8,H10,H15,H16,F*,T1,T2,T4,T5,T6,T7,T9,T10,T11,T12,T13,T15,T16,T17,T18,T19,W1,W3,W4,W12,X*,C4,L1,L2,L3,L4,L5,L6,L8,L10,L12,L14,S9";

#[test]
fn the_children_in_text_mode_of_the_specification_break_no_must() {
    let children: [(&[&str], &str); 4] = [
        (&["bash"], "child.bash"),
        (&["gawk", "-f"], "child.awk"),
        (&["jq", "--unbuffered", "-nRr", "-f"], "child.jq"),
        (&["tclsh"], "child.tcl"),
    ];
    within(|| {
        let dir = Dir::new("spec-text-children");
        thread::scope(|scope| {
            for (words, name) in children {
                if Command::new(words[0]).arg("--version").stdin(Stdio::null()).output().is_err() {
                    eprintln!("skipped: there is no {}", words[0]);
                    continue;
                }
                let path = dir.file(name, printed(name));
                scope.spawn(move || {
                    let args = ["--case", QUICK_IN_TEXT, "--report", "json", "--timeout", "10s"];
                    let finished = conform(&args, &[words, &[path.as_str()]].concat());
                    let report = report(&finished);
                    assert_eq!(with_verdict(&report, "FAIL"), [], "{name}");
                    assert_eq!(report["asked"], "L1", "{name}");
                    finished.expect_code(0);
                });
            }
        });
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

#[test]
fn a_testee_that_lacks_requests_is_skipped_where_they_are_needed() {
    let Some(python) = python() else { return };
    within(|| {
        // It has no capability and no request but DO, and lists no methods: it says so when it is asked.
        let mutant = mutant();
        let args = ["--testee", "--level", "L2", "--report", "json", "--timeout", "10s", "--case"];
        let cases = "C*,E*,L5,L16,S*,W6,W9,W12";
        let finished = conform(&[&args[..], &[cases]].concat(), &[&python, "-IS", &mutant]);
        let partial = report(&finished);
        assert_eq!(with_verdict(&partial, "FAIL"), []);
        assert_eq!(with_verdict(&partial, "HARNESS"), []);
        let skipped = |id: &str| {
            let case = partial["cases"].as_array().unwrap().iter().find(|case| case["id"] == id).unwrap();
            (case["verdict"] == "SKIP").then(|| case["remarks"][0].as_str().unwrap().to_owned())
        };
        let needs = [
            ("C7", "test.progress"),
            ("C8", "test.log"),
            ("C12", "test.meta"),
            ("E1", "test.raise"),
            ("E2", "test.bad_result"),
            ("E3", "test.big"),
            ("E4", "test.raise"),
            ("E5", "test.raise"),
            ("E6", "test.fail"),
            ("E7", "test.fail"),
            ("E8", "test.fail"),
            ("E9", "test.spin"),
            ("E10", "test.fail"),
            ("E11", "test.big"),
            ("L16", "test.exit"),
            ("S1", "test.print"),
            ("S2", "test.print"),
            ("S3", "test.print"),
            ("S4", "test.stdin"),
            ("S5", "test.spawn"),
            ("S7", "test.print"),
            ("S10", "test.env"),
            ("W6", "test.items"),
            ("W9", "test.items"),
        ];
        for (case, request) in needs {
            assert_eq!(skipped(case), Some(format!("the testee has no {request}")), "{case}");
        }
        // These are only poorer without one.
        for case in ["L5", "S9", "W12"] {
            assert_eq!(skipped(case), None, "{case}");
        }
        // Who claims a request must do it.
        let child = ["env", "MUTATION=claims_a_request", &python, "-IS", &mutant];
        let finished = conform(&[&args[..], &["E1,E3,E11"]].concat(), &child);
        let claims = report(&finished);
        let found = with_verdict(&claims, "FAIL");
        assert_eq!(
            found.iter().map(|(id, broken, _)| (*id, *broken)).collect::<Vec<_>>(),
            [("E3", "R-20"), ("E11", "R-20")]
        );
        assert_eq!(with_verdict(&claims, "SKIP").len(), 1);
        finished.expect_code(1);
    });
}

#[test]
fn a_level_that_is_only_claimed_need_not_be_tried_and_one_that_is_demanded_must() {
    let Some(python) = python() else { return };
    within(|| {
        let child = ["env", "MUTATION=claims_without_testee", &python, "-IS", &mutant()];
        let (claimed, demanded) = thread::scope(|scope| {
            let claimed = scope.spawn(|| conform(&["--timeout", "10s", "--report", "json"], &child));
            let demanded = conform(&["--level", "L3", "--timeout", "10s"], &child);
            (claimed.join().unwrap(), demanded)
        });
        let report = report(&claimed);
        assert_eq!(with_verdict(&report, "HARNESS"), []);
        // Only a testee can be made to show that it cancels and tells of its work.
        assert_eq!((&report["asked"], &report["reached"]), (&"L3".into(), &"L2".into()), "{report:#}");
        assert_eq!(with_verdict(&report, "FAIL"), []);
        claimed.expect_code(0);
        let demanded = demanded.expect_code(1);
        let told = "; L3 not tried: 6 skipped, which it needs: W6, C1, C5, C6, C7, C8\n";
        assert!(demanded.text().ends_with(told), "{}", demanded.text());
        assert!(demanded.text().contains("level reached: L2 ("), "{}", demanded.text());
        assert!(demanded.text().contains(" 0 failed"), "{}", demanded.text());
    });
}

#[test]
fn a_child_in_text_mode_reaches_the_first_level_and_may_write_floats_as_integers() {
    let Some(python) = python() else { return };
    within(|| {
        let mutant = script("text_mutant.py");
        let good = conform(&["--timeout", "10s", "--report", "json"], &[&python, "-IS", &mutant]);
        let report = report(&good);
        assert_eq!(with_verdict(&report, "FAIL"), []);
        assert_eq!((&report["asked"], &report["reached"]), (&"L1".into(), &"L1".into()));
        // Frames are not looked at, and the cases about lines are.
        let ids = |group: &str| {
            let cases = report["cases"].as_array().unwrap().iter();
            cases.filter(|case| case["id"].as_str().unwrap().starts_with(group)).count()
        };
        assert!(ids("T") >= 20 && ids("F") < 6 && ids("H") > 10, "{report:#}");
        good.expect_code(0);
        let variable = "MUTATION=writes_floats_as_integers";
        let child = ["env", variable, &python, "-IS", &mutant];
        let other = conform(&["--case", "T7,T16,T19", "--timeout", "10s", "--report", "json"], &child);
        let warned = self::report(&other);
        let warned = with_verdict(&warned, "WARN");
        assert!(matches!(warned[..], [("T19", "T-11", _)]), "{warned:?}");
        other.expect_code(0);
    });
}

#[test]
fn a_child_of_both_is_tested_in_what_was_asked_for_and_one_of_frames_alone_is_told() {
    let Some(python) = python() else { return };
    within(|| {
        let rust = testee();
        let rust = rust.to_str().unwrap();
        let args = ["--case", "F1,F11,T1,T7", "--timeout", "10s"];
        let frames = conform(&args, &[rust]).expect_code(0);
        assert!(frames.text().contains("SKIP    T1 ") && frames.text().contains("PASS    F11"), "{frames:?}");
        let lines = conform(&[&args[..], &["--level", "L1"]].concat(), &[rust]).expect_code(0);
        assert!(lines.text().contains("PASS    T7 ") && lines.text().contains("SKIP    F11"), "{lines:?}");
        let mutant = mutant();
        let deaf = conform(&["--level", "L1", "--timeout", "10s"], &[&python, "-IS", &mutant]).expect_code(1);
        assert!(deaf.text().contains("[T-8]") && deaf.text().contains("level reached: none"), "{deaf:?}");
        // What was heard stands in a failure as it came.
        let mutant = script("text_mutant.py");
        let child = ["env", "MUTATION=forgets_dollars", &python, "-IS", &mutant];
        let failed = conform(&["--case", "T7", "--timeout", "10s"], &child).expect_code(1);
        assert!(failed.text().contains("→ 7 [\"DO\",1234,12345,{\"$$bin\":\"Zm8=\"}]"), "{failed:?}");
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
        let missing = conform(&args, &child).expect_code(2);
        assert!(missing.stderr.contains("cannot read") && missing.stderr.contains("--fix"), "{missing:?}");
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
        let wrong = dir.file("wrong.txt", "X1\nZ9 # no such case\n");
        let unknown = conform(&["--case", "X1", "--baseline", &wrong], &child).expect_code(2);
        assert!(unknown.stderr.contains("line 2") && unknown.stderr.contains("\"Z9\""), "{unknown:?}");
    });
}

#[test]
fn known_failures_are_told_as_such_in_every_report_and_keep_their_reasons() {
    let Some(python) = python() else { return };
    within(|| {
        let dir = Dir::new("known");
        let reasons = "# why\n\nX1 # because of that\nX2 # mended\nF9 # not run here\n";
        let known = dir.file("known.txt", reasons);
        let child = ["env", "MUTATION=wrong_code", &python, "-IS", &mutant()];
        let args = ["--case", "X1", "--timeout", "10s", "--baseline", &known, "--report"];
        let told = |form: &str| conform(&[&args[..], &[form]].concat(), &child).expect_code(0);
        let junit = told("junit");
        assert!(junit.text().contains("failures=\"0\" errors=\"0\" skipped=\"1\""), "{}", junit.text());
        let skipped = "<skipped message=\"known failure: because of that\"/>";
        assert!(junit.text().contains(skipped), "{}", junit.text());
        let tap = told("tap");
        assert!(tap.text().contains("not ok 1 - X1 "), "{}", tap.text());
        assert!(tap.text().contains(" # TODO known failure: because of that\n"), "{}", tap.text());
        let json = report(&told("json"));
        assert_eq!((&json["counts"]["fail"], &json["counts"]["known"]), (&0.into(), &1.into()));
        assert_eq!(json["cases"][0]["known"], true);
        let human = told("human");
        assert!(human.text().starts_with("KNOWN   X1 "), "{}", human.text());
        assert!(human.text().contains("0 failed, 1 known to fail"), "{}", human.text());
        assert!(told("md").text().contains("| X1 | KNOWN |"));
        // What passes goes; what stays, stays as it was.
        let args = ["--case", "X1,X2,X6", "--timeout", "10s", "--baseline", &known, "--fix"];
        conform(&args, &child).expect_code(0);
        let kept = "# why\n\nX1 # because of that\nF9 # not run here\n";
        assert_eq!(fs::read_to_string(&known).unwrap(), kept);
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
fn a_hint_follows_from_what_was_seen_and_the_expected_answer_is_told() {
    let Some(python) = python() else { return };
    within(|| {
        let mutant = mutant();
        let found = |mistake: &str, case: &str| {
            let child = ["env", &format!("MUTATION={mistake}"), &python, "-IS", &mutant];
            let args = ["--case", case, "--timeout", "3s", "--report", "json"];
            let report = report(&conform(&args, &child).expect_code(1));
            let finding = &report["cases"][0]["findings"][0];
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            (text("what"), text("hint"), report)
        };
        let (what, hint, _) = found("silent_about_long_names", "F9");
        assert!(
            what.contains("no answer for the id 7 within 3s; expected: FAILED `unknown_request`"),
            "{what}"
        );
        assert!(hint.starts_with("answer every request with an id"), "{hint}");
        let (what, hint, report) = found("exits_at_long_names", "X8");
        assert!(what.contains("the child exited with code 7 without an answer"), "{what}");
        assert!(hint.contains("until all bytes of a message are there"), "{hint}");
        assert_eq!(report["cases"][0]["stderr"][0], "what a name");
        let (what, hint, _) = found("answers_one_way", "X2");
        assert!(what.starts_with("FINISHED with id 0: {\"value\":20"), "{what}");
        assert!(hint.contains("id 0"), "{hint}");
        // In text mode there are no widths.
        let mutant = script("text_mutant.py");
        let child = ["env", "MUTATION=rounds_integers", &python, "-IS", &mutant];
        let lines = conform(&["--case", "T16", "--timeout", "10s"], &child).expect_code(1);
        assert!(
            lines.text().contains("hint: read every way in which JSON writes a value"),
            "{}",
            lines.text()
        );
    });
}

#[test]
fn a_kept_trace_has_every_frame_whole_and_a_warning_shows_its_frames() {
    let Some(python) = python() else { return };
    within(|| {
        let dir = Dir::new("whole-traces");
        let args = ["--case", "F9", "--timeout", "10s", "--keep-trace", &dir.path("kept")];
        let warned = conform(&args, &[&python, "-IS", &mutant()]).expect_code(0);
        assert!(warned.text().starts_with("WARN    F9"), "{}", warned.text());
        assert!(
            warned.text().contains("→ 00 00 00") && warned.text().contains(" more)"),
            "{}",
            warned.text()
        );
        let kept = fs::read_to_string(dir.path("kept/F9.txt")).unwrap();
        assert!(!kept.contains(" more)"));
        let (_, behind) = kept.split_once("· F9.37: ").unwrap();
        let frame: Vec<&str> = behind.lines().skip(1).take(2).collect();
        assert!(frame[0].ends_with(" d3 00 00 00 00 00 00 00 05 c0"), "{frame:?}");
        assert!(frame[1].ends_with(&format!("[\"{}\",5,5,null]", "x".repeat(255))), "{frame:?}");
    });
}

#[test]
fn a_child_that_begins_with_something_else_is_told_what_it_wrote() {
    let Some(python) = python() else { return };
    within(|| {
        let dir = Dir::new("beginnings");
        let told = |args: &[&str], script: &str| {
            let path = dir.file("child.sh", script);
            let args = [&["--case", "H1", "--timeout", "10s"], args].concat();
            conform(&args, &["sh", &path]).expect_code(1).text().to_owned()
        };
        let text = told(&[], "echo hi");
        assert!(text.contains("the child's output is text, and no message: \"hi\\n\""), "{text}");
        for line in [r#"'["HELLO",0,null,{v:1}]'"#, r#"["HELLO",0,null,{v:1}]"#] {
            let text = told(&[], &format!("echo {line}\ncat >/dev/null"));
            let what = ["[T-7] the line", "[T-8] the child's first line is no HELLO: \"[HELLO,0"];
            assert!(what.iter().any(|what| text.contains(what)), "{text}");
            assert!(text.contains("hint: begin with the line [\"HELLO\",0,null,{\"v\":1}]"), "{text}");
        }
        let mutant = script("text_mutant.py");
        let lines = told(&["--level", "L2"], &format!("exec {python} -IS {mutant}"));
        assert!(lines.contains("it speaks text mode") && lines.contains("try --level L1"), "{lines}");
        let refusal = "printf '\\0\\0\\0\\032\\0\\0\\0\\0\\224\\246FAILED\\0\\300\\201\\244code\\245codec'";
        let refused = told(&["--level", "L1"], refusal);
        assert!(refused.contains("it refused in a frame: `codec`"), "{refused}");
        let refused = told(&["--level", "L2"], refusal);
        assert!(refused.contains("it refused: `codec`"), "{refused}");
    });
}

#[test]
fn a_level_is_told_with_the_number_of_cases_that_need_a_testee() {
    let Some(python) = python() else { return };
    within(|| {
        let dir = Dir::new("level");
        let worker = text_worker(&dir, "('FINISHED', data)");

        let told = conform(&["--case", "E1", "--timeout", "10s"], &[&python, "-IS", &worker]).expect_code(0);
        assert!(told.text().contains("SKIP    E1 ") && told.text().contains("needs --testee"), "{told:?}");
        let mutant = script("text_mutant.py");
        let whole = conform(&["--timeout", "10s"], &[&python, "-IS", &mutant]).expect_code(0);
        let line = whole.text().lines().find(|line| line.starts_with("level reached: L1 (")).unwrap();
        let skipped = whole.text().matches("needs --testee").count();
        assert_eq!(line, format!("level reached: L1 ({skipped} cases skipped: they need --testee)"));
        assert!(skipped > 10, "{skipped}");
    });
}

#[test]
fn a_wrong_command_line_is_told_what_it_lacks() {
    within(|| {
        let listed = Run::new(["conform", "child", "--list", "--case", "H1, H2"]).feed("").expect_code(0);
        assert_eq!(listed.text().lines().count(), 2);
        let part = conform(&["--case", "F9.37"], &["true"]).expect_code(2);
        assert!(part.stderr.contains("F9.37 is a part of the case F9: choose that"), "{part:?}");
        let sample = conform(&["--do", "hello", "--expect", "1"], &["true"]).expect_code(2);
        assert!(sample.stderr.contains("--do is no JSON: a text needs quotes"), "{sample:?}");
        for words in [&["child", "./worker"][..], &["child", "python3", "worker.py"], &["parent", "./parent"]]
        {
            let dashes = Run::new([&["conform"], words].concat()).feed("").expect_code(2);
            assert!(dashes.stderr.contains(" -- "), "{dashes:?}");
        }
        let missing = conform(&[], &["./no-such"]).expect_code(3);
        assert!(missing.stderr.contains("cannot run ./no-such: "), "{missing:?}");
    });
}

#[test]
fn the_cases_are_listed_and_a_wrong_name_is_told() {
    within(|| {
        let listed = Run::new(["conform", "child", "--list", "--case", "F1,L*"]).feed("").expect_code(0);
        assert!(listed.text().starts_with("F1   L1 must"), "{}", listed.text());
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
        // A child in text mode stands beside one in frames, each at its own level.
        let text = format!("text={python} -IS {}", script("text_mutant.py"));
        let rust = format!("rust@L1={}", testee().display());
        let args = ["conform", "matrix", "--testee", "--case", "F1,T2,S1", "--timeout", "10s"];
        let children = ["--child", &rust, "--plain-child", &text, "--plain-child", &good];
        let finished = Run::new([&args[..], &children].concat()).feed("").expect_code(0);
        let row =
            |group: &str| finished.text().lines().find(|line| line.starts_with(group)).unwrap().to_owned();
        assert_eq!(row("| T "), "| T text mode | 1 / 1 | 1 / 1 | – |");
        assert_eq!(row("| S "), "| S isolation | 1 / 1 | – | – |");
        // Plain children alone will do, and one that cannot be started leaves the others their columns.
        let plain = ["conform", "matrix", "--case", "H1", "--timeout", "10s", "--plain-child", &good];
        let alone = Run::new(plain).feed("").expect_code(0);
        assert!(alone.text().starts_with("| group | good |\n"), "{}", alone.text());
        let missing = ["--child", "none=/no/such/program"];
        let partial = Run::new([&plain[..], &missing].concat()).feed("").expect_code(3);
        assert!(partial.text().starts_with("| group | good |\n"), "{}", partial.text());
        assert!(partial.stderr.contains("none: ") && partial.stderr.contains("cannot run"), "{partial:?}");
        Run::new(["conform", "matrix"]).feed("").expect_code(2);
        Run::new(["conform", "matrix", "--child", "nonsense"]).feed("").expect_code(2);
        Run::new(["conform", "matrix", "--child", "x@L9=true"]).feed("").expect_code(2);
    });
}

#[test]
fn children_die_with_a_kit_that_is_killed() {
    let testee = testee();
    let child = testee.to_str().unwrap();
    // The process that becomes the child has its name among the arguments, and is not it yet.
    let is_child = |pid: &u32| {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.ends_with("testee"))
    };
    let args = ["--testee", "--case", "W12,C6,C10", "--", child];
    assert_none_outlives_the_kit(&args, |running| running.descendants(child).iter().any(is_child));
}

#[test]
fn a_child_that_heeds_no_end_dies_with_a_kit_that_is_killed_while_it_plays_a_dead_parent() {
    let Some(python) = python() else { return };
    let dir = Dir::new("dead-parent");
    let seen = dir.path("the-end-was-seen");
    let variable = format!("SAW_THE_END={seen}");
    let child = ["env", "MUTATION=no_eof_exit", &variable, &python, "-IS", &mutant()];
    let args = [&["--case", "L10", "--"], &child[..]].concat();
    assert_none_outlives_the_kit(&args, |_| Path::new(&seen).exists());
}

/// Kills the kit when the moment has come.
#[track_caller]
fn assert_none_outlives_the_kit(args: &[&str], has_come: impl Fn(&Running) -> bool) {
    within(|| {
        let running = Run::new([&["conform", "child", "--timeout", "30s"], args].concat()).start();
        until("the moment to kill it has come", || has_come(&running));
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
        let others: usize = finished
            .text()
            .lines()
            .find_map(|line| {
                line.strip_prefix("note: H1 failed; the other ")?.strip_suffix(" cases were not run")
            })
            .and_then(|count| count.parse().ok())
            .unwrap_or_else(|| panic!("{}", finished.text()));
        let counts = format!("{} cases: 0 passed, 1 failed, {others} skipped", others + 1);
        assert!(others > 50 && finished.text().contains(&counts), "{}", finished.text());
        assert_eq!(finished.text().matches("SKIP").count(), 0, "not a line for each: {}", finished.text());
        let told = conform(&["--timeout", "10s", "--report", "json"], &["true"]).expect_code(1);
        let report = report(&told);
        assert_eq!(with_verdict(&report, "SKIP").len(), others);
        assert_eq!(report["cases"][1]["remarks"][0], "not run: H1 failed");
    });
}

/// A worker in text mode whose DO does this with its data, an expression of Python.
fn text_worker(dir: &Dir, answer: &str) -> String {
    let script = format!(
        "import json, os, sys\n\
         print('[\"HELLO\",0,null,{{\"v\":1}}]\\n[\"READY\",0,null,null]', flush=True)\n\
         for line in sys.stdin:\n\
         \x20   id, _, message = line.rpartition('[')[0] and line.partition(' ')\n\
         \x20   if line.startswith('['): id, message = '0', line\n\
         \x20   request, _, _, data = json.loads(message)\n\
         \x20   if request == 'DIE': break\n\
         \x20   if id == '0' or request.isupper() and request != 'DO': continue\n\
         \x20   unknown = ('FAILED', {{'code': 'unknown_request', 'message': '', 'begun': False}})\n\
         \x20   name, data = {answer} if request == 'DO' else unknown\n\
         \x20   print(id, json.dumps([name, 0, None, data]), flush=True)\n"
    );
    dir.file("worker.py", script)
}

#[test]
fn a_child_whose_do_is_no_echo_is_told_once_and_tested_all_the_same() {
    let Some(python) = python() else { return };
    within(|| {
        let dir = Dir::new("no-echo");
        let note = "note: DO is no echo: give --do JSON --expect JSON; cases that need an echo are skipped\n";
        let args = ["--case", "H1,F1,X1,T6", "--timeout", "10s"];
        let worker = text_worker(&dir, "('FINISHED', len(json.dumps(data)))");
        let other = conform(&args, &[&python, "-IS", &worker]).expect_code(0);
        assert!(other.text().starts_with(note), "{}", other.text());
        for part in ["PASS    H1 ", "PASS    F1 ", "PASS    X1 ", "SKIP    T6 "] {
            assert!(other.text().contains(part), "{part}: {}", other.text());
        }
        // Of one that takes no such input nothing is known that it can do.
        let worker = text_worker(&dir, "('FAILED', {'code': 'error', 'message': 'no'})");
        let picky = conform(&args, &[&python, "-IS", &worker]).expect_code(0);
        assert!(picky.text().starts_with(note), "{}", picky.text());
        for part in ["PASS    H1 ", "SKIP    F1 ", "--do and --expect", "PASS    X1 ", "SKIP    T6 "] {
            assert!(picky.text().contains(part), "{part}: {}", picky.text());
        }
        let json = report(&conform(&[&args[..], &["--report", "json"]].concat(), &[&python, "-IS", &worker]));
        assert!(json["notices"][0].as_str().unwrap().contains("no echo"), "{json:#}");
        let worker = text_worker(&dir, "('FINISHED', data)");
        let echo = conform(&args, &[&python, "-IS", &worker]).expect_code(0);
        assert!(!echo.text().contains("note:"), "{}", echo.text());
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
        let named = |id: &str| lines.iter().find(|fields| fields[0] == id).unwrap();
        assert_eq!(named("F6.1")[4].len(), 2 * (16_777_215 + 4), "runs are expanded");
        // The bytes of `7 ["DO",1234,12345,{"value":20}]` and LF.
        let line = "37205b22444f222c313233342c31323334352c7b2276616c7565223a32307d5d0a";
        let message = r#"["DO",1234,12345,{"$map":[["value",20]]}]"#;
        let data = "81a576616c756514";
        assert_eq!(*named("T2.1"), ["T2.1", "accept", "data", "text", line, message, "T-1", data]);
        assert_eq!(named("T14.2")[4].len(), 2 * (16_777_216 + 1));
        assert!(lines.iter().filter(|fields| fields[3] == "text").count() >= 60);
    });
}

#[test]
fn a_child_that_hands_data_through_unread_is_replayed_as_such_and_deep_data_is_no_crash() {
    let Some(python) = python() else { return };
    within(|| {
        let replay = root().join("protocol/vectors/replay.py");
        let child = ["--", &python, "-IS", &mutant()];
        for group in ["F15", "F17", "F18", "F19", "F24.1"] {
            let args = [replay.to_str().unwrap(), "--frames", "--only", group];
            let strict = Run::of(&python, [&args[..], &child].concat()).feed("").expect_code(1);
            assert!(strict.text().contains("FAIL F") && strict.stderr.is_empty(), "{group}: {strict:?}");
            let raw = Run::of(&python, [&args[..], &["--raw-data"], &child].concat()).feed("").expect_code(0);
            assert!(raw.text().contains(" passed, 0 failed, ") && raw.stderr.is_empty(), "{group}: {raw:?}");
        }
        // Other data than was sent is wrong all the same.
        let child = ["--", "env", "MUTATION=trailing_byte", &python, "-IS", &mutant()];
        let args = [replay.to_str().unwrap(), "--frames", "--raw-data", "--only", "F15"];
        let other = Run::of(&python, [&args[..], &child].concat()).feed("").expect_code(1);
        assert!(!other.stderr.contains("Traceback"), "{other:?}");
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
