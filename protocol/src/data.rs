//! User data: one MessagePack value, encoded and decoded with serde the same way by both sides.
//!
//! Structs are written as maps with their field names, so that other languages read `data["width"]` and fields may be added;
//! enum variants by name; `serde_bytes` types as byte strings. What leaves or enters is checked against the data model
//! (SPEC 5): text keys only, no extension types, at most 64 levels.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::check::check;
use crate::error::DataError;
use crate::limits::DEPTH_MAX;

/// One encoded value, left as it is: for callers that carry payloads without looking into them.
///
/// ```
/// use stokehold_protocol::Data;
///
/// let data = Data::encode(&("a line", 3))?;
/// assert_eq!(data.decode::<(String, u32)>()?, ("a line".to_owned(), 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Eq, PartialEq)]
pub struct Data(Vec<u8>);

/// A value cannot be written as data.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// serde or MessagePack cannot express it.
    #[error("it cannot be serialised: {0}")]
    Serialise(#[from] rmp_serde::encode::Error),
    /// It can be expressed, but not in the protocol's data model.
    #[error("it does not fit the data model: {0}")]
    Model(#[from] DataError),
}

/// Data cannot be read as the type that was asked for.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It is no value of the data model.
    #[error("it is no valid data: {0}")]
    Model(#[from] DataError),
    /// It is a valid value of another shape.
    #[error("it is not a {expected}: {error}")]
    Shape {
        /// The type that was asked for.
        expected: &'static str,
        /// What serde says.
        error: rmp_serde::decode::Error,
    },
}

impl Data {
    /// Encodes `value`.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        let mut bytes = Vec::new();
        encode_into(value, &mut bytes)?;
        Ok(Self(bytes))
    }

    /// Takes bytes that are encoded already, and checks that they are one value of the data model.
    pub fn from_encoded(bytes: Vec<u8>) -> Result<Self, DataError> {
        check(&bytes)?;
        Ok(Self(bytes))
    }

    /// A text as data; never fails.
    pub fn text(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len().saturating_add(5));
        crate::wire::write_str(&mut bytes, text);
        Self(bytes)
    }

    /// A byte string as data; never fails.
    pub fn bytes(bytes: &[u8]) -> Self {
        let mut out = Vec::with_capacity(bytes.len().saturating_add(5));
        crate::wire::write_bin(&mut out, bytes);
        Self(out)
    }

    /// Takes bytes of a peer as they are, unchecked: [`decode`](Self::decode) checks.
    pub fn from_peer(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Decodes it.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        decode(&self.0)
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The encoded bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.0.len())
    }
}

/// Appends `value` to `out`. On an error `out` is as before.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let mut serializer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
    let result = value
        .serialize(&mut serializer)
        .map_err(EncodeError::from)
        .and_then(|()| check(out.get(start..).unwrap_or_default()).map_err(EncodeError::from));
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Decodes data: checked first, then read with a depth limit, nothing left behind.
pub fn decode<T: DeserializeOwned>(data: &[u8]) -> Result<T, DecodeError> {
    check(data)?;
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(data);
    // serde counts a level for some values that the data model does not: twice the limit never refuses what passed the check.
    deserializer.set_max_depth(DEPTH_MAX.saturating_mul(2));
    T::deserialize(&mut deserializer)
        .map_err(|error| DecodeError::Shape { expected: std::any::type_name::<T>(), error })
}
