//! Writes 100 MB to standard error during each task, without an end of line for long: a debug build with traces on.

use std::io::{self, Write};
use std::process::ExitCode;

use stokehold_child::Ctx;

const CHUNKS: usize = 1_600;

fn main() -> ExitCode {
    stokehold_child::serve(|(): (), _: &mut Ctx| {
        let chunk = vec![b'x'; 64 * 1024];
        let mut stderr = io::stderr().lock();
        for _ in 0..CHUNKS {
            stderr.write_all(&chunk)?;
        }
        stderr.write_all(b"\nthe end of it\n")?;
        Ok::<_, io::Error>(CHUNKS * chunk.len())
    })
}
