//! What a case for parents consists of: the part its children play, its tasks, and what may become of them.

use serde_json::json;

use super::actor::{Actor, Played};
use super::evidence::Evidence;
use crate::conform::case::{Description, Rank};
use crate::conform::verdict::Checked;

/// How a task may end whose worker died, or was ended for what it did.
pub(crate) const DEATHS: &[&str] = &["crashed", "killed", "lost", "rejected"];

/// The same, where the task may have taken too long as well.
pub(crate) const LATE: &[&str] = &["crashed", "killed", "lost", "rejected", "timeout", "cancelled"];

/// What an answer has that must not count.
pub(crate) const FORGED: &str = "forged";

/// One case: a part for the children of a parent, and what may come of it.
#[derive(Debug)]
pub(crate) struct Plot {
    pub(crate) about: Description,
    /// What each child does; by its number it knows the first from the later ones.
    pub(crate) part: fn(&mut Actor) -> Played,
    /// The inputs, each a line of JSON.
    pub(super) tasks: fn() -> Vec<String>,
    /// How a task may fail that a child had and did not answer. Every other one must succeed.
    pub(super) deaths: &'static [&'static str],
    /// The parent may give up as a whole: end with a code other than 0, with no outcomes for the tasks it did not do.
    pub(super) may_give_up: bool,
    /// Tasks whose outcome the case itself looks at.
    pub(super) is_own: fn(u64) -> bool,
    /// A shell stands between the parent and the child.
    pub(super) is_wrapped: bool,
    pub(super) judge: fn(&Evidence<'_>) -> Checked,
}

impl Plot {
    /// About a MUST: six tasks, of which one that a child leaves unanswered may fail as its worker's death.
    pub(crate) const fn must(
        id: &'static str,
        title: &'static str,
        spec: &'static [&'static str],
        part: fn(&mut Actor) -> Played,
    ) -> Self {
        Self {
            about: Description { id, title, level: None, rank: Rank::Must, spec, is_needed: false },
            part,
            tasks: six,
            deaths: DEATHS,
            may_give_up: false,
            is_own: |_| false,
            is_wrapped: false,
            judge: |_| Ok(()),
        }
    }

    /// About a SHOULD.
    pub(crate) const fn should(
        id: &'static str,
        title: &'static str,
        spec: &'static [&'static str],
        part: fn(&mut Actor) -> Played,
    ) -> Self {
        let plot = Self::must(id, title, spec, part);
        Self { about: Description { rank: Rank::Should, ..plot.about }, ..plot }
    }

    /// Other inputs.
    pub(crate) const fn tasks(self, tasks: fn() -> Vec<String>) -> Self {
        Self { tasks, ..self }
    }

    /// What was unanswered may end by these codes too.
    pub(crate) const fn ending_by(self, deaths: &'static [&'static str]) -> Self {
        Self { deaths, ..self }
    }

    /// The parent may give up.
    pub(crate) const fn hopeless(self) -> Self {
        Self { may_give_up: true, ..self }
    }

    /// The outcomes of these tasks are looked at by `judge` alone.
    pub(crate) const fn own(self, is_own: fn(u64) -> bool) -> Self {
        Self { is_own, ..self }
    }

    /// A shell stands between the parent and the child.
    pub(crate) const fn wrapped(self) -> Self {
        Self { is_wrapped: true, ..self }
    }

    /// What else must hold.
    pub(crate) const fn judged(self, judge: fn(&Evidence<'_>) -> Checked) -> Self {
        Self { judge, ..self }
    }
}

/// So many numbered inputs.
pub(crate) fn numbered(count: u64) -> Vec<String> {
    (1..=count).map(|task| json!({"task": task, "text": "grüße"}).to_string()).collect()
}

fn six() -> Vec<String> {
    numbered(6)
}
