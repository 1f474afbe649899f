//! A worker in Python, with the SDK of `sdks/python`: `examples/python_worker/worker.py`. It needs `python3` in the path, and
//! nothing else.
//!
//! Prints an echo, a word count, an error that the worker raised, and what happens when a task kills its worker with
//! SIGKILL every time (process ids differ):
//!
//! ```text
//! echo: [1,"two",3.0]
//! words: {"a": 2, "b": 1}
//! error: task 3 failed in worker 0 (pid 4711): attempt 1 failed, as asked: 'why not'
//! retried: task 4, attempt 1: worker 0 (pid 4711, python3 …/worker.py) was killed by SIGKILL
//! retried: task 4, attempt 2: worker 0 (pid 4712, python3 …/worker.py) was killed by SIGKILL
//! dead: task 4 killed its worker, or died with it, 3 times; the last time worker 0 (pid 4713, …) was killed by SIGKILL
//! echo: still here
//! ```
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use stokehold::{Event, Pool, Request, TaskErrorKind, WorkerCommand};

const WORD_COUNT: Request<str, BTreeMap<String, u64>> = Request::new("word_count");
const FAIL: Request<str, ()> = Request::new("fail");
const EXIT: Request<(), ()> = Request::new("exit");

type Mixed = (u8, String, f64);

fn main() -> Result<(), Box<dyn Error>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python_worker/worker.py");
    let pool = Pool::builder(WorkerCommand::new("python3").arg(script)).workers(1).start()?;
    let events = pool.events();

    let (one, two, three) = pool.submit(Request::<Mixed, Mixed>::DO, &(1, "two".to_owned(), 3.0))?.wait()?;
    println!("echo: [{one},{two:?},{three:?}]");

    println!("words: {:?}", pool.submit(WORD_COUNT, "a b a")?.wait()?);

    // What the Python code raises becomes the error of its task; the worker lives on.
    match pool.submit(FAIL, "why not")?.wait() {
        Err(error) if error.kind() == TaskErrorKind::Failed => println!("error: {error}"),
        other => return Err(format!("a failure was expected, there was {other:?}").into()),
    }

    // A task during which its worker dies runs again in a new one, three times in all.
    let dead = pool.submit(EXIT, &())?.wait();
    for event in events.try_iter() {
        if let Event::TaskRetried { task, attempt, death: Some(death), .. } = event {
            println!("retried: task {task}, attempt {attempt}: {death}");
        }
    }
    match dead {
        Err(error) if error.kind() == TaskErrorKind::Dead => println!("dead: {error}"),
        other => return Err(format!("a death was expected, there was {other:?}").into()),
    }

    println!("echo: {}", pool.submit(Request::<str, String>::DO, "still here")?.wait()?);
    pool.shutdown(Duration::from_secs(5));
    Ok(())
}
