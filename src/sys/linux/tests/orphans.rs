//! What a parent that is killed with SIGKILL leaves behind: nothing. And the guardian's script by itself.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;

use rustix::process::{Pid, Signal, kill_process};

use super::super::guardian;
use super::*;

/// Passes the mark that the children carry to the parent that is to be killed.
const MARK: &str = "STOKEHOLD_SYS_TEST_MARK";
/// Tells that parent to kill its guardian.
const UNGUARDED: &str = "STOKEHOLD_SYS_TEST_UNGUARDED";
/// Tells it to kill its guardian, and to start another child.
const REGUARDED: &str = "STOKEHOLD_SYS_TEST_REGUARDED";
/// The promise: nobody is left after this.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn killing_the_parent_kills_children_and_grandchildren() {
    if let Ok(mark) = env::var(MARK) {
        be_the_parent(&mark);
        return;
    }
    let victim = Victim::start("killing_the_parent_kills_children_and_grandchildren", &[]);
    assert!(is_alive(victim.guardian));
    let (mark, guardian) = (victim.mark.clone(), victim.guardian);
    victim.kill();
    eventually("children and grandchildren gone", SOON, || alive_with(&mark).is_empty());
    eventually("guardian gone", SOON, || !is_alive(guardian));
}

#[test]
fn without_a_guardian_direct_children_still_die() {
    if let Ok(mark) = env::var(MARK) {
        be_the_parent(&mark);
        return;
    }
    let victim = Victim::start("without_a_guardian_direct_children_still_die", &[(UNGUARDED, "1")]);
    let (mark, direct) = (victim.mark.clone(), victim.direct.clone());
    victim.kill();
    eventually("direct children gone", SOON, || !direct.iter().any(|&pid| is_alive(pid)));
    // What the guardian is for, and the proof that the other test tests it.
    let left = alive_with(&mark);
    assert!(!left.is_empty());
    for pid in left {
        let _ = kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL);
    }
}

#[test]
fn a_guardian_that_was_killed_is_replaced_with_the_next_start_and_told_of_everybody() {
    if let Ok(mark) = env::var(MARK) {
        be_the_parent(&mark);
        return;
    }
    let test = "a_guardian_that_was_killed_is_replaced_with_the_next_start_and_told_of_everybody";
    let victim = Victim::start(test, &[(REGUARDED, "1")]);
    assert!(is_alive(victim.guardian));
    let (mark, guardian) = (victim.mark.clone(), victim.guardian);
    victim.kill();
    eventually("children and grandchildren gone", SOON, || alive_with(&mark).is_empty());
    eventually("guardian gone", SOON, || !is_alive(guardian));
}

#[test]
fn the_script_kills_the_groups_that_are_left() {
    let mut sleepers: Vec<_> = (0..4).map(|_| sleeper()).collect();
    let mut script = Command::new("/bin/sh")
        .args(["-c", guardian::SCRIPT])
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut input = script.stdin.take().unwrap();
    let ids: Vec<_> = sleepers.iter().map(|sleeper| sleeper.id()).collect();
    for id in &ids {
        writeln!(input, "+ {id}").unwrap();
    }
    eventually("traps set", WATCHDOG, || ignored_signals(script.id()) & 0x8_4007 == 0x8_4007);
    // Signals that end a session do not end it; nonsense does nothing.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        writeln!(input, "+ 1\n+ 0\n+ x\n+\n\n- 999999999\n+ -1").unwrap();
        kill_process(Pid::from_child(&script), signal).unwrap();
    }
    writeln!(input, "- {}\n- {}", ids[0], ids[2]).unwrap();
    drop(input);
    assert!(script.wait().unwrap().success());
    assert!(!sleepers[1].wait().unwrap().success());
    assert!(!sleepers[3].wait().unwrap().success());
    for index in [0, 2] {
        assert!(sleepers[index].try_wait().unwrap().is_none(), "unregistered");
        sleepers[index].kill().unwrap();
        sleepers[index].wait().unwrap();
    }
}

/// As a set of bits, the lowest for signal 1.
fn ignored_signals(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// In a group of its own, and for a short time only should the test fail.
fn sleeper() -> std::process::Child {
    Command::new("sleep")
        .arg("20")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// A parent in a process of its own, with `sleep` as one child and a shell with two sleeping ones as another.
struct Victim {
    process: std::process::Child,
    mark: String,
    guardian: u32,
    direct: Vec<u32>,
}

impl Victim {
    fn start(test: &str, env: &[(&str, &str)]) -> Self {
        let mark = format!("stokehold-mark-{}-{test}", std::process::id());
        let mut command = this_test(module_path!(), test);
        command.env(MARK, &mark).envs(env.iter().copied());
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().expect("numbers"));
        let (guardian, direct) = (numbers.next().unwrap(), numbers.by_ref().take(2).collect());
        let victim = Self { process, mark, guardian, direct };
        // Itself, and three times sleep; the shell may have become one of these.
        eventually("all sleep", WATCHDOG, || victim.sleeping() == 3);
        victim
    }

    fn sleeping(&self) -> usize {
        let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        alive_with(&self.mark).iter().filter(|pid| name(pid).trim() == "sleep").count()
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The body of the victim: starts, reports the numbers, and waits to be killed or for its tester to vanish.
fn be_the_parent(mark: &str) {
    let spawner = Spawner::get().unwrap();
    let guardian = spawner.guardian_pid().unwrap();
    let marked = |mut command: SpawnCommand| {
        command.env.push((MARK.into(), mark.into()));
        spawn(command).unwrap()
    };
    let sleep = marked(command("sleep", &["1000"]));
    let family = marked(sh("sleep 1000 & sleep 1000"));
    let kill_guardian = || {
        kill_process(Pid::from_raw(spawner.guardian_pid().unwrap().cast_signed()).unwrap(), Signal::KILL)
            .unwrap();
        eventually("guardian gone", WATCHDOG, || !spawner.has_guardian());
    };
    if env::var_os(UNGUARDED).is_some() {
        kill_guardian();
    }
    let newcomer = env::var_os(REGUARDED).is_some().then(|| {
        kill_guardian();
        spawn(command("cat", &[])).unwrap()
    });
    let guardian = spawner.guardian_pid().unwrap_or(guardian);
    eprintln!("{guardian} {} {}", sleep.process.pid(), family.process.pid());
    let _ = io::stdin().read_line(&mut String::new());
    drop(newcomer);
}
