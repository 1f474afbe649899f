//! The one permanent thread that makes every child, and the handle on it. It is one and permanent because the kernel
//! ties a child's parent-death signal to the thread that made it: children of a thread that ends are killed.
//! It launches and reports; it does not wait for children, and it holds no list of them.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::getpid;

use super::command::{ChildIo, SpawnCommand, SpawnError, SpawnStage, Spawned};
use super::guardian::{self, Guardian};
use super::image::Image;
use super::launch::{ChildStack, Launched, Plan, launch};
use super::pipe::{ChildPipe, OurEnd, above_child_numbers};
use super::process::{Leader, Process};
use super::signals;
use super::support::current_pid;

/// A handle on the spawner thread of this process and its guardian. Cheap to clone. When the last one and the last
/// [`Process`] are dropped, the thread and the guardian end, which that drop waits for (a few milliseconds, at most
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
    /// without a shell) or somebody killed the guardian; direct children then die with us all the same.
    #[cfg(test)]
    pub(super) fn has_guardian(&self) -> bool {
        self.0.guardian().is_some_and(Guardian::is_there)
    }

    #[cfg(test)]
    pub(super) fn guardian_pid(&self) -> Option<u32> {
        self.0.guardian().map(|guardian| guardian.pid().as_raw_pid().unsigned_abs())
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
    /// Likewise.
    guardian: Option<Guardian>,
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
        let stack = ChildStack::new()?;
        let handle = thread::Builder::new().name("stokehold-spawn".into()).spawn(move || {
            signals::block_all_in_this_thread();
            let mut launcher = Launcher { stack };
            // Fails only if `start` has stopped waiting; the inbox is then closed as well.
            let _ = started.send(launcher.start_guardian());
            for request in inbox {
                request.serve(&mut launcher);
            }
            let _ = ending.send(());
        })?;
        let guardian = first_report.recv_timeout(START_PATIENCE).map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, "the spawner thread did not start: does /bin/sh hang?")
        })??;
        Ok(Self { requests: Some(requests), guardian, handle: Some(handle), ended, owner: current_pid() })
    }

    pub(super) fn guardian(&self) -> Option<&Guardian> {
        self.guardian.as_ref()
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
            forget_in_fork(self.guardian.take());
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
        drop(self.guardian.take());
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
        let result = launcher.start_child(&command, &thread);
        // Before the reply, so that whoever drops the last handle in answer to it is the last owner, and waits for the
        // end. Without handles and without a process this is the end already, and the reply is the last act.
        drop(thread);
        // Nobody is there to hear of a panic, and an end of this thread would kill every child.
        drop_quietly(catch_unwind(AssertUnwindSafe(|| reply(result))).err());
    }
}

/// What the thread owns.
struct Launcher {
    stack: ChildStack,
}

impl Launcher {
    fn start_child(
        &mut self,
        command: &SpawnCommand,
        thread: &Arc<SpawnerThread>,
    ) -> Result<Spawned, SpawnError> {
        let image = Image::new(command)?;
        let no_pipe = |error| SpawnError::new(command, SpawnStage::Pipe, error);
        let to_child = ChildPipe::new(OurEnd::Writing).map_err(no_pipe)?;
        let from_child = ChildPipe::new(OurEnd::Reading).map_err(no_pipe)?;
        let stderr = ChildPipe::new(OurEnd::Reading).map_err(no_pipe)?;
        to_child.enlarge();
        from_child.enlarge();
        let null = match command.io {
            ChildIo::Stdio => None,
            ChildIo::Fds => Some(open_null(command)?),
        };
        let (input, output, errors) =
            (to_child.childs.as_raw_fd(), from_child.childs.as_raw_fd(), stderr.childs.as_raw_fd());
        let descriptors: &[(RawFd, RawFd)] = match &null {
            None => &[(input, 0), (output, 1), (errors, 2)],
            Some(null) => &[(null.as_raw_fd(), 0), (errors, 1), (errors, 2), (input, 3), (output, 4)],
        };
        let link = thread.guardian().map(Guardian::link);
        let launched = self.launch(command, &image, descriptors, true, link)?;

        let (pid, failure, registered) = (launched.pid, launched.failure, launched.registered);
        let process = Process::new(Leader::new(pid, launched.pidfd), Arc::clone(thread));
        if let Some((stage, errno)) = failure {
            // The drop of `process` takes the number back from the guardian and reaps.
            return Err(image.failure(command, stage, errno));
        }
        if let Some(guardian) = thread.guardian()
            && !registered
        {
            guardian.register_late(pid);
        }
        Ok(Spawned { process, to_child: to_child.ours, from_child: from_child.ours, stderr: stderr.ours })
    }

    /// `None` where there is no shell.
    fn start_guardian(&mut self) -> io::Result<Option<Guardian>> {
        let command = guardian::shell_command();
        let (ours, theirs) = guardian::link()?;
        // Ours too: its number is used in the child after low numbers have been overwritten.
        let ours = above_child_numbers(ours.into())?;
        let theirs = above_child_numbers(theirs)?;
        let null = open_null(&command).map_err(io::Error::other)?;
        let descriptors = [(theirs.as_raw_fd(), 0), (null.as_raw_fd(), 1), (null.as_raw_fd(), 2)];
        let launched = Image::new(&command)
            .and_then(|image| {
                let launched = self.launch(&command, &image, &descriptors, false, None)?;
                Ok((image, launched))
            })
            .map_err(|failed| io::Error::new(failed.error.kind(), failed));
        let (image, Launched { pid, pidfd, failure, .. }) = launched?;
        let shell = Leader::new(pid, pidfd);
        let Some((stage, errno)) = failure else {
            return Ok(Some(Guardian::new(ours.into(), shell)));
        };
        // It exits by itself; its number was never given to anybody.
        shell.wait_exited(END_PATIENCE);
        shell.reap();
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::PERM | Errno::NOEXEC => Ok(None),
            errno => {
                let failed = image.failure(&command, stage, errno);
                Err(io::Error::new(failed.error.kind(), failed))
            }
        }
    }

    fn launch(
        &mut self,
        command: &SpawnCommand,
        image: &Image,
        descriptors: &[(RawFd, RawFd)],
        dies_with_us: bool,
        guardian: Option<RawFd>,
    ) -> Result<Launched, SpawnError> {
        let first_unused = descriptors.iter().map(|(_, childs)| childs.unsigned_abs() + 1).max();
        let plan = Plan {
            path: image.path(),
            argv: image.argv(),
            envp: image.envp(),
            cwd: image.cwd(),
            descriptors,
            close_from: first_unused.unwrap_or(0),
            die_with: dies_with_us.then(getpid),
            guardian,
        };
        launch(&mut self.stack, &plan)
            .map_err(|errno| SpawnError::new(command, SpawnStage::Clone, errno.into()))
    }
}

fn open_null(command: &SpawnCommand) -> Result<OwnedFd, SpawnError> {
    open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)
        .and_then(above_child_numbers)
        .map_err(|error| SpawnError::new(command, SpawnStage::NullDevice, error))
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
