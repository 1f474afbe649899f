//! What the machine can do without Stokehold: raw pipes and socket pairs to a re-executed child, one message at a time or in batches,
//! and bare processes. Blocking where that is fastest; no leases, no acknowledgement beyond the echo.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::contest::touch;
use crate::measure::{Outcome, monotonic_ns};

mod batched;

pub(crate) use batched::{Batched, Codec};

/// Stokehold asks for the same: the limit is that of the same transport.
const PIPE_BYTES: usize = 256 * 1024;
/// As wide as Stokehold makes a pipe with large payloads.
const WIDE_PIPE_BYTES: usize = 1024 * 1024;

/// What the bytes go through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Transport {
    /// A pipe each way, as Stokehold has them.
    Pipe,
    /// The same, as wide as an unprivileged process may make them.
    WidePipe,
    /// A pair of stream sockets.
    Socketpair,
}

/// What this program does as a child of a limit.
pub(crate) fn serve(mode: &[&str]) -> Outcome<()> {
    match *mode {
        ["echo", bytes] => echo(bytes.parse()?, false),
        ["spin-echo", bytes] => echo(bytes.parse()?, true),
        ["sink", bytes] => sink(bytes.parse()?),
        ["frames", codec] => batched::echo_frames(Codec::named(codec)?),
        ["count-records"] => count_records(),
        ["count-lines"] => count_lines(),
        ["copy"] => copy(),
        ["stamp"] => Ok(write_all(rustix::stdio::stdout(), &monotonic_ns().to_ne_bytes())?),
        ["wait"] => {
            write_all(rustix::stdio::stdout(), b".")?;
            read_some(rustix::stdio::stdin(), &mut [0])?;
            Ok(())
        }
        _ => Err(format!("unknown limit {mode:?}").into()),
    }
}

/// A child of a limit. Dropping it kills it, so that none outlives a failed measurement.
#[derive(Debug)]
pub(crate) struct RawChild {
    child: Child,
    to: Option<OwnedFd>,
    from: OwnedFd,
}

impl RawChild {
    pub(crate) fn start(mode: &[&str], transport: Transport) -> Outcome<Self> {
        let ((theirs_in, to), (from, theirs_out)) = match transport {
            Transport::Socketpair => (sockets()?, sockets()?),
            Transport::Pipe => (pipe(PIPE_BYTES)?, pipe(PIPE_BYTES)?),
            Transport::WidePipe => (pipe(WIDE_PIPE_BYTES)?, pipe(WIDE_PIPE_BYTES)?),
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("limit").args(mode).stdin(Stdio::from(theirs_in)).stdout(Stdio::from(theirs_out));
        Ok(Self { child: command.spawn()?, to: Some(to), from })
    }

    /// From now on a read finds nothing instead of waiting; the methods here then try again at once.
    pub(crate) fn set_nonblocking(&self) -> Outcome<()> {
        set_nonblocking(self.from.as_fd())?;
        self.to.as_ref().map_or(Ok(()), |to| Ok(set_nonblocking(to.as_fd())?))
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Outcome<()> {
        Ok(write_all(self.to.as_ref().ok_or("the input is closed")?, bytes)?)
    }

    pub(crate) fn receive(&self, bytes: &mut [u8]) -> Outcome<()> {
        if read_all(self.from.as_fd(), bytes)? { Ok(()) } else { Err("a raw child said less".into()) }
    }

    /// Sends the bytes and waits until as many came back in their place.
    pub(crate) fn round_trip(&self, bytes: &mut [u8]) -> Outcome<()> {
        self.send(bytes)?;
        self.receive(bytes)
    }

    /// Waits for the child's next bytes.
    pub(crate) fn first_bytes<const N: usize>(&self) -> Outcome<[u8; N]> {
        let mut bytes = [0; N];
        self.receive(&mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn close_input(&mut self) {
        self.to = None;
    }

    /// Closes its input and waits for its end.
    pub(crate) fn finish(mut self) -> Outcome<()> {
        self.close_input();
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("a raw child ended with {status}").into()) }
    }
}

impl Drop for RawChild {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where one reads, where the other writes.
fn pipe(bytes: usize) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
    // As in Stokehold, a refusal is not an error.
    let _ = fcntl_setpipe_size(&writing, bytes);
    Ok((reading, writing))
}

fn sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
    Ok(())
}

/// Gives back every `size` bytes when they are complete.
fn echo(size: usize, spins: bool) -> Outcome<()> {
    let (input, output) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    if spins {
        set_nonblocking(input)?;
        set_nonblocking(output)?;
    }
    let mut bytes = vec![0; size];
    while read_all(input, &mut bytes)? {
        write_all(output, &bytes)?;
    }
    Ok(())
}

/// Takes every `size` bytes as a whole, reads a little of all of it, and says a byte.
fn sink(size: usize) -> Outcome<()> {
    let mut bytes = vec![0; size];
    while read_all(rustix::stdio::stdin(), &mut bytes)? {
        std::hint::black_box(touch(&bytes));
        write_all(rustix::stdio::stdout(), b".")?;
    }
    Ok(())
}

/// Counts records, each behind its length, and says how many when one has nothing in it.
fn count_records() -> Outcome<()> {
    let mut buffer = vec![0; 2 * PIPE_BYTES];
    let (mut end, mut count) = (0, 0_u64);
    loop {
        let got = read_some(rustix::stdio::stdin(), buffer.get_mut(end..).unwrap_or_default())?;
        if got == 0 {
            return Ok(());
        }
        end += got;
        let mut start = 0;
        while let Some((length, rest)) = buffer.get(start..end).and_then(<[u8]>::split_first_chunk::<4>) {
            let length = u32::from_ne_bytes(*length) as usize;
            if length == 0 {
                write_all(rustix::stdio::stdout(), &count.to_ne_bytes())?;
                count = 0;
            } else if rest.len() < length {
                break;
            } else {
                count += 1;
            }
            start += 4 + length;
        }
        buffer.copy_within(start..end, 0);
        end -= start;
    }
}

/// Counts newlines, and says how many at the end of its input.
fn count_lines() -> Outcome<()> {
    let mut buffer = vec![0; PIPE_BYTES];
    let mut count = 0_u64;
    loop {
        let got = read_some(rustix::stdio::stdin(), &mut buffer)?;
        if got == 0 {
            return Ok(write_all(rustix::stdio::stdout(), &count.to_ne_bytes())?);
        }
        // In chunks whose sums fit a byte, so that the compiler counts many at a time.
        for chunk in buffer.get(..got).unwrap_or_default().chunks(255) {
            count += u64::from(chunk.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>());
        }
    }
}

/// Passes bytes on as they come.
fn copy() -> Outcome<()> {
    let mut bytes = vec![0; PIPE_BYTES];
    loop {
        let count = read_some(rustix::stdio::stdin(), &mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        write_all(rustix::stdio::stdout(), bytes.get(..count).unwrap_or_default())?;
    }
}

/// False at the end of the stream.
fn read_all(fd: BorrowedFd<'_>, mut bytes: &mut [u8]) -> io::Result<bool> {
    while !bytes.is_empty() {
        match read_some(fd, bytes)? {
            0 => return Ok(false),
            count => bytes = bytes.get_mut(count..).unwrap_or_default(),
        }
    }
    Ok(true)
}

/// Past the buffers of std, which would copy once more. Tries again at once where there is nothing to wait with.
fn read_some(fd: impl AsFd, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(&fd, &mut *bytes) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// As [`read_some`].
pub(crate) fn write_all(fd: impl AsFd, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(&fd, bytes) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            done => bytes = bytes.get(done?..).unwrap_or_default(),
        }
    }
    Ok(())
}
