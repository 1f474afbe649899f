//! Answers its tasks but ignores DIE and the end of its input; with the argument "TERM" it ignores SIGTERM, too: a server that
//! was made to stay up.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGTERM;
use stokehold_tests::{Wire, wait_for_file};

fn main() -> std::io::Result<()> {
    if std::env::args().nth(1).as_deref() == Some("TERM") {
        // A flag that nobody looks at.
        signal_hook::flag::register(SIGTERM, Arc::new(AtomicBool::new(false)))?;
    }
    Wire::greet(1)?.echo()?;
    wait_for_file("never")
}
