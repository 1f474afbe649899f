//! The first thing a worker does: moves the protocol away from standard input and output, so that no `println!`, no C
//! `printf` and no grandchild can touch it, and takes the parent's variables out of the environment. It reads no frame.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use stokehold_protocol::{Codec, Failure as WireFailure, Message, Recipient, VERSION, code, wire};

use crate::report;
use crate::stream::{Input, Output};
use crate::{sys, text};

const PREFIX: &str = "STOKEHOLD_";
const IO: &str = "STOKEHOLD_IO";

/// Status of a worker that was started in a way that cannot work.
const WRONG_START: u8 = 2;
/// Status of a worker that has no version or codec in common with its parent.
const INCOMPATIBLE: u8 = 5;

/// Whether this process was started as a worker, also after the variables are gone.
static IS_WORKER: AtomicBool = AtomicBool::new(false);
/// Whether the connection was taken already: there is one in a process, and each descriptor must have one owner.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether a parent started this process as a worker: `STOKEHOLD_IO` is set in its environment, or was until serving began.
///
/// A program that re-executes itself as its own worker asks this at the top of `main`. Programs that are only ever workers
/// need not: serving finds out by itself.
pub fn is_worker() -> bool {
    IS_WORKER.load(Ordering::Relaxed) || env::var_os(IO).is_some()
}

/// What the guard found out and moved away.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) input: Input,
    pub(crate) output: Output,
    pub(crate) codec: Codec,
    pub(crate) worker: Option<u32>,
    pub(crate) run: Option<String>,
}

/// Why there is nothing to serve.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Somebody serves, or served, in this process.
    AlreadyServing,
    /// A person started the program on a terminal.
    ByHand,
    /// The parent died before the worker could tie its life to it.
    Orphaned,
    /// The transport cannot be used.
    Transport(String),
    /// No version or codec in common; the parent has been told.
    Incompatible(String),
}

/// This process's program and arguments, as they were given.
fn command_line() -> String {
    let words: Vec<String> = env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if words.is_empty() { "PROGRAM".to_owned() } else { words.join(" ") }
}

impl Refusal {
    /// Says why on stderr and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        let status = match self {
            Self::AlreadyServing => {
                report::line(
                    "serving was begun a second time: a process has one connection, and it is in use",
                );
                WRONG_START
            }
            Self::ByHand => {
                report::line(format_args!(
                    "this program is a worker: a parent starts it and speaks the Stokehold protocol with it on standard \
                     input and output\nrun it with: stokehold run -- {}",
                    command_line()
                ));
                WRONG_START
            }
            Self::Orphaned => 1,
            Self::Transport(why) => {
                report::line(why);
                WRONG_START
            }
            Self::Incompatible(why) => {
                report::line(why);
                INCOMPATIBLE
            }
        };
        ExitCode::from(status)
    }
}

/// Takes the connection. Runs before any other code of the user, and once.
pub(crate) fn settle() -> Result<Surroundings, Refusal> {
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Err(Refusal::AlreadyServing);
    }
    let transport = env::var_os(IO);
    if transport.is_none() && io::stdin().is_terminal() {
        return Err(Refusal::ByHand);
    }
    let parent = variable("STOKEHOLD_PARENT").and_then(|pid| pid.parse().ok());
    let worker = variable("STOKEHOLD_WORKER").and_then(|slot| slot.parse().ok());
    let run = variable("STOKEHOLD_RUN");
    let offer = check_offer(variable("STOKEHOLD_PROTO").as_deref(), variable("STOKEHOLD_CODEC").as_deref());
    let (input, mut output) = take_streams(transport.as_deref()).map_err(Refusal::Transport)?;
    IS_WORKER.store(transport.is_some(), Ordering::Relaxed);
    remove_variables();
    let codec = offer.map_err(|(codec, failure)| {
        tell(&failure, codec, &mut output);
        Refusal::Incompatible(failure.message)
    })?;
    if let Some(parent) = parent {
        die_with(parent)?;
    }
    if transport.is_some() {
        // Ctrl-C goes to the whole group of a terminal, but when to end is the parent's decision. A worker that cannot have
        // this works all the same.
        let _ = sys::swallow_sigint();
    }
    Ok(Surroundings { input, output, codec, worker, run })
}

/// A variable that is text.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

fn take_streams(transport: Option<&OsStr>) -> Result<(Input, Output), String> {
    let Some(transport) = transport else { return guard_stdio().map_err(no_stdio) };
    if transport == "stdio" {
        return guard_stdio().map_err(no_stdio);
    }
    let text = transport.to_string_lossy();
    let Some(numbers) = text.strip_prefix("fd:") else {
        return Err(format!(
            "{IO}={text:?} is no transport this worker knows: those are `stdio` and `fd:R,W`"
        ));
    };
    let numbers = numbers.split_once(',').and_then(|(r, w)| Some((r.parse().ok()?, w.parse().ok()?)));
    match numbers {
        Some((r, w)) if r > 2 && w > 2 => take_descriptors(r, w),
        _ => Err(format!(
            "{IO}={text:?} must name two descriptors above 2, as in `fd:3,4`: the first to read, the second to write"
        )),
    }
}

fn no_stdio(error: io::Error) -> String {
    format!("standard input or output cannot be used for the protocol: {error}")
}

fn take_descriptors(r: RawFd, w: RawFd) -> Result<(Input, Output), String> {
    let adopt = |fd: RawFd| {
        sys::adopt(fd).map(File::from).map_err(|error| {
            format!("descriptor {fd}, which {IO} names, is not usable: {error}; a wrapper between parent and worker may have closed it")
        })
    };
    let input = adopt(r)?;
    // A socket may serve both ways under one number, which must not get two owners.
    let output = if r == w {
        input.try_clone().map_err(|error| format!("descriptor {r} cannot be duplicated: {error}"))?
    } else {
        adopt(w)?
    };
    Ok((Input::new(input), Output::new(output)))
}

/// Moves standard input and output above 2, gives the worker an empty standard input, and sends its standard output to
/// stderr.
fn guard_stdio() -> io::Result<(Input, Output)> {
    let above = |fd: rustix::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let input = above(io::stdin().as_fd())?;
    let output = above(io::stdout().as_fd())?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    if same_file(output.as_fd(), io::stderr().as_fd()) && !io::stderr().is_terminal() {
        // Started with `2>&1`: stderr is the protocol's pipe too, and its text must not get there. (On a terminal a person
        // looks at both, and the text is worth more.)
        rustix::stdio::dup2_stderr(&null)?;
    }
    if rustix::stdio::dup2_stdout(io::stderr()).is_err() {
        rustix::stdio::dup2_stdout(&null)?;
    }
    Ok((Input::new(File::from(input)), Output::new(File::from(output))))
}

fn same_file(a: rustix::fd::BorrowedFd<'_>, b: rustix::fd::BorrowedFd<'_>) -> bool {
    match (rustix::fs::fstat(a), rustix::fs::fstat(b)) {
        (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
        _ => false,
    }
}

/// Takes every variable of the parent away, so that a grandchild never believes it is a worker.
fn remove_variables() {
    let ours: Vec<OsString> = env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.as_bytes().starts_with(PREFIX.as_bytes()))
        .collect();
    if !ours.is_empty() && !sys::remove_vars_if_alone(&ours) {
        report::line(
            "the STOKEHOLD_ variables stay in the environment, because another thread runs already: start serving before \
             you start threads",
        );
    }
}

/// Looks whether the parent's offer has the version and a codec of this worker, and gives the codec. No offer means that it has.
/// A refusal comes with the codec in which it is told.
fn check_offer(versions: Option<&str>, codecs: Option<&str>) -> Result<Codec, (Codec, Box<WireFailure>)> {
    let has = |offer: &str, wanted: &str| offer.split(',').any(|entry| entry.trim() == wanted);
    let ours = [Codec::MessagePack, Codec::Json];
    let codec = match codecs {
        None => Some(Codec::MessagePack),
        Some(offer) => ours.into_iter().find(|codec| has(offer, codec.name())),
    };
    let mut supported = Vec::new();
    wire::write_map_len(&mut supported, 1);
    wire::write_str(&mut supported, "supported");
    let failure = if let Some(offer) = versions.filter(|offer| !has(offer, &VERSION.to_string())) {
        wire::write_array_len(&mut supported, 1);
        wire::write_uint(&mut supported, VERSION);
        let message =
            format!("the parent offers versions {offer:?} of the protocol, this worker speaks {VERSION}");
        WireFailure::new(code::VERSION, message)
    } else if let Some(codec) = codec {
        return Ok(codec);
    } else {
        wire::write_array_len(&mut supported, 2);
        ours.into_iter().for_each(|codec| wire::write_str(&mut supported, codec.name()));
        let offer = codecs.unwrap_or_default();
        WireFailure::new(
            code::CODEC,
            format!("the parent offers the codecs {offer:?}, this worker speaks msgpack and json"),
        )
    };
    Err((codec.unwrap_or_default(), Box::new(WireFailure { data: Some(supported), ..failure })))
}

/// Sends FAILED without an id, the only frame besides HELLO that may come first.
fn tell(failure: &WireFailure, codec: Codec, output: &mut Output) {
    let mut data = Vec::new();
    failure.encode(&mut data);
    let pid = u64::from(std::process::id());
    let mut frame = Vec::new();
    Message { request: "FAILED", sender: pid, recipient: Recipient::Anyone, data: &data }
        .encode_frame(0, &mut frame);
    let bytes = match codec {
        Codec::MessagePack => frame,
        Codec::Json => text::line_of(&frame),
    };
    // The exit status says the same.
    let _ = output.write_all(&bytes);
}

/// Lets the kernel end this process when the parent dies, if the parent is the direct one: under a wrapper the signal would
/// be tied to the wrapper.
fn die_with(parent: i32) -> Result<(), Refusal> {
    let direct = || getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == parent);
    if !direct() {
        return Ok(());
    }
    // Refused by some sandboxes; the end of input must do there.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if direct() { Ok(()) } else { Err(Refusal::Orphaned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_a_list_and_none_means_everything() {
        assert!(check_offer(None, None).is_ok());
        assert!(check_offer(Some("1"), Some("msgpack,json")).is_ok());
        assert!(check_offer(Some("2, 1"), None).is_ok());
        assert_eq!(check_offer(Some("2,11"), None).unwrap_err().1.code, "version");
        assert_eq!(check_offer(Some(""), None).unwrap_err().1.code, "version");
        assert_eq!(check_offer(Some("1"), Some("cbor")).unwrap_err().1.code, "codec");
    }

    #[test]
    fn text_is_spoken_where_nothing_else_is_offered() {
        for (offer, codec) in [
            ("msgpack", Codec::MessagePack),
            ("json, msgpack", Codec::MessagePack),
            ("cbor,json", Codec::Json),
        ] {
            assert_eq!(check_offer(None, Some(offer)).unwrap(), codec);
        }
        assert_eq!(check_offer(Some("2"), Some("json")).unwrap_err().0, Codec::Json);
        assert_eq!(check_offer(None, Some("cbor")).unwrap_err().0, Codec::MessagePack);
    }

    #[test]
    fn a_refused_version_says_which_one_is_supported() {
        let (_, failure) = check_offer(Some("2"), None).unwrap_err();
        assert_eq!(failure.data.unwrap(), b"\x81\xa9supported\x91\x01");
    }

    #[test]
    fn a_transport_that_is_not_known_is_named() {
        for transport in ["unix:/nowhere", "fd:", "fd:3", "fd:0,1", "fd:3,x", "fd:-1,4", "fd:3,99999999999"] {
            let error = take_streams(Some(OsStr::new(transport))).unwrap_err();
            assert!(error.contains(transport), "{error}");
        }
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_named() {
        let error = take_streams(Some(OsStr::new("fd:987654,987655"))).unwrap_err();
        assert!(error.contains("descriptor 987654"), "{error}");
    }
}
