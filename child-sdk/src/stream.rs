//! The two ends of the connection as plain blocking streams. An inherited pipe may have been made non-blocking by whoever
//! else has it open; these wait all the same. And the one place where a thread waits for several things at once.

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::intake::Source;

/// Where the parent's frames come from.
#[derive(Clone, Debug)]
pub(crate) struct Input(Arc<File>);

/// Where frames for the parent go.
#[derive(Clone, Debug)]
pub(crate) struct Output(Arc<File>);

/// Wakes a thread that waits in [`Output::wait`].
#[derive(Clone, Debug)]
pub(crate) struct Wake(Arc<OwnedFd>);

/// What ended a wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Waited {
    /// The input has something, or nothing has happened in the time.
    Anything,
    /// Somebody called [`Wake::wake`].
    Woken,
    /// Nobody reads the output any more.
    ReaderGone,
    /// Waiting is not possible.
    Failed,
}

/// Whether an error of a write says that nobody reads any more.
pub(crate) fn is_reader_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

impl Input {
    pub(crate) fn new(file: File) -> Self {
        Self(Arc::new(file))
    }
}

impl Source for Input {
    fn wait(&self, time: Duration) -> bool {
        let mut fds = [PollFd::new(&*self.0, PollFlags::IN)];
        poll(&mut fds, Timespec::try_from(time).ok().as_ref()) == Ok(1)
    }

    fn read_more(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        retry(&self.0, PollFlags::IN, || rustix::io::read(&self.0, spare_capacity(&mut *into)))
    }
}

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    pub(crate) fn wake(&self) {
        // Can fail only when a wake-up is on its way already.
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    fn clear(&self) {
        let _ = rustix::io::read(&*self.0, &mut [0; 8]);
    }
}

impl Output {
    pub(crate) fn new(file: File) -> Self {
        Self(Arc::new(file))
    }

    /// Waits until nobody reads the other end any more, `wake` is called, `input` has something, or the time is over,
    /// whatever comes first. Also returns when a signal was handled.
    pub(crate) fn wait(&self, wake: &Wake, input: Option<&Input>, time: Option<Duration>) -> Waited {
        let nothing = PollFlags::empty();
        let mut fds = [
            PollFd::new(&*self.0, nothing),
            PollFd::new(&*wake.0, PollFlags::IN),
            input.map_or(PollFd::new(&*wake.0, nothing), |input| PollFd::new(&*input.0, PollFlags::IN)),
        ];
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        match poll(&mut fds, time.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Waited::Failed,
        }
        let [output, woken, _] = &fds;
        if output.revents().intersects(PollFlags::ERR | PollFlags::HUP) {
            Waited::ReaderGone
        } else if woken.revents().contains(PollFlags::IN) {
            wake.clear();
            Waited::Woken
        } else {
            Waited::Anything
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

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [piece] => self.write(piece),
            pieces => retry(&self.0, PollFlags::OUT, || rustix::io::writev(&*self.0, pieces)),
        }
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
        thread::spawn(move || done.send(Output::new(write).wait(&Wake::new().unwrap(), None, None)));
        drop(read);
        assert_eq!(noticed.recv_timeout(WATCHDOG).unwrap(), Waited::ReaderGone);
    }

    #[test]
    fn a_wait_ends_by_a_wake_up_before_or_after_it_began_by_input_and_by_time() {
        let (input, feed) = non_blocking_pipe();
        let (_keep, output) = non_blocking_pipe();
        let (input, output, wake) = (Input::new(input), Output::new(output), Wake::new().unwrap());
        wake.wake();
        wake.wake();
        assert_eq!(output.wait(&wake, Some(&input), None), Waited::Woken, "both are one");
        assert_eq!(output.wait(&wake, Some(&input), Some(Duration::from_millis(1))), Waited::Anything);
        assert!(!input.wait(Duration::ZERO) && !input.wait(Duration::from_millis(1)));
        rustix::io::write(&feed, b"x").unwrap();
        assert!(input.wait(Duration::ZERO) && input.wait(WATCHDOG));
        assert_eq!(output.wait(&wake, Some(&input), None), Waited::Anything);
        let waker = thread::spawn({
            let wake = wake.clone();
            move || wake.wake()
        });
        assert_eq!(output.wait(&wake, None, None), Waited::Woken);
        waker.join().unwrap();
    }
}
