//! What is taken of a run, and its memory.

use std::rc::Rc;

use stokehold_protocol::Message;

use super::super::tests::{Card, input};
use super::*;
use crate::core::{Policy, Source};

/// A run of tasks from 1 on, whose inputs have that many bytes.
fn run(sizes: &[usize], buffers: RunBuffers) -> Run<Card> {
    let source = Some(Rc::new(Source::new("work", 7, Policy::default().attempts(9))));
    let ticket = Card { number: 1, count: u32::try_from(sizes.len()).unwrap(), source };
    let mut run = Run::new(ticket, 1, buffers);
    for (number, size) in (1..).zip(sizes) {
        run.push(&sized(number, *size));
    }
    run
}

/// An input of exactly `size` bytes.
fn sized(number: u64, size: usize) -> Vec<u8> {
    let mut input = input(number, 0);
    assert!(size >= input.len());
    input.resize(size, b' ');
    input
}

/// The tasks that are taken at a time.
fn take_all(run: &mut Run<Card>, most: u32, bytes: usize) -> Vec<u32> {
    let mut counts = Vec::new();
    let mut number = 1;
    while run.left() > 0 {
        let Taken { ticket, number: first, count, inputs, is_last, is_first } = run.take(most, bytes);
        assert_eq!((first, ticket.number, ticket.count), (number, number, count));
        assert_eq!(is_first, number == 1);
        assert!(inputs.starts_with(&sized(number, 6)), "the inputs are those of its tasks");
        number += u64::from(count);
        counts.push(count);
        assert_eq!(is_last, run.left() == 0);
    }
    counts
}

#[test]
fn it_is_taken_from_the_front_as_many_as_are_wanted() {
    assert_eq!(take_all(&mut run(&[6; 10], RunBuffers::default()), 4, 1_000), [4, 4, 2]);
    assert_eq!(take_all(&mut run(&[6; 10], RunBuffers::default()), 1, 1_000), [1; 10]);
    assert_eq!(take_all(&mut run(&[6; 10], RunBuffers::default()), u32::MAX, usize::MAX), [10]);
}

#[test]
fn as_many_are_taken_as_fit_and_always_one() {
    for (bytes, counts) in [(20, vec![2, 1, 3]), (19, vec![1, 1, 1, 2, 1]), (0, vec![1; 6]), (46, vec![3, 3])]
    {
        assert_eq!(
            take_all(&mut run(&[10, 10, 26, 6, 6, 8], RunBuffers::default()), 5, bytes),
            counts,
            "{bytes}"
        );
    }
}

#[test]
fn the_exact_bound_is_within_it() {
    let mut run = run(&[10, 10, 10], RunBuffers::default());
    assert_eq!(run.take(3, 29).count, 2);
    assert_eq!(run.bytes_left(), 10);
    assert_eq!(run.take(3, 10).count, 1);
}

#[test]
fn a_task_by_itself_is_what_it_would_have_been_alone() {
    let mut run = run(&[6, 9], RunBuffers::default());
    for (number, size) in [(1, 6), (2, 9)] {
        let task = run.take_one().unwrap();
        assert_eq!((task.number, task.ticket.number, task.weight), (number, number, size));
        assert_eq!(task.policy.attempts, 9);
        let message = Message::decode(task.body.bytes()).unwrap();
        assert_eq!((message.request, message.data), ("work", &sized(number, size)[..]));
    }
    assert!(run.take_one().is_none());
}

#[test]
fn it_is_full_by_bytes_or_by_number() {
    let mut small = run(&vec![6; RUN_ITEMS - 1], RunBuffers::default());
    assert!(!small.is_full());
    small.push(b"\x01");
    assert!(small.is_full());
    assert!(!run(&[RUN_BYTES - 1], RunBuffers::default()).is_full());
    assert!(run(&[RUN_BYTES], RunBuffers::default()).is_full());
}

#[test]
fn its_memory_is_used_again_empty_and_not_at_any_size() {
    let mut first = run(&[6; 10], RunBuffers::default());
    take_all(&mut first, 3, 1_000);
    let buffers = first.into_buffers();
    assert!(buffers.bytes() == 0 && buffers.len() == 0);
    let place = buffers.0.bytes.as_ptr();
    let mut second = run(&[7; 3], buffers);
    assert_eq!(second.buffers.0.bytes.as_ptr(), place, "the same memory");
    assert_eq!(second.left(), 3);
    assert_eq!(take_all(&mut second, 2, 1_000), [2, 1]);
    let large = run(&[10 * RUN_BYTES], RunBuffers::default()).into_buffers();
    assert!(large.0.bytes.capacity() <= 4 * RUN_BYTES, "{} bytes", large.0.bytes.capacity());
}
