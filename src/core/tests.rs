//! The contract of delivery and supervision, in a world without processes, pipes and clocks.
//!
//! Each file is one part of the contract; `world` is the bench they share, `walk` goes through it at random.

mod blame;
mod delivery;
mod lifecycle;
pub(crate) mod random;
mod stopping;
mod walk;
mod windows;
mod world;
