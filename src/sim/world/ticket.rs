//! What the world keeps for a task or for several of a channel, where their answers go, and the consumer of many results.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use stokehold_protocol::{Data, GoodResults, data};

use crate::core::{Answer, Answered, Answers, Body, ItemFate, Origin, Source, TaskKey, Ticket, Value};

/// What is given to the core with a task, or with several of a channel that follow each other.
#[derive(Debug)]
pub(crate) struct Tag {
    /// The first.
    pub(super) number: u64,
    /// How many.
    pub(super) count: u32,
    pub(super) waiter: Rc<RefCell<Waiter>>,
    /// Of what they are, if of a channel. One that is for no task any more knows nothing of it, as in the driver.
    pub(super) source: Option<Rc<Source>>,
    pub(super) delivered: Rc<RefCell<Vec<Delivery>>>,
}

/// Whoever waits for a task's end, or for those of a channel.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) is_there: bool,
    pub(crate) stream: Option<Stream>,
    /// Of the task in the table. Nobody needs those of a channel.
    pub(super) key: Option<TaskKey>,
}

/// The consumer of a task's results: a buffer, of which somebody takes or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    /// How many results lie there.
    pub(crate) buffered: u32,
    /// So many are enough.
    pub(crate) room: u32,
    /// How many came in this attempt.
    pub(crate) came: u32,
    /// How often it began anew.
    pub(crate) restarts: u32,
}

/// A task was handed to a worker, or several in one frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Delivery {
    /// The first.
    pub(crate) task: u64,
    pub(crate) count: u32,
    pub(crate) worker: usize,
    pub(crate) pid: u32,
    pub(crate) attempt: u32,
}

impl Delivery {
    pub(crate) fn tasks(&self) -> Range<u64> {
        self.task..self.task + u64::from(self.count)
    }
}

/// Answers that were not noted yet, each with its task.
#[derive(Debug, Default)]
pub(crate) struct Post(pub(super) Vec<(u64, Answered)>);

impl Waiter {
    /// Somebody who waits for one result, or for as many as come.
    pub(crate) fn new(stream: Option<Stream>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self { is_there: true, stream, key: None }))
    }
}

impl Ticket for Tag {
    fn accepted(&self, key: TaskKey) {
        if self.source.is_none() {
            self.waiter.borrow_mut().key = Some(key);
        }
    }

    fn source(&self) -> Option<&Source> {
        self.source.as_deref()
    }

    fn split_front(&mut self, count: u32) -> Self {
        assert!((1..=self.count).contains(&count), "{count} of {self:?}");
        let first = Self {
            number: self.number,
            count,
            waiter: Rc::clone(&self.waiter),
            source: self.source.clone(),
            delivered: Rc::clone(&self.delivered),
        };
        self.number += u64::from(count);
        self.count -= count;
        if self.count == 0 {
            self.source = None;
        }
        first
    }

    fn delivered(&self, worker: usize, pid: u32, attempt: u32) {
        let Self { number: task, count, .. } = *self;
        self.delivered.borrow_mut().push(Delivery { task, count, worker, pid, attempt });
    }

    fn is_wanted(&self) -> bool {
        self.waiter.borrow().is_there
    }

    fn item(&self, _attempt: u32, item: &[u8]) -> ItemFate {
        let mut waiter = self.waiter.borrow_mut();
        let Some(stream) = &mut waiter.stream else { return ItemFate::Unwanted };
        let place: u32 = data::decode(item).expect("a result of the script's");
        assert_eq!(place, stream.came, "a result of task {} is missing, or comes twice", self.number);
        stream.came += 1;
        stream.buffered += 1;
        if stream.buffered < stream.room { ItemFate::Taken } else { ItemFate::Full }
    }

    fn restarted(&self, _attempt: u32) {
        let mut waiter = self.waiter.borrow_mut();
        let Some(stream) = &mut waiter.stream else { return };
        *stream = Stream { buffered: 0, came: 0, restarts: stream.restarts + 1, ..*stream };
    }
}

impl Answers<Tag> for Post {
    fn answered(&mut self, ticket: &mut Tag, answer: Answer<'_>, _body: &mut Body) {
        let Answer { value, origin } = answer;
        assert_eq!(origin.task, ticket.number, "an answer says that it is of another task");
        let mut take = |place: u32, data: &[u8]| {
            let task = ticket.number + u64::from(place);
            let origin = Origin { task, ..origin };
            self.0.push((task, Answered { data: Data::from_peer(data.to_vec()), origin }));
        };
        match value {
            Value::One(data) => {
                assert_eq!(ticket.count, 1, "one answer for several tasks");
                take(0, data);
            }
            Value::Many(count, bytes) => {
                assert_eq!(ticket.count, count, "as many answers as tasks");
                let places = (0..).zip(GoodResults::new(bytes)).map(|(place, value)| take(place, value));
                assert_eq!(places.count(), count as usize, "as many values as answers");
            }
        }
    }
}
