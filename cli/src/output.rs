//! Where results go: one record a line, in one of two forms, in the order of the input or as they come.
//!
//! Two threads write: the main thread the workers' results, the feeding thread the records that never reached a worker. The
//! latter wait here until it is their turn.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use stokehold::{AnsweredBy, Completed, Data, Order, TaskError, TaskErrorKind};
use stokehold_protocol::code;

use crate::console::{self, SHOWN, escaped};
use crate::failure::ErrorObject;
use crate::input::Patient;
use crate::value;

/// Bytes gathered before they are written although more results are ready.
const WRITE_BYTES: usize = 128 * 1024;

/// Failed records that wait for their turn, at most; then no further input is read.
const ASIDE_MAX: usize = 1024;

/// How a result is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    /// A JSON object with where it came from; failures too.
    Record,
    /// The data alone; nothing for a failure.
    Raw,
}

/// A record of the input that is none.
#[derive(Debug)]
pub(crate) struct BadRecord {
    /// Its place in the input, from 1.
    pub(crate) seq: u64,
    /// The error's code.
    pub(crate) code: &'static str,
    /// What is wrong, with file and line.
    pub(crate) message: String,
}

/// The output, shared by the two threads.
#[derive(Debug)]
pub(crate) struct Output {
    writer: Mutex<Writer>,
    room: Condvar,
    /// It is a file of the user's, not standard output.
    is_named: bool,
}

impl Output {
    /// Opens a file, or takes standard output for `None` and `-`. The error says which and why. `input` must be another file.
    pub(crate) fn open(
        path: Option<&Path>,
        input: &File,
        format: Format,
        order: Order,
    ) -> Result<Self, String> {
        let path = path.filter(|path| *path != Path::new("-"));
        let is_named = path.is_some();
        let (file, name) = match path {
            Some(path) => (create(path, input)?, path.display().to_string()),
            None => {
                let fd = io::stdout().as_fd().try_clone_to_owned();
                let fd = fd.map_err(|error| format!("cannot write to standard output: {error}"))?;
                (File::from(fd), "stdout".to_owned())
            }
        };
        let writer = Writer {
            file: Patient(file),
            name,
            format,
            order,
            buffer: Vec::with_capacity(WRITE_BYTES * 2),
            written: 0,
            aside: VecDeque::new(),
            shifts: HashMap::new(),
            tally: Tally::default(),
            fault: None,
        };
        Ok(Self { writer: Mutex::new(writer), room: Condvar::new(), is_named })
    }

    /// Empties the file: the workers are there, results will come. What is no plain file is left alone.
    pub(crate) fn empty(&self) -> Result<(), String> {
        let writer = self.lock();
        let Patient(file) = &writer.file;
        match file.metadata() {
            Ok(metadata) if metadata.is_file() && self.is_named => {
                file.set_len(0).map_err(|error| format!("cannot empty {}: {error}", writer.name))
            }
            _ => Ok(()),
        }
    }

    /// The writer, for several results in a row.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job is the record `index + 1 + shift`: lines before it gave no job.
    pub(crate) fn note_shift(&self, index: u64, shift: u64) {
        self.lock().shifts.insert(index, shift);
    }

    /// Writes a record that never became a job, once the `before` jobs in front of it have their results. Blocks while too
    /// many wait for that.
    pub(crate) fn put_aside(&self, before: u64, bad: BadRecord) -> io::Result<()> {
        let mut writer = self.lock();
        while writer.aside.len() >= ASIDE_MAX && writer.fault.is_none() {
            writer = self.room.wait(writer).unwrap_or_else(PoisonError::into_inner);
        }
        match writer.order {
            Order::Completion => writer.bad_record(&bad),
            Order::Input => {
                writer.aside.push_back((before, bad));
                writer.catch_up()
            }
        }
    }

    /// Writes what is gathered; called before a thread blocks.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.lock().flush()
    }

    /// Lets the feeding thread go on, after results were written.
    pub(crate) fn made_room(&self) {
        self.room.notify_all();
    }
}

/// A file that is written must not be the one that is read. What it held stays until [`Output::empty`].
fn create(path: &Path, input: &File) -> Result<File, String> {
    use std::os::unix::fs::MetadataExt;
    if let (Ok(new), Ok(old)) = (path.metadata(), input.metadata())
        && new.is_file()
        && (new.dev(), new.ino()) == (old.dev(), old.ino())
    {
        return Err(format!("cannot write {}: it is the input", path.display()));
    }
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    options.open(path).map_err(|error| format!("cannot create {}: {error}", path.display()))
}

/// How many records ended how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) good: u64,
    pub(crate) failed: u64,
    /// Failures that were told in full.
    shown: u64,
}

impl Tally {
    /// Tells a failure in full, if it is among the first.
    fn tell(&mut self, message: &str) {
        if self.shown < SHOWN {
            self.shown += 1;
            console::line(format_args!("error: {message}"));
        }
    }

    /// The last line about failures.
    pub(crate) fn summarise(&self) {
        if self.failed > 0 {
            let all = self.good + self.failed;
            let unseen = match self.failed - self.shown {
                0 => String::new(),
                unseen => format!(" ({unseen} of them not shown above)"),
            };
            console::line(format_args!("error: {} of {all} records failed{unseen}", self.failed));
        }
    }
}

/// See [`Output`].
#[derive(Debug)]
pub(crate) struct Writer {
    file: Patient,
    name: String,
    format: Format,
    order: Order,
    buffer: Vec<u8>,
    /// Jobs whose results are written.
    written: u64,
    /// Records that are no jobs, with the number of jobs in front of each.
    aside: VecDeque<(u64, BadRecord)>,
    /// For jobs on their way whose record has another number than the job: the difference.
    shifts: HashMap<u64, u64>,
    tally: Tally,
    /// Writing failed: nothing more is written.
    fault: Option<io::ErrorKind>,
}

impl Writer {
    /// Writes a worker's result.
    pub(crate) fn result(&mut self, done: Completed<Data>) -> io::Result<()> {
        let shift = if self.shifts.is_empty() { 0 } else { self.shifts.remove(&done.index).unwrap_or(0) };
        let seq = done.index + 1 + shift;
        let start = self.buffer.len();
        match done.result {
            Ok(data) => match self.write_data(seq, &data, done.answered_by) {
                Ok(()) => self.tally.good += 1,
                Err(error) => {
                    self.buffer.truncate(start);
                    self.invalid_data(seq, &error, done.answered_by);
                }
            },
            Err(error) => self.failure(seq, &error),
        }
        self.written += 1;
        self.catch_up()
    }

    /// Writes what is gathered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if let Some(kind) = self.fault {
            return Err(kind.into());
        }
        let result = self.file.write_all(&self.buffer);
        self.buffer.clear();
        if let Err(error) = &result {
            self.fault = Some(error.kind());
        }
        result
    }

    /// What an error of writing is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Writes the records that waited for the results which are written now.
    fn catch_up(&mut self) -> io::Result<()> {
        while self.aside.front().is_some_and(|(before, _)| *before <= self.written)
            && let Some((_, bad)) = self.aside.pop_front()
        {
            self.bad_record(&bad)?;
        }
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn write_data(
        &mut self,
        seq: u64,
        data: &Data,
        by: Option<AnsweredBy>,
    ) -> Result<(), stokehold_protocol::DataError> {
        let out = &mut self.buffer;
        match self.format {
            Format::Raw => value::write_raw(data.as_bytes(), out)?,
            Format::Record => {
                let _ = write!(out, "{{\"seq\":{seq},\"ok\":true,\"data\":");
                value::write_json(data.as_bytes(), out)?;
                if let Some(by) = by {
                    let micros = by.elapsed.as_micros();
                    let (worker, attempt) = (by.worker, by.attempt);
                    let _ = write!(
                        out,
                        ",\"ms\":{}.{:03},\"worker\":{worker},\"attempt\":{attempt}",
                        micros / 1000,
                        micros % 1000
                    );
                }
                out.push(b'}');
            }
        }
        self.buffer.push(b'\n');
        Ok(())
    }

    /// A worker answered with bytes that are no value.
    fn invalid_data(&mut self, seq: u64, error: &stokehold_protocol::DataError, by: Option<AnsweredBy>) {
        let mut object = ErrorObject::new(code::BAD_DATA, &format!("the answer is no valid data: {error}"));
        let mut who = String::new();
        if let Some(by) = by {
            who = format!(" by worker {} (pid {})", by.worker, by.pid);
            object.number("worker", by.worker);
            object.number("pid", by.pid);
            object.number("attempt", by.attempt);
        }
        self.write_failure(seq, object);
        self.tally.tell(&format!("record {seq} was answered{who} with no valid data: {error}"));
    }

    fn failure(&mut self, seq: u64, error: &TaskError) {
        self.write_failure(seq, ErrorObject::of(error));
        // The end of the pool is told once, by the run.
        if error.kind() != TaskErrorKind::Broken {
            let text = error.to_string();
            // Its number there is that of the task; people count records.
            let text = text.strip_prefix(&format!("task {}", error.task())).unwrap_or(&text);
            self.tally.tell(&format!("record {seq}{}", escaped(text)));
        }
    }

    fn bad_record(&mut self, bad: &BadRecord) -> io::Result<()> {
        self.write_failure(bad.seq, ErrorObject::new(bad.code, &bad.message));
        self.tally.tell(&escaped(&bad.message));
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn write_failure(&mut self, seq: u64, object: ErrorObject) {
        self.tally.failed += 1;
        if self.format == Format::Record {
            let _ = write!(self.buffer, "{{\"seq\":{seq},\"ok\":false,\"error\":");
            object.finish(&mut self.buffer);
            self.buffer.extend_from_slice(b"}\n");
        }
    }
}
