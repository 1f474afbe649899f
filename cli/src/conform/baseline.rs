//! The file of known failures: an id a line, a comment behind `#`. A failure that is not in it counts; one that is in it and
//! passes now is stale and counts too, so that the file never says more than is true.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::case::{Outcome, Score};
use super::verdict::Verdict;

/// What is known to fail.
#[derive(Debug)]
pub(crate) struct Baseline {
    path: PathBuf,
    known: BTreeSet<String>,
}

impl Baseline {
    /// Reads the file. One that is to be written anew need not be there.
    pub(crate) fn read(path: &Path, is_rewritten: bool) -> Result<Self, String> {
        let text = match fs::read_to_string(path) {
            Err(error) if is_rewritten && error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(|error| format!("cannot read {}: {error}", path.display()))?,
        };
        let ids = text.lines().filter_map(|line| line.split('#').next()).map(str::trim);
        let known = ids.filter(|id| !id.is_empty()).map(str::to_owned).collect();
        Ok(Self { path: path.to_owned(), known })
    }

    /// What differs from the file: new failures, and known ones that are none any more.
    pub(crate) fn complaints(&self, score: &Score, strict: bool) -> Vec<String> {
        let mut complaints = Vec::new();
        for outcome in &score.outcomes {
            let id = outcome.case.id;
            match (fails(outcome, strict), self.known.contains(id)) {
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

    /// Writes the failures of this run. Those of cases that were not run stay.
    pub(crate) fn rewrite(&self, score: &Score, strict: bool) -> Result<(), String> {
        let ran: BTreeSet<&str> = score.outcomes.iter().map(|outcome| outcome.case.id).collect();
        let mut text = String::from(
            "# Cases that are known to fail; `stokehold conform … --baseline FILE --fix` writes this.\n",
        );
        for id in self.known.iter().filter(|id| !ran.contains(id.as_str())) {
            text.push_str(id);
            text.push('\n');
        }
        for outcome in score.outcomes.iter().filter(|outcome| fails(outcome, strict)) {
            let why = outcome.findings.first().map(|finding| finding.what.replace(['\n', '#'], " "));
            text.push_str(&format!("{} # {}\n", outcome.case.id, why.unwrap_or_default()));
        }
        fs::write(&self.path, text).map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }
}

fn fails(outcome: &Outcome, strict: bool) -> bool {
    match outcome.verdict {
        Verdict::Fail | Verdict::Harness => true,
        Verdict::Warn => strict,
        Verdict::Pass | Verdict::Info | Verdict::Skip => false,
    }
}
