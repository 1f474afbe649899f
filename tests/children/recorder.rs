//! Right in every way, and notes what its parent tells it about itself and about its tasks. The task "die" is its end; the task
//! "thrice NAME" too, but for the third attempt; at "hum" it says words that nobody knows for a while, and reads nothing.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use stokehold_protocol::{Capabilities, Capability, ChildHello, Meta, ParentHello, data};
use stokehold_tests::{Wire, note};

/// How long it hums.
const HUM: Duration = Duration::from_millis(1_500);

fn main() -> std::io::Result<ExitCode> {
    let capabilities = Capabilities::NONE.with(Capability::Meta).with(Capability::Ping);
    let mut wire = Wire::greet_as(&ChildHello { capabilities, ..ChildHello::default() })?;
    let mut meta = Meta::default();
    while let Some((id, request, input)) = wire.next_frame()? {
        match request.as_str() {
            "HELLO" => {
                let hello = ParentHello::decode(&input).map_err(std::io::Error::other)?;
                note(&format!("hello {} {} {}", std::process::id(), hello.pid, hello.max_frame))?;
            }
            "PING" => wire.write(&Wire::frame(0, "PONG", &input))?,
            "META" => meta = Meta::decode(&input).map_err(std::io::Error::other)?,
            "DO" => {
                let text: String = data::decode(&input).map_err(std::io::Error::other)?;
                let Meta { attempt, key, .. } = std::mem::take(&mut meta);
                match text.split_once(' ') {
                    Some(("thrice", name)) => {
                        let attempt = attempt.unwrap_or(1);
                        note(&format!("{name} {attempt} {}", key.unwrap_or_default()))?;
                        if attempt < 3 {
                            return Ok(ExitCode::from(7));
                        }
                    }
                    _ if text == "die" => return Ok(ExitCode::from(7)),
                    _ if text == "hum" => hum(&wire)?,
                    _ => {}
                }
                wire.answer(id, &input)?;
            }
            "DIE" => break,
            _ => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn hum(wire: &Wire) -> std::io::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < HUM {
        wire.write(&Wire::frame(0, "X_HUM", b"\xc0"))?;
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
