//! How to start a worker: program, arguments, environment, directory, transport.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use stokehold_protocol::Codec;
use uuid::Uuid;

use crate::driver::Launch;
use crate::sys::{self, Containment};

/// The command that starts one worker. A pool starts it as often as it has workers, and again when one dies.
///
/// Arguments are passed as they are; there is no shell in between. The environment is inherited but for variables that begin
/// with `STOKEHOLD_`, which the pool sets itself. A program name without a slash is looked up in the child's `PATH`.
///
/// ```
/// use stokehold::WorkerCommand;
///
/// let command = WorkerCommand::new("python3").arg("worker.py").env("OMP_NUM_THREADS", "1");
/// # let _ = command;
/// ```
#[derive(Clone, Debug)]
pub struct WorkerCommand {
    program: OsString,
    arg0: Option<OsString>,
    args: Vec<OsString>,
    inherits: bool,
    allowed: Option<Vec<OsString>>,
    changes: BTreeMap<OsString, Option<OsString>>,
    cwd: Option<PathBuf>,
    dedicated_pipes: bool,
    /// The codecs on offer.
    offer: &'static str,
}

impl WorkerCommand {
    /// Starts `program`, with the protocol on its stdin and stdout.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arg0: None,
            args: Vec::new(),
            inherits: true,
            allowed: None,
            changes: BTreeMap::new(),
            cwd: None,
            dedicated_pipes: false,
            offer: "msgpack,json",
        }
    }

    /// Starts the program called `name` that lies beside the one that is running now: a worker binary of the same package, or
    /// one that was installed with it. Where cargo runs an example or a test, that is the directory above.
    ///
    /// Cargo builds it with `cargo build --bins` or `cargo build --workspace`, not with `cargo run --bin` of another one.
    pub fn sibling(name: impl AsRef<Path>) -> Self {
        let name = name.as_ref();
        let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
        let Some(beside) = beside else { return Self::new(name) };
        let above = beside.parent().map(|above| above.join(name));
        match above {
            Some(above) if !beside.join(name).exists() && above.exists() => Self::new(above),
            _ => Self::new(beside.join(name)),
        }
    }

    /// Starts the program that is running now, also if its file has been replaced or deleted meanwhile. Its `main` tells by
    /// `stokehold_child::is_worker()` that it is a worker.
    ///
    /// The protocol runs over descriptors of its own, because much of what runs before `main` looks prints to stdout.
    pub fn current_exe() -> Self {
        let mut command = Self::new(sys::SELF_EXE);
        command.arg0 = std::env::args_os().next();
        command.dedicated_pipes()
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item = impl Into<OsString>>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Offers the worker text mode only: lines of JSON, for looking at what is said or for a worker that knows both codecs. A
    /// worker that can only speak text does so without this, and is recognised by its first line.
    #[must_use]
    pub fn text_mode(mut self) -> Self {
        self.offer = Codec::Json.name();
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.changes.insert(key.into(), Some(value.into()));
        self
    }

    /// Removes an inherited variable.
    #[must_use]
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Self {
        self.changes.insert(key.into(), None);
        self
    }

    /// Inherits nothing. Mind that many programs need `PATH`, `HOME` or `LD_LIBRARY_PATH`.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.inherits = false;
        self.changes.clear();
        self
    }

    /// Inherits only these variables: for workers that must not see secrets of the environment.
    #[must_use]
    pub fn env_allow<I: IntoIterator<Item = impl Into<OsString>>>(mut self, keys: I) -> Self {
        self.allowed = Some(keys.into_iter().map(Into::into).collect());
        self
    }

    /// Starts it in that directory. A program given as a relative path with a slash is then sought from there.
    #[must_use]
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.cwd = Some(dir.as_ref().to_owned());
        self
    }

    /// Runs the protocol over descriptors 3 and 4 instead of stdin and stdout; stdin is then empty, and stdout is captured
    /// together with stderr. For workers that print before their SDK can protect stdout. Does not pass through wrappers that
    /// close descriptors.
    #[must_use]
    pub fn dedicated_pipes(mut self) -> Self {
        self.dedicated_pipes = true;
        self
    }

    /// The program, for messages.
    pub(crate) fn name(&self) -> String {
        let shown = if self.program == sys::SELF_EXE { self.arg0.as_ref() } else { None };
        let mut name = shown.unwrap_or(&self.program).to_string_lossy().into_owned();
        for arg in &self.args {
            if name.len() > 80 {
                name.push_str(" …");
                break;
            }
            name.push(' ');
            name.push_str(&arg.to_string_lossy());
        }
        name
    }

    pub(crate) fn launch(&self, run: Uuid, containment: Containment) -> Launch {
        let mut env: BTreeMap<OsString, OsString> = BTreeMap::new();
        if self.inherits {
            let passes = |key: &OsStr| {
                self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|name| name == key))
            };
            env.extend(std::env::vars_os().filter(|(key, _)| passes(key)));
        }
        for (key, value) in &self.changes {
            match value {
                Some(value) => env.insert(key.clone(), value.clone()),
                None => env.remove(key),
            };
        }
        env.retain(|key, _| !key.as_encoded_bytes().starts_with(b"STOKEHOLD_"));
        env.insert("STOKEHOLD_PROTO".into(), "1".into());
        env.insert("STOKEHOLD_CODEC".into(), self.offer.into());
        env.insert("STOKEHOLD_RUN".into(), run.to_string().into());
        env.insert("STOKEHOLD_PARENT".into(), sys::current_pid().to_string().into());
        Launch {
            program: self.program.clone(),
            arg0: self.arg0.clone(),
            args: self.args.clone(),
            env: env.into_iter().collect(),
            cwd: self.cwd.clone(),
            dedicated_pipes: self.dedicated_pipes,
            containment,
        }
    }
}

impl From<Command> for WorkerCommand {
    /// Takes program, arguments, environment and directory; redirections and the rest of a `Command` cannot be read and are
    /// ignored.
    fn from(command: Command) -> Self {
        let mut worker = Self::new(command.get_program());
        worker.args = command.get_args().map(OsStr::to_owned).collect();
        worker.changes =
            command.get_envs().map(|(key, value)| (key.to_owned(), value.map(OsStr::to_owned))).collect();
        worker.cwd = command.get_current_dir().map(Path::to_owned);
        worker
    }
}
