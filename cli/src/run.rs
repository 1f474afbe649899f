//! `stokehold run`: records in, through the workers, results out. A thread reads, the main thread writes, so that results come
//! out while input is still awaited.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::Args;
use stokehold::{
    Cause, Completed, Data, Death, JobSender, Order, Policy, Pool, Results, SubmitError, TaskErrorKind,
    WorkerCommand,
};

use crate::EXIT_CODES;
use crate::console::{self, Commentary, escaped};
use crate::exit::Exit;
use crate::feed::{Fed, Kind, RECORD_BYTES_MAX, feed};
use crate::hint;
use crate::input::Lines;
use crate::output::{Format, Output, Writer};
use crate::signals::Stop;

/// How long the workers may take to end after the last result. They have nothing left to do.
const SHUTDOWN: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "Examples:\n  seq 10 | stokehold run --raw -- stokehold echo-worker\n  stokehold run -j 4 --jsonl --in items.jsonl --out results.jsonl -- python3 worker.py";

/// Feeds lines or JSON records to workers and writes their results
///
/// Every line of the input becomes one task for one of the workers; every task has exactly one result, written in the order
/// of the input. A worker that dies is replaced, and the task it was doing is tried again. Results alone go to stdout;
/// warnings, errors and what workers write to stderr go to stderr.
///
/// Without --raw a result is a JSON object on a line:
///
///   {"seq":17,"ok":true,"data":"…","ms":3.2,"worker":2,"attempt":1}
///   {"seq":18,"ok":false,"error":{"code":"crashed","message":"…","worker":0,"pid":4711,"attempt":3,"signal":9}}
///
/// `seq` is the number of the line, `ms` the time from hand-out to answer. A worker may give a record several results one by
/// one (ITEM): only the last, its answer, is written. What workers say for the log goes to stderr. In `data` a byte string is {"$bin":"base64"}, a map
/// whose only key begins with $ has one more $ before that key, and a float that JSON cannot express is null.
#[derive(Args, Debug)]
#[command(
    verbatim_doc_comment,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    after_help = EXAMPLES
)]
pub(crate) struct RunArgs {
    /// How many workers [default: one for each processor]
    #[arg(short = 'j', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    jobs: Option<u16>,

    /// Each line is a record (the default)
    ///
    /// It is sent as a text without its LF, or as a byte string if it is not UTF-8. A CR stays; empty lines and a last line
    /// without LF are records too.
    #[arg(long, conflicts_with_all = ["jsonl", "nul"])]
    lines: bool,

    /// Each record ends with a NUL byte, as `find -print0` writes file names: it may have lines in it
    #[arg(short = '0', long, conflicts_with = "jsonl")]
    nul: bool,

    /// Each line is a JSON value, sent as that value
    ///
    /// Integers from -2^63 to 2^64 - 1 stay exact, other numbers are floats of 64 bits. {"$bin":"base64"} is a byte string, and
    /// from the only key of a map that begins with $$ one $ is taken away, so that results can be read again. Blank lines are
    /// passed over. A line that is no JSON is an error in its place, and the rest goes on.
    #[arg(long)]
    jsonl: bool,

    /// Reads FILE instead of stdin
    #[arg(long = "in", value_name = "FILE")]
    input: Option<PathBuf>,

    /// Takes only the first N records
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Writes to FILE instead of stdout, as results come; emptied once a worker is ready
    #[arg(long = "out", value_name = "FILE")]
    output: Option<PathBuf>,

    /// Writes only the data of the results
    ///
    /// A text as it is, a byte string as it is, any other value as JSON; one result a line. A failed record leaves no line;
    /// it is told on stderr.
    #[arg(long)]
    raw: bool,

    /// Writes results as they are done, not in the order of the input
    #[arg(long)]
    unordered: bool,

    /// The request that is sent: a name that the worker has a handler for
    #[arg(long, value_name = "NAME", default_value = "DO", value_parser = request_name)]
    request: String,

    /// How many workers may die doing a record before it fails
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,

    /// How long one attempt of a record may take: 30s, 500ms, 2m, 1h; no limit without it
    ///
    /// A worker that is not done then is told to stop, and half a second later ended; the record is tried again on another, as
    /// long as it has attempts.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,

    /// How long a worker may take to get ready, from its first word on: for its imports, its model
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    ready_timeout: Duration,

    /// What is offered to the workers: json is text mode alone, for workers that know both
    ///
    /// Without it both are on offer. What a worker speaks is recognised by its first bytes, so that one that does not look at
    /// the offer is understood all the same.
    #[arg(long, value_name = "CODEC", value_parser = ["json"])]
    codec: Option<String>,

    /// Shows workers that get ready, a summary, and deaths and retries beyond the first ten
    #[arg(short, long)]
    verbose: bool,

    /// The program that is a worker, and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn request_name(name: &str) -> Result<String, String> {
    match stokehold_protocol::check_user_name(name) {
        Ok(()) => Ok(name.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a time is a whole number and its unit: 500ms, 30s, 2m, 1h".to_owned()),
    };
    let number: u64 = number.parse().map_err(|_| "there is no number before the unit".to_owned())?;
    match number.checked_mul(millis) {
        Some(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
        Some(_) => Err("no time at all is not enough".to_owned()),
        None => Err("that is longer than anybody waits".to_owned()),
    }
}

/// Runs it, and says how it ended.
pub(crate) fn run(args: &RunArgs) -> Exit {
    let begun = Instant::now();
    let order = if args.unordered { Order::Completion } else { Order::Input };
    let format = if args.raw { Format::Raw } else { Format::Record };
    let end = if args.nul { 0 } else { b'\n' };
    let opened = Lines::open(args.input.as_deref(), RECORD_BYTES_MAX, end).and_then(|lines| {
        Output::open(args.output.as_deref(), lines.file(), format, order).map(|output| (lines, output))
    });
    let (lines, output) = match opened {
        Ok(files) => files,
        Err(error) => return fail(Exit::Usage, &error),
    };
    let stop = match Stop::watch() {
        Ok(stop) => stop,
        Err(error) => return fail(Exit::NoWorkers, &format!("cannot watch for signals: {error}")),
    };
    let pool = match builder(args).start() {
        Ok(pool) => pool,
        Err(error) => {
            hint::explain_start(&error, args.command.first());
            return Exit::NoWorkers;
        }
    };
    // Only now: a worker that cannot be started must not cost an earlier run's results.
    if let Err(error) = output.empty() {
        return fail(Exit::Usage, &error);
    }
    if lines.is_terminal() {
        console::line("reading from the terminal; Ctrl-D ends the input");
    }
    let commentary = comment(&pool, args.verbose);
    let channel = pool.channel_data(&args.request, order);
    stop.keep(pool);
    let output = Arc::new(output);
    let exit = match channel {
        Ok(ends) => {
            let kind = if args.jsonl { Kind::Json } else { Kind::Line };
            let limit = args.limit.unwrap_or(u64::MAX);
            stream(lines, (kind, limit), ends, &output, &stop)
        }
        Err(error) => fail(Exit::Usage, &error.to_string()),
    };
    stop.kill();
    if let Ok(Ok(commentary)) = commentary.map(JoinHandle::join)
        && args.verbose
    {
        let tally = output.lock().tally();
        console::line(format_args!(
            "{} records, {} of them failed, in {:.3} s; {} workers died, {} tasks were tried again",
            tally.good + tally.failed,
            tally.failed,
            begun.elapsed().as_secs_f64(),
            commentary.deaths(),
            commentary.retries()
        ));
    }
    stop.signal().map_or(exit, Exit::Signal)
}

/// Moves everything through the workers, and ends them in order if they did all of it.
fn stream(
    lines: Lines,
    (kind, limit): (Kind, u64),
    (jobs, results): (JobSender<Data>, Results<Data>),
    output: &Arc<Output>,
    stop: &Stop,
) -> Exit {
    let theirs = Arc::clone(output);
    let fed = match start_feeding(lines, move |lines| feed(lines, kind, limit, &jobs, &theirs)) {
        Ok(fed) => fed,
        Err(error) => return fail(Exit::NoWorkers, &format!("cannot start a thread: {error}")),
    };
    let mut through = Through { results, broken: None };
    match through.write_all(output, stop) {
        Ended::Stopped => {
            // What came before the signal. Should the output be stuck, the signal ends the process all the same.
            let _ = output.flush();
            Exit::SomeFailed
        }
        Ended::Unwritable(error) => unwritable(&error, output),
        Ended::All => {
            let exit = conclude(through.broken, &fed, output, stop);
            if matches!(exit, Exit::Success | Exit::SomeFailed) {
                let _ = stop.shutdown(SHUTDOWN);
            }
            exit
        }
    }
}

fn builder(args: &RunArgs) -> stokehold::PoolBuilder {
    let mut words = args.command.iter();
    let program = words.next().cloned().unwrap_or_default();
    let policy = Policy::default().attempts(args.attempts);
    let policy = args.timeout.map_or(policy, |limit| policy.timeout(limit));
    let command = WorkerCommand::new(program).args(words);
    let command = if args.codec.is_some() { command.text_mode() } else { command };
    // A worker has five seconds for its first word; the pool waits for all of the first one's start.
    let start_timeout = args.ready_timeout.saturating_add(Duration::from_secs(5));
    let builder = Pool::builder(command)
        .policy(policy)
        .ready_timeout(args.ready_timeout)
        .start_timeout(start_timeout)
        .record_events();
    match args.jobs {
        Some(jobs) => builder.workers(usize::from(jobs)),
        None => builder,
    }
}

/// Shows the pool's events until it is gone.
fn comment(pool: &Pool, verbose: bool) -> io::Result<JoinHandle<Commentary>> {
    let events = pool.events();
    thread::Builder::new().name("commentary".to_owned()).spawn(move || {
        let mut commentary = Commentary::new(verbose);
        for event in events {
            commentary.show(&event);
        }
        commentary
    })
}

/// Feeds on a thread of its own; the receiver gets how that ended. The thread is never waited for: it may be in a read that
/// takes for ever.
fn start_feeding(
    mut lines: Lines,
    feed: impl FnOnce(&mut Lines) -> Fed + Send + 'static,
) -> io::Result<mpsc::Receiver<Fed>> {
    let (tell, told) = mpsc::channel();
    thread::Builder::new().name("feed".to_owned()).spawn(move || {
        // The jobs' sender dies with `feed`: the results end, and who receives them then asks why.
        let _ = tell.send(feed(&mut lines));
    })?;
    Ok(told)
}

/// The way of results from the workers to the output.
#[derive(Debug)]
struct Through {
    results: Results<Data>,
    /// How the pool broke, if it did.
    broken: Option<Death>,
}

/// How writing the results ended.
#[derive(Debug)]
enum Ended {
    /// There are no more.
    All,
    /// By a signal.
    Stopped,
    /// The output cannot be written.
    Unwritable(io::Error),
}

impl Through {
    /// Writes results as they come. What is gathered is written whenever there is nothing more for the moment.
    fn write_all(&mut self, output: &Output, stop: &Stop) -> Ended {
        loop {
            let ended = self.write_ready(output, stop);
            output.made_room();
            if let Err(ended) = ended {
                return ended;
            }
            let Some(done) = self.results.recv() else { return Ended::All };
            if let Err(ended) = self.take(done, &mut output.lock(), stop) {
                return ended;
            }
        }
    }

    fn write_ready(&mut self, output: &Output, stop: &Stop) -> Result<(), Ended> {
        let mut writer = output.lock();
        while let Some(done) = self.results.try_recv() {
            self.take(done, &mut writer, stop)?;
        }
        writer.flush().map_err(Ended::Unwritable)
    }

    fn take(&mut self, done: Completed<Data>, writer: &mut Writer, stop: &Stop) -> Result<(), Ended> {
        if let Err(error) = &done.result {
            // The pool was killed: this is no failure of the record.
            if stop.signal().is_some() {
                return Err(Ended::Stopped);
            }
            if error.kind() == TaskErrorKind::Broken && self.broken.is_none() {
                self.broken = error.death().cloned();
            }
        }
        writer.result(done).map_err(Ended::Unwritable)
    }
}

/// Says how it went after the last result, and which exit code that makes.
fn conclude(mut broken: Option<Death>, fed: &mpsc::Receiver<Fed>, output: &Output, stop: &Stop) -> Exit {
    if let Err(error) = output.flush() {
        return unwritable(&error, output);
    }
    if stop.signal().is_some() {
        return Exit::SomeFailed;
    }
    let broken_now = stop.with_pool(how_it_broke).flatten();
    // A pool that broke ends the results while the feeding thread may wait for input, so that it is not waited for long.
    let patience = if broken_now.is_some() { Duration::from_millis(50) } else { Duration::from_secs(1) };
    let fed = fed.recv_timeout(patience);
    if !matches!(fed, Ok(Fed::All | Fed::ReadFailed(_))) {
        broken = broken.or(broken_now);
    }
    let tally = output.lock().tally();
    tally.summarise();
    match &fed {
        Ok(Fed::ReadFailed(why)) => console::line(format_args!("error: {}", escaped(why))),
        Ok(Fed::Refused(error)) if broken.is_none() => {
            console::line(format_args!(
                "error: the rest of the input was not taken: {}",
                escaped(&error.to_string())
            ));
        }
        _ => {}
    }
    if let Some(death) = broken {
        let rest =
            if matches!(fed, Ok(Fed::All)) { "" } else { ", so that the rest of the input was not read" };
        let cause = escaped(&death.to_string());
        console::line(format_args!("error: the workers cannot be kept alive{rest}\ncause: {cause}"));
        return if matches!(death.cause, Cause::Protocol(_)) { Exit::Protocol } else { Exit::NoWorkers };
    }
    if tally.failed > 0 || !matches!(fed, Ok(Fed::All)) { Exit::SomeFailed } else { Exit::Success }
}

/// The death that broke the pool, if it is broken.
fn how_it_broke(pool: &Pool) -> Option<Death> {
    match pool.reserve_timeout(Duration::ZERO) {
        Err(SubmitError::Broken(death)) => Some(Death::clone(&death)),
        _ => None,
    }
}

/// The output takes no more. A reader who left had enough (`| head`): that is no failure, unless records failed before.
fn unwritable(error: &io::Error, output: &Output) -> Exit {
    let writer = output.lock();
    if error.kind() == io::ErrorKind::BrokenPipe {
        return if writer.tally().failed > 0 { Exit::SomeFailed } else { Exit::Success };
    }
    console::line(format_args!("error: cannot write {}: {error}", writer.name()));
    Exit::SomeFailed
}

fn fail(exit: Exit, why: &str) -> Exit {
    console::line(format_args!("error: {}", escaped(why)));
    exit
}
