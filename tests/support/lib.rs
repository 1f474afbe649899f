//! What the suites and the children they start share. No test stands here, and nothing here knows a pool.

mod arena;
mod case;
mod executor;
mod processes;
mod record;
mod watchdog;
mod wire;

pub use arena::{Arena, directory, first_time, note, wait_for_file};
pub use case::{Case, DeathCase, ParentCase, TimeCase, WireCase};
pub use executor::{Wakes, block_on};
pub use processes::{
    children_of, descriptor_count, is_alive, kill, marked, peak_memory_bytes, resident_bytes, stirrings,
    stop, thread_count,
};
pub use record::{Record, Run, effect, record_error, record_fact, record_outcome, record_submitted};
pub use watchdog::{eventually, within};
pub use wire::{Wire, park_until_end_of_input};
