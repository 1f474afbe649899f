//! What the world keeps for a task, and the consumer of its results.

use std::cell::RefCell;
use std::rc::Rc;

use stokehold_protocol::data;

use crate::core::{ItemFate, Ticket};

/// What is given to the core with a task.
#[derive(Debug)]
pub(crate) struct Tag {
    pub(super) number: u64,
    pub(super) waiter: Rc<RefCell<Waiter>>,
    pub(super) delivered: Rc<RefCell<Vec<Delivery>>>,
}

/// Whoever waits for a task's end.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) is_there: bool,
    pub(crate) stream: Option<Stream>,
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

/// A task was handed to a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Delivery {
    pub(crate) task: u64,
    pub(crate) worker: usize,
    pub(crate) pid: u32,
    pub(crate) attempt: u32,
}

impl Ticket for Tag {
    fn delivered(&self, worker: usize, pid: u32, attempt: u32) {
        self.delivered.borrow_mut().push(Delivery { task: self.number, worker, pid, attempt });
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
