//! Each level of containment, with a worker that starts a child, one that left its session, and a daemon: who is left when the
//! worker ends, is killed, or loses its parent to a SIGKILL. Levels that the machine does not have are skipped, and said so.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use rustix::process::{Pid, kill_process};

use super::super::hierarchy::Hierarchy;
use super::super::namespace::Mode;
use super::super::process::Signal;
use super::super::trial::{check_containment, namespace_mode};
use super::*;

const LEVEL: &str = "SYS_TEST_LEVEL";
const MARK: &str = "SYS_TEST_MARK";
const UNGUARDED: &str = "SYS_TEST_UNGUARDED";
/// The promise: nobody is left after this.
const SOON: Duration = Duration::from_secs(2);
/// One that stays in the group, one that left it, and one that nobody is the parent of.
const FAMILY: &str = "sleep 1000 & setsid sleep 1000 & setsid setsid -f sleep 1000; echo all; ";
/// What the worker itself does then.
const ENDS_WITH_INPUT: &str = "read -r line";
const STAYS: &str = "exec sleep 1000";

#[test]
fn a_worker_that_ends_takes_everybody_with_it() {
    for level in firm_levels() {
        if !alone_at(level, module_path!(), "a_worker_that_ends_takes_everybody_with_it") {
            continue;
        }
        let (mark, _spawner) = (own_mark(), Spawner::get().unwrap());
        let mut family = start_family(level, ENDS_WITH_INPUT, &mark);
        drop(family.to_child);
        wait_exit(&family.process);
        assert!(family.process.reap().status.is_some());
        check_gone(&mark);
    }
}

#[test]
fn a_worker_that_is_killed_takes_everybody_with_it() {
    for level in firm_levels() {
        if !alone_at(level, module_path!(), "a_worker_that_is_killed_takes_everybody_with_it") {
            continue;
        }
        let (mark, _spawner) = (own_mark(), Spawner::get().unwrap());
        let mut family = start_family(level, STAYS, &mark);
        family.process.signal_group(Signal::Kill);
        wait_exit(&family.process);
        family.process.reap();
        check_gone(&mark);
        drop(start_family(level, STAYS, &mark));
        check_gone(&mark);
    }
}

#[test]
fn killing_the_parent_leaves_nobody() {
    if let Some(level) = asked_level() {
        be_the_parent(level);
        return;
    }
    let own = own_user();
    let mut cases: Vec<_> = firm_levels().into_iter().map(|level| (level, own)).collect();
    if has(Containment::PidNamespace) {
        cases.extend(
            users().into_iter().filter(|&user| user != own).map(|user| (Containment::PidNamespace, user)),
        );
    }
    for (level, user) in cases {
        let parent = Parent::start(level, user, "killing_the_parent_leaves_nobody", false);
        let (pid, mark, guardian) = parent.kill();
        eventually(&format!("everybody gone by {level}"), SOON, || alive_with(&mark).is_empty());
        eventually("control groups gone", SOON, || run_groups(pid).is_empty());
        eventually("guardian gone", SOON, || !is_alive(guardian));
    }
}

#[test]
fn a_namespace_needs_no_guardian() {
    if let Some(level) = asked_level() {
        be_the_parent(level);
        return;
    }
    if !has(Containment::PidNamespace) {
        return;
    }
    for user in users() {
        let parent = Parent::start(Containment::PidNamespace, user, "a_namespace_needs_no_guardian", true);
        let (_, mark, _) = parent.kill();
        eventually("everybody gone", SOON, || alive_with(&mark).is_empty());
    }
}

#[test]
fn control_groups_of_a_dead_parent_and_guardian_are_found_by_the_next_process() {
    let test = "control_groups_of_a_dead_parent_and_guardian_are_found_by_the_next_process";
    if let Some(level) = asked_level() {
        be_the_parent(level);
        return;
    }
    if !has(Containment::Cgroup) {
        return;
    }
    let (pid, mark, _) = Parent::start(Containment::Cgroup, own_user(), test, true).kill();
    assert!(!run_groups(pid).is_empty());
    assert!(!alive_with(&mark).is_empty(), "those that left their group");
    // Starts, finds, and ends.
    let (next, ..) = Parent::start(Containment::Cgroup, own_user(), test, false).kill();
    assert_eq!(run_groups(pid), Vec::<PathBuf>::new());
    eventually("everybody gone", SOON, || alive_with(&mark).is_empty());
    eventually("the next one's too", SOON, || run_groups(next).is_empty());
}

#[test]
fn children_of_the_host_are_not_touched() {
    if !has(Containment::Subreaper) || !alone(module_path!(), "children_of_the_host_are_not_touched") {
        return;
    }
    let host = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("_STOKEHOLD_MARK", "another.1;").stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    // The first ends with this test, however that ends.
    let (mut living, mut exited) = (host("read -r line"), host("exit 5"));
    eventually("a zombie", WATCHDOG, || !is_alive(exited.id()));
    let mark = own_mark();
    for _ in 0..3 {
        drop(start_family(Containment::Subreaper, STAYS, &mark));
    }
    check_nobody_has(&mark);
    assert!(living.try_wait().unwrap().is_none());
    assert_eq!(exited.wait().unwrap().code(), Some(5), "nobody else reaped it");
    drop(living.stdin.take());
    living.wait().unwrap();
}

#[test]
fn other_levels_leave_no_zombies_to_a_parent_that_adopts() {
    if !has(Containment::Subreaper)
        || !alone(module_path!(), "other_levels_leave_no_zombies_to_a_parent_that_adopts")
    {
        return;
    }
    let _adopting = spawn(at(Containment::Subreaper, sh("read -r line"))).unwrap();
    let family = spawn(sh("sleep 1000 & echo all; read -r line")).unwrap();
    assert_eq!(read_line(&family.from_child), "all");
    drop(family);
    assert_eq!(children().len(), 2, "the guardian, and the one that still runs");
}

#[test]
fn marks_of_a_pool_around_this_one_are_kept() {
    if !has(Containment::Subreaper) || !alone(module_path!(), "marks_of_a_pool_around_this_one_are_kept") {
        return;
    }
    let mut command = at(Containment::Subreaper, sh("echo $_STOKEHOLD_MARK"));
    command.env.push(("_STOKEHOLD_MARK".into(), "outer.1;".into()));
    let child = spawn(command).unwrap();
    let marks = read_to_end(&child.from_child);
    assert!(marks.starts_with("outer.1;") && marks.ends_with(".1;\n"), "{marks}");
}

#[test]
fn a_process_in_a_namespace_is_number_one_and_keeps_its_user() {
    let test = "a_process_in_a_namespace_is_number_one_and_keeps_its_user";
    if !has(Containment::PidNamespace) {
        return;
    }
    if env::var_os(ALONE).is_some() {
        check_containment(Containment::PidNamespace).expect("unprivileged user namespaces work");
        let child = spawn(at(Containment::PidNamespace, sh("echo $$ $(id -u) $(id -g)"))).unwrap();
        let user = own_user();
        assert_eq!(read_to_end(&child.from_child), format!("1 {user} {user}\n"));
        assert_eq!(namespace_mode().unwrap() == Mode::Privileged, user == 0);
        drop(child);
        return;
    }
    for user in users() {
        let mut command = this_test(module_path!(), test);
        command.uid(user).gid(user);
        check_passes(command, &format!("{test} as user {user}"));
    }
}

#[test]
fn a_failed_start_leaves_nothing_at_any_level() {
    for level in firm_levels() {
        if !alone_at(level, module_path!(), "a_failed_start_leaves_nothing_at_any_level") {
            continue;
        }
        let _spawner = Spawner::get().unwrap();
        drop(spawn(at(level, sh("true"))).unwrap());
        let before = open_descriptors();
        for _ in 0..5 {
            spawn(at(level, command("/no/such/program", &[]))).unwrap_err();
        }
        assert_eq!(open_descriptors(), before);
        assert_eq!(children().len(), 1, "the guardian");
        for run in run_groups(std::process::id()) {
            assert!(!fs::read_dir(run).unwrap().any(|entry| entry.unwrap().path().is_dir()));
        }
    }
}

#[test]
fn a_level_that_is_refused_says_so() {
    // Nobody can make a control group here, and a process that has used up its namespaces cannot make another.
    if own_user() != 0 {
        eprintln!("skipped: not root");
        return;
    }
    let test = "a_level_that_is_refused_says_so";
    if env::var_os(ALONE).is_some() {
        let error = check_containment(Containment::Cgroup).unwrap_err();
        assert!(error.to_string().starts_with("containment by cgroup is not possible here: "), "{error}");
        let error = spawn(at(Containment::Cgroup, sh("true"))).unwrap_err();
        assert!(error.to_string().contains("could not be contained: containment by cgroup"), "{error}");
        return;
    }
    for user in users().into_iter().filter(|&user| user == NOBODY) {
        let mut command = this_test(module_path!(), test);
        command.uid(user).gid(user);
        check_passes(command, test);
    }
}

const NOBODY: u32 = 65534;

/// Ourselves, and if that is root a user without rights, if such a one may run this program.
fn users() -> Vec<u32> {
    let own = own_user();
    let mut list = Command::new(env::current_exe().unwrap());
    list.arg("--list").stdout(Stdio::null()).uid(NOBODY);
    if own == 0 && list.status().is_ok() { vec![own, NOBODY] } else { vec![own] }
}

fn firm_levels() -> Vec<Containment> {
    let all = [Containment::Subreaper, Containment::Cgroup, Containment::PidNamespace];
    all.into_iter().filter(|&level| asked_level().is_none_or(|asked| asked == level) && has(level)).collect()
}

/// Prints the reason if not.
fn has(level: Containment) -> bool {
    check_containment(level).inspect_err(|error| eprintln!("skipped: {error}")).is_ok()
}

fn asked_level() -> Option<Containment> {
    let text = env::var(LEVEL).ok()?;
    [Containment::Subreaper, Containment::Cgroup, Containment::PidNamespace]
        .into_iter()
        .find(|level| level.to_string() == text)
}

/// As [`alone`], once for each level.
fn alone_at(level: Containment, module: &str, test: &str) -> bool {
    if asked_level().is_some() {
        return true;
    }
    let mut command = this_test(module, test);
    command.env(LEVEL, level.to_string());
    check_passes(command, &format!("{test} by {level}"));
    false
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn own_mark() -> String {
    format!("sys-test-mark-{}-", std::process::id())
}

fn at(level: Containment, mut command: SpawnCommand) -> SpawnCommand {
    command.containment = level;
    command
}

fn start_family(level: Containment, then: &str, mark: &str) -> Spawned {
    let mut command = at(level, sh(&format!("{FAMILY}{then}")));
    command.env.push((MARK.into(), mark.into()));
    let family = spawn(command).unwrap();
    assert_eq!(read_line(&family.from_child), "all");
    let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let sleeping = || alive_with(mark).iter().filter(|pid| name(pid).trim() == "sleep").count();
    let expected = 3 + usize::from(then == STAYS);
    eventually("all sleep", WATCHDOG, || sleeping() == expected);
    family
}

fn check_gone(mark: &str) {
    check_nobody_has(mark);
    assert_eq!(children().len(), 1, "the guardian, and no zombie");
    for run in run_groups(std::process::id()) {
        assert!(!fs::read_dir(run).unwrap().any(|entry| entry.unwrap().path().is_dir()));
    }
}

/// At once, not eventually: a reaped worker has left nobody.
fn check_nobody_has(mark: &str) {
    assert_eq!(alive_with(mark), Vec::<u32>::new());
}

/// The control groups that a process has made.
fn run_groups(pid: u32) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = Hierarchy::Unified.group_in(&text).and_then(|group| Hierarchy::Unified.directory(group));
    let Some(entries) = own.and_then(|own| fs::read_dir(own).ok()) else { return Vec::new() };
    let is_of = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap_or_default();
        name.starts_with("stokehold-") && name.split('-').nth(2) == Some(&pid.to_string())
    };
    entries.map(|entry| entry.unwrap().path()).filter(is_of).collect()
}

/// A parent in a process of its own, with a family.
struct Parent {
    process: std::process::Child,
    mark: String,
    guardian: u32,
}

impl Parent {
    fn start(level: Containment, user: u32, test: &str, unguarded: bool) -> Self {
        let mut command = this_test(module_path!(), test);
        command.env(LEVEL, level.to_string()).uid(user);
        if unguarded {
            command.env(UNGUARDED, "1");
        }
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let guardian = line.trim().parse().expect(&line);
        let mark = format!("sys-test-mark-{}-", process.id());
        Self { process, mark, guardian }
    }

    /// Its number, mark and guardian.
    fn kill(mut self) -> (u32, String, u32) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        (self.process.id(), self.mark, self.guardian)
    }
}

fn be_the_parent(level: Containment) {
    let family = start_family(level, STAYS, &own_mark());
    let spawner = Spawner::get().unwrap();
    let guardian = spawner.guardian_pid().unwrap();
    if env::var_os(UNGUARDED).is_some() {
        let pid = Pid::from_raw(guardian.cast_signed()).unwrap();
        kill_process(pid, rustix::process::Signal::KILL).unwrap();
        eventually("guardian gone", WATCHDOG, || !spawner.has_guardian());
    }
    eprintln!("{guardian}");
    let _ = io::stdin().read_line(&mut String::new());
    drop(family);
}
