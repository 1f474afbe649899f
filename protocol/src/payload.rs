//! The `data` of protocol requests: maps with text keys, unknown keys ignored, read leniently and written in full.

use crate::error::{DataError, PeerError};
use crate::limits::{
    ADDRESS_MAX, FRAME_LEN_CEILING, LIST_ENTRIES_MAX, MAX_FRAME_DEFAULT, MAX_FRAME_FLOOR, NAME_BYTES_MAX,
    TEXT_BYTES_MAX,
};
use crate::request::Capabilities;
use crate::wire::{self, Marker, Reader};

mod talk;

pub use talk::{LogLine, Progress};

/// The version of the protocol that this crate speaks.
pub const VERSION: u64 = 1;

/// A child's HELLO: who it is and what it can take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChildHello {
    /// The version it chose from the offer.
    pub version: u64,
    /// How many unanswered tasks it takes, at least 1.
    pub window: u32,
    /// How many bytes of unanswered tasks it takes; one frame is always allowed.
    pub window_bytes: Option<u64>,
    /// What it can do besides.
    pub capabilities: Capabilities,
    /// The largest `len` it reads.
    pub max_frame: u32,
    /// Whether it works in order and answers before it goes on, so that its oldest unanswered task is to blame for its
    /// death. READY and CREDIT may change it later.
    pub serial: bool,
    /// Name and version of its SDK.
    pub sdk: String,
    /// The names it serves; empty means any.
    pub methods: Vec<String>,
    /// Whether this HELLO is its READY too.
    pub ready: bool,
}

impl Default for ChildHello {
    fn default() -> Self {
        Self {
            version: VERSION,
            window: 1,
            window_bytes: None,
            capabilities: Capabilities::NONE,
            max_frame: MAX_FRAME_DEFAULT,
            serial: true,
            sdk: String::new(),
            methods: Vec::new(),
            ready: false,
        }
    }
}

impl ChildHello {
    /// Appends it as one value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let optional =
            u32::from(self.window_bytes.is_some()).saturating_add(u32::from(!self.methods.is_empty()));
        wire::write_map_len(out, optional.saturating_add(7));
        wire::write_str(out, "v");
        wire::write_uint(out, self.version);
        wire::write_str(out, "window");
        wire::write_uint(out, u64::from(self.window));
        wire::write_str(out, "caps");
        write_capabilities(out, self.capabilities);
        wire::write_str(out, "max_frame");
        wire::write_uint(out, u64::from(self.max_frame));
        wire::write_str(out, "serial");
        wire::write_bool(out, self.serial);
        wire::write_str(out, "sdk");
        wire::write_str(out, &self.sdk);
        wire::write_str(out, "ready");
        wire::write_bool(out, self.ready);
        if let Some(bytes) = self.window_bytes {
            wire::write_str(out, "window_bytes");
            wire::write_uint(out, bytes);
        }
        if !self.methods.is_empty() {
            wire::write_str(out, "methods");
            wire::write_array_len(out, u32::try_from(self.methods.len()).unwrap_or(u32::MAX));
            for method in &self.methods {
                wire::write_str(out, method);
            }
        }
    }

    /// Reads it. `v` must be there; everything else has a default.
    pub fn decode(data: &[u8]) -> Result<Self, PeerError> {
        let mut hello = Self { version: 0, ..Self::default() };
        let mut serial = None;
        read_map("HELLO", data, |key, reader| {
            match key {
                "v" => hello.version = uint(reader)?,
                "window" => hello.window = clamp_u32(uint(reader)?),
                "window_bytes" => hello.window_bytes = Some(uint(reader)?),
                "caps" => hello.capabilities = read_capabilities(reader)?,
                "max_frame" => hello.max_frame = max_frame(reader)?,
                "serial" => serial = Some(boolean(reader)?),
                "sdk" => hello.sdk = text(reader)?,
                "methods" => hello.methods = texts(reader)?,
                "ready" => hello.ready = boolean(reader)?,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        if hello.version == 0 {
            return Err(bad("HELLO", "`v`, the version, is missing"));
        }
        hello.window = hello.window.max(1);
        hello.serial = serial.unwrap_or(hello.window == 1);
        Ok(hello)
    }
}

/// A parent's HELLO: its answer to the child's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParentHello {
    /// The version of the connection.
    pub version: u64,
    /// The child's address.
    pub pid: u64,
    /// The parent's address.
    pub parent: u64,
    /// What the parent can do besides.
    pub capabilities: Capabilities,
    /// The largest `len` it reads.
    pub max_frame: u32,
    /// Whether the child may look for frames a moment before it sleeps for them (SPEC W-13).
    pub spin: bool,
}

impl ParentHello {
    /// Appends it as one value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        wire::write_map_len(out, 5 + u32::from(!self.spin));
        wire::write_str(out, "v");
        wire::write_uint(out, self.version);
        wire::write_str(out, "pid");
        wire::write_uint(out, self.pid);
        wire::write_str(out, "parent");
        wire::write_uint(out, self.parent);
        wire::write_str(out, "caps");
        write_capabilities(out, self.capabilities);
        wire::write_str(out, "max_frame");
        wire::write_uint(out, u64::from(self.max_frame));
        if !self.spin {
            wire::write_str(out, "spin");
            wire::write_bool(out, false);
        }
    }

    /// Reads it; every key has a default.
    pub fn decode(data: &[u8]) -> Result<Self, PeerError> {
        let mut hello = Self {
            version: VERSION,
            pid: 0,
            parent: 0,
            capabilities: Capabilities::NONE,
            max_frame: MAX_FRAME_DEFAULT,
            spin: true,
        };
        read_map("HELLO", data, |key, reader| {
            match key {
                "v" => hello.version = uint(reader)?,
                "pid" => hello.pid = address(reader)?,
                "parent" => hello.parent = address(reader)?,
                "caps" => hello.capabilities = read_capabilities(reader)?,
                "max_frame" => hello.max_frame = max_frame(reader)?,
                "spin" => hello.spin = boolean(reader)?,
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        Ok(hello)
    }
}

/// The data of FAILED.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Failure {
    /// What kind of failure, one of [`crate::code`] or the user's own with a dot.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether running the task again may help. Absent means no.
    pub retry: bool,
    /// Not before so many milliseconds.
    pub after_ms: Option<u64>,
    /// Whether the handler had begun. Absent means yes.
    pub begun: Option<bool>,
    /// Where it happened: a backtrace or stack trace, as text.
    pub trace: Option<String>,
    /// The causes behind the message, outermost first.
    pub chain: Vec<String>,
    /// Anything more, one encoded value.
    pub data: Option<Vec<u8>>,
}

impl Failure {
    /// A failure with a code and words.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), ..Self::default() }
    }

    /// The same without its `data`, which is the first to go where there is no room for all of it; the message says so.
    #[must_use]
    pub fn without_data(mut self) -> Self {
        if let Some(data) = self.data.take() {
            let words = format!("{} (its data, {} bytes, could not be sent)", self.message, data.len());
            self.message = words.trim_start().to_owned();
        }
        self
    }

    /// Appends it as one value. Texts are cut at [`TEXT_BYTES_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let optional = [
            self.after_ms.is_some(),
            self.begun.is_some(),
            self.trace.is_some(),
            !self.chain.is_empty(),
            self.data.is_some(),
        ];
        let present = optional.iter().filter(|present| **present).count();
        wire::write_map_len(out, u32::try_from(present).unwrap_or(0).saturating_add(3));
        wire::write_str(out, "code");
        wire::write_str(out, cut(&self.code));
        wire::write_str(out, "message");
        wire::write_str(out, cut(&self.message));
        wire::write_str(out, "retry");
        wire::write_bool(out, self.retry);
        if let Some(after) = self.after_ms {
            wire::write_str(out, "after_ms");
            wire::write_uint(out, after);
        }
        if let Some(begun) = self.begun {
            wire::write_str(out, "begun");
            wire::write_bool(out, begun);
        }
        if let Some(trace) = &self.trace {
            wire::write_str(out, "trace");
            wire::write_str(out, cut(trace));
        }
        if !self.chain.is_empty() {
            wire::write_str(out, "chain");
            wire::write_array_len(out, u32::try_from(self.chain.len()).unwrap_or(u32::MAX));
            for cause in &self.chain {
                wire::write_str(out, cut(cause));
            }
        }
        if let Some(data) = &self.data {
            wire::write_str(out, "data");
            out.extend_from_slice(data);
        }
    }

    /// Reads it. Never fails: data that is no map is taken as the message (SPEC 6.5), keys of a wrong type are ignored.
    pub fn decode(data: &[u8]) -> Self {
        let mut failure = Self { code: crate::code::ERROR.to_owned(), ..Self::default() };
        let read = read_map("FAILED", data, |key, reader| {
            let before = *reader;
            reader.skip()?;
            let mut value = before;
            match key {
                "code" => failure.code = text(&mut value).unwrap_or(failure.code.clone()),
                "message" => failure.message = lenient_text(&mut value),
                "retry" => failure.retry = boolean(&mut value).unwrap_or(false),
                "after_ms" => failure.after_ms = uint(&mut value).ok(),
                "begun" => failure.begun = boolean(&mut value).ok(),
                "trace" => failure.trace = Some(lenient_text(&mut value)),
                "chain" => failure.chain = texts(&mut value).unwrap_or_default(),
                "data" => {
                    let len = before.rest().len().saturating_sub(reader.rest().len());
                    failure.data = before.rest().get(..len).map(<[u8]>::to_vec);
                }
                _ => {}
            }
            Ok(())
        });
        if read.is_err() && failure.message.is_empty() {
            failure.message = lenient_text(&mut Reader::new(data));
        }
        failure
    }
}

/// The data of READY, and of CREDIT with id 0: what has changed in the way a child works.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Credit {
    /// The window from now on; `None` if it stays.
    pub(crate) window: Option<u32>,
    /// Whether the oldest unanswered task is to blame for a death from now on; `None` if that stays.
    pub(crate) serial: Option<bool>,
}

impl Credit {
    /// Appends it as one value, with the keys that say something.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        wire::write_map_len(out, u32::from(self.window.is_some()) + u32::from(self.serial.is_some()));
        if let Some(window) = self.window {
            wire::write_str(out, "window");
            wire::write_uint(out, u64::from(window));
        }
        if let Some(serial) = self.serial {
            wire::write_str(out, "serial");
            wire::write_bool(out, serial);
        }
    }

    /// Reads it; nil says nothing. `request` is for the error.
    pub(crate) fn decode(request: &'static str, data: &[u8]) -> Result<Self, PeerError> {
        let mut credit = Self::default();
        if !is_nil(data) {
            read_map(request, data, |key, reader| {
                match key {
                    "window" => credit.window = Some(clamp_u32(uint(reader)?)),
                    "serial" => credit.serial = Some(boolean(reader)?),
                    _ => reader.skip()?,
                }
                Ok(())
            })?;
        }
        Ok(credit)
    }
}

/// The data of DIE.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Die {
    /// Drop everything and exit, instead of finishing what was received.
    pub now: bool,
    /// How long until the parent uses force.
    pub grace_ms: Option<u64>,
    /// For people.
    pub reason: Option<String>,
}

impl Die {
    /// Appends it as one value: nil when it says nothing.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if *self == Self::default() {
            return wire::write_nil(out);
        }
        let len = 1 + u32::from(self.grace_ms.is_some()) + u32::from(self.reason.is_some());
        wire::write_map_len(out, len);
        wire::write_str(out, "now");
        wire::write_bool(out, self.now);
        if let Some(grace) = self.grace_ms {
            wire::write_str(out, "grace_ms");
            wire::write_uint(out, grace);
        }
        if let Some(reason) = &self.reason {
            wire::write_str(out, "reason");
            wire::write_str(out, cut_to(reason, NAME_BYTES_MAX));
        }
    }

    /// Reads it.
    pub fn decode(data: &[u8]) -> Result<Self, PeerError> {
        let mut die = Self::default();
        if !is_nil(data) {
            read_map("DIE", data, |key, reader| {
                match key {
                    "now" => die.now = boolean(reader)?,
                    "grace_ms" => die.grace_ms = Some(uint(reader)?),
                    "reason" => die.reason = Some(text(reader)?),
                    _ => reader.skip()?,
                }
                Ok(())
            })?;
        }
        Ok(die)
    }
}

/// The data of META: about the request in the next frame.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Meta {
    /// Which attempt this is, from 1.
    pub attempt: Option<u32>,
    /// How long it may run, from the handler's start.
    pub deadline_ms: Option<u64>,
    /// The key by which a handler can tell that it did this before.
    pub key: Option<String>,
    /// W3C trace context.
    pub traceparent: Option<String>,
}

impl Meta {
    /// Appends it as one value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let present = [
            self.attempt.is_some(),
            self.deadline_ms.is_some(),
            self.key.is_some(),
            self.traceparent.is_some(),
        ];
        let present = present.iter().filter(|present| **present).count();
        wire::write_map_len(out, u32::try_from(present).unwrap_or(0));
        if let Some(attempt) = self.attempt {
            wire::write_str(out, "attempt");
            wire::write_uint(out, u64::from(attempt));
        }
        if let Some(deadline) = self.deadline_ms {
            wire::write_str(out, "deadline_ms");
            wire::write_uint(out, deadline);
        }
        if let Some(key) = &self.key {
            wire::write_str(out, "key");
            wire::write_str(out, cut_to(key, NAME_BYTES_MAX));
        }
        if let Some(traceparent) = &self.traceparent {
            wire::write_str(out, "traceparent");
            wire::write_str(out, cut_to(traceparent, NAME_BYTES_MAX));
        }
    }

    /// Reads it.
    pub fn decode(data: &[u8]) -> Result<Self, PeerError> {
        let mut meta = Self::default();
        read_map("META", data, |key, reader| {
            match key {
                "attempt" => meta.attempt = Some(clamp_u32(uint(reader)?)),
                "deadline_ms" => meta.deadline_ms = Some(uint(reader)?),
                "key" => meta.key = Some(text(reader)?),
                "traceparent" => meta.traceparent = Some(text(reader)?),
                _ => reader.skip()?,
            }
            Ok(())
        })?;
        Ok(meta)
    }
}

/// Whether `data` is nil.
fn is_nil(data: &[u8]) -> bool {
    data == [0xc0]
}

fn bad(request: &'static str, detail: &'static str) -> PeerError {
    PeerError::BadProtocolData { request, detail }
}

/// Calls `entry` for each key; `entry` must read or skip the value.
fn read_map<'a>(
    request: &'static str,
    data: &'a [u8],
    mut entry: impl FnMut(&'a str, &mut Reader<'a>) -> Result<(), DataError>,
) -> Result<(), PeerError> {
    let mut reader = Reader::new(data);
    let Ok(Marker::Map(len)) = reader.marker() else { return Err(bad(request, "a map was expected")) };
    for _ in 0..len {
        match reader.marker() {
            Ok(Marker::Str(key)) => {
                entry(key, &mut reader).map_err(|_| bad(request, "a value has a wrong type"))?
            }
            _ => return Err(bad(request, "a key is no text, or the map ends too early")),
        }
    }
    if reader.rest().is_empty() { Ok(()) } else { Err(bad(request, "bytes follow the map")) }
}

/// An integer from zero on. One that arrives as a float counts too: some languages have no other number, and some encoders
/// write large integers that way.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the guard leaves whole numbers up to 2^53"
)]
fn uint(reader: &mut Reader<'_>) -> Result<u64, DataError> {
    match reader.marker()? {
        Marker::Unsigned(value) => Ok(value),
        Marker::Float(value) if (0.0..=FLOAT_WHOLE_MAX).contains(&value) && value.fract() == 0.0 => {
            Ok(value as u64)
        }
        _ => Err(DataError::Truncated),
    }
}

/// 2^53: up to here every whole number is a float.
const FLOAT_WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// An address, or 0 for none given. A larger one could not be written into a message.
fn address(reader: &mut Reader<'_>) -> Result<u64, DataError> {
    uint(reader).and_then(|value| if value <= ADDRESS_MAX { Ok(value) } else { Err(DataError::Truncated) })
}

/// A `max_frame`, brought into the range that may be announced: above it no frame exists, below it protocol requests would
/// not fit.
fn max_frame(reader: &mut Reader<'_>) -> Result<u32, DataError> {
    Ok(clamp_u32(uint(reader)?).clamp(MAX_FRAME_FLOOR, FRAME_LEN_CEILING))
}

fn boolean(reader: &mut Reader<'_>) -> Result<bool, DataError> {
    match reader.marker()? {
        Marker::Bool(value) => Ok(value),
        _ => Err(DataError::Truncated),
    }
}

fn text(reader: &mut Reader<'_>) -> Result<String, DataError> {
    match reader.marker()? {
        Marker::Str(value) => Ok(cut(value).to_owned()),
        _ => Err(DataError::InvalidUtf8),
    }
}

/// A text, or whatever there is, described.
fn lenient_text(reader: &mut Reader<'_>) -> String {
    match reader.marker() {
        Ok(Marker::Str(value)) => cut(value).to_owned(),
        Ok(Marker::Bin(bytes)) => {
            let text = String::from_utf8_lossy(bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes));
            // A byte that is no text becomes a mark of three.
            cut(&text).to_owned()
        }
        Ok(Marker::Nil) | Err(_) => String::new(),
        Ok(Marker::Unsigned(value)) => value.to_string(),
        Ok(Marker::Negative(value)) => value.to_string(),
        Ok(Marker::Float(value)) => value.to_string(),
        Ok(Marker::Bool(value)) => value.to_string(),
        Ok(Marker::Array(_) | Marker::Map(_)) => "(a structured value)".to_owned(),
    }
}

fn texts(reader: &mut Reader<'_>) -> Result<Vec<String>, DataError> {
    let Marker::Array(len) = reader.marker()? else { return Err(DataError::Truncated) };
    let mut texts = Vec::new();
    for _ in 0..len {
        if texts.len() < LIST_ENTRIES_MAX {
            texts.push(text(reader)?);
        } else {
            reader.skip()?;
        }
    }
    Ok(texts)
}

fn read_capabilities(reader: &mut Reader<'_>) -> Result<Capabilities, DataError> {
    let mut capabilities = Capabilities::NONE;
    let Marker::Array(len) = reader.marker()? else { return Err(DataError::Truncated) };
    for _ in 0..len {
        match reader.marker()? {
            Marker::Str(name) => capabilities.insert_name(name),
            _ => return Err(DataError::InvalidUtf8),
        }
    }
    Ok(capabilities)
}

fn write_capabilities(out: &mut Vec<u8>, capabilities: Capabilities) {
    wire::write_array_len(out, u32::try_from(capabilities.iter().count()).unwrap_or(0));
    for capability in capabilities.iter() {
        wire::write_str(out, capability.name());
    }
}

fn clamp_u32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// The text, cut at a character's edge so that it stays within [`TEXT_BYTES_MAX`].
fn cut(text: &str) -> &str {
    cut_to(text, TEXT_BYTES_MAX)
}

fn cut_to(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or(text)
}

#[cfg(test)]
mod tests;
