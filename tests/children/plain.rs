//! Speaks the core of the protocol and nothing besides: no CANCEL, no PING. It stays with the task "stay" until the test opens
//! the gate of that name, and gives back every other one. It ends of SIGTERM, as programs do.

use stokehold_tests::{Wire, note, wait_for_file};

fn main() -> std::io::Result<()> {
    let mut wire = Wire::greet(1)?;
    while let Some((id, data)) = wire.next_task()? {
        if data == b"\xa4stay" {
            note("stays")?;
            wait_for_file("stay")?;
        }
        wire.answer(id, &data)?;
    }
    Ok(())
}
