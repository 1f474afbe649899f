//! What a played child saw and did, in a file of its own: a line of JSON for each event, written before the next thing happens, so
//! that it is there however the child ends.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use stokehold_protocol::Message;

use crate::conform::process::Identity;

/// Bytes kept of a frame. Enough for every HELLO, and to tell tasks apart.
const KEPT_BYTES: usize = 4096;

/// More children than any case starts; one that is started beyond is not recorded, and ends at once.
const CHILDREN_MAX: u32 = 10_000;

/// One event, and when it was: microseconds of a clock that all processes share.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Entry {
    pub(crate) at: u64,
    pub(crate) event: Event,
}

/// What happened.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) enum Event {
    /// The child is there.
    Started(Identity),
    /// It is about to write a frame.
    Sent(Piece),
    /// It has read a frame.
    Got(Got),
    /// What is left of the parent's stream is none: why.
    NoFrames(String),
    /// It is about to break a rule for which the parent must end the connection, by this statement.
    Broke(String),
    /// It is about to close its output, or to end.
    Left,
    /// The parent has closed its end.
    InputEnded,
    /// So many bytes of a stream that is no protocol were taken from it.
    Taken(u64),
    /// It is in a process group that it does not lead.
    SharesGroup,
    /// It has started another process.
    Spawned(Identity),
    /// The parent lacks what the case needs: it is skipped.
    Unfit(String),
    /// Anything else to know.
    Note(String),
}

/// A frame that was read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Got {
    pub(crate) piece: Piece,
    /// The line it came as, in text mode.
    pub(crate) line: Option<String>,
    /// What is wrong with its data: the statement, and words.
    pub(crate) flaw: Option<(String, String)>,
    /// The numbers of the tasks in it: one, or those of a BATCH.
    pub(crate) tasks: Vec<u64>,
    /// The other children that lived when it was read.
    pub(crate) living: Vec<u32>,
}

impl Got {
    /// The id of its frame.
    pub(crate) fn id(&self) -> u32 {
        parse(&self.piece.bytes()).map_or(0, |(id, _)| id)
    }
}

/// Id and message of a frame, or of its beginning.
pub(crate) fn parse(bytes: &[u8]) -> Option<(u32, Message<'_>)> {
    let (_, rest) = bytes.split_first_chunk::<4>()?;
    let (id, body) = rest.split_first_chunk::<4>()?;
    Message::decode(body).ok().map(|message| (u32::from_be_bytes(*id), message))
}

/// The beginning of a frame, and how long it is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Piece {
    bytes: String,
    pub(crate) whole: usize,
}

impl Piece {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let kept = bytes.get(..KEPT_BYTES).unwrap_or(bytes);
        Self { bytes: kept.iter().map(|byte| format!("{byte:02x}")).collect(), whole: bytes.len() }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.whole <= KEPT_BYTES
    }

    /// The id of a final answer.
    pub(crate) fn answers(&self) -> Option<u32> {
        let bytes = self.bytes();
        let is_final = |message: &Message<'_>| matches!(message.request, "FINISHED" | "FAILED");
        parse(&bytes).filter(|(_, message)| is_final(message)).map(|(id, _)| id)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let digits = self.bytes.as_bytes().chunks(2);
        let byte =
            |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        digits.filter_map(byte).collect()
    }
}

/// The record of a child, being written.
#[derive(Debug)]
pub(crate) struct Recorder {
    file: File,
    directory: PathBuf,
    /// Which child of the case it is, from 1.
    pub(crate) ordinal: u32,
}

impl Recorder {
    /// Takes the next number in the directory.
    pub(crate) fn create(directory: &Path) -> io::Result<Self> {
        for ordinal in 1..=CHILDREN_MAX {
            match File::options().create_new(true).append(true).open(path(directory, ordinal)) {
                Ok(file) => return Ok(Self { file, directory: directory.to_owned(), ordinal }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("too many children"))
    }

    pub(crate) fn add(&mut self, event: Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Entry { at: now(), event })?;
        line.push(b'\n');
        self.file.write_all(&line)
    }

    /// The children of this case that live, this one not counted.
    pub(crate) fn living(&self) -> Vec<u32> {
        let others = (1..CHILDREN_MAX).take_while(|ordinal| path(&self.directory, *ordinal).exists());
        let lives = |ordinal: &u32| {
            let mut line = String::new();
            let file = File::open(path(&self.directory, *ordinal)).map(BufReader::new);
            let read = file.and_then(|mut file| file.read_line(&mut line));
            let first = read.ok().and_then(|_| serde_json::from_str::<Entry>(&line).ok());
            matches!(first, Some(Entry { event: Event::Started(identity), .. }) if identity.is_alive())
        };
        others.filter(|ordinal| *ordinal != self.ordinal).filter(lives).collect()
    }
}

/// The record of a child, as it was left.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) ordinal: u32,
    pub(crate) entries: Vec<Entry>,
}

impl Record {
    /// Those of all children, in their order. A line that is not whole is none: its writer was killed.
    pub(crate) fn read_all(directory: &Path) -> Vec<Self> {
        let texts = (1..CHILDREN_MAX).map_while(|ordinal| {
            fs::read(path(directory, ordinal))
                .ok()
                .map(|bytes| (ordinal, String::from_utf8_lossy(&bytes).into_owned()))
        });
        let entries = |text: &str| text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        texts.map(|(ordinal, text)| Self { ordinal, entries: entries(&text) }).collect()
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.entries.iter().map(|entry| &entry.event)
    }

    /// The processes it tells of: the child, and what it started.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (Identity, bool)> {
        self.events().filter_map(|event| match event {
            Event::Started(identity) => Some((*identity, true)),
            Event::Spawned(identity) => Some((*identity, false)),
            _ => None,
        })
    }
}

fn path(directory: &Path, ordinal: u32) -> PathBuf {
    directory.join(format!("{ordinal}.jsonl"))
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000)
}
