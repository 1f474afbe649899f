//! What an author writes: handlers under names, a state, and one call that serves until the parent ends it.

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use stokehold_protocol::limits::{FRAME_LEN_CEILING, MAX_FRAME_DEFAULT, MAX_FRAME_FLOOR, WINDOW_MAX};
use stokehold_protocol::{
    Capabilities, Capability, ChildHello, Codec, Data, Failure as WireFailure, Request, SharedTail,
    check_user_name, code, data,
};

use crate::context::{Ctx, Init};
use crate::desk::Entry;
use crate::failure::{self, Permanent};
use crate::guard::{self, Surroundings};
use crate::line::Line;
use crate::monitor::{Monitor, READER_GONE};
use crate::probe::{NoProbe, Point, Probe};
use crate::serve::{self, Plan};
use crate::stop::Stop;
use crate::stream::Wake;
use crate::text::TextOutput;
use crate::{panics, report};

/// Unanswered tasks a worker takes by default. Tiny tasks need many hundreds in flight to keep a worker busy; the parent
/// sends fewer when tasks are slow.
const WINDOW_DEFAULT: u32 = 1024;

/// What this SDK can do besides the core of the protocol, and besides `batch`, which not every worker wants.
const CAPABILITIES: Capabilities = Capabilities::NONE
    .with(Capability::Cancel)
    .with(Capability::Meta)
    .with(Capability::Ping)
    .with(Capability::Started);

/// What it can do in text mode. Nothing reads ahead in lines, for CANCEL and PING; and one value of a batch that has no form in JSON
/// would take the others with it.
const TEXT_CAPABILITIES: Capabilities = Capabilities::NONE.with(Capability::Meta).with(Capability::Started);

/// Bytes of names that HELLO lists; a HELLO may have 64 KiB.
const METHODS_BYTES_MAX: usize = 60_000;

/// Status of a worker that could not start.
const NOT_READY: u8 = 1;
/// Status of a worker after whose start it makes no sense to try again.
const PERMANENT: u8 = 125;
/// Status of a worker whose connection failed for a reason outside the protocol.
const IO_FAILED: u8 = 1;
/// Status of a worker whose input ended inside a frame.
const TRUNCATED: u8 = 3;
/// Status of a worker whose parent broke the protocol.
const PEER_BROKE: u8 = 4;

type BoxError = Box<dyn Error + Send + Sync>;
type InitFn<'h, S> = Box<dyn FnOnce(&mut Init) -> Result<S, BoxError> + 'h>;

/// A worker with a state and one handler for each kind of request.
///
/// ```no_run
/// use std::io;
/// use std::process::ExitCode;
/// use stokehold_child::{Request, Worker};
///
/// const COUNT: Request<String, u64> = Request::new("count");
/// const TOTAL: Request<(), u64> = Request::new("total");
///
/// fn main() -> ExitCode {
///     Worker::new(|_| Ok::<u64, io::Error>(0))
///         .on(COUNT, |total, text, _| {
///             let words = text.split_whitespace().count() as u64;
///             *total += words;
///             Ok::<_, io::Error>(words)
///         })
///         .on(TOTAL, |total, (), _| Ok::<_, io::Error>(*total))
///         .serve()
/// }
/// ```
pub struct Worker<'h, S> {
    init: InitFn<'h, S>,
    entries: Vec<Entry<'h, S>>,
    window: u32,
    max_frame: u32,
}

impl<'h, S> Worker<'h, S> {
    /// A worker whose state `init` makes.
    ///
    /// `init` runs once, after the worker has announced itself (HELLO) and before it asks for work (READY): it may take as
    /// long as the parent's ready timeout allows. When it fails, its error becomes one line on stderr and the process exits
    /// with status 1, or 125 for a [`Permanent`] error, after which the parent starts no replacement.
    pub fn new<I, E>(init: I) -> Self
    where
        I: FnOnce(&mut Init) -> Result<S, E> + 'h,
        E: Into<BoxError>,
    {
        let init = Box::new(|about: &mut Init| init(about).map_err(Into::into));
        Self { init, entries: Vec::new(), window: WINDOW_DEFAULT, max_frame: MAX_FRAME_DEFAULT }
    }

    /// Adds the handler of `request`. One task at a time runs; the state is the handler's alone meanwhile.
    ///
    /// The handler owns its input: a `Request<str, R>` gives it a `String`, a `Request<Job, R>` a `Job` (which must be `Clone`,
    /// because that is what owning means for a plain type). So parent and worker can share one constant.
    ///
    /// - Input that is not a `J` fails the task with `bad_data` and the handler is not called.
    /// - An error becomes FAILED with its message and chain of causes; [`Failure`](crate::Failure) adds a code and a retry.
    /// - A panic becomes FAILED with its message, place and backtrace, and the worker lives on **with the state as the panic
    ///   left it**, perhaps half-changed. Where that can be harmful, let the handler end the process instead.
    /// - A result that breaks the data model, or is larger than the parent takes, fails the task (`bad_data`, `too_large`).
    /// - For a one-way request (id 0) the handler runs and nothing is answered; a failure is one line on stderr.
    ///
    /// # Panics
    ///
    /// When the name has a handler already: an author's mistake, seen at the first start.
    #[must_use]
    pub fn on<J, R, E, F>(self, request: Request<J, R>, handler: F) -> Self
    where
        J: ToOwned<Owned: DeserializeOwned> + ?Sized,
        R: Serialize,
        E: Into<BoxError>,
        F: FnMut(&mut S, J::Owned, &mut Ctx) -> Result<R, E> + 'h,
    {
        self.typed(request.name(), handler)
    }

    /// Adds a handler that takes its input as encoded MessagePack, in place, and gives encoded MessagePack back. The input is
    /// exactly one value of the data model; anything else fails the task with `bad_data` before the handler is called.
    /// Otherwise as [`on`](Self::on).
    ///
    /// # Panics
    ///
    /// When the name has a handler already, or is not a user's: empty, longer than 255 bytes, or ALL-CAPS other than `DO`.
    #[must_use]
    pub fn on_raw<E, F>(self, name: &'static str, mut handler: F) -> Self
    where
        E: Into<BoxError>,
        F: FnMut(&mut S, &[u8], &mut Ctx) -> Result<Data, E> + 'h,
    {
        self.entry(name, move |state, input, context, result| {
            data::check_input(input)
                .map_err(|error| failure::not_begun(code::BAD_DATA, error.to_string()))?;
            let data = handler(state, input, context).map_err(to_wire)?;
            if data.shared().is_none() {
                result.extend_from_slice(data.as_bytes());
            }
            Ok(data.shared().cloned())
        })
    }

    /// Sets how many unanswered tasks the parent may have sent here, from 1 to 65,536 (others are clamped). Default: 1024,
    /// because tiny tasks need many hundreds in flight; the parent sends fewer when tasks are slow. Set 1 for a worker that
    /// should never have a task wait behind another.
    #[must_use]
    pub fn window(mut self, tasks: u32) -> Self {
        self.window = tasks.clamp(1, WINDOW_MAX);
        self
    }

    /// Sets the largest frame to take, in bytes of head and input together, from 64 KiB to 128 MiB (others are clamped). Default: 16
    /// MiB, as much as a worker should need to take without having been asked. A larger task fails with
    /// [`too_large`](code::TOO_LARGE) and is not sent. How large an answer may be is the parent's to say.
    #[must_use]
    pub fn max_frame(mut self, bytes: u32) -> Self {
        self.max_frame = bytes.clamp(MAX_FRAME_FLOOR, FRAME_LEN_CEILING);
        self
    }

    /// Serves until the parent ends it. Blocks; call it first in `main` and return what it gives.
    ///
    /// See the [crate's documentation](crate) for what it does to standard input, standard output and the environment, and
    /// for the exit codes.
    ///
    /// # Panics
    ///
    /// When there is no handler, and with whatever `init` panics with.
    pub fn serve(self) -> ExitCode {
        self.serve_probed(NoProbe)
    }

    /// As [`serve`](Self::serve), and tells `probe` of every point that is reached: for tests that let workers die there.
    ///
    /// # Panics
    ///
    /// As [`serve`](Self::serve), and with whatever the probe panics with.
    #[doc(hidden)]
    pub fn serve_probed<P: Probe>(self, probe: P) -> ExitCode {
        assert!(
            !self.entries.is_empty(),
            "a worker needs at least one handler: add one with `on` before `serve`"
        );
        probe.reach(Point::Start, 1);
        let Surroundings { input, output, codec, worker, run } = match guard::settle() {
            Ok(surroundings) => surroundings,
            Err(refusal) => return refusal.report(),
        };
        // Without a wake-up there is no monitor. The worker works without.
        let wake = Wake::new().ok();
        let sink: Box<dyn Write + Send> = match codec {
            Codec::MessagePack => Box::new(output.clone()),
            Codec::Json => Box::new(TextOutput::new(output.clone())),
        };
        let line = Arc::new(Line::new(Box::new(input.clone()), sink, wake.clone()));
        let monitor = wake.map(|wake| Monitor::start(&line, wake, input, output));
        let disarm = || {
            if let Some(monitor) = &monitor {
                monitor.disarm();
            }
        };
        let (mut hello, mut entries, init) = self.into_parts();
        if probe.is_active() {
            // Its points are those of tasks that come one by one.
            hello.capabilities = CAPABILITIES;
        }
        if codec == Codec::Json {
            hello.capabilities = TEXT_CAPABILITIES;
        }
        let start = |about: &mut Init| {
            let state = init(about)?;
            // After `init`, so that it stands in front of a hook that `init` sets.
            panics::install_hook();
            Ok(state)
        };
        let pid = u64::from(std::process::id());
        let plan =
            Plan { hello, pid, entries: &mut entries, worker, run, line, codec, probe: Arc::new(probe) };
        let ended = serve::serve(plan, start, disarm);
        disarm();
        ended.map_or_else(report_stop, |()| ExitCode::SUCCESS)
    }

    /// What a connection needs of this worker.
    pub(crate) fn into_parts(self) -> (ChildHello, Vec<Entry<'h, S>>, InitFn<'h, S>) {
        (self.hello(), self.entries, self.init)
    }

    /// Adds a handler whose input and result are decoded and encoded.
    fn typed<J, R, E, F>(self, name: &'static str, mut handler: F) -> Self
    where
        J: DeserializeOwned,
        R: Serialize,
        E: Into<BoxError>,
        F: FnMut(&mut S, J, &mut Ctx) -> Result<R, E> + 'h,
    {
        self.entry(name, move |state, input, context, result| {
            let job = data::decode(input)
                .map_err(|error| failure::not_begun(code::BAD_DATA, format!("bad input: {error}")))?;
            let value = handler(state, job, context).map_err(to_wire)?;
            data::encode_into(&value, result).map_err(|error| failure::from_bad_data(&error))?;
            Ok(None)
        })
    }

    fn entry<F>(mut self, name: &'static str, run: F) -> Self
    where
        F: FnMut(&mut S, &[u8], &mut Ctx, &mut Vec<u8>) -> Result<Option<SharedTail>, Box<WireFailure>> + 'h,
    {
        if let Err(error) = check_user_name(name) {
            panic!("{name:?} cannot be a request's name: {error}");
        }
        assert!(self.entries.iter().all(|entry| entry.name != name), "the request {name:?} has two handlers");
        self.entries.push(Entry { name, run: Box::new(run) });
        self
    }

    fn hello(&self) -> ChildHello {
        let names = || self.entries.iter().map(|entry| entry.name);
        // No list means any name: a list too long to be sent is better left out than cut.
        let listed = names().map(|name| name.len().saturating_add(3)).sum::<usize>() <= METHODS_BYTES_MAX;
        ChildHello {
            window: self.window,
            max_frame: self.max_frame,
            // Nothing is to wait behind a task in a worker that takes one at a time.
            capabilities: match self.window {
                1 => CAPABILITIES,
                _ => CAPABILITIES.with(Capability::Batch),
            },
            serial: true,
            sdk: concat!("rust/", env!("CARGO_PKG_VERSION")).to_owned(),
            methods: if listed { names().map(str::to_owned).collect() } else { Vec::new() },
            ..ChildHello::default()
        }
    }
}

impl<S> fmt::Debug for Worker<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("handlers", &self.entries)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

/// Serves the default request, `DO`, with one handler and no state but what the handler captures. Blocks until the parent
/// ends it; call it first in `main` and return what it gives.
///
/// What happens to errors, panics and wrong input is told at [`Worker::on`].
///
/// ```no_run
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     stokehold_child::serve(|line: String, _| line.trim().parse::<f64>().map(f64::sqrt))
/// }
/// ```
pub fn serve<J, R, E, F>(mut handler: F) -> ExitCode
where
    J: DeserializeOwned,
    R: Serialize,
    E: Into<BoxError>,
    F: FnMut(J, &mut Ctx) -> Result<R, E>,
{
    stateless().typed(Request::<J, R>::DO.name(), |(), job, context| handler(job, context)).serve()
}

/// As [`serve`], with input and result as encoded MessagePack, as [`Worker::on_raw`] has them.
///
/// ```no_run
/// use std::process::ExitCode;
/// use stokehold_child::Data;
///
/// fn main() -> ExitCode {
///     stokehold_child::serve_raw(|input, _| Data::from_encoded(input.to_vec()))
/// }
/// ```
pub fn serve_raw<E, F>(mut handler: F) -> ExitCode
where
    E: Into<BoxError>,
    F: FnMut(&[u8], &mut Ctx) -> Result<Data, E>,
{
    stateless().on_raw("DO", |(), input, context| handler(input, context)).serve()
}

fn stateless<'h>() -> Worker<'h, ()> {
    Worker::new(|_: &mut Init| Ok::<(), BoxError>(()))
}

fn to_wire(error: impl Into<BoxError>) -> Box<WireFailure> {
    failure::from_error(error.into().as_ref())
}

/// Says why serving ended, where that is news to anybody, and gives the exit code.
fn report_stop(stop: Stop) -> ExitCode {
    let status = match stop {
        Stop::Bug(misuse) => {
            report::line(format_args!("this SDK broke its own rules, please report it: {misuse}"));
            IO_FAILED
        }
        Stop::Io(error) => {
            report::line(format_args!("the connection to the parent failed: {error}"));
            IO_FAILED
        }
        Stop::NotReady(error) => {
            report::line(format_args!("could not start: {}", in_one_line(error.as_ref())));
            if error.is::<Permanent>() { PERMANENT } else { NOT_READY }
        }
        Stop::Peer(error) => {
            report::line(format_args!("the parent broke the protocol: {error}"));
            PEER_BROKE
        }
        // Nobody is left to be told.
        Stop::ReaderGone => READER_GONE,
        Stop::Truncated(error) => {
            report::line(format_args!("the parent's input broke off: {error}"));
            TRUNCATED
        }
    };
    ExitCode::from(status)
}

/// An error with its causes, on one line.
fn in_one_line(error: &(dyn Error + 'static)) -> String {
    let failure = failure::from_error(error);
    let mut line = failure.message;
    for cause in failure.chain {
        line.push_str(": ");
        line.push_str(&cause);
    }
    line.replace('\n', " ")
}
