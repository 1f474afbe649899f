//! Tells what happens in a pool to `tracing`: a span for each worker's life, an event in it for whatever happens to it.
//!
//! A subscriber is a user's code, which may block, panic, or use the pool. So the engine only leaves news here, and whoever
//! held its lease passes them on when it is given back, one thread at a time and in order. Without a subscriber nothing is
//! left: that costs one look at an atomic.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Span, debug, error, info, info_span, trace, warn};

use super::listener::{EVENTS_KEPT, TEXT_BYTES_KEPT, text_bytes};
use super::lock::lock;
use crate::core::{Death, Event};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Observer {
    news: Mutex<Waiting>,
    /// How many they are, to be asked without a lock.
    count: AtomicUsize,
    /// News were dropped: nobody knows any more which workers live.
    dropped: AtomicBool,
    /// Some thread passes news on.
    busy: AtomicBool,
    /// The lives of workers, by process id. Locked only by the thread that passes on.
    lives: Mutex<HashMap<u32, Arc<Span>>>,
}

/// What a subscriber has not got yet, bounded as for a [listener](super::listener) that is slow: the oldest are dropped.
#[derive(Debug, Default)]
struct Waiting {
    news: VecDeque<News>,
    text_bytes: usize,
}

#[derive(Debug)]
enum News {
    Event(Event),
    /// That process is gone.
    Gone(u32),
}

impl Observer {
    /// Whether a subscriber may want what is so important. Asks no subscriber.
    pub(super) fn wants(level: Level) -> bool {
        LevelFilter::current() >= level
    }

    /// Keeps a copy of the event if a subscriber may want it.
    pub(super) fn note(&self, event: &Event) {
        if Self::wants(level(event)) {
            self.push(News::Event(event.clone()));
        }
    }

    /// A worker's process is gone.
    pub(super) fn note_gone(&self, pid: u32) {
        if Self::wants(Level::ERROR) {
            self.push(News::Gone(pid));
        }
    }

    /// Whether there is something to pass on that nobody is passing on.
    pub(super) fn has_news(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0 && !self.busy.load(Ordering::SeqCst)
    }

    /// Passes the news on, unless another thread does, or this one further up. No lock may be held.
    pub(super) fn pass_on(&self) {
        // Again for what came between the last look and the end, whose thread saw this one busy.
        while self.count.load(Ordering::SeqCst) > 0 && !self.busy.swap(true, Ordering::SeqCst) {
            let _busy = Busy(&self.busy);
            if self.dropped.swap(false, Ordering::SeqCst) {
                self.forget_lives();
            }
            while let Some(news) = self.pop() {
                self.tell(news);
            }
        }
    }

    /// The pool has ended: what is left is passed on, and all lives end.
    pub(super) fn close(&self) {
        self.pass_on();
        self.forget_lives();
    }

    fn push(&self, news: News) {
        let mut waiting = lock(&self.news);
        waiting.text_bytes += news.text_bytes();
        waiting.news.push_back(news);
        while waiting.news.len() > EVENTS_KEPT || waiting.text_bytes > TEXT_BYTES_KEPT {
            waiting.pop();
            self.dropped.store(true, Ordering::SeqCst);
        }
        self.count.store(waiting.news.len(), Ordering::SeqCst);
    }

    fn pop(&self) -> Option<News> {
        let mut waiting = lock(&self.news);
        let news = waiting.pop();
        self.count.store(waiting.news.len(), Ordering::SeqCst);
        news
    }

    /// To the subscriber. Its panic was told by the panic hook and is no business of the pool's.
    fn tell(&self, news: News) {
        let _ = catch_unwind(AssertUnwindSafe(|| match news {
            News::Event(event) => record(&event, &self.life(&event)),
            News::Gone(pid) => {
                let life = lock(&self.lives).remove(&pid);
                drop(life);
            }
        }));
    }

    /// The span of the worker's life that an event belongs to.
    fn life(&self, event: &Event) -> Arc<Span> {
        let Some((worker, pid)) = worker_of(event) else { return Arc::new(Span::none()) };
        // No span is cloned, made or dropped under the lock: that calls the subscriber.
        let known = lock(&self.lives).get(&pid).map(Arc::clone);
        // A process id that is used again is another life.
        if let Some(life) = known.filter(|_| !matches!(event, Event::WorkerStarted { .. })) {
            return life;
        }
        let life = Arc::new(info_span!(target: "stokehold", parent: None, "worker", number = worker, pid));
        let old = lock(&self.lives).insert(pid, Arc::clone(&life));
        drop(old);
        life
    }

    fn forget_lives(&self) {
        let lives = std::mem::take(&mut *lock(&self.lives));
        for life in lives.into_values() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(life)));
        }
    }
}

impl Waiting {
    fn pop(&mut self) -> Option<News> {
        let news = self.news.pop_front()?;
        self.text_bytes -= news.text_bytes();
        Some(news)
    }
}

impl News {
    fn text_bytes(&self) -> usize {
        match self {
            Self::Event(event) => text_bytes(event),
            Self::Gone(_) => 0,
        }
    }
}

/// Some thread passes news on as long as this is there.
struct Busy<'a>(&'a AtomicBool);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// How important an event is.
fn level(event: &Event) -> Level {
    match event {
        Event::Broken(_) | Event::DeadLettered { .. } | Event::WorkerGivenUp(_) => Level::ERROR,
        Event::TaskOverdue { .. } | Event::TaskRetried { .. } | Event::WorkerDied(_) => Level::WARN,
        Event::Log { level, .. } => log_level(level),
        Event::Stderr { .. } | Event::WorkerReady { .. } | Event::WorkerRetired { .. } => Level::INFO,
        Event::ItemsUnwanted { .. } | Event::WorkerStarted { .. } => Level::DEBUG,
        Event::Progress { .. } | Event::TaskStarted { .. } => Level::TRACE,
    }
}

/// A worker's word for how important a message is; one that is not known is taken for `info`.
fn log_level(word: &str) -> Level {
    match word {
        "error" => Level::ERROR,
        "warn" => Level::WARN,
        "debug" => Level::DEBUG,
        "trace" => Level::TRACE,
        _ => Level::INFO,
    }
}

/// Number and process id of the worker that an event is about.
fn worker_of(event: &Event) -> Option<(usize, u32)> {
    let of_death = |death: &Arc<Death>| Some((death.worker, death.pid?));
    match event {
        Event::Broken(_) | Event::DeadLettered { .. } => None,
        Event::TaskRetried { death, .. } => death.as_ref().and_then(of_death),
        Event::WorkerDied(death) | Event::WorkerGivenUp(death) => of_death(death),
        Event::ItemsUnwanted { worker, pid, .. }
        | Event::Log { worker, pid, .. }
        | Event::Progress { worker, pid, .. }
        | Event::Stderr { worker, pid, .. }
        | Event::TaskOverdue { worker, pid, .. }
        | Event::TaskStarted { worker, pid, .. }
        | Event::WorkerReady { worker, pid }
        | Event::WorkerRetired { worker, pid, .. }
        | Event::WorkerStarted { worker, pid, .. } => Some((*worker, *pid)),
    }
}

/// To the subscriber, in the span of the worker's life.
fn record(event: &Event, life: &Span) {
    match event {
        Event::Broken(death) => {
            error!(target: "stokehold", parent: life, "the pool broke, because {death}");
        }
        Event::DeadLettered { task, error } => {
            error!(target: "stokehold", parent: life, task, "dead letter: {error}");
        }
        Event::ItemsUnwanted { task, .. } => {
            debug!(target: "stokehold", parent: life, task, "task {task} gives results one by one, and nobody takes them");
        }
        Event::Log { task, level, message, .. } => record_log(life, *task, level, message),
        Event::Progress { task, worker, done, total, note, .. } => {
            trace!(target: "stokehold", parent: life, task, worker, done, total, note, "progress");
        }
        Event::Stderr { line, .. } => info!(target: "stokehold::worker", parent: life, "{line}"),
        Event::TaskOverdue { task, attempt, limit, .. } => {
            warn!(target: "stokehold", parent: life, task, attempt, "task {task} gave no sign of progress for {limit:?}");
        }
        Event::TaskRetried { task, attempt, death, pause } => match death {
            Some(death) => {
                warn!(target: "stokehold", parent: life, task, attempt, ?pause, "task {task} is tried again, because {death}");
            }
            None => {
                warn!(target: "stokehold", parent: life, task, attempt, ?pause, "task {task} is tried again")
            }
        },
        Event::TaskStarted { task, attempt, .. } => {
            trace!(target: "stokehold", parent: life, task, attempt, "task handed out");
        }
        Event::WorkerDied(death) => warn!(target: "stokehold", parent: life, "{death}"),
        Event::WorkerGivenUp(death) => {
            error!(target: "stokehold", parent: life, "no other worker is started, because {death}");
        }
        Event::WorkerReady { .. } => info!(target: "stokehold", parent: life, "worker ready"),
        Event::WorkerRetired { why, .. } => info!(target: "stokehold", parent: life, ?why, "worker retired"),
        Event::WorkerStarted { restarts, .. } => {
            debug!(target: "stokehold", parent: life, restarts, "worker started");
        }
    }
}

/// What a worker said for the log, at the level that it named.
fn record_log(life: &Span, task: Option<u64>, word: &str, message: &str) {
    macro_rules! log {
        ($macro:ident) => {
            $macro!(target: "stokehold::worker", parent: life, task, "{message}")
        };
    }
    match log_level(word) {
        Level::ERROR => log!(error),
        Level::WARN => log!(warn),
        Level::INFO => log!(info),
        Level::DEBUG => log!(debug),
        Level::TRACE => log!(trace),
    }
}

#[cfg(test)]
mod tests;
