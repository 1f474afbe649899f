//! User data: one MessagePack value, encoded and decoded with serde the same way by parent and child. It does not know
//! frames.

use std::any::type_name;
use std::error::Error;
use std::fmt;
use std::hash::{Hash, Hasher};

use crate::check::check;
use crate::limits::DEPTH_MAX;
use crate::tail::{SHARED_BYTES_MIN, SharedTail};
use crate::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// One encoded value. What is made here keeps the protocol's data model; what came from a peer may not.
///
/// The model: integers from −2^63 to 2^64 − 1, floats, truth values, nil, text, byte strings, arrays, and maps with text keys
/// of which none comes twice; at most 64 levels deep; no extension types.
///
/// Structs are encoded as maps with their field names as keys. A `Vec<u8>` is an array of numbers to serde; wrap it in
/// `serde_bytes` (`#[serde(with = "serde_bytes")]` or `serde_bytes::ByteBuf`) to make it a byte string. An `i128` or `u128` is
/// a byte string of 16 bytes, big-endian: the model has no such integers. A value that nests tens of thousands of levels deep
/// overflows the stack while it is encoded, before it can be found to be too deep.
///
/// ```
/// use stokehold_protocol::Data;
///
/// let data = Data::encode(&("seven", 7))?;
/// assert_eq!(data.as_bytes(), b"\x92\xa5seven\x07");
/// assert_eq!(data.decode::<(String, u8)>()?, ("seven".to_owned(), 7));
/// assert!(Data::from_encoded(vec![0x92, 0x07]).is_err(), "an array of two with one value");
/// # Ok::<(), stokehold_protocol::BadData>(())
/// ```
///
/// A clone of a large one (16 KiB and more) shares its bytes: nothing is copied.
#[derive(Clone)]
pub struct Data(Bytes);

#[derive(Clone)]
enum Bytes {
    Own(Vec<u8>),
    Shared(SharedTail),
}

impl Data {
    fn new(bytes: Vec<u8>) -> Self {
        if bytes.len() < SHARED_BYTES_MIN {
            return Self(Bytes::Own(bytes));
        }
        Self(Bytes::Shared(SharedTail::new(bytes)))
    }

    /// nil.
    pub fn nil() -> Self {
        Self::new(vec![0xc0])
    }

    /// A text; never fails.
    pub fn text(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len().saturating_add(5));
        wire::write_str(&mut bytes, text);
        Self::new(bytes)
    }

    /// A byte string; never fails.
    pub fn bytes(bytes: &[u8]) -> Self {
        let mut out = Vec::with_capacity(bytes.len().saturating_add(5));
        wire::write_bin(&mut out, bytes);
        Self::new(out)
    }

    /// Takes bytes of a peer as they are: nothing is known of them before [`decode`](Self::decode) or [`check`] looks.
    pub fn from_peer(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }

    /// The same for bytes that have other owners.
    pub fn from_peer_shared(bytes: SharedTail) -> Self {
        Self(Bytes::Shared(bytes))
    }

    /// Encodes `value`. Fails when its `Serialize` does, or when the result breaks the data model, for instance with a map
    /// whose keys are numbers.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, BadData> {
        let mut bytes = Vec::new();
        encode_into(value, &mut bytes)?;
        Ok(Self::new(bytes))
    }

    /// Takes bytes that are encoded already. Fails unless they are exactly one value of the data model.
    pub fn from_encoded(bytes: Vec<u8>) -> Result<Self, BadData> {
        match check(&bytes) {
            Ok(()) => Ok(Self::new(bytes)),
            Err(error) => Err(BadData::new("the encoded bytes are no value of the data model", error)),
        }
    }

    /// The encoded bytes: exactly one value.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Own(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
        }
    }

    /// Gives the encoded bytes away. Copies those that a clone has too.
    pub fn into_bytes(self) -> Vec<u8> {
        match self.0 {
            Bytes::Own(bytes) => bytes,
            Bytes::Shared(bytes) => bytes.into_vec(),
        }
    }

    /// The bytes as one of several owners, if they are so many that they are shared instead of copied.
    pub fn shared(&self) -> Option<&SharedTail> {
        match &self.0 {
            Bytes::Own(_) => None,
            Bytes::Shared(bytes) => Some(bytes),
        }
    }

    /// Decodes the value. Fails when it is not a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, BadData> {
        decode(self.as_bytes())
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Data {}

impl Hash for Data {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// A value that cannot be encoded, encoded bytes against the data model, or a value of another type than expected.
///
/// A handler may return it: the task then fails with the code `bad_data`.
#[derive(Debug)]
pub struct BadData {
    what: String,
    source: Box<dyn Error + Send + Sync>,
}

impl BadData {
    fn new(what: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what: what.into(), source: source.into() }
    }
}

impl fmt::Display for BadData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

// No `source`: its words are part of the message already, and would come twice in a chain.
impl Error for BadData {}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.as_bytes().len())
    }
}

/// Appends `value` to `out`, which keeps its length if that fails.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), BadData> {
    let start = out.len();
    let mut serializer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
    let encoded = value.serialize(&mut serializer);
    let failure = match (encoded, out.get(start..).map(check)) {
        (Ok(()), Some(Ok(()))) => return Ok(()),
        (Err(error), _) => BadData::new(format!("a {} cannot be encoded", type_name::<T>()), error),
        (Ok(()), Some(Err(error))) => {
            BadData::new(format!("a {} breaks the data model when encoded", type_name::<T>()), error)
        }
        (Ok(()), None) => {
            BadData::new(format!("a {} cannot be encoded", type_name::<T>()), "the buffer shrank")
        }
    };
    out.truncate(start);
    Err(failure)
}

/// Decodes bytes from outside.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadData> {
    check_input(bytes)?;
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    // The check has bounded the nesting; this second limit only has to be wide enough for rmp-serde's own way of counting,
    // in which enums and newtypes may add levels.
    deserializer.set_max_depth(DEPTH_MAX.saturating_mul(4));
    T::deserialize(&mut deserializer)
        .map_err(|error| BadData::new(format!("it is not a {}", type_name::<T>()), error))
}

/// Checks bytes from outside: exactly one value of the data model.
pub fn check_input(bytes: &[u8]) -> Result<(), BadData> {
    check(bytes).map_err(|error| BadData::new("it is no value of the data model", error))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    struct Point {
        x: i32,
        y: i32,
    }

    #[derive(Debug, Deserialize, PartialEq, Serialize)]
    enum Shape {
        Empty,
        Disc { radius: f64 },
        Nested(Box<Self>),
    }

    #[test]
    fn structs_are_maps_with_field_names() {
        let data = Data::encode(&Point { x: 1, y: -1 }).unwrap();
        assert_eq!(data.as_bytes(), b"\x82\xa1x\x01\xa1y\xff");
        assert_eq!(data.decode::<Point>().unwrap(), Point { x: 1, y: -1 });
    }

    #[test]
    fn byte_strings_are_bin() {
        let data = Data::encode(serde_bytes::Bytes::new(b"ab")).unwrap();
        assert_eq!(data.as_bytes(), b"\xc4\x02ab");
        assert_eq!(data.decode::<serde_bytes::ByteBuf>().unwrap().into_vec(), b"ab");
    }

    #[test]
    fn enums_come_back() {
        for shape in [Shape::Empty, Shape::Disc { radius: 0.5 }, Shape::Nested(Box::new(Shape::Empty))] {
            assert_eq!(Data::encode(&shape).unwrap().decode::<Shape>().unwrap(), shape);
        }
    }

    #[test]
    fn a_value_against_the_data_model_is_refused_and_leaves_nothing() {
        let mut out = vec![1];
        let error = encode_into(&BTreeMap::from([(1, 2)]), &mut out).unwrap_err().to_string();
        assert!(error.contains("BTreeMap<i32, i32>") && error.contains("not a text"), "{error}");
        assert_eq!(out, [1]);
    }

    #[test]
    fn a_value_that_cannot_serialize_is_refused() {
        struct Stubborn;
        impl Serialize for Stubborn {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("will not"))
            }
        }
        let error = Data::encode(&Stubborn).unwrap_err().to_string();
        assert!(error.contains("Stubborn") && error.contains("will not"), "{error}");
    }

    #[test]
    fn a_wrong_type_names_the_expected_one() {
        let error = Data::encode("seven").unwrap().decode::<Point>().unwrap_err().to_string();
        assert!(error.contains("Point"), "{error}");
    }

    #[test]
    fn large_data_is_shared_and_equal_to_what_is_not() {
        let bytes = [vec![0xc6, 0, 0, 0x80, 0], vec![7; 0x8000]].concat();
        let data = Data::from_encoded(bytes.clone()).unwrap();
        let clone = data.clone();
        assert_eq!(data.as_bytes().as_ptr(), clone.as_bytes().as_ptr());
        let whole = [&b"head"[..], &bytes].concat();
        let answer = Data::from_peer_shared(SharedTail::of(whole.into(), 4));
        assert_eq!(answer, data);
        assert_eq!(clone.into_bytes(), bytes);
        assert_eq!(answer.into_bytes(), bytes);
    }

    #[test]
    fn trailing_bytes_and_truncation_are_refused() {
        assert!(decode::<u8>(&[7, 7]).is_err());
        assert!(decode::<Vec<u8>>(&[0x92, 7]).is_err());
        assert!(decode::<u8>(&[]).is_err());
    }

    #[test]
    fn the_deepest_legal_nesting_decodes_and_one_level_more_is_refused() {
        #[derive(Deserialize)]
        struct Nest(#[expect(dead_code, reason = "only its depth matters")] Vec<Self>);
        let nested = |depth: usize| [vec![0x91; depth - 1], vec![0x90]].concat();
        assert!(decode::<Nest>(&nested(DEPTH_MAX)).is_ok());
        assert!(decode::<Nest>(&nested(DEPTH_MAX + 1)).is_err());
    }
}
