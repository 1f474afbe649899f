//! `conform villain CASE DIRECTORY`: the child that a parent under test starts. It is no command for people.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use super::actor::Actor;
use super::plots;
use super::record::Event;
use crate::console;
use crate::exit::Exit;

/// What the kit puts behind the parent's own arguments.
#[derive(Debug, Args)]
pub(crate) struct VillainArgs {
    /// The case whose part it plays
    case: String,
    /// Where its record goes
    directory: PathBuf,
    /// Where its random numbers begin
    seed: u64,
}

/// Plays the part.
pub(crate) fn run(args: &VillainArgs) -> Exit {
    if let Ok(way) = std::env::var("STOKEHOLD_IO")
        && way != "stdio"
    {
        return move_to_stdio(&way);
    }
    let Some(plot) = plots::find(&args.case) else {
        console::line(format_args!("stokehold conform: no case is called {:?}", args.case));
        return Exit::Usage;
    };
    let mut actor = match Actor::new(&args.directory, &args.case, args.seed) {
        Ok(actor) => actor,
        Err(error) => {
            console::line(format_args!("stokehold conform: cannot play {}: {error}", args.case));
            return Exit::Usage;
        }
    };
    match (plot.part)(&mut actor) {
        Ok(code) => Exit::Played(code),
        // The parent has gone, or does not want to hear more.
        Err(error) => {
            let _ = actor.record(Event::Note(format!("it ends: {error}")));
            Exit::Played(1)
        }
    }
}

/// Becomes itself once more, with the descriptors of `fd:R,W` as standard input and output: a shell can move them.
fn move_to_stdio(way: &str) -> Exit {
    let parts = way.strip_prefix("fd:").and_then(|parts| parts.split_once(','));
    // A shell need not know numbers above 9.
    let is_digit = |part: &str| part.len() == 1 && part.bytes().all(|byte| byte.is_ascii_digit());
    let Some((read, write)) = parts.filter(|(read, write)| is_digit(read) && is_digit(write)) else {
        console::line(format_args!("stokehold conform: cannot use {way:?} as STOKEHOLD_IO"));
        return Exit::Usage;
    };
    let script = format!("exec \"$@\" <&{read} >&{write} {read}<&- {write}>&-");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).args(std::env::args_os()).env("STOKEHOLD_IO", "stdio");
    let error = command.exec();
    console::line(format_args!("stokehold conform: cannot move descriptors: {error}"));
    Exit::Usage
}
