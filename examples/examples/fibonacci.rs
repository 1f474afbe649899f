//! The first 100 Fibonacci numbers, each with its line number, go through two workers that write them as lines. What comes
//! back, in whatever order, is taken apart again and compared with what was sent.
//!
//! The numbers travel as text, because the last ones have more than the 64 bits of a MessagePack integer. Prints the first
//! and the last line, which have a tab in the middle, and the result of the comparison:
//!
//! ```text
//! 1    0
//! 100  218922995834555169026
//! 100 of 100 lines recovered through 2 workers, all as expected
//! ```
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::collections::BTreeMap;
use std::error::Error;
use std::num::ParseIntError;
use std::process::ExitCode;
use std::time::Duration;

use stokehold::{Pool, Request, WorkerCommand};

const LINES: u64 = 100;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if stokehold_child::is_worker() {
        return Ok(stokehold_child::serve(|(line, number): (u64, String), _| {
            // The worker can read the number, too: a text that is none fails its task.
            number.parse::<u128>().map(|number| format!("{line}\t{number}"))
        }));
    }
    let expected: BTreeMap<u64, u128> = (1..=LINES).zip(fibonacci()).collect();
    let jobs = expected.iter().map(|(line, number)| (*line, number.to_string()));

    let pool = Pool::builder(WorkerCommand::current_exe()).workers(2).start()?;
    let mut recovered = BTreeMap::new();
    for (_, line) in pool.map_unordered(Request::<(u64, String), String>::DO, jobs) {
        let (line, number) = parse(&line?)?;
        recovered.insert(line, number);
    }
    let report = pool.shutdown(Duration::from_secs(5));

    for (line, number) in recovered.iter().filter(|(line, _)| matches!(**line, 1 | LINES)) {
        println!("{line}\t{number}");
    }
    let verdict = if recovered == expected { "all as expected" } else { "NOT as expected" };
    println!(
        "{} of {LINES} lines recovered through {} workers, {verdict}",
        recovered.len(),
        report.workers.len()
    );
    Ok(if recovered == expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// 0, 1, 1, 2, 3, 5, …
fn fibonacci() -> impl Iterator<Item = u128> {
    std::iter::successors(Some((0, 1)), |(a, b)| Some((*b, a + b))).map(|(number, _)| number)
}

fn parse(line: &str) -> Result<(u64, u128), Box<dyn Error>> {
    let (line, number) = line.split_once('\t').ok_or("a line came back without its tab")?;
    let numbers = || Ok::<_, ParseIntError>((line.parse()?, number.parse()?));
    Ok(numbers()?)
}
