//! Parents whose program does what a library cannot forbid: signals, a wait for every child, panics, handles that are
//! forgotten, streams that are closed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, wait};
use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};
use stokehold::{Event, Policy, Pool, Request, Task, TaskErrorKind};
use stokehold_tests::{Wakes, eventually, record_fact, record_outcome, wait_for_file};

use super::{LEAVE_A_SLEEPER, SPIN, SQUARE, WAIT_AT, tell_workers};
use crate::a::{Job, WORK};
use crate::stage::{
    Desk, ECHO, MOMENT, Outcome, Stage, command, descriptors, one, prove_usable, prove_usable_by,
};
use crate::{bare, ensure};

/// Ctrl-C: the host decides when to end, and drains.
pub(super) fn interrupted(_: &Stage) -> Outcome {
    let asked = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&asked))?;
    let pool = Pool::builder(command("doomed")).workers(2).record_events().start()?;
    let events = pool.events();
    let wait_at: Request<str, u32> = Request::new("wait_at");
    let tasks = ["one", "two", "three", "four"];
    let tasks = tasks.map(|name| Desk::of(&pool).submit(name, wait_at, name));
    let tasks = tasks.into_iter().collect::<Outcome<Vec<_>>>()?;
    tell_workers(&[tasks[0].running_in()?, tasks[1].running_in()?])?;
    ensure!(eventually(MOMENT, || asked.load(Ordering::SeqCst)), "nobody asked");
    // The test opens the gates when it has sent the signal to everybody; the workers are alive until then.
    wait_for_file("go")?;
    let early = events.try_iter().any(|event| matches!(event, Event::WorkerDied(_)));
    ensure!(!early, "a worker died before the host had decided");
    let begun = Instant::now();
    let report = thread::scope(|scope| {
        let waiters: Vec<_> =
            tasks.into_iter().map(|task| scope.spawn(|| task.answer().map_err(|e| e.to_string()))).collect();
        let report = pool.shutdown(MOMENT);
        for waiter in waiters {
            let attempt = waiter.join().map_err(|_| "it panicked".to_owned())??;
            if attempt != 1 {
                return Err(format!("attempt {attempt}"));
            }
        }
        Ok(report)
    })?;
    ensure!(report.is_graceful(), "{report:?}");
    Ok(record_fact("milliseconds", begun.elapsed().as_millis())?)
}

/// Argument: `waits` for a host that reaps every child there is, `ignores` for one that was started with SIGCHLD ignored.
pub(super) fn nosy_host(stage: &Stage) -> Outcome {
    let over = AtomicBool::new(false);
    let waits = stage.argument(0)? == "waits";
    let reaped = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while waits && !over.load(Ordering::Relaxed) {
                match wait(WaitOptions::NOHANG) {
                    Ok(Some(_)) => {
                        reaped.fetch_add(1, Ordering::Relaxed);
                    }
                    _ => thread::yield_now(),
                }
            }
        });
        let played = nosy_host_of(&reaped);
        over.store(true, Ordering::Relaxed);
        played
    })
}

fn nosy_host_of(reaped: &AtomicU32) -> Outcome {
    let pool = Pool::builder(command("doomed")).workers(2).start()?;
    let events = pool.events();
    let desk =
        Desk::with(&pool, Policy::default().backoff(Duration::from_millis(1), Duration::from_millis(1)), 3);
    for (number, how) in ["exit 3", "kill", "abort", "exit 0", "segfault", "exit 3"].into_iter().enumerate() {
        let name = format!("n{number}");
        let job = Job { name: name.clone(), how: how.to_owned(), until: 1, nap: 0 };
        let (_, attempt) = desk.submit(&name, WORK, &job)?.answer()?;
        ensure!(attempt == 2, "{name} was answered at attempt {attempt}");
    }
    prove_usable_by(&pool, WORK, &Job::fine("usable"))?;
    let report = pool.shutdown(MOMENT);
    ensure!(report.complete, "{report:?}");
    let (mut deaths, mut unknown) = (0_u32, 0_u32);
    for event in events.try_iter() {
        if let Event::WorkerDied(death) = event {
            deaths += 1;
            unknown += u32::from(death.status.is_none());
        }
    }
    record_fact("deaths", deaths)?;
    record_fact("unknown", unknown)?;
    Ok(record_fact("reaped", reaped.load(Ordering::Relaxed))?)
}

/// Everything that is a user's and is called by the library panics once.
pub(super) fn panics(_: &Stage) -> Outcome {
    let pool = one("honest", &[]).start()?;
    let desk = Desk::of(&pool);
    let handler: Request<str, ()> = Request::new("panic");
    let error = desk.submit("handler", handler, "out of order")?.error()?;
    ensure!(error.kind() == TaskErrorKind::Failed && error.message().contains("out of order"), "{error}");

    let input =
        catch_unwind(AssertUnwindSafe(|| pool.submit(Request::<Bad, ()>::DO, &Bad).map(Task::detach)));
    ensure!(input.is_err(), "an input that panics was sent");
    let output = catch_unwind(AssertUnwindSafe(|| {
        pool.submit(Request::<str, Bad>::DO, "fine")
            .map_err(|error| error.to_string())
            .map(|task| task.wait().is_ok())
    }));
    ensure!(output.is_err(), "a result that panics was decoded");
    let inputs = (0..10_u64).inspect(|n| match n {
        0..5 => (),
        _ => std::panic::resume_unwind(Box::new("an input that ends in a panic")),
    });
    ensure!(catch_unwind(AssertUnwindSafe(|| pool.map(SQUARE, inputs))).is_err(), "the input did not panic");

    let task = desk.submit("wakened", ECHO, "wakened")?;
    let bomb = Arc::new(Bomb::default());
    let waker = Waker::from(Arc::clone(&bomb));
    {
        let mut task = pin!(task.task);
        let pending = task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending();
        ensure!(!pending || eventually(MOMENT, || bomb.0.load(Ordering::SeqCst)), "nobody was woken");
        let waker = Waker::from(Wakes::of_this_thread());
        let mut done = false;
        eventually(MOMENT, || {
            done = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            done
        });
        ensure!(done, "the task hangs behind a waker that panicked");
        record_outcome("wakened", "Done")?;
    }
    // Somebody who panics with a handle in hand, and its drop runs while the thread unwinds.
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        let _task = pool.submit(ECHO, "dropped while unwinding");
        std::panic::resume_unwind(Box::new("in between"));
    }));
    ensure!(unwound.is_err(), "it did not unwind");
    prove_usable(&pool)
}

/// Panics whatever is done with it.
#[derive(Debug)]
struct Bad;

impl Serialize for Bad {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        std::panic::resume_unwind(Box::new("a serializer that panics"))
    }
}

impl<'de> Deserialize<'de> for Bad {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        std::panic::resume_unwind(Box::new("a deserializer that panics"))
    }
}

/// A waker that panics.
#[derive(Debug, Default)]
struct Bomb(AtomicBool);

impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        if !self.0.swap(true, Ordering::SeqCst) {
            std::panic::resume_unwind(Box::new("a waker that panics"));
        }
    }
}

/// Argument: `drop` for a pool that is dropped with work in it, `task` for handles that are forgotten, `pool` for a pool that is.
#[expect(clippy::mem_forget, reason = "that is what it is about")]
pub(super) fn forgotten(stage: &Stage) -> Outcome {
    let pool = Pool::builder(command("honest")).workers(2).start()?;
    match stage.argument(0)? {
        "drop" => {
            let desk = Desk::of(&pool);
            let tasks = ["one", "two", "three", "four"].map(|name| desk.submit(name, WAIT_AT, "never"));
            let tasks = tasks.into_iter().collect::<Outcome<Vec<_>>>()?;
            tasks[0].running_in()?;
            let sleeper = desk.submit("sleeper", LEAVE_A_SLEEPER, &());
            drop(pool);
            for task in tasks {
                let error = task.error()?;
                ensure!(error.kind() == TaskErrorKind::Closed, "{error}");
            }
            sleeper?.error()?;
        }
        "task" => {
            for number in 0..50_u64 {
                std::mem::forget(pool.submit(SQUARE, &number)?);
            }
            std::mem::forget(pool.events());
            prove_usable(&pool)?;
            ensure!(pool.shutdown(MOMENT).is_graceful(), "forgotten handles held up a shutdown");
        }
        _ => {
            prove_usable(&pool)?;
            pool.submit(SPIN, &())?.detach();
            std::mem::forget(pool);
        }
    }
    Ok(())
}

/// Argument: `closed` for a process that closes all three, `full` for an output that nobody reads. The library prints nothing.
pub(super) fn no_standard_streams(stage: &Stage) -> Outcome {
    if stage.argument(0)? == "closed" {
        bare::close_standard_streams();
    }
    let pool = Pool::builder(command("doomed")).workers(2).start()?;
    let desk =
        Desk::with(&pool, Policy::default().backoff(Duration::from_millis(1), Duration::from_millis(1)), 3);
    for (number, how) in ["exit 3", "kill", "panic", "abort"].into_iter().enumerate() {
        let name = format!("n{number}");
        let job = Job { name: name.clone(), how: how.to_owned(), until: 1, nap: 0 };
        let _ = desk.submit(&name, WORK, &job)?.wait()?;
    }
    let poison = Job { name: "poison".to_owned(), how: "kill".to_owned(), until: 9, nap: 0 };
    desk.submit("poison", WORK, &poison)?.error()?;
    prove_usable_by(&pool, WORK, &Job::fine("usable"))?;
    ensure!(pool.shutdown(MOMENT).complete, "a worker could not be ended");
    if stage.argument(0)? == "closed" {
        let mut open = descriptors();
        open.retain(|descriptor| ["0:", "1:", "2:"].iter().any(|number| descriptor.starts_with(number)));
        ensure!(open.is_empty(), "descriptors are open: {open:?}");
    }
    Ok(())
}
