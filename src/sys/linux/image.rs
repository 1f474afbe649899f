//! Finds the program and lays out name, arguments and environment as `execve` wants them. All that allocates
//! happens here, in the parent, because the child between clone and `execve` may not.

use std::env;
use std::ffi::{CStr, CString, OsStr, OsString, c_char};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::ptr;

use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;

use super::command::SpawnCommand;
use super::failure::{SpawnError, SpawnStage};

/// A command, ready for `execve`. Owns every string that its pointers point to.
#[derive(Debug)]
pub(super) struct Image {
    path: CString,
    argv: Strings,
    envp: Strings,
    cwd: Option<CString>,
    /// `path` as the parent sees it, the child's change of directory accounted for.
    seen_from_here: PathBuf,
    searched: Option<OsString>,
}

impl Image {
    /// # Errors
    /// `Argument` for what no program can be given, `FindProgram` when `PATH` has no such program.
    pub(super) fn new(command: &SpawnCommand) -> Result<Self, SpawnError> {
        let fail = |stage, error| SpawnError::new(command, stage, error);
        let bad_argument = |what: &str| {
            let text =
                format!("{what}: a NUL byte (or an environment name empty or with =) cannot be passed");
            fail(SpawnStage::Argument, io::Error::new(io::ErrorKind::InvalidInput, text))
        };
        let program = c_string(&command.program).ok_or_else(|| bad_argument("in its name"))?;
        let mut argv = vec![match &command.arg0 {
            None => program,
            Some(name) => c_string(name).ok_or_else(|| bad_argument("in argument 0"))?,
        }];
        for (index, argument) in command.args.iter().enumerate() {
            argv.push(c_string(argument).ok_or_else(|| bad_argument(&format!("in argument {}", index + 1)))?);
        }
        let mut envp = Vec::with_capacity(command.env.len());
        for (name, value) in &command.env {
            let entry = environment_entry(name, value);
            envp.push(entry.ok_or_else(|| bad_argument(&format!("in environment variable {name:?}")))?);
        }
        let cwd = match &command.cwd {
            None => None,
            Some(path) => {
                Some(c_string(path.as_os_str()).ok_or_else(|| bad_argument("in its working directory"))?)
            }
        };
        let (path, searched) = find(command)?;
        let seen_from_here = command.cwd.as_ref().map_or_else(|| path.clone(), |cwd| cwd.join(&path));
        let path = c_string(path.as_os_str()).ok_or_else(|| bad_argument("in PATH"))?;
        let (argv, envp) = (Strings::new(argv), Strings::new(envp));
        Ok(Self { path, argv, envp, cwd, seen_from_here, searched })
    }

    pub(super) fn path(&self) -> &CStr {
        &self.path
    }

    /// NULL-terminated, valid as long as `self`.
    pub(super) fn argv(&self) -> *const *const c_char {
        self.argv.pointers.as_ptr()
    }

    /// NULL-terminated, valid as long as `self`.
    pub(super) fn envp(&self) -> *const *const c_char {
        self.envp.pointers.as_ptr()
    }

    pub(super) fn cwd(&self) -> Option<&CStr> {
        self.cwd.as_deref()
    }

    /// The error for a child that reported `stage` and `errno`. The kernel says "no such file" both for a missing
    /// program and for a missing interpreter of one; looking again tells them apart.
    pub(super) fn failure(&self, command: &SpawnCommand, stage: SpawnStage, errno: Errno) -> SpawnError {
        let stage = match (stage, errno) {
            (SpawnStage::Execute, Errno::NOENT) if self.seen_from_here.exists() => SpawnStage::Interpreter,
            (SpawnStage::Execute, Errno::NOENT) => SpawnStage::FindProgram,
            (stage, _) => stage,
        };
        SpawnError { searched: self.searched.clone(), ..SpawnError::new(command, stage, errno.into()) }
    }
}

/// Strings, and the NULL-terminated array of pointers to them. Moving it moves no string.
#[derive(Debug)]
struct Strings {
    pointers: Vec<*const c_char>,
    #[expect(dead_code, reason = "keeps alive what the pointers point to")]
    strings: Vec<CString>,
}

impl Strings {
    fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, strings }
    }
}

/// The path to execute, and the `PATH` that was searched for it, as `execvp` would do it: an unreadable or missing
/// directory is passed over, a file that may not be executed is remembered and passed over.
fn find(command: &SpawnCommand) -> Result<(PathBuf, Option<OsString>), SpawnError> {
    let program = Path::new(&command.program);
    if command.program.as_bytes().contains(&b'/') {
        return Ok((program.to_owned(), None));
    }
    let given = command.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    let path = given.or_else(|| env::var_os("PATH")).unwrap_or_else(|| DEFAULT_PATH.into());
    let mut reason = Errno::NOENT;
    // An empty name would find the directories of PATH themselves.
    let directories = env::split_paths(&path).filter(|_| !command.program.is_empty());
    for directory in directories {
        // An empty entry means the working directory, and is the child's one, as a relative entry is.
        let directory = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory };
        let candidate = directory.join(program);
        let seen_from_here =
            command.cwd.as_ref().map_or_else(|| candidate.clone(), |cwd| cwd.join(&candidate));
        match check_executable(&seen_from_here) {
            Ok(()) => return Ok((candidate, Some(path))),
            Err(Errno::ACCESS) => reason = Errno::ACCESS,
            Err(_) => {}
        }
    }
    Err(SpawnError {
        searched: Some(path),
        ..SpawnError::new(command, SpawnStage::FindProgram, reason.into())
    })
}

/// EACCES for what is there and cannot be executed, any other error for what is not there.
fn check_executable(path: &Path) -> Result<(), Errno> {
    // A directory that cannot be searched has nothing for us, so its EACCES is not one of a file.
    let found = stat(path).map_err(|_| Errno::NOENT)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // A kernel before 5.8 cannot always answer this; execve will.
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(_) => Err(Errno::ACCESS),
    }
}

fn c_string(text: &OsStr) -> Option<CString> {
    CString::new(text.as_bytes()).ok()
}

fn environment_entry(name: &OsStr, value: &OsStr) -> Option<CString> {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return None;
    }
    let mut entry = name.to_owned();
    entry.push("=");
    entry.push(value);
    CString::new(entry.into_vec()).ok()
}

/// What the C library searches when there is no `PATH` at all.
const DEFAULT_PATH: &str = "/bin:/usr/bin";
