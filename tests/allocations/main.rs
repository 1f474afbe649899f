//! How many allocations a task costs this process while a pool is busy, by a counting allocator. A binary of its own: whatever
//! another test allocates meanwhile, on any thread, would count as well.

// `cfg(test)` tells clippy that the functions in this module that are no tests themselves belong to tests too.

/// What each way to feed a pool allocates.
#[cfg(test)]
mod steady;
