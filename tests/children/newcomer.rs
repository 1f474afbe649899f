//! Speaks version 99: built with an SDK of the far future.

use stokehold_protocol::ChildHello;
use stokehold_tests::{Wire, park_until_end_of_input};

fn main() -> std::io::Result<()> {
    let hello = ChildHello { version: 99, ..ChildHello::default() };
    Wire::greet_as(&hello)?;
    park_until_end_of_input()
}
