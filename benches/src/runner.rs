//! Runs contestants against each other: Stokehold, the limits of the machine, and, if asked for, the peers; each a process of its own,
//! in turns, so that whatever the machine does meanwhile meets all of them. It measures and judges; what is done is in `contest`.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::dice::Dice;
use crate::measure::Outcome;

mod goals;
mod plan;
mod plot;
mod report;
mod results;
mod round;
mod tree;

use plan::Entry;
use results::Results;

const ROUNDS: usize = 5;

/// What is asked for.
#[derive(Debug)]
struct Options {
    rounds: usize,
    /// Their list, if peers are to be measured.
    peers: Option<PathBuf>,
    /// Only workloads whose names begin so; empty: all.
    only: Vec<String>,
    /// Where the report goes as well, with its plots beside it.
    save: Option<PathBuf>,
}

impl Options {
    fn parse(words: &[&str]) -> Outcome<Self> {
        let mut options = Self { rounds: ROUNDS, peers: None, only: Vec::new(), save: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match *word {
                "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
                "--peers" => options.peers = Some(PathBuf::from(value()?)),
                "--save" => options.save = Some(PathBuf::from(value()?)),
                only if !only.starts_with('-') => options.only.push(only.to_owned()),
                other => return Err(format!("unknown argument {other:?}; see --help").into()),
            }
        }
        Ok(options)
    }

    fn wants(&self, workload: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| workload.starts_with(only.as_str()))
    }
}

/// Measures, reports, and says which goals are met.
pub(crate) fn run(words: &[&str]) -> Outcome<()> {
    let options = Options::parse(words)?;
    let machine = report::machine();
    let mut entries = plan::ours_and_limits();
    if let Some(list) = &options.peers {
        entries.extend(plan::peers(list)?);
    }
    entries.retain(|entry| options.wants(&entry.workload));
    if entries.is_empty() {
        return Err("no workload has such a name; see --help".into());
    }
    let results = measure(entries, options.rounds)?;
    let report = report::Report { machine, rounds: options.rounds, results };
    io::stdout().write_all(report.to_markdown(None).as_bytes())?;
    if let Some(file) = &options.save {
        save(&report, file)?;
    }
    Ok(())
}

/// Every workload in turn; in each as many rounds as asked for; in each round every contestant once, in an order by chance.
fn measure(entries: Vec<Entry>, rounds: usize) -> Outcome<Results> {
    let mut results = Results::new(entries);
    let mut dice = Dice::new(rounds as u64);
    for workload in results.workloads() {
        for number in 1..=rounds {
            write!(io::stderr(), "\r\x1b[K{workload}: round {number} of {rounds}")?;
            for place in results.order(&workload, &mut dice) {
                let Some(entry) = results.entry(place) else { continue };
                match round::run(entry) {
                    Ok(figures) => results.add(place, figures),
                    Err(error) if entry.is_peer() => results.fail(place, error.to_string()),
                    Err(error) => return Err(format!("{workload}, {}: {error}", entry.name).into()),
                }
            }
        }
    }
    writeln!(io::stderr(), "\r\x1b[K")?;
    Ok(results)
}

fn save(report: &report::Report, file: &PathBuf) -> Outcome<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut plots = Vec::new();
    for (name, svg) in plot::all(&report.results) {
        let plot = file.with_extension(format!("{name}.svg"));
        fs::write(&plot, svg)?;
        plots.extend(plot.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    fs::write(file, report.to_markdown(Some(&plots)))?;
    Ok(())
}
