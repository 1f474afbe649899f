//! Runnable examples of Stokehold. They are programs in `examples/examples`; this library is empty and only makes them a
//! package:
//!
//! | command | shows |
//! |---|---|
//! | `cargo run --example hello` | one task through a worker that is the same program |
//! | `cargo run --example wordcount` | many files, typed results, one bad file among good ones |
//! | `cargo run --example fibonacci` | pairs through two workers, recovered and compared |
//! | `cargo run --example python_worker` | a worker in Python: answers, an error, a death |
//! | `cargo run --example supervised` | results that stream, limits, crashes, dead letters, fresh workers, the end at Ctrl-C |
//!
//! What each of them promises to print is in its header, and tested.
