//! Writes half of its answer to its first task and then nothing: a write that hangs. A replacement is honest.

use stokehold_tests::{Wire, first_time, park_until_end_of_input};

fn main() -> std::io::Result<()> {
    let mut wire = Wire::greet(1)?;
    while let Some((id, data)) = wire.next_task()? {
        if first_time("halfway")? {
            let answer = Wire::frame(id, "FINISHED", &data);
            let (first, _) = answer.split_at(answer.len() / 2);
            wire.write(first)?;
            return park_until_end_of_input();
        }
        wire.answer(id, &data)?;
    }
    Ok(())
}
