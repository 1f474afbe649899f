//! strace, which makes system calls fail, and kills at them. What is injected is the cases'; where there is no strace, they say
//! so and skip that part.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use stokehold_tests::{Arena, eventually, is_alive};

/// How long it may take to attach itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether it is there; if not, that is printed with what it is needed for.
pub(crate) fn is_there(purpose: &str) -> bool {
    let found = Command::new("strace")
        .arg("-V")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_err() {
        println!("skipped: strace is not installed, and is needed for {purpose}");
    }
    found.is_ok()
}

/// strace on threads of a process that runs already. Dropping it ends it; its threads go on.
#[derive(Debug)]
pub(crate) struct Tracer(Child);

impl Tracer {
    /// Attaches itself to these threads, and waits until it is.
    pub(crate) fn attach(arena: &Arena, threads: &[u32], expression: &str) -> Self {
        let mut command = Command::new("strace");
        command.args(["-qq", "-e", expression, "-o"]).arg(arena.path("strace"));
        for thread in threads {
            command.args(["-p", &thread.to_string()]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // One that waits in a call makes it again when it is traced, and what is injected there may end it at once.
        let is_traced = |thread: &u32| {
            let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
            let traced = status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"));
            traced || !is_alive(*thread)
        };
        let attached = eventually(PATIENCE, || threads.iter().all(is_traced));
        assert!(attached, "strace did not attach itself to {threads:?}");
        Self(child)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let asked = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        // It lets its threads go when it is asked to end, and has ended when they have.
        let _ = asked.map(|pid| kill_process(pid, Signal::INT));
        if !eventually(PATIENCE, || self.0.try_wait().is_ok_and(|ended| ended.is_some())) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// The system calls in what strace wrote, with how often each was made.
pub(crate) fn calls_in(strace: &str) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for line in strace.lines() {
        let Some((call, _)) = line.split_once('(') else { continue };
        // The one that replaces strace's own child is not the program's; the one that ends it does not return.
        if call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && call != "execve" {
            *calls.entry(call.to_owned()).or_default() += 1;
        }
    }
    calls
}

/// Which of so many calls to look at.
pub(crate) fn first_middle_last(count: usize) -> BTreeSet<usize> {
    [1, count.div_ceil(2), count].into()
}
