//! The file of known failures: an id a line, a comment behind `#`. A failure that is not in it counts; one that is in it and
//! passes now is stale and counts too, so that the file never says more than is true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::case::{Outcome, Score};
use super::verdict::Verdict;

/// What is known to fail.
#[derive(Debug)]
pub(crate) struct Baseline {
    path: PathBuf,
    text: String,
    /// The ids, each with what the file says of it.
    known: BTreeMap<String, String>,
}

impl Baseline {
    /// Reads the file. One that is to be written anew need not be there.
    pub(crate) fn read(
        path: &Path,
        is_rewritten: bool,
        is_case: impl Fn(&str) -> bool,
    ) -> Result<Self, String> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match is_rewritten {
                true => String::new(),
                false => {
                    return Err(format!(
                        "cannot read {}: {error}; --fix writes it from the failures of this run",
                        path.display()
                    ));
                }
            },
            read => read.map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        };
        let mut known = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let (id, reason) = entry(line);
            if id.is_empty() {
                continue;
            }
            if !is_case(id) {
                return Err(format!("{}, line {number}: no case is called {id:?}", path.display()));
            }
            known.insert(id.to_owned(), reason.to_owned());
        }
        Ok(Self { path: path.to_owned(), text, known })
    }

    /// Gives a failure that is in the file the verdict that says so.
    pub(crate) fn mark(&self, outcome: &mut Outcome, strict: bool) {
        let Some(reason) = self.known.get(outcome.case.id).filter(|_| fails(outcome, strict)) else { return };
        let found = why(outcome);
        let reason = if reason.is_empty() { found } else { reason.clone() };
        outcome.remarks.insert(0, reason);
        outcome.verdict = Verdict::Known;
    }

    /// What differs from the file: new failures, and known ones that are none any more.
    pub(crate) fn complaints(&self, score: &Score, strict: bool) -> Vec<String> {
        let mut complaints = Vec::new();
        for outcome in &score.outcomes {
            let id = outcome.case.id;
            match (fails(outcome, strict), self.known.contains_key(id)) {
                (true, false) => {
                    complaints.push(format!("{id} fails, and {} does not know it", self.path.display()))
                }
                // What could not be tried says nothing about the file.
                (false, true) if outcome.verdict != Verdict::Skip => {
                    complaints.push(format!(
                        "{id} does not fail any more: take it out of {}, or use --fix",
                        self.path.display()
                    ));
                }
                _ => {}
            }
        }
        complaints
    }

    /// Writes the failures of this run. What is not known to pass now stays as it stands, with its reason.
    pub(crate) fn rewrite(&self, score: &Score, strict: bool) -> Result<(), String> {
        let passes = |outcome: &&Outcome| !fails(outcome, strict) && outcome.verdict != Verdict::Skip;
        let mended: BTreeSet<&str> = score.outcomes.iter().filter(passes).map(|it| it.case.id).collect();
        let mut text = String::new();
        if self.text.is_empty() {
            text.push_str(
                "# Cases that are known to fail; `stokehold conform … --baseline FILE --fix` writes this.\n",
            );
        }
        for line in self.text.lines().filter(|line| !mended.contains(entry(line).0)) {
            text.push_str(line);
            text.push('\n');
        }
        let is_new = |outcome: &&Outcome| !self.known.contains_key(outcome.case.id);
        for outcome in score.outcomes.iter().filter(|it| fails(it, strict)).filter(is_new) {
            text.push_str(&format!("{} # {}\n", outcome.case.id, why(outcome)));
        }
        fs::write(&self.path, text).map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }
}

/// The id in a line, and what stands behind it.
fn entry(line: &str) -> (&str, &str) {
    let (id, reason) = line.split_once('#').unwrap_or((line, ""));
    (id.trim(), reason.trim())
}

/// Why a case fails, as a line of the file.
fn why(outcome: &Outcome) -> String {
    let found = outcome.findings.first().map(|finding| &finding.what).or(outcome.remarks.first());
    found.map(|what| what.replace(|char: char| char.is_control() || char == '#', " ")).unwrap_or_default()
}

fn fails(outcome: &Outcome, strict: bool) -> bool {
    match outcome.verdict {
        Verdict::Fail | Verdict::Harness | Verdict::Known => true,
        Verdict::Warn => strict,
        Verdict::Pass | Verdict::Info | Verdict::Skip => false,
    }
}
