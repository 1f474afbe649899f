//! A death as a text of several lines: what happened, the likely cause, what to do. The text of one line is in `death.rs`.

use std::fmt;

use stokehold_protocol::PeerError;

use super::{Cause, Death, Rung};

/// The text of several lines.
pub(super) struct Explained<'a>(pub(super) &'a Death);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let death = self.0;
        let line = Death { stderr_tail: "".into(), ..death.clone() };
        write!(f, "error: {line}")?;
        write!(f, "\ncause: {}", self.cause())?;
        let tail = death.stderr_tail.trim_end();
        if !tail.is_empty() {
            write!(f, "\n       last lines on its stderr: {tail:?}")?;
        }
        write!(f, "\nhint:  {}", self.hint())
    }
}

impl Explained<'_> {
    /// What the numbers say.
    fn cause(&self) -> String {
        let death = self.0;
        let mut facts = Vec::new();
        if death.out_of_memory == Some(true) {
            facts.push("the kernel killed it for want of memory".to_owned());
        }
        if death.rung > Rung::Asked {
            facts.push(format!("the parent {}", death.rung.as_words()));
        }
        if death.pid.is_some() {
            facts.push(format!(
                "it had lived for {:.1?}, was {} for {:.1?}",
                death.lifetime, death.state, death.in_state
            ));
            facts.push(format!("had answered {} tasks and had {} in hand", death.answered, death.unanswered));
        }
        if let Some(bytes) = death.peak_memory {
            facts.push(format!("its memory was {} at the most", Bytes(bytes)));
        }
        if let Some(cpu) = death.cpu {
            facts.push(format!("it used {:.2?} of processor time", cpu.user + cpu.system));
        }
        if facts.is_empty() {
            facts.push("it never started".to_owned());
        }
        facts.join("; ")
    }

    /// What to do.
    fn hint(&self) -> &'static str {
        let death = self.0;
        match &death.cause {
            _ if death.out_of_memory == Some(true) => {
                "give it more memory, run fewer workers, or recycle workers above a size"
            }
            Cause::Spawn { .. } => {
                "correct the command; a relative path is taken from the worker's directory"
            }
            Cause::HelloTimeout(_) | Cause::ReadyTimeout(_) => {
                "run the worker by hand to see what it waits for, or raise the pool's timeout"
            }
            Cause::Protocol(error) => match error.as_ref() {
                PeerError::Frame(_) => {
                    "print to stderr, or let the worker's SDK start before anything prints"
                }
                _ => "look at the worker's implementation of the protocol: the specification has the rule",
            },
            Cause::Overran { .. } => "raise the time limit, or let the handler ask whether it is cancelled",
            Cause::CancelIgnored { .. } => "let the handler ask whether it is cancelled, and return then",
            Cause::Exited if death.signal() == Some(9) => {
                "somebody sent SIGKILL: an administrator, a script, or the kernel for want of memory"
            }
            Cause::Exited if death.task.is_some() => {
                "the task runs again on another worker if its policy allows"
            }
            _ => "its stderr says more, if it says anything",
        }
    }
}

/// A size in the largest unit that keeps it above 1.
struct Bytes(u64);

impl fmt::Display for Bytes {
    #[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) = match self.0 {
            0..0x400 => return write!(f, "{} bytes", self.0),
            0x400..0x10_0000 => ("KiB", 1_u64 << 10),
            0x10_0000..0x4000_0000 => ("MiB", 1 << 20),
            _ => ("GiB", 1 << 30),
        };
        write!(f, "{:.1} {unit}", self.0 as f64 / scale as f64)
    }
}
