//! The test vectors, frames and lines: read for the cases, and printed for readers in any language. The scripts of sessions are
//! given out too.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;
use stokehold_protocol::vectors::{FRAMES, SESSIONS};
use stokehold_protocol::{FrameEvent, Message, Splitter};

use super::digits;
use super::notation::{self, Names};
use super::report;
use crate::console;
use crate::exit::Exit;

/// Prints the test vectors
///
/// As they are (`protocol/vectors/README.md` describes them), or as a table for readers without JSON. It has the scripts of
/// sessions too.
#[derive(Debug, Args)]
pub(crate) struct VectorsArgs {
    /// As lines of eight fields between tabs: id, verdict, stage, carrier (`frames` or `text`), bytes in hexadecimal with their
    /// runs expanded, the message as JSON, the statement, and what a writer makes of its data, in hexadecimal
    #[arg(long)]
    tsv: bool,

    /// Writes the scripts of sessions into this directory instead, a file each
    #[arg(long, value_name = "DIR", conflicts_with = "tsv")]
    sessions: Option<PathBuf>,
}

/// Prints them.
pub(crate) fn run(args: &VectorsArgs) -> Exit {
    if let Some(directory) = &args.sessions {
        return write_sessions(directory);
    }
    if !args.tsv {
        return if report::print(FRAMES) { Exit::Success } else { Exit::SomeFailed };
    }
    let vectors = match all() {
        Ok(vectors) => vectors,
        Err(error) => {
            console::line(format_args!("error: the test vectors: {error}"));
            return Exit::SomeFailed;
        }
    };
    // One line at a time: a few of them are 32 MiB long.
    for vector in vectors {
        let bytes = vector.bytes();
        let carrier = if vector.is_line { "text" } else { "frames" };
        let mut line = format!("{}\t{}\t{}\t{carrier}\t", vector.id, vector.verdict, vector.stage);
        write_hex(&bytes, &mut line);
        let message = vector.message.as_ref().map(Value::to_string).unwrap_or_default();
        let _ = write!(line, "\t{message}\t{}\t", vector.spec);
        match vector.shortest() {
            Ok(data) => write_hex(&data, &mut line),
            Err(error) => {
                console::line(format_args!("error: the test vector {}: {error}", vector.id));
                return Exit::SomeFailed;
            }
        }
        line.push('\n');
        if !report::print(&line) {
            return Exit::SomeFailed;
        }
    }
    Exit::Success
}

fn write_hex(bytes: &[u8], line: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    line.reserve(bytes.len() * 2);
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().map_or('0', char::from);
    for byte in bytes {
        line.extend([digit(byte >> 4), digit(byte & 15)]);
    }
}

fn write_sessions(directory: &Path) -> Exit {
    let write = |(name, text): &(&str, &str)| fs::write(directory.join(format!("{name}.jsonl")), text);
    match fs::create_dir_all(directory).and_then(|()| SESSIONS.iter().try_for_each(write)) {
        Ok(()) => Exit::Success,
        Err(error) => {
            console::line(format_args!("error: cannot write to {}: {error}", directory.display()));
            Exit::SomeFailed
        }
    }
}

/// One vector.
#[derive(Clone, Debug)]
pub(crate) struct Vector {
    pub(crate) id: String,
    pub(crate) verdict: String,
    pub(crate) stage: String,
    /// It is a line of text mode, and no frame.
    pub(crate) is_line: bool,
    /// A child need not read it.
    pub(crate) for_parents: bool,
    /// MessagePack, or JSON, allows what this protocol does not.
    pub(crate) stricter: bool,
    pub(crate) task: u32,
    pub(crate) message: Option<Value>,
    pub(crate) error: String,
    pub(crate) why: String,
    pub(crate) spec: String,
    pieces: Vec<(Vec<u8>, usize)>,
}

impl Vector {
    /// The stream, its runs expanded.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|(piece, count)| piece.repeat(*count)).collect()
    }

    /// The data of its message in the shortest forms; nothing if there is no message.
    fn shortest(&self) -> Result<Vec<u8>, String> {
        let mut data = Vec::new();
        if let Some(notation) = self.message.as_ref().and_then(|fields| fields.get(3)) {
            // No vector has names: they are for sessions.
            notation::encode(notation, Names { child: 0, parent: 0 }, &mut data)?;
        }
        Ok(data)
    }

    /// The data of its message, as MessagePack; empty if there is none.
    pub(crate) fn data(&self) -> Vec<u8> {
        let mut splitter = if self.is_line { Splitter::lines() } else { Splitter::new() };
        splitter.feed(&self.bytes());
        let Ok(Some(FrameEvent::Frame { body, .. })) = splitter.next_frame() else { return Vec::new() };
        Message::decode(body).map(|message| message.data.to_vec()).unwrap_or_default()
    }

    /// The request's name, where there is a message.
    pub(crate) fn request(&self) -> &str {
        self.message.as_ref().and_then(|fields| fields.get(0)).and_then(Value::as_str).unwrap_or_default()
    }

    fn parse(line: &str) -> Result<Self, String> {
        let fields: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |key: &str| fields.get(key).and_then(Value::as_u64);
        Ok(Self {
            id: text("id"),
            verdict: text("verdict"),
            stage: text("stage"),
            is_line: text("carrier") == "text",
            for_parents: text("reader") == "parent",
            stricter: fields.get("stricter") == Some(&Value::Bool(true)),
            task: number("task").and_then(|id| u32::try_from(id).ok()).unwrap_or(0),
            message: fields.get("msg").cloned(),
            error: text("error"),
            why: text("why"),
            spec: text("spec"),
            pieces: digits::pieces(fields.get("bytes").ok_or("a vector has no bytes")?)?,
        })
    }
}

/// All of them, in the order of the file.
pub(crate) fn all() -> Result<Vec<Vector>, String> {
    FRAMES.lines().skip(1).map(Vector::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vector_is_read() {
        let vectors = all().unwrap();
        let header: Value = serde_json::from_str(FRAMES.lines().next().unwrap()).unwrap();
        assert_eq!(Some(vectors.len() as u64), header["count"].as_u64());
        assert!(vectors.iter().all(|vector| !vector.bytes().is_empty() && !vector.spec.is_empty()));
    }

    #[test]
    fn canonical_vectors_end_with_the_shortest_form_of_their_data() {
        let mut canonical = 0;
        for (vector, line) in all().unwrap().iter().zip(FRAMES.lines().skip(1)) {
            let shortest = vector.shortest().unwrap();
            assert_eq!(shortest.is_empty(), vector.message.is_none(), "{}", vector.id);
            if line.contains(r#""canonical":true"#) {
                canonical += 1;
                // What a line says is data in its shortest form when it was read.
                let is_same = if vector.is_line {
                    vector.data() == shortest
                } else {
                    vector.bytes().ends_with(&shortest)
                };
                assert!(is_same, "{}", vector.id);
            }
        }
        assert!(canonical > 100, "{canonical}");
    }
}
