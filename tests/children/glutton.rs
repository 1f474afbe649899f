//! A worker with the SDK whose memory is limited, by the control group that it joins (`join DIRECTORY`) or by a limit of its
//! address space (`limit`), and which eats without end when it is told to: a leak. With nothing to eat it is honest.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use stokehold_child::{Data, Init, Request, Worker};
use stokehold_tests::effect;

/// One mouthful. A few a second fit into the limit, so that a parent can see it grow.
const MOUTHFUL: usize = 4 << 20;

fn main() -> ExitCode {
    Worker::new(|_: &mut Init| confine())
        .on_raw("DO", |(), input, _| Data::from_encoded(input.to_vec()))
        .on(Request::<String, u64>::new("eat"), |(), name, context| {
            effect(&name, context.attempt())?;
            Ok::<_, io::Error>(eat())
        })
        .serve()
}

fn confine() -> io::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(how), Some(directory)) if how == "join" => {
            let members = std::path::Path::new(&directory).join("cgroup.procs");
            std::fs::write(members, std::process::id().to_string())
        }
        _ => {
            let limit = Some(256 << 20);
            Ok(setrlimit(Resource::As, Rlimit { current: limit, maximum: limit })?)
        }
    }
}

fn eat() -> u64 {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(vec![1; MOUTHFUL]);
        std::thread::sleep(Duration::from_millis(40));
        if eaten.len() > 1 << 20 {
            return eaten.len() as u64;
        }
    }
}
