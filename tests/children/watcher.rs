//! A parent of its own process with a subscriber of `tracing`, which is one for a whole process: it prints what it is told, or
//! with "panics" it panics at whatever it is told. Its one worker says something, is killed, and answers once more.
//!
//! `watcher prints|panics PROGRAM`

#![expect(clippy::print_stdout, reason = "the facts go to the test by standard output")]

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stokehold::{Pool, Request, WorkerCommand};
use stokehold_tests::kill;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

const WHO: Request<(), (u32, u32, u32)> = Request::new("who");
const SAY: Request<str, ()> = Request::new("say");

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let panics = arguments.next().as_deref() == Some("panics");
    let program = arguments.next().ok_or("no program")?;
    if panics {
        // Thousands of lines would tell nobody anything.
        std::panic::set_hook(Box::new(|_| ()));
    }
    tracing::subscriber::set_global_default(Watcher { panics, spans: AtomicU64::new(1) })?;
    let pool = Pool::builder(WorkerCommand::new(program)).workers(1).start()?;
    let (first, ..) = pool.submit(WHO, &())?.wait()?;
    pool.submit(SAY, "a word")?.wait()?;
    kill(first);
    // The worker may be handed the task before its death is seen.
    let (second, ..) = pool.submit(WHO, &())?.wait()?;
    println!("pids={first} {second}");
    println!("complete={}", pool.shutdown(Duration::from_secs(5)).complete);
    Ok(())
}

/// See the module.
struct Watcher {
    panics: bool,
    spans: AtomicU64,
}

impl Watcher {
    fn tell(&self, line: fmt::Arguments<'_>) {
        assert!(!self.panics, "a subscriber with a mistake");
        println!("{line}");
    }
}

impl Subscriber for Watcher {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("stokehold")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.spans.fetch_add(1, Ordering::Relaxed);
        let mut words = Words::default();
        span.record(&mut words);
        self.tell(format_args!(
            "span {id}={} {}{}",
            span.metadata().target(),
            span.metadata().name(),
            words.0
        ));
        Id::from_u64(id)
    }

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let (level, target) = (event.metadata().level(), event.metadata().target());
        let span = event.parent().map_or(0, Id::into_u64);
        self.tell(format_args!("in {span}={level} {target}{}", words.0));
    }

    fn try_close(&self, id: Id) -> bool {
        self.tell(format_args!("closed={}", id.into_u64()));
        true
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The fields, as " name=value".
#[derive(Default)]
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // Writing to a string does not fail.
        let _ = write!(self.0, " {field}={value:?}");
    }
}
