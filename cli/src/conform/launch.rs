//! What stands between the kit and a child for a moment: a process that asks to be killed when the kit dies, and then becomes
//! the child. And the parent that is there to be killed: it holds the pipes of a child, which is the kit's all the same, so that
//! it cannot outlive the kit.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use clap::Args;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::console;
use crate::exit::Exit;

/// The arguments of `conform launch`, which only the kit uses.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// The process that starts it; if that is gone, nothing is started
    #[arg(long)]
    parent: u32,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// The arguments of `conform hold`, which only the kit uses.
#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    /// The process that starts it
    #[arg(long)]
    parent: u32,
}

/// Dies with the kit from now on; false if that is dead already.
fn bind(kit: u32) -> bool {
    let bound = set_parent_process_death_signal(Some(Signal::KILL));
    let parent = getppid().map(Pid::as_raw_nonzero).and_then(|pid| u32::try_from(pid.get()).ok());
    bound.is_ok() && parent == Some(kit)
}

/// Becomes the child: same process, same descriptors.
pub(crate) fn launch(args: &LaunchArgs) -> Exit {
    if !bind(args.parent) {
        return Exit::NoWorkers;
    }
    let mut words = args.command.iter();
    let error = Command::new(words.next().cloned().unwrap_or_default()).args(words).exec();
    let program = args.command.first().map(|program| program.to_string_lossy()).unwrap_or_default();
    console::line(format_args!("stokehold conform: cannot run {}: {error}", console::escaped(&program)));
    Exit::NoWorkers
}

/// Holds the pipes that it got as its standard streams until it is killed.
pub(crate) fn hold(args: &HoldArgs) -> Exit {
    if !bind(args.parent) {
        return Exit::NoWorkers;
    }
    loop {
        thread::park();
    }
}
