//! Where records come from: a file or standard input, cut into lines of bounded length, or what else ends them. It does not look
//! into them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};

/// Bytes read at a time: enough that the system calls do not count, and more than any pipe holds.
const READ_BYTES: usize = 256 * 1024;

/// A line's buffer is given back after a line longer than this, so that one giant does not stay in memory.
const KEEP_BYTES: usize = 1024 * 1024;

/// A stream of lines.
#[derive(Debug)]
pub(crate) struct Lines {
    reader: BufReader<Patient>,
    name: String,
    number: u64,
    bytes_max: usize,
    /// The byte that ends one.
    end: u8,
    line: Vec<u8>,
}

/// What the next line is.
#[derive(Debug)]
pub(crate) enum Line<'a> {
    /// Without its end. A CR stays: it is data.
    Whole(&'a [u8]),
    /// It was longer than the bound and was skipped.
    TooLong,
}

impl Lines {
    /// Opens a file, or standard input for `None` and `-`, whose lines end with the byte `end`. The error says which and why.
    pub(crate) fn open(path: Option<&Path>, bytes_max: usize, end: u8) -> Result<Self, String> {
        let (file, name) = match path.filter(|path| *path != Path::new("-")) {
            Some(path) => {
                let file =
                    File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
                (file, path.display().to_string())
            }
            None => {
                let stdin = io::stdin();
                let fd = stdin.as_fd().try_clone_to_owned();
                let fd = fd.map_err(|error| format!("cannot read standard input: {error}"))?;
                (File::from(fd), "stdin".to_owned())
            }
        };
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(format!("cannot read {name}: it is a directory"));
        }
        let reader = BufReader::with_capacity(READ_BYTES, Patient(file));
        Ok(Self { reader, name, number: 0, bytes_max, end, line: Vec::new() })
    }

    /// The file's name, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The number of the line that was given last, from 1.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Whether a person types the input.
    pub(crate) fn is_terminal(&self) -> bool {
        self.reader.get_ref().0.is_terminal()
    }

    /// The file behind it.
    pub(crate) fn file(&self) -> &File {
        &self.reader.get_ref().0
    }

    /// Whether the next line may have to be waited for.
    pub(crate) fn is_drained(&self) -> bool {
        self.reader.buffer().is_empty()
    }

    /// The next line; `None` at the end. A last line without its end is a line too, an empty one is as well. Blocks until it
    /// is there.
    pub(crate) fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        if self.line.capacity() > KEEP_BYTES {
            self.line = Vec::new();
        }
        self.line.clear();
        // One more than the bound, so that the end right behind the longest line is seen.
        let most = u64::try_from(self.bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        if (&mut self.reader).take(most).read_until(self.end, &mut self.line)? == 0 {
            return Ok(None);
        }
        self.number = self.number.saturating_add(1);
        if self.line.last() == Some(&self.end) {
            self.line.pop();
        } else if self.line.len() > self.bytes_max {
            self.line = Vec::new();
            self.reader.skip_until(self.end)?;
            return Ok(Some(Line::TooLong));
        }
        Ok(Some(Line::Whole(&self.line)))
    }
}

/// A file that is waited for also when somebody else, who shares it, has made it non-blocking.
#[derive(Debug)]
pub(crate) struct Patient(pub(crate) File);

impl Patient {
    fn wait_for(&self, what: PollFlags) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.0, what)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for(PollFlags::IN)?,
                result => return result,
            }
        }
    }
}

impl Write for Patient {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for(PollFlags::OUT)?,
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &[u8], bytes_max: usize) -> Vec<Option<Vec<u8>>> {
        records_of(text, bytes_max, b'\n')
    }

    fn records_of(text: &[u8], bytes_max: usize, end: u8) -> Vec<Option<Vec<u8>>> {
        let (read, mut write) = io::pipe().unwrap();
        write.write_all(text).unwrap();
        drop(write);
        let reader = BufReader::new(Patient(File::from(std::os::fd::OwnedFd::from(read))));
        let mut lines =
            Lines { reader, name: "pipe".to_owned(), number: 0, bytes_max, end, line: Vec::new() };
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            found.push(match line {
                Line::Whole(bytes) => Some(bytes.to_vec()),
                Line::TooLong => None,
            });
        }
        assert_eq!(lines.number(), found.len() as u64);
        found
    }

    #[test]
    fn a_last_line_without_its_end_and_empty_lines_are_lines() {
        assert_eq!(lines_of(b"", 9), []);
        assert_eq!(lines_of(b"a\n\nb", 9), [Some(b"a".to_vec()), Some(b"".to_vec()), Some(b"b".to_vec())]);
        assert_eq!(lines_of(b"a\r\n", 9), [Some(b"a\r".to_vec())]);
    }

    #[test]
    fn with_another_end_an_lf_is_data() {
        assert_eq!(
            records_of(b"a\nb\0\0c", 9, 0),
            [Some(b"a\nb".to_vec()), Some(b"".to_vec()), Some(b"c".to_vec())]
        );
        assert_eq!(records_of(b"123456\0\n", 4, 0), [None, Some(b"\n".to_vec())]);
    }

    #[test]
    fn only_the_line_above_the_bound_is_skipped() {
        assert_eq!(
            lines_of(b"1234\n12345\n1234567890\nx", 4),
            [Some(b"1234".to_vec()), None, None, Some(b"x".to_vec())]
        );
        assert_eq!(lines_of(b"12345", 4), [None]);
        assert_eq!(lines_of(b"1234", 4), [Some(b"1234".to_vec())]);
    }
}
