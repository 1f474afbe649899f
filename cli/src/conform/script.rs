//! A script of a session (`protocol/vectors/README.md`): its text as steps, each with its line. What is done with them is the
//! player's business (`cases/session.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use stokehold_protocol::frame_header;
use stokehold_protocol::wire;

use super::case::Level;
use super::notation::{self, Names, Read};

/// How long a step waits that does not say it.
const WAIT: Duration = Duration::from_secs(8);

/// One session.
#[derive(Debug)]
pub(crate) struct Script<'a> {
    pub(crate) header: Header<'a>,
    pub(crate) steps: Vec<Step>,
}

/// The first line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header<'a> {
    schema: &'a str,
    version: u32,
    pub(crate) level: Level,
    pub(crate) strength: Strength,
    #[serde(borrow)]
    pub(crate) spec: Vec<&'a str>,
    pub(crate) why: String,
    #[serde(default)]
    pub(crate) needs: Vec<String>,
    #[serde(default)]
    pub(crate) caps: Vec<String>,
    #[serde(default = "one")]
    pub(crate) window: u32,
    pub(crate) max_frame: Option<u32>,
    #[serde(default)]
    pub(crate) env: BTreeMap<String, Option<String>>,
    #[serde(default)]
    pub(crate) io: Io,
}

/// Whether a child may have a reason to fail.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Strength {
    Must,
    Should,
}

/// What carries the frames.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Io {
    #[default]
    Stdio,
    Fd,
}

/// What one line asks for.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) action: Action,
}

/// The kinds of steps, each as its line has it.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Action {
    Open {
        open: Map<String, Value>,
    },
    Send {
        send: Frame,
    },
    SendAll {
        send_all: Vec<Frame>,
    },
    Raw {
        raw: Value,
        each: Option<usize>,
    },
    Expect {
        expect: Frame,
        within_ms: Option<u64>,
    },
    ExpectAll {
        expect_all: Vec<Frame>,
        within_ms: Option<u64>,
    },
    ExpectAnyOf {
        expect_any_of: Vec<Frame>,
        within_ms: Option<u64>,
    },
    ExpectOrExit {
        expect_or_exit: Frame,
        within_ms: Option<u64>,
    },
    Close {
        close: End,
    },
    Signal {
        signal: SignalName,
    },
    Wait {
        wait_ms: u64,
    },
    Exit {
        exit: Code,
        #[serde(default)]
        may: Vec<Frame>,
        within_ms: Option<u64>,
    },
    Stderr {
        stderr: Value,
    },
}

/// `[id, [request, sender, recipient, data]]`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Frame(pub(crate) u32, pub(crate) [Value; 4]);

/// An end of the connection.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum End {
    In,
    Out,
}

/// A signal that scripts send.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub(crate) enum SignalName {
    #[serde(rename = "INT")]
    Interrupt,
}

/// How a child is to end.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(untagged)]
pub(crate) enum Code {
    Exactly(i32),
    Kind(CodeKind),
}

/// Ends of a kind.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CodeKind {
    /// A code above 0.
    Error,
    /// Also by a signal.
    Any,
}

impl<'a> Script<'a> {
    /// Reads a script. An error says what is wrong, and in which line.
    pub(crate) fn parse(text: &'a str) -> Read<Self> {
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let (_, first) = lines.next().ok_or("an empty script")?;
        let header: Header<'a> = serde_json::from_str(first).map_err(|error| format!("line 1: {error}"))?;
        if header.schema != "stokehold-session" || header.version != 1 {
            return Err(format!("line 1: {} of version {}", header.schema, header.version));
        }
        let step = |(line, text)| match serde_json::from_str(text) {
            Ok(action) => Ok(Step { line, action }),
            Err(error) => Err(format!("line {line}: {error}")),
        };
        Ok(Self { header, steps: lines.map(step).collect::<Read<_>>()? })
    }
}

impl Action {
    /// How long it waits at most.
    pub(crate) fn limit(&self) -> Duration {
        match self {
            Self::Expect { within_ms, .. }
            | Self::ExpectAll { within_ms, .. }
            | Self::ExpectAnyOf { within_ms, .. }
            | Self::ExpectOrExit { within_ms, .. }
            | Self::Exit { within_ms, .. } => within_ms.map_or(WAIT, Duration::from_millis),
            _ => WAIT,
        }
    }
}

impl Frame {
    /// Appends the frame in its shortest form.
    pub(crate) fn encode(&self, names: Names, out: &mut Vec<u8>) -> Read<()> {
        let mut body = Vec::new();
        wire::write_array_len(&mut body, 4);
        for field in &self.1 {
            notation::encode(field, names, &mut body)?;
        }
        out.extend_from_slice(&frame_header(self.0, body.len()));
        out.append(&mut body);
        Ok(())
    }
}

/// The data of the parent's HELLO with what a script changes in it or adds.
pub(crate) fn hello(changes: &Map<String, Value>, names: Names) -> Read<Vec<u8>> {
    let mut pairs = Map::new();
    pairs.insert("v".to_owned(), 1.into());
    pairs.insert("pid".to_owned(), names.child.into());
    pairs.insert("parent".to_owned(), names.parent.into());
    pairs.insert("caps".to_owned(), Vec::<Value>::new().into());
    pairs.insert("max_frame".to_owned(), stokehold_protocol::limits::FRAME_LEN_CEILING.into());
    pairs.extend(changes.clone());
    let mut data = Vec::new();
    notation::encode(&Value::Object(pairs), names, &mut data)?;
    Ok(data)
}

fn one() -> u32 {
    1
}

#[cfg(test)]
mod tests;
