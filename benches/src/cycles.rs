//! Start and stop: pools that are started, do one task, and are shut down, again and again in one process, which must not
//! grow by it.

use std::io::{self, Write};

use stokehold::Data;

use crate::census::Census;
use crate::measure::Outcome;
use crate::ours;

const CYCLES: u64 = 2000;
/// Where the process is looked at. The first look is not at the start: what is made once is there by then.
const LOOKS: [u64; 3] = [100, 1000, CYCLES];
const WORKERS: usize = 2;
/// Between the first look and the last. Pages that the allocator keeps come and go; a leak of 1 KiB a cycle would be 1.9 MiB.
const GROWTH_KIB_MOST: u64 = 512;

/// Measures and prints a table; an error when the process has grown.
pub(crate) fn run() -> Outcome<()> {
    let mut out = io::stdout();
    writeln!(
        out,
        "Start of a pool of {WORKERS} workers, one task, shutdown, again and again in one process:\n"
    )?;
    writeln!(
        out,
        "| cycles | descriptors | threads | children | zombies | VmRSS KiB |\n|---|---|---|---|---|---|"
    )?;
    let mut looks = Vec::new();
    for cycle in 1..=CYCLES {
        let pool = ours::builder(&["add-one"])?.workers(WORKERS).start()?;
        pool.submit_data("DO", &Data::encode(&cycle)?)?.wait()?;
        ours::end(pool)?;
        if LOOKS.contains(&cycle) {
            let Census { descriptors, threads, memory_kib, children, zombies } = Census::take()?;
            writeln!(out, "| {cycle} | {descriptors} | {threads} | {children} | {zombies} | {memory_kib} |")?;
            looks.push(Census { descriptors, threads, memory_kib, children, zombies });
        }
    }
    let flat = match looks.as_slice() {
        [first, .., last] => is_flat(first, last),
        _ => false,
    };
    writeln!(
        out,
        "\nFlat (counts the same, memory within {GROWTH_KIB_MOST} KiB): {}.",
        if flat { "yes" } else { "**no**" }
    )?;
    if flat { Ok(()) } else { Err("start and stop make the process grow".into()) }
}

fn is_flat(first: &Census, last: &Census) -> bool {
    let counts = |census: &Census| (census.descriptors, census.threads, census.children, census.zombies);
    counts(first) == counts(last) && last.memory_kib <= first.memory_kib + GROWTH_KIB_MOST
}
