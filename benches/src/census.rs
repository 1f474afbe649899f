//! How much this process holds: descriptors, threads, memory, children, as `/proc` tells. It counts and judges nothing.

use std::fs;
use std::path::{Path, PathBuf};

use crate::measure::{Outcome, own_children, own_threads, status_field};

/// One look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Census {
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    /// VmRSS.
    pub(crate) memory_kib: u64,
    /// Living ones.
    pub(crate) children: u64,
    pub(crate) zombies: u64,
}

impl Census {
    pub(crate) fn take() -> Outcome<Self> {
        let children = own_children()?;
        let zombies = children.iter().filter(|child| is_zombie(child)).count();
        Ok(Self {
            // The descriptor that lists them is one too, every time.
            descriptors: fs::read_dir("/proc/self/fd")?.count() as u64,
            threads: own_threads()?.len() as u64,
            memory_kib: status_field("/proc/self", "VmRSS").unwrap_or_default(),
            children: (children.len() - zombies) as u64,
            zombies: zombies as u64,
        })
    }
}

/// The process ids of this process's living children that were started with `word` among their arguments.
pub(crate) fn living_workers(word: &str) -> Outcome<Vec<i32>> {
    let is_right = |child: &PathBuf| {
        let arguments = fs::read(child.join("cmdline")).unwrap_or_default();
        !is_zombie(child) && arguments.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    };
    let children = own_children()?.into_iter().filter(is_right);
    Ok(children.filter_map(|child| child.file_name()?.to_str()?.parse().ok()).collect())
}

fn is_zombie(process: &Path) -> bool {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    // The state follows the program's name, which is in brackets and may contain anything.
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}
