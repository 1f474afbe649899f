//! The mutants of the SDK for Python: `python_mutants.txt` read, and each put into a copy of the SDK.

use std::collections::BTreeMap;
use std::fs;

const FILE: &str = include_str!("python_mutants.txt");

/// What the kit says of a mistake.
#[derive(Debug)]
pub(super) struct Finding<'a> {
    pub(super) verdict: &'a str,
    pub(super) case: &'a str,
    /// The statement that is broken; empty if it does not matter which.
    pub(super) statement: &'a str,
}

/// One mistake: what finds it, and the edits that make it.
#[derive(Debug, Default)]
pub(super) struct Mutant {
    pub(super) name: &'static str,
    pub(super) findings: Vec<Finding<'static>>,
    edits: Vec<Edit>,
}

#[derive(Debug)]
struct Edit {
    file: &'static str,
    old: String,
    new: String,
}

/// All mutants of the file.
pub(super) fn read() -> Vec<Mutant> {
    let mut mutants: Vec<Mutant> = Vec::new();
    for line in FILE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("mutant ") {
            mutants.push(Mutant { name, ..Mutant::default() });
            continue;
        }
        let mutant = mutants.last_mut().unwrap_or_else(|| panic!("{line:?} stands before any mutant"));
        if let Some(file) = line.strip_prefix("@@ ") {
            mutant.edits.push(Edit { file, old: String::new(), new: String::new() });
        } else if let Some(edit) = mutant.edits.last_mut() {
            let (mark, text) = line.split_at(1);
            assert!(["-", "+", " "].contains(&mark), "{}: {line:?} is no line of an edit", mutant.name);
            if mark != "+" {
                edit.old.push_str(&format!("{text}\n"));
            }
            if mark != "-" {
                edit.new.push_str(&format!("{text}\n"));
            }
        } else {
            let words: Vec<&str> = line.split(' ').collect();
            let [verdict @ ("FAIL" | "WARN"), case, statement] = words[..] else {
                panic!("{}: {line:?} is no verdict, case and statement", mutant.name);
            };
            mutant.findings.push(Finding { verdict, case, statement });
        }
    }
    for mutant in &mutants {
        assert!(!mutant.findings.is_empty() && !mutant.edits.is_empty(), "{} lacks something", mutant.name);
    }
    mutants
}

/// The files of the SDK as they are.
pub(super) fn sdk() -> BTreeMap<&'static str, String> {
    let folder = super::root().join("sdks/python");
    ["stokehold_worker.py", "testee.py"]
        .map(|file| (file, fs::read_to_string(folder.join(file)).unwrap()))
        .into()
}

impl Mutant {
    /// The files with the mistake; an error says which lines are not there once.
    pub(super) fn applied(&self) -> Result<BTreeMap<&'static str, String>, String> {
        let mut files = sdk();
        for Edit { file, old, new } in &self.edits {
            // A line end in front, so that only whole lines are found.
            let text = format!("\n{}", files[file]);
            let (old, new) = (format!("\n{old}"), format!("\n{new}"));
            let count = text.matches(&old).count();
            if count != 1 {
                return Err(format!(
                    "python_mutants.txt: {}: these lines are {count} times in {file}, not once; write the edit anew:{old}",
                    self.name
                ));
            }
            files.insert(file, text.replacen(&old, &new, 1).split_off(1));
        }
        Ok(files)
    }
}
