//! Answers the text "big" with a frame above every limit that was agreed, in legal form: a worker that never asked.

use stokehold_tests::Wire;

fn main() -> std::io::Result<()> {
    let mut wire = Wire::greet(8)?;
    while let Some((id, data)) = wire.next_task()? {
        if data == b"\xa3big" {
            let len: u32 = 20 << 20;
            let mut bytes = vec![0xc6];
            bytes.extend(len.to_be_bytes());
            bytes.resize(bytes.len() + len as usize, 0);
            wire.answer(id, &bytes)?;
        } else {
            wire.answer(id, &data)?;
        }
    }
    Ok(())
}
