//! What went over the wire in a case, kept so that a failure can be shown: frames as bytes and as messages, lines as they are.

use std::fmt::Write;

use stokehold_protocol::{Codec, Message, Recipient, wire};

use crate::console::escaped;
use crate::value;

/// Bytes kept of a frame, or of a piece of bytes.
const KEPT_BYTES: usize = 256;

/// Entries kept from the beginning, and from the end.
const KEPT_FIRST: usize = 16;
const KEPT_LAST: usize = 48;

/// Characters shown of a message.
const SHOWN_CHARS: usize = 200;

/// Bytes shown in hexadecimal.
const SHOWN_BYTES: usize = 48;

#[derive(Clone, Debug)]
enum Entry {
    /// From the kit to the child.
    Sent(Piece),
    /// From the child to the kit.
    Received(Piece),
    /// Anything else that happened.
    Note(String),
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
    last: std::collections::VecDeque<Entry>,
    left_out: usize,
}

impl Trace {
    /// Bytes for the child: usually one message.
    pub(crate) fn sent(&mut self, bytes: &[u8], codec: Codec) {
        self.add(Entry::Sent(Piece::new(bytes, codec)));
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
        if self.first.len() < KEPT_FIRST {
            return self.first.push(entry);
        }
        if self.last.len() == KEPT_LAST {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back(entry);
    }

    /// Lines for people: an arrow, the bytes, and what they mean.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in &self.first {
            show(entry, &mut lines);
        }
        if self.left_out > 0 {
            lines.push(format!("  ({} more)", self.left_out));
        }
        for entry in &self.last {
            show(entry, &mut lines);
        }
        lines
    }
}

fn show(entry: &Entry, lines: &mut Vec<String>) {
    let (arrow, piece) = match entry {
        Entry::Sent(piece) => ('→', piece),
        Entry::Received(piece) => ('←', piece),
        Entry::Note(what) => return lines.push(format!("  · {}", escaped(what))),
    };
    if piece.codec == Codec::Json {
        return lines.push(format!("  {arrow} {}", line(&piece.bytes, piece.whole)));
    }
    lines.push(format!("  {arrow} {}", hex(&piece.bytes, piece.whole)));
    lines.push(format!("      {}", meaning(&piece.bytes, piece.whole)));
}

/// What stands in a line, its end too if it is not LF.
fn line(bytes: &[u8], whole: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let beginning: String = text.chars().take(SHOWN_CHARS).collect();
    let is_cut = beginning.len() < text.len() || whole > bytes.len();
    let rest = if is_cut { format!(" … {whole} bytes") } else { String::new() };
    format!("{}{rest}", escaped(&beginning))
}

fn hex(bytes: &[u8], whole: usize) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().take(SHOWN_BYTES).enumerate() {
        // The header stands apart, as in the specification.
        let gap = match index {
            0 => "",
            4 | 8 => "  ",
            _ => " ",
        };
        let _ = write!(text, "{gap}{byte:02x}");
    }
    if whole > SHOWN_BYTES {
        let _ = write!(text, " … {whole} bytes");
    }
    text
}

/// A frame as `id 7 ["DO", 1234, nil, …]`, or what else the bytes are.
pub(crate) fn meaning(bytes: &[u8], whole: usize) -> String {
    let Some((len, rest)) = bytes.split_first_chunk::<4>() else {
        return format!("{whole} bytes, no header");
    };
    let Some((id, body)) = rest.split_first_chunk::<4>() else {
        return format!("{whole} bytes, no header");
    };
    let (len, id) = (u32::from_be_bytes(*len), u32::from_be_bytes(*id));
    if !(5..=0x07ff_ffff).contains(&len) {
        return format!("no frame: {}", escaped(&String::from_utf8_lossy(bytes)));
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
    let data: String = String::from_utf8_lossy(&data).chars().take(SHOWN_CHARS).collect();
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
