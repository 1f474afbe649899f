//! What every Rust contestant shares: the talk with the runner, numbered payloads, worker processes. It knows no peer.

mod contest;
mod payload;
mod worker;

pub use contest::{Outcome, Report, Settings, start};
pub use payload::{Answers, END, is_echo, numbered, set_number};
pub use worker::{Worker, WorkerSide};
