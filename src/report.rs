//! How the workers of a pool ended.

use std::process::ExitStatus;

pub use crate::core::Rung;
use crate::driver::Ended;

/// What a shutdown did, worker by worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// One entry for each place that workers had one after the other: as many as there ever were at a time, those counted that
    /// were started to take the place of others. A number may be there twice: while a worker is
    /// [recycled](crate::PoolBuilder::recycle) there are two of it, in two places.
    pub workers: Vec<WorkerReport>,
    /// Whether every process is gone. It is not only if the system could not end one that was sent SIGKILL, which happens to
    /// processes stuck in a device.
    pub complete: bool,
}

/// How the last worker in one place ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerReport {
    /// Its number, from 0. Two entries may have the same: see [`Report::workers`].
    pub worker: usize,
    /// The last process's id; 0 if there was none.
    pub pid: u32,
    /// The hardest means that was needed to end it.
    pub rung: Rung,
    /// Tasks answered by the workers of that number, over all their processes. Each task is counted in one entry only, so that
    /// the sum over all entries is what the pool has done; where a number is there twice, its entries share what it did.
    pub tasks: u64,
    /// The exit status of the last process; `None` if there was none, or somebody else took it.
    pub status: Option<ExitStatus>,
}

impl Report {
    pub(crate) fn new(endings: Vec<Ended>, complete: bool) -> Self {
        let workers = endings.into_iter().map(|ended| WorkerReport {
            worker: ended.worker,
            pid: ended.pid,
            rung: ended.rung,
            tasks: ended.finished,
            status: ended.status,
        });
        Self { workers: workers.collect(), complete }
    }

    /// Whether every worker ended by itself when it was asked to. A place that stood empty before the end counts with its last
    /// worker, so that one that was ended by force long ago, and in whose place nobody came, is remembered here.
    pub fn is_graceful(&self) -> bool {
        self.complete && self.workers.iter().all(|worker| worker.rung == Rung::Asked)
    }
}
