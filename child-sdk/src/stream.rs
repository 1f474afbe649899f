//! The two ends of the connection as plain blocking streams. An inherited pipe may have been made non-blocking by whoever
//! else has it open; these wait all the same.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

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
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(&self.0, PollFlags::IN, || rustix::io::read(&self.0, &mut *buffer))
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        retry(&self.0, PollFlags::OUT, || rustix::io::write(&*self.0, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Repeats an operation that a signal interrupted, or that found a non-blocking descriptor not ready.
fn retry(
    file: &File,
    ready: PollFlags,
    mut operation: impl FnMut() -> Result<usize, Errno>,
) -> io::Result<usize> {
    loop {
        match operation() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(file, ready)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
            outcome => return Ok(outcome?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    const WATCHDOG: Duration = Duration::from_secs(30);

    fn non_blocking_pipe() -> (File, File) {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        (File::from(read), File::from(write))
    }

    #[test]
    fn a_non_blocking_pipe_is_read_and_written_as_a_blocking_one() {
        let (read, write) = non_blocking_pipe();
        // More than any pipe holds, so that the writer has to wait for the reader, and the reader for the writer.
        let sent: Vec<u8> = (0..4_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let (done, arrived) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = Input::new(read).read_to_end(&mut bytes);
            done.send(read.map(|_| bytes))
        });
        let expected = sent.clone();
        thread::spawn(move || Output::new(write).write_all(&sent));
        assert!(arrived.recv_timeout(WATCHDOG).unwrap().unwrap() == expected);
    }

    #[test]
    fn a_vanished_reader_is_noticed_without_a_write() {
        let (read, write) = non_blocking_pipe();
        let (done, noticed) = mpsc::channel();
        thread::spawn(move || done.send(Output::new(write).wait_until_reader_gone()));
        drop(read);
        assert!(noticed.recv_timeout(WATCHDOG).unwrap());
    }
}
