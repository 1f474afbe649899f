//! Where in the file system a control group is: reads `/proc/PID/cgroup` and the mount table. Changes nothing.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// One of the trees of control groups that a machine can have at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy {
    /// Version 1 with the memory controller.
    Memory,
    /// Version 2, also as a part of a mixed set-up (`/sys/fs/cgroup/unified`).
    Unified,
}

impl Hierarchy {
    /// The group of a process, from the text of its `/proc/PID/cgroup`.
    pub(super) fn group_in(self, text: &str) -> Option<&str> {
        text.lines().find_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let is_it = match self {
                Self::Memory => controllers.split(',').any(|one| one == "memory"),
                Self::Unified => number == "0" && controllers.is_empty(),
            };
            is_it.then_some(path)
        })
    }

    /// The directory of a group, as this process can reach it.
    pub(super) fn directory(self, group: &str) -> Option<PathBuf> {
        self.directory_in(&fs::read_to_string("/proc/self/mountinfo").ok()?, group)
    }

    /// The root of the mount is a part of the group's path where only a branch of the tree is mounted.
    fn directory_in(self, mounts: &str, group: &str) -> Option<PathBuf> {
        mounts.lines().find_map(|line| {
            let (mount, system) = line.split_once(" - ")?;
            let mut system = system.split(' ');
            let (kind, _, options) = (system.next()?, system.next()?, system.next()?);
            let is_it = match self {
                Self::Memory => kind == "cgroup" && options.split(',').any(|one| one == "memory"),
                Self::Unified => kind == "cgroup2",
            };
            let mut mount = mount.split(' ').skip(3).filter(|_| is_it);
            let (root, point) = (unescape(mount.next()?), unescape(mount.next()?));
            let below = Path::new(group).strip_prefix(&root).ok()?;
            let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
            is_plain.then(|| if below.as_os_str().is_empty() { point.clone() } else { point.join(below) })
        })
    }
}

/// The mount table writes blanks and backslashes as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = (*first == b'\\').then(|| octal(after.get(..3)?)).flatten();
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    OsString::from_vec(bytes).into()
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = r"24 23 0:22 / /proc rw - proc proc rw
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
41 31 0:38 /pod\0407 /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn groups_are_found_by_hierarchy() {
        let text = "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/pod 7/x\n";
        assert_eq!(Hierarchy::Memory.group_in(text), Some("/a/b"));
        assert_eq!(Hierarchy::Unified.group_in(text), Some("/pod 7/x"));
        assert_eq!(Hierarchy::Memory.group_in("0::/\n"), None);
        assert_eq!(Hierarchy::Unified.group_in("nonsense\n\n"), None);
    }

    #[test]
    fn directories_follow_the_mount_table() {
        let directory = |hierarchy: Hierarchy, group| hierarchy.directory_in(MOUNTS, group);
        let expected = |path: &str| Some(PathBuf::from(path));
        assert_eq!(directory(Hierarchy::Memory, "/"), expected("/sys/fs/cgroup/memory"));
        assert_eq!(directory(Hierarchy::Memory, "/a/b"), expected("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(directory(Hierarchy::Unified, "/pod 7/x"), expected("/sys/fs/cgroup/x"));
        assert_eq!(directory(Hierarchy::Unified, "/elsewhere"), None);
        assert_eq!(directory(Hierarchy::Memory, "/../outside"), None);
    }
}
