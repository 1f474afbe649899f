//! Starts a program that inherits its standard output, and dies of its next task: a shell script with a job in the background.

use std::process::{Command, Stdio};

use stokehold_tests::{Wire, first_time};

fn main() -> std::io::Result<()> {
    let mut wire = Wire::greet(1)?;
    while let Some((id, data)) = wire.next_task()? {
        if first_time("heir")? {
            Command::new("sleep").arg("1000").stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
            std::process::abort();
        }
        wire.answer(id, &data)?;
    }
    Ok(())
}
