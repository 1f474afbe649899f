//! The streams that group D plays and judges by: a recorded session with what a parent makes of it, the vectors that all
//! readers share, what the fuzzer found. Starts no process.

use std::fs;
use std::path::{Path, PathBuf};

use stokehold_protocol::limits::MAX_FRAME_DEFAULT;
use stokehold_protocol::{
    Capabilities, ChildHello, FrameEvent, Message, ParentEvent, ParentHello, ParentSession, Recipient,
    Splitter,
};

/// What a parent took from a stream.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Replay {
    /// Each answer with its ticket; the data, or the code of the failure.
    pub(super) answered: Vec<(u32, Vec<u8>)>,
    /// A rule was broken, or the stream ends inside a frame.
    pub(super) broke: bool,
    /// What was neither.
    pub(super) told: usize,
}

/// A greeting, an answer of each kind, and all that a worker may say meanwhile; and the ids of its tasks.
pub(super) fn recorded_session() -> (Vec<u8>, [u32; 4]) {
    let mut hello = Vec::new();
    ChildHello { window: 8, serial: true, ..ChildHello::default() }.encode(&mut hello);
    let failed = b"\x83\xa4code\xa6acme.x\xa7message\xa3why\xa5retry\xc3";
    let frames: [(&str, u32, &[u8]); 12] = [
        ("HELLO", 0, &hello),
        ("READY", 0, b"\x81\xa6window\x08"),
        ("STARTED", 1, b"\xc0"),
        ("PROGRESS", 1, b"\x82\xa4done\x01\xa5total\x02"),
        ("FINISHED", 1, b"\x81\xa5value\x14"),
        ("ITEM", 2, b"\x93\x01\x02\x03"),
        ("LOG", 2, b"\x82\xa5level\xa4info\xa3msg\xa2hi"),
        ("FINISHED", 2, b"\xa5value"),
        ("CREDIT", 0, b"\x81\xa6serial\xc2"),
        ("FAILED", 3, failed),
        ("FINISHED", 4, b"\xc4\x04\x00\x01\x02\x03"),
        ("BYE", 0, b"\x81\xa4done\x04"),
    ];
    (frames.iter().flat_map(|(request, id, data)| framed(request, *id, data)).collect(), [1, 2, 3, 4])
}

/// Gives a stream to a parent's half of a session in pieces of that size. It has tasks open as soon as it may.
pub(super) fn replay(stream: &[u8], ids: &[u32], piece: usize) -> Replay {
    let mut splitter = Splitter::new();
    let mut session: ParentSession<u32> = ParentSession::new(ParentHello {
        version: 1,
        pid: 7,
        parent: 3,
        capabilities: Capabilities::NONE,
        max_frame: MAX_FRAME_DEFAULT,
        spin: true,
    });
    let mut replay = Replay { answered: Vec::new(), broke: false, told: 0 };
    for piece in stream.chunks(piece) {
        splitter.feed(piece);
        loop {
            let event = match splitter.next_frame() {
                Ok(Some(FrameEvent::Frame { id, body })) => session.handle_frame(id, body),
                Ok(Some(FrameEvent::TooLarge { id, head, .. })) => {
                    replay.broke |= session.handle_too_large(id, head).is_err();
                    continue;
                }
                Ok(Some(FrameEvent::BadLine { .. } | FrameEvent::BadData { .. })) => unreachable!("no lines"),
                Ok(None) => break,
                Err(_) => {
                    replay.broke = true;
                    return replay;
                }
            };
            match event {
                Ok(ParentEvent::Finished { ticket, data }) => replay.answered.push((ticket, data.to_vec())),
                Ok(ParentEvent::Failed { ticket, failure }) => {
                    replay.answered.push((ticket, failure.code.into_bytes()))
                }
                Ok(_) => replay.told += 1,
                Err(_) => {
                    replay.broke = true;
                    return replay;
                }
            }
            while session.is_open() && replay.answered.is_empty() && session.open_count() < ids.len() as u32 {
                if session.begin(session.open_count() + 1).is_err() {
                    break;
                }
            }
            splitter.set_max_frame(session.max_frame());
        }
    }
    replay.broke |= splitter.finish().is_err();
    replay
}

/// A vector that a reader must refuse.
#[derive(Debug)]
pub(super) struct Vector {
    pub(super) id: String,
    pub(super) stage: String,
    pub(super) bytes: String,
}

impl Vector {
    /// The data of its message.
    pub(super) fn data(&self) -> String {
        let bytes = unhex(&self.bytes);
        let data = Message::decode(&bytes[8..]).map(|message| hex(message.data));
        data.unwrap_or_else(|error| panic!("{} has no good head: {error}", self.id))
    }
}

/// Those of the shared vectors that are frames, short enough to stand on one line as digits.
pub(super) fn refused_vectors() -> Vec<Vector> {
    let path = root().join("protocol/vectors/frames.jsonl");
    let text = fs::read_to_string(path).unwrap();
    let value = |line: &str, key: &str| -> Option<String> {
        let rest = line.split_once(&format!("\"{key}\":\""))?.1;
        Some(rest.split('"').next()?.to_owned())
    };
    let vector = |line: &str| {
        let is_frame = value(line, "carrier").is_none();
        let is_refused = is_frame && value(line, "verdict")? == "reject" && line.contains("\"task\":");
        let stage = value(line, "stage").filter(|stage| is_refused && stage != "frame")?;
        Some(Vector { id: value(line, "id")?, stage, bytes: value(line, "bytes")? })
    };
    text.lines().filter_map(vector).collect()
}

/// The files that the fuzz target of that name has found, in a fixed order.
pub(super) fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = root().join("protocol/fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub(super) fn framed(request: &str, id: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Message { request, sender: 0, recipient: Recipient::Anyone, data }.encode_frame(id, &mut bytes);
    bytes
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
