//! Counts by valgrind, which runs a program instruction by instruction and is bothered by nobody else on the machine.

use std::io::ErrorKind;
use std::process::Command;

use crate::cases::Case;

/// The first argument of this program when it is to do a case so many times.
pub(crate) const REPEAT: &str = "--repeat";

/// Why there is no count.
#[derive(Debug)]
pub(crate) enum Missing {
    /// valgrind is not installed.
    Program,
    /// It did not count, and said that.
    Count(String),
}

/// How many instructions one task of a case takes: the difference between many and twice as many, from which everything is gone
/// that is done once.
pub(crate) fn per_task(case: &Case) -> Result<f64, Missing> {
    let once = run(case, case.times)?;
    let twice = run(case, 2 * case.times)?;
    Ok(twice.saturating_sub(once) as f64 / case.times as f64)
}

fn run(case: &Case, times: u64) -> Result<u64, Missing> {
    let program = std::env::current_exe().map_err(|error| Missing::Count(error.to_string()))?;
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(program)
        .args([REPEAT, case.name, &times.to_string()])
        .output();
    let output = output.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Missing::Program,
        _ => Missing::Count(error.to_string()),
    })?;
    let said = String::from_utf8_lossy(&output.stderr);
    match read_count(&said).filter(|_| output.status.success()) {
        Some(count) => Ok(count),
        None => Err(Missing::Count(format!("{}\n{said}", output.status))),
    }
}

/// The number in a line such as `==17== I   refs:      1,234,567`.
fn read_count(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("refs:") && line.contains(" I "))?;
    let digits: String = line.split("refs:").nth(1)?.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}
