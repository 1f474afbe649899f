//! Exits in the middle of an answer: a disk full, a crash in a destructor. A replacement is honest.

use stokehold_tests::{Wire, first_time, note};

fn main() -> std::io::Result<()> {
    let mut wire = Wire::greet(1)?;
    while let Some((id, data)) = wire.next_task()? {
        note("runs")?;
        if first_time("truncated")? {
            let answer = Wire::frame(id, "FINISHED", &data);
            let (first, _) = answer.split_at(answer.len() - 1);
            return wire.write(first);
        }
        wire.answer(id, &data)?;
    }
    Ok(())
}
