//! Aborts at the text "poison", whichever task that is, and says of itself that it does not work in order, so that the parent
//! cannot tell which of its tasks it was: a worker with threads.

use stokehold_protocol::ChildHello;
use stokehold_tests::{Wire, note};

fn main() -> std::io::Result<()> {
    let hello = ChildHello { window: 8, serial: false, ..ChildHello::default() };
    let mut wire = Wire::greet_as(&hello)?;
    while let Some((id, data)) = wire.next_task()? {
        note(&String::from_utf8_lossy(&data[1..]))?;
        if data == b"\xa6poison" {
            std::process::abort();
        }
        wire.answer(id, &data)?;
    }
    Ok(())
}
