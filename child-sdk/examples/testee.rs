//! The worker that conformance tests drive: every request of `sdks/TESTEE.md`, each in a few lines.

#![expect(
    clippy::print_stdout,
    reason = "to show that printing is harmless is what one of the requests is for"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use stokehold_child::{Ctx, Data, Failure, Level, Request, Worker};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Fail {
    code: Option<String>,
    message: Option<String>,
    retry: bool,
    after_ms: Option<u64>,
    data: Option<Any>,
}

/// Whatever the data of a failure is.
#[derive(Clone, Deserialize, Serialize)]
#[serde(untagged)]
enum Any {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    // Before the bytes, which an array of small numbers could be too.
    Array(Vec<Self>),
    Bytes(ByteBuf),
    Map(BTreeMap<String, Self>),
}

#[derive(Clone, Deserialize)]
struct Millis {
    ms: u64,
}

#[derive(Clone, Deserialize)]
struct Items {
    n: u64,
    size: Option<usize>,
}

#[derive(Clone, Deserialize)]
struct Big {
    bytes: usize,
}

#[derive(Clone, Deserialize)]
struct Print {
    text: String,
    how: String,
}

#[derive(Clone, Deserialize)]
struct How {
    how: String,
}

#[derive(Clone, Deserialize)]
struct Exit {
    code: i32,
}

#[derive(Clone, Deserialize)]
struct Say {
    level: String,
    msg: String,
}

#[derive(Clone, Deserialize)]
struct Count {
    n: u64,
}

#[derive(Serialize)]
struct Seen {
    attempt: u32,
    key: Option<String>,
    deadline_ms: Option<u64>,
}

#[derive(Serialize)]
struct Process {
    pid: u32,
}

fn main() -> ExitCode {
    Worker::new(|_| Ok::<(), io::Error>(()))
        .on_raw("DO", |(), input, task| Ok::<_, io::Error>(task.keep(input)))
        .on_raw("test.echo", |(), input, task| Ok::<_, io::Error>(task.keep(input)))
        .on_raw("test.big", |(), input, _| {
            let big: Big = Data::from_peer(input.to_vec()).decode()?;
            Ok::<_, Box<dyn Error + Send + Sync>>(Data::bytes(&vec![b'a'; big.bytes]))
        })
        .on(Request::<Option<Fail>, ()>::new("test.fail"), |(), fail, _| fails(fail.unwrap_or_default()))
        .on(Request::<str, ()>::new("test.raise"), |(), text, _| Err::<(), _>(io::Error::other(text)))
        .on(Request::<(), BTreeMap<u32, u32>>::new("test.bad_result"), |(), (), _| {
            // A key that is no text: there is no such value.
            Ok::<_, io::Error>(BTreeMap::from([(1, 2)]))
        })
        .on(Request::<Millis, u64>::new("test.sleep"), |(), job, task| sleep(&job, task))
        .on(Request::<Millis, u64>::new("test.spin"), |(), job, _| spin(&job))
        .on(Request::<Items, u64>::new("test.items"), |(), job, task| items(&job, task))
        .on(Request::<Print, ()>::new("test.print"), |(), job, _| print(&job))
        .on(Request::<How, u64>::new("test.stdin"), |(), job, _| read_stdin(&job))
        .on(Request::<Millis, u32>::new("test.spawn"), |(), job, _| spawn(&job))
        .on(Request::<Exit, ()>::new("test.exit"), |(), job, _| exit(&job))
        .on(Request::<Say, ()>::new("test.log"), |(), job, task| {
            task.log(level(&job.level)?, job.msg);
            Ok::<_, Failure>(())
        })
        .on(Request::<Count, ()>::new("test.progress"), |(), job, task| {
            (1..=job.n).for_each(|done| task.progress(done, Some(job.n), None));
            Ok::<_, io::Error>(())
        })
        .on(Request::<(), Seen>::new("test.meta"), |(), (), task| {
            let left = task.time_left().and_then(|left| u64::try_from(left.as_millis()).ok());
            Ok::<_, io::Error>(Seen {
                attempt: task.attempt(),
                key: task.key().map(str::to_owned),
                deadline_ms: left,
            })
        })
        .on(Request::<(), Vec<String>>::new("test.env"), |(), (), _| {
            let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
            Ok::<_, io::Error>(names.filter(|name| name.starts_with("STOKEHOLD_")).collect::<Vec<_>>())
        })
        .on(Request::<(), Process>::new("test.pid"), |(), (), _| {
            Ok::<_, io::Error>(Process { pid: std::process::id() })
        })
        .serve()
}

/// Fails as it is told to. The SDK has no way to send `data` with a failure.
fn fails(fail: Fail) -> Outcome<()> {
    let mut failure = Failure::new(fail.message.unwrap_or_default());
    if let Some(code) = fail.code {
        failure = failure.code(code);
    }
    match fail.after_ms {
        Some(after) => failure = failure.retry_after(Duration::from_millis(after)),
        None if fail.retry => failure = failure.retry(),
        None => {}
    }
    if let Some(data) = fail.data {
        failure = failure.data(Data::encode(&data)?);
    }
    Err(failure.into())
}

fn sleep(job: &Millis, task: &Ctx) -> Result<u64, Failure> {
    let end = Instant::now() + Duration::from_millis(job.ms);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if task.is_cancelled() {
            return Err(Failure::cancelled());
        }
        if left.is_zero() {
            return Ok(job.ms);
        }
        thread::sleep(left.min(Duration::from_millis(10)));
    }
}

fn spin(job: &Millis) -> io::Result<u64> {
    let end = Instant::now() + Duration::from_millis(job.ms);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    Ok(job.ms)
}

fn items(job: &Items, task: &mut Ctx) -> Outcome<u64> {
    for number in 0..job.n {
        match job.size {
            Some(size) => task.item_data(&Data::bytes(&vec![b'a'; size]))?,
            None => task.item(&number)?,
        }
    }
    Ok(job.n)
}

fn print(job: &Print) -> Outcome<()> {
    match job.how.as_str() {
        "print" => println!("{}", job.text),
        "raw" => {
            let line = format!("{}\n", job.text);
            let mut rest = line.as_bytes();
            while !rest.is_empty() {
                let written = rustix::io::write(rustix::stdio::stdout(), rest)?;
                rest = rest.get(written..).unwrap_or_default();
            }
        }
        "process" => {
            // The text goes through a pipe: an argument has a limit.
            let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn()?;
            if let Some(mut stdin) = cat.stdin.take() {
                writeln!(stdin, "{}", job.text)?;
            }
            cat.wait()?;
        }
        how => return Err(format!("cannot print by {how:?}").into()),
    }
    Ok(())
}

fn read_stdin(job: &How) -> Outcome<u64> {
    let mut bytes = Vec::new();
    match job.how.as_str() {
        "read" => {
            io::stdin().read_to_end(&mut bytes)?;
        }
        "process" => bytes = Command::new("cat").stdin(Stdio::inherit()).output()?.stdout,
        how => return Err(format!("cannot read by {how:?}").into()),
    }
    Ok(bytes.len() as u64)
}

fn spawn(job: &Millis) -> io::Result<u32> {
    let seconds = format!("{}.{:03}", job.ms / 1000, job.ms % 1000);
    Ok(Command::new("sleep").arg(seconds).spawn()?.id())
}

#[expect(clippy::exit, reason = "to end without a word is what was asked for")]
fn exit(job: &Exit) -> io::Result<()> {
    std::process::exit(job.code)
}

fn level(name: &str) -> Result<Level, Failure> {
    let all = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error];
    all.into_iter()
        .find(|level| level.name() == name)
        .ok_or_else(|| Failure::new(format!("there is no level {name:?}")))
}
