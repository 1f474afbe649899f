//! The `stokehold` command: its arguments, and which subcommand gets them. It does no work itself.

mod conform;
mod console;
mod demo;
mod echo;
mod exit;
mod failure;
mod feed;
mod hint;
mod init;
mod input;
mod output;
mod run;
mod signals;
mod value;

use std::ffi::OsStr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Streams records through persistent worker processes.
///
/// A worker is any program that speaks the Stokehold protocol. It is started once and fed for as long as there is input. A
/// worker that dies is replaced, and what it had not finished is done again, so that every record gets exactly one result, or the run ends and says why.
#[derive(Debug, Parser)]
#[command(
    name = "stokehold",
    version,
    arg_required_else_help = true,
    after_help = "Try:\n  stokehold demo\n  seq 10 | stokehold run --raw -- stokehold echo-worker",
    after_long_help = format!("Try:\n  stokehold demo\n  seq 10 | stokehold run --raw -- stokehold echo-worker\n\n{EXIT_CODES}")
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    // What `run` and `demo` are for is told by their arguments' types.
    Run(run::RunArgs),
    Demo(demo::DemoArgs),
    Conform(conform::ConformArgs),
    /// A worker that echoes, for trying things
    ///
    /// It gives every record back as it came. A parent starts it:
    ///
    ///   seq 10 | stokehold run --raw -- stokehold echo-worker
    #[command(verbatim_doc_comment)]
    EchoWorker,
    /// The worker of `demo`, which starts it itself
    #[command(hide = true)]
    DemoWorker,
}

/// What the exit codes mean, for the help of the command and of its parts.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    everything went well
  1    some records failed, or input or output did
  2    the command line is wrong, or names a file that cannot be opened
  3    the workers could not be started, or not kept alive
  4    the workers broke the protocol so often that they were given up
  129, 130, 131, 143   stopped by SIGHUP, SIGINT, SIGQUIT or SIGTERM

In a container where it is process 1, stokehold starts itself once more and
reaps orphans meanwhile. STOKEHOLD_INIT=0 in the environment prevents that.";

fn main() -> ExitCode {
    // A worker serves before anything else happens: its parent waits for HELLO, and nothing may print before the SDK has
    // moved the protocol out of the way. The name is looked at too, because a worker in another language may call this
    // command without having cleaned its environment.
    if stokehold_child::is_worker() {
        match std::env::args_os().nth(1).as_deref().and_then(OsStr::to_str) {
            Some("demo-worker") => return demo::serve(),
            Some("echo-worker") => return echo::serve(),
            _ => {}
        }
    }
    // Help and wrong usage end in here, with 0 and 2.
    let cli = Cli::parse();
    if let Some(code) = init::run_if_first_process() {
        return code;
    }
    match cli.command {
        Command::Run(args) => run::run(&args).code(),
        Command::Demo(args) => demo::run(&args).code(),
        Command::Conform(args) => conform::run(&args).code(),
        Command::EchoWorker => echo::serve(),
        Command::DemoWorker => demo::serve(),
    }
}
