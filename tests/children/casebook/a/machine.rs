//! Children that the machine does not let live: no memory, no program.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stokehold::{Cause, Death, Policy, Pool, PoolBuilder, Request, StartError, TaskErrorKind, WorkerCommand};
use stokehold_tests::{directory, eventually, kill, record_fact};

use super::{AT_ONCE, refused_as_broken};
use crate::ensure;
use crate::stage::{Desk, Outcome, Stage, child, command, prove_usable, tell};

/// The memory of the worker is limited, by a control group where one can be made.
pub(super) fn out_of_memory(_: &Stage) -> Outcome {
    let group = MemoryGroup::new(40 << 20);
    let command = match &group {
        Ok(group) => command("glutton").arg("join").arg(&group.directory),
        Err(_) => command("glutton").arg("limit"),
    };
    record_fact(
        "limit",
        group.as_ref().map_or_else(|why| format!("address space, because {why}"), |_| "group".into()),
    )?;
    let pool = Pool::builder(command).workers(1).start()?;
    let eat: Request<str, u64> = Request::new("eat");
    let desk = Desk::with(&pool, Policy::default().backoff(AT_ONCE, AT_ONCE), 3);
    let error = desk.submit("meal", eat, "meal")?.error()?;
    let death: &Death = error.death().ok_or("nobody died")?;
    record_fact("signal", death.signal().unwrap_or(0))?;
    record_fact("out_of_memory", format!("{:?}", death.out_of_memory))?;
    record_fact("attempt", error.attempt())?;
    prove_usable(&pool)?;
    pool.kill();
    drop(group);
    Ok(())
}

/// A memory control group, version 1, below that of this process. It is removed in the end.
#[derive(Debug)]
struct MemoryGroup {
    directory: PathBuf,
}

impl MemoryGroup {
    fn new(bytes: u64) -> Outcome<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup")?;
        let own = groups.lines().find_map(|line| line.split_once(":memory:").map(|(_, path)| path));
        let own = own.ok_or("there is no memory controller of version 1")?;
        let above = Path::new("/sys/fs/cgroup/memory").join(own.trim_start_matches('/'));
        let directory = above.join(format!("stokehold-fault-{}", std::process::id()));
        fs::create_dir(&directory)?;
        let group = Self { directory };
        fs::write(group.directory.join("memory.limit_in_bytes"), bytes.to_string())?;
        // Where swap is not accounted, there is no such file.
        let _ = fs::write(group.directory.join("memory.memsw.limit_in_bytes"), bytes.to_string());
        Ok(group)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Its last process may be on its way out.
        eventually(Duration::from_secs(2), || fs::remove_dir(&self.directory).is_ok());
    }
}

/// Programs that cannot be executed, from the start and later.
pub(super) fn no_program(_: &Stage) -> Outcome {
    let arena = directory()?;
    let make = |name: &str, bytes: &[u8], mode: u32| -> Outcome<PathBuf> {
        let path = arena.join(name);
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        Ok(path)
    };
    let honest = fs::read(child("honest"))?;
    let mut foreign = honest.get(..4096).ok_or("the child is too small")?.to_vec();
    // The machine of an ELF header: one that nobody has.
    foreign.splice(18..20, [0xfe, 0xca]);
    let programs = [
        (arena.join("missing"), "NotFound"),
        (make("forbidden", &honest, 0o644)?, "PermissionDenied"),
        (make("text", b"no program at all\n", 0o755)?, ""),
        (make("foreign", &foreign, 0o755)?, ""),
        (arena.clone(), "PermissionDenied"),
    ];
    for (program, kind) in programs {
        let builder: PoolBuilder = Pool::builder(WorkerCommand::new(&program)).workers(3);
        let error = builder.start().err().ok_or_else(|| format!("{} was started", program.display()))?;
        let StartError::Worker(death) = error else { return Err(error.into()) };
        tell(&death.cause)?;
        let Cause::Spawn { kind: found, .. } = &death.cause else { return Err(format!("{death}").into()) };
        ensure!(kind.is_empty() || format!("{found:?}") == kind, "{}: {found:?}", program.display());
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        ensure!(death.to_string().contains(&*name), "{death} does not name {name}");
    }
    vanishes_later(make("vanishing", &honest, 0o755)?)
}

/// A program that is gone when its worker must be replaced.
fn vanishes_later(program: PathBuf) -> Outcome {
    let pool = Pool::builder(WorkerCommand::new(&program)).workers(1).start()?;
    prove_usable(&pool)?;
    let wait_at: Request<str, (u32, u32, u32)> = Request::new("wait_at");
    let task = Desk::of(&pool).submit("held", wait_at, "never")?;
    let worker = task.running_in()?;
    fs::remove_file(&program)?;
    kill(worker);
    let error = task.error()?;
    ensure!(error.kind() == TaskErrorKind::Broken, "{error}");
    refused_as_broken(&pool)
}
