//! Stokehold with real processes, one binary. A new test belongs to the module of the behaviour it is about; every file in
//! this folder is declared here, and a test checks that.

// `cfg(test)` tells clippy that the functions in these modules that are no tests themselves belong to tests too.

/// Workers that die or break the protocol while they have work: what becomes of the work.
#[cfg(test)]
mod death;

/// The end of a pool, and of its parent: nothing is left.
#[cfg(test)]
mod end;

/// How a pool starts, and why not.
#[cfg(test)]
mod start;

/// Many jobs through one call: order, laziness, bounds.
#[cfg(test)]
mod streams;

/// One task: its ways in, its ways out, its payload.
#[cfg(test)]
mod tasks;

/// The source tree itself: who may know whom, and what every file has.
#[cfg(test)]
mod tidy;

/// What wakers may do, and pools that end in unusual places.
#[cfg(test)]
mod wakers;

/// The stage of a test: its arena, its pool's commands, its requests.
#[cfg(test)]
mod stage;
