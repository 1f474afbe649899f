//! What a subscriber gets, and that it can neither break nor block the pool. No engine, no process.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Metadata, Subscriber};

use super::{EVENTS_KEPT, Observer};
use crate::core::Event;

/// Writes down what it gets, and does something at each event.
struct Recorder {
    lines: Arc<Mutex<Vec<String>>>,
    next: AtomicU64,
    at_event: Box<dyn Fn() + Send + Sync>,
}

impl Recorder {
    fn new(at_event: impl Fn() + Send + Sync + 'static) -> (Self, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::default();
        (Self { lines: Arc::clone(&lines), next: AtomicU64::new(1), at_event: Box::new(at_event) }, lines)
    }

    fn write(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }
}

/// Fields as "name=value".
#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("stokehold")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let mut fields = Fields::default();
        span.record(&mut fields);
        self.write(format!("span {id} {}{}", span.metadata().name(), fields.0));
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let parent = event.parent().map_or(0, Id::into_u64);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        self.write(format!("{level} {target} in {parent}:{}", fields.0));
        (self.at_event)();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}

    fn try_close(&self, id: Id) -> bool {
        self.write(format!("close {}", id.into_u64()));
        true
    }
}

fn ready(pid: u32) -> Event {
    Event::WorkerReady { worker: 3, pid }
}

#[test]
fn what_happens_to_a_worker_is_told_in_the_span_of_its_life() {
    let (recorder, lines) = Recorder::new(|| {});
    with_default(recorder, || {
        let observer = Observer::default();
        observer.note(&Event::WorkerStarted { worker: 3, pid: 70, restarts: 0 });
        observer.note(&ready(70));
        let (level, message) = ("debug".to_owned(), "hot".to_owned());
        observer.note(&Event::Log { worker: 3, pid: 70, task: Some(5), level, message });
        assert!(lines.lock().unwrap().is_empty(), "nothing is told while the engine is held");
        observer.note_gone(70);
        observer.note(&ready(71));
        observer.pass_on();
        observer.close();
    });
    let expected = [
        "span 1 worker number=3 pid=70",
        "DEBUG stokehold in 1: message=worker started restarts=0",
        "INFO stokehold in 1: message=worker ready",
        "DEBUG stokehold::worker in 1: message=hot task=5",
        "close 1",
        "span 2 worker number=3 pid=71",
        "INFO stokehold in 2: message=worker ready",
        "close 2",
    ];
    assert_eq!(*lines.lock().unwrap(), expected);
}

#[test]
fn progress_is_a_trace_in_the_life_of_its_worker_also_when_two_have_the_number() {
    let progress =
        |task, pid| Event::Progress { task, worker: 3, pid, done: Some(1.0), total: None, note: None };
    let (recorder, lines) = Recorder::new(|| {});
    with_default(recorder, || {
        let observer = Observer::default();
        let steps = [ready(70), progress(1, 70), ready(71), progress(2, 71), progress(3, 70)];
        steps.iter().for_each(|event| observer.note(event));
        observer.note_gone(70);
        observer.note(&progress(4, 71));
        observer.pass_on();
        observer.close();
    });
    let lines = lines.lock().unwrap();
    let told: Vec<&str> =
        lines.iter().filter(|line| line.starts_with("TRACE")).map(|line| line.as_str()).collect();
    let expected = [(1, 1), (2, 2), (1, 3), (2, 4)].map(|(life, task)| {
        format!("TRACE stokehold in {life}: message=progress task={task} worker=3 done=1.0")
    });
    assert_eq!(told, expected);
}

#[test]
fn a_subscriber_that_panics_harms_nobody() {
    let (recorder, lines) = Recorder::new(|| panic!("planned"));
    with_default(recorder, || {
        let observer = Observer::default();
        observer.note(&ready(70));
        observer.note(&ready(70));
        observer.pass_on();
        assert!(!observer.has_news());
        observer.close();
    });
    let told = lines.lock().unwrap().iter().filter(|line| line.starts_with("INFO")).count();
    assert_eq!(told, 2);
}

#[test]
fn a_subscriber_may_use_the_pool_that_it_is_told_of() {
    let observer = Arc::new(Observer::default());
    let theirs = Arc::clone(&observer);
    let (recorder, lines) = Recorder::new(move || {
        assert!(!theirs.has_news(), "its own thread is not sent back to tell more");
        theirs.pass_on();
    });
    with_default(recorder, || {
        observer.note(&ready(70));
        observer.note(&ready(70));
        observer.pass_on();
        observer.close();
    });
    let lines = lines.lock().unwrap();
    assert_eq!(lines.iter().filter(|line| line.starts_with("INFO")).count(), 2, "{lines:?}");
}

#[test]
fn a_subscriber_that_blocks_costs_a_bounded_memory() {
    let (recorder, lines) = Recorder::new(|| {});
    with_default(recorder, || {
        let observer = Observer::default();
        for pid in 0..u32::try_from(EVENTS_KEPT).unwrap() + 100 {
            observer.note(&ready(pid));
        }
        assert_eq!(observer.news.lock().unwrap().news.len(), EVENTS_KEPT);
        observer.pass_on();
        observer.close();
    });
    let lines = lines.lock().unwrap();
    assert_eq!(
        lines.first().map(String::as_str),
        Some("span 1 worker number=3 pid=100"),
        "the oldest go first"
    );
}
