//! The cases for parents, a file a group. Their ids begin with P and the letter of the group, so that none is a child's.

mod batches;
mod failures;
mod frames;
mod handshake;
mod life;
mod messages;
mod requests;
mod text;
mod windows;

use std::io;

use stokehold_protocol::{ChildHello, Recipient};

use super::actor::{Actor, Played, Task};
use super::plot::{FORGED, Plot};
#[cfg(test)]
use crate::conform::case::Description;
use crate::conform::cases::choose;
use crate::conform::trace::{frame, json};

/// The groups in their order, and what each is about.
#[cfg(test)]
pub(crate) const GROUPS: [(&str, &str); 9] = [
    ("PH", "handshake"),
    ("PF", "frames"),
    ("PM", "messages and values"),
    ("PR", "requests and ids"),
    ("PE", "failures"),
    ("PW", "windows"),
    ("PB", "batches"),
    ("PL", "life and death"),
    ("PT", "text mode"),
];

pub(crate) fn all() -> impl Iterator<Item = &'static Plot> {
    let groups: [&'static [Plot]; 9] = [
        handshake::PLOTS,
        frames::PLOTS,
        messages::PLOTS,
        requests::PLOTS,
        failures::PLOTS,
        windows::PLOTS,
        batches::PLOTS,
        life::PLOTS,
        text::PLOTS,
    ];
    groups.into_iter().flatten()
}

/// What a report says of each.
#[cfg(test)]
pub(crate) fn descriptions() -> impl Iterator<Item = &'static Description> {
    all().map(|plot| &plot.about)
}

/// The cases that the patterns choose, all if there are none; and the first pattern that chooses nothing.
pub(super) fn chosen(patterns: &[String]) -> (Vec<&'static Plot>, Option<String>) {
    choose(&all().collect::<Vec<_>>(), |plot| &plot.about, patterns)
}

pub(super) fn find(id: &str) -> Option<&'static Plot> {
    all().find(|plot| plot.about.id == id)
}

/// The id of the case with an honest child, with which all others are compared.
pub(super) const INTRODUCTION: &str = "PH1";

/// The first child does one task and dies with the next in hand. The second plays the part, so that the parent knows already that
/// its worker is one. Later ones are honest.
fn second(actor: &mut Actor, part: impl FnOnce(&mut Actor) -> Played) -> Played {
    match actor.ordinal() {
        1 => {
            actor.begin(&ChildHello::default())?;
            if let Some(task) = actor.task()? {
                actor.finish(&task)?;
            }
            match actor.task()? {
                Some(_) => Ok(1),
                None => actor.leave(),
            }
        }
        2 => part(actor),
        _ => actor.honest(),
    }
}

/// The first child does one task, and with the next in hand it plays the part, then answers and goes on. Later ones are honest.
fn midway(actor: &mut Actor, part: impl FnOnce(&mut Actor, &Task) -> io::Result<()>) -> Played {
    if actor.ordinal() > 1 {
        return actor.honest();
    }
    after_one(actor, &ChildHello::default(), part)
}

fn after_one(
    actor: &mut Actor,
    hello: &ChildHello,
    part: impl FnOnce(&mut Actor, &Task) -> io::Result<()>,
) -> Played {
    actor.begin(hello)?;
    if let Some(task) = actor.task()? {
        actor.finish(&task)?;
    }
    if let Some(task) = actor.task()? {
        part(actor, &task)?;
        actor.finish(&task)?;
    }
    actor.serve()
}

/// The same, but then the child answers no more and ends when its input does, with that code.
fn fatal(actor: &mut Actor, part: impl FnOnce(&mut Actor, &Task) -> Played) -> Played {
    if actor.ordinal() > 1 {
        return actor.honest();
    }
    actor.begin(&ChildHello::default())?;
    if let Some(task) = actor.task()? {
        actor.finish(&task)?;
    }
    match actor.task()? {
        Some(task) => part(actor, &task),
        None => actor.leave(),
    }
}

/// Each child does one task, and breaks a rule in another way with the next in hand: its frames, as long as there are some. Then it
/// answers and goes on, where a parent must have ended it.
fn each_breaks(actor: &mut Actor, statement: &str, ways: &[fn(&Task) -> Vec<u8>]) -> Played {
    let place = usize::try_from(actor.ordinal()).unwrap_or(0).saturating_sub(1);
    let Some(way) = ways.get(place) else { return actor.honest() };
    after_one(actor, &ChildHello::default(), |actor, task| {
        actor.breaks(statement)?;
        actor.send(&way(task))
    })
}

/// A frame as a child writes it.
fn plain(id: u32, request: &str, data: &str) -> Vec<u8> {
    frame(id, request, 0, Recipient::Anyone, &json(data))
}

/// An answer that must not count.
fn forged(id: u32) -> Vec<u8> {
    plain(id, "FINISHED", &format!("{FORGED:?}"))
}

/// A frame with that body.
fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&stokehold_protocol::frame_header(id, body.len())[..], body].concat()
}
