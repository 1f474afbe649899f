//! The report as XML in the form that build servers know from JUnit.

use std::fmt::Write;

use crate::conform::case::{Outcome, Score};
use crate::conform::verdict::Verdict;

pub(super) fn render(score: &Score) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        text,
        "<testsuite name=\"stokehold conform\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{:.3}\">",
        score.outcomes.len(),
        score.count(Verdict::Fail),
        score.count(Verdict::Harness),
        score.count(Verdict::Skip) + score.count(Verdict::Known),
        score.took.as_secs_f64()
    );
    for outcome in &score.outcomes {
        write_case(&mut text, outcome);
    }
    text.push_str("</testsuite>\n");
    text
}

fn write_case(text: &mut String, outcome: &Outcome) {
    let case = outcome.case;
    let _ = write!(
        text,
        "  <testcase classname=\"conform.{}\" name=\"{} {}\" time=\"{:.3}\"",
        case.group(),
        case.id,
        quoted(case.title),
        outcome.took.as_secs_f64()
    );
    let first = outcome.findings.first().map(|finding| finding.what.as_str());
    let remark = outcome.remarks.first().map(String::as_str);
    let why = quoted(first.or(remark).unwrap_or_default());
    let _ = match outcome.verdict {
        Verdict::Pass => writeln!(text, "/>"),
        Verdict::Fail => {
            let details = quoted(&super::human::case(outcome));
            writeln!(text, ">\n    <failure message=\"{why}\">{details}</failure>\n  </testcase>")
        }
        Verdict::Harness => writeln!(text, ">\n    <error message=\"{why}\"/>\n  </testcase>"),
        Verdict::Known => {
            let reason = quoted(remark.unwrap_or_default());
            writeln!(text, ">\n    <skipped message=\"known failure: {reason}\"/>\n  </testcase>")
        }
        Verdict::Skip => writeln!(text, ">\n    <skipped message=\"{why}\"/>\n  </testcase>"),
        Verdict::Warn | Verdict::Info => {
            let details = quoted(&super::human::case(outcome));
            writeln!(text, ">\n    <system-out>{details}</system-out>\n  </testcase>")
        }
    };
}

/// The text with what XML would take for its own spelled out, and without what it cannot hold.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(char),
            char if char.is_control() => out.push('\u{fffd}'),
            char => out.push(char),
        }
    }
    out
}
