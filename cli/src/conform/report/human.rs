//! The report for people: a line a case; under one that is not as it should be, why, what to do, and the frames.

use std::fmt::Write;

use crate::conform::case::{Description, Outcome, Rank, Score};
use crate::conform::verdict::Verdict;
use crate::console::escaped;

/// One case.
pub(crate) fn case(outcome: &Outcome) -> String {
    let case = outcome.case;
    let mut text = format!("{:<7} {:<4} {}", outcome.verdict, case.id, case.title);
    if let (Verdict::Skip | Verdict::Harness | Verdict::Info | Verdict::Known, Some(remark)) =
        (outcome.verdict, outcome.remarks.first())
    {
        let _ = write!(text, ": {}", escaped(remark));
    }
    text.push('\n');
    // What is known needs no telling again.
    let findings = outcome.findings.iter().filter(|_| outcome.verdict != Verdict::Known);
    for finding in findings {
        let _ = writeln!(text, "        [{}] {}", finding.statement, escaped(&finding.what));
        if !finding.hint.is_empty() {
            let _ = writeln!(text, "        hint: {}", finding.hint);
        }
    }
    if outcome.shows_frames() {
        for line in outcome.trace.lines() {
            let _ = writeln!(text, "      {line}");
        }
        for line in outcome.last_words() {
            let _ = writeln!(text, "        stderr: {}", escaped(line));
        }
    }
    text
}

/// What stands at the end.
pub(crate) fn summary(score: &Score) -> String {
    let mut text = String::from("\n");
    let counts = [
        (Verdict::Pass, "passed"),
        (Verdict::Fail, "failed"),
        (Verdict::Known, "known to fail"),
        (Verdict::Warn, "warned"),
        (Verdict::Info, "told"),
        (Verdict::Skip, "skipped"),
        (Verdict::Harness, "could not be run"),
    ];
    let counts: Vec<String> = counts
        .into_iter()
        .map(|(verdict, word)| (score.count(verdict), word))
        .filter(|(count, word)| *count > 0 || *word == "passed" || *word == "failed")
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let _ = writeln!(
        text,
        "{} {}: {}; in {:.1} s",
        score.outcomes.len(),
        if score.outcomes.len() == 1 { "case" } else { "cases" },
        counts.join(", "),
        score.took.as_secs_f64()
    );
    if !score.sdk.is_empty() {
        let _ = writeln!(text, "child: {}", escaped(&score.sdk));
    }
    if let Some(line) = score.level_line() {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// Everything at once.
pub(crate) fn whole(score: &Score) -> String {
    let mut text: String = score.outcomes.iter().map(case).collect();
    text.push_str(&summary(score));
    text
}

/// A line of the list of cases.
pub(crate) fn listed(case: &Description) -> String {
    let rank = match case.rank {
        Rank::Must => "must",
        Rank::Should => "should",
        Rank::Info => "info",
    };
    let level = case.level.map(|level| format!("{level} ")).unwrap_or_default();
    format!("{:<4} {level}{:<6} {} [{}]\n", case.id, rank, case.title, case.spec.join(", "))
}
