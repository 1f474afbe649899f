//! What a pool does beside handing out work: results that stream, limits, crashes, dead letters, fresh workers, more workers,
//! and an end in order at Ctrl-C.
//!
//! Prints what becomes of each task (numbers differ), and to standard error what the pool tells meanwhile:
//!
//! ```text
//! square: 1
//! …
//! squares: 3 in all
//! letters: 36 in 8 words
//! hang: task 10 took too long in all, the last time in attempt 2: …
//! fragile: task 11 killed its worker, or died with it, 2 times; the last time worker 1 (pid 4711, …) was killed by SIGABRT …
//! letter: task 10, hang, attempts: 2
//! letter: task 11, fragile, attempts: 2
//! again, with one attempt more: vase at last
//! waiting: press Ctrl-C
//! stopped: task 13 was cancelled; a worker may have run it in part
//! ended, and no process is left
//! ```
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example shows its results, and events")]

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use stokehold::{Canceller, Policy, Pool, Recycle, Request, Streamed, WorkerCommand};
use stokehold_child::{Failure, Worker};

type BoxError = Box<dyn Error + Send + Sync>;

const SQUARES: Request<u64, u64> = Request::new("squares");
const LENGTH: Request<String, usize> = Request::new("length");
const HANG: Request<(), ()> = Request::new("hang");
const FRAGILE: Request<String, String> = Request::new("fragile");
const WAIT: Request<(), ()> = Request::new("wait");

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if stokehold_child::is_worker() {
        return Ok(worker());
    }
    let pool = Pool::builder(WorkerCommand::current_exe())
        .workers(1)
        .workers_max(2) // a second one while tasks wait
        .recycle(Recycle::default().tasks(5)) // a fresh one after about five tasks
        .stop_graces(Duration::from_millis(50), Duration::from_millis(50))
        .dead_letters(100)
        .record_events()
        .start()?;
    let events = pool.events(); // they end when the pool has ended
    let teller = thread::spawn(move || events.iter().for_each(|event| eprintln!("{event}")));

    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (listening, last) = (signals.handle(), OnceLock::new());
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            for _ in signals.forever() {
                pool.close(); // nothing is let in any more; what was accepted is finished
                last.get().map(Canceller::cancel);
            }
        });
        let outcome = work(&pool, &last);
        listening.close();
        outcome
    });

    let report = pool.shutdown(Duration::from_secs(5));
    teller.join().map_err(|_| "the thread that tells of events panicked")?;
    println!("ended, and {} process is left", if report.complete { "no" } else { "a" });
    outcome.map(|()| ExitCode::SUCCESS) // pressed early, Ctrl-C has let a submit fail
}

fn work(pool: &Pool, last: &OnceLock<Canceller>) -> Result<(), Box<dyn Error>> {
    for element in pool.submit_stream::<u64, _, _>(SQUARES, &3)? {
        match element? {
            Streamed::Item { value, .. } => println!("square: {value}"),
            Streamed::Restarted { .. } => println!("once more"), // only if the policy allows it
            Streamed::Finished(count) => println!("squares: {count} in all"),
        }
    }

    let words = (1..=8).map(|length| "x".repeat(length));
    let lengths = pool.imap(LENGTH, words).collect::<Result<Vec<_>, _>>()?;
    println!("letters: {} in {} words", lengths.iter().sum::<usize>(), lengths.len());

    // It never ends and never asks. Each attempt may take 200 ms, all together 300 ms; the workers are killed.
    let limits =
        Policy::default().timeout(Duration::from_millis(200)).total_timeout(Duration::from_millis(300));
    if let Err(error) = pool.with(limits).submit(HANG, &())?.wait() {
        println!("hang: {error}");
    }

    // It needs three attempts and has two. Then it lies with the dead letters.
    if let Err(error) = pool.with(Policy::default().attempts(2)).submit(FRAGILE, &"vase".to_owned())?.wait() {
        println!("fragile: {error}");
    }
    for letter in pool.dead_letters().try_iter() {
        let (task, request, attempts) = (letter.task, letter.request(), letter.attempts().len());
        println!("letter: task {task}, {request}, attempts: {attempts}");
        if request == FRAGILE.name() {
            let answer = pool.with(Policy::default().attempts(3)).resubmit(&letter)?.wait()?;
            println!("again, with one attempt more: {}", answer.decode::<String>()?);
        }
    }

    // It runs until somebody cancels it: here whoever presses Ctrl-C.
    let waiting = pool.submit_stream::<String, _, _>(WAIT, &())?;
    let _ = last.set(waiting.canceller()); // nobody has set it before
    for element in waiting {
        match element {
            Ok(Streamed::Item { value, .. }) => println!("waiting: {value}"),
            Ok(_) => {}
            Err(error) => println!("stopped: {error}"),
        }
    }
    Ok(())
}

fn worker() -> ExitCode {
    Worker::new(|_| Ok::<(), Infallible>(()))
        .on(SQUARES, |(), count, task| {
            for number in 1..=count {
                task.item(&(number * number))?;
                task.progress(number, Some(count), None);
            }
            Ok::<_, BoxError>(count)
        })
        .on(LENGTH, |(), word, _| Ok::<_, Infallible>(word.len()))
        .on(HANG, |(), (), _| {
            thread::sleep(Duration::MAX);
            Ok::<_, Infallible>(())
        })
        .on(FRAGILE, |(), what, task| match task.attempt() {
            1 | 2 => std::process::abort(),
            _ => Ok::<_, Infallible>(format!("{what} at last")),
        })
        .on(WAIT, |(), (), task| {
            task.item("press Ctrl-C")?;
            while !task.is_cancelled() {
                thread::sleep(Duration::from_millis(10));
            }
            Err::<(), BoxError>(Failure::cancelled().into())
        })
        .serve()
}
