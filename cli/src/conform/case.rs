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
use super::stage::{NEEDS_TESTEE, Stage, Testee};
use super::trace::Trace;
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
    /// It tells something, which is neither right nor wrong.
    Info,
}

/// What a report says of a case, whoever is tested by it.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// The lowest that has it; parents have none.
    pub(crate) level: Option<Level>,
    pub(crate) rank: Rank,
    /// The statements of the specification it looks at.
    pub(crate) spec: &'static [&'static str],
    /// A child that is to have this level must not be skipped here.
    pub(crate) is_needed: bool,
}

impl Description {
    /// The group: the letters of the id.
    pub(crate) fn group(&self) -> &'static str {
        let end = self.id.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(self.id.len());
        self.id.get(..end).unwrap_or(self.id)
    }
}

/// One case: a small play with a child, which ends with a verdict.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) about: Description,
    /// In what it can be played.
    pub(crate) carrier: Carrier,
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
        let level = Some(Level::L1);
        let about = Description { id, title, level, rank: Rank::Must, spec, is_needed: false };
        Self { about, carrier: Carrier::Either, play }
    }

    /// About a SHOULD of the core.
    pub(crate) const fn should(
        id: &'static str,
        title: &'static str,
        spec: &'static [&'static str],
        play: fn(&mut Stage<'_>) -> Checked,
    ) -> Self {
        Self::must(id, title, spec, play).ranked(Rank::Should)
    }

    /// Tells something: only a rule that is broken on the way makes it fail.
    pub(crate) const fn info(
        id: &'static str,
        title: &'static str,
        spec: &'static [&'static str],
        play: fn(&mut Stage<'_>) -> Checked,
    ) -> Self {
        Self::must(id, title, spec, play).ranked(Rank::Info)
    }

    pub(super) const fn of_level(self, level: Level) -> Self {
        Self { about: Description { level: Some(level), ..self.about }, ..self }
    }

    const fn ranked(self, rank: Rank) -> Self {
        Self { about: Description { rank, ..self.about }, ..self }
    }

    /// The same for what only frames have.
    pub(crate) const fn of_frames(self) -> Self {
        Self { carrier: Carrier::Frames, ..self.of_level(Level::L2) }
    }

    /// The same for what only text mode has.
    pub(crate) const fn of_lines(self) -> Self {
        Self { carrier: Carrier::Lines, ..self }
    }

    /// The same for what only the third level has.
    pub(crate) const fn of_level_3(self) -> Self {
        self.of_level(Level::L3)
    }

    /// Whether it can be played in what a child speaks.
    pub(crate) fn fits(&self, carrier: Carrier) -> bool {
        self.carrier == Carrier::Either || self.carrier == carrier
    }

    /// The same, and the level is not reached by a child that cannot do it.
    pub(crate) const fn needed(self) -> Self {
        Self { about: Description { is_needed: true, ..self.about }, ..self }
    }
}

/// What came of a case.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) case: &'static Description,
    pub(crate) verdict: Verdict,
    /// What was broken, the worst first.
    pub(crate) findings: Vec<Finding>,
    /// Why it was skipped, or what there is to know.
    pub(crate) remarks: Vec<String>,
    pub(crate) trace: Trace,
    /// The last that the child wrote on standard error.
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

/// Lines shown of what a child wrote on standard error.
const STDERR_LINES: usize = 8;

impl Outcome {
    /// Whether a report shows what went over the wire.
    pub(crate) fn shows_frames(&self) -> bool {
        matches!(self.verdict, Verdict::Fail | Verdict::Harness | Verdict::Warn)
    }

    /// The last lines that the child wrote on standard error.
    pub(crate) fn last_words(&self) -> Vec<&str> {
        let said: Vec<&str> = self.stderr.lines().collect();
        said.get(said.len().saturating_sub(STDERR_LINES)..).unwrap_or_default().to_vec()
    }

    /// Lets go of what no report shows, once it was told.
    pub(crate) fn settle(&mut self) {
        if !self.shows_frames() {
            self.trace = Trace::default();
        }
    }
}

/// What stands for a case that was left out.
pub(crate) fn not_run(case: &'static Case, why: &str) -> Outcome {
    Outcome {
        case: &case.about,
        verdict: Verdict::Skip,
        findings: Vec::new(),
        remarks: vec![why.to_owned()],
        trace: Trace::default(),
        stderr: String::new(),
        took: Duration::ZERO,
    }
}

/// Plays a case with children of its own, of which none is left afterwards.
pub(crate) fn play(case: &'static Case, testee: &Testee) -> Outcome {
    let outcome = perform(case, testee);
    // What a case starts is dropped with it; this is for what escaped.
    sweep();
    outcome
}

/// Plays cases that need no quiet machine, several at a time. They are told in their order.
pub(crate) fn play_at_once(cases: &[&'static Case], testee: &Testee, told: impl FnMut(Outcome)) {
    let hands = thread::available_parallelism().map_or(1, usize::from);
    at_once(cases, hands, |case| perform(case, testee), told);
    // Only now: it takes every process for one that escaped.
    sweep();
}

/// Does something with each of the items, so many at a time. The outcomes are told in the order of the items.
pub(crate) fn at_once<T: Copy + Sync>(
    items: &[T],
    hands: usize,
    work: impl Fn(T) -> Outcome + Sync,
    mut told: impl FnMut(Outcome),
) {
    let next = AtomicUsize::new(0);
    let (sender, outcomes) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..hands.min(items.len()) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                let due = || {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    items.get(index).map(|item| (index, *item))
                };
                while let Some((index, item)) = due() {
                    if sender.send((index, work(item))).is_err() {
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
}

fn perform(case: &'static Case, testee: &Testee) -> Outcome {
    let begun = Instant::now();
    let mut stage = Stage::new(testee, case.about.id);
    let ended = match case.fits(testee.carrier) {
        true => (case.play)(&mut stage),
        false => Err(Stop::skip(format!(
            "it is about {}, and this child is tested in {}",
            case.carrier, testee.carrier
        ))),
    };
    let record = stage.record.borrow();
    let (verdict, findings, remarks) =
        conclude(case.about.rank, ended, &record.warnings, record.notes.clone());
    Outcome {
        case: &case.about,
        verdict,
        findings,
        remarks,
        trace: record.trace.clone(),
        stderr: record.stderr.clone(),
        took: begun.elapsed(),
    }
}

/// What comes of a case that ended so: the verdict, what was broken with the worst first, and what there is to know.
pub(crate) fn conclude(
    rank: Rank,
    ended: Checked,
    warnings: &[Finding],
    mut remarks: Vec<String>,
) -> (Verdict, Vec<Finding>, Vec<String>) {
    let mut findings = each_once(warnings);
    let warned = if findings.is_empty() { Verdict::Pass } else { Verdict::Warn };
    let verdict = match ended {
        Ok(()) if rank == Rank::Info && warned == Verdict::Pass => Verdict::Info,
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
            match rank {
                Rank::Must | Rank::Info => Verdict::Fail,
                Rank::Should => Verdict::Warn,
            }
        }
    };
    (verdict, findings, remarks)
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

/// What is told while a run goes on.
#[derive(Debug)]
pub(crate) enum News<'a> {
    /// Something about the run as a whole.
    Notice(&'a str),
    /// A case is over.
    Outcome(&'a mut Outcome),
}

/// The outcome of a whole run.
#[derive(Debug)]
pub(crate) struct Score {
    pub(crate) outcomes: Vec<Outcome>,
    /// The level that a child is measured by; none for a parent.
    pub(crate) asked: Option<Level>,
    /// That level is what the child claims, and nobody demanded it.
    pub(crate) is_claimed: bool,
    /// All cases were run, so that a level can be told.
    pub(crate) is_whole: bool,
    /// There was a task to try the child with.
    pub(crate) is_sampled: bool,
    /// What there is to know of the run as a whole.
    pub(crate) notices: Vec<String>,
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
        let mut of_level = self.outcomes.iter().filter(|outcome| outcome.case.level <= Some(level));
        !of_level.any(|outcome| match outcome.verdict {
            Verdict::Fail | Verdict::Harness | Verdict::Known => true,
            Verdict::Skip => outcome.case.is_needed,
            Verdict::Pass | Verdict::Warn | Verdict::Info => false,
        })
    }

    /// The highest level whose cases all hold; none if not all were run.
    pub(crate) fn reached(&self) -> Option<Level> {
        // What was played in lines says nothing about frames, and the other way round.
        let levels: &[Level] = match self.asked? {
            Level::L1 => &[Level::L1],
            Level::L2 => &[Level::L2],
            Level::L3 => &[Level::L3, Level::L2],
        };
        levels.iter().copied().find(|level| self.is_whole && self.is_sampled && self.holds(*level))
    }

    /// The cases that the level needs, and that were skipped.
    fn untried(&self) -> impl Iterator<Item = &'static Description> {
        let is_needed = |outcome: &&Outcome| outcome.case.is_needed && outcome.verdict == Verdict::Skip;
        self.outcomes.iter().filter(is_needed).map(|outcome| outcome.case)
    }

    /// Why the level that is measured was not reached, where nothing was broken; else nothing.
    fn why_not(&self, asked: Level) -> String {
        let untried: Vec<&str> = self.untried().map(|case| case.id).collect();
        if untried.is_empty() || self.reached() >= self.asked {
            return String::new();
        }
        format!("; {asked} not tried: {} skipped, which it needs: {}", untried.len(), untried.join(", "))
    }

    /// Whether the run is a success.
    pub(crate) fn is_good(&self, strict: bool) -> bool {
        let broken = self.count(Verdict::Fail) > 0 || strict && self.count(Verdict::Warn) > 0;
        // A claim that could not be tried is no failure.
        let is_untried = self.is_claimed && self.is_sampled && self.untried().next().is_some();
        let missed = self.is_whole && self.reached() < self.asked && !is_untried;
        !broken && !missed && self.count(Verdict::Harness) == 0
    }

    /// The level reached, in words; nothing for a parent.
    pub(crate) fn level_line(&self) -> Option<String> {
        let asked = self.asked?;
        Some(match self.reached() {
            Some(level) => {
                let is_left_out = |outcome: &&Outcome| {
                    outcome.verdict == Verdict::Skip && outcome.remarks.iter().any(|why| why == NEEDS_TESTEE)
                };
                let why_not = self.why_not(asked);
                match self.outcomes.iter().filter(is_left_out).count() {
                    0 => format!("level reached: {level}{why_not}"),
                    1 => format!("level reached: {level} (1 case skipped: it needs --testee){why_not}"),
                    more => {
                        format!("level reached: {level} ({more} cases skipped: they need --testee){why_not}")
                    }
                }
            }
            None if !self.is_sampled => "level reached: not told, because DO is no echo".to_owned(),
            None if self.is_whole => "level reached: none".to_owned(),
            None => "level reached: not told, because not all cases were run".to_owned(),
        })
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
