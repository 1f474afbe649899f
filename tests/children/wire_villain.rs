//! A worker that does on the wire whatever the text of its task says, once for each text; the second time it answers with the
//! text, as a good worker does. It keeps no rule of the protocol by itself, and judges nothing.
//!
//! `wire_villain [split] [flip=BIT] [start=SCRIPT]`. A script is steps with `;` between them. `split` writes every byte by
//! itself, `flip` turns one bit of all that it writes, and `start` is what it does in place of a good start. A script that
//! begins with `always` is followed each time. The task's name is what stands before the first `:` of its text.
//!
//! In bytes written as hexadecimal digits `*COUNT` repeats the last one: `91*100000`.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use signal_hook::consts::SIGTERM;
use stokehold_protocol::{
    ChildHello, FrameEvent, Message, Recipient, Splitter, data, frame_header, write_head,
};
use stokehold_tests::{effect, first_time, note, park_until_end_of_input, wait_for_file};

/// HELLO and READY.
const GOOD_START: &str = "greet 1";

/// Bytes of a flood that go out in one write.
const FLOOD_BYTES: usize = 64 * 1024;

fn main() -> io::Result<()> {
    let mut start = GOOD_START.to_owned();
    let mut villain = Villain { input: Splitter::new(), split: false, flip: None, written: 0, over: false };
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("start", script)) => start = script.to_owned(),
            Some(("flip", bit)) => villain.flip = Some(number(bit)?),
            _ => villain.split = argument == "split",
        }
    }
    if let Some(bit) = villain.flip
        && !first_time(&format!("flip {bit}"))?
    {
        villain.flip = None;
    }
    let is_always = ["always", "greet"].iter().any(|word| start.starts_with(word));
    let script = if is_always || first_time("start")? { start.as_str() } else { GOOD_START };
    villain.follow(script, &Job { id: 0, data: b"\xc0".to_vec() })?;
    while !villain.over
        && let Some(job) = villain.next_job()?
    {
        villain.work(&job)?;
    }
    Ok(())
}

/// A task as it came.
#[derive(Debug)]
struct Job {
    id: u32,
    data: Vec<u8>,
}

#[derive(Debug)]
struct Villain {
    input: Splitter,
    split: bool,
    flip: Option<u64>,
    written: u64,
    over: bool,
}

impl Villain {
    fn work(&mut self, job: &Job) -> io::Result<()> {
        let text: String = data::decode(&job.data).map_err(io::Error::other)?;
        let (name, script) = text.split_once(':').unwrap_or((&text, "answer"));
        let attempt = begin(name)?;
        if attempt == 1 || script.trim_start().starts_with("always") {
            return self.follow(script, job);
        }
        self.follow("answer", job)
    }

    fn follow(&mut self, script: &str, job: &Job) -> io::Result<()> {
        for step in script.split(';') {
            let words: Vec<&str> = step.split_whitespace().filter(|word| *word != "always").collect();
            match words[..] {
                [] => {}
                [verb] => self.act(verb, job)?,
                [verb, argument] => self.act_with(verb, argument, job)?,
                [verb, first, ref rest @ ..] => self.act_at_length(verb, first, rest, job)?,
            }
        }
        Ok(())
    }

    fn act(&mut self, verb: &str, job: &Job) -> io::Result<()> {
        match verb {
            "answer" => self.write(&frame("FINISHED", job.id, &job.data, (0, None))),
            "park" => {
                self.over = true;
                park_until_end_of_input()
            }
            // Reads nothing more.
            "sleep" => wait_for_file("never"),
            "close_output" => {
                rustix::stdio::dup2_stdout(std::fs::File::open("/dev/null")?)?;
                Ok(())
            }
            "ignore_term" => {
                let noticed = Arc::new(AtomicBool::new(false));
                signal_hook::flag::register(SIGTERM, Arc::clone(&noticed)).map(|_| ())
            }
            unknown => Err(io::Error::other(format!("no step is called {unknown}"))),
        }
    }

    fn act_with(&mut self, verb: &str, argument: &str, job: &Job) -> io::Result<()> {
        let answer = || frame("FINISHED", job.id, &job.data, (0, None));
        match verb {
            "greet" => self.greet(argument),
            "raw" => self.write(&bytes(argument)?),
            "file" => self.write(&std::fs::read(argument)?),
            "body" => self.write(&framed(job.id, &bytes(argument)?)),
            "body_of" => self.write(&framed(job.id, &std::fs::read(argument)?)),
            "data" => self.write(&frame("FINISHED", job.id, &bytes(argument)?, (0, None))),
            "cut" => self.write(answer().get(..count(argument)?).unwrap_or_default()),
            "drip" => {
                let pause = Duration::from_millis(number(argument)?);
                answer().iter().try_for_each(|byte| {
                    std::thread::sleep(pause);
                    self.write(&[*byte])
                })
            }
            // A frame whose length is that number, with a good head, and no more of it than the head.
            "large_head" => self.write(&large(job.id, count(argument)?)),
            "large" => {
                let mut whole = large(job.id, count(argument)?);
                whole.resize(count(argument)? + 4, 0xc0);
                self.write(&whole)
            }
            "flood" => self.flood(argument, 0),
            "gate" => wait_for_file(argument),
            "open" => first_time(argument).map(|_| ()),
            "note" => note(argument),
            // The parent must have refused a request of this child's own.
            "refused" => {
                let (id, request, data) =
                    self.next_frame()?.ok_or_else(|| io::Error::other("no refusal came"))?;
                let is_refusal =
                    request == "FAILED" && String::from_utf8_lossy(&data).contains("unavailable");
                let is_this = is_refusal && u64::from(id) == number(argument)?;
                if is_this { Ok(()) } else { Err(io::Error::other(format!("{request} came for {id}"))) }
            }
            "exit" => {
                self.over = true;
                std::process::exit(i32::try_from(number(argument)?).unwrap_or(1));
            }
            unknown => Err(io::Error::other(format!("no step is called {unknown}"))),
        }
    }

    fn act_at_length(&mut self, verb: &str, first: &str, rest: &[&str], job: &Job) -> io::Result<()> {
        match (verb, rest) {
            // Its own answer with other bytes in the middle of it.
            ("insert", [hex]) => {
                let mut answer = frame("FINISHED", job.id, &job.data, (0, None));
                let at = count(first)?.min(answer.len());
                answer.splice(at..at, bytes(hex)?);
                self.write(&answer)
            }
            ("flood_of", [id]) => self.flood(first, relative(id, job.id)?),
            ("frame", [id, hex]) => self.write(&frame(first, relative(id, job.id)?, &bytes(hex)?, (0, None))),
            ("frame", [id, hex, sender, recipient]) => {
                let faces = (number(sender)?, Some(number(recipient)?));
                self.write(&frame(first, relative(id, job.id)?, &bytes(hex)?, faces))
            }
            // So many of a frame at once, again and again, with a pause between.
            ("pulse", [id, hex, pause, at_once]) => {
                let one = frame(first, relative(id, job.id)?, &bytes(hex)?, (0, None));
                let many = one.repeat(count(at_once)?);
                let pause = Duration::from_millis(number(pause)?);
                loop {
                    self.write(&many)?;
                    std::thread::sleep(pause);
                }
            }
            _ => Err(io::Error::other(format!("no step is called {verb} with {first} and {rest:?}"))),
        }
    }

    /// HELLO and READY with a window of so many tasks, which are done in order.
    fn greet(&mut self, window: &str) -> io::Result<()> {
        let window = u32::try_from(number(window)?).unwrap_or(1);
        let mut hello = Vec::new();
        ChildHello { window, serial: true, ..ChildHello::default() }.encode(&mut hello);
        let mut both = frame("HELLO", 0, &hello, (0, None));
        both.extend(frame("READY", 0, b"\xc0", (0, None)));
        self.write(&both)
    }

    /// A request, as fast as the pipe takes it.
    fn flood(&mut self, request: &str, id: u32) -> io::Result<()> {
        let one = frame(request, id, b"\xc0", (0, None));
        let many = one.repeat(FLOOD_BYTES / one.len());
        loop {
            self.write(&many)?;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut bytes = bytes.to_vec();
        if let Some(bit) = self.flip {
            let at = (bit / 8).checked_sub(self.written).and_then(|at| usize::try_from(at).ok());
            if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
                *byte ^= 1 << (bit % 8);
            }
        }
        self.written += bytes.len() as u64;
        let mut output = io::stdout().lock();
        let piece = if self.split { 1 } else { bytes.len().max(1) };
        for piece in bytes.chunks(piece) {
            output.write_all(piece)?;
            output.flush()?;
        }
        Ok(())
    }

    fn next_job(&mut self) -> io::Result<Option<Job>> {
        while let Some((id, request, data)) = self.next_frame()? {
            match request.as_str() {
                "DO" => return Ok(Some(Job { id, data })),
                "DIE" => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The next frame of the parent, save its HELLO.
    fn next_frame(&mut self) -> io::Result<Option<(u32, String, Vec<u8>)>> {
        loop {
            while let Some(event) = self.input.next_frame().map_err(io::Error::other)? {
                let FrameEvent::Frame { id, body } = event else { continue };
                let message = Message::decode(body).map_err(io::Error::other)?;
                if message.request != "HELLO" {
                    return Ok(Some((id, message.request.to_owned(), message.data.to_vec())));
                }
            }
            let count = io::stdin().lock().read(self.input.space())?;
            if count == 0 {
                return Ok(None);
            }
            self.input.filled(count);
        }
    }
}

/// A task is begun: which attempt that is, by the traces of the earlier ones.
fn begin(name: &str) -> io::Result<u32> {
    let mut attempt = 1;
    while !first_time(&format!("{name} attempt {attempt}"))? {
        attempt += 1;
    }
    effect(name, attempt)?;
    Ok(attempt)
}

/// A whole frame, with a sender and a recipient.
fn frame(request: &str, id: u32, data: &[u8], (sender, recipient): (u64, Option<u64>)) -> Vec<u8> {
    let recipient = recipient.map_or(Recipient::Anyone, Recipient::Process);
    let mut body = Vec::new();
    write_head(&mut body, request, sender, recipient);
    body.extend(data);
    framed(id, &body)
}

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&frame_header(id, body.len()), body].concat()
}

/// The header of an answer of that length, and its head.
fn large(id: u32, len: usize) -> Vec<u8> {
    let mut bytes = frame_header(id, len - 4).to_vec();
    write_head(&mut bytes, "FINISHED", 0, Recipient::Anyone);
    bytes.resize(8 + 283, 0xc0);
    bytes
}

/// An id: a number, or how much more than the task's.
fn relative(word: &str, id: u32) -> io::Result<u32> {
    let to = |number: u64| u32::try_from(number).map_err(io::Error::other);
    match word.strip_prefix('+') {
        Some(more) => Ok(id.wrapping_add(to(number(more)?)?)),
        None => to(number(word)?),
    }
}

fn number(word: &str) -> io::Result<u64> {
    word.parse().map_err(|_| io::Error::other(format!("{word} is no number")))
}

fn count(word: &str) -> io::Result<usize> {
    usize::try_from(number(word)?).map_err(io::Error::other)
}

/// See the module.
fn bytes(digits: &str) -> io::Result<Vec<u8>> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut rest = digits;
    while !rest.is_empty() {
        if let Some(repeat) = rest.strip_prefix('*') {
            let end = repeat.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(repeat.len());
            let (times, after) = repeat.split_at(end);
            // A comma ends the count where digits follow.
            rest = after.strip_prefix(',').unwrap_or(after);
            let last = bytes.last().copied().unwrap_or(0);
            bytes.resize(bytes.len() + count(times)?.saturating_sub(1), last);
            continue;
        }
        let byte = rest.get(..2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push(byte.ok_or_else(|| io::Error::other(format!("{rest} are no hexadecimal digits")))?);
        rest = rest.get(2..).unwrap_or_default();
    }
    Ok(bytes)
}
