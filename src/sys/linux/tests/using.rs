//! What processes use, as it is told: memory, computing time, and whether memory ran out.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use super::super::hierarchy::Hierarchy;
use super::super::process::Signal;
use super::*;

const MIB: u64 = 1024 * 1024;

#[test]
fn memory_and_its_peak_are_the_childs_own() {
    // Holds its block until somebody reads what does not fit into the pipe.
    let mut child = spawn(command("dd", &["if=/dev/zero", "bs=64M", "count=1"])).unwrap();
    assert!(read_some(&child.from_child).is_some(), "the block is there");
    let memory = child.process.memory().unwrap();
    assert!((64 * MIB..80 * MIB).contains(&memory.resident), "{memory:?}");
    assert!((memory.resident..80 * MIB).contains(&memory.peak), "{memory:?}");

    child.process.signal_group(Signal::Kill);
    wait_exit(&child.process);
    assert_eq!(child.process.memory(), None, "a zombie has none");
    child.process.reap();
    assert_eq!(child.process.memory(), None);
    assert_ne!(child.process.was_oom_killed(), Some(true));
}

#[test]
fn computing_time_comes_with_the_status() {
    let begin = Instant::now();
    let mut child = spawn(sh("while :; do :; done")).unwrap();
    let pid = child.process.pid();
    eventually("200 ms used", WATCHDOG, || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let ticks = stat.rsplit(") ").next().unwrap().split(' ').skip(11).take(2);
        // A tick is 10 ms on every Linux.
        ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>() >= 20
    });
    child.process.signal_group(Signal::Kill);
    wait_exit(&child.process);
    let ended = child.process.reap();
    let used = ended.user.unwrap() + ended.system.unwrap();
    assert!(used >= Duration::from_millis(190), "{ended:?}");
    assert!(used <= begin.elapsed() + Duration::from_millis(20), "{ended:?}");
    assert_eq!(ended.status.unwrap().signal(), Some(libc::SIGKILL));
}

#[test]
fn running_out_of_memory_is_told_from_other_kills() {
    let Some(small) = MemoryGroup::new(40 * MIB) else {
        eprintln!("skipped: no memory control group of version 1 can be made here");
        return;
    };
    let enter =
        format!("echo $$ > {}/cgroup.procs; echo in; read -r line; exec tail /dev/zero", small.0.display());
    let mut greedy = spawn(sh(&enter)).unwrap();
    let mut killed = spawn(sh(&enter)).unwrap();
    for child in [&mut greedy, &mut killed] {
        assert_eq!(read_line(&child.from_child), "in");
        child.process.memory().unwrap();
    }
    killed.process.signal_group(Signal::Kill);
    wait_exit(&killed.process);
    assert_eq!(killed.process.reap().status.unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(killed.process.was_oom_killed(), Some(false));

    write(greedy.to_child.as_fd(), b"\n").unwrap();
    wait_exit(&greedy.process);
    assert_eq!(greedy.process.was_oom_killed(), None, "not reaped yet");
    assert_eq!(greedy.process.reap().status.unwrap().signal(), Some(libc::SIGKILL));
    assert_eq!(greedy.process.was_oom_killed(), Some(true));
}

/// A memory control group of version 1 that goes away with the test.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    fn new(limit: u64) -> Option<Self> {
        let text = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = Hierarchy::Memory.directory(Hierarchy::Memory.group_in(&text)?)?;
        let group = Self(own.join(format!("stokehold-sys-test-{}", std::process::id())));
        fs::create_dir(&group.0).ok()?;
        fs::write(group.0.join("memory.limit_in_bytes"), limit.to_string()).ok()?;
        // Not there without accounting of swap.
        let _ = fs::write(group.0.join("memory.memsw.limit_in_bytes"), limit.to_string());
        Some(group)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
