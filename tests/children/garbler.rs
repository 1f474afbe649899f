//! Writes something that is no frame after as many good answers as its argument says: a print in a rare branch, or memory
//! gone bad. A replacement is honest.

use stokehold_tests::{Wire, first_time, park_until_end_of_input};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let good: usize = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(0);
    let garbage: Vec<u8> = match arguments.next().as_deref() {
        Some("text") => b"warning: rare branch taken\n".to_vec(),
        Some("message") => vec![0, 0, 0, 9, 0, 0, 0, 7, 0x93, 0xa1, b'x', 0, 0xc0],
        _ => vec![0xde, 0xad, 0xbe, 0xef, 0x00, 0x01, 0x02, 0x03],
    };
    let mut wire = Wire::greet(64)?;
    if good == 0 {
        wire.write(&garbage)?;
    }
    let mut answered = 0;
    while let Some((id, data)) = wire.next_task()? {
        if good > 0 && answered == good && first_time("garbage")? {
            wire.write(&garbage)?;
            return park_until_end_of_input();
        }
        wire.answer(id, &data)?;
        answered += 1;
    }
    Ok(())
}
