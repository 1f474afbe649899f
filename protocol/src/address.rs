//! Addresses: who sent a message and whom it is for. The numbers are process ids as the parent assigned them.

use std::fmt;

/// Whom a message is for. The shape is that of `kill(2)`: a number, anyone, everyone.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Recipient {
    /// nil: whoever takes it. On a pipe that is the peer; on a queue exactly one taker.
    Anyone,
    /// −1: a copy for everyone. Needs id 0.
    Everyone,
    /// That process: 1 … 2^53 − 1.
    Process(u64),
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Everyone => f.write_str("everyone"),
            Self::Process(pid) => write!(f, "{pid}"),
        }
    }
}
