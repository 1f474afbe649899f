//! The cases of the fault suite, one name each. The suite and the casebook match on them without a wildcard, so that neither
//! can miss one. Says nothing of how a case is brought about or judged.

use std::fmt;
use std::str::FromStr;

macro_rules! groups {
    ($($(#[$doc:meta])* $letter:ident $name:ident [$count:literal] { $($(#[$what:meta])* $case:ident,)+ })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
            pub enum $name { $($(#[$what])* $case,)+ }

            impl $name {
                /// All of them.
                pub const ALL: [Self; $count] = [$(Self::$case,)+];
            }
        )+

        /// A case of the fault suite, by its group.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Case { $($(#[$doc])* $letter($name),)+ }

        impl Case {
            /// All of them, in their order.
            pub fn all() -> Vec<Self> {
                let mut all = Vec::new();
                $(all.extend($name::ALL.map(Self::$letter));)+
                all
            }
        }

        $(impl From<$name> for Case {
            fn from(case: $name) -> Self {
                Self::$letter(case)
            }
        })+

        impl fmt::Display for Case {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $(Self::$letter(case) => write!(f, "{case:?}"),)+ }
            }
        }
    };
}

groups! {
    /// A child dies.
    A DeathCase [20] {
        /// It exits before the handshake.
        A1,
        /// SIGKILL before it reads a task.
        A2,
        /// SIGKILL after it has read the header of a task.
        A3,
        /// SIGKILL after it has read a task, before it begins it.
        A4,
        /// SIGKILL after it has begun a task.
        A5,
        /// SIGKILL after what the task does outside.
        A6,
        /// SIGKILL in the middle of FINISHED.
        A7,
        /// SIGKILL right after FINISHED.
        A8,
        /// Every crash point at the first, the third and the last task.
        A9,
        /// SIGKILL at each of its system calls.
        A10,
        /// A task that always kills.
        A11,
        /// A task that always kills, in a window of eight.
        A12,
        /// SIGKILL in the middle of a result of 100 MB.
        A13,
        /// A storm of kills.
        A14,
        /// Every way to die.
        A15,
        /// Out of memory.
        A16,
        /// A child that always exits at READY.
        A17,
        /// A program that cannot be executed.
        A18,
        /// It closes its output and lives on.
        A19,
        /// It closes its input and lives on.
        A20,
    }
    /// A child hangs, or time is wrong.
    B TimeCase [14] {
        /// A handler that never returns.
        B1,
        /// It ignores CANCEL and SIGTERM.
        B2,
        /// It is stopped.
        B3,
        /// It stops reading.
        B4,
        /// Half a frame, and no more.
        B5,
        /// One byte now and then.
        B6,
        /// A flood on stderr.
        B7,
        /// Both directions full at once.
        B8,
        /// The handshake never comes.
        B9,
        /// The clock is set.
        B10,
        /// Progress for ever.
        B11,
        /// A late answer of an attempt that took too long.
        B12,
        /// A shutdown with a full pipe.
        B13,
        /// A shutdown twice, at once with a submit, and from a callback.
        B14,
    }
    /// The parent, and the machine below it.
    C ParentCase [16] {
        /// SIGKILL of the parent while its children are idle.
        C1,
        /// SIGKILL of the parent while its children are busy.
        C2,
        /// SIGKILL of the parent at each of its system calls.
        C3,
        /// A pool made by a thread that ends.
        C4,
        /// A grandchild that holds standard output.
        C5,
        /// A grandchild in a session of its own.
        C6,
        /// SIGINT to the foreground.
        C7,
        /// A host that waits for every child, or ignores SIGCHLD.
        C8,
        /// The system has no processes, descriptors or memory.
        C9,
        /// EINTR everywhere.
        C10,
        /// Two thousand starts and stops.
        C11,
        /// A panic in a user's callback.
        C12,
        /// A pool that is dropped, a handle that is forgotten.
        C13,
        /// A process id that comes again.
        C14,
        /// A parent without standard streams.
        C15,
        /// More pipes than a user may have at full size.
        C16,
    }
    /// A hostile child.
    D WireCase [16] {
        /// A frame that is too large.
        D1,
        /// A frame that is too small.
        D2,
        /// A frame cut at every byte.
        D3,
        /// Nesting without end.
        D4,
        /// Lengths that lie.
        D5,
        /// Messages that are almost right.
        D6,
        /// Text on standard output.
        D7,
        /// Two answers to one task.
        D8,
        /// Answers to tasks that are not its own.
        D9,
        /// A forged sender.
        D10,
        /// Requests that are not its to make.
        D11,
        /// A flood of tiny frames.
        D12,
        /// Progress without end.
        D13,
        /// Bits that flip.
        D14,
        /// Another version.
        D15,
        /// Anything at all.
        D16,
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::all()
            .into_iter()
            .find(|case| case.to_string() == text)
            .ok_or_else(|| format!("no case is called {text:?}"))
    }
}
