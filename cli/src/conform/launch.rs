//! What stands between the kit and a child for a moment: a process that asks to be killed when the kit dies, and then becomes
//! the child. And the parent that is there to be killed.

use std::ffi::OsString;
use std::io::{Write, stdout};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::console;
use crate::exit::Exit;

/// The arguments of `conform launch` and `conform hold`, which only the kit uses.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// The process that starts it; if that is gone, nothing is started
    #[arg(long)]
    parent: u32,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl LaunchArgs {
    /// Dies with the kit from now on; false if that is dead already.
    fn bind(&self) -> bool {
        let bound = set_parent_process_death_signal(Some(Signal::KILL));
        let parent = getppid().map(Pid::as_raw_nonzero).and_then(|pid| u32::try_from(pid.get()).ok());
        bound.is_ok() && parent == Some(self.parent)
    }

    fn command(&self) -> Command {
        let mut words = self.command.iter();
        let mut command = Command::new(words.next().cloned().unwrap_or_default());
        command.args(words);
        command
    }
}

/// Becomes the child: same process, same descriptors.
pub(crate) fn launch(args: &LaunchArgs) -> Exit {
    if !args.bind() {
        return Exit::NoWorkers;
    }
    let error = args.command().exec();
    console::line(format_args!("stokehold conform: cannot run {:?}: {error}", args.command.first()));
    Exit::NoWorkers
}

/// Starts the child with pipes of its own, tells its process id, and holds the pipes until it is killed.
pub(crate) fn hold(args: &LaunchArgs) -> Exit {
    if !args.bind() {
        return Exit::NoWorkers;
    }
    let mut command = args.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            console::line(format_args!("stokehold conform: cannot run {:?}: {error}", args.command.first()));
            return Exit::NoWorkers;
        }
    };
    // The pipes must stay open, so that only this process's death closes them.
    let pipes = (child.stdin.take(), child.stdout.take());
    let told = writeln!(stdout(), "{}", child.id());
    let ended = child.wait();
    drop(pipes);
    if told.is_ok() && ended.is_ok() { Exit::Success } else { Exit::NoWorkers }
}
