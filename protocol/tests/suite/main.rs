//! The protocol crate's integration tests, one binary. Unit tests of private invariants stand beside the code.

// `cfg(test)` tells clippy that the functions in these modules that are no tests themselves belong to tests too.

/// What the fuzz targets have found, replayed without their engine.
#[cfg(test)]
mod corpora;

/// The parent's half against every order of frames from a child that keeps no rules.
#[cfg(test)]
mod hostile;

/// Properties over random input: chunking, round trips, memory, and that nothing panics.
#[cfg(test)]
mod properties;

/// Single rules of a session, one half at a time.
#[cfg(test)]
mod rules;

/// The scripts of `vectors/sessions`: what they expect of a child is what a parent takes, and what the child's half says.
#[cfg(test)]
mod scripts;

/// Both session halves against each other in every order of events.
#[cfg(test)]
mod sessions;

/// Text mode: values as lines and back, and lines that are almost messages.
#[cfg(test)]
mod text;

/// Every test vector of `vectors/frames.jsonl` behaves as it says.
#[cfg(test)]
mod vectors;
