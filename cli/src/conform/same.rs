//! Whether two encoded values are the same value, however each is written.

use stokehold_protocol::check;
use stokehold_protocol::wire::{self, Marker, Reader};

/// How two values compare, the best first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Same {
    Yes,
    /// Only that a whole number came back as an integer instead of a float, or the other way round.
    ButForNumbers,
    No,
}

/// Compares what came back with what was sent.
pub(crate) fn compare(sent: &[u8], got: &[u8]) -> Same {
    if sent == got {
        return Same::Yes;
    }
    if check(sent).is_err() || check(got).is_err() {
        return Same::No;
    }
    let same = |loose| plain(&mut Reader::new(sent), loose) == plain(&mut Reader::new(got), loose);
    if same(false) {
        Same::Yes
    } else if same(true) {
        Same::ButForNumbers
    } else {
        Same::No
    }
}

/// The value in one way of writing: shortest forms, keys sorted, one NaN. `loose` writes whole floats as integers.
fn plain(reader: &mut Reader<'_>, loose: bool) -> Vec<u8> {
    let mut out = Vec::new();
    match reader.marker() {
        Ok(Marker::Array(len)) => {
            wire::write_array_len(&mut out, len);
            for _ in 0..len {
                out.extend(plain(reader, loose));
            }
        }
        Ok(Marker::Map(len)) => {
            let mut pairs: Vec<_> = (0..len).map(|_| (plain(reader, loose), plain(reader, loose))).collect();
            pairs.sort();
            wire::write_map_len(&mut out, len);
            out.extend(pairs.into_iter().flat_map(|(key, value)| [key, value]).flatten());
        }
        Ok(Marker::Bin(bytes)) => wire::write_bin(&mut out, bytes),
        Ok(Marker::Bool(value)) => wire::write_bool(&mut out, value),
        Ok(Marker::Float(value)) if value.is_nan() => wire::write_float(&mut out, f64::NAN),
        #[expect(clippy::cast_possible_truncation, reason = "both sides are cut alike")]
        Ok(Marker::Float(value)) if loose && value.fract() == 0.0 && value.abs() < 1e18 => {
            write_integer(&mut out, value as i64);
        }
        Ok(Marker::Float(value)) => wire::write_float(&mut out, value),
        Ok(Marker::Negative(value)) => write_integer(&mut out, value),
        Ok(Marker::Unsigned(value)) => wire::write_uint(&mut out, value),
        Ok(Marker::Nil) | Err(_) => wire::write_nil(&mut out),
        Ok(Marker::Str(text)) => wire::write_str(&mut out, text),
    }
    out
}

fn write_integer(out: &mut Vec<u8>, value: i64) {
    match u64::try_from(value) {
        Ok(value) => wire::write_uint(out, value),
        Err(_) => {
            out.push(0xd3);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_and_the_order_of_keys_do_not_matter_and_values_do() {
        assert_eq!(compare(b"\x01", b"\xcc\x01"), Same::Yes);
        assert_eq!(compare(b"\x82\xa1a\x01\xa1b\x02", b"\x82\xa1b\x02\xa1a\x01"), Same::Yes);
        assert_eq!(compare(b"\xcb\x3f\xf0\0\0\0\0\0\0", b"\x01"), Same::ButForNumbers);
        assert_eq!(compare(b"\xcb\x7f\xf8\0\0\0\0\0\x01", b"\xcb\x7f\xf8\0\0\0\0\0\0"), Same::Yes);
        assert_eq!(compare(b"\x01", b"\x02"), Same::No);
        assert_eq!(compare(b"\xa1a", b"\xc4\x01a"), Same::No);
    }
}
