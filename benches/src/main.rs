//! Measures Stokehold against what the machine can do, both in one run, and prints a table. The same binary is re-executed
//! as worker, as raw child, as generator and as probe. It judges nothing but the goals in the table, and never fails a build;
//! only what is asked for on its own (`detection`, `cycles`, `soak`) fails when a goal is missed.
//!
//! `cargo build --release -p stokehold-cli && cargo run --release -p stokehold-benches -- --help`

mod census;
mod cli;
mod cycles;
mod detection;
mod dice;
mod limits;
mod lockstep;
mod measure;
mod ours;
mod payloads;
mod pipelined;
mod rest;
mod soak;
mod start;
mod storm;
mod table;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use measure::{Outcome, Scale};
use table::Table;

type Section = fn(&Scale, &mut Table) -> Outcome<()>;

const SECTIONS: [(&str, Section); 6] = [
    ("lockstep", lockstep::run),
    ("pipelined", pipelined::run),
    ("payloads", payloads::run),
    ("start", start::run),
    ("rest", rest::run),
    ("cli", cli::run),
];

const HELP: &str = "\
Measures Stokehold against the limits of this machine and prints a Markdown table.

Usage: stokehold-benches [SECTION…] [--quick] [--rounds N] [--gib N] [--save FILE]
       stokehold-benches detection | cycles | soak [--minutes N] [--seed N] [--samples FILE]

Sections (all by default): lockstep pipelined payloads start rest cli
  --quick      small amounts: all sections in less than a minute, noisy
  --rounds N   interleaved rounds of every comparison (default 5)
  --gib N      GiB of lines through the command line (default 1)
  --save FILE  write the table there as well

What has a goal to fail by, each on its own:
  detection    how soon a task whose worker is killed runs again
  cycles       start, one task, shutdown, 2000 times: does the process grow?
  soak         mixed work while workers are killed at random (default 60 minutes): does anything grow, is a task lost?

The section cli needs `stokehold` beside this program: cargo build --release -p stokehold-cli
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["worker", "storm"] => return storm::serve(),
        ["worker", "soak"] => return soak::serve(),
        ["worker", "detection", file] => return detection::serve(file),
        ["worker", mode @ ..] => return ours::serve(mode),
        ["limit", mode @ ..] => limits::serve(mode),
        ["generate", bytes] => cli::generate(bytes),
        ["probe", workers, seconds] => rest::probe(workers, seconds),
        ["storm"] => storm::run(),
        ["detection"] => detection::run(),
        ["cycles"] => cycles::run(),
        ["soak", words @ ..] => soak::run(words),
        ["-h" | "--help"] => io::stdout().write_all(HELP.as_bytes()).map_err(Into::into),
        words => measure_all(words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(words: &[&str]) -> Outcome<()> {
    let Options { scale, save, sections } = Options::parse(words)?;
    let mut table = Table::new();
    for (name, section) in SECTIONS {
        if sections.is_empty() || sections.iter().any(|wanted| wanted == name) {
            writeln!(io::stderr(), "measuring {name} …")?;
            section(&scale, &mut table)?;
        }
    }
    let text = table.to_markdown();
    io::stdout().write_all(text.as_bytes())?;
    if let Some(file) = save {
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(file, text)?;
    }
    Ok(())
}

#[derive(Debug)]
struct Options {
    scale: Scale,
    save: Option<PathBuf>,
    /// Empty: all of them.
    sections: Vec<String>,
}

impl Options {
    fn parse(words: &[&str]) -> Outcome<Self> {
        let mut scale = if words.contains(&"--quick") { Scale::QUICK } else { Scale::FULL };
        let mut save = None;
        let mut sections = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match *word {
                "--quick" => {}
                "--rounds" => scale.rounds = value()?.parse::<usize>()?.max(1),
                "--gib" => scale.cli_bytes = value()?.parse::<u64>()?.max(1) << 30,
                "--save" => save = Some(PathBuf::from(value()?)),
                section if SECTIONS.iter().any(|(name, _)| *name == section) => {
                    sections.push(section.to_owned());
                }
                other => return Err(format!("unknown argument {other:?}; see --help").into()),
            }
        }
        Ok(Self { scale, save, sections })
    }
}
