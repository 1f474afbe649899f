//! What is compared: who does which workload, and by what command.

use std::fs;
use std::path::Path;

use crate::measure::Outcome;

/// One contestant.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// As the peers' list names it: `W1`, `W2-64`, …
    pub(super) workload: String,
    pub(super) who: Who,
    pub(super) name: String,
    pub(super) variant: String,
    /// Run by `sh -c`, with OWN as this program and PEERS as where the peers are.
    pub(super) command: String,
}

/// What kind of contestant.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Who {
    Stokehold,
    /// What the machine can do.
    Limit,
    Peer,
}

impl Entry {
    pub(super) fn is_peer(&self) -> bool {
        self.who == Who::Peer
    }

    /// With its variant, if that says more than the name.
    pub(super) fn title(&self) -> String {
        if self.variant.is_empty() { self.name.clone() } else { format!("{}, {}", self.name, self.variant) }
    }
}

/// Workloads in the order in which they are measured and shown, with what they are.
pub(super) const WORKLOADS: [(&str, &str); 25] = [
    ("W1", "one task in flight, 64 bytes there and back, 1 worker"),
    ("W2-64", "small tasks, 64 bytes there and back, 2 workers, each acknowledged"),
    ("W2-1K", "small tasks, 1 KiB there and back, 2 workers, each acknowledged"),
    ("W3-records", "records of 1 KiB, one way into 2 workers"),
    ("W3-lines", "lines of 20 bytes, one way into 2 workers"),
    ("W4-1M-oneway", "1 MiB one way, one at a time"),
    ("W4-1M-rt", "1 MiB there and back, one at a time"),
    ("W4-64M-oneway", "64 MiB one way, one at a time"),
    ("W4-64M-rt", "64 MiB there and back, one at a time"),
    ("W6", "map over 100,000 integers, 2 workers"),
    ("W7-8", "start of 8 workers"),
    ("W7-64", "start of 64 workers"),
    ("W7-64-2GiB", "start of 64 workers from a parent of 2 GiB"),
    ("growth-1", "64 bytes there and back, 1 worker"),
    ("growth-2", "64 bytes there and back, 2 workers"),
    ("growth-8", "64 bytes there and back, 8 workers"),
    ("growth-64", "64 bytes there and back, 64 workers"),
    ("growth-10^3", "a thousand tasks at a time, 2 workers"),
    ("growth-10^4", "ten thousand tasks at a time, 2 workers"),
    ("growth-10^5", "a hundred thousand tasks at a time, 2 workers"),
    ("growth-10^6", "a million tasks at a time, 2 workers"),
    ("growth-10^7", "ten million tasks at a time, 2 workers"),
    ("idle-2", "2 workers with nothing to do for 2 s"),
    ("idle-64", "64 workers with nothing to do for 2 s"),
    ("command-start", "from the command to the first line in its worker"),
];

/// The name of Stokehold at its default settings.
pub(super) const OURS: &str = "Stokehold";

/// Stokehold and the limits.
pub(super) fn ours_and_limits() -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut add = |workload: &str, who, name: &str, variant: &str, contest: &str| {
        let command = format!("exec \"$OWN\" contest {contest}");
        let (workload, name, variant) = (workload.to_owned(), name.to_owned(), variant.to_owned());
        entries.push(Entry { workload, who, name, variant, command });
    };
    let (ours, limit) = (Who::Stokehold, Who::Limit);
    add("W1", ours, OURS, "", "W1 n=150000");
    add("W1", ours, OURS, "Latency::Block", "W1 latency=block n=15000");
    add("W1", limit, "pipe", "blocking", "W1 by=pipe n=15000");
    for (cores, n) in [("one", 60_000), ("two", 15_000)] {
        let variant = |name: &str| format!("{name}, {cores} core{}", if cores == "one" { "" } else { "s" });
        let settings = format!("cores={cores} n={n}");
        add("W1", ours, OURS, &variant("Latency::Block"), &format!("W1 latency=block {settings}"));
        add("W1", limit, "pipe", &variant("blocking"), &format!("W1 by=pipe {settings}"));
    }
    add("W1", limit, "pipe", "spinning", "W1 by=spinning-pipe n=400000");
    for (workload, size, n) in [("W2-64", "64", 3_000_000), ("W2-1K", "1k", 600_000)] {
        add(workload, ours, OURS, "", &format!("W2 size={size} n={n}"));
        add(workload, ours, OURS, "in order", &format!("W2 way=channel-in-order size={size} n={n}"));
        add(workload, ours, OURS, "a handle each", &format!("W2 way=handles size={size} n={}", n / 3));
        for (by, name) in [("pipe", "pipe"), ("socketpair", "socket pair")] {
            for codec in ["rmp-serde", "hand"] {
                let variant = format!("batched, codec {codec}");
                let contest = format!("W2 by={by} codec={codec} size={size} n={}", n * 2);
                add(workload, limit, name, &variant, &contest);
            }
        }
    }
    add("W3-records", ours, OURS, "each acknowledged", "W3 n=800000");
    add("W3-records", limit, "pipe", "1 MiB, assembled", "W3 by=pipe n=3000000");
    add("W3-lines", ours, OURS, "stokehold run --lines, each acknowledged", "W3 mode=lines n=1500000");
    add("W3-lines", limit, "pipe", "1 MiB, assembled", "W3 by=pipe mode=lines n=80000000");
    for (size, n) in [("1m", 1_500_u32), ("64m", 25)] {
        for direction in ["oneway", "rt"] {
            let workload = format!("W4-{}-{direction}", size.to_uppercase());
            let contest = |by: &str| format!("W4 by={by} size={size} dir={direction} n={n}");
            add(&workload, ours, OURS, "", &contest("stokehold"));
            add(&workload, limit, "pipe", "1 MiB", &contest("pipe"));
            add(&workload, limit, "socket pair", "", &contest("socketpair"));
        }
    }
    add("W6", ours, OURS, "", "W6 rounds=60");
    for (workload, settings) in
        [("W7-8", "workers=8"), ("W7-64", "workers=64"), ("W7-64-2GiB", "workers=64 gib=2")]
    {
        add(workload, ours, OURS, "", &format!("W7 {settings}"));
        add(workload, limit, "bare processes", "", &format!("W7 by=bare {settings}"));
    }
    for workers in [1, 2, 8, 64] {
        add(&format!("growth-{workers}"), ours, OURS, "", &format!("growth workers={workers} n=2000000"));
    }
    for (power, rounds) in [(3, 1000), (4, 200), (5, 30), (6, 3), (7, 1)] {
        let n = 10_u64.pow(power);
        add(&format!("growth-10^{power}"), ours, OURS, "", &format!("growth n={n} rounds={rounds}"));
    }
    add("growth-10^3", limit, "pipe", "batched, codec rmp-serde", "growth by=pipe n=1000 rounds=1000");
    for workers in [2, 64] {
        add(&format!("idle-{workers}"), ours, OURS, "", &format!("idle workers={workers}"));
    }
    add("command-start", ours, "stokehold run", "", "command-start");
    add("command-start", limit, "bare process", "", "command-start by=bare");
    entries
}

/// The peers, from their list: workload, peer, variant and command, with tabs between them.
pub(super) fn peers(list: &Path) -> Outcome<Vec<Entry>> {
    let text = fs::read_to_string(list).map_err(|error| format!("{}: {error}", list.display()))?;
    let mut entries = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [workload, name, variant, command] = fields.as_slice() else {
            return Err(format!("no four fields in {line:?}").into());
        };
        entries.push(Entry {
            workload: (*workload).to_owned(),
            who: Who::Peer,
            name: (*name).to_owned(),
            variant: (*variant).to_owned(),
            command: (*command).to_owned(),
        });
    }
    Ok(entries)
}
