//! Why serving ended before its time, and which errors come to which reason. What becomes of it is in `worker.rs`.

use std::error::Error;
use std::io;

use stokehold_protocol::{ApiMisuse, FrameError, PeerError};

use crate::stream::is_reader_gone;

/// Why serving ended before its time.
#[derive(Debug)]
pub(crate) enum Stop {
    /// This crate broke the rules of its own session.
    Bug(ApiMisuse),
    /// Reading or writing failed.
    Io(io::Error),
    /// `init` failed.
    NotReady(Box<dyn Error + Send + Sync>),
    /// The parent broke the protocol.
    Peer(PeerError),
    /// Nobody reads the answers.
    ReaderGone,
    /// The input ended inside a frame.
    Truncated(FrameError),
}

impl From<ApiMisuse> for Stop {
    fn from(misuse: ApiMisuse) -> Self {
        Self::Bug(misuse)
    }
}

impl From<PeerError> for Stop {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        if is_reader_gone(&error) { Self::ReaderGone } else { Self::Io(error) }
    }
}
