//! A worker for W7: says `up` as soon as it runs, then gives every line of its stdin back.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    let mut out = io::stdout();
    for line in std::iter::once(Ok("up".to_owned())).chain(io::stdin().lines()) {
        writeln!(out, "{}", line?)?;
        out.flush()?;
    }
    Ok(())
}
