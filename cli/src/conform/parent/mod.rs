//! `stokehold conform parent`: runs a parent program again and again, each time with other children, and says what it did wrong.
//!
//! The parent is any program that starts the worker it is given (`sdks/TESTEE.md` says how). The worker is the kit itself
//! (`villain`), which plays the part of a `plot` (all are in `plots`) by means of the `actor`, and leaves a `record` of the frames.
//! Afterwards the `umpire` looks at the records, and `play` at the `evidence`: these, and the `outcomes` that the parent reports.

mod actor;
mod evidence;
mod outcomes;
mod play;
mod plot;
pub(super) mod plots;
mod program;
mod record;
mod umpire;
mod villain;

use std::ffi::OsString;
use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{getpid, set_child_subreaper};

use self::play::Trial;
use self::plot::Plot;
pub(crate) use self::villain::{VillainArgs, run as play_villain};
use super::case::{self, News, Score};
use super::options::{self, Options};
use super::process::sweep;
use crate::exit::Exit;
use crate::run;

/// Tests one parent program
///
/// The program is started once for each case, with a worker's command behind its own arguments: a child that breaks one rule, or
/// keeps one in an unusual way. It does one task (DO) for each line of its standard input, a JSON value, and writes for each a line
/// such as {"seq":1,"ok":true,"data":…} or {"seq":2,"ok":false,"error":{"code":"crashed"}}; `sdks/TESTEE.md` has it all. For
/// instance
///
///   stokehold conform parent -- stokehold run --jsonl -j 1 --timeout 3s --ready-timeout 1s --
///
/// Exit codes: 0 if no MUST was broken, 1 if one was, 2 for a wrong command line, 3 if the parent cannot be started or the machine
/// fails.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ParentArgs {
    /// How long the parent may take for a case; its own limits of time must be shorter
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = run::duration)]
    timeout: Duration,

    /// How many cases run at a time: most of them wait [default: four for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,

    #[arg(hide = true, num_args = 1.., value_name = "CMD", value_parser = options::misplaced)]
    misplaced: Vec<OsString>,

    #[command(flatten)]
    options: Options,

    /// The parent, and its arguments
    #[arg(last = true, required_unless_present = "list", value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs it.
pub(crate) fn run(args: &ParentArgs) -> Exit {
    let (chosen, unknown) = plots::chosen(&args.options.case);
    if let Some(exit) = args.options.answer(chosen.iter().map(|plot| &plot.about), unknown) {
        return exit;
    }
    args.options.report(|id| plots::find(id).is_some(), |told| measure(args, &chosen, told))
}

/// Runs the cases. An error says why there is nothing to measure.
fn measure(
    args: &ParentArgs,
    chosen: &[&'static Plot],
    told: &mut dyn FnMut(News<'_>),
) -> Result<Score, String> {
    // Whatever a parent leaves behind becomes the kit's child, so that it can be found and ended.
    set_child_subreaper(Some(getpid())).map_err(|error| format!("cannot adopt orphans: {error}"))?;
    let begun = Instant::now();
    let mut trial =
        Trial { command: args.command.clone(), patience: args.timeout, seed: args.options.seed, memory: 0 };
    let mut score = Score {
        outcomes: Vec::new(),
        asked: None,
        is_claimed: false,
        is_whole: args.options.case.is_empty(),
        is_sampled: true,
        notices: Vec::new(),
        took: Duration::ZERO,
        sdk: String::new(),
    };
    // Unless it gives outcomes with an honest child, every other case would say the same.
    let introduction = plots::find(plots::INTRODUCTION).ok_or("the honest child is missing")?;
    let (mut first, memory) = play::play(introduction, &trial);
    let asks_for_first = chosen.iter().any(|plot| plot.about.id == first.case.id);
    if let Some(why) = first.stderr.lines().find(|line| line.starts_with("stokehold conform: cannot run")) {
        return Err(why.to_owned());
    }
    if asks_for_first || memory.is_none() {
        told(News::Outcome(&mut first));
        score.outcomes.push(first);
    }
    if let Some(memory) = memory {
        trial.memory = memory;
        let is_rest = |plot: &&Plot| plot.about.id != plots::INTRODUCTION;
        let rest: Vec<_> = chosen.iter().copied().filter(is_rest).collect();
        case::at_once(
            &rest,
            jobs(args),
            |plot| play::play(plot, &trial).0,
            |mut outcome| {
                told(News::Outcome(&mut outcome));
                outcome.settle();
                score.outcomes.push(outcome);
            },
        );
    }
    sweep();
    score.took = begun.elapsed();
    Ok(score)
}

fn jobs(args: &ParentArgs) -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    args.jobs.map_or(cores * 4, usize::from)
}
