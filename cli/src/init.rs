//! The duties of process 1, for containers whose only program is this command: the command runs in a child, and this process
//! reaps whatever else ends, hands signals on, and exits as the child does.
//!
//! Without it orphans of the workers would stay as zombies, and signals whose default is to end a process would be ignored.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, wait};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::console;
use crate::exit::Exit;

/// Set to 0 when something else reaps.
const SWITCH: &str = "STOKEHOLD_INIT";

/// Does those duties and gives the exit code; `None` at once in any other process, which then does the work itself.
pub(crate) fn run_if_first_process() -> Option<ExitCode> {
    if !getpid().is_init() || env::var_os(SWITCH).is_some_and(|value| value == "0") {
        return None;
    }
    Some(match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            console::line(format_args!("error: cannot start the command below process 1: {error}"));
            Exit::NoWorkers.code()
        }
    })
}

fn run() -> std::io::Result<u8> {
    // Before the child exists, so that none of its signals is missed.
    let mut signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])?;
    let mut args = env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    let child = command.args(args).spawn()?;
    let child = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    loop {
        for signal in signals.wait() {
            if signal == SIGCHLD {
                if let Some(code) = reap(child) {
                    return Ok(code);
                }
            } else if let (Some(child), Some(signal)) = (child, Signal::from_named_raw(signal)) {
                // It is not reaped yet, so that its number is still its own.
                let _ = kill_process(child, signal);
            }
        }
    }
}

/// Reaps everything that has ended; gives the exit code if the child was among it.
fn reap(child: Option<Pid>) -> Option<u8> {
    let mut code = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if Some(pid) == child {
            code = Some(code_of(status));
        }
    }
    code
}

fn code_of(status: WaitStatus) -> u8 {
    let number = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => signal.saturating_add(128),
        (None, None) => 1,
    };
    u8::try_from(number).unwrap_or(1)
}
