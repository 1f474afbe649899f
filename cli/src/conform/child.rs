//! `stokehold conform child`: runs cases against one child, reports, and says by its exit code how it went.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rustix::process::{getpid, set_child_subreaper};

use super::baseline::Baseline;
use super::carrier::Carrier;
use super::case::{self, Case, Level, Outcome, Score};
use super::cases;
use super::process::{Setup, sweep};
use super::report::{self, Form};
use super::stage::{Stage, Testee};
use super::verdict::Stop;
use crate::console::{self, escaped};
use crate::exit::Exit;
use crate::{run, value};

/// Tests one child
///
/// Exit codes: 0 if no MUST of the level was broken, 1 if one was, 2 for a wrong command line, 3 if the child cannot be started
/// or the machine fails.
#[derive(Debug, Args)]
pub(crate) struct ChildArgs {
    /// What the child is measured by: L1 is the core in text mode, L2 in binary frames, L3 has cancel, ping, meta, items, progress
    /// and log; auto takes L1 if the child speaks text mode where both are on offer, L3 if it lists those capabilities
    #[arg(long, value_enum, default_value_t = LevelArg::Auto)]
    level: LevelArg,

    /// Only these cases: ids, or beginnings with a star (F1,L*)
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    case: Vec<String>,

    /// Lists the cases and the statements they are about
    #[arg(long)]
    list: bool,

    /// A SHOULD that is not kept is a failure too
    #[arg(long)]
    strict: bool,

    /// The child answers the requests of `sdks/TESTEE.md`; the scripts of sessions are played to it too
    #[arg(long)]
    testee: bool,

    /// The input of a task, for a child whose DO is no echo
    #[arg(long = "do", value_name = "JSON", requires = "expect")]
    sample: Option<String>,

    /// The result of that task
    #[arg(long, value_name = "JSON", requires = "sample")]
    expect: Option<String>,

    /// How long the child may take for one thing
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = run::duration)]
    timeout: Duration,

    /// A file of known failures, an id a line: those are no failures, others are, and so is one that passes now
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Writes the file of known failures anew
    #[arg(long, requires = "baseline")]
    fix: bool,

    /// The form of the report on stdout
    #[arg(long, value_enum, default_value_t = Form::Human)]
    report: Form,

    /// Keeps the frames of every case in a file of this directory
    #[arg(long, value_name = "DIR")]
    keep_trace: Option<PathBuf>,

    /// Where the random numbers begin: the same seed cuts the same frames at the same places
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// The child, and its arguments
    #[arg(last = true, required_unless_present = "list", value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum LevelArg {
    Auto,
    #[value(name = "L1", alias = "l1")]
    L1,
    #[value(name = "L2", alias = "l2")]
    L2,
    #[value(name = "L3", alias = "l3")]
    L3,
}

impl ChildArgs {
    fn testee(&self) -> Result<Testee, String> {
        let encoded = |json: &Option<String>| -> Result<Option<Vec<u8>>, String> {
            let Some(json) = json else { return Ok(None) };
            let mut data = Vec::new();
            value::encode_json(json.as_bytes(), &mut data)?;
            Ok(Some(data))
        };
        Ok(Testee {
            command: self.command.clone(),
            is_testee: self.testee,
            carrier: Carrier::Either,
            sample: encoded(&self.sample)?.zip(encoded(&self.expect)?),
            patience: self.timeout,
            seed: self.seed,
        })
    }
}

/// Runs it.
pub(crate) fn run(args: &ChildArgs) -> Exit {
    let (chosen, unknown) = cases::chosen(&args.case);
    if let Some(unknown) = unknown {
        return fail(Exit::Usage, &format!("no case is called {unknown:?}; --list shows them"));
    }
    if args.list {
        return list(&chosen);
    }
    let testee = match args.testee() {
        Ok(testee) => testee,
        Err(error) => return fail(Exit::Usage, &error),
    };
    let baseline = match args.baseline.as_deref().map(|path| Baseline::read(path, args.fix)).transpose() {
        Ok(baseline) => baseline,
        Err(error) => return fail(Exit::Usage, &error),
    };
    if let Some(directory) = &args.keep_trace
        && let Err(error) = fs::create_dir_all(directory)
    {
        return fail(Exit::Usage, &format!("cannot make {}: {error}", directory.display()));
    }
    let human = args.report == Form::Human;
    let told = |outcome: &Outcome| {
        if human {
            report::print(&report::human::case(outcome));
        }
        if let Some(directory) = &args.keep_trace {
            keep_trace(directory, outcome);
        }
    };
    let score = match measure(&testee, args.level, &chosen, args.case.is_empty(), told) {
        Ok(score) => score,
        Err(why) => return fail(Exit::NoWorkers, &why),
    };
    let is_told = report::print(&match args.report {
        Form::Human => report::human::summary(&score),
        form => report::render(form, &score),
    });
    if !is_told {
        return Exit::SomeFailed;
    }
    judge(args, &score, baseline)
}

/// Runs the cases. An error says why there is nothing to measure.
pub(crate) fn measure(
    testee: &Testee,
    level: LevelArg,
    chosen: &[&'static Case],
    is_whole: bool,
    mut told: impl FnMut(&Outcome),
) -> Result<Score, String> {
    // Whatever a child leaves behind becomes the kit's child, so that it can be found and ended.
    set_child_subreaper(Some(getpid())).map_err(|error| format!("cannot adopt orphans: {error}"))?;
    let begun = Instant::now();
    let asked = match level {
        LevelArg::Auto => None,
        LevelArg::L1 => Some(Level::L1),
        LevelArg::L2 => Some(Level::L2),
        LevelArg::L3 => Some(Level::L3),
    };
    let carrier_of = |level| if level == Level::L1 { Carrier::Lines } else { Carrier::Frames };
    let mut testee = Testee { carrier: asked.map_or(Carrier::Either, carrier_of), ..testee.clone() };
    let (sdk, can) = introduce(&testee)?;
    let asked = asked.or(can).unwrap_or(Level::L2);
    testee.carrier = carrier_of(asked);
    let of_level = |case: &&'static Case| case.level <= asked && case.fits(testee.carrier) || !is_whole;
    let mut chosen: Vec<_> = chosen.iter().copied().filter(of_level).collect();
    // Every case would wait for the HELLO of a child that says none: one is enough to tell why.
    if can.is_none() {
        chosen.truncate(1);
    }
    let mut outcomes = Vec::new();
    let mut ended = |outcome| {
        told(&outcome);
        outcomes.push(outcome);
    };
    let (mut sessions, plays): (Vec<_>, Vec<_>) =
        chosen.into_iter().partition(|case| case.group() == cases::SESSIONS);
    if is_whole && !testee.is_testee {
        // Not a hundred lines about what is skipped.
        sessions.clear();
    }
    for case in plays {
        ended(case::play(case, &testee));
    }
    case::play_at_once(&sessions, &testee, ended);
    Ok(Score { outcomes, asked, is_whole, took: begun.elapsed(), sdk })
}

/// What the child calls itself, and the level it claims; no level if it does not even greet.
fn introduce(testee: &Testee) -> Result<(String, Option<Level>), String> {
    let mut stage = Stage::new(testee, "introduction");
    let greeted = stage.greeted_by(&Setup::default());
    let introduced = match &greeted {
        Ok(session) => Ok((session.hello().sdk, Some(case::level_of(&session.referee, session.codec())))),
        Err(Stop::Harness(why)) => Err(why.clone()),
        Err(_) => {
            let said = stage.record.borrow().stderr.clone();
            match said.lines().find(|line| line.starts_with("stokehold conform: cannot run")) {
                Some(why) => Err(why.to_owned()),
                None => Ok((String::new(), None)),
            }
        }
    };
    drop(greeted);
    sweep();
    introduced
}

fn list(chosen: &[&'static Case]) -> Exit {
    let lines: String = chosen.iter().map(|case| report::human::listed(case)).collect();
    if report::print(&lines) { Exit::Success } else { Exit::SomeFailed }
}

fn keep_trace(directory: &Path, outcome: &Outcome) {
    let path = directory.join(format!("{}.txt", outcome.case.id));
    let mut text = format!("{} {}\n", outcome.case.id, outcome.verdict);
    for line in &outcome.trace {
        text.push_str(line);
        text.push('\n');
    }
    let kept = fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    if let Err(error) = kept {
        console::line(format_args!("warning: cannot keep {}: {error}", path.display()));
    }
}

fn judge(args: &ChildArgs, score: &Score, baseline: Option<Baseline>) -> Exit {
    let Some(baseline) = baseline else {
        return match score.is_good(args.strict) {
            true => Exit::Success,
            false if score.count(super::verdict::Verdict::Harness) > 0 => Exit::NoWorkers,
            false => Exit::SomeFailed,
        };
    };
    if args.fix {
        return match baseline.rewrite(score, args.strict) {
            Ok(()) => Exit::Success,
            Err(error) => fail(Exit::SomeFailed, &error),
        };
    }
    let complaints = baseline.complaints(score, args.strict);
    for complaint in &complaints {
        console::line(format_args!("error: {complaint}"));
    }
    if complaints.is_empty() { Exit::Success } else { Exit::SomeFailed }
}

fn fail(exit: Exit, why: &str) -> Exit {
    console::line(format_args!("error: {}", escaped(why)));
    exit
}
