//! Stokehold with real processes, one binary. A new test belongs to the module of the behaviour it is about; every file in
//! this folder is declared here, and a test checks that.

// `cfg(test)` tells clippy that the functions in these modules that are no tests themselves belong to tests too.

/// Tiny tasks that travel many to a frame: each has its own outcome all the same.
#[cfg(test)]
mod batches;

/// Tasks that are cancelled: in the queue, in a worker, behind others, too late.
#[cfg(test)]
mod cancel;

/// Who is left when a worker, a pool or a parent ends, at each level of containment.
#[cfg(test)]
mod containment;

/// Workers that die or break the protocol while they have work: what becomes of the work.
#[cfg(test)]
mod death;

/// What a parent owes its children and a hostile child cannot show.
#[cfg(test)]
mod duties;

/// The end of a pool, and of its parent: nothing is left.
#[cfg(test)]
mod end;

/// The SDK for Go.
#[cfg(test)]
mod go;

/// What a pool and its handles do for threads that share them.
#[cfg(test)]
mod handles;

/// Tasks with many results.
#[cfg(test)]
mod items;

/// The SDK for Java.
#[cfg(test)]
mod java;

/// Large payloads, and the memory they take.
#[cfg(test)]
mod large;

/// Whether those who wait sleep at once or look a moment before.
#[cfg(test)]
mod latency;

/// What could not be done, and is kept.
#[cfg(test)]
mod letters;

/// Times that pass: of an attempt, of a task, of a worker.
#[cfg(test)]
mod limits;

/// What a pool tells: events, death certificates, traces.
#[cfg(test)]
mod news;

/// The children that are printed in the specification.
#[cfg(test)]
mod printed;

/// The SDKs of other languages, by their own tests.
#[cfg(test)]
mod sdks;

/// How many workers there are, and which.
#[cfg(test)]
mod staff;

/// The SDKs for Node and C.
#[cfg(test)]
mod node_and_c;

/// How a pool starts, and why not.
#[cfg(test)]
mod start;

/// Many jobs through one call: order, laziness, bounds.
#[cfg(test)]
mod streams;

/// One task: its ways in, its ways out, its payload.
#[cfg(test)]
mod tasks;

/// Workers in text mode.
#[cfg(test)]
mod text;

/// The source tree itself: who may know whom, and what every file has.
#[cfg(test)]
mod tidy;

/// What wakers may do, and pools that end in unusual places.
#[cfg(test)]
mod wakers;

/// The stage of a test: its arena, its pool's commands, its requests.
#[cfg(test)]
mod stage;

/// The stage of tests about what workers do besides answering.
#[cfg(test)]
mod performer;
