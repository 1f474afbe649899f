//! Says HELLO and never READY: a model that loads for ever.

use stokehold_protocol::ChildHello;
use stokehold_tests::{Wire, park_until_end_of_input};

fn main() -> std::io::Result<()> {
    let mut hello = Vec::new();
    ChildHello::default().encode(&mut hello);
    Wire::silent().write(&Wire::frame(0, "HELLO", &hello))?;
    park_until_end_of_input()
}
