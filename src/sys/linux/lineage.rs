//! Who descends from whom, as `/proc` tells it. Signals nobody.

use std::fs;

use rustix::process::Pid;

/// The parent and the group of a process, zombie or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kin {
    pub(super) parent: Pid,
    pub(super) group: Pid,
}

/// `None`: there is no such process.
pub(super) fn kin_of(pid: Pid) -> Option<Kin> {
    parse(&fs::read(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?)
}

/// When a process started, in ticks since the machine did. With its number it names one process for good.
pub(super) fn start_of(pid: &str) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // Field 22; the state is field 3.
    fields(&stat)?.nth(19)?.parse().ok()
}

/// The children of a process, those of all its threads. `self` is this process.
pub(super) fn children_of(pid: &str) -> Vec<Pid> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut all = Vec::new();
    for task in tasks.flatten() {
        if let Ok(list) = fs::read_to_string(task.path().join("children")) {
            all.extend(list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
        }
    }
    all
}

fn parse(stat: &[u8]) -> Option<Kin> {
    let mut fields = fields(stat)?.skip(1);
    let mut pid = || Pid::from_raw(fields.next()?.parse().ok()?);
    Some(Kin { parent: pid()?, group: pid()? })
}

/// From the state on. The name before it is in brackets and can hold anything, brackets too.
fn fields(stat: &[u8]) -> Option<impl Iterator<Item = &str>> {
    let end_of_name = stat.iter().rposition(|&byte| byte == b')')?;
    Some(str::from_utf8(stat.get(end_of_name + 1..)?).ok()?.split_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_read_over() {
        let stat = b"77 (a) S 5 6) \xff) S 12 34 56 0 -1 4194560";
        let pid = |raw| Pid::from_raw(raw).unwrap();
        assert_eq!(parse(stat), Some(Kin { parent: pid(12), group: pid(34) }));
        assert_eq!(parse(b"77"), None);
        assert_eq!(parse(b"77 (x) Z"), None);
    }

    #[test]
    fn this_process_has_a_parent_and_a_start() {
        let parent = kin_of(rustix::process::getpid()).map(|kin| kin.parent);
        assert_eq!(parent, rustix::process::getppid());
        assert!(start_of("self").unwrap() > 0);
    }
}
