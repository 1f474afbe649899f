//! Every limit of the protocol, each with its reason. Nothing else defines a number that a peer can run into.

/// Smallest legal `len` field: four bytes of id and at least one byte of body.
pub const FRAME_LEN_MIN: u32 = 5;

/// Largest `len` a frame may ever have (128 MiB − 1). A length above it has a top byte of 0x08 or more, which no frame has:
/// printable text read as a length always lands there, so text on the stream is found at its first byte.
pub const FRAME_LEN_CEILING: u32 = 0x07FF_FFFF;

/// Default of `max_frame` (16 MiB − 1): large enough for an image or a batch of records, small enough that a hundred workers
/// sending their largest frame at once stay below 2 GiB.
pub const MAX_FRAME_DEFAULT: u32 = 0x00FF_FFFF;

/// Smallest `max_frame` that may be announced: one pipe buffer, so that every protocol request fits.
pub const MAX_FRAME_FLOOR: u32 = 65_536;

/// Largest HELLO (`len` field), because it is read before anything is agreed.
pub const HELLO_LEN_MAX: u32 = 65_536;

/// Bytes before the body: the `len` field and the id.
pub const FRAME_HEADER_BYTES: usize = 8;

/// Longest request name in bytes: one length byte is enough to count it.
pub const REQUEST_BYTES_MAX: usize = 255;

/// Deepest nesting of arrays and maps in `data`. Recursive decoders in other languages live on small stacks; no real payload
/// seen needs half of it.
pub const DEPTH_MAX: usize = 64;

/// The head of a message (array mark, request, sender, recipient) never takes more bytes than this:
/// 5 + (5 + 255) + 9 + 9. A parent reads this much of a frame that it skips as too large.
pub const HEAD_BYTES_MAX: usize = 283;

/// Largest address: the largest integer that a double holds exactly, because many languages have no other number.
pub const ADDRESS_MAX: u64 = (1 << 53) - 1;

/// Largest window a parent honours. A wider announcement is clamped, not refused: it only bounds the lease table.
pub const WINDOW_MAX: u32 = 65_536;

/// Unanswered tasks a child keeps beyond its own window before it refuses more as `overloaded`: a parent may have sent them
/// before it read of a smaller window.
pub const OVERDRAFT_MAX: usize = 65_536;

/// Most inputs in one BATCH: their number, and that of their results, then takes three bytes at most.
pub const BATCH_ITEMS_MAX: u32 = 65_535;

/// Longest PING data in bytes.
pub const PING_BYTES_MAX: usize = 64;

/// Longest text kept from a field meant for people (messages, reasons, names of SDKs), in bytes. Longer ones are cut.
pub const TEXT_BYTES_MAX: usize = 65_536;

/// Longest text written into DIE and META (a reason, a key, a trace context), in bytes. Longer ones are cut: these requests must
/// fit the smallest frame limit there is, whatever a user says in them.
pub const NAME_BYTES_MAX: usize = 4_096;

/// Most entries kept from a list in HELLO (capabilities, methods). More are ignored.
pub const LIST_ENTRIES_MAX: usize = 4_096;

/// Lines of text mode in a row that have nothing in them (SPEC T-1).
pub const BLANK_LINES_MAX: u32 = 65_536;

/// Bytes quoted from a stream that is not the protocol.
pub const QUOTE_BYTES_MAX: usize = 32;
