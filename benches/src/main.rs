//! Measures Stokehold against what the machine can do, and against its peers, all in one run, and says which goals are met. The same
//! binary is re-executed as contestant, as worker and as raw child. It never fails a build; only what is asked for on its own
//! (`detection`, `cycles`, `soak`) fails when a goal is missed.
//!
//! `cargo build --release -p stokehold-cli && cargo run --release -p stokehold-benches -- --help`

mod census;
mod contest;
mod cycles;
mod detection;
mod dice;
mod measure;
mod ours;
mod raw;
mod runner;
mod soak;
mod storm;

use std::io::{self, Write};
use std::process::ExitCode;

const HELP: &str = "\
Measures Stokehold against the limits of this machine and prints Markdown: the goals, then the figures.

Usage: stokehold-benches [WORKLOAD…] [--rounds N] [--peers LIST] [--save FILE]
       stokehold-benches contest WORKLOAD [KEY=VALUE…]
       stokehold-benches detection | cycles | soak [--minutes N] [--seed N] [--samples FILE]

Workloads (all by default; a beginning is enough): W1 W2-64 W2-1K W3-records W3-lines W4-1M-oneway W4-1M-rt W4-64M-oneway
W4-64M-rt W6 W7-8 W7-64 W7-64-2GiB growth-… idle-2 idle-64 command-start
  --rounds N    interleaved rounds (default 5)
  --peers LIST  measure these too; install them first with benches/peers/install.sh
  --save FILE   write it there as well, with plots beside it
  contest       one contestant by hand: it says `ready`, waits for a line, works, and reports

What has a goal to fail by, each on its own:
  detection     how soon a task whose worker is killed runs again
  cycles        start, one task, shutdown, 2000 times: does the process grow?
  soak          mixed work while workers are killed at random (default 60 minutes): does anything grow, is a task lost?

W3-lines and command-start need `stokehold` beside this program: cargo build --release -p stokehold-cli
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["worker", "storm"] => return storm::serve(),
        ["worker", "soak"] => return soak::serve(),
        ["worker", "detection", file] => return detection::serve(file),
        ["worker", mode @ ..] => return ours::serve(mode),
        ["limit", mode @ ..] => raw::serve(mode),
        ["contest", words @ ..] => contest::run(words),
        ["storm"] => storm::run(),
        ["detection"] => detection::run(),
        ["cycles"] => cycles::run(),
        ["soak", words @ ..] => soak::run(words),
        ["-h" | "--help"] => io::stdout().write_all(HELP.as_bytes()).map_err(Into::into),
        words => runner::run(words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
