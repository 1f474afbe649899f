//! The test vectors of this protocol as text, for programs that feed them to somebody's reader.

/// The file `protocol/vectors/frames.jsonl`, described in the `README.md` beside it. A program that does not use it does not
/// contain it.
pub const FRAMES: &str = include_str!("../vectors/frames.jsonl");
