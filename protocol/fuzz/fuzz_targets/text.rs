//! Hands the engine's bytes to the body of the target `text`, which the tests replay too. It checks nothing itself.

#![no_main]

#[path = "../../tests/suite/corpora/stretch.rs"]
mod stretch;
#[path = "../../tests/suite/corpora/text.rs"]
mod text;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| text::run(bytes));
