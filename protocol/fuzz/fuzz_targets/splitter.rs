//! Hands the engine's bytes to the body of the target `splitter`, which the tests replay too. It checks nothing itself.

#![no_main]

#[path = "../../tests/suite/corpora/input.rs"]
mod input;
#[path = "../../tests/suite/corpora/splitter.rs"]
mod splitter;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| splitter::run(bytes));
