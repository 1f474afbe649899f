//! What a case is, how one is run, and what comes of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use stokehold_protocol::Codec;

use super::carrier::Carrier;
use super::process::sweep;
use super::referee::Referee;
use super::stage::{Stage, Testee};
use super::verdict::{Checked, Finding, Stop, Verdict};

/// How much of the protocol a child speaks. Each level contains the one before, but for what only lines or only frames have.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Level {
    /// The core in text: section 10 of the specification, and what of sections 1 to 9 does not depend on frames.
    L1,
    /// The binary core: sections 1 to 9 of the specification without capabilities.
    L2,
    /// The core and `cancel`, `ping`, `meta`, ITEM, PROGRESS and LOG.
    L3,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
        })
    }
}

/// How much weight a case has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rank {
    /// It is about a MUST.
    Must,
    /// It is about a SHOULD: what fails is a warning.
    Should,
    /// It only tells.
    Info,
}

/// One case: a small play with a child, which ends with a verdict.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// The lowest that has it.
    pub(crate) level: Level,
    /// In what it can be played.
    pub(crate) carrier: Carrier,
    pub(crate) rank: Rank,
    /// The statements of the specification it looks at.
    pub(crate) spec: &'static [&'static str],
    /// A child that is to have this level must not be skipped here.
    pub(crate) is_needed: bool,
    pub(crate) play: fn(&mut Stage<'_>) -> Checked,
}

impl Case {
    /// About a MUST of the core, whatever carries it.
    pub(crate) const fn must(
        id: &'static str,
        title: &'static str,
        spec: &'static [&'static str],
        play: fn(&mut Stage<'_>) -> Checked,
    ) -> Self {
        Self {
            id,
            title,
            level: Level::L1,
            carrier: Carrier::Either,
            rank: Rank::Must,
            spec,
            is_needed: false,
            play,
        }
    }

    /// About a SHOULD of the core.
    pub(crate) const fn should(
        id: &'static str,
        title: &'static str,
        spec: &'static [&'static str],
        play: fn(&mut Stage<'_>) -> Checked,
    ) -> Self {
        Self { rank: Rank::Should, ..Self::must(id, title, spec, play) }
    }

    /// Tells something, and never fails.
    pub(crate) const fn info(
        id: &'static str,
        title: &'static str,
        spec: &'static [&'static str],
        play: fn(&mut Stage<'_>) -> Checked,
    ) -> Self {
        Self { rank: Rank::Info, ..Self::must(id, title, spec, play) }
    }

    /// The same for what only frames have.
    pub(crate) const fn of_frames(self) -> Self {
        Self { level: Level::L2, carrier: Carrier::Frames, ..self }
    }

    /// The same for what only text mode has.
    pub(crate) const fn of_lines(self) -> Self {
        Self { carrier: Carrier::Lines, ..self }
    }

    /// The same for what only the third level has.
    pub(crate) const fn of_level_3(self) -> Self {
        Self { level: Level::L3, ..self }
    }

    /// Whether it can be played in what a child speaks.
    pub(crate) fn fits(&self, carrier: Carrier) -> bool {
        self.carrier == Carrier::Either || self.carrier == carrier
    }

    /// The same, and the level is not reached by a child that cannot do it.
    pub(crate) const fn needed(self) -> Self {
        Self { is_needed: true, ..self }
    }

    /// The group: the letters of the id.
    pub(crate) fn group(&self) -> &'static str {
        let end = self.id.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(self.id.len());
        self.id.get(..end).unwrap_or(self.id)
    }
}

/// What came of a case.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) case: &'static Case,
    pub(crate) verdict: Verdict,
    /// What was broken, the worst first.
    pub(crate) findings: Vec<Finding>,
    /// Why it was skipped, or what there is to know.
    pub(crate) remarks: Vec<String>,
    pub(crate) trace: Vec<String>,
    /// The last that the child wrote on standard error.
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

/// Plays a case with children of its own, of which none is left afterwards.
pub(crate) fn play(case: &'static Case, testee: &Testee) -> Outcome {
    let outcome = perform(case, testee);
    // What a case starts is dropped with it; this is for what escaped.
    sweep();
    outcome
}

/// Plays cases that need no quiet machine, several at a time. They are told in their order.
pub(crate) fn play_at_once(cases: &[&'static Case], testee: &Testee, mut told: impl FnMut(Outcome)) {
    let next = AtomicUsize::new(0);
    let (sender, outcomes) = mpsc::channel();
    let hands = thread::available_parallelism().map_or(1, usize::from).min(cases.len());
    thread::scope(|scope| {
        for _ in 0..hands {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                let due = || {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    cases.get(index).map(|case| (index, *case))
                };
                while let Some((index, case)) = due() {
                    if sender.send((index, perform(case, testee))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut early = BTreeMap::new();
        let mut due = 0;
        for (index, outcome) in outcomes {
            early.insert(index, outcome);
            while let Some(outcome) = early.remove(&due) {
                told(outcome);
                due += 1;
            }
        }
    });
    // Only now: it takes every process for one that escaped.
    sweep();
}

fn perform(case: &'static Case, testee: &Testee) -> Outcome {
    let begun = Instant::now();
    let mut stage = Stage::new(testee, case.id);
    let ended = match case.fits(testee.carrier) {
        true => (case.play)(&mut stage),
        false => Err(Stop::skip(format!(
            "it is about {}, and this child is tested in {}",
            case.carrier, testee.carrier
        ))),
    };
    let record = stage.record.borrow();
    let mut findings = each_once(&record.warnings);
    let mut remarks = record.notes.clone();
    let warned = if findings.is_empty() { Verdict::Pass } else { Verdict::Warn };
    let verdict = match ended {
        Ok(()) if case.rank == Rank::Info && warned == Verdict::Pass => Verdict::Info,
        Ok(()) => warned,
        Err(Stop::Skip(why)) => {
            remarks.insert(0, why);
            if warned == Verdict::Pass { Verdict::Skip } else { warned }
        }
        Err(Stop::Harness(why)) => {
            remarks.insert(0, why);
            Verdict::Harness
        }
        Err(Stop::Fail(finding)) => {
            findings.insert(0, finding);
            match case.rank {
                Rank::Must => Verdict::Fail,
                Rank::Should => Verdict::Warn,
                Rank::Info => Verdict::Info,
            }
        }
    };
    Outcome {
        case,
        verdict,
        findings,
        remarks,
        trace: record.trace.lines(),
        stderr: record.stderr.clone(),
        took: begun.elapsed(),
    }
}

/// A SHOULD that was not kept many times is told once, with how often.
fn each_once(warnings: &[Finding]) -> Vec<Finding> {
    let mut found: Vec<(Finding, usize)> = Vec::new();
    for warning in warnings {
        match found
            .iter_mut()
            .find(|(known, _)| known.statement == warning.statement && known.hint == warning.hint)
        {
            Some((_, more)) => *more += 1,
            None => found.push((warning.clone(), 0)),
        }
    }
    let tell = |(mut finding, more): (Finding, usize)| {
        if more > 0 {
            finding.what.push_str(&format!(" (and {more} more like this)"));
        }
        finding
    };
    found.into_iter().map(tell).collect()
}

/// The outcome of a whole run.
#[derive(Debug)]
pub(crate) struct Score {
    pub(crate) outcomes: Vec<Outcome>,
    /// The level that the child is measured by.
    pub(crate) asked: Level,
    /// All cases were run, so that a level can be told.
    pub(crate) is_whole: bool,
    pub(crate) took: Duration,
    /// What the child calls itself.
    pub(crate) sdk: String,
}

impl Score {
    pub(crate) fn count(&self, verdict: Verdict) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.verdict == verdict).count()
    }

    /// Whether everything up to that level holds: no MUST is broken, and nothing that it needs was skipped.
    fn holds(&self, level: Level) -> bool {
        let mut of_level = self.outcomes.iter().filter(|outcome| outcome.case.level <= level);
        !of_level.any(|outcome| match outcome.verdict {
            Verdict::Fail | Verdict::Harness => true,
            Verdict::Skip => outcome.case.is_needed,
            Verdict::Pass | Verdict::Warn | Verdict::Info => false,
        })
    }

    /// The highest level whose cases all hold; none if not all were run.
    pub(crate) fn reached(&self) -> Option<Level> {
        // What was played in lines says nothing about frames, and the other way round.
        let levels: &[Level] = match self.asked {
            Level::L1 => &[Level::L1],
            Level::L2 => &[Level::L2],
            Level::L3 => &[Level::L3, Level::L2],
        };
        levels.iter().copied().find(|level| self.is_whole && self.holds(*level))
    }

    /// Whether the run is a success.
    pub(crate) fn is_good(&self, strict: bool) -> bool {
        let broken = self.count(Verdict::Fail) > 0 || strict && self.count(Verdict::Warn) > 0;
        let missed = self.is_whole && self.reached() < Some(self.asked);
        !broken && !missed && self.count(Verdict::Harness) == 0
    }

    /// The level reached, in words.
    pub(crate) fn level_line(&self) -> String {
        match self.reached() {
            Some(level) => format!("level reached: {level}"),
            None if self.is_whole => "level reached: none".to_owned(),
            None => "level reached: not told, because not all cases were run".to_owned(),
        }
    }
}

/// The first level is measured if the child speaks in lines, the third if it lists what that is made of.
pub(crate) fn level_of(referee: &Referee, codec: Codec) -> Level {
    if codec == Codec::Json {
        return Level::L1;
    }
    use stokehold_protocol::Capability::{Cancel, Meta, Ping};
    let lists = |capability| referee.hello.as_ref().is_some_and(|hello| hello.capabilities.has(capability));
    if [Cancel, Ping, Meta].into_iter().all(lists) { Level::L3 } else { Level::L2 }
}
