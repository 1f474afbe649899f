//! Runs every example as a program and compares what it prints with what its header promises.
//!
//! Cargo builds the examples of a package before it runs the package's tests, beside them: `../examples/NAME`.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// No example needs a tenth of it.
const WATCHDOG: Duration = Duration::from_secs(60);

/// What a program printed, and how it ended.
#[derive(Debug)]
struct Printed {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

/// Runs an example to its end; a hanging one is killed.
fn run(example: &str, args: &[&OsStr]) -> Printed {
    let mut child = Command::new(path(example))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start the example {example}: {error}"));
    let (ended, end) = mpsc::channel();
    let stdout = collect(child.stdout.take(), ended.clone());
    let stderr = collect(child.stderr.take(), ended);
    let in_time = (0..2).all(|_| end.recv_timeout(WATCHDOG).is_ok());
    if !in_time {
        let _ = child.kill();
    }
    let status = child.wait().unwrap_or_else(|error| panic!("cannot wait for {example}: {error}"));
    assert!(in_time, "the example {example} was still running after {WATCHDOG:?}");
    let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    Printed { stdout: text(stdout), stderr: text(stderr), code: status.code() }
}

fn collect(
    stream: Option<impl Read + Send + 'static>,
    ended: mpsc::Sender<()>,
) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut text);
        }
        let _ = ended.send(());
        String::from_utf8_lossy(&text).into_owned()
    })
}

fn path(example: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap_or_default();
    let path = tests.parent().and_then(Path::parent).unwrap_or(Path::new("")).join("examples").join(example);
    assert!(path.exists(), "{} is not built: run `cargo build --examples` first", path.display());
    path
}

/// A folder of this test, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stokehold-examples-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn hello_prints_the_greeting() {
    let printed = run("hello", &[]);
    assert_eq!((printed.stdout.as_str(), printed.code), ("Hello, world!\n", Some(0)), "{printed:?}");
    assert_eq!(printed.stderr, "");
}

#[test]
fn wordcount_counts_the_given_files_in_their_order() {
    let folder = Folder::new("given");
    let one = folder.file("one.txt", "eins zwei drei\nvier\n".as_bytes());
    let two = folder.file("two.txt", "fünf".as_bytes());
    let empty = folder.file("empty.txt", b"");
    let printed = run("wordcount", &[one.as_os_str(), two.as_os_str(), empty.as_os_str()]);
    let expected = format!(
        "   lines    words    bytes  file\n\
        \x20      2        4       20  {}\n\
        \x20      1        1        5  {}\n\
        \x20      0        0        0  {}\n\
        \x20      3        5       25  total of 3 files\n",
        one.display(),
        two.display(),
        empty.display()
    );
    assert_eq!((printed.stdout.as_str(), printed.code), (expected.as_str(), Some(0)), "{printed:?}");
}

#[test]
fn wordcount_names_a_file_that_cannot_be_read_and_counts_the_others() {
    let folder = Folder::new("missing");
    let (missing, binary) = (folder.0.join("missing.txt"), folder.file("binary", b"\xff\xfe"));
    let good = folder.file("good.txt", b"one two\n");
    let printed = run("wordcount", &[missing.as_os_str(), binary.as_os_str(), good.as_os_str()]);
    assert_eq!(printed.code, Some(1), "{printed:?}");
    assert!(printed.stdout.ends_with("       1        2        8  total of 1 file\n"), "{printed:?}");
    assert!(printed.stderr.contains("missing.txt: task 1 failed in worker"), "{printed:?}");
    assert!(printed.stderr.contains("No such file or directory"), "{printed:?}");
    assert!(printed.stderr.contains("binary: task 2 failed in worker"), "{printed:?}");
}

#[test]
fn wordcount_without_files_counts_the_markdown_of_the_repository() {
    let printed = run("wordcount", &[]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let counts = |line: &str| -> Vec<u64> {
        line.split_whitespace().take(3).filter_map(|number| number.parse().ok()).collect()
    };
    let lines: Vec<&str> = printed.stdout.lines().skip(1).collect();
    let (total, files) =
        lines.split_last().map_or((Vec::new(), &[][..]), |(last, files)| (counts(last), files));
    let sum = |column: usize| files.iter().filter_map(|line| counts(line).get(column).copied()).sum::<u64>();
    assert!(files.iter().any(|line| line.ends_with("SPEC.md")), "{printed:?}");
    assert_eq!(total, [sum(0), sum(1), sum(2)], "{printed:?}");
    assert!(total.iter().all(|count| *count > 0), "{printed:?}");
}

#[test]
fn fibonacci_recovers_every_line() {
    let printed = run("fibonacci", &[]);
    let expected = "1\t0\n100\t218922995834555169026\n\
                    100 of 100 lines recovered through 2 workers, all as expected\n";
    assert_eq!((printed.stdout.as_str(), printed.code), (expected, Some(0)), "{printed:?}");
}

#[test]
fn python_worker_answers_fails_dies_and_is_replaced() {
    let python = Command::new("python3").arg("--version").output();
    if !python.is_ok_and(|python| python.status.success()) {
        println!("skipped: there is no python3 in the path");
        return;
    }
    let printed = run("python_worker", &[]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let lines: Vec<String> = printed.stdout.lines().map(without_pids).collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python_worker/worker.py");
    let death =
        format!("worker 0 (pid N, python3 {}) was killed by SIGKILL while doing task 4", script.display());
    let expected = [
        "echo: [1,\"two\",3.0]".to_owned(),
        "words: {\"a\": 2, \"b\": 1}".to_owned(),
        "error: task 3 failed in worker 0 (pid N): attempt 1 failed, as asked: 'why not'".to_owned(),
        format!("retried: task 4, attempt 1: {death}"),
        format!("retried: task 4, attempt 2: {death}"),
        format!("dead: task 4 killed its worker, or died with it, 3 times; the last time {death}"),
        "echo: still here".to_owned(),
    ];
    assert_eq!(lines, expected);
}

#[test]
fn supervised_shows_every_end_and_ends_in_order_at_ctrl_c() {
    let program = path("supervised");
    let mut child = Command::new(&program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start the example supervised: {error}"));
    let (lines, seen) = mpsc::channel();
    let readers =
        [read_lines(child.stdout.take(), false, lines.clone()), read_lines(child.stderr.take(), true, lines)];
    let program = program.display().to_string();
    let (mut printed, mut told) = (Vec::new(), Vec::new());
    let mut interrupted = false;
    let ended = loop {
        match seen.recv_timeout(WATCHDOG) {
            Ok((true, line)) => told.push(masked(&line, &program)),
            Ok((false, line)) => printed.push(masked(&line, &program)),
            Err(error) => break error == mpsc::RecvTimeoutError::Disconnected,
        }
        // It waits for the key, and whatever it is to tell without one was told.
        let ready = printed.iter().any(|line| line == "waiting: press Ctrl-C")
            && told.iter().any(|line| line == "worker N (pid N) is let go: it did enough tasks");
        if ready && !interrupted {
            interrupted = true;
            let sent = Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status();
            assert!(sent.is_ok_and(|sent| sent.success()));
        }
    };
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait();
    readers.into_iter().for_each(|reader| drop(reader.join()));
    assert!(ended, "it was still running after {WATCHDOG:?}: {printed:#?} {told:#?}");
    assert!(status.is_ok_and(|status| status.success()), "{printed:#?} {told:#?}");
    // Its time is over in an attempt, or in the pause between two.
    for line in printed.iter_mut().chain(&mut told).filter(|line| line.contains("took too long in all")) {
        line.truncate(line.find(" in all").map_or(line.len(), |at| at + " in all".len()));
    }
    let death = "worker N (pid N, PROGRAM) was killed by SIGABRT while doing task N";
    let expected = [
        "square: N",
        "square: N",
        "square: N",
        "squares: N in all",
        "letters: N in N words",
        "hang: task N took too long in all",
        &format!("fragile: task N killed its worker, or died with it, N times; the last time {death}"),
        "letter: task N, hang, attempts: N",
        "letter: task N, fragile, attempts: N",
        "again, with one attempt more: vase at last",
        "waiting: press Ctrl-C",
        "stopped: task N was cancelled; a worker may have run it in part",
        "ended, and no process is left",
    ];
    assert_eq!(printed, expected);
    for event in [
        "worker N (pid N) was started",
        "task N in worker N goes on: N of N",
        "worker N (pid N, PROGRAM) was ended, because task N took longer than Nms in",
        "dead letter: task N took too long in all",
        death,
        &format!("task N is tried again after attempt N: {death}"),
    ] {
        assert!(told.iter().any(|line| line.starts_with(event)), "{event} is not in {told:#?}");
    }
}

/// Sends each line with a mark of where it comes from.
fn read_lines(
    stream: Option<impl Read + Send + 'static>,
    mark: bool,
    lines: mpsc::Sender<(bool, String)>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let stream = stream.into_iter().flat_map(|stream| BufReader::new(stream).lines());
        stream.map_while(Result::ok).for_each(|line| drop(lines.send((mark, line))));
    })
}

/// The line with a word for the program's path, and `N` for every number.
fn masked(line: &str, program: &str) -> String {
    let mut masked = String::new();
    for letter in line.replace(program, "PROGRAM").chars() {
        match letter.is_ascii_digit() {
            true if masked.ends_with('N') => {}
            true => masked.push('N'),
            false => masked.push(letter),
        }
    }
    masked
}

/// The line with `N` for the number after each `(pid `.
fn without_pids(line: &str) -> String {
    let mut parts = line.split("(pid ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str("(pid N");
        out.push_str(part.trim_start_matches(|letter: char| letter.is_ascii_digit()));
    }
    out
}
