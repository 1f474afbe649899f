//! Closes its standard output at its first task and lives on: a daemon that detaches itself. A replacement is honest.

use stokehold_tests::{Wire, first_time, note, park_until_end_of_input};

fn main() -> std::io::Result<()> {
    let mut wire = Wire::greet(1)?;
    while let Some((id, data)) = wire.next_task()? {
        if first_time("mute")? {
            rustix::stdio::dup2_stdout(std::fs::File::open("/dev/null")?)?;
            note("mute")?;
            park_until_end_of_input()?;
        }
        wire.answer(id, &data)?;
    }
    Ok(())
}
