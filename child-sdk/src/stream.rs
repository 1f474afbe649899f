//! The two ends of the connection as plain blocking streams. An inherited pipe may have been made non-blocking by whoever
//! else has it open; these wait all the same.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};

/// Where the parent's frames come from.
#[derive(Debug)]
pub(crate) struct Input(File);

/// Where frames for the parent go.
#[derive(Clone, Debug)]
pub(crate) struct Output(Arc<File>);

impl Input {
    pub(crate) fn new(file: File) -> Self {
        Self(file)
    }
}

impl Output {
    pub(crate) fn new(file: File) -> Self {
        Self(Arc::new(file))
    }

    /// Waits until nobody reads the other end any more. False if that cannot be told.
    pub(crate) fn wait_until_reader_gone(&self) -> bool {
        loop {
            let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
            match poll(&mut fds, None) {
                Ok(_) => {
                    let [fd] = &fds;
                    return fd.revents().intersects(PollFlags::ERR | PollFlags::HUP);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(&self.0, PollFlags::IN, || (&self.0).read(buffer))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        retry(&self.0, PollFlags::OUT, || (&*self.0).write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Repeats an operation that a signal interrupted, or that found a non-blocking descriptor not ready.
fn retry(
    file: &File,
    ready: PollFlags,
    mut operation: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    loop {
        match operation() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                match poll(&mut [PollFd::new(file, ready)], None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            outcome => return outcome,
        }
    }
}
