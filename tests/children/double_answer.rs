//! Answers its first task twice: a handler with a callback that is called once too often. A replacement is honest.

use stokehold_tests::{Wire, first_time};

fn main() -> std::io::Result<()> {
    let mut wire = Wire::greet(1)?;
    while let Some((id, data)) = wire.next_task()? {
        let mut answer = Wire::frame(id, "FINISHED", &data);
        if first_time("double")? {
            answer.extend(Wire::frame(id, "FINISHED", b"\xa6second"));
        }
        wire.write(&answer)?;
    }
    Ok(())
}
