//! Which outcome is the next one, against a naive model, with arrivals by chance.

use std::time::Duration;

use stokehold_protocol::{Data, wire};

use super::*;
use crate::TaskErrorKind;
use crate::core::sim::random::Random;
use crate::core::{Answer, Policy, Source, Value as AnswerValue};

/// What one job came to: its place, and whether it is an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Came {
    index: u64,
    is_error: bool,
}

fn lane() -> Lane {
    Lane::new(Source::new("work", 7, Policy::default()))
}

/// The answer of the job at a place: that place, and perhaps some more bytes.
fn write_value(index: u64, out: &mut Vec<u8>) {
    wire::write_str(out, &format!("{index}{}", " ".repeat((index % 40) as usize)));
}

fn value_of(index: u64) -> Vec<u8> {
    let mut value = Vec::new();
    write_value(index, &mut value);
    value
}

/// Where the answers of jobs from that place on came from. Their tasks have the next numbers.
fn origin(index: u64) -> Origin {
    Origin { worker: 1, pid: 11, task: index + 1, attempt: 1, elapsed: Duration::ZERO }
}

/// Adds what several jobs that follow each other came to.
fn push(batch: &mut Batch, came: &[Came]) {
    let (first, origin) = (came[0].index, origin(came[0].index));
    if came[0].is_error {
        let error = TaskError::new(TaskErrorKind::Dead, first + 1, "");
        return batch.push_error(first, error);
    }
    if let [one] = came {
        let value = value_of(one.index);
        if one.index.is_multiple_of(3) {
            return batch.push_large(first, Data::from_peer(value), origin);
        }
        return batch.push(first, Answer { value: AnswerValue::One(&value), origin });
    }
    let mut bytes = Vec::new();
    for came in came {
        bytes.extend_from_slice(&[0x92, 0xc3]);
        write_value(came.index, &mut bytes);
    }
    let value = AnswerValue::Many(u32::try_from(came.len()).unwrap(), &bytes);
    batch.push(first, Answer { value, origin });
}

/// Receives the next job, as the end of a channel does, and checks that it is what it should be.
fn receive(inbox: &mut Inbox, lane: &Lane) -> Option<Came> {
    inbox.receive(lane, |index, job| {
        let is_error = match job {
            Job::Answered(value, origin) => {
                assert_eq!(value.as_bytes(), value_of(index), "the value of the job at {index}");
                assert_eq!((origin.task, origin.pid), (index + 1, 11));
                false
            }
            Job::Failed(error) => {
                assert_eq!(error.task(), index + 1);
                true
            }
        };
        Came { index, is_error }
    })
}

fn receive_all(inbox: &mut Inbox, lane: &Lane) -> Vec<u64> {
    std::iter::from_fn(|| receive(inbox, lane)).map(|came| came.index).collect()
}

/// A batch of outcomes: for how many jobs from which place on, each.
fn batch(outcomes: &[(u64, u64)]) -> Batch {
    let mut batch = Batch::default();
    for (first, count) in outcomes {
        let came: Vec<Came> = (*first..first + count).map(|index| Came { index, is_error: false }).collect();
        push(&mut batch, &came);
    }
    batch
}

#[test]
fn results_come_as_they_are_done_if_nobody_asks_for_another_order() {
    let (lane, mut inbox) = (lane(), Inbox::new(Order::Completion));
    assert!(receive(&mut inbox, &lane).is_none());
    lane.deliver(batch(&[(5, 1), (2, 3), (0, 1)]));
    assert_eq!(receive_all(&mut inbox, &lane), [5, 2, 3, 4, 0]);
    lane.deliver(batch(&[(1, 1)]));
    lane.deliver(batch(&[(6, 2)]));
    assert_eq!(receive_all(&mut inbox, &lane), [1, 6, 7]);
}

#[test]
fn results_wait_for_those_before_them_if_their_order_is_the_inputs() {
    let (lane, mut inbox) = (lane(), Inbox::new(Order::Input));
    lane.deliver(batch(&[(5, 1), (2, 3)]));
    assert_eq!(receive_all(&mut inbox, &lane), []);
    lane.deliver(batch(&[(0, 1)]));
    assert_eq!(receive_all(&mut inbox, &lane), [0]);
    lane.deliver(batch(&[(7, 1), (1, 1)]));
    assert_eq!(receive_all(&mut inbox, &lane), [1, 2, 3, 4, 5]);
    lane.deliver(batch(&[(6, 1)]));
    assert_eq!(receive_all(&mut inbox, &lane), [6, 7]);
}

#[test]
fn what_comes_in_turn_is_not_put_in_line() {
    let (lane, mut inbox) = (lane(), Inbox::new(Order::Input));
    for first in (0..1_000).step_by(10) {
        lane.deliver(batch(&[(first, 4), (first + 4, 6)]));
        assert_eq!(receive_all(&mut inbox, &lane).len(), 10);
        assert_eq!(inbox.early.capacity(), 0);
    }
}

#[test]
fn an_error_stands_between_the_results_beside_it() {
    for order in [Order::Completion, Order::Input] {
        let (lane, mut inbox) = (lane(), Inbox::new(order));
        let mut batch = Batch::default();
        let came = |index, is_error| Came { index, is_error };
        push(&mut batch, &[came(0, false), came(1, false)]);
        push(&mut batch, &[came(2, true)]);
        push(&mut batch, &[came(3, false), came(4, false)]);
        lane.deliver(batch);
        lane.fail(5, TaskError::new(TaskErrorKind::Encode, 6, ""));
        let received: Vec<Came> = std::iter::from_fn(|| receive(&mut inbox, &lane)).collect();
        let expected = [false, false, true, false, false, true];
        assert_eq!(received, (0..).zip(expected).map(|(index, is)| came(index, is)).collect::<Vec<_>>());
    }
}

#[test]
fn a_batch_goes_back_when_its_last_outcome_was_received() {
    let (lane, mut inbox) = (lane(), Inbox::new(Order::Input));
    // The first batch is needed until the last.
    lane.deliver(batch(&[(0, 2), (6, 1)]));
    lane.deliver(batch(&[(2, 4)]));
    assert_eq!((0..6).filter_map(|_| receive(&mut inbox, &lane)).count(), 6);
    assert_eq!(inbox.batches.len(), 2, "in their order");
    assert_eq!(receive_all(&mut inbox, &lane), [6]);
    assert!(inbox.batches.is_empty());
    let spare = |lane: &Lane| lane.deliver(Batch::default()).1;
    assert!(spare(&lane).is_some() && spare(&lane).is_some() && spare(&lane).is_none());
}

#[test]
fn a_batch_with_nothing_in_it_holds_up_nobody() {
    for order in [Order::Completion, Order::Input] {
        let (lane, mut inbox) = (lane(), Inbox::new(order));
        lane.deliver(Batch::default());
        assert!(receive(&mut inbox, &lane).is_none());
        lane.deliver(Batch::default());
        lane.deliver(batch(&[(0, 3)]));
        assert_eq!(receive_all(&mut inbox, &lane), [0, 1, 2]);
        assert!(inbox.batches.is_empty());
    }
}

#[test]
fn every_result_is_received_once_in_its_order_whatever_the_arrivals() {
    let mut random = Random::new(Random::asked_seed().unwrap_or(11));
    for _ in 0..300 {
        for order in [Order::Completion, Order::Input] {
            walk(&mut random, order);
        }
    }
}

/// Jobs in groups that follow each other, in an order by chance.
fn arrivals(random: &mut Random, jobs: u64) -> Vec<Vec<Came>> {
    let mut groups: Vec<Vec<Came>> = Vec::new();
    let mut index = 0;
    let most = [1, 4, 30][random.below(3)];
    while index < jobs {
        let count = (1 + random.below(most) as u64).min(jobs - index);
        let is_error = random.once_in(6);
        let count = if is_error { 1 } else { count };
        groups.push((index..index + count).map(|index| Came { index, is_error }).collect());
        index += count;
    }
    // How far it is from where it should be.
    let far = 1 + random.below(20);
    for place in 0..groups.len() {
        let other = (place + random.below(far)).min(groups.len() - 1);
        groups.swap(place, other);
    }
    groups
}

fn walk(random: &mut Random, order: Order) {
    let (lane, mut inbox) = (lane(), Inbox::new(order));
    let jobs = random.below(200) as u64;
    for _ in 0..jobs {
        lane.next_index(1);
    }
    let mut groups = arrivals(random, jobs).into_iter();
    // The naive model: everything that has come and was not received.
    let mut came: Vec<Came> = Vec::new();
    let mut next = 0;
    let mut received = 0;
    while received < jobs {
        if random.once_in(3) {
            let mut batch = Batch::default();
            for group in groups.by_ref().take(random.below(8)) {
                push(&mut batch, &group);
                came.extend(group);
            }
            lane.deliver(batch);
        }
        for _ in 0..random.below(20) {
            let place = match order {
                Order::Completion => (!came.is_empty()).then_some(0),
                Order::Input => came.iter().position(|came| came.index == next),
            };
            let expected = place.map(|place| came.remove(place));
            assert_eq!(receive(&mut inbox, &lane), expected);
            next += u64::from(expected.is_some());
            received += u64::from(expected.is_some());
        }
    }
    assert!(inbox.batches.iter().all(|held| held.batch.len() == 0), "a batch with nothing left is kept");
    assert_eq!((lane.received(), lane.expected(jobs).0), (jobs, 0), "every byte that came was taken");
}
