//! The smallest whole program: one task through one worker, and the worker is this program itself, started again.
//!
//! Prints `Hello, world!`.
#![expect(clippy::print_stdout, reason = "an example shows its result")]

use std::convert::Infallible;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use stokehold::{Pool, Request, WorkerCommand};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if stokehold_child::is_worker() {
        return Ok(stokehold_child::serve(|name: String, _| Ok::<_, Infallible>(format!("Hello, {name}!"))));
    }
    let pool = Pool::builder(WorkerCommand::current_exe()).workers(1).start()?;
    let greeting = pool.submit(Request::<str, String>::DO, "world")?.wait()?;
    println!("{greeting}");
    pool.shutdown(Duration::from_secs(5));
    Ok(ExitCode::SUCCESS)
}
