//! Parents on a machine that has not enough: of descriptors, of processes, of large pipes.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_bytes::Bytes;
use stokehold::{Event, Pool};
use stokehold_tests::{directory, eventually, record_fact, wait_for_file};

use super::{REVERSE, WAIT_AT, attend, ready};
use crate::ensure;
use crate::stage::{
    Desk, ECHO, MOMENT, Outcome, Stage, command, descriptors, one, prove_usable, tell, wait_for_event,
};

/// Argument: `files` for a limit of descriptors, `processes` for one of processes, `injected` for what the test injects into
/// the start of a second pool.
pub(super) fn shortage(stage: &Stage) -> Outcome {
    match stage.argument(0)? {
        "files" => shortage_of_files(),
        "processes" => shortage_of_processes(),
        _ => {
            let pool = one("honest", &[]).start()?;
            prove_usable(&pool)?;
            attend()?;
            let begun = Instant::now();
            match Pool::builder(command("honest")).workers(2).start_timeout(Duration::from_secs(1)).start() {
                Ok(second) => {
                    record_fact("second", "started")?;
                    Desk::of(&second).submit("second", ECHO, "second")?.answer()?;
                }
                Err(error) => {
                    record_fact("second", &error)?;
                    record_fact("second_error", format!("{error:?}"))?;
                }
            }
            record_fact("milliseconds", begun.elapsed().as_millis())?;
            // The first one has noticed nothing, and a third one starts as ever.
            Desk::of(&pool).submit("first", ECHO, "first")?.answer()?;
            wait_for_file("relieved")?;
            let third = one("honest", &[]).start()?;
            Desk::of(&third).submit("third", ECHO, "third")?.answer()?;
            Ok(())
        }
    }
}

/// From none to enough, descriptor by descriptor: a pool starts, or says why not, and holds nothing then.
fn shortage_of_files() -> Outcome {
    let limit = getrlimit(Resource::Nofile);
    let open = descriptors().len() as u64;
    let (mut started, mut refused) = (0, 0);
    for more in 0..40 {
        setrlimit(Resource::Nofile, Rlimit { current: Some(open + more), maximum: limit.maximum })?;
        let pool =
            Pool::builder(command("honest")).workers(2).start_timeout(Duration::from_millis(300)).start();
        // Whatever comes of it must work without a limit again.
        setrlimit(Resource::Nofile, limit)?;
        match pool {
            Ok(pool) => {
                started += 1;
                let name = format!("with{more}");
                Desk::of(&pool).submit(&name, ECHO, &name)?.answer()?;
            }
            Err(error) => {
                refused += 1;
                tell(&error)?;
                record_fact(&format!("refused {more}"), error)?;
            }
        }
        // A thread that could not do its work is not waited for.
        let back = eventually(Duration::from_secs(1), || descriptors().len() as u64 == open);
        ensure!(back, "with {more} descriptors some were lost: {:?}", descriptors());
    }
    record_fact("started", started)?;
    record_fact("refused", refused)?;
    // A pool whose worker dies in a shortage goes on when it is over.
    let pool = one("honest", &[]).start()?;
    let events = pool.events();
    let task = Desk::of(&pool).submit("in need", WAIT_AT, "gate")?;
    let pid = task.running_in()?;
    // From here to the end of the limit this process cannot open its record either.
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), maximum: limit.maximum })?;
    stokehold_tests::kill(pid);
    let short = wait_for_event(&events, |event| match event {
        Event::WorkerDied(death) if death.pid.is_none() => Some(death.to_string()),
        _ => None,
    });
    setrlimit(Resource::Nofile, limit)?;
    record_fact("shortage", short?)?;
    fs::write(directory()?.join("gate"), "")?;
    task.answer()?;
    prove_usable(&pool)
}

/// The user may have no more processes.
fn shortage_of_processes() -> Outcome {
    let pool = one("honest", &[]).start()?;
    let limit = getrlimit(Resource::Nproc);
    setrlimit(Resource::Nproc, Rlimit { current: Some(1), maximum: limit.maximum })?;
    let second =
        Pool::builder(command("honest")).workers(2).start_timeout(Duration::from_millis(300)).start();
    let error = second.err().ok_or("a pool was started without processes")?;
    tell(&error)?;
    record_fact("refused", &error)?;
    setrlimit(Resource::Nproc, limit)?;
    let second = one("honest", &[]).start()?;
    Desk::of(&second).submit("second", ECHO, "second")?.answer()?;
    prove_usable(&pool)
}

/// As a user for whom pipes become small: so many pipes are held (argument) that those of the pool cross the border.
pub(super) fn small_pipes(stage: &Stage) -> Outcome {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let held = (0..stage.number(0)?).map(|_| rustix::pipe::pipe()).collect::<Result<Vec<_>, _>>()?;
    let workers = usize::try_from(stage.number(1)?)?;
    let pool = Pool::builder(command("honest")).workers(workers).window(1).record_events().start()?;
    let pids = ready(&pool, workers)?;
    let mut sizes = Vec::new();
    for pid in pids {
        sizes.push(pipe_bytes_of(pid).unwrap_or(0));
    }
    sizes.sort_unstable();
    record_fact("smallest", sizes.first().ok_or("there is no worker")?)?;
    record_fact("largest", sizes.last().ok_or("there is no worker")?)?;
    // Every worker moves more than any of these pipes holds, at the same time as the others.
    let desk = Desk::of(&pool);
    let bytes: Vec<u8> = (0..300_000).map(|n: u32| n.to_le_bytes()[0]).collect();
    let tasks =
        (0..workers * 3).map(|number| desk.submit(&format!("r{number}"), REVERSE, Bytes::new(&bytes)));
    for task in tasks.collect::<Outcome<Vec<_>>>()? {
        let mut answer = task.answer()?.into_vec();
        answer.reverse();
        ensure!(answer == bytes, "bytes were lost");
    }
    prove_usable(&pool)?;
    ensure!(pool.shutdown(MOMENT).is_graceful(), "a shutdown needed force");
    drop(held);
    Ok(())
}

/// How large the pipe is that a process reads from: as seen through its own descriptor, opened again.
fn pipe_bytes_of(pid: u32) -> io::Result<usize> {
    let mut smallest = usize::MAX;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let is_pipe =
            fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("pipe:"));
        if is_pipe {
            let mut options = fs::OpenOptions::new();
            let pipe = std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true), 0o4000)
                .open(entry.path());
            smallest = smallest.min(rustix::pipe::fcntl_getpipe_size(pipe?)?);
        }
    }
    Ok(smallest)
}
