//! The parent, and the machine below it: group C.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use stokehold_tests::{Arena, eventually, is_alive};

use crate::harness::{Finished, Running, Scene, Trial, side_by_side};
use crate::strace::{Tracer, calls_in, first_middle_last};
use crate::{cases, program, strace};

cases! {
    ParentCase {
        C1: c01_killed_with_idle_workers_it_leaves_nobody,
        C2: c02_killed_with_busy_workers_it_leaves_nobody,
        C3: c03_killed_at_any_of_its_system_calls_it_leaves_nobody,
        C4: c04_a_pool_outlives_the_thread_that_made_it,
        C5: c05_a_grandchild_that_holds_the_output_delays_nothing,
        C6: c06_a_grandchild_in_a_session_of_its_own_is_held_by_the_firmer_levels,
        C7: c07_ctrl_c_leaves_the_end_to_the_host,
        C8: c08_a_host_that_reaps_or_ignores_its_children_loses_only_their_status,
        C9: c09_a_shortage_is_told_and_passes,
        C10: c10_interrupted_calls_are_made_again,
        C11: c11_two_thousand_starts_and_stops_leave_nothing,
        C12: c12_a_users_panic_is_the_users_own,
        C13: c13_dropped_and_forgotten_pools_and_handles_leave_nobody,
        C14: c14_a_process_id_that_comes_again_is_a_strangers,
        C15: c15_a_parent_without_standard_streams_works_and_prints_nothing,
        C16: c16_small_pipes_are_slower_and_no_more,
    }
}

/// Direct children die with their parent by a signal of the kernel's.
const AT_ONCE: Duration = Duration::from_millis(100);

/// What they have started is killed by a shell that has to be woken first.
const SOON: Duration = Duration::from_secs(2);

/// Nobody in particular.
const NOBODY: u32 = 65_534;

fn c01_killed_with_idle_workers_it_leaves_nobody(trial: &Trial) {
    let mut delays: Vec<Duration> =
        (0..5).map(|_| delay_of_death(trial.scene(&[]).killed().start())).collect();
    delays.sort();
    println!("the last worker was gone after {delays:?}");
    assert!(delays[2] < AT_ONCE, "{delays:?}");
}

fn c02_killed_with_busy_workers_it_leaves_nobody(trial: &Trial) {
    let mut delays: Vec<Duration> =
        (0..5).map(|_| delay_of_death(trial.scene(&[]).killed().start())).collect();
    delays.sort();
    println!("the last worker was gone after {delays:?}");
    assert!(delays[2] < AT_ONCE, "{delays:?}");
}

/// Kills the parent when its workers are there. How long the last of them lived on.
fn delay_of_death(mut running: Running) -> Duration {
    let workers = running.wait_for("workers");
    let workers: Vec<u32> = workers.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert!(workers.iter().all(|pid| is_alive(*pid)), "{workers:?} are not all there");
    let begun = Instant::now();
    running.kill();
    let gone = eventually(SOON, || !workers.iter().any(|pid| is_alive(*pid)));
    let delay = begun.elapsed();
    assert!(gone, "some of {workers:?} live on");
    // And what they have started.
    assert!(
        eventually(SOON, || running.arena.survivors().is_empty()),
        "{:?} live on",
        running.arena.survivors()
    );
    running.finish();
    delay
}

fn c03_killed_at_any_of_its_system_calls_it_leaves_nobody(trial: &Trial) {
    if !strace::is_there("killing a parent at its system calls") {
        return;
    }
    // The thread that uses the pool, from the first instruction of the program to its last.
    let calls = calls_in(&trial.scene(&["whole"]).traced("trace=all").run().strace);
    let mut plays = Vec::new();
    for (call, count) in &calls {
        plays.extend(first_middle_last(*count).into_iter().map(|time| (call.clone(), time)));
    }
    let whole = plays.len();
    side_by_side(plays, |(call, time)| {
        let inject = format!("inject={call}:signal=SIGKILL:when={time}");
        trial.scene(&["whole"]).killed().traced(&inject).run();
    });
    // The thread that starts the workers, during a second start.
    let calls = calls_in(&second_start(trial, "trace=all", false).strace);
    let mut plays = Vec::new();
    for (call, count) in &calls {
        plays.extend(first_middle_last(*count).into_iter().map(|time| (call.clone(), time)));
    }
    println!("killed at {whole} calls of the main thread, and {} of the spawner's: {calls:?}", plays.len());
    assert!(whole >= 24 && plays.len() >= 6, "too few calls were found: {whole}, {calls:?}");
    side_by_side(plays, |(call, time)| {
        second_start(trial, &format!("inject={call}:signal=SIGKILL:when={time}"), true);
    });
}

/// A second pool is started while the thread that starts processes is traced.
fn second_start(trial: &Trial, expression: &str, is_deadly: bool) -> Finished {
    let scene = trial.scene(&["second"]);
    let mut running = if is_deadly { scene.killed() } else { scene }.start();
    let spawners = threads(&running.wait_for("threads"), Some("stokehold-spawn"));
    assert_eq!(spawners.len(), 1, "{spawners:?}");
    let tracer = Tracer::attach(&running.arena, &spawners, expression);
    running.open("go");
    running.wait_for_end();
    drop(tracer);
    running.finish()
}

/// The numbers in "NUMBER:NAME NUMBER:NAME …" of all threads, or of those of that name.
fn threads(list: &str, wanted: Option<&str>) -> Vec<u32> {
    let wanted = |name: &str| wanted.is_none_or(|wanted| name == wanted);
    let pairs = list.split(' ').filter_map(|thread| thread.split_once(':'));
    pairs.filter(|(_, name)| wanted(name)).map(|(number, _)| number.parse().unwrap()).collect()
}

fn c04_a_pool_outlives_the_thread_that_made_it(trial: &Trial) {
    trial.scene(&[]).usable().run();
}

fn c05_a_grandchild_that_holds_the_output_delays_nothing(trial: &Trial) {
    let played = trial.scene(&[]).usable().run();
    assert!(played.number("milliseconds") < 1_000, "the answer waited for a grandchild: {:?}", played.facts);
    assert!(
        played.number("shutdown_milliseconds") < 1_000,
        "the shutdown waited for a grandchild: {:?}",
        played.facts
    );
}

fn c06_a_grandchild_in_a_session_of_its_own_is_held_by_the_firmer_levels(trial: &Trial) {
    for level in ["subreaper", "cgroup", "pid namespace"] {
        let dropped = trial.scene(&[level, "drop"]).run();
        if let Some(why) = dropped.facts.get("refused") {
            println!("skipped {level}: {why}");
            assert!(why.contains(level), "{why}");
            continue;
        }
        let mut running = trial.scene(&[level, "park"]).killed().start();
        running.wait_for("ready");
        running.kill();
        let gone = eventually(SOON, || running.arena.survivors().is_empty());
        assert!(gone, "{level}: {:?} outlived a SIGKILL of the parent", running.arena.survivors());
        running.finish();
    }
    // The lowest level says that it does not hold them.
    let mut running = trial.scene(&["group", "park"]).start();
    running.wait_for("ready");
    running.open("done");
    running.wait_for_end();
    let escaped = running.arena.survivors();
    assert_eq!(escaped.len(), 1, "one had escaped");
    stokehold_tests::kill(escaped[0]);
    running.finish();
}

fn c07_ctrl_c_leaves_the_end_to_the_host(trial: &Trial) {
    let mut running = trial.scene(&[]).start();
    let workers = running.wait_for("workers");
    kill_process_group(pid_of(running.pid()), Signal::INT).unwrap();
    for worker in workers.split(' ') {
        // A shell that gave its terminal to the workers' groups would do that.
        kill_process_group(pid_of(worker.parse().unwrap()), Signal::INT).unwrap();
    }
    for gate in ["go", "one", "two", "three", "four"] {
        running.open(gate);
    }
    let played = running.finish();
    assert_eq!(played.count("Done"), 4, "{played:?}");
    assert!(
        ["one", "two", "three", "four"].iter().all(|task| played.runs_of(task) == 1),
        "{:?}",
        played.runs
    );
}

fn pid_of(number: u32) -> Pid {
    Pid::from_raw(number.try_into().unwrap()).unwrap()
}

fn c08_a_host_that_reaps_or_ignores_its_children_loses_only_their_status(trial: &Trial) {
    let waits = trial.scene(&["waits"]).usable().run();
    assert_eq!(waits.number("deaths"), 6);
    println!("{} of 6 exit statuses were taken by the host", waits.number("unknown"));
    let ignore = ["env", "--ignore-signal=CHLD"];
    let ignores = trial.scene(&["ignores"]).wrapped_in(&ignore).usable().run();
    assert_eq!((ignores.number("deaths"), ignores.number("unknown")), (6, 6));
}

fn c09_a_shortage_is_told_and_passes(trial: &Trial) {
    let files = trial.scene(&["files"]).deadline(Duration::from_secs(30)).usable().run();
    println!("{} starts, {} refusals for want of descriptors", files.fact("started"), files.fact("refused"));
    assert!(files.number("started") > 5 && files.number("refused") > 5, "{:?}", files.facts);
    let refusals: Vec<&String> =
        files.facts.iter().filter(|(name, _)| name.starts_with("refused ")).map(|(_, why)| why).collect();
    assert!(refusals.iter().all(|why| why.contains("os error 24") || why.contains("within")), "{refusals:?}");
    if let Some(scene) = as_nobody(trial.scene(&["processes"])) {
        let (scene, arena) = scene;
        let processes = scene.usable().start_in(arena).finish();
        println!("without processes: {}", processes.fact("refused"));
    }
    if !strace::is_there("injecting errors into system calls") {
        return;
    }
    let errors = [
        ("clone", "EAGAIN"),
        ("clone", "ENOMEM"),
        ("clone3", "EAGAIN"),
        ("pipe2", "EMFILE"),
        ("pipe2", "ENFILE"),
        ("pidfd_open", "EMFILE"),
        ("epoll_create1", "EMFILE"),
        ("epoll_ctl", "ENOMEM"),
        ("eventfd2", "EMFILE"),
        ("socketpair", "EMFILE"),
        ("fcntl", "EMFILE"),
    ];
    let plays = errors
        .into_iter()
        .flat_map(|(call, error)| ["1", "2", "3", "1..3", "1+"].map(|when| (call, error, when)));
    side_by_side(plays.collect(), |(call, error, when)| {
        let expression = format!("inject={call}:error={error}:when={when}");
        let mut running = trial.scene(&["injected"]).deadline(Duration::from_secs(20)).start();
        let threads = threads(&running.wait_for("threads"), None);
        let tracer = Tracer::attach(&running.arena, &threads, &expression);
        running.open("go");
        running.wait_for("milliseconds");
        drop(tracer);
        running.open("relieved");
        let played = running.finish();
        let injected = played.strace.contains("(INJECTED)");
        println!("{expression}: injected {injected}, second: {}", played.fact("second"));
        // It starts, late perhaps, or says what it lacks; a shortage without end it leaves to its timeout.
        let second = played.fact("second");
        let is_told =
            ["started", "os error", "no worker was ready within"].iter().any(|word| second.contains(word));
        assert!(is_told && played.number("milliseconds") < 5_000, "{expression}: {:?}", played.facts);
    });
}

/// The scene as nobody, with copies of the programs where nobody may read them. `None`, with the reason printed, without the
/// right to become nobody.
fn as_nobody(scene: Scene) -> Option<(Scene, Arena)> {
    if !rustix::process::getuid().is_root() {
        println!("skipped: only root can become nobody");
        return None;
    }
    let arena = Arena::new();
    for (program, name) in [(program!("casebook"), "casebook"), (program!("honest"), "honest")] {
        fs::copy(program, arena.path(name)).unwrap();
    }
    let casebook = arena.path("casebook");
    Some((scene.user(NOBODY).program(&casebook), arena))
}

fn c10_interrupted_calls_are_made_again(trial: &Trial) {
    let mut running = trial.scene(&["signals"]).deadline(Duration::from_secs(30)).usable().start();
    running.wait_for("threads");
    running.open("go");
    let (pid, over) = (pid_of(running.pid()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // The beat of the storm. A process that has ended gets no more.
                let _ = kill_process(pid, Signal::USR1);
                std::thread::sleep(Duration::from_micros(300));
            }
        });
        let ended = eventually(Duration::from_secs(30), || !is_alive(running.pid()));
        over.store(true, Ordering::Relaxed);
        assert!(ended, "it hangs under signals");
    });
    running.finish();
    if !strace::is_there("interrupting system calls") {
        return;
    }
    // Not futex: a wake-up that fails is nothing the kernel does.
    for calls in [
        "read,readv",
        "write,writev",
        "epoll_wait,epoll_pwait,epoll_pwait2",
        "poll,ppoll",
        "waitid,wait4",
        "sendto,recvfrom",
    ] {
        let expression = format!("inject={calls}:error=EINTR:when=1+2");
        let mut running = trial.scene(&["injected"]).deadline(Duration::from_secs(30)).usable().start();
        let threads = threads(&running.wait_for("threads"), None);
        let tracer = Tracer::attach(&running.arena, &threads, &expression);
        running.open("go");
        running.wait_for_end();
        drop(tracer);
        let played = running.finish();
        println!("{calls}: {} interrupted", played.strace.matches("(INJECTED)").count());
    }
}

fn c11_two_thousand_starts_and_stops_leave_nothing(trial: &Trial) {
    let played = trial.scene(&["2000"]).deadline(Duration::from_secs(120)).run();
    println!("{:?}, grown by {} KiB", played.took, played.number("grown_kibibytes"));
    assert!(played.number("grown_kibibytes") < 2_048, "{:?}", played.facts);
}

fn c12_a_users_panic_is_the_users_own(trial: &Trial) {
    trial.scene(&[]).typed("Failed").usable().run();
}

fn c13_dropped_and_forgotten_pools_and_handles_leave_nobody(trial: &Trial) {
    trial.scene(&["drop"]).typed("Closed").run();
    // What a forgotten handle holds cannot come back: here that are two descriptors for all of them, those that wake an engine.
    let task = trial.scene(&["task"]).killed().run();
    assert_eq!((task.number("children_left"), task.number("threads_left")), (0, 0));
    assert!(task.fact("descriptors_left").split(' ').count() <= 2, "{:?}", task.facts);
    // A forgotten pool gives nothing back; its workers end with the process.
    let forgotten = trial.scene(&["pool"]).killed().run();
    assert_eq!((forgotten.signal(), forgotten.outcome_of("usable")), (None, "Done"));
}

fn c14_a_process_id_that_comes_again_is_a_strangers(trial: &Trial) {
    let namespace = ["unshare", "--pid", "--fork", "--mount-proc"];
    let mut probe = Command::new(namespace[0]);
    probe.args(&namespace[1..]).arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        println!("skipped: this user cannot make a PID namespace");
        return;
    }
    // Process 1 of the namespace is a shell, so that the parent is an ordinary process.
    let wrapper = [&namespace[..], &["sh", "-c", "\"$0\" \"$@\"; exit $?"]].concat();
    trial.scene(&[]).wrapped_in(&wrapper).deadline(Duration::from_secs(20)).run();
}

fn c15_a_parent_without_standard_streams_works_and_prints_nothing(trial: &Trial) {
    trial.scene(&["closed"]).typed("Dead").usable().run();
    // An output that takes nothing: whoever prints gets EAGAIN.
    let (reader, full) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
    while rustix::io::write(&full, &[b'x'; 4096]).is_ok() {}
    trial.scene(&["full"]).output(full).typed("Dead").usable().run();
    // One that takes everything: nobody prints, though workers die and write to stderr.
    let mut buffer = vec![0; 1 << 20];
    let before = read_all(&reader, &mut buffer);
    assert!(before > 0, "the pipe was empty");
    let (reader, open) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
    trial.scene(&["open"]).output(open).typed("Dead").usable().run();
    assert_eq!(
        read_all(&reader, &mut buffer),
        0,
        "the library printed: {:?}",
        String::from_utf8_lossy(&buffer[..200])
    );
}

/// How much lies in a pipe.
fn read_all(pipe: &OwnedFd, buffer: &mut [u8]) -> usize {
    let mut sum = 0;
    loop {
        match rustix::io::read(pipe, &mut *buffer) {
            Ok(0) => return sum,
            Ok(count) => sum += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return sum,
            Err(error) => panic!("{error}"),
        }
    }
}

fn c16_small_pipes_are_slower_and_no_more(trial: &Trial) {
    const WORKERS: u64 = 20;
    let pages = fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").unwrap();
    let pages: u64 = pages.trim().parse().unwrap();
    // A pipe has 16 pages at first. Some of the pool's are among the last large ones.
    let held = (pages / 16).saturating_sub(WORKERS);
    if !(1..4_000).contains(&held) {
        println!("skipped: this system has another limit for the pipes of a user, {pages} pages");
        return;
    }
    let Some((scene, arena)) = as_nobody(trial.scene(&[&held.to_string(), &WORKERS.to_string()])) else {
        return;
    };
    let played = scene.deadline(Duration::from_secs(60)).usable().start_in(arena).finish();
    println!("pipes from {} to {} bytes, {:?}", played.fact("smallest"), played.fact("largest"), played.took);
    assert!(played.number("smallest") <= 8_192 && played.number("largest") == 65_536, "{:?}", played.facts);
}
