//! Refuses the parent's version in its first frame: an SDK that knows only later ones.

use stokehold_protocol::Failure;
use stokehold_tests::{Wire, park_until_end_of_input};

fn main() -> std::io::Result<()> {
    let mut failure = Vec::new();
    Failure::new("version", "this worker needs version 2 or later").encode(&mut failure);
    Wire::silent().write(&Wire::frame(0, "FAILED", &failure))?;
    park_until_end_of_input()
}
