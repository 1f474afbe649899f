//! The one permanent thread that makes every child, and the handle on it. It is one and permanent because the kernel
//! ties a child's parent-death signal to the thread that made it: children of a thread that ends are killed.
//! It takes requests and reports; how a child is started is in `launcher`. It does not wait for children.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::command::SpawnCommand;
use super::failure::SpawnError;
use super::launcher::Launcher;
use super::process::Spawned;
use super::signals;
use super::support::current_pid;
use super::watch::Watch;

/// A handle on the spawner thread of this process and its guardian. Cheap to clone. When the last one and the last
/// [`Process`](super::Process) are dropped, the thread and the guardian end, which that drop waits for (a few milliseconds, at most
/// some seconds); a later [`Spawner::get`] starts new ones.
#[derive(Clone)]
pub(crate) struct Spawner(Arc<SpawnerThread>);

impl Spawner {
    /// The spawner of this process, started if there is none. A forked copy of the host gets one of its own.
    ///
    /// # Errors
    /// No thread, memory or descriptors. A missing `/bin/sh` is no error, see [`has_guardian`](Self::has_guardian).
    pub(crate) fn get() -> io::Result<Self> {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = current.upgrade()
            && thread.owner == current_pid()
        {
            return Ok(Self(thread));
        }
        let thread = Arc::new(SpawnerThread::start()?);
        *current = Arc::downgrade(&thread);
        Ok(Self(thread))
    }

    /// Has the thread start `command` and call `reply` with what came of it, exactly once, on that thread. Returns at once.
    ///
    /// `reply` should hand the result on and return: the next start waits for it. One that panics is caught and
    /// forgotten. The queue has no limit of its own; it holds what the caller has asked for and not yet heard of,
    /// and the engine asks once for each of its worker slots, which are limited.
    pub(crate) fn spawn(
        &self,
        command: SpawnCommand,
        reply: impl FnOnce(Result<Spawned, SpawnError>) + Send + 'static,
    ) {
        let request = Request { command, reply: Box::new(reply), thread: Arc::clone(&self.0) };
        if let Some(requests) = &self.0.requests {
            // The thread receives until the last sender is gone, and this is one.
            let _ = requests.send(request);
        }
    }

    /// Whether grandchildren are killed too when this process is killed. False where there is no `/bin/sh` (an image
    /// without a shell), and between the death of a guardian and the next start; direct children then die with us all the same.
    #[cfg(test)]
    pub(super) fn has_guardian(&self) -> bool {
        self.0.watch().is_some_and(Watch::has_guardian)
    }

    #[cfg(test)]
    pub(super) fn guardian_pid(&self) -> Option<u32> {
        self.0.watch().and_then(Watch::guardian_pid).map(|pid| pid.as_raw_pid().unsigned_abs())
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner").field("owner", &self.0.owner).finish_non_exhaustive()
    }
}

/// The thread and the guardian, as long as anybody needs them.
pub(super) struct SpawnerThread {
    /// Taken by the drop, which is how the thread learns of it.
    requests: Option<Sender<Request>>,
    /// Likewise: its drop ends the guardian.
    watch: Option<Watch>,
    handle: Option<JoinHandle<()>>,
    ended: Receiver<()>,
    /// The process that started it; a forked copy of the host has this value, but not the thread.
    owner: u32,
}

impl SpawnerThread {
    fn start() -> io::Result<Self> {
        let (requests, inbox) = unbounded::<Request>();
        let (started, first_report) = bounded(1);
        let (ending, ended) = bounded(1);
        let launcher = Launcher::new()?;
        let handle = thread::Builder::new().name("stokehold-spawn".into()).spawn(move || {
            signals::block_all_in_this_thread();
            let mut launcher = launcher;
            // Fails only if `start` has stopped waiting; the inbox is then closed as well.
            let _ = started.send(launcher.start_guardian());
            for request in inbox {
                request.serve(&mut launcher);
            }
            // Removes what it has made in the file system.
            drop(launcher);
            let _ = ending.send(());
        })?;
        let guardian = first_report.recv_timeout(START_PATIENCE).map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "the spawner thread did not start: does /bin/sh hang?")
        })??;
        let watch = Some(Watch::new(guardian));
        Ok(Self { requests: Some(requests), watch, handle: Some(handle), ended, owner: current_pid() })
    }

    /// Always there until the drop.
    pub(super) fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    pub(super) fn owner(&self) -> u32 {
        self.owner
    }
}

impl Drop for SpawnerThread {
    fn drop(&mut self) {
        let handle = self.handle.take();
        if self.owner != current_pid() {
            // A forked copy: the thread is not here, and the guardian watches over the original's children.
            forget_in_fork(self.watch.take());
            forget_in_fork(handle);
            return;
        }
        drop(self.requests.take());
        // The last owner may have been a reply, on the thread itself: it ends by itself after this.
        if let Some(handle) = handle.filter(|handle| handle.thread().id() != this_thread())
            && self.ended.recv_timeout(END_PATIENCE).is_ok()
        {
            // It has nothing left to do, so this is the time of a thread's exit.
            let _ = handle.join();
        }
        drop(self.watch.take());
    }
}

/// A start that was asked for. Holds the thread, so that it outlives its queue.
struct Request {
    command: SpawnCommand,
    reply: Box<dyn FnOnce(Result<Spawned, SpawnError>) + Send>,
    thread: Arc<SpawnerThread>,
}

impl Request {
    fn serve(self, launcher: &mut Launcher) {
        let Self { command, reply, thread } = self;
        let result = launcher.start_child(command, &thread);
        // Before the reply, so that whoever drops the last handle in answer to it is the last owner, and waits for the
        // end. Without handles and without a process this is the end already, and the reply is the last act.
        drop(thread);
        // Nobody is there to hear of a panic, and an end of this thread would kill every child.
        drop_quietly(catch_unwind(AssertUnwindSafe(|| reply(result))).err());
    }
}

/// A panic's payload can panic when it is dropped.
fn drop_quietly(payload: Option<Box<dyn Any + Send>>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        #[expect(clippy::mem_forget, reason = "a payload that panics on drop, twice, is better leaked")]
        std::mem::forget(second);
    }
}

/// The original still uses what this names.
fn forget_in_fork<T>(value: T) {
    #[expect(clippy::mem_forget, reason = "its drop would act on the original process")]
    std::mem::forget(value);
}

fn this_thread() -> ThreadId {
    thread::current().id()
}

static CURRENT: Mutex<Weak<SpawnerThread>> = Mutex::new(Weak::new());
/// Starting a thread and a shell takes a few milliseconds; this is for a machine that swaps.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// The thread ends when it has served what is being served.
const END_PATIENCE: Duration = Duration::from_secs(3);
