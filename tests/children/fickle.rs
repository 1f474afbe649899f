//! Is honest in its first life. Of the later ones it says READY and exits with the argument "idle", exits before it says
//! anything with "boot", and exits with code 125 with "for good". With "125 in 1" it exits so in slot 1 whenever the gate "well"
//! is not open.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use stokehold_child::{Init, Permanent, Request, Worker};
use stokehold_tests::{Wire, directory, eventually, first_time};

fn main() -> io::Result<ExitCode> {
    let how = std::env::args().nth(1).unwrap_or_default();
    if how != "125 in 1" && !first_time("fickle")? {
        match how.as_str() {
            "idle" => {
                let _ = Wire::greet(1)?;
                return Ok(ExitCode::from(9));
            }
            "for good" => return Ok(ExitCode::from(125)),
            _ => return Ok(ExitCode::from(7)),
        }
    }
    let well = directory()?.join("well");
    let start = move |init: &mut Init| -> Result<u32, Permanent> {
        let slot = init.worker().unwrap_or(u32::MAX);
        let is_ill = how == "125 in 1" && slot == 1 && !eventually(Duration::ZERO, || well.exists());
        if is_ill { Err(Permanent::new("no licence for two")) } else { Ok(slot) }
    };
    let worker = Worker::new(start);
    Ok(worker.on(Request::<(), u32>::DO, |slot, (), _| Ok::<_, io::Error>(*slot)).serve())
}
