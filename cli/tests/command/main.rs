//! The `stokehold` command as people use it: the real binary, its pipes, its exit codes, and what it leaves behind.

#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]
#![expect(clippy::print_stderr, reason = "a skipped test and the watchdog say why")]

mod codecs; // the codecs of other SDKs, by the table of the test vectors
mod conform; // the conformance kit: good children, and each mistake found by its case
mod demo; // the self-contained demonstration
mod ending; // how runs end: readers that leave, signals, workers that die, process 1
mod lines; // lines in, results out: order, bytes, forms
mod parents; // the conformance kit against parents: good ones, and each mistake found by its case
mod records; // JSON lines, result records, errors in them
mod start; // workers that cannot be started
mod support; // running the command under a watchdog, and looking for what it left
mod usage; // the command line itself
