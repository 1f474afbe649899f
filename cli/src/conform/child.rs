//! `stokehold conform child`: runs cases against one child, reports, and says by its exit code how it went.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rustix::process::{getpid, set_child_subreaper};

use super::carrier::Carrier;
use super::case::{self, Case, Level, Outcome, Score};
use super::cases;
use super::options::{self, Options};
use super::process::{Setup, sweep};
use super::stage::{Stage, Testee};
use super::verdict::Stop;
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

    #[command(flatten)]
    options: Options,

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
            seed: self.options.seed,
        })
    }
}

/// Runs it.
pub(crate) fn run(args: &ChildArgs) -> Exit {
    let (chosen, unknown) = cases::chosen(&args.options.case);
    if let Some(exit) = args.options.answer(chosen.iter().map(|case| &case.about), unknown) {
        return exit;
    }
    let testee = match args.testee() {
        Ok(testee) => testee,
        Err(error) => return options::fail(Exit::Usage, &error),
    };
    args.options
        .report(cases::has, |told| measure(&testee, args.level, &chosen, args.options.case.is_empty(), told))
}

/// Runs the cases. An error says why there is nothing to measure.
pub(crate) fn measure(
    testee: &Testee,
    level: LevelArg,
    chosen: &[&'static Case],
    is_whole: bool,
    mut told: impl FnMut(&mut Outcome),
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
    let of_level =
        |case: &&'static Case| case.about.level <= Some(asked) && case.fits(testee.carrier) || !is_whole;
    let mut chosen: Vec<_> = chosen.iter().copied().filter(of_level).collect();
    // Every case would wait for the HELLO of a child that says none: one is enough to tell why.
    if can.is_none() {
        chosen.truncate(1);
    }
    let mut outcomes = Vec::new();
    let mut ended = |mut outcome| {
        told(&mut outcome);
        outcomes.push(outcome);
    };
    let (mut sessions, plays): (Vec<_>, Vec<_>) =
        chosen.into_iter().partition(|case| case.about.group() == cases::SESSIONS);
    if is_whole && !testee.is_testee {
        // Not a hundred lines about what is skipped.
        sessions.clear();
    }
    for case in plays {
        ended(case::play(case, &testee));
    }
    case::play_at_once(&sessions, &testee, ended);
    Ok(Score { outcomes, asked: Some(asked), is_whole, took: begun.elapsed(), sdk })
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
