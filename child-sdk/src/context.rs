//! What a handler and the start are told about their surroundings. Plain facts; it does nothing.

/// The task that a handler is running.
#[derive(Debug)]
pub struct Ctx {
    pub(crate) request: &'static str,
    pub(crate) task_id: u32,
    pub(crate) attempt: u32,
    pub(crate) worker: Option<u32>,
}

impl Ctx {
    /// The request's name: `DO`, or the name the handler was registered under.
    pub fn request(&self) -> &str {
        self.request
    }

    /// Which attempt this is, from 1. Above 1 the task was begun before, here or in another worker, by an attempt that gave
    /// no answer: what that attempt did outside its process may have been done. 1 also when the parent says nothing.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The task's id on this connection. Ids come again once they are answered, so it names a task only while that runs. 0
    /// for a one-way request, which is never answered.
    pub fn task_id(&self) -> u32 {
        self.task_id
    }

    /// The number of this worker's slot in its pool, from 0. A replacement gets the number of the worker it replaces. `None`
    /// when the parent gave none.
    pub fn worker(&self) -> Option<u32> {
        self.worker
    }
}

/// What the start of a worker is told, before there are tasks.
#[derive(Debug)]
pub struct Init {
    pub(crate) worker: Option<u32>,
    pub(crate) run: Option<String>,
}

impl Init {
    /// The number of this worker's slot in its pool, as [`Ctx::worker`]: for choosing a device or a cache of its own.
    pub fn worker(&self) -> Option<u32> {
        self.worker
    }

    /// The name of the parent's run, a UUID in text form; the same for all its workers. `None` when the parent gave none.
    pub fn run(&self) -> Option<&str> {
        self.run.as_deref()
    }
}
