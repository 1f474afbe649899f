//! What holds one worker besides its process group, whatever the level. How it holds is in `cgroup` and `subreaper`.

use super::cgroup::WorkerGroup;
use super::subreaper::Mark;

/// What holds one worker besides its process group, as long as it lives. Dropping it ends and removes what it names.
#[derive(Debug)]
pub(super) enum Hold {
    Cgroup(WorkerGroup),
    Mark(Mark),
    None,
}
