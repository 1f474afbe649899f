//! Exits as soon as it has written an answer, every time: a tool made for one job.

use stokehold_tests::{Wire, note};

fn main() -> std::io::Result<()> {
    let mut wire = Wire::greet(1)?;
    if let Some((id, data)) = wire.next_task()? {
        note("runs")?;
        wire.answer(id, &data)?;
    }
    Ok(())
}
