//! The Stokehold wire protocol, version 1, without I/O: bytes in, messages out.
//!
//! `SPEC.md` beside this crate is normative; this crate is its reference. It does not read or write anything, has no clock, no
//! threads and no unsafe code, and never allocates from a count that a peer declared.
//!
//! ```text
//!  bytes ─► Splitter ─► frame (id, body) ─► Message (request, sender, recipient, data) ─► session half ─► event
//! ```
//!
//! - [`Splitter`] cuts a byte stream, chunked in any way, into frames.
//! - [`text`] has the same frames as lines of JSON, which the splitter recognises as well.
//! - [`Message`] is the four-field array; its `data` stays opaque. [`check()`] walks it when somebody needs to know.
//! - [`Batch`], [`ResultList`] and [`Results`] are many small inputs in one frame, and what comes of them.
//! - [`ParentSession`] and [`ChildSession`] say what may be said when, and can be run against each other.
//! - [`Spin`] says whether an end had better look for bytes a moment before it sleeps for them.
//! - [`limits`] has every number a peer can run into, [`code`] every error code, [`Verb::rules`] the vocabulary as a table.
//! - Errors are sorted by blame: [`FrameError`], [`MessageError`], [`DataError`] and [`PeerError`] are the peer's,
//!   [`ApiMisuse`] is the caller's, [`PeerError::Incompatible`] is nobody's.
//!
//! # A whole frame
//!
//! ```
//! use stokehold_protocol::{FrameEvent, Message, Recipient, Splitter};
//!
//! let task = Message { request: "DO", sender: 1234, recipient: Recipient::Process(12345), data: b"\x81\xa5value\x14" };
//! let mut bytes = Vec::new();
//! task.encode_frame(7, &mut bytes);
//! assert_eq!(bytes[..8], [0, 0, 0, 0x16, 0, 0, 0, 7]);
//!
//! let mut splitter = Splitter::new();
//! splitter.feed(&bytes);
//! let Some(FrameEvent::Frame { id: 7, body }) = splitter.next_frame()? else { panic!("a frame was expected") };
//! assert_eq!(Message::decode(body)?, task);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

mod address;
mod batch;
mod check;
pub mod code;
pub mod copy;
pub mod data;
mod error;
mod frame;
pub mod limits;
mod message;
mod payload;
mod request;
mod session;
mod spin;
mod tail;
pub mod text;
pub mod vectors;
pub mod wire;

pub use address::Recipient;
pub use batch::{
    Batch, BatchResult, GoodResults, ResultList, Results, Values, write_batch_head, write_result_list,
};
pub use check::check;
pub use data::{BadData, Data};
pub use error::{ApiMisuse, DataError, FrameError, MessageError, PeerError, Quote};
pub use frame::{FrameEvent, LargeBody, Splitter};
pub use message::{Message, begin_frame, finish_frame, finish_frame_before, frame_header, write_head};
pub use payload::{ChildHello, Die, Failure, LogLine, Meta, ParentHello, Progress, VERSION};
pub use request::{Capabilities, Capability, IdOwner, IdRule, Kind, Request, Rules, Verb, check_user_name};
pub use session::{ChildEvent, ChildSession, ChildVoice, Leases, Outgoing, ParentEvent, ParentSession};
pub use spin::{Next, SPIN_BYTES_MAX, Spin};
pub use tail::{SHARED_BYTES_MIN, SharedTail};
pub use text::Codec;
