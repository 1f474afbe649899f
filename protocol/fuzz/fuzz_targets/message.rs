//! Hands the engine's bytes to the body of the target `message`, which the tests replay too. It checks nothing itself.

#![no_main]

#[path = "../../tests/suite/corpora/message.rs"]
mod message;
#[path = "../../tests/suite/corpora/stretch.rs"]
mod stretch;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| message::run(bytes));
