//! Honest, but ready only when the test allows it, except in slot 0: workers that share a slow disk.

use std::io;
use std::process::ExitCode;

use stokehold_child::{Init, Request, Worker};
use stokehold_tests::wait_for_file;

fn main() -> ExitCode {
    let start = |init: &mut Init| match init.worker() {
        Some(0) => Ok(0),
        worker => wait_for_file("start").map(|()| worker.unwrap_or(u32::MAX)),
    };
    Worker::new(start).on(Request::<(), u32>::DO, |slot, (), _| Ok::<_, io::Error>(*slot)).serve()
}
