//! All cases, a file a group.

mod batch;
mod cancel;
mod codec;
mod drive;
mod extension;
mod failure;
mod framing;
mod handshake;
mod isolation;
mod life;
mod performance;
mod session;
mod text;
mod window;

use serde_json::Value;

use super::case::{Case, Description};
use super::referee::Answer;
use crate::value;

/// The groups in their order, and what each is about.
pub(crate) const GROUPS: [(&str, &str); 12] = [
    ("H", "handshake"),
    ("F", "frames and values"),
    ("T", "text mode"),
    ("W", "windows"),
    ("X", "what may grow"),
    ("C", "cancel, ping, meta, news"),
    ("B", "batches"),
    ("E", "errors"),
    ("L", "life and death"),
    ("S", "isolation"),
    ("P", "performance"),
    (SESSIONS, "sessions"),
];

/// The group of the scripts of sessions, whose cases disturb each other so little that they are played at once.
pub(crate) const SESSIONS: &str = "V";

fn all() -> impl Iterator<Item = &'static Case> {
    let groups: [&'static [Case]; 13] = [
        handshake::CASES,
        framing::CASES,
        codec::CASES,
        text::CASES,
        window::CASES,
        extension::CASES,
        cancel::CASES,
        batch::CASES,
        failure::CASES,
        life::CASES,
        isolation::CASES,
        performance::CASES,
        session::cases(),
    ];
    groups.into_iter().flatten()
}

/// Whether a case is called so.
pub(crate) fn has(id: &str) -> bool {
    all().any(|case| case.about.id == id)
}

/// The cases that the patterns choose, all if there are none; and what is wrong with the first pattern that chooses nothing.
pub(crate) fn chosen(patterns: &[String]) -> (Vec<&'static Case>, Option<String>) {
    choose(&all().collect::<Vec<_>>(), |case| &case.about, patterns)
}

/// The same among any cases.
pub(crate) fn choose<C>(
    all: &[&'static C],
    about: impl Fn(&C) -> &Description,
    patterns: &[String],
) -> (Vec<&'static C>, Option<String>) {
    let chooses = |pattern: &str, case: &C| match pattern.strip_suffix('*') {
        Some(beginning) => about(case).id.starts_with(beginning),
        None => about(case).id == pattern,
    };
    let unknown = patterns.iter().find(|pattern| !all.iter().any(|case| chooses(pattern, case)));
    let is_chosen =
        |case: &&&'static C| patterns.is_empty() || patterns.iter().any(|pattern| chooses(pattern, case));
    let complaint = unknown.map(|pattern| {
        let whole = pattern.split('.').next().unwrap_or_default();
        match all.iter().any(|case| about(case).id == whole) {
            true => format!("{pattern} is a part of the case {whole}: choose that"),
            false => format!("no case is called {pattern:?}; --list shows them"),
        }
    });
    (all.iter().filter(is_chosen).copied().collect(), complaint)
}

/// The code of FAILED; what was finished has none, and so an empty one.
fn code(answer: &Answer) -> String {
    if answer.finished {
        return String::new();
    }
    stokehold_protocol::Failure::decode(&answer.data).code
}

/// An answer in words.
fn said(answer: &Answer) -> String {
    if answer.finished { "FINISHED".to_owned() } else { format!("FAILED `{}`", code(answer)) }
}

/// Data for a look inside; null if it is no value.
fn look(data: &[u8]) -> Value {
    let mut text = Vec::new();
    let written = value::write_json(data, &mut text);
    written.ok().and_then(|()| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
