//! `stokehold conform child`: runs cases against one child, reports, and says by its exit code how it went.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use rustix::process::{getpid, set_child_subreaper};

use super::carrier::Carrier;
use super::case::{self, Case, Level, News, Score};
use super::cases;
use super::options::{self, Options};
use super::process::{Setup, sweep};
use super::stage::{Sample, Stage, Testee, hear_hello};
use super::verdict::{Stop, Verdict};
use crate::exit::Exit;
use crate::{run, value};

/// Tests one child
///
/// Exit codes: 0 if no MUST of the level was broken, 1 if one was or if cases were skipped that the level of `--level` needs, 2 for a
/// wrong command line, 3 if the child cannot be started or the machine fails.
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

    #[arg(hide = true, num_args = 1.., value_name = "CMD", value_parser = options::misplaced)]
    misplaced: Vec<OsString>,

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
        let encoded = |option: &str, json: &Option<String>| -> Result<Option<Vec<u8>>, String> {
            let Some(json) = json else { return Ok(None) };
            let mut data = Vec::new();
            value::encode_json(json.as_bytes(), &mut data).map_err(|error| {
                format!("{option} is no JSON: a text needs quotes ('\"hello\"'): {error}")
            })?;
            Ok(Some(data))
        };
        Ok(Testee {
            command: self.command.clone(),
            is_testee: self.testee,
            carrier: Carrier::Either,
            sample: match encoded("--do", &self.sample)?.zip(encoded("--expect", &self.expect)?) {
                Some((input, result)) => Sample::Given(input, result),
                None => Sample::Echo,
            },
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
    mut told: impl FnMut(News<'_>),
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
    let Introduction { sdk, can, is_in_lines, sample } = introduce(&testee)?;
    let asked = asked.or(can).unwrap_or(if is_in_lines { Level::L1 } else { Level::L2 });
    let mut notices = Vec::new();
    if sample != testee.sample {
        told(News::Notice(NO_ECHO));
        notices.push(NO_ECHO.to_owned());
        testee.sample = sample;
    }
    testee.carrier = carrier_of(asked);
    let of_level =
        |case: &&'static Case| case.about.level <= Some(asked) && case.fits(testee.carrier) || !is_whole;
    let chosen = chosen.iter().copied().filter(of_level);
    let mut outcomes = Vec::new();
    let mut ended = |mut outcome| {
        told(News::Outcome(&mut outcome));
        outcome.settle();
        outcomes.push(outcome);
    };
    let (mut sessions, plays): (Vec<_>, Vec<_>) =
        chosen.partition(|case| case.about.group() == cases::SESSIONS);
    if is_whole && !testee.is_testee {
        // Not a hundred lines about what is skipped.
        sessions.clear();
    }
    if can.is_some() {
        for case in plays {
            ended(case::play(case, &testee));
        }
        case::play_at_once(&sessions, &testee, ended);
    } else {
        // Every case would wait for the HELLO of a child that says none: one is enough to tell why.
        let mut others = plays.into_iter().chain(sessions);
        if let Some(first) = others.next() {
            ended(case::play(first, &testee));
        }
        let others: Vec<_> = others.collect();
        if let Some(first) = outcomes.first().filter(|_| !others.is_empty()) {
            let what = match first.verdict {
                Verdict::Fail | Verdict::Known | Verdict::Warn => format!("{} failed", first.case.id),
                _ => "the child says no HELLO".to_owned(),
            };
            let count = others.len();
            let notice = format!("{what}; the other {} not run", cases_were(count));
            told(News::Notice(&notice));
            notices.push(notice);
            let why = format!("not run: {what}");
            outcomes.extend(others.into_iter().map(|case| case::not_run(case, &why)));
        }
    }
    let is_sampled = testee.sample != Sample::Unknown;
    let (is_claimed, took) = (level == LevelArg::Auto, begun.elapsed());
    Ok(Score { outcomes, asked: Some(asked), is_claimed, is_whole, is_sampled, notices, took, sdk })
}

/// What a child is told that does something else than the cases ask for.
const NO_ECHO: &str = "DO is no echo: give --do JSON --expect JSON; cases that need an echo are skipped";

fn cases_were(count: usize) -> String {
    if count == 1 { "case was".to_owned() } else { format!("{count} cases were") }
}

/// What the kit knows of a child before its first case.
struct Introduction {
    /// What it calls itself.
    sdk: String,
    /// The level it claims; none if it does not even greet.
    can: Option<Level>,
    /// Its output begins like text mode.
    is_in_lines: bool,
    sample: Sample,
}

fn introduce(testee: &Testee) -> Result<Introduction, String> {
    let mut stage = Stage::new(testee, "introduction");
    let mut introduction =
        Introduction { sdk: String::new(), can: None, is_in_lines: false, sample: testee.sample.clone() };
    let greeted = stage.start(&Setup::default()).and_then(|mut session| {
        let heard = hear_hello(&mut session);
        introduction.is_in_lines = session.is_in_lines();
        heard.map(|()| session)
    });
    let introduced = match greeted {
        Ok(session) => {
            introduction.sdk = session.hello().sdk;
            introduction.can = Some(case::level_of(&session.referee, session.codec()));
            if testee.sample == Sample::Echo {
                introduction.sample = stage.try_echo(session).unwrap_or_default();
            }
            Ok(introduction)
        }
        Err(Stop::Harness(why)) => Err(why),
        Err(_) => {
            let said = stage.record.borrow().stderr.clone();
            match said.lines().find(|line| line.starts_with("stokehold conform: cannot run")) {
                Some(why) => Err(why.to_owned()),
                None => Ok(introduction),
            }
        }
    };
    sweep();
    introduced
}
