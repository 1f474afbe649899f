//! Frames echoed by children in batches: the limit of everything that sends many small messages. The parent writes what gathers, reads
//! what comes, and waits only when it can do neither.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use stokehold_protocol::{Data, FrameEvent, Message, Recipient, Splitter, begin_frame, finish_frame};

use super::{RawChild, Transport, read_some, write_all};
use crate::measure::Outcome;

/// Bytes gathered before a write.
const BATCH_BYTES: usize = 64 * 1024;
/// Unanswered messages of one child; more gained nothing.
const IN_FLIGHT: u32 = 4096;

/// How a message becomes bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Codec {
    /// Written by hand: the one of the protocol's crate.
    Hand,
    /// Derived, with rmp-serde.
    RmpSerde,
}

/// The four fields for the derived codec.
#[derive(Deserialize, Serialize)]
struct Derived<'a> {
    request: &'a str,
    sender: u32,
    recipient: Option<u32>,
    #[serde(borrow)]
    data: &'a serde_bytes::Bytes,
}

impl Codec {
    pub(crate) fn named(name: &str) -> Outcome<Self> {
        match name {
            "hand" => Ok(Self::Hand),
            "rmp-serde" => Ok(Self::RmpSerde),
            other => Err(format!("unknown codec {other:?}").into()),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hand => "hand",
            Self::RmpSerde => "rmp-serde",
        }
    }

    fn encode(self, id: u32, request: &str, data: &[u8], out: &mut Vec<u8>) -> Outcome<()> {
        match self {
            Self::Hand => {
                Message { request, sender: 1, recipient: Recipient::Anyone, data }.encode_frame(id, out);
            }
            Self::RmpSerde => {
                let start = begin_frame(out, id);
                let data = serde_bytes::Bytes::new(data);
                rmp_serde::encode::write(out, &Derived { request, sender: 1, recipient: None, data })?;
                finish_frame(out, start);
            }
        }
        Ok(())
    }

    fn decode(self, body: &[u8]) -> Outcome<&[u8]> {
        Ok(match self {
            Self::Hand => Message::decode(body)?.data,
            Self::RmpSerde => {
                let Derived { data, .. } = rmp_serde::from_slice(body)?;
                data
            }
        })
    }
}

/// Children that echo.
pub(crate) struct Batched {
    lanes: Vec<Lane>,
    codec: Codec,
}

impl Batched {
    pub(crate) fn start(children: usize, transport: Transport, codec: Codec) -> Outcome<Self> {
        let lanes = (0..children).map(|_| Lane::start(transport, codec)).collect::<Outcome<_>>()?;
        Ok(Self { lanes, codec })
    }

    /// Sends so many copies of `data`, and counts the answers.
    pub(crate) fn echo(&mut self, messages: u64, data: &Data) -> Outcome<()> {
        let (mut sent, mut answered) = (0, 0);
        while answered < messages {
            let mut moved = false;
            for lane in &mut self.lanes {
                sent += lane.fill(messages - sent, data, self.codec)?;
                moved |= lane.write()?;
                let answers = lane.read(data, self.codec)?;
                answered += u64::from(answers);
                moved |= answers > 0;
            }
            if !moved {
                self.wait_for_any()?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Outcome<()> {
        self.lanes.into_iter().try_for_each(|lane| lane.raw.finish())
    }

    fn wait_for_any(&self) -> Outcome<()> {
        let mut fds = Vec::with_capacity(self.lanes.len() * 2);
        for lane in &self.lanes {
            fds.push(PollFd::new(&lane.raw.from, PollFlags::IN));
            if let Some(to) = lane.raw.to.as_ref().filter(|_| lane.written < lane.out.len()) {
                fds.push(PollFd::new(to, PollFlags::OUT));
            }
        }
        poll(&mut fds, None)?;
        Ok(())
    }
}

/// One child.
struct Lane {
    raw: RawChild,
    splitter: Splitter,
    out: Vec<u8>,
    written: usize,
    in_flight: u32,
    last_id: u32,
}

impl Lane {
    fn start(transport: Transport, codec: Codec) -> Outcome<Self> {
        let raw = RawChild::start(&["frames", codec.name()], transport)?;
        raw.set_nonblocking()?;
        Ok(Self { raw, splitter: Splitter::new(), out: Vec::new(), written: 0, in_flight: 0, last_id: 0 })
    }

    /// Gathers up to `most` messages, if the last ones are written.
    fn fill(&mut self, most: u64, data: &Data, codec: Codec) -> Outcome<u64> {
        let mut filled = 0;
        if self.written < self.out.len() {
            return Ok(filled);
        }
        self.out.clear();
        self.written = 0;
        while filled < most && self.in_flight < IN_FLIGHT && self.out.len() < BATCH_BYTES {
            self.last_id = self.last_id.wrapping_add(1);
            codec.encode(self.last_id, "DO", data.as_bytes(), &mut self.out)?;
            self.in_flight += 1;
            filled += 1;
        }
        Ok(filled)
    }

    fn write(&mut self) -> Outcome<bool> {
        let rest = self.out.get(self.written..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(false);
        }
        let to = self.raw.to.as_ref().ok_or("the input is closed")?;
        let count = unless_blocked(rustix::io::write(to.as_fd(), rest))?;
        self.written += count;
        Ok(count > 0)
    }

    fn read(&mut self, data: &Data, codec: Codec) -> Outcome<u32> {
        let count = unless_blocked(rustix::io::read(&self.raw.from, self.splitter.space()))?;
        self.splitter.filled(count);
        let mut answers = 0;
        while let Some(FrameEvent::Frame { body, .. }) = self.splitter.next_frame()? {
            if codec.decode(body)? != data.as_bytes() {
                return Err("an echo of something else".into());
            }
            answers += 1;
        }
        self.in_flight -= answers;
        Ok(answers)
    }
}

fn unless_blocked(done: rustix::io::Result<usize>) -> Outcome<usize> {
    match done {
        Err(Errno::AGAIN) => Ok(0),
        done => Ok(done?),
    }
}

/// As a child: answers every frame, writing when the input is dry or a batch is full.
pub(super) fn echo_frames(codec: Codec) -> Outcome<()> {
    let (input, output) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let mut splitter = Splitter::new();
    let mut out = Vec::with_capacity(2 * BATCH_BYTES);
    loop {
        let count = read_some(input, splitter.space())?;
        if count == 0 {
            return Ok(());
        }
        splitter.filled(count);
        while let Some(FrameEvent::Frame { id, body }) = splitter.next_frame()? {
            codec.encode(id, "FINISHED", codec.decode(body)?, &mut out)?;
            if out.len() >= BATCH_BYTES {
                write_all(output, &out)?;
                out.clear();
            }
        }
        write_all(output, &out)?;
        out.clear();
    }
}
