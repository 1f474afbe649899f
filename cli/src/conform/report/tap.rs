//! The report in the Test Anything Protocol, version 13.

use std::fmt::Write;

use crate::conform::case::Score;
use crate::conform::verdict::Verdict;
use crate::console::escaped;

pub(super) fn render(score: &Score) -> String {
    let mut text = format!("TAP version 13\n1..{}\n", score.outcomes.len());
    for (number, outcome) in (1..).zip(&score.outcomes) {
        let is_good = !matches!(outcome.verdict, Verdict::Fail | Verdict::Harness | Verdict::Known);
        let word = if is_good { "ok" } else { "not ok" };
        let title = outcome.case.title.replace('#', "");
        let _ = write!(text, "{word} {number} - {} {title}", outcome.case.id);
        let why = outcome.remarks.first().map(|why| escaped(why)).unwrap_or_default();
        let _ = match outcome.verdict {
            Verdict::Skip => write!(text, " # SKIP {why}"),
            Verdict::Known => write!(text, " # TODO known failure: {why}"),
            _ => Ok(()),
        };
        text.push('\n');
        for finding in &outcome.findings {
            let _ =
                writeln!(text, "# {} [{}] {}", outcome.verdict, finding.statement, escaped(&finding.what));
        }
    }
    for notice in &score.notices {
        let _ = writeln!(text, "# {}", escaped(notice));
    }
    if let Some(line) = score.level_line() {
        let _ = writeln!(text, "# {line}");
    }
    text
}
