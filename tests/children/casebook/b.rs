//! The scenes of group B: workers that hang, crawl, flood and do not read, and pools that are ended meanwhile. Those that are
//! played by a script are with group D.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant, SystemTime};

use serde_bytes::{ByteBuf, Bytes};
use stokehold::{Event, Order, Policy, Pool, Request, SubmitError, TaskErrorKind, TrySubmitError};
use stokehold_tests::{
    TimeCase, eventually, first_time, peak_memory_bytes, record_fact, record_submitted, stop, wait_for_file,
};

use crate::d::{beside, play};
use crate::ensure;
use crate::stage::{
    Desk, ECHO, MOMENT, Outcome, Scene, Stage, command, one, outcome_of, prove_usable, tell, tell_error,
    wait_for_event,
};

const SPILL: Request<(), u64> = Request::DO;
const WAIT_AT: Request<str, (u32, u32, u32)> = Request::new("wait_at");
const REVERSE: Request<Bytes, ByteBuf> = Request::new("reverse");

/// From CANCEL to SIGTERM, and from there to SIGKILL.
const GRACE: Duration = Duration::from_millis(100);

/// What an attempt may take where one is to take too long.
const LIMIT: Duration = Duration::from_millis(250);

/// The scene of a case.
pub(crate) fn scene(case: TimeCase) -> Scene {
    match case {
        TimeCase::B1 => hang,
        TimeCase::B2 | TimeCase::B5 | TimeCase::B9 | TimeCase::B11 => play,
        TimeCase::B3 => stopped,
        TimeCase::B4 | TimeCase::B13 => unread,
        TimeCase::B6 => beside,
        TimeCase::B7 => spill,
        TimeCase::B8 => both_ways,
        TimeCase::B10 => clock,
        TimeCase::B12 => late,
        TimeCase::B14 => closing,
    }
}

/// A handler that never returns: both attempts are ended, and the worker replaced.
fn hang(_: &Stage) -> Outcome {
    let policy = Policy::default().timeout(LIMIT).backoff(GRACE / 100, GRACE / 100);
    let pool = one("honest", &[]).stop_graces(GRACE, GRACE).start()?;
    let events = pool.events();
    let begun = Instant::now();
    let error = Desk::with(&pool, policy, 2).submit("hang", WAIT_AT, "never")?.error()?;
    record_fact("milliseconds", begun.elapsed().as_millis())?;
    record_fact("kind", format!("{:?}", error.kind()))?;
    record_fact("attempts", error.attempts().len())?;
    for _ in 0..2 {
        let rung = wait_for_event(&events, |event| match event {
            Event::WorkerDied(death) => Some(death.rung),
            _ => None,
        })?;
        tell(&rung)?;
    }
    prove_usable(&pool)
}

/// A stopped process neither answers nor takes SIGTERM before it goes on.
fn stopped(_: &Stage) -> Outcome {
    let pool = one("honest", &[]).stop_graces(GRACE, GRACE).start()?;
    let events = pool.events();
    let task = Desk::with(&pool, Policy::default().timeout(LIMIT), 3).submit("stopped", WAIT_AT, "gate")?;
    let pid = task.running_in()?;
    stop(pid);
    let begun = Instant::now();
    wait_for_event(&events, |event| match event {
        Event::WorkerDied(death) if death.pid == Some(pid) => Some(tell(&death.cause)),
        _ => None,
    })??;
    record_fact("milliseconds", begun.elapsed().as_millis())?;
    open("gate")?;
    let (second, _, attempt) = task.answer()?;
    ensure!(second != pid, "the stopped process answered");
    record_fact("attempt", attempt)?;
    prove_usable(&pool)
}

/// A worker that reads nothing, and 10 MB of work: the caller learns of it, and is not blocked. Then the pool is ended with its
/// pipe full.
fn unread(_: &Stage) -> Outcome {
    let before = peak_memory_bytes();
    let pool = one("wire_villain", &["start=greet 64; sleep"]).window(64).queue(10_000, 2 << 20);
    let pool = pool.stop_graces(GRACE, GRACE).start()?;
    let begun = Instant::now();
    let work = "x".repeat(100_000);
    let (mut tasks, mut refused) = (Vec::new(), 0);
    for number in 0..100 {
        let name = format!("unread{number}");
        match pool.try_submit(ECHO, &work) {
            Ok(task) => {
                record_submitted(&name, 3)?;
                tasks.push((name, task));
            }
            Err(TrySubmitError::Full(_)) => refused += 1,
            Err(error) => return Err(error.into()),
        }
    }
    record_fact("accepted", tasks.len())?;
    record_fact("refused", refused)?;
    record_fact("submit_milliseconds", begun.elapsed().as_millis())?;
    let begun = Instant::now();
    let timed = pool.submit_timeout(ECHO, &work, GRACE).err();
    ensure!(matches!(timed, Some(SubmitError::Timeout(_))), "a submit ended as {timed:?}");
    record_fact("timeout_milliseconds", begun.elapsed().as_millis())?;
    let begun = Instant::now();
    let report = pool.shutdown(GRACE);
    record_fact("shutdown_milliseconds", begun.elapsed().as_millis())?;
    ensure!(report.complete, "the shutdown was not complete: {report:?}");
    for (name, task) in tasks {
        let result = task.wait();
        outcome_of(&name, &result)?;
        ensure!(
            result.is_err_and(|error| error.kind() == TaskErrorKind::Closed),
            "{name} did not end as Closed"
        );
    }
    Ok(record_fact("memory_growth", peak_memory_bytes().saturating_sub(before))?)
}

/// A gigabyte on stderr, and a listener that does not take it.
fn spill(_: &Stage) -> Outcome {
    let before = peak_memory_bytes();
    let pool = one("flooder", &[]).start()?;
    let events = pool.events();
    let mut bytes = 0;
    for number in 0..10 {
        bytes += Desk::of(&pool).submit(&format!("spill{number}"), SPILL, &())?.answer()?;
    }
    record_fact("bytes", bytes)?;
    record_fact("events", events.len())?;
    Ok(record_fact("memory_growth", peak_memory_bytes().saturating_sub(before))?)
}

/// 64 MiB each way at the same time.
fn both_ways(_: &Stage) -> Outcome {
    let pool = one("honest", &[]).window(8).queue(64, 256 << 20).start()?;
    let mut bytes = vec![7_u8; (8 << 20) - 1];
    bytes.push(1);
    let submit = |number| Desk::of(&pool).submit(&format!("big{number}"), REVERSE, Bytes::new(&bytes));
    let tasks: Vec<_> = (0..8).map(submit).collect::<Outcome<_>>()?;
    for task in tasks {
        let answer = task.answer()?;
        ensure!(answer.len() == bytes.len() && answer.first() == Some(&1), "the answer is wrong");
    }
    prove_usable(&pool)
}

/// Deadlines of every kind while the clock on the wall jumps.
fn clock(_: &Stage) -> Outcome {
    let (first, second) = (SystemTime::now(), SystemTime::now());
    let jump = second.duration_since(first).unwrap_or_else(|back| back.duration());
    record_fact("jump_seconds", jump.as_secs())?;
    let timed = |name: &str, script: &str, policy: Policy| -> Outcome {
        let pool = one("wire_villain", &[]).frame_timeout(LIMIT).stop_graces(GRACE, GRACE).start()?;
        let begun = Instant::now();
        let task = Desk::with(&pool, policy, 2).submit(name, ECHO, &format!("{name}: {script}"))?;
        if let Err(error) = task.wait()? {
            tell_error(&error)?;
        }
        Ok(record_fact(&format!("{name}_milliseconds"), begun.elapsed().as_millis())?)
    };
    timed("attempt", "always sleep", Policy::default().timeout(LIMIT).retry_timeouts(false))?;
    timed("frame", "cut 12; sleep", Policy::default())?;
    timed("total", "always pulse PROGRESS +0 05 10 1", Policy::default().total_timeout(LIMIT))?;
    let begun = Instant::now();
    let error = one("wire_villain", &["start=always sleep"]).hello_timeout(LIMIT).start().err();
    record_fact("hello_milliseconds", begun.elapsed().as_millis())?;
    Ok(record_fact("hello", error.map_or_else(String::new, |error| error.to_string()))?)
}

/// Late answers. First of a task that stood in its worker behind another and was given up there: it means nothing. Then of one
/// whose worker was stopped, and goes on when it is told to end.
fn late(_: &Stage) -> Outcome {
    let pool = one("wire_villain", &["start=greet 8"]).window(8).stop_graces(MOMENT, GRACE).start()?;
    let patient = Desk::of(&pool);
    let impatient = Desk::with(&pool, Policy::default().total_timeout(LIMIT), 3);
    let before = patient.submit("before", ECHO, "before: gate go; answer")?;
    let given_up = impatient.submit("given_up", ECHO, "given_up: answer")?;
    let after = patient.submit("after", ECHO, "after: answer")?;
    let pid = before.running_in()?;
    given_up.error()?;
    open("go")?;
    ensure!(before.answer()? == "before: gate go; answer", "another answer came");
    ensure!(after.answer()? == "after: answer", "another answer came");
    let report = pool.shutdown(MOMENT);
    let worker = report.workers.first().ok_or("no worker")?;
    ensure!(report.is_graceful() && worker.pid == pid, "the worker was ended for a late answer: {report:?}");
    // The late one among them, or the worker would not have had its turn for the one behind.
    record_fact("answers_read", worker.tasks)?;

    let pool = one("wire_villain", &[]).stop_graces(Duration::ZERO, 10 * GRACE).start()?;
    let policy = Policy::default().timeout(LIMIT);
    let text = "awakened: ignore_term; open begun; gate wake; answer";
    let task = Desk::with(&pool, policy, 2).submit("awakened", ECHO, text)?;
    let pid = task.running_in()?;
    wait_for_file("begun")?;
    stop(pid);
    // It finds the gate open when SIGCONT comes with SIGTERM.
    open("wake")?;
    ensure!(task.answer()? == text, "another answer came");
    prove_usable(&pool)
}

/// A shutdown while others submit without end, and pools that are ended by what they call. Nobody can shut a pool down twice:
/// it is gone after the first time.
fn closing(_: &Stage) -> Outcome {
    closing_while_others_submit()?;
    for shuts_down in [true, false] {
        closing_from_a_waker(shuts_down)?;
    }
    Ok(())
}

fn closing_while_others_submit() -> Outcome {
    let pool = Pool::builder(command("honest")).workers(2).queue(64, 1 << 20).start()?;
    let (sent, closed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| -> Outcome {
        let mut readers = Vec::new();
        for _ in 0..3 {
            let (jobs, results) = pool.channel(ECHO, Order::Completion);
            let (sent, closed) = (&sent, &closed);
            scope.spawn(move || {
                loop {
                    match jobs.send("job") {
                        Ok(()) => sent.fetch_add(1, Ordering::SeqCst),
                        Err(SubmitError::Closed) => return closed.fetch_add(1, Ordering::SeqCst),
                        Err(_) => return 0,
                    };
                }
            });
            readers.push(scope.spawn(move || results.count()));
        }
        ensure!(eventually(MOMENT, || sent.load(Ordering::SeqCst) > 500), "nothing is accepted");
        let begun = Instant::now();
        let report = pool.shutdown(Duration::from_secs(2));
        record_fact("shutdown_milliseconds", begun.elapsed().as_millis())?;
        ensure!(report.complete, "the shutdown was not complete: {report:?}");
        let mut outcomes = 0;
        for reader in readers {
            outcomes += reader.join().map_err(|_| "a reader panicked")?;
        }
        // Whoever sent was refused in the end, and everything that was accepted before came out.
        ensure!(
            eventually(MOMENT, || closed.load(Ordering::SeqCst) == 3),
            "a sender is not told that the pool is closed"
        );
        let sent = sent.load(Ordering::SeqCst);
        ensure!(outcomes == sent, "{sent} were accepted and {outcomes} came out");
        Ok(record_fact("sent", sent)?)
    })
}

/// The waker of one task ends the pool, which has another.
fn closing_from_a_waker(shuts_down: bool) -> Outcome {
    let name = if shuts_down { "shutdown" } else { "drop" };
    let pool = Pool::builder(command("honest")).workers(2).start()?;
    let other = Desk::of(&pool).submit(&format!("{name}_other"), WAIT_AT, "never")?;
    other.running_in()?;
    record_submitted(name, 3)?;
    let task = pool.submit(ECHO, name)?;
    let ender =
        Arc::new(Ender { pool: Mutex::new(Some(pool)), shuts_down, was_called: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&ender));
    let mut task = pin!(task);
    let mut result = None;
    if let Poll::Ready(ready) = task.as_mut().poll(&mut Context::from_waker(&waker)) {
        // Answered before anybody asked, so that there is nobody to wake.
        result = Some(ready);
        waker.wake_by_ref();
    }
    ensure!(
        eventually(MOMENT, || ender.was_called.load(Ordering::SeqCst)),
        "the waker was not called, or hangs"
    );
    if result.is_none()
        && let Poll::Ready(ready) = task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    {
        result = Some(ready);
    }
    let result = result.ok_or("its waker was called, and it has no outcome")?;
    outcome_of(name, &result)?;
    ensure!(result.is_ok(), "{name} ended as {result:?}");
    let error = other.error()?;
    ensure!(error.kind() == TaskErrorKind::Closed, "the other task ended as {error:?}");
    Ok(())
}

/// Ends a pool when it is called.
#[derive(Debug)]
struct Ender {
    pool: Mutex<Option<Pool>>,
    shuts_down: bool,
    was_called: AtomicBool,
}

impl Wake for Ender {
    fn wake(self: Arc<Self>) {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(pool) = pool else { return };
        if self.shuts_down {
            pool.shutdown(GRACE);
        } else {
            drop(pool);
        }
        self.was_called.store(true, Ordering::SeqCst);
    }
}

/// Opens a gate that a worker waits at.
fn open(gate: &str) -> Outcome {
    first_time(gate)?;
    Ok(())
}
