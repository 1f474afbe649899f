//! The Stokehold SDK for workers written in Rust.
//!
//! A worker is a program that a parent starts once and feeds with tasks for as long as it lives. This crate speaks the
//! protocol for it: one function becomes a worker.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     stokehold_child::serve(|text: String, _| {
//!         if text.is_empty() { Err("an empty text has no longest word") } else { Ok(longest_word(&text).to_owned()) }
//!     })
//! }
//!
//! fn longest_word(text: &str) -> &str {
//!     text.split_whitespace().max_by_key(|word| word.len()).unwrap_or_default()
//! }
//! ```
//!
//! # Values
//!
//! Input and result are any serde types, carried as MessagePack. Structs travel as maps with their field names, and map keys
//! must be text. `Vec<u8>` is a list of numbers to serde: use the crate `serde_bytes` for byte strings, which are then also
//! fast. [`serve_raw`] leaves everything encoded; [`Data`] is one encoded value.
//!
//! # State and several requests
//!
//! [`Worker`] has a state that is made once, for instance a model that takes a minute to load, and a handler for each
//! [`Request`]. A request is a name with two types; put it where parent and worker both see it.
//!
//! # Printing is harmless
//!
//! Serving begins by moving the protocol away from descriptors 0 and 1. From then on standard input is empty and standard
//! output is stderr: `println!`, C's `printf`, or a program that a handler starts cannot get between the frames. What was
//! printed *before* can, so serve first thing in `main`. All `STOKEHOLD_` variables are removed from the environment before
//! `init` and handlers run, so that a program started by a handler does not take itself for a worker. (With other threads
//! running already the variables stay and a line on stderr says so: removing them would not be safe.)
//!
//! # Errors and panics
//!
//! A handler's error fails its task and nothing else: the parent sees its message and its causes. [`Failure`] adds a code for
//! programs and says whether another attempt may help. A panic is a failure too, with its place and backtrace; the worker
//! lives on. Only with `panic = "abort"` does it die, and the parent starts another.
//!
//! # Streaming, progress, log
//!
//! The [`Ctx`] that a handler gets knows its task (attempt, [key](Ctx::key), [deadline](Ctx::deadline)) and can speak about it
//! before it is answered: [`item`](Ctx::item) sends one of many results, [`progress`](Ctx::progress) says how far it is, and
//! [`log`](Ctx::log) sends a line for the parent's log. [`Init::progress`] does so while the worker starts.
//!
//! ```no_run
//! use std::io::{self, BufRead};
//! use std::fs::File;
//! use std::process::ExitCode;
//! use stokehold_child::Failure;
//!
//! fn main() -> ExitCode {
//!     stokehold_child::serve(|path: String, task| {
//!         let mut found = 0u64;
//!         for (number, line) in (1..).zip(io::BufReader::new(File::open(path)?).lines()) {
//!             let line = line?;
//!             if line.contains("error") {
//!                 found += 1;
//!                 task.item(&(number, line))?;
//!             }
//!             task.progress(number, None, None);
//!             if task.is_cancelled() {
//!                 return Err(Failure::cancelled().into());
//!             }
//!         }
//!         Ok::<u64, Box<dyn std::error::Error + Send + Sync>>(found)
//!     })
//! }
//! ```
//!
//! An item is sent at once, or together with those that follow it within a millisecond; of progress, one report in 50 ms.
//! Nothing said waits for the handler to go on.
//!
//! # Cancelling
//!
//! A task that is cancelled while it waits here never begins. One whose handler runs is stopped by nobody but the handler,
//! which asks [`is_cancelled`](Ctx::is_cancelled) and returns early; one that never asks runs on, until the parent ends the
//! worker by force. A cancel never touches any other task. PING is answered while a handler runs, whatever that does.
//!
//! # Order
//!
//! Tasks run one at a time on the thread that serves, in the order in which they came. An answer is written before the next
//! handler starts, so that a crash is never blamed on a task that was done; only after 1024 handlers in a row took less than
//! 20 µs may answers wait for each other, for about 100 µs and the handler in hand. When that turns out to be long, a second
//! thread writes them after some 25 ms at the most, and no answer waits any more. A parent that wants to know of every start
//! (it lists `started`) is told with the answer before it, and then no answer ever waits.
//!
//! # How a worker ends
//!
//! | what happened | the worker | status |
//! |---|---|---|
//! | the parent closed the input, or sent DIE | finishes what it has received, says BYE | 0 |
//! | the parent sent DIE with `now` | drops what waits, tells the running handler that it is cancelled, and ends when that is done | 0 |
//! | nobody reads the answers any more | ends at once, inside a handler too | 1 |
//! | `init` failed | says why on stderr | 1, or 125 for a [`Permanent`] error |
//! | started by hand, or with a transport that cannot be used | says why on stderr | 2 |
//! | the input ended inside a frame | says so on stderr | 3 |
//! | the parent broke the protocol | says how on stderr | 4 |
//! | no version or codec in common with the parent | tells the parent, and stderr | 5 |
//!
//! A second thread, the SDK's own, looks after the connection while a handler runs, and ends the process when nobody reads the
//! answers. It has all signals blocked and runs nothing of yours; while there is nothing to do neither thread ever wakes up.
//! While handlers keep the serving thread from the input for longer than some 20 ms it reads ahead, up to 4 MiB.
//!
//! On Linux a worker also dies with the parent that started it directly. SIGINT does nothing in a worker: Ctrl-C reaches the
//! parent, which decides.
//!
//! # Tuning
//!
//! [`Worker::window`] says how many tasks may wait in the worker. The default suits tiny tasks; a parent sends fewer when
//! they are slow.
//!
//! Many small items cost less in one item that is a list. [`Ctx::item_data`] sends what is encoded already.

mod coalesce;
mod context;
mod cores;
mod desk;
mod failure;
mod guard;
mod intake;
mod line;
mod log_meter;
mod lookahead;
mod monitor;
mod notes;
mod outbox;
mod outlet;
mod panics;
mod probe;
mod report;
mod serve;
mod shelf;
mod stop;
mod stream;
mod sys;
mod talk;
mod text;
mod turn;
mod worker;

pub use context::{Ctx, Init};
pub use failure::{Failure, Permanent};
pub use guard::is_worker;
#[doc(hidden)]
pub use probe::{NoProbe, Point, Probe};
pub use stokehold_protocol::Request;
pub use stokehold_protocol::{BadData, Data};
pub use talk::{ItemError, Level};
pub use worker::{Worker, serve, serve_raw};
