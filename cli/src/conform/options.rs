//! What can be asked of every run of cases, whoever is tested: which cases, in which form, against which known failures. And
//! the run's exit code.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use super::baseline::Baseline;
use super::case::{Description, News, Outcome, Score};
use super::report::{self, Form};
use super::verdict::Verdict;
use crate::console::{self, escaped};
use crate::exit::Exit;

/// The options that all have.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only these cases: ids, or beginnings with a star (F1,L*)
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = id)]
    pub(crate) case: Vec<String>,

    /// Lists the cases and the statements they are about
    #[arg(long)]
    list: bool,

    /// A SHOULD that is not kept is a failure too
    #[arg(long)]
    strict: bool,

    /// A file of known failures, an id a line, a reason behind `#`: those are reported as known and are no failures, others are,
    /// and so is one that passes now
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Writes the file of known failures anew; what stays in it keeps its reason
    #[arg(long, requires = "baseline")]
    fix: bool,

    /// The form of the report on stdout
    #[arg(long, value_enum, default_value_t = Form::Human)]
    report: Form,

    /// Keeps the frames of every case in a file of this directory: all of them, each up to 4096 bytes (of a case with more than 8 MiB
    /// of them the first and the last)
    #[arg(long, value_name = "DIR")]
    keep_trace: Option<PathBuf>,

    /// Where the random numbers begin: the same seed cuts the same frames at the same places
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

impl Options {
    /// What is answered without a run: a wrong choice of cases, or their list.
    pub(crate) fn answer(
        &self,
        chosen: impl Iterator<Item = &'static Description>,
        unknown: Option<String>,
    ) -> Option<Exit> {
        if let Some(unknown) = unknown {
            return Some(fail(Exit::Usage, &unknown));
        }
        if !self.list {
            return None;
        }
        let lines: String = chosen.map(report::human::listed).collect();
        Some(if report::print(&lines) { Exit::Success } else { Exit::SomeFailed })
    }

    /// Runs the cases by `measure`, which tells the news as they come, and reports. An error of it says why there is nothing
    /// to measure.
    pub(crate) fn report(
        &self,
        is_case: impl Fn(&str) -> bool,
        measure: impl FnOnce(&mut dyn FnMut(News<'_>)) -> Result<Score, String>,
    ) -> Exit {
        let read = |path| Baseline::read(path, self.fix, is_case);
        let baseline = match self.baseline.as_deref().map(read).transpose() {
            Ok(baseline) => baseline,
            Err(error) => return fail(Exit::Usage, &error),
        };
        if let Some(directory) = &self.keep_trace
            && let Err(error) = fs::create_dir_all(directory)
        {
            return fail(Exit::Usage, &format!("cannot make {}: {error}", directory.display()));
        }
        let human = self.report == Form::Human;
        let mut told = |news: News<'_>| {
            let outcome = match news {
                News::Outcome(outcome) => outcome,
                News::Notice(what) if human => {
                    report::print(&format!("note: {what}\n"));
                    return;
                }
                News::Notice(what) => return console::line(format_args!("note: {what}")),
            };
            if let Some(baseline) = &baseline {
                baseline.mark(outcome, self.strict);
            }
            if human {
                report::print(&report::human::case(outcome));
            }
            if let Some(directory) = &self.keep_trace {
                keep_trace(directory, outcome);
            }
        };
        let score = match measure(&mut told) {
            Ok(score) => score,
            Err(why) => return fail(Exit::NoWorkers, &why),
        };
        let is_told = report::print(&match self.report {
            Form::Human => report::human::summary(&score),
            form => report::render(form, &score),
        });
        if is_told { self.judge(&score, baseline) } else { Exit::SomeFailed }
    }

    fn judge(&self, score: &Score, baseline: Option<Baseline>) -> Exit {
        let Some(baseline) = baseline else {
            return match score.is_good(self.strict) {
                true => Exit::Success,
                false if score.count(Verdict::Harness) > 0 => Exit::NoWorkers,
                false => Exit::SomeFailed,
            };
        };
        if self.fix {
            return match baseline.rewrite(score, self.strict) {
                Ok(()) => Exit::Success,
                Err(error) => fail(Exit::SomeFailed, &error),
            };
        }
        let complaints = baseline.complaints(score, self.strict);
        for complaint in &complaints {
            console::line(format_args!("error: {complaint}"));
        }
        if complaints.is_empty() { Exit::Success } else { Exit::SomeFailed }
    }
}

fn keep_trace(directory: &Path, outcome: &Outcome) {
    let path = directory.join(format!("{}.txt", outcome.case.id));
    let mut text = format!("{} {}\n", outcome.case.id, outcome.verdict);
    for line in outcome.trace.whole() {
        text.push_str(&line);
        text.push('\n');
    }
    let kept = fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    if let Err(error) = kept {
        console::line(format_args!("warning: cannot keep {}: {error}", path.display()));
    }
}

/// The id of a case, or the beginning of some, as people write lists.
#[expect(clippy::unnecessary_wraps, reason = "clap asks for a result")]
pub(crate) fn id(text: &str) -> Result<String, Infallible> {
    Ok(text.trim().to_owned())
}

/// Takes no word of a command that does not stand behind the two dashes.
pub(crate) fn misplaced(word: &str) -> Result<OsString, String> {
    Err(format!("the program and its arguments stand behind two dashes: -- {word}"))
}

/// Says why, and gives that exit code.
pub(crate) fn fail(exit: Exit, why: &str) -> Exit {
    console::line(format_args!("error: {}", escaped(why)));
    exit
}
