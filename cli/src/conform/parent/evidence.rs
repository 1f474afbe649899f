//! What a case against a parent left, and what can be asked of it: what came of the tasks, and what the played children saw.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::outcomes::{CONTRACT, Outcome};
use super::plot::{FORGED, Plot};
use super::program::Ran;
use super::record::{Event, Record, parse};
use crate::conform::process::Ended;
use crate::conform::verdict::{Checked, must};

/// How a task may end where no child works at all.
const REFUSALS: &[&str] = &["unavailable", "version", "codec"];

/// A shorter run says nothing of whether a parent spins: on a full machine its start takes as long.
const RUN_MIN: Duration = Duration::from_secs(2);

/// A parent may take so much more memory than it takes with an honest child: two of the largest frames it has to read, and some.
const MEMORY_MARGIN: u64 = 96 << 20;

/// What a case left.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) plot: &'a Plot,
    pub(crate) ran: Ran,
    pub(crate) outcomes: BTreeMap<u64, Outcome>,
    pub(crate) records: Vec<Record>,
    pub(super) inputs: Vec<String>,
    /// What the parent takes with an honest child.
    pub(super) memory: u64,
}

impl Evidence<'_> {
    /// Whether the parent ended without an outcome for every task, as it may where no child works.
    pub(super) fn gave_up(&self) -> bool {
        let is_bad = matches!(self.ran.ended, Some(Ended::Code(1..)));
        let missing = self.outcomes.len() < self.inputs.len();
        let refused = self.outcomes.values().any(|outcome| outcome.code() == Some("unavailable"));
        self.plot.may_give_up && is_bad && (missing || refused)
    }

    /// Whether the parent has an outcome that may be, for every task.
    pub(super) fn judge_outcomes(&self) -> Checked {
        let touched = self.unanswered();
        let gave_up = self.gave_up();
        for seq in (1..).take(self.inputs.len()) {
            let Some(outcome) = self.outcomes.get(&seq) else {
                must(
                    gave_up,
                    "L-9",
                    || format!("no outcome for the task {seq}"),
                    "run a task whose worker died again, or end it by crashed, killed or lost",
                )?;
                continue;
            };
            if let Outcome::Good(data) = outcome {
                self.judge_result(seq, data)?;
            }
            if (self.plot.is_own)(seq) {
                continue;
            }
            let code = outcome.code();
            let may_die = touched.contains(&seq) || self.plot.may_give_up;
            let is_known = code.is_none_or(|code| {
                may_die && self.plot.deaths.contains(&code)
                    || self.plot.may_give_up && REFUSALS.contains(&code)
            });
            let statement = if touched.contains(&seq) { "L-9" } else { "L-18" };
            must(
                is_known,
                statement,
                || format!("the task {seq} ended by {outcome}"),
                "end a task by what its own answer says, or by the death of the worker that had it; what else goes wrong costs it nothing",
            )?;
        }
        Ok(())
    }

    /// A result is what an honest child would have given: the input.
    fn judge_result(&self, seq: u64, data: &Value) -> Checked {
        let place = usize::try_from(seq).unwrap_or(0).saturating_sub(1);
        let input = self.inputs.get(place).and_then(|input| serde_json::from_str::<Value>(input).ok());
        let is_forged = data.to_string().contains(FORGED);
        must(
            input.as_ref() == Some(data) || (self.plot.is_own)(seq) && !is_forged,
            if is_forged { self.plot.about.spec.first().copied().unwrap_or("R-11") } else { "R-19" },
            || format!("the task {seq} has the result {:.120}", data.to_string()),
            "take for a task's result what its own FINISHED says, and nothing that comes when it may not",
        )
    }

    /// The exit code says whether all went well.
    pub(super) fn judge_end(&self) -> Checked {
        let all_good = self.outcomes.len() == self.inputs.len()
            && self.outcomes.values().all(|outcome| outcome.code().is_none());
        let ended = self.ran.ended;
        let says_so = match ended {
            Some(Ended::Code(0)) => all_good,
            Some(Ended::Code(_)) => !all_good,
            Some(Ended::Signal(_)) | None => false,
        };
        must(
            says_so,
            CONTRACT,
            || match ended {
                Some(ended) => format!("the parent {ended}, and all tasks went well: {all_good}"),
                None => "the parent did not end".to_owned(),
            },
            "exit with code 0 if every task succeeded, with another if not, and let nothing crash the parent",
        )
    }

    /// Tasks that some child got and did not answer.
    fn unanswered(&self) -> BTreeSet<u64> {
        let mut all = BTreeSet::new();
        for record in &self.records {
            let mut open = BTreeMap::new();
            let mut broke = false;
            for event in record.events() {
                match event {
                    Event::Got(got) => {
                        open.insert(got.id(), got.tasks.clone());
                    }
                    Event::Broke(_) => broke = true,
                    // What it answers behind a broken rule nobody need read.
                    Event::Sent(piece) if !broke => {
                        piece.answers().map(|id| open.remove(&id));
                    }
                    _ => {}
                }
            }
            all.extend(open.into_values().flatten());
        }
        all
    }

    /// How many times children got that task.
    pub(crate) fn attempts(&self, seq: u64) -> usize {
        let events = self.records.iter().flat_map(Record::events);
        events.filter(|event| matches!(event, Event::Got(got) if got.tasks.contains(&seq))).count()
    }

    /// The code of a task's failure.
    pub(crate) fn code(&self, seq: u64) -> Option<&str> {
        self.outcomes.get(&seq).and_then(Outcome::code)
    }

    /// The task failed by that code.
    pub(crate) fn must_fail_by(&self, seq: u64, code: &str, statement: &'static str, hint: &str) -> Checked {
        let found = self.outcomes.get(&seq).map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let what = || format!("the task {seq} should end by {code}, and ended by {found}");
        must(self.code(seq) == Some(code), statement, what, hint)
    }

    /// The task succeeded.
    pub(crate) fn must_succeed(&self, seq: u64, statement: &'static str, hint: &str) -> Checked {
        let found = self.outcomes.get(&seq).map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let is_good = matches!(self.outcomes.get(&seq), Some(Outcome::Good(_)));
        must(is_good, statement, || format!("the task {seq} should succeed, and ended by {found}"), hint)
    }

    /// No task was given to a second child: what the first one did is no reason to end it.
    pub(crate) fn nothing_ran_twice(&self, statement: &'static str) -> Checked {
        let again = (1..=self.inputs.len() as u64).find(|seq| self.attempts(*seq) > 1);
        must(
            again.is_none(),
            statement,
            || format!("the task {} was run again", again.unwrap_or(0)),
            "go on with a child that keeps the rules, however odd it is, and take each answer",
        )
    }

    /// The task was given to one child only.
    pub(crate) fn must_run_once(&self, seq: u64, statement: &'static str) -> Checked {
        let attempts = self.attempts(seq);
        let hint = "count every answer that a dead child had written";
        must(attempts <= 1, statement, || format!("the task {seq} was run {attempts} times"), hint)
    }

    /// How many tasks there are.
    pub(crate) fn tasks(&self) -> usize {
        self.inputs.len()
    }

    /// The tasks that the child with that number answered.
    pub(crate) fn answered_by(&self, ordinal: u32) -> Vec<u64> {
        let mut open = BTreeMap::new();
        let mut answered = Vec::new();
        let record = self.records.iter().find(|record| record.ordinal == ordinal);
        for event in record.into_iter().flat_map(Record::events) {
            match event {
                Event::Got(got) => {
                    open.insert(got.id(), &got.tasks);
                }
                Event::Sent(piece) => {
                    answered.extend(piece.answers().and_then(|id| open.remove(&id)).into_iter().flatten());
                }
                _ => {}
            }
        }
        answered
    }

    /// The first inputs of the last BATCH that the first child got.
    pub(crate) fn first_of_cut_batch(&self, count: usize) -> Vec<u64> {
        let record = self.records.iter().find(|record| record.ordinal == 1);
        let given = record.into_iter().flat_map(Record::events).filter_map(|event| match event {
            Event::Sent(piece) => {
                parse(&piece.bytes()).filter(|(_, it)| it.request == "ITEM").map(|(id, _)| id)
            }
            _ => None,
        });
        let cut = given.last();
        let got = record.into_iter().flat_map(Record::events).find_map(|event| match event {
            Event::Got(got) if Some(got.id()) == cut && !got.tasks.is_empty() => Some(&got.tasks),
            _ => None,
        });
        got.into_iter().flatten().take(count).copied().collect()
    }

    /// Whether a child said that the parent lacks what the case needs.
    pub(crate) fn is_unfit(&self) -> bool {
        self.records.iter().flat_map(Record::events).any(|event| matches!(event, Event::Unfit(_)))
    }

    /// Whether the parent ever sent that request.
    pub(crate) fn ever_sent(&self, request: &str) -> bool {
        self.frames().any(|frame| parse(&frame).is_some_and(|(_, message)| message.request == request))
    }

    /// The parent took no more memory than it may.
    pub(crate) fn memory_is_bounded(&self, statement: &'static str) -> Checked {
        let (memory, most) = (self.ran.memory, self.memory + MEMORY_MARGIN);
        must(
            memory <= most,
            statement,
            || {
                format!(
                    "the parent took {} MiB; with an honest child it takes {}",
                    memory >> 20,
                    self.memory >> 20
                )
            },
            "take memory for what has arrived, not for what is announced, and stop reading what nobody wants",
        )
    }

    /// While children did nothing, the parent did nothing. One that spins runs, or wants to, all the time, however full the machine
    /// is.
    pub(crate) fn does_not_spin(&self, statement: &'static str) -> Checked {
        let (busy, took) = (self.ran.busy, self.ran.took);
        must(
            took < RUN_MIN || busy * 4 < took * 3,
            statement,
            || format!("the parent was busy for {busy:.1?} of {took:.1?}, while its child did nothing"),
            "wait for something to happen, with a limit of time, and sleep meanwhile",
        )
    }

    /// What the parent took of a stream that is none.
    pub(crate) fn taken(&self) -> u64 {
        let events = self.records.iter().flat_map(Record::events);
        events
            .filter_map(|event| if let Event::Taken(count) = event { Some(*count) } else { None })
            .max()
            .unwrap_or(0)
    }

    /// All that the parent says in words: its standard error, and the messages of failures.
    pub(crate) fn words(&self) -> String {
        let messages = self.outcomes.values().filter_map(|outcome| match outcome {
            Outcome::Bad { message, .. } => Some(message.as_str()),
            Outcome::Good(_) => None,
        });
        messages.chain([self.ran.stderr.as_str()]).collect::<Vec<_>>().join("\n")
    }

    /// The frames that children got, or their beginnings.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Vec<u8>> {
        self.records.iter().flat_map(Record::events).filter_map(|event| match event {
            Event::Got(got) => Some(got.piece.bytes()),
            _ => None,
        })
    }
}
