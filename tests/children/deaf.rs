//! Closes its standard input after its first answer and lives on: a tool that thinks it has read everything. A replacement is
//! honest.

use stokehold_tests::{Wire, first_time, wait_for_file};

fn main() -> std::io::Result<()> {
    let mut wire = Wire::greet(1)?;
    while let Some((id, data)) = wire.next_task()? {
        if first_time("deaf")? {
            rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
            wire.answer(id, &data)?;
            return wait_for_file("never");
        }
        wire.answer(id, &data)?;
    }
    Ok(())
}
