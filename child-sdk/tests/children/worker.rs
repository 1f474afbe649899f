//! The worker that the process tests start: it prints, forks off programs, panics and hangs, each under a request of its
//! own. Not an example to follow.

#![expect(unsafe_code, reason = "calls C's printf, to show that it cannot reach the protocol")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is what it is for")]

use std::error::Error;
use std::io::Read;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use stokehold_child::{Ctx, Data, Failure, Init, Level, Permanent, Point, Probe, Request, Worker};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Prints in every way there is.
const PRINT: Request<String, ()> = Request::new("print");
/// What a grandchild reads on its standard input.
const GRANDCHILD_INPUT: Request<(), String> = Request::new("grandchild_input");
/// The descriptors that a grandchild has.
const GRANDCHILD_DESCRIPTORS: Request<(), Vec<String>> = Request::new("grandchild_descriptors");
/// What this process reads on its standard input.
const INPUT: Request<(), String> = Request::new("input");
/// The names of all variables that a grandchild sees, and what `is_worker` says here.
const ENVIRONMENT: Request<(), (Vec<String>, bool)> = Request::new("environment");
/// Panics with that text.
const PANIC: Request<String, ()> = Request::new("panic");
/// Panics on another thread.
const PANIC_ELSEWHERE: Request<String, ()> = Request::new("panic_elsewhere");
/// Sends itself SIGINT, and lets a grandchild do the same to itself: how did that end?
const INTERRUPT: Request<(), String> = Request::new("interrupt");
/// For each thread, its name and the signals it has blocked, as the kernel prints them.
const THREADS: Request<(), Vec<(String, String)>> = Request::new("threads");
/// Never returns.
const HANG: Request<(), ()> = Request::new("hang");
/// Sends the numbers below that one by one; the answer is how many.
const STREAM: Request<u64, u64> = Request::new("stream");
/// Sends an item and two reports and a line for the log, then hangs.
const TALK_AND_HANG: Request<(), ()> = Request::new("talk_and_hang");
/// Computes until it is cancelled, and says how often it asked.
const SPIN: Request<(), u64> = Request::new("spin");
/// Sleeps for so many milliseconds without asking anything.
const SLEEP: Request<u64, u64> = Request::new("sleep");
/// Sleeps until that file is there.
const AWAIT_FILE: Request<String, ()> = Request::new("await_file");
/// The task as the handler knows it: id, attempt, key, and the milliseconds it has.
const ABOUT: Request<(), (u32, u32, Option<String>, Option<u64>)> = Request::new("about");
/// Adds up.
const ADD: Request<u64, u64> = Request::new("add");

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("twice") => {
            let _ = stokehold_child::serve(|n: u64, _: &mut Ctx| Ok::<_, Box<dyn Error + Send + Sync>>(n));
        }
        Some("probed") => return worker().serve_probed(Told),
        Some("late") => {
            // Another thread runs when serving begins.
            let (_keep, wait) = std::sync::mpsc::channel::<()>();
            std::thread::spawn(move || wait.recv());
            return worker().serve();
        }
        _ => {}
    }
    worker().serve()
}

/// Tells stderr of every point, and dies at the one that the second argument names.
struct Told;

impl Probe for Told {
    fn reach(&self, point: Point, task: u64) {
        eprintln!("{point:?} {task}");
        if std::env::args().nth(2) == Some(format!("{point:?}")) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}

#[expect(clippy::too_many_lines, reason = "one line or two for each thing it can do")]
fn worker() -> Worker<'static, u64> {
    Worker::new(init)
        .on_raw("DO", |_, input, _| Data::from_encoded(input.to_vec()))
        .on(PRINT, |_, text, _| print(&text))
        .on(GRANDCHILD_INPUT, |_, (), _| -> Outcome<String> { Ok(output_of(&mut Command::new("cat"))?) })
        .on(GRANDCHILD_DESCRIPTORS, |_, (), _| -> Outcome<Vec<String>> {
            let listed = output_of(Command::new("ls").arg("/proc/self/fd"))?;
            Ok(listed.split_whitespace().map(str::to_owned).collect())
        })
        .on(INPUT, |_, (), _| -> Outcome<String> {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            Ok(text)
        })
        .on(ENVIRONMENT, |_, (), _| -> Outcome<(Vec<String>, bool)> {
            let listed = output_of(&mut Command::new("env"))?;
            let names = listed.lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned()));
            Ok((names.collect(), stokehold_child::is_worker()))
        })
        .on(PANIC, |_, text, _| -> Outcome<()> { panic!("{text}") })
        .on(PANIC_ELSEWHERE, |_, text: String, _| -> Outcome<()> {
            let died = std::thread::spawn(move || panic!("{text}")).join();
            died.map_err(|_| "the other thread panicked".into())
        })
        .on(INTERRUPT, |_, (), _| -> Outcome<String> {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT)?;
            let status = Command::new("sh").args(["-c", "kill -INT $$"]).status()?;
            Ok(status.to_string())
        })
        .on(THREADS, |_, (), _| -> Outcome<Vec<(String, String)>> {
            let mut threads = Vec::new();
            for thread in std::fs::read_dir("/proc/self/task")? {
                let status = std::fs::read_to_string(thread?.path().join("status"))?;
                let field = |name: &str| {
                    let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                    value.trim().to_owned()
                };
                threads.push((field("Name:"), field("SigBlk:")));
            }
            Ok(threads)
        })
        .on(HANG, |_, (), _| -> Outcome<()> {
            loop {
                std::thread::park();
            }
        })
        .on(STREAM, |_, count, ctx| -> Outcome<u64> {
            for number in 0..count {
                ctx.item(&number)?;
            }
            Ok(count)
        })
        .on(TALK_AND_HANG, |_, (), ctx| -> Outcome<()> {
            // The second of each comes too soon after the first to be sent at once.
            ctx.item("one")?;
            ctx.item("two")?;
            ctx.progress(1, Some(2), None);
            ctx.progress(2, Some(2), Some("hanging"));
            ctx.log(Level::Info, "now it hangs");
            loop {
                std::thread::park();
            }
        })
        .on(SPIN, |_, (), ctx| -> Outcome<u64> {
            let mut asked = 1;
            while !ctx.is_cancelled() {
                asked += 1;
            }
            if asked % 2 == 0 { Ok(asked) } else { Err(Failure::cancelled().into()) }
        })
        .on(SLEEP, |_, ms, _| -> Outcome<u64> {
            std::thread::sleep(Duration::from_millis(ms));
            Ok(ms)
        })
        .on(AWAIT_FILE, |_, path: String, _| -> Outcome<()> {
            while !std::fs::exists(&path)? {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        })
        .on(ABOUT, |_, (), ctx| -> Outcome<(u32, u32, Option<String>, Option<u64>)> {
            let left = ctx.time_left().map(|left| u64::try_from(left.as_millis())).transpose()?;
            Ok((ctx.task_id(), ctx.attempt(), ctx.key().map(str::to_owned), left))
        })
        .on(ADD, |sum: &mut u64, n, _| -> Outcome<u64> {
            *sum += n;
            Ok(*sum)
        })
}

fn init(init: &mut Init) -> Outcome<u64> {
    println!("init prints for worker {:?} of run {:?}", init.worker(), init.run());
    if std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with("STOKEHOLD_")) {
        println!("init sees variables");
    }
    match std::env::args().nth(1).as_deref() {
        Some("fail") => Err("no model".into()),
        Some("slow-start") => {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(300) {
                init.progress("loading");
            }
            Ok(0)
        }
        Some("fail-for-good") => Err(Permanent::new("no licence").into()),
        _ => Ok(0),
    }
}

fn print(text: &str) -> Outcome<()> {
    println!("{text} from println");
    print!("{text} without an end of line");
    let c_text = std::ffi::CString::new(format!("{text} from printf\n"))?;
    // SAFETY: both arguments are C strings, and `%s` takes one.
    unsafe { libc::printf(c"%s".as_ptr(), c_text.as_ptr()) };
    Command::new("echo").arg(format!("{text} from echo")).status()?;
    Ok(())
}

fn output_of(command: &mut Command) -> std::io::Result<String> {
    let output = command.stdin(std::process::Stdio::inherit()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
