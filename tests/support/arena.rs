//! A place of its own for each test: a directory, an effects file in it, and a mark in the environment by which every process
//! that the test started is found again. The arena is the oracle that nothing survives.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{eventually, marked};

/// The variable with the arena's directory. It is the mark, too.
const MARK: &str = "ARENA_OF_TEST";

/// How long a process may outlive its pool: it has been killed and reaped by then, unless the machine is very busy.
const SURVIVAL: Duration = Duration::from_secs(5);

/// See the module. Dropping it checks that no marked process is left, and removes the directory.
#[derive(Debug)]
pub struct Arena {
    directory: PathBuf,
}

impl Arena {
    /// An empty arena.
    ///
    /// # Panics
    /// When the directory for temporary files cannot be written to.
    #[expect(clippy::new_without_default, reason = "it makes a directory, which nobody expects of a default")]
    #[expect(clippy::expect_used, reason = "a test without an arena cannot go on")]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("arena-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).expect("the directory for temporary files can be written to");
        Self { directory }
    }

    /// The variable that a process of this arena must have: name and value.
    pub fn mark(&self) -> (&'static str, &Path) {
        (MARK, &self.directory)
    }

    /// A path in the arena.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes an empty file: opens a gate that somebody waits at.
    ///
    /// # Panics
    /// When it cannot.
    #[expect(clippy::expect_used, reason = "a test that cannot open its gate cannot go on")]
    pub fn open(&self, gate: &str) {
        File::create(self.path(gate)).expect("the arena can be written to");
    }

    /// The lines that processes of this arena noted, in order.
    pub fn effects(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("effects")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How often exactly that line was noted.
    pub fn count(&self, effect: &str) -> usize {
        self.effects().iter().filter(|line| *line == effect).count()
    }

    /// The live processes of this arena, zombies not counted.
    pub fn survivors(&self) -> Vec<u32> {
        marked(MARK, &self.directory)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let clean = eventually(SURVIVAL, || self.survivors().is_empty());
        let left = self.survivors();
        for pid in &left {
            crate::kill(*pid);
        }
        // An arena that cannot be removed is not what the test is about.
        let _ = fs::remove_dir_all(&self.directory);
        assert!(clean || std::thread::panicking(), "processes {left:?} outlived the test");
    }
}

/// The arena's directory, as a process inside it sees it.
///
/// # Errors
/// Outside an arena.
pub fn directory() -> io::Result<PathBuf> {
    std::env::var_os(MARK).map(PathBuf::from).ok_or_else(|| io::Error::other("not started by a test"))
}

/// For children: notes a line in the effects file. One write, so that lines of several processes never mix.
///
/// # Errors
/// Outside an arena, or when the file cannot be written.
pub fn note(line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(directory()?.join("effects"))?;
    file.write_all(format!("{line}\n").as_bytes())
}

/// For children: whether nobody in this arena has asked with that name before.
///
/// # Errors
/// Outside an arena, or when it cannot be written to.
pub fn first_time(name: &str) -> io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).open(directory()?.join(name)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// For children: waits at a gate until the test opens it.
///
/// # Errors
/// Outside an arena, or after 30 s, which is longer than any test.
pub fn wait_for_file(name: &str) -> io::Result<()> {
    let path = directory()?.join(name);
    if eventually(Duration::from_secs(30), || path.exists()) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("nobody opened {}", path.display())))
}
