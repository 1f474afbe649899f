//! The SDK as real processes. `support` starts a worker and plays its parent; each other module is about one thing.

#[cfg(test)]
mod ending; // how a worker ends: statuses, EOF, DIE, a vanished reader
#[cfg(test)]
mod isolation; // what cannot reach the protocol: printing, grandchildren, the environment, signals, panics
#[cfg(test)]
mod quiet; // what a worker does when there is nothing to do: nothing
#[cfg(test)] // so that lints know its functions for test code
mod support;
#[cfg(test)]
mod talk; // what a handler says and is told while it runs: items, progress, CANCEL, PING, STARTED
#[cfg(test)]
mod waiting; // how long an answer waits: never for a handler that takes long
