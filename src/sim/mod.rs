//! The simulator: the core in a world without processes, pipes and clocks.
//!
//! ```text
//!  walk or test ──► world: children by a script ──bytes──► faults ──bytes──► core
//!                     ▲        clock moved by hand                            │
//!                     └────────────── actions, after each: checks ◄───────────┘
//! ```
//!
//! `world` is the bench: it does what the driver would do, and checks after every step what must hold at any time (`checks`,
//! `promises`). `faults` are what may go wrong on the way, one small node each. `walk` goes through it at random, from a seed
//! that it names when something is wrong. `flaws` makes mistakes in the core on purpose: the checks must find each. The other
//! files are one part of the contract each, with exact times.
//!
//! `STOKEHOLD_SEED=n` walks one walk again; `STOKEHOLD_STEPS=n` walks further.

mod batches;
mod blame;
mod cancel;
mod certificates;
mod dead_letters;
mod delivery;
mod faults;
mod flaws;
mod lifecycle;
mod limits;
pub(crate) mod random;
mod retries;
mod staff;
mod stopping;
mod streams;
mod walk;
mod windows;
mod world;
