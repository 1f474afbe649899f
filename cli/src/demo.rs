//! `stokehold demo`: counts the words below a directory with workers, kills one of them on the way, and checks that this
//! changed nothing. The workers are this program itself.

mod corpus;
mod count;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use stokehold::{Event, Pool, Receiver, Request, StartError, Task, TaskError, WorkerCommand};

use crate::console::{self, escaped};
use crate::exit::Exit;
use corpus::{Batch, Corpus};
use count::{Counted, Counts};

/// How long the worker holds the first batch on its first attempt, at most: until it is killed, or something is wrong.
const HOLD: Duration = Duration::from_secs(10);

/// How long a step of the demo may take that needs a small part of a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// Words that are shown.
const TOP: usize = 10;

/// Counts words with workers and kills one on the way, with nothing to install
///
/// Reads the text files below DIR and has persistent workers, which are this program itself, count their words. While a worker
/// has the first task it is killed with SIGKILL: the task is done again by another worker, and the totals are the same as
/// those of a count without workers.
///
/// Hidden files, directories named `target`, symbolic links and files that are not UTF-8 are passed over; 64 MiB are read at
/// most. Where there is no text a built-in one is taken.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  stokehold demo -j 4 ~/notes")]
pub(crate) struct DemoArgs {
    /// Where to look for text files
    #[arg(default_value = ".")]
    dir: PathBuf,

    /// How many workers [default: one for each processor, from 2 to 8]
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    jobs: Option<u16>,
}

/// Serves as a worker of the demo until the parent ends it.
pub(crate) fn serve() -> ExitCode {
    stokehold_child::Worker::new(|_| Ok::<(), io::Error>(()))
        .on(Request::<Batch<'static>, Counted>::new(COUNT), |(), batch, ctx| {
            if batch.hold && ctx.attempt() == 1 {
                // Told on stderr, so that the parent kills this process when the task has surely begun.
                writeln!(io::stderr(), "{HOLDING}")?;
                thread::sleep(HOLD);
            }
            let counts = Counts::of_batch(&batch);
            Ok::<_, io::Error>(Counted {
                counts,
                worker: ctx.worker(),
                pid: std::process::id(),
                attempt: ctx.attempt(),
            })
        })
        .serve()
}

/// What a worker that holds its task says.
const HOLDING: &str = "holding the first batch";

/// The request's name, for both sides.
const COUNT: &str = "count";

/// Runs it, and says how it ended.
pub(crate) fn run(args: &DemoArgs) -> Exit {
    let corpus = match Corpus::read(&args.dir) {
        Ok(corpus) => corpus,
        Err(error) => {
            console::line(format_args!(
                "error: cannot read {}: {error}",
                escaped(&args.dir.to_string_lossy())
            ));
            return Exit::Usage;
        }
    };
    let workers = args
        .jobs
        .map_or_else(|| thread::available_parallelism().map_or(2, usize::from).clamp(2, 8), usize::from);
    match show(&corpus, workers) {
        Ok(()) => Exit::Success,
        Err(Trouble::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success,
        Err(Trouble::Start(error)) => {
            console::line(format_args!(
                "error: the workers cannot be started\ncause: {}",
                escaped(&error.to_string())
            ));
            Exit::NoWorkers
        }
        Err(trouble) => {
            console::line(format_args!("error: {}", escaped(&trouble.to_string())));
            Exit::SomeFailed
        }
    }
}

/// What can go wrong.
#[derive(Debug)]
enum Trouble {
    /// A batch was not counted.
    Batch(TaskError),
    /// The result is not what it must be.
    Differs(String),
    /// The first task was not where it had to be.
    NoVictim(&'static str),
    Output(io::Error),
    Start(StartError),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Batch(error) => write!(f, "a batch was not counted: {error}"),
            Self::Differs(what) => f.write_str(what),
            Self::NoVictim(why) => write!(f, "no worker could be killed with the first task: {why}"),
            Self::Output(error) => write!(f, "cannot write stdout: {error}"),
            Self::Start(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<TaskError> for Trouble {
    fn from(error: TaskError) -> Self {
        Self::Batch(error)
    }
}

/// The worker that was killed, and the task it had.
#[derive(Debug)]
struct Victim {
    task: Task<Counted>,
    number: u64,
    worker: usize,
    pid: u32,
}

fn show(corpus: &Corpus, workers: usize) -> Result<(), Trouble> {
    let mut out = io::stdout().lock();
    let batches = corpus.batches();
    let s = |count: usize| if count == 1 { "" } else { "s" };
    writeln!(
        out,
        "{workers} worker{} count{} the words of {} ({}) in {} batch{}.",
        s(workers),
        if workers == 1 { "s" } else { "" },
        corpus.describe(),
        size(corpus.bytes()),
        batches.len(),
        if batches.len() == 1 { "" } else { "es" },
    )?;
    out.flush()?;
    let command = WorkerCommand::current_exe().arg("demo-worker");
    let pool = Pool::builder(command).workers(workers).start().map_err(Trouble::Start)?;
    let events = pool.events();
    let begun = Instant::now();
    let request = || Request::<Batch<'_>, Counted>::new(COUNT);

    let (first, rest) = batches.split_first().ok_or(Trouble::NoVictim("there is no text"))?;
    let first_task = pool.submit(request(), first).map_err(|error| Trouble::Differs(error.to_string()))?;
    let victim = kill_holder(first_task, &events)?;
    let mut total = Counts::default();
    for counted in pool.imap_unordered(request(), rest.iter()) {
        total.add(counted?.counts);
    }
    let again = victim
        .task
        .wait_timeout(PATIENCE)
        .map_err(|_| Trouble::NoVictim("its second attempt takes too long"))??;
    total.add(again.counts);
    let took = begun.elapsed();
    let _ = pool.shutdown(Duration::from_secs(5));

    let retried = events
        .try_iter()
        .any(|event| matches!(event, Event::TaskRetried { task, attempt: 1, .. } if task == victim.number));
    let (killed, pid, number) = (victim.worker, victim.pid, victim.number);
    writeln!(out, "Killed worker {killed} (pid {pid}) with SIGKILL while it had task {number}.")?;
    let by = again.worker.map_or_else(|| "a worker".to_owned(), |worker| format!("worker {worker}"));
    writeln!(
        out,
        "Task {number} ran again: attempt {} was answered by {by} (pid {}).\n",
        again.attempt, again.pid
    )?;
    write_words(&mut out, &total)?;
    let rate = |count: u64| (count as f64 / took.as_secs_f64()) as u64;
    writeln!(
        out,
        "\n{} task{} in {:.3} s: {} and {} words a second.",
        grouped(batches.len() as u64),
        s(batches.len()),
        took.as_secs_f64(),
        size(rate(total.bytes)),
        grouped(rate(total.words)),
    )?;
    if !retried || again.attempt < 2 || again.pid == pid {
        return Err(Trouble::Differs("the task of the killed worker was not tried again".to_owned()));
    }
    check(&total, &corpus.count())?;
    writeln!(out, "The totals are those of a count in the parent: no word was lost, none counted twice.")?;
    Ok(())
}

/// Waits until a worker says that it has begun the task, and kills that worker.
fn kill_holder(mut task: Task<Counted>, events: &Receiver<Event>) -> Result<Victim, Trouble> {
    let number = task.number();
    let patience = Instant::now() + PATIENCE;
    while Instant::now() < patience {
        for event in events.try_iter() {
            if let Event::Stderr { worker, pid, line } = event
                && line == HOLDING
            {
                let victim = i32::try_from(pid).ok().and_then(Pid::from_raw);
                let killed = victim.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok());
                return if killed {
                    Ok(Victim { task, number, worker, pid })
                } else {
                    Err(Trouble::NoVictim("it was gone already"))
                };
            }
        }
        // A thread that waits drives the pool.
        match task.wait_timeout(Duration::from_millis(2)) {
            Ok(_) => return Err(Trouble::NoVictim("it was answered already")),
            Err(same) => task = same,
        }
    }
    Err(Trouble::NoVictim("no worker began it in time"))
}

fn write_words(out: &mut impl Write, total: &Counts) -> io::Result<()> {
    let mut words: Vec<(&String, &u64)> = total.tally.iter().collect();
    words.sort_by_key(|(word, count)| (std::cmp::Reverse(**count), word.as_str()));
    words.truncate(TOP);
    let numbers: Vec<String> = words.iter().map(|(_, count)| grouped(**count)).collect();
    let width = numbers.iter().map(String::len).max().unwrap_or(0);
    writeln!(out, "The most frequent words:")?;
    for ((word, _), number) in words.iter().zip(&numbers) {
        writeln!(out, "  {number:>width$}  {word}")?;
    }
    writeln!(
        out,
        "\nfiles {}, lines {}, words {}, bytes {}",
        grouped(total.files),
        grouped(total.lines),
        grouped(total.words),
        grouped(total.bytes)
    )
}

/// Every number of both counts must be the same, word by word.
fn check(ours: &Counts, parents: &Counts) -> Result<(), Trouble> {
    let sums = |counts: &Counts| {
        BTreeMap::from([
            ("files", counts.files),
            ("lines", counts.lines),
            ("words", counts.words),
            ("bytes", counts.bytes),
            ("different words", counts.tally.len() as u64),
        ])
    };
    for ((what, ours), parents) in sums(ours).into_iter().zip(sums(parents).into_values()) {
        if ours != parents {
            return Err(Trouble::Differs(format!("the workers counted {ours} {what}, the parent {parents}")));
        }
    }
    if ours.tally != parents.tally {
        return Err(Trouble::Differs(
            "a word was counted differently by the workers and the parent".to_owned(),
        ));
    }
    Ok(())
}

/// "12 345 678".
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// "1.9 MB".
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!([5, 1_500, 2_000_000].map(size), ["5 bytes", "1.5 kB", "2.0 MB"]);
    }

    #[test]
    fn a_difference_is_found() {
        let of = |text| Counts::of_text(text, true);
        assert!(check(&of("a b"), &of("a b")).is_ok());
        assert!(check(&of("a b"), &of("a b c")).is_err());
        assert!(check(&of("a b b"), &of("a a b")).is_err());
    }
}
