//! What a parent under test says came of its tasks: a line of JSON for each, as `sdks/TESTEE.md` has it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::conform::verdict::{Checked, Stop, must};

/// What a finding names that is no statement of the specification.
pub(crate) const CONTRACT: &str = "TESTEE";

/// What came of one task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Its result.
    Good(Value),
    /// The code and the words of its failure.
    Bad { code: String, message: String },
}

impl Outcome {
    /// The code of a failure; nothing for a result.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Good(_) => None,
            Self::Bad { code, .. } => Some(code),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Good(data) => write!(f, "the result {:.120}", data.to_string()),
            Self::Bad { code, message } => write!(f, "the failure {code}: {message:.200}"),
        }
    }
}

/// The outcomes by their tasks, of which there were `tasks`. None may come twice, and none for a task that was not given.
pub(crate) fn read(output: &[u8], tasks: u64) -> Checked<BTreeMap<u64, Outcome>> {
    let mut outcomes = BTreeMap::new();
    for line in output.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let (seq, outcome) = parse(line)?;
        must(
            (1..=tasks).contains(&seq),
            "R-11",
            || format!("an outcome for the task {seq}, of {tasks}: {outcome}"),
            "take an answer for that task only whose id it has",
        )?;
        let before = outcomes.insert(seq, outcome.clone());
        if let Some(before) = before {
            let what = format!("two outcomes for the task {seq}: {before}, and {outcome}");
            return Err(Stop::fail("R-11", what, "give each task one outcome: the first answer that counts"));
        }
    }
    Ok(outcomes)
}

fn parse(line: &[u8]) -> Checked<(u64, Outcome)> {
    let wrong = |what: &str| {
        let line: String = String::from_utf8_lossy(line).chars().take(200).collect();
        let hint = "write lines of JSON alone: {\"seq\":1,\"ok\":true,\"data\":…} or {\"seq\":1,\"ok\":false,\"error\":{\"code\":…}}";
        Stop::fail(CONTRACT, format!("an outcome {what}: {line}"), hint)
    };
    let value: Value = serde_json::from_slice(line).map_err(|_| wrong("is no JSON"))?;
    let seq = value.get("seq").and_then(Value::as_u64).ok_or_else(|| wrong("has no seq"))?;
    let is_good = value.get("ok").and_then(Value::as_bool).ok_or_else(|| wrong("has no ok"))?;
    if is_good {
        let data = value.get("data").ok_or_else(|| wrong("has no data"))?;
        return Ok((seq, Outcome::Good(data.clone())));
    }
    let text = |key: &str| value.pointer(&format!("/error/{key}")).and_then(Value::as_str).map(str::to_owned);
    let code = text("code").ok_or_else(|| wrong("has no error with a code"))?;
    Ok((seq, Outcome::Bad { code, message: text("message").unwrap_or_default() }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_task_has_one_outcome() {
        let good = b"{\"seq\":2,\"ok\":true,\"data\":[1],\"ms\":1}\n\n{\"seq\":1,\"ok\":false,\"error\":{\"code\":\"lost\"}}\n";
        let outcomes = read(good, 2).unwrap();
        assert_eq!(outcomes[&2], Outcome::Good(json!([1])));
        assert_eq!(outcomes[&1].code(), Some("lost"));
        let twice = [&good[..], good].concat();
        assert!(matches!(read(&twice, 2), Err(Stop::Fail(finding)) if finding.what.contains("two outcomes")));
        assert!(matches!(read(good, 1), Err(Stop::Fail(finding)) if finding.what.contains("task 2, of 1")));
    }

    #[test]
    fn what_is_no_outcome_breaks_the_contract() {
        for line in [
            "working",
            "{}",
            "{\"seq\":1}",
            "{\"seq\":1,\"ok\":true}",
            "{\"seq\":1,\"ok\":false,\"error\":1}",
        ] {
            let Err(Stop::Fail(finding)) = read(line.as_bytes(), 1) else { panic!("{line}") };
            assert_eq!(finding.statement, CONTRACT);
        }
    }
}
