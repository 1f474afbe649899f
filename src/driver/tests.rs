//! Tickets: for how many jobs they are, and who is told if nobody answers.

use super::*;
use crate::core::{Policy, Ticket as _};

fn lane() -> Arc<Lane> {
    Arc::new(Lane::new(Source::new("work", 7, Policy::default())))
}

/// A ticket for so many jobs of a channel: tasks from 11 on, at places from 4 on.
fn ticket(lane: &Arc<Lane>, count: u64) -> Ticket {
    let mut ticket = Ticket::to_lane(11, Arc::clone(lane), 4, 1);
    for more in 1..count {
        assert!(ticket.extend(lane, 4 + more, 11 + more));
    }
    ticket
}

/// The first task of a ticket, its place, and how many follow.
fn contents(ticket: &Ticket) -> Option<(u64, u64, u32)> {
    match &ticket.target {
        Target::Lane { index, count, .. } => Some((ticket.number, *index, *count)),
        Target::Handle(_) | Target::Nobody => None,
    }
}

/// Where the errors of a channel belong, and which tasks they name.
fn failed(lane: &Lane) -> Vec<(u64, u64)> {
    let mut failed = Vec::new();
    while let Some(mut batch) = lane.take() {
        for place in 0..batch.len() {
            let index = batch.get(place).unwrap().index;
            let error = batch.take_error(place).unwrap();
            assert_eq!(error.kind(), TaskErrorKind::Closed);
            failed.push((index, error.task()));
        }
    }
    failed
}

#[test]
fn a_ticket_is_extended_by_what_follows_and_by_nothing_else() {
    let (lane, other) = (lane(), lane());
    let mut ticket = ticket(&lane, 3);
    assert_eq!(contents(&ticket), Some((11, 4, 3)));
    assert!(!ticket.extend(&lane, 7, 15), "a task of somebody else came between");
    assert!(!ticket.extend(&lane, 8, 14), "an outcome came in place of a job between");
    assert!(!ticket.extend(&lane, 6, 13), "it has that one");
    assert!(!ticket.extend(&other, 7, 14), "another channel");
    assert!(ticket.extend(&lane, 7, 14));
    assert_eq!(contents(&ticket), Some((11, 4, 4)));
    let mut single = Ticket::to_handle(1, Handle::Task(Arc::new(Cell::new())));
    assert!(!single.extend(&lane, 0, 2));
}

#[test]
fn the_first_of_a_ticket_are_taken_out_of_it_with_their_places() {
    let lane = lane();
    let mut ticket = ticket(&lane, 5);
    let first = ticket.split_front(2);
    assert_eq!((contents(&first), contents(&ticket)), (Some((11, 4, 2)), Some((13, 6, 3))));
    assert!(first.source().is_some() && ticket.source().is_some());
    let owners = Arc::strong_count(&lane);
    let rest = ticket.split_front(9);
    assert_eq!((contents(&rest), contents(&ticket)), (Some((13, 6, 3)), None), "no more than there are");
    assert_eq!(Arc::strong_count(&lane), owners, "the last take the channel along");
    assert!(ticket.source().is_none() && !ticket.is_wanted());
    drop(ticket);
    assert_eq!(failed(&lane), [], "it was for nobody any more");
}

#[test]
fn the_ticket_of_one_task_is_taken_as_a_whole() {
    let cell = Arc::new(Cell::new());
    let mut ticket = Ticket::to_handle(7, Handle::Task(Arc::clone(&cell)));
    let whole = ticket.split_front(1);
    drop(ticket);
    assert!(cell.take().is_none(), "it is not over");
    drop(whole);
    let error = cell.take().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.task()), (TaskErrorKind::Closed, 7));
}

#[test]
fn whoever_waits_is_told_when_a_ticket_is_dropped() {
    let lane = lane();
    let mut ticket = ticket(&lane, 4);
    drop(ticket.split_front(1));
    assert_eq!(failed(&lane), [(4, 11)]);
    let mut second = ticket.split_front(1);
    second.take_target();
    drop(second);
    assert_eq!(failed(&lane), [], "it was answered");
    drop(ticket);
    assert_eq!(failed(&lane), [(6, 13), (7, 14)]);
}

#[test]
fn a_channel_that_nobody_receives_from_wants_nothing() {
    let lane = lane();
    let mut ticket = ticket(&lane, 4);
    let first = ticket.split_front(2);
    assert!(first.is_wanted() && ticket.is_wanted());
    lane.abandon();
    assert!(!first.is_wanted() && !ticket.is_wanted());
    drop((first, ticket));
    assert_eq!(failed(&lane), [], "nobody is told");
}
