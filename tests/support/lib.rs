//! What the suites and the children they start share. No test stands here, and nothing here knows a pool.

mod arena;
mod executor;
mod processes;
mod watchdog;
mod wire;

pub use arena::{Arena, first_time, note, wait_for_file};
pub use executor::{Wakes, block_on};
pub use processes::{
    children_of, descriptor_count, is_alive, kill, marked, peak_memory_bytes, stirrings, stop, thread_count,
};
pub use watchdog::{eventually, within};
pub use wire::{Wire, park_until_end_of_input};
