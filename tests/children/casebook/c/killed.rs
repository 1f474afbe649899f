//! Parents that are killed, and process ids that come again.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use stokehold::{Pool, WorkerCommand};
use stokehold_tests::{directory, eventually, is_alive, record_fact};

use super::{LEAVE_A_SLEEPER, SPIN, SQUARE, attend, park, ready, tell_workers};
use crate::a::{Job, WORK};
use crate::ensure;
use crate::stage::{Desk, MOMENT, Outcome, Stage, child, command, one, prove_usable};

/// Three workers with nothing to do.
pub(super) fn killed_idle(_: &Stage) -> Outcome {
    let pool = Pool::builder(command("honest")).workers(3).record_events().start()?;
    tell_workers(&ready(&pool, 3)?)?;
    park()
}

/// Two workers that never look up, a program that one of them has started, and a program that never heard of the protocol.
pub(super) fn killed_busy(_: &Stage) -> Outcome {
    let pool = Pool::builder(command("honest")).workers(2).record_events().start()?;
    let mut pids = ready(&pool, 2)?;
    let sleeper = pool.submit(LEAVE_A_SLEEPER, &())?.wait()?;
    for _ in 0..2 {
        pool.submit(SPIN, &())?.detach();
    }
    let spins = directory()?.join("effects");
    let busy =
        eventually(MOMENT, || fs::read_to_string(&spins).unwrap_or_default().matches("spins").count() == 2);
    ensure!(busy, "the workers are not busy");
    thread::spawn(|| {
        let stranger = Pool::builder(WorkerCommand::new("sleep").arg("1000")).workers(1);
        stranger.hello_timeout(Duration::from_secs(60)).start().map(drop)
    });
    let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut stranger = None;
    eventually(MOMENT, || {
        let children = stokehold_tests::children_of(std::process::id());
        stranger = children.into_iter().find(|pid| name(pid).trim() == "sleep");
        stranger.is_some()
    });
    pids.push(stranger.ok_or("the stranger was not started")?);
    record_fact("sleeper", sleeper)?;
    tell_workers(&pids)?;
    park()
}

/// Argument: `whole` for a life from start to shutdown, `second` for a second pool behind a gate.
pub(super) fn killed_in_a_system_call(stage: &Stage) -> Outcome {
    let short_life = || -> Outcome {
        let pool = Pool::builder(command("honest")).workers(2).start()?;
        for n in 0..3_u64 {
            pool.submit(SQUARE, &n)?.wait()?;
        }
        ensure!(pool.shutdown(MOMENT).complete, "a worker could not be ended");
        Ok(())
    };
    if stage.argument(0)? == "second" {
        let pool = one("honest", &[]).start()?;
        prove_usable(&pool)?;
        attend()?;
        short_life()?;
        return prove_nothing_left(pool);
    }
    short_life()
}

fn prove_nothing_left(pool: Pool) -> Outcome {
    ensure!(pool.shutdown(MOMENT).complete, "a worker could not be ended");
    Ok(())
}

/// In a PID namespace of its own, where numbers can be chosen. Argument: nothing, or `inner` for the parent that will be killed.
pub(super) fn number_comes_again(stage: &Stage) -> Outcome {
    if stage.arguments().first().is_some_and(|argument| argument == "inner") {
        let (pool, gone) = pool_whose_worker_is_gone("inner")?;
        record_fact("inner", gone)?;
        park()?;
        drop(pool);
        return Ok(());
    }
    let (pool, gone) = pool_whose_worker_is_gone("outer")?;
    let mut stranger = process_with_number(gone)?;
    ensure!(pool.kill().complete, "a worker could not be ended");
    ensure!(stranger.try_wait()?.is_none(), "the pool has killed a stranger");
    stranger.kill()?;
    stranger.wait()?;

    let mut inner = Command::new(child("casebook")).args(["C14", "inner"]).stdin(Stdio::null()).spawn()?;
    let record = directory()?.join("record");
    let mut gone = None;
    eventually(MOMENT, || {
        let text = fs::read_to_string(&record).unwrap_or_default();
        gone = text.lines().find_map(|line| line.strip_prefix("fact\tinner\t")?.parse().ok());
        gone.is_some()
    });
    let mut stranger = process_with_number(gone.ok_or("the inner parent told no number")?)?;
    let workers = stokehold_tests::children_of(inner.id());
    inner.kill()?;
    inner.wait()?;
    // The guardian was one of them: it has done all it does when it is gone.
    ensure!(
        eventually(MOMENT, || !workers.iter().any(|pid| is_alive(*pid))),
        "children outlived their parent"
    );
    ensure!(stranger.try_wait()?.is_none(), "the guardian has killed a stranger");
    stranger.kill()?;
    stranger.wait()?;
    Ok(())
}

/// A pool with another worker than at first, and the number of the first.
fn pool_whose_worker_is_gone(name: &str) -> Outcome<(Pool, u32)> {
    let pool = one("doomed", &[]).record_events().start()?;
    let [first] = ready(&pool, 1)?[..] else { return Err("there is no worker".into()) };
    let job = Job { name: name.to_owned(), how: "exit 3".to_owned(), until: 1, nap: 0 };
    Desk::of(&pool).submit(name, WORK, &job)?.answer()?;
    Ok((pool, first))
}

/// A process of a group of its own that has that number.
fn process_with_number(wanted: u32) -> Outcome<std::process::Child> {
    use std::os::unix::process::CommandExt;
    for _ in 0..100 {
        fs::write("/proc/sys/kernel/ns_last_pid", (wanted - 1).to_string())?;
        let mut sleeper = Command::new("sleep").arg("1000").stdin(Stdio::null()).process_group(0).spawn()?;
        if sleeper.id() == wanted {
            return Ok(sleeper);
        }
        sleeper.kill()?;
        sleeper.wait()?;
    }
    Err(format!("the number {wanted} did not come again").into())
}
