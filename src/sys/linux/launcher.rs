//! Puts one start together: image, pipes, containment, the launch itself, and who must know of it. Belongs to the
//! spawner thread, which is the only one that launches.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::getpid;
use uuid::Uuid;

use super::cgroup::{RunGroup, WorkerGroup};
use super::command::{ChildIo, SpawnCommand};
use super::containment::Containment;
use super::enclosure::Enclosure;
use super::failure::{SpawnError, SpawnStage};
use super::guardian::{self, Duty, Guardian};
use super::hold::Hold;
use super::image::Image;
use super::launch::{ChildStack, Launched, Plan, launch};
use super::leader::Leader;
use super::namespace::{Mode as NamespaceMode, UserMaps};
use super::oom::{OomCounter, OomWatch};
use super::pipe::{ChildPipe, OurEnd, above_child_numbers};
use super::process::{Process, Spawned};
use super::spawner::SpawnerThread;
use super::subreaper::{Mark, adopt_orphans};
use super::trial::{cgroup_site, check_containment, namespace_mode};
use super::watch::Watch;

/// What the spawner thread owns.
#[derive(Debug)]
pub(super) struct Launcher {
    stack: ChildStack,
    /// There is no shell to make a guardian of.
    has_no_shell: bool,
    /// Of marks: the run, once one was needed, and how many were given.
    run: Option<String>,
    marks: u64,
    /// Once one was needed.
    run_group: Option<RunGroup>,
    /// The one that workers start under.
    oom_counter: Option<Arc<OomCounter>>,
}

impl Launcher {
    /// # Errors
    /// No memory.
    pub(super) fn new() -> io::Result<Self> {
        let (stack, oom_counter) = (ChildStack::new()?, OomCounter::of_this_process());
        Ok(Self { stack, has_no_shell: false, run: None, marks: 0, run_group: None, oom_counter })
    }

    pub(super) fn start_child(
        &mut self,
        mut command: SpawnCommand,
        thread: &Arc<SpawnerThread>,
    ) -> Result<Spawned, SpawnError> {
        if let Some(watch) = thread.watch() {
            self.renew_guardian(watch);
        }
        let (mut hold, enclosure) = self
            .contain(&mut command, thread)
            .map_err(|error| SpawnError::new(&command, SpawnStage::Containment, error))?;
        let image = Image::new(&command)?;
        let pipes = Pipes::new(&command)?;
        let link = thread.watch().and_then(Watch::link);
        let launched = self.launch(&command, &image, &pipes.numbers(), Tie::Child(link), enclosure)?;

        let (pid, failure, registered) = (launched.pid, launched.failure, launched.registered);
        if let Hold::Cgroup(group) = &mut hold {
            group.close_entrance();
        }
        let oom = OomWatch::new(self.oom_counter.clone());
        let leader = Leader::new(pid, launched.pidfd);
        let process = Process::new(leader, hold, oom, Arc::clone(thread));
        if let Some((stage, errno)) = failure {
            // The drop of `process` takes the number back from the guardian and reaps.
            return Err(image.failure(&command, stage, errno));
        }
        if let Some(watch) = thread.watch() {
            watch.add(pid, registered);
        }
        Ok(pipes.into_spawned(process))
    }

    /// `None` where there is no shell.
    ///
    /// # Errors
    /// Out of descriptors, memory or processes.
    pub(super) fn start_guardian(&mut self) -> io::Result<Option<Guardian>> {
        let command = guardian::shell_command();
        let (ours, theirs) = guardian::link()?;
        // Ours too: its number is used in the child after low numbers have been overwritten.
        let ours = above_child_numbers(ours.into())?;
        let theirs = above_child_numbers(theirs)?;
        let null = open_null(&command).map_err(io::Error::other)?;
        let descriptors = [(theirs.as_raw_fd(), 0), (null.as_raw_fd(), 1), (null.as_raw_fd(), 2)];
        let launched = Image::new(&command)
            .and_then(|image| {
                let launched = self.launch(&command, &image, &descriptors, Tie::None, Enclosure::None)?;
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
            Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::PERM | Errno::NOEXEC => {
                self.has_no_shell = true;
                Ok(None)
            }
            errno => {
                let failed = image.failure(&command, stage, errno);
                Err(io::Error::new(failed.error.kind(), failed))
            }
        }
    }

    /// A new guardian if somebody has killed the last one. Should it fail, the next start tries again.
    fn renew_guardian(&mut self, watch: &Watch) {
        if !self.has_no_shell
            && !watch.has_guardian()
            && let Ok(Some(guardian)) = self.start_guardian()
        {
            watch.replace(guardian);
        }
    }

    /// All that must be there before the worker is.
    fn contain(
        &mut self,
        command: &mut SpawnCommand,
        thread: &SpawnerThread,
    ) -> io::Result<(Hold, Enclosure)> {
        let unsupported = |error| io::Error::new(io::ErrorKind::Unsupported, error);
        check_containment(command.containment).map_err(unsupported)?;
        let take_on = |duty| {
            if let Some(watch) = thread.watch() {
                watch.take_on(duty);
            }
        };
        match command.containment {
            Containment::Group => Ok((Hold::None, Enclosure::None)),
            Containment::Subreaper => {
                adopt_orphans()?;
                let run = self.run.get_or_insert_with(|| {
                    let run = Uuid::now_v7().simple().to_string();
                    take_on(Duty::Marks(run.clone()));
                    run
                });
                self.marks += 1;
                let mark = Mark::new(run, self.marks);
                mark.put_into(&mut command.env);
                Ok((Hold::Mark(mark), Enclosure::None))
            }
            Containment::Cgroup => {
                let group = self.cgroup_for_worker(take_on)?;
                let enclosure = Enclosure::Cgroup(group.entrance());
                Ok((Hold::Cgroup(group), enclosure))
            }
            Containment::PidNamespace => {
                let mode = namespace_mode().map_err(io::Error::other)?;
                let maps = (mode == NamespaceMode::WithUser).then(UserMaps::identity);
                Ok((Hold::None, Enclosure::PidNamespace(maps)))
            }
        }
    }

    fn cgroup_for_worker(&mut self, take_on: impl Fn(Duty)) -> io::Result<WorkerGroup> {
        if let Some(run) = &mut self.run_group {
            match run.worker() {
                // Somebody has removed it: a service manager that tidies up.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
        }
        let run = RunGroup::new(cgroup_site().map_err(io::Error::other)?)?;
        take_on(Duty::Cgroup(run.directory().to_owned()));
        self.run_group.insert(run).worker()
    }

    fn launch(
        &mut self,
        command: &SpawnCommand,
        image: &Image,
        descriptors: &[(RawFd, RawFd)],
        tie: Tie,
        enclosure: Enclosure,
    ) -> Result<Launched, SpawnError> {
        let first_unused = descriptors.iter().map(|(_, childs)| childs.unsigned_abs() + 1).max();
        let plan = Plan {
            path: Some(image.path()),
            argv: image.argv(),
            envp: image.envp(),
            cwd: image.cwd(),
            descriptors,
            close_from: first_unused.unwrap_or(0),
            die_with: matches!(tie, Tie::Child(_)).then(getpid),
            guardian: match tie {
                Tie::Child(link) => link,
                Tie::None => None,
            },
            enclosure,
        };
        launch(&mut self.stack, &plan).map_err(|errno| match (enclosure, errno) {
            // The machine may be short of namespaces; of processes and memory it is short for every child.
            (Enclosure::PidNamespace(_), errno) if !matches!(errno, Errno::AGAIN | Errno::NOMEM) => {
                let error = io::Error::other(format!("clone(CLONE_NEWPID): {errno}"));
                SpawnError::new(command, SpawnStage::Containment, error)
            }
            _ => SpawnError::new(command, SpawnStage::Clone, errno.into()),
        })
    }
}

/// How a process hangs on this one.
#[derive(Clone, Copy, Debug)]
enum Tie {
    /// Dies with us, and is registered here.
    Child(Option<RawFd>),
    /// Outlives us: the guardian.
    None,
}

/// A worker's three pipes, and its null device.
struct Pipes {
    to_child: ChildPipe,
    from_child: ChildPipe,
    stderr: ChildPipe,
    /// With dedicated descriptors only.
    null: Option<OwnedFd>,
}

impl Pipes {
    fn new(command: &SpawnCommand) -> Result<Self, SpawnError> {
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
        Ok(Self { to_child, from_child, stderr, null })
    }

    /// (ours, the child's).
    fn numbers(&self) -> Vec<(RawFd, RawFd)> {
        let (input, output, errors) = (
            self.to_child.childs.as_raw_fd(),
            self.from_child.childs.as_raw_fd(),
            self.stderr.childs.as_raw_fd(),
        );
        match &self.null {
            None => vec![(input, 0), (output, 1), (errors, 2)],
            Some(null) => vec![(null.as_raw_fd(), 0), (errors, 1), (errors, 2), (input, 3), (output, 4)],
        }
    }

    /// Closes the child's ends.
    fn into_spawned(self, process: Process) -> Spawned {
        let Self { to_child, from_child, stderr, null: _ } = self;
        Spawned { process, to_child: to_child.ours, from_child: from_child.ours, stderr: stderr.ours }
    }
}

fn open_null(command: &SpawnCommand) -> Result<OwnedFd, SpawnError> {
    open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(io::Error::from)
        .and_then(above_child_numbers)
        .map_err(|error| SpawnError::new(command, SpawnStage::NullDevice, error))
}

/// A shell that did not come to its program exits at once.
const END_PATIENCE: Duration = Duration::from_secs(3);
