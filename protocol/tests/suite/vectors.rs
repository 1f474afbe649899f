//! Runs `vectors/frames.jsonl` (format: `vectors/README.md`) against this crate: frames and lines, each judged at its stage, the
//! decoded values compared, and canonical ones written again byte by byte.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use stokehold_protocol::text::{write_line, write_message};
use stokehold_protocol::wire::{self, Marker, Reader};
use stokehold_protocol::{DataError, FrameError, FrameEvent, Message, Recipient, Splitter, check, limits};

const FILE: &str = include_str!("../../vectors/frames.jsonl");

#[test]
fn the_header_counts_the_vectors_and_their_ids_are_unique() {
    let (header, vectors) = load();
    assert_eq!(header["schema"], "stokehold-frames");
    assert_eq!(header["version"], 1);
    assert_eq!(header["max_frame"], limits::MAX_FRAME_DEFAULT);
    assert_eq!(header["count"], vectors.len());
    let lines = vectors.iter().filter(|vector| is_line(vector)).count();
    assert!(vectors.len() - lines >= 250 && lines >= 60, "{} frames, {lines} lines", vectors.len() - lines);
    let ids: BTreeSet<&str> = vectors.iter().map(|vector| text(vector, "id")).collect();
    assert_eq!(ids.len(), vectors.len());
}

#[test]
fn every_vector_names_its_rule_and_its_reason() {
    let spec = include_str!("../../SPEC.md");
    for vector in load().1 {
        let id = text(&vector, "id");
        assert!(!text(&vector, "why").is_empty(), "{id}");
        assert!(
            spec.contains(&format!("**[{}]**", text(&vector, "spec"))),
            "{id}: {} is not in SPEC.md",
            vector["spec"]
        );
        let rejected = text(&vector, "verdict") == "reject";
        assert_eq!(
            rejected,
            vector.get("error").is_some(),
            "{id}: a rejected vector names its error, others have none"
        );
    }
}

#[test]
fn every_session_names_its_rules_and_its_reason() {
    let spec = include_str!("../../SPEC.md");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/sessions");
    let mut sessions = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let script = std::fs::read_to_string(&path).unwrap();
        let name = path.display();
        assert!(script.is_ascii() && script.ends_with('\n'), "{name}");
        let lines: Vec<Json> = script.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let header = &lines[0];
        assert_eq!(
            (&header["schema"], &header["version"]),
            (&"stokehold-session".into(), &1.into()),
            "{name}"
        );
        assert!(["L2", "L3"].contains(&text(header, "level")), "{name}");
        assert!(["must", "should"].contains(&text(header, "strength")), "{name}");
        assert!(!text(header, "why").is_empty(), "{name}");
        let rules = header["spec"].as_array().unwrap();
        assert!(!rules.is_empty(), "{name}");
        for rule in rules {
            let rule = rule.as_str().unwrap();
            assert!(spec.contains(&format!("**[{rule}]**")), "{name}: {rule} is not in SPEC.md");
        }
        assert!(lines.iter().any(|step| step.get("exit").is_some()), "{name} does not end");
        sessions += 1;
    }
    assert!(sessions >= 100, "{sessions} sessions");
}

#[test]
fn every_vector_behaves_as_it_says() {
    let mut wrong = Vec::new();
    for vector in load().1 {
        let bytes = bytes(&vector["bytes"]);
        let found = judge(&vector, &bytes);
        let expected = match text(&vector, "verdict") {
            "reject" => format!("{} {}", text(&vector, "stage"), text(&vector, "error")),
            "accept" => "accept".to_owned(),
            // Either outcome is right; not crashing was the test.
            _ => continue,
        };
        if found != expected {
            wrong.push(format!(
                "{}: {found}, not {expected} ({})",
                text(&vector, "id"),
                text(&vector, "why")
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn accepted_vectors_hold_the_values_they_say() {
    for vector in load().1.iter().filter(|vector| vector.get("msg").is_some()) {
        let id = text(vector, "id");
        let body = body(vector);
        let message = Message::decode(&body).unwrap();
        let recipient = match message.recipient {
            Recipient::Anyone => Value::Nil,
            Recipient::Everyone => Value::Int(-1),
            Recipient::Process(pid) => Value::Int(pid.into()),
        };
        let data = Value::read(&mut Reader::new(message.data)).unwrap();
        let head =
            [Value::Str(message.request.to_owned()), Value::Int(message.sender.into()), recipient, data];
        assert!(Value::Array(head.to_vec()) == Value::of(&vector["msg"]), "{id}: another value");
    }
}

#[test]
fn canonical_vectors_are_written_again_byte_by_byte_and_others_are_not() {
    let mut canonical = 0;
    for vector in load().1.iter().filter(|vector| vector.get("msg").is_some()) {
        let (id, bytes, body) = (text(vector, "id"), bytes(&vector["bytes"]), body(vector));
        let message = Message::decode(&body).unwrap();
        let mut data = Vec::new();
        Value::read(&mut Reader::new(message.data)).unwrap().write(&mut data);
        let mut again = Vec::new();
        let task = u32::try_from(vector["task"].as_u64().unwrap()).unwrap();
        Message { data: &data, ..message }.encode_frame(task, &mut again);
        if is_line(vector) {
            let mut line = Vec::new();
            write_message(&mut line, &again[limits::FRAME_HEADER_BYTES..]).unwrap();
            again.clear();
            write_line(&mut again, task, &line);
        }
        assert!((again == bytes) == vector["canonical"].as_bool().unwrap(), "{id}");
        canonical += u32::from(again == bytes);
    }
    assert!(canonical >= 100, "{canonical}");
}

/// What this crate says: `accept`, or the stage and the error.
fn judge(vector: &Json, bytes: &[u8]) -> String {
    let id = text(vector, "id");
    let mut splitter = splitter(vector);
    if let Some(max) = vector.get("max_frame") {
        splitter.set_max_frame(u32::try_from(max.as_u64().unwrap()).unwrap());
    }
    splitter.feed(bytes);
    let task = vector.get("task").and_then(Json::as_u64);
    let body = match splitter.next_frame() {
        Err(FrameError::Desync { .. }) => return "frame desync".to_owned(),
        Err(error) => return format!("frame {error}"),
        Ok(Some(FrameEvent::TooLarge { id: found, head, .. })) => {
            assert_eq!(Some(u64::from(found)), task, "{id}");
            assert!(Message::decode(head).is_ok(), "{id}: the head of a skipped frame can be read");
            assert_eq!(splitter.next_frame(), Ok(None), "{id}");
            assert_eq!(splitter.finish().is_err(), vector.get("partial").is_some(), "{id}");
            return "frame too_large".to_owned();
        }
        Ok(Some(FrameEvent::BadLine { id: found, .. })) => {
            assert_eq!(Some(u64::from(found)), task, "{id}");
            return "head bad_message".to_owned();
        }
        Ok(Some(FrameEvent::BadData { id: found, head, .. })) => {
            assert_eq!(Some(u64::from(found)), task, "{id}");
            assert!(Message::decode(head).is_ok(), "{id}: the head of a line with bad data can be read");
            return "data bad_data".to_owned();
        }
        Ok(None) => {
            let ended = splitter.finish();
            let ended =
                matches!(ended, Err(FrameError::Truncated { .. } | FrameError::UnfinishedLine { .. }));
            return if ended { "frame truncated" } else { "nothing" }.to_owned();
        }
        Ok(Some(FrameEvent::Frame { id: found, body })) => {
            assert_eq!(Some(u64::from(found)), task, "{id}");
            body.to_vec()
        }
    };
    assert_eq!(splitter.next_frame(), Ok(None), "{id}: one frame a vector");
    assert_eq!(splitter.finish(), Ok(()), "{id}");
    let Ok(message) = Message::decode(&body) else { return "head bad_message".to_owned() };
    if check(message.data).is_err() { "data bad_data".to_owned() } else { "accept".to_owned() }
}

/// Whether it is a line of text mode.
fn is_line(vector: &Json) -> bool {
    vector.get("carrier").is_some_and(|carrier| carrier == "text")
}

fn splitter(vector: &Json) -> Splitter {
    if is_line(vector) { Splitter::lines() } else { Splitter::new() }
}

/// The body of a vector that is accepted.
fn body(vector: &Json) -> Vec<u8> {
    let mut splitter = splitter(vector);
    splitter.feed(&bytes(&vector["bytes"]));
    match splitter.next_frame() {
        Ok(Some(FrameEvent::Frame { body, .. })) => body.to_vec(),
        other => panic!("{}: {other:?}", text(vector, "id")),
    }
}

fn load() -> (Json, Vec<Json>) {
    let mut lines = FILE.lines().map(|line| serde_json::from_str::<Json>(line).expect(line));
    (lines.next().unwrap(), lines.collect())
}

fn text<'a>(vector: &'a Json, key: &str) -> &'a str {
    vector[key].as_str().unwrap_or_else(|| panic!("{vector}: {key} is missing"))
}

fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// `[hex, count]`: bytes that repeat.
fn repeated(run: &Json) -> Vec<u8> {
    hex(run[0].as_str().unwrap()).repeat(usize::try_from(run[1].as_u64().unwrap()).unwrap())
}

/// A stream in the files' notation.
pub(crate) fn bytes(json: &Json) -> Vec<u8> {
    match json {
        Json::String(digits) => hex(digits),
        Json::Array(parts) => parts.iter().flat_map(bytes).collect(),
        _ => repeated(&json["repeat"]),
    }
}

/// A value of the data model, floats by their bits.
#[derive(Clone, PartialEq)]
pub(crate) enum Value {
    Nil,
    Bool(bool),
    Int(i128),
    Float(u64),
    Str(String),
    Bin(Vec<u8>),
    Array(Vec<Self>),
    Map(Vec<(Self, Self)>),
}

impl Value {
    /// From the file's JSON with its tags.
    pub(crate) fn of(json: &Json) -> Self {
        let tagged = |tag| json.get(tag);
        match json {
            Json::Null => Self::Nil,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(value) => Self::Int(value.as_i64().unwrap().into()),
            Json::String(value) => Self::Str(value.clone()),
            Json::Array(items) => Self::Array(items.iter().map(Self::of).collect()),
            Json::Object(_) => {
                if let Some(digits) = tagged("$int") {
                    return Self::Int(digits.as_str().unwrap().parse().unwrap());
                }
                if let Some(digits) = tagged("$f64") {
                    return Self::Float(u64::from_str_radix(digits.as_str().unwrap(), 16).unwrap());
                }
                if let Some(run) = tagged("$str") {
                    return Self::Str(String::from_utf8(repeated(run)).unwrap());
                }
                if let Some(bin) = tagged("$bin") {
                    return Self::Bin(bin.as_str().map_or_else(|| repeated(bin), hex));
                }
                let pairs = tagged("$map").unwrap().as_array().unwrap();
                Self::Map(pairs.iter().map(|pair| (Self::of(&pair[0]), Self::of(&pair[1]))).collect())
            }
        }
    }

    /// From bytes that [`check`] has passed, so the recursion is at most 64 deep.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DataError> {
        Ok(match reader.marker()? {
            Marker::Nil => Self::Nil,
            Marker::Bool(value) => Self::Bool(value),
            Marker::Unsigned(value) => Self::Int(value.into()),
            Marker::Negative(value) => Self::Int(value.into()),
            Marker::Float(value) => Self::Float(value.to_bits()),
            Marker::Str(value) => Self::Str(value.to_owned()),
            Marker::Bin(value) => Self::Bin(value.to_vec()),
            Marker::Array(len) => {
                Self::Array((0..len).map(|_| Self::read(reader)).collect::<Result<_, _>>()?)
            }
            Marker::Map(len) => {
                Self::Map((0..len).map(|_| Ok((Self::read(reader)?, Self::read(reader)?))).collect::<Result<
                    _,
                    DataError,
                >>(
                )?)
            }
        })
    }

    /// In its shortest form.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => wire::write_nil(out),
            Self::Bool(value) => wire::write_bool(out, *value),
            Self::Int(value) => match u64::try_from(*value) {
                Ok(value) => wire::write_uint(out, value),
                Err(_) => write_negative(out, i64::try_from(*value).unwrap()),
            },
            Self::Float(bits) => wire::write_float(out, f64::from_bits(*bits)),
            Self::Str(value) => wire::write_str(out, value),
            Self::Bin(value) => wire::write_bin(out, value),
            Self::Array(items) => {
                wire::write_array_len(out, u32::try_from(items.len()).unwrap());
                items.iter().for_each(|item| item.write(out));
            }
            Self::Map(pairs) => {
                wire::write_map_len(out, u32::try_from(pairs.len()).unwrap());
                for (key, value) in pairs {
                    key.write(out);
                    value.write(out);
                }
            }
        }
    }
}

/// The crate's writers know no negative integers: no head and no payload of the protocol has one but −1.
fn write_negative(out: &mut Vec<u8>, value: i64) {
    if value >= -32 {
        out.push(value.to_be_bytes()[7]);
    } else if let Ok(value) = i8::try_from(value) {
        out.extend([0xd0, value.to_be_bytes()[0]]);
    } else if let Ok(value) = i16::try_from(value) {
        out.push(0xd1);
        out.extend(value.to_be_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        out.push(0xd2);
        out.extend(value.to_be_bytes());
    } else {
        out.push(0xd3);
        out.extend(value.to_be_bytes());
    }
}
