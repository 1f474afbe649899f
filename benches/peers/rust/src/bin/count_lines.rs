//! A worker for W3: counts the lines of its stdin, and prints how many when the input ends, or holds a NUL at the end
//! of what was there to read. The NUL is for feeders that want the count while the worker lives.

use std::io::{self, Read, Write};

/// More than a pipe holds by default.
const BUFFER: usize = 256 << 10;

fn main() -> io::Result<()> {
    let (mut input, mut out) = (io::stdin().lock(), io::stdout());
    let mut buffer = vec![0; BUFFER];
    let mut lines = 0;
    loop {
        let length = input.read(&mut buffer)?;
        let read = &buffer[..length];
        lines += memchr::memchr_iter(b'\n', read).count();
        if read.last().is_none_or(|byte| *byte == 0) {
            writeln!(out, "{lines}")?;
            out.flush()?;
        }
        if length == 0 {
            return Ok(());
        }
    }
}
