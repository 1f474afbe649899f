//! Children with a mistake, each found by the case that is meant for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use super::mutants::{self, Finding};
use super::{conform, python, report, script, with_verdict};
use crate::support::{Dir, within};

/// A mistake of `mutant.py`, the case that is meant for it, and the statement it breaks.
const MISTAKES: [(&str, &str, &str); 38] = [
    ("answers_large_one_way", "X2", "R-21"),
    ("answers_one_way", "X2", "R-21"),
    ("answers_one_way", "V.one_way", "R-21"),
    ("answers_strays", "X3", "R-19"),
    ("answers_the_200th_twice", "W14", "R-19"),
    ("answers_the_200th_twice", "P2", "R-19"),
    ("answers_twice", "W3", "R-19"),
    ("answers_unknown_words", "X6", "R-11"),
    ("answers_unknown_words", "V.protocol_names_are_ignored", "R-7"),
    ("decodes_first", "X1", "R-20"),
    ("dies_after_200", "P3", "R-19"),
    ("drops_the_last_answer", "L2", "L-1"),
    ("fails_at_the_end", "V.end_idle", "L-1"),
    ("fails_at_the_end", "L1", "L-1"),
    ("forgets_an_empty_key", "F20", "D-4"),
    ("forgets_the_300th", "P3", "R-19"),
    ("forgets_the_300th", "W14", "R-19"),
    ("forgets_the_sign_of_zero", "F25", "D-10"),
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
    ("swaps_two", "W14", "R-19"),
    ("trailing_byte", "F1", "D-1"),
    ("wrong_code", "X1", "R-20"),
    ("wrong_code", "V.unknown_request", "R-20"),
    ("wrong_id", "F1", "R-11"),
    ("wrong_version", "H1", "V-2"),
];

/// The same for a child in text mode.
const MISTAKES_IN_TEXT: [(&str, &str, &str); 20] = [
    ("answers_strays", "X3", "R-19"),
    ("chokes_on_blank_lines", "T9", ""),
    ("chokes_on_cr", "T4", ""),
    ("decodes_first", "X1", "R-20"),
    ("forgets_an_empty_key", "T7", "T-13"),
    ("forgets_dollars", "T7", "T-13"),
    ("forgets_the_sign_of_zero", "T19", "D-10"),
    ("no_eof_exit", "L1", "L-1"),
    ("no_id", "F1", "R-21"),
    ("no_id", "T2", "R-21"),
    ("pretty_prints", "T2", "T-7"),
    ("prints_unguarded", "T2", "T-6"),
    ("rounds_integers", "T16", "T-17"),
    ("skips_what_is_no_line", "T12", "T-6"),
    ("takes_any_array", "T11", "T-7"),
    ("unfinished_line_is_a_line", "T5", "T-5"),
    ("unfinished_line_is_a_line", "L6", ""),
    ("wrong_id", "F1", "R-11"),
    ("wrong_id", "T3", "R-11"),
    ("wrong_id", "T17", ""),
];

#[test]
fn every_mistake_is_found_by_the_case_that_is_meant_for_it() {
    every_mistake_is_found(&MISTAKES, "mutant.py");
}

#[test]
fn every_mistake_in_text_mode_is_found_by_the_case_that_is_meant_for_it() {
    every_mistake_is_found(&MISTAKES_IN_TEXT, "text_mutant.py");
}

fn every_mistake_is_found(mistakes: &[(&str, &str, &str)], script_name: &str) {
    let Some(python) = python() else { return };
    within(|| {
        let child = [python, "-IS".to_owned(), script(script_name)];
        let with = |mistake: &str| [&["env".to_owned(), format!("MUTATION={mistake}")], &child[..]].concat();
        let mistakes = mistakes.iter().map(|(name, case, statement)| Mistake {
            name,
            findings: vec![Finding { verdict: "FAIL", case, statement }],
            child: with(name),
        });
        // The scripts of sessions are for testees.
        let is_of_a_script =
            |mistake: &Mistake<'_>| mistake.findings.iter().all(|it| it.case.starts_with("V."));
        let (of_scripts, others): (Vec<_>, Vec<_>) = mistakes.partition(is_of_a_script);
        assert_each_is_found(&others, &[], &child);
        if !of_scripts.is_empty() {
            assert_each_is_found(&of_scripts, &["--testee"], &child);
        }
    });
}

#[test]
fn every_mistake_in_the_python_sdk_is_found_by_the_case_that_is_meant_for_it() {
    let Some(python) = python() else { return };
    within(|| {
        let dir = Dir::new("python-mutants");
        let child = |name: &str, files: &BTreeMap<&str, String>| {
            let paths = files.iter().map(|(file, text)| (*file, dir.file(&format!("{name}/{file}"), text)));
            let paths: BTreeMap<_, _> = paths.collect();
            // No site: the codec of the SDK is the one under test, whatever is installed.
            vec![python.clone(), "-S".to_owned(), paths["testee.py"].clone()]
        };
        let mistakes: Vec<_> = mutants::read()
            .into_iter()
            .map(|mutant| Mistake {
                name: mutant.name,
                child: child(mutant.name, &mutant.applied().unwrap_or_else(|error| panic!("{error}"))),
                findings: mutant.findings,
            })
            .collect();
        assert_each_is_found(&mistakes, &["--testee"], &child("unchanged", &mutants::sdk()));
    });
}

#[test]
fn every_mutant_fits_the_python_sdk_of_today() {
    let mutants = mutants::read();
    assert!(mutants.len() > 30, "{}", mutants.len());
    let wrong: Vec<String> = mutants.iter().filter_map(|mutant| mutant.applied().err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A child with a mistake, and what the kit has to say of it.
#[derive(Debug)]
struct Mistake<'a> {
    name: &'a str,
    findings: Vec<Finding<'a>>,
    child: Vec<String>,
}

/// Checks that the child without a mistake passes all those cases, and that each mistake is found.
#[track_caller]
fn assert_each_is_found(mistakes: &[Mistake<'_>], args: &[&str], unchanged: &[String]) {
    fn words(words: &[String]) -> Vec<&str> {
        words.iter().map(String::as_str).collect()
    }
    let asked: Vec<_> = mistakes
        .iter()
        .flat_map(|mistake| mistake.findings.iter().map(move |finding| (mistake, finding)))
        .collect();
    let cases: BTreeSet<&str> = asked.iter().map(|(_, finding)| finding.case).collect();
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    // Most of the time is spent with waiting for what does not come.
    thread::scope(|scope| {
        scope.spawn(|| {
            let list = Vec::from_iter(cases).join(",");
            let args = [args, &["--case", &list, "--timeout", "30s", "--report", "json"]].concat();
            let report = report(&conform(&args, &words(unchanged)));
            for verdict in ["FAIL", "WARN", "SKIP", "HARNESS"] {
                for (case, broken, what) in with_verdict(&report, verdict) {
                    let is_meant =
                        |(_, finding): &(_, &Finding<'_>)| finding.case == case && finding.verdict == "WARN";
                    if verdict != "WARN" || asked.iter().any(is_meant) {
                        missed.lock().unwrap().push(format!("no mistake: {case} {verdict} {broken} {what}"));
                    }
                }
            }
        });
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some((mistake, finding)) = asked.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let Finding { verdict, case, statement } = finding;
                    let code = i32::from(*verdict == "FAIL");
                    let mut told = Value::Null;
                    // What does not come is waited for; on a machine under load what comes needs longer than that.
                    let is_found = ["3s", "30s"].into_iter().any(|patience| {
                        let args = [args, &["--case", case, "--timeout", patience, "--report", "json"]];
                        let finished = conform(&args.concat(), &words(&mistake.child));
                        told = report(&finished);
                        let found = with_verdict(&told, verdict);
                        let is_meant = |broken: &str| statement.is_empty() || broken == *statement;
                        finished.code == Some(code) && found.iter().any(|(_, broken, _)| is_meant(broken))
                    });
                    if !is_found {
                        let text = format!("{}: no {verdict} of {case} {statement}: {told:#}", mistake.name);
                        missed.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
