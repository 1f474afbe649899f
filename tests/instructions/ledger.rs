//! What every case cost before: a file with a line for each, name and instructions a task.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::path::PathBuf;

use crate::Outcome;

/// Its path in the repository.
pub(crate) const FILE: &str = "tests/instructions/counts.txt";

/// More than this part more, or less, is another count.
const TOLERANCE: f64 = 0.1;

const HEAD: &str = "\
# Instructions a task, by `just instructions`, which fails when one grows by more than a tenth; `just instructions --write`
# writes this file. Another compiler or C library may count otherwise: write it anew with the change of it, in a commit by itself.
";

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger(BTreeMap<String, f64>);

/// A count beside the one before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// About the same.
    Same,
    /// By that part more.
    Grew(f64),
    /// By that part less.
    Fell(f64),
    /// There is only one of the two.
    Unknown,
}

impl Ledger {
    /// The file's.
    pub(crate) fn read() -> Outcome<Self> {
        let mut counts = BTreeMap::new();
        for line in fs::read_to_string(path())?.lines().filter(|line| !line.starts_with('#')) {
            let (name, count) =
                line.split_once(' ').ok_or_else(|| format!("{FILE}: {line:?} is no count"))?;
            counts.insert(name.to_owned(), count.trim().parse()?);
        }
        Ok(Self(counts))
    }

    /// Makes it the file's.
    pub(crate) fn write(&self) -> Outcome<()> {
        let mut text = HEAD.to_owned();
        for (name, count) in &self.0 {
            writeln!(text, "{name:<28} {count:.1}")?;
        }
        Ok(fs::write(path(), text)?)
    }

    pub(crate) fn set(&mut self, name: &str, count: f64) {
        self.0.insert(name.to_owned(), count);
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A case's count, for people.
    pub(crate) fn shown(&self, name: &str) -> String {
        self.0.get(name).map_or_else(|| "-".to_owned(), |count| format!("{count:.1}"))
    }

    /// A case's new count beside the one that is here.
    pub(crate) fn judge(&self, name: &str, count: f64) -> Verdict {
        match self.0.get(name).map(|before| count / before - 1.0) {
            None => Verdict::Unknown,
            Some(more) if more > TOLERANCE => Verdict::Grew(more),
            Some(more) if more < -TOLERANCE => Verdict::Fell(-more),
            Some(_) => Verdict::Same,
        }
    }
}

impl Verdict {
    pub(crate) fn is_as_before(self) -> bool {
        self == Self::Same
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => Ok(()),
            Self::Grew(more) => write!(f, "GREW by {:.0} %", more * 100.0),
            Self::Fell(less) => write!(f, "fell by {:.0} %: please write it down", less * 100.0),
            Self::Unknown => f.write_str("NEW: was not counted before"),
        }
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("instructions/counts.txt")
}
