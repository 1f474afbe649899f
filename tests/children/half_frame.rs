//! Writes the first half of its HELLO and then nothing: stopped in the middle of a write.

use stokehold_tests::{Wire, park_until_end_of_input};

fn main() -> std::io::Result<()> {
    let hello = Wire::frame(0, "HELLO", b"\x81\xa1v\x01");
    let (first, _) = hello.split_at(hello.len() / 2);
    Wire::silent().write(first)?;
    park_until_end_of_input()
}
