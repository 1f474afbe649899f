//! Answers a task that nobody gave it before the one it has: an id from another connection. A replacement is honest.

use stokehold_tests::{Wire, first_time};

fn main() -> std::io::Result<()> {
    let mut wire = Wire::greet(1)?;
    while let Some((id, data)) = wire.next_task()? {
        if first_time("strange")? {
            wire.answer(4_000_000_000, b"\xa6stolen")?;
        }
        wire.answer(id, &data)?;
    }
    Ok(())
}
