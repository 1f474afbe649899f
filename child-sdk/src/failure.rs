//! How a handler's error becomes FAILED: code, words, causes, backtrace, all cut so that the frame always fits.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use stokehold_protocol::Failure as WireFailure;
use stokehold_protocol::code;

use stokehold_protocol::{BadData, Data};

use crate::talk::ItemError;

/// An error that says more to the parent than words: a code of its own, and whether another attempt may help.
///
/// Any other error a handler returns fails its task with the code `error` and without a retry. A `Failure` may also be a
/// cause inside another error: the outer error's words are sent, with this one's code and retry.
///
/// ```
/// use std::time::Duration;
/// use stokehold_child::Failure;
///
/// fn fetch() -> Result<(), Failure> {
///     Err(Failure::new("the licence server is busy").code("acme.busy").retry_after(Duration::from_secs(2)))
/// }
/// # assert_eq!(fetch().unwrap_err().to_string(), "the licence server is busy");
/// ```
#[derive(Debug)]
pub struct Failure {
    message: String,
    code: String,
    retry: bool,
    after: Option<Duration>,
    data: Option<Data>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure with a message for people, the code `error`, and no retry.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: code::ERROR.to_owned(),
            retry: false,
            after: None,
            data: None,
            cause: None,
        }
    }

    /// A failure that says that the task was stopped because it was cancelled, with the code `cancelled`: for a handler that
    /// returns early after [`Ctx::is_cancelled`](crate::Ctx::is_cancelled).
    pub fn cancelled() -> Self {
        Self::new("cancelled").code(code::CANCELLED)
    }

    /// Sets the code, which programs read: one of your own with a dot (`"acme.busy"`), or one of the protocol's that a child
    /// may send (`overloaded`, `unavailable`, …). Any other is sent as `error`, because the parent would take it for that.
    #[must_use]
    pub fn code(mut self, code: impl AsRef<str>) -> Self {
        code::from_child(code.as_ref()).clone_into(&mut self.code);
        self
    }

    /// Says that another attempt may help. The parent's policy decides whether there is one. Default: it does not help,
    /// because an error that a handler noticed is usually the input's fault.
    #[must_use]
    pub fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    /// As [`retry`](Self::retry), but not before `delay` has passed. Counted in whole milliseconds.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.after = Some(delay);
        self.retry()
    }

    /// Adds a value for programs, whatever goes with the code ([`Data::encode`] makes one). It is left out where it makes the answer
    /// larger than the parent takes.
    #[must_use]
    pub fn data(mut self, data: Data) -> Self {
        self.data = Some(data);
        self
    }

    /// Keeps the error behind this one: it and its sources are sent as the chain of causes.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static))
    }
}

/// An error of `init` after which starting this worker again makes no sense, for instance a missing licence.
///
/// The process then exits with status 125, which tells the parent not to replace it.
#[derive(Debug)]
pub struct Permanent(Box<dyn Error + Send + Sync>);

impl Permanent {
    /// Marks `error` as permanent.
    pub fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Permanent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Permanent {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

// A FAILED must fit the smallest frame a parent may announce, 64 KiB, whatever a handler's error says:
// 16 Ki + 32 Ki + 16 × 512 + a code of at most 1 Ki, and the marks.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
const TRACE_BYTES_MAX: usize = 32 * 1024;
const CAUSES_MAX: usize = 16;
const CAUSE_BYTES_MAX: usize = 512;
const CODE_BYTES_MAX: usize = 1024;

/// FAILED for an error that a handler returned.
pub(crate) fn from_error(error: &(dyn Error + 'static)) -> Box<WireFailure> {
    let mut failure = WireFailure::new(code::ERROR, error.to_string());
    let mut cause = Some(error);
    let mut marked = false;
    // An error whose sources form a ring would never end; nobody reads the hundredth cause.
    for index in 0..CAUSES_MAX.saturating_add(1) {
        let Some(current) = cause else { break };
        if index > 0 {
            failure.chain.push(current.to_string());
        }
        if !marked {
            marked = mark(&mut failure, current);
        }
        cause = current.source();
    }
    cut(failure)
}

/// FAILED for input or output against the data model.
pub(crate) fn from_bad_data(error: &BadData) -> Box<WireFailure> {
    cut(WireFailure::new(code::BAD_DATA, error.to_string()))
}

/// FAILED for a panic.
pub(crate) fn from_panic(message: String, trace: Option<String>) -> Box<WireFailure> {
    cut(WireFailure { trace, ..WireFailure::new(code::ERROR, message) })
}

/// FAILED for a task whose handler was never begun.
pub(crate) fn not_begun(code: &str, message: impl Into<String>) -> Box<WireFailure> {
    cut(WireFailure { begun: Some(false), ..WireFailure::new(code, message) })
}

/// Takes over what `error` knows beyond words.
fn mark(failure: &mut WireFailure, error: &(dyn Error + 'static)) -> bool {
    if let Some(own) = error.downcast_ref::<Failure>() {
        failure.code.clone_from(&own.code);
        failure.retry = own.retry;
        failure.after_ms = own.after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        failure.data = own.data.as_ref().map(|data| data.as_bytes().to_vec());
        return true;
    }
    if error.is::<BadData>() {
        code::BAD_DATA.clone_into(&mut failure.code);
        return true;
    }
    if let Some(item) = error.downcast_ref::<ItemError>() {
        let code = if item.is_bad_data() {
            code::BAD_DATA
        } else if item.is_too_large() {
            code::TOO_LARGE
        } else {
            code::ERROR
        };
        code.clone_into(&mut failure.code);
        return true;
    }
    // An I/O error made from another error passes that one over when asked for its source.
    error.downcast_ref::<io::Error>().and_then(io::Error::get_ref).is_some_and(|inner| mark(failure, inner))
}

fn cut(mut failure: WireFailure) -> Box<WireFailure> {
    cut_text(&mut failure.code, CODE_BYTES_MAX);
    cut_text(&mut failure.message, MESSAGE_BYTES_MAX);
    if let Some(trace) = &mut failure.trace {
        cut_text(trace, TRACE_BYTES_MAX);
    }
    for cause in &mut failure.chain {
        cut_text(cause, CAUSE_BYTES_MAX);
    }
    Box::new(failure)
}

pub(crate) fn cut_text(text: &mut String, bytes_max: usize) {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    use stokehold_protocol::limits::MAX_FRAME_FLOOR;

    use super::*;

    #[test]
    fn a_plain_error_gives_its_words_and_its_causes_outermost_first() {
        let failure = from_error(&Failure::new("outer").caused_by(Failure::new("middle").caused_by("inner")));
        assert_eq!((failure.code.as_str(), failure.message.as_str()), ("error", "outer"));
        assert_eq!(failure.chain, ["middle", "inner"]);
        assert!(!failure.retry);
    }

    #[test]
    fn a_failure_inside_another_error_gives_its_code_and_retry() {
        let busy = Failure::new("busy").code("acme.busy").retry_after(Duration::from_millis(1500));
        let failure = from_error(&io::Error::other(busy));
        assert_eq!(failure.code, "acme.busy");
        assert_eq!((failure.retry, failure.after_ms), (true, Some(1500)));
        assert_eq!(failure.message, "busy");
    }

    #[test]
    fn a_value_for_programs_is_sent_as_it_is() {
        let failure = Failure::new("over quota").code("acme.quota").data(Data::encode(&("disk", 7)).unwrap());
        assert_eq!(from_error(&failure).data.as_deref(), Some(b"\x92\xa4disk\x07".as_slice()));
        assert_eq!(from_error(&Failure::new("plain")).data, None);
    }

    #[test]
    fn codes_that_a_child_may_not_send_become_error() {
        for (given, sent) in
            [("acme.x", "acme.x"), ("overloaded", "overloaded"), ("crashed", "error"), ("x", "error")]
        {
            assert_eq!(from_error(&Failure::new("").code(given)).code, sent);
        }
    }

    #[test]
    fn a_cancelled_one_has_its_code_and_no_retry() {
        let failure = from_error(&Failure::cancelled());
        assert_eq!(
            (failure.code.as_str(), failure.message.as_str(), failure.retry),
            ("cancelled", "cancelled", false)
        );
    }

    #[test]
    fn bad_data_keeps_its_code() {
        let error = Data::from_encoded(vec![0xc1]).unwrap_err();
        assert_eq!(from_error(&error).code, "bad_data");
    }

    #[test]
    fn the_longest_failure_fits_the_smallest_frame() {
        let long = "ü".repeat(1 << 20);
        let mut error = Failure::new(&long).code(format!("a.{long}"));
        for _ in 0..100 {
            error = Failure::new(&long).code(format!("a.{long}")).caused_by(error);
        }
        let failure = WireFailure { trace: Some(long), ..*from_error(&error) };
        let mut encoded = Vec::new();
        cut(failure).encode(&mut encoded);
        assert!(encoded.len() + 300 < MAX_FRAME_FLOOR as usize, "{}", encoded.len());
    }

    #[test]
    fn permanent_does_not_repeat_itself_in_the_chain() {
        let error = Permanent::new(Failure::new("no licence").caused_by("file missing"));
        assert_eq!(error.to_string(), "no licence");
        assert_eq!(error.source().unwrap().to_string(), "file missing");
    }
}
