//! The error codes of FAILED (SPEC 6.5). Codes are texts; `retry` decides whether a task may run again, not the code.

/// The handler raised an error.
pub const ERROR: &str = "error";
/// No handler has that name.
pub const UNKNOWN_REQUEST: &str = "unknown_request";
/// `data` could not be read, or is not what the handler takes.
pub const BAD_DATA: &str = "bad_data";
/// The head could not be read.
pub const BAD_MESSAGE: &str = "bad_message";
/// A frame above `max_frame`.
pub const TOO_LARGE: &str = "too_large";
/// Stopped by CANCEL.
pub const CANCELLED: &str = "cancelled";
/// No room for it now.
pub const OVERLOADED: &str = "overloaded";
/// Not to be had here, or not for you.
pub const UNAVAILABLE: &str = "unavailable";
/// No version in common.
pub const VERSION: &str = "version";
/// No codec in common.
pub const CODEC: &str = "codec";
/// A deadline passed. Made by parents only.
pub const TIMEOUT: &str = "timeout";
/// The worker died. Made by parents only.
pub const CRASHED: &str = "crashed";
/// The parent killed the worker. Made by parents only.
pub const KILLED: &str = "killed";
/// Unknown whether it ran. Made by parents only.
pub const LOST: &str = "lost";
/// Killed too many workers. Made by parents only.
pub const REJECTED: &str = "rejected";

/// The codes a child may send besides its own, which contain a dot.
const FROM_CHILD: [&str; 10] = [
    ERROR,
    UNKNOWN_REQUEST,
    BAD_DATA,
    BAD_MESSAGE,
    TOO_LARGE,
    CANCELLED,
    OVERLOADED,
    UNAVAILABLE,
    VERSION,
    CODEC,
];

/// The code as a parent takes it from a child: one of this page's that a child may use, or one with a dot, stays; anything
/// else becomes [`ERROR`] (SPEC 6.5).
pub fn from_child(code: &str) -> &str {
    if code.contains('.') || FROM_CHILD.contains(&code) { code } else { ERROR }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_may_use_its_codes_and_codes_with_a_dot() {
        for code in FROM_CHILD {
            assert_eq!(from_child(code), code);
        }
        assert_eq!(from_child("acme.out_of_paper"), "acme.out_of_paper");
    }

    #[test]
    fn codes_made_by_parents_and_unknown_ones_become_error() {
        for code in [TIMEOUT, CRASHED, KILLED, LOST, REJECTED, "", "Error", "no_such_code"] {
            assert_eq!(from_child(code), ERROR, "{code}");
        }
    }
}
