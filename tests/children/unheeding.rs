//! Is ready for many tasks and never reads one: a worker stuck in a lock.

use stokehold_tests::{Wire, wait_for_file};

fn main() -> std::io::Result<()> {
    Wire::greet(64)?;
    wait_for_file("never")
}
