//! Hands the engine's bytes to the body of the target `sessions`, which the tests replay too. It checks nothing itself.

#![no_main]

#[path = "../../tests/suite/corpora/input.rs"]
mod input;
#[path = "../../tests/suite/corpora/sessions/mod.rs"]
mod sessions;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sessions::run(bytes));
