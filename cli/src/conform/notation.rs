//! Values as the scripts of sessions write them (`protocol/vectors/README.md`): JSON, with an object of one key where JSON is too
//! weak, to send and to expect.

use serde_json::Value;
use stokehold_protocol::wire::{self, Marker, Reader};
use stokehold_protocol::{Message, Recipient};

use super::digits;
use super::same::{Same, compare};

/// Bytes that one value of a script may have: as many as a frame.
const BYTES_MOST: usize = stokehold_protocol::limits::FRAME_LEN_CEILING as usize;

/// What `$pid` and `$me` stand for: the address that the child was given, and the parent's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    pub(crate) child: u64,
    pub(crate) parent: u64,
}

/// A notation that says nothing is the script's fault, never the child's.
pub(crate) type Read<T> = Result<T, String>;

/// Appends the value that a notation stands for, in its shortest form.
pub(crate) fn encode(notation: &Value, names: Names, out: &mut Vec<u8>) -> Read<()> {
    match notation {
        Value::String(name) if name == "$pid" => wire::write_uint(out, names.child),
        Value::String(name) if name == "$me" => wire::write_uint(out, names.parent),
        Value::Array(items) => {
            wire::write_array_len(out, count(items.len())?);
            for item in items {
                encode(item, names, out)?;
            }
        }
        Value::Object(pairs) => match tagged(notation)? {
            Some((tag, inner)) => encode_tagged(tag, inner, names, out)?,
            None => {
                wire::write_map_len(out, count(pairs.len())?);
                for (key, value) in pairs {
                    wire::write_str(out, key);
                    encode(value, names, out)?;
                }
            }
        },
        Value::Null => wire::write_nil(out),
        Value::Bool(value) => wire::write_bool(out, *value),
        Value::String(text) => wire::write_str(out, text),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => wire::write_uint(out, number),
            (None, Some(number)) => wire::write_int(out, number),
            (None, None) => return Err(format!("{number} is no integer: a float is written as $f64")),
        },
    }
    Ok(())
}

fn encode_tagged(tag: &str, inner: &Value, names: Names, out: &mut Vec<u8>) -> Read<()> {
    let wrong = || format!("{tag} does not go with {inner}");
    match tag {
        "$int" => {
            let text = inner.as_str().ok_or_else(wrong)?;
            match (text.parse::<u64>(), text.parse::<i64>()) {
                (Ok(number), _) => wire::write_uint(out, number),
                (Err(_), Ok(number)) => wire::write_int(out, number),
                (Err(_), Err(_)) => return Err(wrong()),
            }
        }
        "$f64" => {
            let bits = inner.as_str().and_then(|digits| u64::from_str_radix(digits, 16).ok());
            wire::write_float(out, f64::from_bits(bits.ok_or_else(wrong)?));
        }
        "$bin" => wire::write_bin(out, &repeated(inner)?),
        "$str" => {
            let text = String::from_utf8(repeated(inner)?).map_err(|error| error.to_string())?;
            wire::write_str(out, &text);
        }
        "$map" => {
            let pairs = inner.as_array().ok_or_else(wrong)?;
            wire::write_map_len(out, count(pairs.len())?);
            for pair in pairs {
                let [key, value] = pair.as_array().map(Vec::as_slice).ok_or_else(wrong)? else {
                    return Err(wrong());
                };
                encode(key, names, out)?;
                encode(value, names, out)?;
            }
        }
        "$nest" => {
            let [depth, value] = inner.as_array().map(Vec::as_slice).ok_or_else(wrong)? else {
                return Err(wrong());
            };
            let depth = depth.as_u64().filter(|depth| *depth <= BYTES_MOST as u64).ok_or_else(wrong)?;
            for _ in 0..depth {
                wire::write_array_len(out, 1);
            }
            encode(value, names, out)?;
        }
        _ => return Err(format!("{tag} stands for no value")),
    }
    Ok(())
}

/// How well an encoded value fits what a script expects.
pub(crate) fn fit(found: &[u8], wanted: &Value, names: Names) -> Read<Same> {
    let marker = Reader::new(found).marker();
    let fits = |holds: bool| Ok(if holds { Same::Yes } else { Same::No });
    match wanted {
        Value::String(name) if name == "$any" => Ok(Same::Yes),
        Value::String(name) if name == "$uint" => fits(matches!(marker, Ok(Marker::Unsigned(_)))),
        Value::String(name) if name == "$text" => fits(matches!(marker, Ok(Marker::Str(_)))),
        Value::String(name) if name == "$pid" => {
            fits(matches!(marker, Ok(Marker::Unsigned(pid)) if pid == 0 || pid == names.child))
        }
        Value::String(name) if name == "$me" => fits(match marker {
            Ok(Marker::Nil) => true,
            Ok(Marker::Unsigned(pid)) => pid == names.parent,
            _ => false,
        }),
        Value::Array(wanted) => fit_array(found, wanted, names),
        Value::Object(pairs) => match tagged(wanted)? {
            Some(("$has", part)) => {
                let part = part.as_str().ok_or("$has does not go with what is no text")?;
                fits(matches!(marker, Ok(Marker::Str(text)) if text.contains(part)))
            }
            Some(("$one_of", those)) => {
                let those = those.as_array().ok_or("$one_of does not go with what is no array")?;
                let best = those.iter().map(|one| fit(found, one, names)).collect::<Read<Vec<_>>>()?;
                Ok(best.into_iter().min().unwrap_or(Same::No))
            }
            Some(_) => fit_exactly(found, wanted, names),
            None => fit_map(found, pairs, names),
        },
        _ => fit_exactly(found, wanted, names),
    }
}

fn fit_exactly(found: &[u8], wanted: &Value, names: Names) -> Read<Same> {
    let mut exact = Vec::new();
    encode(wanted, names, &mut exact)?;
    Ok(compare(&exact, found))
}

fn fit_array(found: &[u8], wanted: &[Value], names: Names) -> Read<Same> {
    let mut reader = Reader::new(found);
    if !matches!(reader.marker(), Ok(Marker::Array(len)) if len as usize == wanted.len()) {
        return Ok(Same::No);
    }
    let mut worst = Same::Yes;
    for wanted in wanted {
        let Ok(element) = reader.take_values(1) else { return Ok(Same::No) };
        worst = worst.max(fit(element, wanted, names)?);
    }
    Ok(if reader.rest().is_empty() { worst } else { Same::No })
}

/// A map with at least these pairs.
fn fit_map(found: &[u8], wanted: &serde_json::Map<String, Value>, names: Names) -> Read<Same> {
    let mut reader = Reader::new(found);
    let Ok(Marker::Map(len)) = reader.marker() else { return Ok(Same::No) };
    let mut pairs = Vec::new();
    for _ in 0..len {
        let (Ok(Marker::Str(key)), Ok(value)) = (reader.marker(), reader.take_values(1)) else {
            return Ok(Same::No);
        };
        pairs.push((key, value));
    }
    let mut worst = if reader.rest().is_empty() { Same::Yes } else { Same::No };
    for (key, wanted) in wanted {
        worst = match pairs.iter().find(|(found, _)| found == key) {
            Some((_, value)) => worst.max(fit(value, wanted, names)?),
            None => Same::No,
        };
    }
    Ok(worst)
}

/// How well the body of a frame fits a message: its data may be anything where that is expected.
pub(crate) fn fit_message(message: &Message<'_>, wanted: &[Value; 4], names: Names) -> Read<Same> {
    let [request, sender, recipient, data] = wanted;
    let mut fields = [Vec::new(), Vec::new(), Vec::new()];
    wire::write_str(&mut fields[0], message.request);
    wire::write_uint(&mut fields[1], message.sender);
    match message.recipient {
        Recipient::Anyone => wire::write_nil(&mut fields[2]),
        Recipient::Everyone => wire::write_int(&mut fields[2], -1),
        Recipient::Process(pid) => wire::write_uint(&mut fields[2], pid),
    }
    let mut worst = fit(message.data, data, names)?;
    for (found, wanted) in fields.iter().zip([request, sender, recipient]) {
        worst = worst.max(fit(found, wanted, names)?);
    }
    Ok(worst)
}

/// The key and the value of an object that stands for something else than a map.
fn tagged(notation: &Value) -> Read<Option<(&str, &Value)>> {
    let Some(pairs) = notation.as_object() else { return Ok(None) };
    match pairs.iter().find(|(key, _)| key.starts_with('$')) {
        Some((key, value)) if pairs.len() == 1 => Ok(Some((key, value))),
        Some((key, _)) => Err(format!("{key} has other keys beside it")),
        None => Ok(None),
    }
}

/// Digits, or `[digits, count]`.
fn repeated(notation: &Value) -> Read<Vec<u8>> {
    let (piece, count) = match notation {
        Value::String(digits) => (digits::unhex(digits)?, 1),
        run => digits::repeated(run)?,
    };
    match piece.len().checked_mul(count) {
        Some(len) if len <= BYTES_MOST => Ok(piece.repeat(count)),
        _ => Err(format!("{notation} has more bytes than a frame")),
    }
}

fn count(len: usize) -> Read<u32> {
    u32::try_from(len).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAMES: Names = Names { child: 7, parent: 1234 };

    fn encoded(notation: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        encode(notation, NAMES, &mut out).unwrap();
        out
    }

    fn fits(found: &Value, wanted: &Value) -> bool {
        fit(&encoded(found), wanted, NAMES).unwrap() == Same::Yes
    }

    #[test]
    fn each_notation_stands_for_its_value() {
        let values: [(Value, &[u8]); 14] = [
            (json!(null), b"\xc0"),
            (json!([true, false]), b"\x92\xc3\xc2"),
            (json!(-33), b"\xd0\xdf"),
            (json!("$me"), b"\xcd\x04\xd2"),
            (json!(["$pid", "$any"]), b"\x92\x07\xa4$any"),
            (json!({"a": 1}), b"\x81\xa1a\x01"),
            (json!({}), b"\x80"),
            (json!({"$int": "18446744073709551615"}), b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
            (json!({"$int": "-9223372036854775808"}), b"\xd3\x80\0\0\0\0\0\0\0"),
            (json!({"$f64": "3ff0000000000000"}), b"\xcb\x3f\xf0\0\0\0\0\0\0"),
            (json!({"$bin": ["c1ff", 2]}), b"\xc4\x04\xc1\xff\xc1\xff"),
            (json!({"$str": ["61", 3]}), b"\xa3aaa"),
            (json!({"$map": [["b", 1], ["a", {"$bin": "00"}]]}), b"\x82\xa1b\x01\xa1a\xc4\x01\0"),
            (json!({"$nest": [3, null]}), b"\x91\x91\x91\xc0"),
        ];
        for (notation, bytes) in values {
            assert_eq!(encoded(&notation), bytes, "{notation}");
        }
    }

    #[test]
    fn a_notation_that_is_none_is_told_and_does_no_harm() {
        let wrong = [
            json!(1.5),
            json!({"$int": "x"}),
            json!({"$f64": 1}),
            json!({"$bin": "0"}),
            json!({"$bin": ["00", 1_u64 << 40]}),
            json!({"$str": "ff"}),
            json!({"$map": [["a"]]}),
            json!({"$nest": [1_u64 << 60, null]}),
            json!({"$far": 1}),
            json!({"$int": "1", "a": 2}),
        ];
        for notation in wrong {
            assert!(encode(&notation, NAMES, &mut Vec::new()).is_err(), "{notation}");
            assert!(fit(b"\xc0", &notation, NAMES).is_err(), "{notation}");
        }
        assert!(fit(b"\xc0", &json!({"$has": 1}), NAMES).is_err());
        assert!(fit(b"\xc0", &json!({"$one_of": 1}), NAMES).is_err());
    }

    #[test]
    fn what_is_expected_may_be_said_loosely() {
        for (found, wanted) in [
            (json!(5), json!("$uint")),
            (json!("a"), json!("$text")),
            (json!("abc"), json!({"$has": "b"})),
            (json!(0), json!("$pid")),
            (json!("$pid"), json!("$pid")),
            (json!(null), json!("$me")),
            (json!("$me"), json!("$me")),
            (json!({"a": 1, "b": [2]}), json!({"b": ["$uint"]})),
            (json!({"$map": [["b", 1], ["a", 2]]}), json!({"$map": [["a", 2], ["b", 1]]})),
            (json!(2), json!({"$one_of": [1, 2]})),
            (json!("$any"), json!("$any")),
            (json!([1, {"a": null}]), json!([1, {"a": null}])),
        ] {
            assert!(fits(&found, &wanted), "{found} is {wanted}");
        }
        for (found, wanted) in [
            (json!(-5), json!("$uint")),
            (json!(null), json!("$text")),
            (json!(["abc"]), json!({"$has": "b"})),
            (json!(8), json!("$pid")),
            (json!(0), json!("$me")),
            (json!({"a": 1}), json!({"b": "$any"})),
            (json!({"a": 1, "b": 2}), json!({"$map": [["a", 1]]})),
            (json!([1]), json!([1, 2])),
            (json!([1, 2]), json!([1])),
            (json!("a"), json!({"$bin": "61"})),
            (json!(3), json!({"$one_of": [1, 2]})),
        ] {
            assert!(!fits(&found, &wanted), "{found} is not {wanted}");
        }
        assert_eq!(fit(b"\x01", &json!({"$f64": "3ff0000000000000"}), NAMES), Ok(Same::ButForNumbers));
        assert_eq!(fit(b"\x92\x01", &json!([1, 2]), NAMES), Ok(Same::No));
        assert_eq!(fit(b"\xdf\xff\xff\xff\xff\xa1a\x01", &json!({"a": 1}), NAMES), Ok(Same::No));
        assert_eq!(fit(b"\xc1", &json!("$any"), NAMES), Ok(Same::Yes));
    }
}
