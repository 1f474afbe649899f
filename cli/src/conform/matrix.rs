//! `stokehold conform matrix`: several children beside each other, as one Markdown table.

use std::ffi::OsString;
use std::fmt::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::carrier::Carrier;
use super::case::{News, Score};
use super::cases;
use super::child::{LevelArg, measure};
use super::options::{fail, id};
use super::report;
use super::stage::{Sample, Testee};
use super::verdict::Verdict;
use crate::console;
use crate::exit::Exit;
use crate::run;

/// Tests several children, and shows one table
///
/// stokehold conform matrix --testee --child 'rust=target/debug/examples/testee' --child 'python=python3 testee.py'
#[derive(Debug, Args)]
pub(crate) struct MatrixArgs {
    /// A child: a name, `=`, and its command, whose words are separated by blanks. It is measured by the level that `conform child`
    /// would choose, or by the one behind the name: `NAME@L1=CMD`
    #[arg(long, required_unless_present = "plain_child", value_name = "NAME=CMD", value_parser = child)]
    child: Vec<Named>,

    /// Another child, which answers nothing of `sdks/TESTEE.md`
    #[arg(long, value_name = "NAME=CMD", value_parser = child)]
    plain_child: Vec<Named>,

    /// Only these cases: ids, or beginnings with a star (F1,L*)
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = id)]
    case: Vec<String>,

    /// Each `--child` answers the requests of `sdks/TESTEE.md`
    #[arg(long)]
    testee: bool,

    /// How long a child may take for one thing
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = run::duration)]
    timeout: Duration,

    /// Where the random numbers begin
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Debug)]
struct Named {
    name: String,
    level: LevelArg,
    command: Vec<OsString>,
}

fn child(text: &str) -> Result<Named, String> {
    let (name, command) = text.split_once('=').ok_or("a child is given as NAME=CMD")?;
    let (name, level) = match name.rsplit_once('@') {
        Some((name, level)) => (name, LevelArg::from_str(level, true)?),
        None => (name, LevelArg::Auto),
    };
    let command: Vec<OsString> = command.split_whitespace().map(OsString::from).collect();
    if command.is_empty() {
        return Err(format!("{name:?} has no command"));
    }
    Ok(Named { name: name.to_owned(), level, command })
}

/// Runs it.
pub(crate) fn run(args: &MatrixArgs) -> Exit {
    let (chosen, unknown) = cases::chosen(&args.case);
    if let Some(unknown) = unknown {
        return fail(Exit::Usage, &unknown);
    }
    let mut scores = Vec::new();
    let mut all_ran = true;
    let children = args.child.iter().map(|child| (child, args.testee));
    for (child, is_testee) in children.chain(args.plain_child.iter().map(|child| (child, false))) {
        let testee = Testee {
            command: child.command.clone(),
            is_testee,
            carrier: Carrier::Either,
            sample: Sample::Echo,
            patience: args.timeout,
            seed: args.seed,
        };
        let told = |news: News<'_>| {
            if let News::Notice(what) = news {
                console::line(format_args!("note: {}: {what}", child.name));
            }
        };
        match measure(&testee, child.level, &chosen, args.case.is_empty(), told) {
            Ok(score) => scores.push((child.name.as_str(), score)),
            Err(why) => {
                console::line(format_args!("error: {}: {}", child.name, console::escaped(&why)));
                all_ran = false;
            }
        }
    }
    let is_told = report::print(&table(&scores));
    if !all_ran {
        return Exit::NoWorkers;
    }
    let is_good = scores.iter().all(|(_, score)| score.is_good(false));
    if is_told && is_good { Exit::Success } else { Exit::SomeFailed }
}

fn table(scores: &[(&str, Score)]) -> String {
    let mut text = String::from("| group |");
    for (name, _) in scores {
        let _ = write!(text, " {} |", name.replace('|', "\\|"));
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(scores.len()));
    text.push('\n');
    for (group, about) in cases::GROUPS {
        let _ = write!(text, "| {group} {about} |");
        for (_, score) in scores {
            let _ = write!(text, " {} |", cell(score, group));
        }
        text.push('\n');
    }
    text.push_str("| level reached |");
    for (_, score) in scores {
        let level = match score.reached() {
            Some(level) => level.to_string(),
            None if score.is_whole => "none".to_owned(),
            None => "not told".to_owned(),
        };
        let _ = write!(text, " {level} |");
    }
    text.push_str("\n\nPassed / tried; `!` counts a MUST that is broken, `?` a SHOULD. Cases that only tell are left out.\n");
    text
}

/// How a child did in a group.
fn cell(score: &Score, group: &str) -> String {
    let count = |verdict| {
        score.outcomes.iter().filter(|it| it.case.group() == group && it.verdict == verdict).count()
    };
    let (passed, failed, warned) = (count(Verdict::Pass), count(Verdict::Fail), count(Verdict::Warn));
    let broken = failed + count(Verdict::Harness);
    let tried = passed + broken + warned;
    if tried == 0 {
        return "–".to_owned();
    }
    let mut text = format!("{passed} / {tried}");
    if broken > 0 {
        let _ = write!(text, " {broken}!");
    }
    if warned > 0 {
        let _ = write!(text, " {warned}?");
    }
    text
}
