//! One case against a parent: it is run with the part as its worker, and what it did is looked at from both ends: what it says
//! came of its tasks, and what the played children saw of it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::evidence::Evidence;
use super::outcomes::{self, CONTRACT};
use super::plot::Plot;
use super::program::{self, Ran};
use super::record::{Event, Record};
use super::umpire::Umpire;
use crate::conform::case;
use crate::conform::process::Identity;
use crate::conform::trace::Trace;
use crate::conform::verdict::{Checked, Finding, Stop, must};

/// Characters shown of a line of the parent's standard error.
const LINE_SHOWN: usize = 300;

/// How long the children of a parent that ended may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(2);

/// How the parents are tested: the same for all cases.
#[derive(Debug)]
pub(crate) struct Trial {
    pub(crate) command: Vec<OsString>,
    pub(crate) patience: Duration,
    pub(crate) seed: u64,
    /// What the parent takes with an honest child, once that is known.
    pub(crate) memory: u64,
}

/// Plays a case; the second is the most memory that the parent took, or none if it did not even give outcomes.
pub(crate) fn play(plot: &'static Plot, trial: &Trial) -> (case::Outcome, Option<u64>) {
    let begun = Instant::now();
    let mut show = Show::default();
    let ended = stage(plot, trial, &mut show);
    let (verdict, findings, remarks) = case::conclude(plot.about.rank, ended, &show.warnings, show.remarks);
    let outcome = case::Outcome {
        case: &plot.about,
        verdict,
        findings,
        remarks,
        trace: show.trace,
        stderr: show.stderr,
        took: begun.elapsed(),
    };
    (outcome, show.works.then_some(show.memory))
}

/// What is shown of a case besides its end.
#[derive(Debug, Default)]
struct Show {
    warnings: Vec<Finding>,
    remarks: Vec<String>,
    trace: Trace,
    stderr: String,
    memory: u64,
    /// There were outcomes.
    works: bool,
}

fn stage(plot: &'static Plot, trial: &Trial, show: &mut Show) -> Checked {
    let directory = Directory::new().map_err(|error| Stop::system("a directory for the records", error))?;
    let command = command(plot, trial, &directory.0)?;
    let inputs = (plot.tasks)();
    let mut input = inputs.join("\n").into_bytes();
    input.push(b'\n');
    let ran = program::run(&command, input, trial.patience)?;
    let records = Record::read_all(&directory.0);
    show.trace = trace(&records, &ran);
    let lines = ran.stderr.lines().map(|line| line.chars().take(LINE_SHOWN).collect::<String>());
    show.stderr = lines.collect::<Vec<_>>().join("\n");
    (show.memory, show.works) = (ran.memory, !ran.output.is_empty());
    let left = leftovers(&directory.0, ran.ended.is_none());
    if let Some(line) = ran.stderr.lines().find(|line| line.starts_with("stokehold conform: cannot ")) {
        return Err(Stop::Harness(line.to_owned()));
    }
    let unfit = records.iter().flat_map(Record::events).find_map(|event| match event {
        Event::Unfit(why) => Some(why.clone()),
        _ => None,
    });
    let judged = watch(&records, plot.is_wrapped, &mut show.warnings);
    let is_over = must(
        ran.ended.is_some(),
        plot.about.spec.first().copied().unwrap_or(CONTRACT),
        || format!("the parent is still there after {:.0?}", trial.patience),
        "let nothing wait for ever: give up on a child that does not what it should, and end when every task has its outcome",
    );
    judged.and(is_over)?;
    let outcomes = outcomes::read(&ran.output, inputs.len() as u64)?;
    let evidence = Evidence { plot, ran, outcomes, records, inputs, memory: trial.memory };
    if evidence.gave_up() {
        show.remarks.push("the parent gave up".to_owned());
    }
    evidence.judge_outcomes()?;
    evidence.judge_end()?;
    (plot.judge)(&evidence)?;
    if let Some((_, is_own)) = left.iter().find(|(_, is_child)| *is_child).or(left.first()) {
        let finding = Finding {
            statement: if *is_own { "L-6" } else { "X-9" }.into(),
            what: format!("{} processes outlive the parent", left.len()),
            hint: "end every child before you end, by force if need be, with everything in its process group"
                .to_owned(),
        };
        if *is_own {
            return Err(Stop::Fail(finding));
        }
        show.warnings.push(finding);
    }
    unfit.map_or(Ok(()), |why| Err(Stop::Skip(why)))
}

fn command(plot: &Plot, trial: &Trial, directory: &Path) -> Checked<Vec<OsString>> {
    let kit = std::env::current_exe().map_err(|error| Stop::system("the kit's own program", error))?;
    let mut command = trial.command.clone();
    if plot.is_wrapped {
        // It waits, as a wrapper does that has something to do afterwards.
        command.extend(["sh", "-c", "\"$@\"; code=$?; exit $code", "sh"].map(OsString::from));
    }
    command.push(kit.into());
    command.extend(["conform", "villain", plot.about.id].map(OsString::from));
    command.extend([directory.into(), trial.seed.to_string().into()]);
    Ok(command)
}

/// What the umpire says of each child's record, and of all together.
fn watch(records: &[Record], is_wrapped: bool, warnings: &mut Vec<Finding>) -> Checked {
    let mut first = Ok(());
    let mut addresses = BTreeSet::new();
    for record in records {
        let mut umpire = Umpire::default();
        let mut events = record.events().filter(|event| !(is_wrapped && **event == Event::SharesGroup));
        let seen = events.try_for_each(|event| umpire.take(event));
        warnings.append(&mut umpire.warnings);
        first = first.and(seen);
        let address = umpire.parent.map_or(0, |parent| parent.pid);
        let is_new = address == 0 || addresses.insert(address);
        first = first.and_then(|()| {
            let hint = "give each child an address that no other has had";
            must(is_new, "M-16", || format!("two children have the address {address}"), hint)
        });
    }
    first.and_then(|()| one_attempt_at_a_time(records))
}

/// No child gets a task that another has and may still answer.
fn one_attempt_at_a_time(records: &[Record]) -> Checked {
    for record in records {
        for entry in &record.entries {
            let Event::Got(got) = &entry.event else { continue };
            for other in records.iter().filter(|other| got.living.contains(&other.ordinal)) {
                must(
                    !may_answer(other, &got.tasks, entry.at),
                    "R-31",
                    || {
                        format!(
                            "the child {} gets a task while the child {} lives and may still answer it",
                            record.ordinal, other.ordinal
                        )
                    },
                    "run a task again when the process of the earlier attempt is gone, or its answer was read",
                )?;
            }
        }
    }
    Ok(())
}

/// Whether that child has one of the tasks at that time, and its connection stands.
fn may_answer(record: &Record, tasks: &[u64], at: u64) -> bool {
    let mut open = BTreeSet::new();
    for entry in record.entries.iter().take_while(|entry| entry.at < at) {
        match &entry.event {
            Event::Got(got) if got.tasks.iter().any(|task| tasks.contains(task)) => {
                open.insert(got.id());
            }
            Event::Sent(piece) => {
                piece.answers().map(|id| open.remove(&id));
            }
            Event::Broke(_) | Event::Left | Event::InputEnded | Event::NoFrames(_) => return false,
            _ => {}
        }
    }
    !open.is_empty()
}

/// The processes that are left when the parent is gone; they are killed. Whether each is a child of the parent, or what a child
/// started.
fn leftovers(directory: &Path, at_once: bool) -> Vec<(Identity, bool)> {
    let until = Instant::now() + if at_once { Duration::ZERO } else { GONE_WITHIN };
    loop {
        let records = Record::read_all(directory);
        let processes = records.iter().flat_map(Record::processes);
        let left: Vec<_> = processes.filter(|(identity, _)| identity.is_alive()).collect();
        if left.is_empty() || Instant::now() >= until {
            for (identity, _) in &left {
                identity.kill();
            }
            return left;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn trace(records: &[Record], ran: &Ran) -> Trace {
    let mut trace = Trace::default();
    for record in records {
        trace.note(format!("child {}", record.ordinal));
        for event in record.events() {
            match event {
                Event::Sent(piece) => trace.sent_of(&piece.bytes(), piece.whole),
                Event::Got(got) => trace.received_of(&got.piece.bytes(), got.piece.whole),
                Event::NoFrames(why) => trace.note(format!("what the parent wrote is no frame: {why}")),
                Event::Broke(statement) => trace.note(format!("what follows breaks [{statement}]")),
                Event::InputEnded => trace.note("the parent closed the child's input"),
                Event::Left => trace.note("the child leaves"),
                Event::Taken(count) => trace.note(format!("the parent took {count} bytes")),
                Event::Note(what) | Event::Unfit(what) => trace.note(what.clone()),
                Event::Started(_) | Event::SharesGroup | Event::Spawned(_) => {}
            }
        }
    }
    match ran.ended {
        Some(ended) => trace.note(format!("the parent {ended}")),
        None => trace.note("the parent did not end"),
    }
    trace
}

/// A directory that is the kit's alone, and goes with the case.
#[derive(Debug)]
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("stokehold-conform-{}-{count}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
