//! The report as a table in Markdown.

use std::fmt::Write;

use crate::conform::case::Score;
use crate::conform::verdict::Verdict;

pub(super) fn render(score: &Score) -> String {
    let mut text = String::from("| case | verdict | about | statements | found |\n|---|---|---|---|---|\n");
    for outcome in &score.outcomes {
        let found = match outcome.verdict {
            Verdict::Skip | Verdict::Info | Verdict::Harness | Verdict::Known => {
                outcome.remarks.first().cloned()
            }
            _ => outcome.findings.first().map(|finding| finding.what.clone()),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            outcome.case.id,
            outcome.verdict,
            cell(outcome.case.title),
            outcome.case.spec.join(", "),
            cell(&found.unwrap_or_default())
        );
    }
    let _ = write!(
        text,
        "\n{} passed, {} failed, {}{} warned, {} skipped{}\n",
        score.count(Verdict::Pass),
        score.count(Verdict::Fail),
        match score.count(Verdict::Known) {
            0 => String::new(),
            known => format!("{known} known to fail, "),
        },
        score.count(Verdict::Warn),
        score.count(Verdict::Skip),
        score.level_line().map(|line| format!("; {line}")).unwrap_or_default()
    );
    text
}

/// The text as it may stand between two bars.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(char::is_control, " ")
}
