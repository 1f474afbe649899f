//! The report as one JSON object.

use serde_json::{Value, json};

use crate::conform::case::{Outcome, Score};
use crate::conform::verdict::Verdict;

pub(super) fn render(score: &Score) -> String {
    let count = |verdict| score.count(verdict);
    let report = json!({
        "schema": "stokehold-conformance",
        "version": 1,
        "sdk": score.sdk,
        "asked": score.asked.map(|level| level.to_string()),
        "reached": score.reached().map(|level| level.to_string()),
        "seconds": score.took.as_secs_f64(),
        "counts": {
            "pass": count(Verdict::Pass),
            "fail": count(Verdict::Fail),
            "known": count(Verdict::Known),
            "warn": count(Verdict::Warn),
            "info": count(Verdict::Info),
            "skip": count(Verdict::Skip),
            "harness": count(Verdict::Harness),
        },
        "notices": score.notices,
        "cases": score.outcomes.iter().map(case).collect::<Vec<_>>(),
    });
    format!("{report:#}\n")
}

fn case(outcome: &Outcome) -> Value {
    let findings: Vec<Value> = outcome
        .findings
        .iter()
        .map(|finding| json!({"statement": finding.statement, "what": finding.what, "hint": finding.hint}))
        .collect();
    let shown = outcome.shows_frames();
    json!({
        "id": outcome.case.id,
        "title": outcome.case.title,
        "level": outcome.case.level.map(|level| level.to_string()),
        "spec": outcome.case.spec,
        "verdict": outcome.verdict.name(),
        "known": outcome.verdict == Verdict::Known,
        "seconds": outcome.took.as_secs_f64(),
        "findings": findings,
        "remarks": outcome.remarks,
        "trace": if shown { outcome.trace.lines() } else { Vec::new() },
        "stderr": if shown { outcome.last_words() } else { Vec::new() },
    })
}
