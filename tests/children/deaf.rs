//! Closes its standard input after its first answer and lives on: a tool that thinks it has read everything. With the argument
//! "unread" it never reads at all, and closes it when the test opens the gate "close". A replacement is honest.

use stokehold_tests::{Wire, first_time, wait_for_file};

fn main() -> std::io::Result<()> {
    let mut wire = Wire::greet(1)?;
    if std::env::args().nth(1).as_deref() == Some("unread") && first_time("deaf")? {
        wait_for_file("close")?;
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        return wait_for_file("never");
    }
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
