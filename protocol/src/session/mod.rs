//! The two halves of a connection as state machines without I/O: what may be said when (SPEC 7).
//!
//! ```text
//! parent half:  ExpectHello ──HELLO──► ExpectReady ──READY──► Open ──BYE──► Ended
//!                    └──FAILED version|codec──► refused
//! child half:   Fresh ──hello()──► Greeted ──ready()──► Serving ──DIE or EOF──► Finishing ──bye()──► Ended
//! ```
//!
//! Frames go in one at a time and come out as events; what must be written is appended to a buffer of the caller. Both halves
//! have the same names for the same things, and are run against each other in the tests.

mod child;
mod leases;
mod parent;
mod voice;

pub use child::{ChildEvent, ChildSession};
pub use leases::Leases;
pub use parent::{Outgoing, ParentEvent, ParentSession};
pub use voice::ChildVoice;
