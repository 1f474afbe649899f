//! Leaves its process group at its first task, as some launchers do, and is heard no more; with the argument "garbage" it
//! breaks the protocol then. A replacement is honest.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::process::{Pid, setpgid};
use stokehold_tests::{Wire, first_time, note, wait_for_file};

fn main() -> std::io::Result<()> {
    let mut wire = Wire::greet(1)?;
    while let Some((id, data)) = wire.next_task()? {
        if first_time("fugitive")? {
            flee()?;
            note("fled")?;
            if std::env::args().nth(1).as_deref() == Some("garbage") {
                wire.write(&[0xde, 0xad, 0xbe, 0xef, 0x00, 0x01, 0x02, 0x03])?;
            }
            return wait_for_file("never");
        }
        wire.answer(id, &data)?;
    }
    Ok(())
}

/// Joins the group of a process that is gone afterwards: who leads a group cannot make a new one.
fn flee() -> std::io::Result<()> {
    let mut leader = Command::new("sleep").arg("1000").stdin(Stdio::null()).process_group(0).spawn()?;
    let joined = setpgid(None, Some(Pid::from_child(&leader)));
    leader.kill()?;
    leader.wait()?;
    Ok(joined?)
}
