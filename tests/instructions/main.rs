//! How many instructions a task costs, compared with what it cost before: what the counts were is in `counts.txt`. Time depends
//! on the machine and on its other work; instructions do not, so that a difference is a change of the code.
//!
//! `instructions [--write]` runs itself under valgrind, once for each case and number of repetitions. It fails when a count grew
//! by more than a tenth. `--write` writes the file anew.
//!
//! The core is compiled here by itself, as its contract allows: without the rest of its crate, and without what its tests add.

use std::io::{self, Write};
use std::process::ExitCode;

#[expect(clippy::expect_used, reason = "a case that goes wrong is not worth counting")]
mod cases;
mod counter;
mod ledger;
#[expect(clippy::expect_used, reason = "a case that goes wrong is not worth counting")]
mod stand;

#[expect(dead_code, unreachable_pub, unused_imports, reason = "the rest of its crate uses them")]
#[path = "../../src/core/mod.rs"]
mod core;

use counter::Missing;
use ledger::{Ledger, Verdict};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => compare(false),
        ["--write"] => compare(true),
        [counter::REPEAT, case, times] => {
            let case = cases::ALL.iter().find(|known| known.name == case).ok_or("no case has that name")?;
            (case.run)(times.parse()?);
            Ok(ExitCode::SUCCESS)
        }
        _ => Err("usage: instructions [--write]".into()),
    }
}

fn compare(writes: bool) -> Outcome<ExitCode> {
    let mut out = io::stdout();
    if !cfg!(target_arch = "x86_64") || cfg!(debug_assertions) {
        writeln!(out, "skipped: the counts are those of a release build for x86_64")?;
        return Ok(ExitCode::SUCCESS);
    }
    let before = Ledger::read()?;
    let mut now = Ledger::default();
    let mut verdicts = Vec::new();
    writeln!(out, "{:<28} {:>10} {:>10}", "instructions a task", "before", "now")?;
    for case in &cases::ALL {
        let count = match counter::per_task(case) {
            Ok(count) => count,
            Err(Missing::Program) => {
                writeln!(out, "skipped: valgrind is not installed, and is needed to count instructions")?;
                return Ok(ExitCode::SUCCESS);
            }
            Err(Missing::Count(why)) => return Err(format!("{} was not counted: {why}", case.name).into()),
        };
        now.set(case.name, count);
        let verdict = before.judge(case.name, count);
        writeln!(out, "{:<28} {:>10} {count:>10.1}  {verdict}", case.name, before.shown(case.name))?;
        verdicts.push(verdict);
    }
    if writes {
        now.write()?;
        writeln!(out, "\n{} is written anew", ledger::FILE)?;
        return Ok(ExitCode::SUCCESS);
    }
    for name in before.names().filter(|name| cases::ALL.iter().all(|case| case.name != *name)) {
        writeln!(out, "{name:<28} is counted no more")?;
        verdicts.push(Verdict::Unknown);
    }
    if verdicts.iter().any(|verdict| !verdict.is_as_before()) {
        let update = "`just instructions --write` writes them down; say in the commit why";
        writeln!(out, "\nWhere the new counts are what is meant: {update}.")?;
    }
    let fails = verdicts.iter().any(|verdict| matches!(verdict, Verdict::Grew(_) | Verdict::Unknown));
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
