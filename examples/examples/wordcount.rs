//! Counts lines, words and bytes of files in two workers. A file that cannot be read is one error among the counts; the
//! others go on.
//!
//! `cargo run --example wordcount -- FILE…`, or without files to count the Markdown files of this repository. Prints one
//! line for each file, in the order given, and a line with the totals:
//!
//! ```text
//!    lines    words    bytes  file
//!      593     6144    36413  protocol/SPEC.md
//!      593     6144    36413  total of 1 file
//! ```
//!
//! The exit code is 1 if a file could not be counted.
#![expect(clippy::print_stdout, reason = "an example shows its result")]
#![expect(clippy::print_stderr, reason = "errors go where results do not")]

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs, io};

use serde::{Deserialize, Serialize};
use stokehold::{Pool, Request, WorkerCommand};

/// A request is a name with two types. Put it where both sides see it.
const COUNT: Request<str, Count> = Request::new("count");

/// What a worker answers.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Count {
    lines: u64,
    words: u64,
    bytes: u64,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if stokehold_child::is_worker() {
        return Ok(worker());
    }
    let files = files(env::args_os().skip(1).collect())?;
    let pool = Pool::builder(WorkerCommand::current_exe()).workers(2).start()?;
    println!("{:>8} {:>8} {:>8}  file", "lines", "words", "bytes");
    let (mut total, mut good) = (Count::default(), 0);
    for (file, count) in files.iter().zip(pool.imap(COUNT, files.iter().map(String::as_str))) {
        match count {
            Ok(count) => {
                print(&count, file);
                total.lines += count.lines;
                total.words += count.words;
                total.bytes += count.bytes;
                good += 1;
            }
            Err(error) => eprintln!("{file}: {error}"),
        }
    }
    print(&total, &format!("total of {good} {}", if good == 1 { "file" } else { "files" }));
    pool.shutdown(Duration::from_secs(5));
    Ok(if good == files.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(count: &Count, what: &str) {
    println!("{:>8} {:>8} {:>8}  {what}", count.lines, count.words, count.bytes);
}

/// The worker's half: it reads the file itself, because it runs on the same machine.
fn worker() -> ExitCode {
    stokehold_child::Worker::new(|_| Ok::<(), io::Error>(()))
        .on(Request::<String, Count>::new(COUNT.name()), |(), path, _| {
            let text = fs::read_to_string(path)?;
            Ok::<_, io::Error>(Count {
                lines: text.lines().count() as u64,
                words: text.split_whitespace().count() as u64,
                bytes: text.len() as u64,
            })
        })
        .serve()
}

/// The files that were asked for, or the repository's own Markdown.
fn files(asked: Vec<OsString>) -> Result<Vec<String>, Box<dyn Error>> {
    let mut paths: Vec<PathBuf> = asked.into_iter().map(PathBuf::from).collect();
    if paths.is_empty() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for folder in [root.clone(), root.join("protocol")] {
            for entry in fs::read_dir(folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "md") {
                    paths.push(path);
                }
            }
        }
        paths.sort();
    }
    let name = |path: PathBuf| {
        path.into_os_string()
            .into_string()
            .map_err(|path| format!("{} is no UTF-8 name", path.display()).into())
    };
    paths.into_iter().map(name).collect()
}
