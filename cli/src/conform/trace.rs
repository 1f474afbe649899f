//! What went over the wire in a case, kept so that a failure can be shown: frames as bytes and as messages, lines as they are.

use std::collections::VecDeque;
use std::fmt::Write;
use std::ops::RangeInclusive;

use stokehold_protocol::{Codec, Message, Recipient, wire};

use crate::console::escaped;
use crate::value;

/// Bytes kept of a frame, or of a piece of bytes.
const KEPT_BYTES: usize = 4096;

/// Bytes kept of all together. Above them the oldest are left out, but for the first.
const KEPT_IN_ALL: usize = 8 * 1024 * 1024;

/// Bytes that an entry takes besides its own.
const ENTRY_BYTES: usize = 64;

/// Entries shown in a report from the beginning, and from the end.
const SHOWN_FIRST: usize = 16;
const SHOWN_LAST: usize = 48;

/// How much is shown of an entry.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// Characters of a message.
    chars: usize,
    /// Bytes in hexadecimal.
    bytes: usize,
}

/// In a report.
const BRIEF: Extent = Extent { chars: 200, bytes: 48 };

/// In a file: all that is kept.
const WHOLE: Extent = Extent { chars: usize::MAX, bytes: KEPT_BYTES };

/// The lengths that frames have.
const LENGTHS: RangeInclusive<u32> = 5..=0x07ff_ffff;

#[derive(Clone, Debug)]
enum Entry {
    /// From the kit to the child.
    Sent(Piece),
    /// From the child to the kit.
    Received(Piece),
    /// Anything else that happened.
    Note(String),
}

impl Entry {
    fn kept(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Self::Sent(piece) | Self::Received(piece) => piece.bytes.len(),
                Self::Note(what) => what.len(),
            }
    }
}

#[derive(Clone, Debug)]
struct Piece {
    bytes: Vec<u8>,
    whole: usize,
    codec: Codec,
}

impl Piece {
    fn new(bytes: &[u8], codec: Codec) -> Self {
        Self { bytes: bytes.get(..KEPT_BYTES).unwrap_or(bytes).to_vec(), whole: bytes.len(), codec }
    }
}

/// The record of a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    first: Vec<Entry>,
    last: VecDeque<Entry>,
    /// What is kept of `last` together.
    bytes: usize,
    left_out: usize,
}

impl Trace {
    /// Bytes for the child: messages, or parts of them.
    pub(crate) fn sent(&mut self, mut bytes: &[u8], codec: Codec) {
        loop {
            let (message, rest) = bytes.split_at(message_len(bytes, codec));
            self.add(Entry::Sent(Piece::new(message, codec)));
            if rest.is_empty() {
                return;
            }
            bytes = rest;
        }
    }

    /// The beginning of a frame that was sent, which has so many bytes.
    pub(crate) fn sent_of(&mut self, beginning: &[u8], whole: usize) {
        self.add(Entry::Sent(Piece { whole, ..Piece::new(beginning, Codec::MessagePack) }));
    }

    /// The beginning of a frame of the peer, which has so many bytes.
    pub(crate) fn received_of(&mut self, beginning: &[u8], whole: usize) {
        self.add(Entry::Received(Piece { whole, ..Piece::new(beginning, Codec::MessagePack) }));
    }

    /// A message of the child.
    pub(crate) fn received(&mut self, bytes: &[u8], codec: Codec) {
        self.add(Entry::Received(Piece::new(bytes, codec)));
    }

    pub(crate) fn note(&mut self, what: impl Into<String>) {
        self.add(Entry::Note(what.into()));
    }

    fn add(&mut self, entry: Entry) {
        if self.first.len() < SHOWN_FIRST {
            return self.first.push(entry);
        }
        self.bytes += entry.kept();
        self.last.push_back(entry);
        while self.bytes > KEPT_IN_ALL
            && let Some(oldest) = self.last.pop_front()
        {
            self.bytes -= oldest.kept();
            self.left_out += 1;
        }
    }

    /// Lines for a report: an arrow, the bytes, and what they mean.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.shown(SHOWN_LAST, BRIEF).collect()
    }

    /// The same of everything that is kept, at its whole length.
    pub(crate) fn whole(&self) -> impl Iterator<Item = String> {
        self.shown(usize::MAX, WHOLE)
    }

    fn shown(&self, last: usize, extent: Extent) -> impl Iterator<Item = String> {
        let passed_over = self.last.len().saturating_sub(last);
        let left_out = self.left_out + passed_over;
        let gap = (left_out > 0).then(|| vec![format!("  ({left_out} more)")]);
        let show = move |entry| show(entry, extent);
        let first = self.first.iter().map(show);
        first.chain(gap).chain(self.last.iter().skip(passed_over).map(show)).flatten()
    }
}

/// How many of the bytes are the first message, all if it is not whole.
fn message_len(bytes: &[u8], codec: Codec) -> usize {
    let len = match codec {
        Codec::Json => bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1),
        Codec::MessagePack => bytes.first_chunk::<4>().map(|len| u32::from_be_bytes(*len)).and_then(|len| {
            LENGTHS.contains(&len).then(|| usize::try_from(len).ok()?.checked_add(4)).flatten()
        }),
    };
    len.filter(|len| *len <= bytes.len()).unwrap_or(bytes.len())
}

fn show(entry: &Entry, extent: Extent) -> Vec<String> {
    let (arrow, piece) = match entry {
        Entry::Sent(piece) => ('→', piece),
        Entry::Received(piece) => ('←', piece),
        Entry::Note(what) => return vec![format!("  · {}", escaped(what))],
    };
    if piece.codec == Codec::Json {
        return vec![format!("  {arrow} {}", line(&piece.bytes, piece.whole, extent))];
    }
    vec![
        format!("  {arrow} {}", hex(&piece.bytes, piece.whole, extent)),
        format!("      {}", meaning_within(&piece.bytes, piece.whole, extent)),
    ]
}

/// What stands in a line, its end too if it is not LF.
fn line(bytes: &[u8], whole: usize, extent: Extent) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let beginning: String = text.chars().take(extent.chars).collect();
    let is_cut = beginning.len() < text.len() || whole > bytes.len();
    let rest = if is_cut { format!(" … {whole} bytes") } else { String::new() };
    format!("{}{rest}", escaped(&beginning))
}

fn hex(bytes: &[u8], whole: usize, extent: Extent) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().take(extent.bytes).enumerate() {
        // The header stands apart, as in the specification.
        let gap = match index {
            0 => "",
            4 | 8 => "  ",
            _ => " ",
        };
        let _ = write!(text, "{gap}{byte:02x}");
    }
    if whole > extent.bytes {
        let _ = write!(text, " … {whole} bytes");
    }
    text
}

/// A frame as `id 7 ["DO", 1234, nil, …]`, or what else the bytes are.
pub(crate) fn meaning(bytes: &[u8], whole: usize) -> String {
    meaning_within(bytes, whole, BRIEF)
}

fn meaning_within(bytes: &[u8], whole: usize, extent: Extent) -> String {
    let Some((len, rest)) = bytes.split_first_chunk::<4>() else {
        return format!("{whole} bytes, no header");
    };
    let Some((id, body)) = rest.split_first_chunk::<4>() else {
        return format!("{whole} bytes, no header");
    };
    let (len, id) = (u32::from_be_bytes(*len), u32::from_be_bytes(*id));
    if !LENGTHS.contains(&len) {
        let text: String = String::from_utf8_lossy(bytes).chars().take(extent.chars).collect();
        return format!("no frame: {}", escaped(&text));
    }
    let Ok(message) = Message::decode(body) else {
        return format!("len {len}, id {id}, no message");
    };
    let recipient = match message.recipient {
        Recipient::Anyone => "nil".to_owned(),
        Recipient::Everyone => "-1".to_owned(),
        Recipient::Process(pid) => pid.to_string(),
    };
    let mut data = Vec::new();
    if value::write_json(message.data, &mut data).is_err() {
        let what = if whole > bytes.len() { "…" } else { "(no value)" };
        data = what.as_bytes().to_vec();
    }
    let data: String = String::from_utf8_lossy(&data).chars().take(extent.chars).collect();
    format!("id {id} [{:?},{},{recipient},{}]", message.request, message.sender, escaped(&data))
}

/// A frame as the kit writes it.
pub(crate) fn frame(id: u32, request: &str, sender: u64, recipient: Recipient, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Message { request, sender, recipient, data }.encode_frame(id, &mut out);
    out
}

/// The data that a JSON text of the kit's own stands for; nil if it is none, which a test of every case would show.
pub(crate) fn json(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if value::encode_json(text.as_bytes(), &mut out).is_err() {
        wire::write_nil(&mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_are_written_at_once_are_told_apart_and_a_part_of_one_stays_one() {
        let one = |id| frame(id, "DO", 0, Recipient::Anyone, b"\x01");
        let mut trace = Trace::default();
        let (both, part) = ([one(1), one(2)].concat(), &one(3)[..9]);
        trace.sent(&[&both, part].concat(), Codec::MessagePack);
        trace.sent(b"1 [\"A\",0,null,1]\n2 [\"B\",0,null,1]\n", Codec::Json);
        let lines = trace.lines();
        let arrows = lines.iter().filter(|line| line.contains('→')).count();
        assert_eq!(arrows, 5, "{lines:#?}");
        assert!(lines[1].contains("id 1 [\"DO\"") && lines[3].contains("id 2 [\"DO\""), "{lines:#?}");
        assert!(lines[7].contains("2 [\"B\""), "{lines:#?}");
    }

    #[test]
    fn a_report_shows_the_ends_of_a_long_trace_and_a_file_everything_whole() {
        let mut trace = Trace::default();
        let name = "x".repeat(255);
        for id in 0..300 {
            trace.sent(&frame(id, &name, 5, Recipient::Anyone, b"\xc0"), Codec::MessagePack);
        }
        let (lines, whole): (_, Vec<_>) = (trace.lines(), trace.whole().collect());
        assert_eq!((lines.len(), whole.len()), (2 * 64 + 1, 600));
        assert!(lines.iter().any(|line| line == "  (236 more)"));
        assert!(!whole.iter().any(|line| line.contains("more)") || line.contains('…')));
        assert!(lines[1].contains(&format!("id 0 [\"{name}\",5,nil,null]")), "{}", lines[1]);
    }

    #[test]
    fn what_is_kept_has_an_end() {
        let mut trace = Trace::default();
        for _ in 0..5000 {
            trace.sent(&frame(1, "DO", 0, Recipient::Anyone, &[0xc0; 9000]), Codec::MessagePack);
        }
        assert!(trace.bytes <= KEPT_IN_ALL && trace.left_out > 2000, "{}", trace.left_out);
    }
}
