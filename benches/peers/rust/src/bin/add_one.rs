//! A worker for W6 and W7 of the shell's peers, which start one for every few items: prints each argument plus one.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// A write of so much into a pipe is never mixed with another process's (PIPE_BUF).
const WHOLE_WRITE: usize = 4096;
/// The longest line is shorter.
const LINE: usize = 24;

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    let mut lines = String::with_capacity(WHOLE_WRITE);
    for argument in std::env::args().skip(1) {
        if lines.len() + LINE > WHOLE_WRITE {
            write_at_once(&mut out, &mut lines)?;
        }
        writeln!(lines, "{}", argument.parse::<u64>()? + 1)?;
    }
    Ok(write_at_once(&mut out, &mut lines)?)
}

fn write_at_once(out: &mut io::StdoutLock<'_>, lines: &mut String) -> io::Result<()> {
    out.write_all(lines.as_bytes())?;
    out.flush()?;
    lines.clear();
    Ok(())
}
