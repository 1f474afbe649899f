//! The child that is played: what a part can do on the wire, good and bad. It records everything it sends and gets, and judges
//! nothing.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, getpgrp, getpid, getppid, kill_process};
use stokehold_protocol::limits::{FRAME_LEN_CEILING, MAX_FRAME_DEFAULT};
use stokehold_protocol::text::{read_line, write_lines};
use stokehold_protocol::wire::{Marker, Reader};
use stokehold_protocol::{
    Batch, ChildHello, FrameEvent, Kind, Message, ParentHello, Recipient, ResultList, Splitter, check,
};

use super::record::{Event, Got, Piece, Recorder};
use crate::conform::process::Identity;
use crate::conform::random::Random;
use crate::conform::referee::statement_of;
use crate::conform::trace::{frame, json};

mod conduct;

/// A part that hangs ends itself after this, and some time after its parent is gone, whatever the kit does.
const LIFE_MAX: Duration = Duration::from_secs(300);
const ORPHAN_MAX: Duration = Duration::from_secs(10);

/// How long the answer to a request of its own is waited for.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);

/// More bytes than any line of a parent has.
const LINE_BYTES_MAX: usize = 64 << 20;

/// What a part gives: the code to exit with.
pub(crate) type Played = io::Result<u8>;

/// A task in hand.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) id: u32,
    pub(crate) data: Vec<u8>,
    /// A BATCH: its request is inside.
    is_batch: bool,
}

impl Task {
    /// Its number: the kit's inputs have one each.
    pub(crate) fn number(&self) -> u64 {
        numbers(&self.data).first().copied().unwrap_or(0)
    }
}

/// The numbers of the tasks in the data of DO or BATCH. The key is looked for in the bytes, wherever it stands.
fn numbers(data: &[u8]) -> Vec<u64> {
    const KEY: &[u8] = b"\xa4task";
    let places = data.windows(KEY.len()).enumerate().filter(|(_, bytes)| *bytes == KEY);
    let number = |(place, _): (usize, &[u8])| {
        let rest = data.get(place + KEY.len()..).unwrap_or_default();
        match Reader::new(rest).marker() {
            Ok(Marker::Unsigned(number)) => Some(number),
            _ => None,
        }
    };
    places.filter_map(number).collect()
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Actor {
    recorder: Recorder,
    input: Option<File>,
    output: Option<File>,
    splitter: Splitter,
    /// Text mode, and what has arrived of a line.
    lines: Option<Vec<u8>>,
    random: Random,
    /// The parent's HELLO.
    pub(crate) parent: Option<ParentHello>,
    /// Ids that the parent cancelled.
    pub(crate) cancelled: Vec<u32>,
    /// Requests of its own that were answered.
    refused: Vec<u32>,
    /// Tasks that came while something else was waited for.
    waiting: VecDeque<Task>,
    /// DIE was there, or the end of input.
    over: bool,
    codecs: String,
}

impl Actor {
    /// A child on standard input and output, which takes the next number of its case.
    pub(crate) fn new(directory: &Path, case: &str, seed: u64) -> io::Result<Self> {
        let mut recorder = Recorder::create(directory)?;
        let pid = u32::try_from(getpid().as_raw_nonzero().get()).map_err(io::Error::other)?;
        let identity = Identity::of(pid).ok_or_else(|| io::Error::other("there is no /proc"))?;
        recorder.add(Event::Started(identity))?;
        if getpgrp() != getpid() {
            recorder.add(Event::SharesGroup)?;
        }
        let (input, output) =
            (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
        // The only copies, so that what is closed is closed.
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        rustix::stdio::dup2_stdout(io::stderr())?;
        let random = Random::new(seed.wrapping_add(u64::from(recorder.ordinal)), case);
        let mut splitter = Splitter::new();
        splitter.set_max_frame(FRAME_LEN_CEILING);
        thread::spawn(|| watch(getppid()));
        Ok(Self {
            recorder,
            input: Some(input.into()),
            output: Some(output.into()),
            splitter,
            lines: None,
            random,
            parent: None,
            cancelled: Vec::new(),
            refused: Vec::new(),
            waiting: VecDeque::new(),
            over: false,
            codecs: std::env::var("STOKEHOLD_CODEC").unwrap_or_default(),
        })
    }

    /// Which child of its case it is, from 1.
    pub(crate) fn ordinal(&self) -> u32 {
        self.recorder.ordinal
    }

    pub(crate) fn record(&mut self, event: Event) -> io::Result<()> {
        self.recorder.add(event)
    }

    pub(crate) fn note(&mut self, what: &str) -> io::Result<()> {
        self.record(Event::Note(what.to_owned()))
    }

    /// What comes next breaks a rule, for which the parent must end the connection.
    pub(crate) fn breaks(&mut self, statement: &str) -> io::Result<()> {
        self.record(Event::Broke(statement.to_owned()))
    }

    /// Speaks text mode from now on; false if the parent does not offer it.
    pub(crate) fn speaks_lines(&mut self) -> io::Result<bool> {
        let offered = self.codecs.split(',').any(|codec| codec == "json");
        if offered {
            self.lines = Some(Vec::new());
        } else {
            self.record(Event::Unfit("the parent does not offer json".to_owned()))?;
        }
        Ok(offered)
    }

    // What it writes.

    /// HELLO and READY.
    pub(crate) fn begin(&mut self, hello: &ChildHello) -> io::Result<()> {
        self.hello(hello)?;
        self.say(0, "READY", &json("null"))
    }

    pub(crate) fn hello(&mut self, hello: &ChildHello) -> io::Result<()> {
        let mut data = Vec::new();
        hello.encode(&mut data);
        self.say(0, "HELLO", &data)
    }

    /// A frame.
    pub(crate) fn say(&mut self, id: u32, request: &str, data: &[u8]) -> io::Result<()> {
        self.send(&frame(id, request, 0, Recipient::Anyone, data))
    }

    /// A whole frame, as bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.record(Event::Sent(Piece::new(bytes)))?;
        if self.lines.is_none() {
            return self.raw(bytes);
        }
        let mut lines = Vec::new();
        write_lines(&mut lines, bytes);
        self.raw(&lines)
    }

    /// The answer of a task as a line of its own making.
    pub(crate) fn answers_by_line(&mut self, task: &Task, line: &[u8]) -> io::Result<()> {
        let answer = frame(task.id, "FINISHED", 0, Recipient::Anyone, &task.data);
        self.record(Event::Sent(Piece::new(&answer)))?;
        self.raw(line)
    }

    /// Frames in one write.
    pub(crate) fn send_together(&mut self, frames: &[Vec<u8>]) -> io::Result<()> {
        for frame in frames {
            self.record(Event::Sent(Piece::new(frame)))?;
        }
        self.write(&frames.concat())
    }

    /// Bytes as they are, cut at a random place.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let cut = self.random.below(bytes.len());
        let (first, second) = bytes.split_at_checked(cut).unwrap_or((bytes, &[]));
        self.write(first)?;
        self.write(second)
    }

    /// Bytes one at a time, with a pause after each.
    pub(crate) fn drip(&mut self, bytes: &[u8], pause: Duration) -> io::Result<()> {
        self.record(Event::Sent(Piece::new(bytes)))?;
        for byte in bytes {
            self.write(&[*byte])?;
            thread::sleep(pause);
        }
        Ok(())
    }

    /// The same bytes again and again, until there are so many or the parent takes no more. How many it took is recorded.
    pub(crate) fn pour(&mut self, bytes: &[u8], most: u64) -> io::Result<()> {
        self.widen();
        let many = bytes.repeat((64 * 1024 / bytes.len().max(1)).max(1));
        let (mut taken, mut told) = (0, 0);
        while taken < most {
            self.write(&many)?;
            taken += many.len() as u64;
            if taken - told >= 1 << 20 {
                self.record(Event::Taken(taken))?;
                told = taken;
            }
        }
        self.record(Event::Taken(taken))
    }

    /// Makes the pipe to the parent as large as it may be, so that many bytes do not take a change of process for each 64 KiB.
    pub(crate) fn widen(&self) {
        if let Some(output) = &self.output {
            // It need not be a pipe.
            let _ = fcntl_setpipe_size(output, 1 << 20);
        }
    }

    /// What it would answer as an honest child: the input.
    pub(crate) fn finish(&mut self, task: &Task) -> io::Result<()> {
        if task.is_batch {
            return self.finish_batch(task, 0);
        }
        self.say(task.id, "FINISHED", &task.data)
    }

    /// The results of a BATCH, so many too few.
    pub(crate) fn finish_batch(&mut self, task: &Task, missing: u32) -> io::Result<()> {
        let mut data = Vec::new();
        let batch = Batch::decode(&task.data).map_err(io::Error::other)?;
        let mut items = batch.items;
        let count = items.left().saturating_sub(missing);
        let mut results = ResultList::begin(count, &mut data);
        for _ in 0..count {
            let Some(item) = items.next_value().map_err(io::Error::other)? else { break };
            results.good(&mut data, |out| {
                out.extend_from_slice(item);
                Ok::<(), io::Error>(())
            })?;
        }
        results.finish(&mut data);
        self.say(task.id, "FINISHED", &data)
    }

    /// How many inputs it has: 1, or those of a BATCH.
    pub(crate) fn inputs(task: &Task) -> u32 {
        let count = || Batch::decode(&task.data).map(|batch| batch.items.left());
        if task.is_batch { count().unwrap_or(1) } else { 1 }
    }

    pub(crate) fn fail(&mut self, task: &Task, failure: &str) -> io::Result<()> {
        self.say(task.id, "FAILED", &json(failure))
    }

    /// A request of its own, and its refusal: then the parent has read everything before it. Whether one came in time.
    pub(crate) fn ask(&mut self, id: u32) -> io::Result<bool> {
        self.say(id, "parent.ask", &json("null"))?;
        let until = Instant::now() + REFUSED_WITHIN;
        while !self.over && self.has_more(until)? {
            if let Some(task) = self.hear()? {
                self.waiting.push_back(task);
            }
            if self.refused.contains(&id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    // What it reads.

    /// The next task; none at DIE or the end of input.
    pub(crate) fn task(&mut self) -> io::Result<Option<Task>> {
        loop {
            if let Some(task) = self.waiting.pop_front() {
                return Ok(Some(task));
            }
            if self.over {
                return Ok(None);
            }
            if let Some(task) = self.hear()? {
                return Ok(Some(task));
            }
        }
    }

    /// Reads until the parent has said HELLO, or ends.
    pub(crate) fn greeted(&mut self) -> io::Result<()> {
        while self.parent.is_none() && !self.over {
            if let Some(task) = self.hear()? {
                self.waiting.push_back(task);
            }
        }
        Ok(())
    }

    /// One frame of the parent, if it is a task; others are obeyed.
    fn hear(&mut self) -> io::Result<Option<Task>> {
        let Some((id, body)) = self.next_frame()? else {
            self.over = true;
            self.record(Event::InputEnded)?;
            return Ok(None);
        };
        let Ok(message) = Message::decode(&body) else { return Ok(None) };
        match message.request {
            "HELLO" => self.parent = ParentHello::decode(message.data).ok(),
            "DIE" => self.over = true,
            "PING" => self.say(id, "PONG", message.data)?,
            "CANCEL" => self.cancelled.push(id),
            "FAILED" => self.refused.push(id),
            name if id != 0 && (Kind::of(name) == Kind::User || name == "BATCH") => {
                return Ok(Some(Task { id, data: message.data.to_vec(), is_batch: name == "BATCH" }));
            }
            _ => {}
        }
        Ok(None)
    }

    fn next_frame(&mut self) -> io::Result<Option<(u32, Vec<u8>)>> {
        if self.lines.is_some() {
            return self.next_line();
        }
        loop {
            let event = self.splitter.next_frame().map(|event| match event {
                Some(FrameEvent::Frame { id, body }) => Some((id, body.to_vec())),
                _ => None,
            });
            match event {
                Ok(None) => {}
                Ok(Some((id, body))) => {
                    self.got(id, &body, None)?;
                    return Ok(Some((id, body)));
                }
                Err(error) => {
                    self.record(Event::NoFrames(error.to_string()))?;
                    return Ok(None);
                }
            }
            let Some(mut input) = self.input.as_ref() else { return Ok(None) };
            match input.read(self.splitter.space())? {
                0 => return Ok(None),
                count => self.splitter.filled(count),
            }
        }
    }

    /// The next line, as the frame it stands for.
    fn next_line(&mut self) -> io::Result<Option<(u32, Vec<u8>)>> {
        loop {
            let arrived = self.lines.get_or_insert_default();
            if let Some(end) = arrived.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = arrived.drain(..=end).collect();
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                let mut body = Vec::new();
                match read_line(line, &mut body) {
                    Ok(id) => {
                        self.got(id, &body, Some(line))?;
                        return Ok(Some((id, body)));
                    }
                    Err(error) => {
                        self.record(Event::NoFrames(format!("{error:?} in a line")))?;
                        return Ok(None);
                    }
                }
            }
            if arrived.len() > LINE_BYTES_MAX {
                return Err(io::Error::other("a line has no end"));
            }
            let Some(mut input) = self.input.as_ref() else { return Ok(None) };
            let mut piece = [0; 16 * 1024];
            match input.read(&mut piece)? {
                0 => return Ok(None),
                count => self.lines.get_or_insert_default().extend(piece.iter().take(count)),
            }
        }
    }

    fn got(&mut self, id: u32, body: &[u8], line: Option<&[u8]>) -> io::Result<()> {
        let whole = [&stokehold_protocol::frame_header(id, body.len())[..], body].concat();
        let message = Message::decode(body).ok();
        let flaw = message.and_then(|message| check(message.data).err());
        let is_task = |message: &Message<'_>| {
            id != 0 && (Kind::of(message.request) == Kind::User || message.request == "BATCH")
        };
        let task = message.filter(is_task);
        let got = Got {
            piece: Piece::new(&whole),
            line: line.map(|line| String::from_utf8_lossy(line.get(..512).unwrap_or(line)).into_owned()),
            flaw: flaw.map(|error| (statement_of(error).to_owned(), error.to_string())),
            tasks: task.map(|message| numbers(message.data)).unwrap_or_default(),
            living: if task.is_some() { self.recorder.living() } else { Vec::new() },
        };
        self.record(Event::Got(got))
    }

    /// Listens so long, or until the parent cancels something. Tasks that come meanwhile wait.
    pub(crate) fn listen(&mut self, limit: Duration) -> io::Result<()> {
        let until = Instant::now() + limit;
        let cancelled = self.cancelled.len();
        while self.cancelled.len() == cancelled && !self.over && self.has_more(until)? {
            if let Some(task) = self.hear()? {
                self.waiting.push_back(task);
            }
        }
        Ok(())
    }

    /// The tasks that came while something else was waited for.
    pub(crate) fn take_waiting(&mut self) -> Vec<Task> {
        self.waiting.drain(..).collect()
    }

    /// Whether something has been read that was not looked at, or comes in time.
    fn has_more(&self, until: Instant) -> io::Result<bool> {
        let in_line = self.lines.as_ref().is_some_and(|arrived| arrived.contains(&b'\n'));
        let unread = self.lines.is_none() && !self.splitter.is_empty();
        Ok(in_line || unread || self.is_readable(until)?)
    }

    fn is_readable(&self, until: Instant) -> io::Result<bool> {
        let Some(input) = &self.input else { return Ok(false) };
        loop {
            let wait = until.saturating_duration_since(Instant::now());
            let time = Timespec::try_from(wait).ok();
            match poll(&mut [PollFd::new(input, PollFlags::IN)], time.as_ref()) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What the parent reads at most, by its HELLO.
    pub(crate) fn max_frame(&self) -> u32 {
        self.parent.as_ref().map_or(MAX_FRAME_DEFAULT, |parent| parent.max_frame)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.as_mut().map_or(Err(io::ErrorKind::BrokenPipe.into()), |output| output.write_all(bytes))
    }
}

/// Ends a part that was forgotten.
fn watch(parent: Option<Pid>) {
    let begun = Instant::now();
    let mut orphaned: Option<Instant> = None;
    loop {
        thread::sleep(Duration::from_millis(500));
        if getppid() != parent {
            orphaned.get_or_insert_with(Instant::now);
        }
        if begun.elapsed() > LIFE_MAX || orphaned.is_some_and(|since| since.elapsed() > ORPHAN_MAX) {
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }
}
