//! The protocol crate's integration tests, one binary. Unit tests of private invariants stand beside the code.

// `cfg(test)` tells clippy that the functions in these modules that are no tests themselves belong to tests too.

/// Both session halves against each other in every order of events, and each half against a hostile peer.
#[cfg(test)]
mod sessions;

/// Properties over random input: chunking, round trips, memory, and that nothing panics.
#[cfg(test)]
mod properties;

/// Every test vector of `vectors/frames.jsonl` behaves as it says.
#[cfg(test)]
mod vectors;
