//! The body of the target `message`: a frame's body as a message, its data checked, decoded and encoded again. Nothing
//! panics, and what was read is written and read again as the same.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stokehold_protocol::wire::Reader;
use stokehold_protocol::{Data, FrameEvent, Kind, Message, Splitter, check, check_user_name, limits};

use super::stretch::stretch;

pub(crate) fn run(bytes: &[u8]) {
    let body = stretch(bytes);
    match Message::decode(&body) {
        Ok(message) => {
            head(&message, &body);
            data(message.data);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    data(&body);
}

/// The head survives a second writing, and can be read from its longest possible part.
fn head(message: &Message<'_>, body: &[u8]) {
    assert!(!message.data.is_empty(), "four fields, the last of them data");
    assert!(body.len() - message.data.len() <= limits::HEAD_BYTES_MAX);
    let part = body.get(..limits::HEAD_BYTES_MAX + 1).unwrap_or(body);
    let read = Message::decode(part).expect("the head is all there");
    assert_eq!((read.request, read.sender), (message.request, message.sender));
    let named = check_user_name(message.request);
    assert_eq!(named.is_ok(), Kind::of(message.request) == Kind::User, "{:?}", message.request);

    let mut frame = Vec::new();
    message.encode_frame(7, &mut frame);
    let mut splitter = Splitter::new();
    splitter.feed(&frame);
    let Ok(Some(FrameEvent::Frame { id: 7, body: again })) = splitter.next_frame() else {
        panic!("a frame was written")
    };
    assert!(again.len() <= body.len(), "the shortest form is written");
    assert_eq!(Message::decode(again), Ok(*message));
}

/// One value is one value to every reader.
fn data(bytes: &[u8]) {
    let checked = check(bytes);
    let value = Data::from_peer(bytes.to_vec());
    assert_eq!(Data::from_encoded(bytes.to_vec()).is_ok(), checked.is_ok());
    assert_eq!(value.decode::<Value>().is_ok(), checked.is_ok(), "{checked:?}");
    let mut reader = Reader::new(bytes);
    let skipped = reader.skip();
    if checked.is_ok() {
        assert_eq!(skipped, Ok(()));
        assert!(reader.rest().is_empty());
    }
    again::<Value>(&value);
    again::<u64>(&value);
    again::<i8>(&value);
    again::<f32>(&value);
    again::<String>(&value);
    again::<serde_bytes::ByteBuf>(&value);
    again::<Vec<Option<Value>>>(&value);
    again::<(String, u8)>(&value);
    again::<()>(&value);
    again::<Point>(&value);
    again::<Shape>(&value);
}

/// What is a `T` can be written, and is then the same `T` to the byte.
fn again<T: DeserializeOwned + Serialize>(value: &Data) {
    let Ok(first) = value.decode::<T>() else { return };
    let written = Data::encode(&first).expect("what was read can be written");
    let second = written.decode::<T>().expect("what was written can be read");
    let rewritten = Data::encode(&second).expect("and written again");
    assert_eq!(written.as_bytes(), rewritten.as_bytes());
}

#[derive(Deserialize, Serialize)]
struct Point {
    x: i32,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize, Serialize)]
enum Shape {
    Empty,
    Disc { radius: f64 },
    Pair(u8, u8),
    Nested(Box<Self>),
}

/// Any value of the data model.
enum Value {
    Nil,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Nil => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Signed(value) => serializer.serialize_i64(*value),
            Self::Unsigned(value) => serializer.serialize_u64(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Bytes(value) => serializer.serialize_bytes(value),
            Self::List(values) => values.serialize(serializer),
            Self::Map(pairs) => {
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                for (key, value) in pairs {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the data model")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Signed(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(value.to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut pairs: Vec<(String, Value)> = Vec::new();
        let mut keys = BTreeSet::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            if !keys.insert(key.clone()) {
                return Err(A::Error::custom("a key comes twice"));
            }
            pairs.push((key, value));
        }
        Ok(Value::Map(pairs))
    }
}
