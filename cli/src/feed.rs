//! The feeding thread: reads records and sends them to the workers until the input ends or nobody wants more.

use stokehold::{Data, JobSender, SubmitError};
use stokehold_protocol::limits::{HEAD_BYTES_MAX, MAX_FRAME_DEFAULT};
use stokehold_protocol::{code, wire};

use crate::input::{Line, Lines};
use crate::output::{BadRecord, Output};
use crate::value;

/// The longest record: what fits the frame that every worker takes by default, beside its id, its head, and the marker of a
/// text.
pub(crate) const RECORD_BYTES_MAX: usize = MAX_FRAME_DEFAULT as usize - 4 - HEAD_BYTES_MAX - 5;

/// A record's buffer is given back after a record longer than this.
const KEEP_BYTES: usize = 1024 * 1024;

/// What a line is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// One JSON value, which becomes the value itself; blank lines are none and are passed over.
    Json,
    /// A text, or a byte string if it is not UTF-8.
    Line,
}

/// Why feeding ended.
#[derive(Debug)]
pub(crate) enum Fed {
    /// The input ended.
    All,
    /// Reading it failed.
    ReadFailed(String),
    /// The pool takes no more.
    Refused(SubmitError),
    /// The output takes no more; who writes there says why.
    Unwritable,
}

/// Feeds everything.
///
/// `limit` is how many records at most.
pub(crate) fn feed(
    lines: &mut Lines,
    kind: Kind,
    mut limit: u64,
    jobs: &JobSender<Data>,
    output: &Output,
) -> Fed {
    let name = lines.name().to_owned();
    let mut encoded = Vec::new();
    let mut index: u64 = 0;
    // This thread may have written records that no result of a worker will flush.
    let mut unflushed = false;
    loop {
        if unflushed && lines.is_drained() {
            if output.flush().is_err() {
                return Fed::Unwritable;
            }
            unflushed = false;
        }
        if limit == 0 {
            return Fed::All;
        }
        let seq = lines.number().saturating_add(1);
        let line = match lines.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => return Fed::All,
            Err(error) => {
                return Fed::ReadFailed(format!("cannot read {name} beyond line {}: {error}", seq - 1));
            }
        };
        encoded.clear();
        let encoding = encode(line, kind, &mut encoded);
        limit -= u64::from(encoding != Ok(false));
        match encoding {
            Ok(true) => {}
            Ok(false) => continue,
            Err((code, what)) => {
                let bad = BadRecord { seq, code, message: format!("{name}:{seq}: {what}") };
                if output.put_aside(index, bad).is_err() {
                    return Fed::Unwritable;
                }
                unflushed = true;
                continue;
            }
        }
        let shift = seq.saturating_sub(index.saturating_add(1));
        if shift > 0 {
            output.note_shift(index, shift);
        }
        let data = Data::from_peer(encoded);
        if let Err(error) = jobs.send_data(&data) {
            return Fed::Refused(error);
        }
        index += 1;
        encoded = data.into_bytes();
        if encoded.capacity() > KEEP_BYTES {
            encoded = Vec::new();
        }
    }
}

/// Appends the data of a line; false if the line is no record, an error with its code if it is a bad one.
fn encode(line: Line<'_>, kind: Kind, out: &mut Vec<u8>) -> Result<bool, (&'static str, String)> {
    let Line::Whole(line) = line else { return Err(too_large()) };
    match kind {
        Kind::Line => match std::str::from_utf8(line) {
            Ok(text) => wire::write_str(out, text),
            Err(_) => wire::write_bin(out, line),
        },
        Kind::Json => {
            if line.iter().all(u8::is_ascii_whitespace) {
                return Ok(false);
            }
            value::encode_json(line, out).map_err(|what| ("bad_input", what))?;
            if out.len() > RECORD_BYTES_MAX {
                return Err(too_large());
            }
        }
    }
    Ok(true)
}

fn too_large() -> (&'static str, String) {
    (code::TOO_LARGE, format!("the record is longer than the {RECORD_BYTES_MAX} bytes that fit one frame"))
}
