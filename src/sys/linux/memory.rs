//! How much memory a process has: two lines of `/proc/PID/status`. Knows no limits.
//!
//! Not `ru_maxrss`, which a child inherits from whoever started it: a worker of a parent with 1 GiB would have 1 GiB.

use std::fs::File;
use std::io::Read;

use rustix::process::Pid;

/// What a process has in memory, the pages it shares with others included. Of that process alone, without its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Bytes now (`VmRSS`).
    pub(crate) resident: u64,
    /// The most it had at any time since it executes its program, in bytes (`VmHWM`). The kernel counts in batches, so
    /// both may be some hundred KiB behind.
    pub(crate) peak: u64,
}

/// `None` for a process that has exited, reaped or not. Whether the number is still that process's is for the caller to
/// know. Opened anew each time: keeping it open would save 1 µs of 4, and cost a descriptor for each worker.
pub(super) fn read(pid: Pid) -> Option<Memory> {
    let mut status = File::open(format!("/proc/{}/status", pid.as_raw_pid())).ok()?;
    // Some 1.5 KiB; more only for a process with hundreds of supplementary groups, which come before our lines.
    let mut buffer = [0; 8192];
    let count = status.read(&mut buffer).ok()?;
    parse(buffer.get(..count)?)
}

fn parse(status: &[u8]) -> Option<Memory> {
    // The program's name, which can be any bytes, is in the first line; the kernel writes its newlines as `\n`.
    let mut lines = status.split(|&byte| byte == b'\n');
    let peak = lines.find_map(|line| kibibytes(line.strip_prefix(b"VmHWM:")?))?;
    let resident = lines.find_map(|line| kibibytes(line.strip_prefix(b"VmRSS:")?))?;
    Some(Memory { resident, peak })
}

fn kibibytes(field: &[u8]) -> Option<u64> {
    let number = str::from_utf8(field).ok()?.trim().strip_suffix("kB")?;
    number.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_lines_are_read() {
        let text = b"Name:\tVmRSS: \xff\nVmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t     1024 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(parse(text), Some(Memory { resident: 1024 * 1024, peak: 2048 * 1024 }));
        assert_eq!(parse(b"Name:\tzombie\nState:\tZ (zombie)\n"), None);
        assert_eq!(parse(b"VmHWM:\t99999999999999999999 kB\n"), None);
    }
}
