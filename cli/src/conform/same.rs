//! Whether two encoded values are the same value, however each is written.

use stokehold_protocol::check;
use stokehold_protocol::wire::{Marker, Reader};

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
    same(&Node::read(&mut Reader::new(sent)), &Node::read(&mut Reader::new(got)))
}

/// Whether −0.0 was sent, and 0.0 came back.
pub(crate) fn loses_its_sign(sent: &[u8], got: &[u8]) -> bool {
    let zero = |data| match Reader::new(data).marker() {
        Ok(Marker::Float(value)) if value == 0.0 => Some(value.is_sign_negative()),
        _ => None,
    };
    zero(sent) == Some(true) && zero(got) == Some(false)
}

/// A value, whatever widths it was written in.
#[derive(PartialEq)]
enum Node<'a> {
    Nil,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Str(&'a str),
    Bin(&'a [u8]),
    Array(Vec<Self>),
    /// Its keys in their order.
    Map(Vec<(&'a str, Self)>),
}

impl<'a> Node<'a> {
    /// Reads a value that was checked.
    fn read(reader: &mut Reader<'a>) -> Self {
        match reader.marker() {
            Ok(Marker::Array(len)) => Self::Array((0..len).map(|_| Self::read(reader)).collect()),
            Ok(Marker::Map(len)) => {
                let mut pairs: Vec<_> = (0..len).map(|_| (key(reader), Self::read(reader))).collect();
                pairs.sort_by_key(|(key, _)| *key);
                Self::Map(pairs)
            }
            Ok(Marker::Bin(bytes)) => Self::Bin(bytes),
            Ok(Marker::Bool(value)) => Self::Bool(value),
            Ok(Marker::Float(value)) => Self::Float(value),
            Ok(Marker::Negative(value)) => Self::Integer(value.into()),
            Ok(Marker::Unsigned(value)) => Self::Integer(value.into()),
            Ok(Marker::Str(text)) => Self::Str(text),
            Ok(Marker::Nil) | Err(_) => Self::Nil,
        }
    }
}

/// The key of a map that was checked.
fn key<'a>(reader: &mut Reader<'a>) -> &'a str {
    match reader.marker() {
        Ok(Marker::Str(key)) => key,
        _ => "",
    }
}

fn same(sent: &Node<'_>, got: &Node<'_>) -> Same {
    match (sent, got) {
        (Node::Array(sent), Node::Array(got)) if sent.len() == got.len() => worst(sent.iter().zip(got)),
        (Node::Map(sent), Node::Map(got))
            if sent.iter().map(|(key, _)| key).eq(got.iter().map(|(key, _)| key)) =>
        {
            worst(sent.iter().zip(got).map(|((_, sent), (_, got))| (sent, got)))
        }
        // One NaN is as good as another, and −0.0 is not 0.0.
        (Node::Float(sent), Node::Float(got)) => {
            let is_same = sent.to_bits() == got.to_bits() || sent.is_nan() && got.is_nan();
            if is_same { Same::Yes } else { Same::No }
        }
        #[expect(clippy::cast_possible_truncation, reason = "a float without a fraction below that fits")]
        (Node::Float(float), Node::Integer(integer)) | (Node::Integer(integer), Node::Float(float))
            if float.fract() == 0.0 && float.abs() < 1e20 && *float as i128 == *integer =>
        {
            Same::ButForNumbers
        }
        (sent, got) if sent == got => Same::Yes,
        _ => Same::No,
    }
}

fn worst<'a>(mut pairs: impl Iterator<Item = (&'a Node<'a>, &'a Node<'a>)>) -> Same {
    let worse = |so_far: Same, (sent, got)| Some(so_far.max(same(sent, got))).filter(|it| *it != Same::No);
    pairs.try_fold(Same::Yes, worse).unwrap_or(Same::No)
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
        assert_eq!(compare(b"\x92\xcb\x3f\xf0\0\0\0\0\0\0\x02", b"\x92\x01\x02"), Same::ButForNumbers);
        assert_eq!(compare(b"\x92\xcb\x3f\xf0\0\0\0\0\0\0\x02", b"\x92\x01\x03"), Same::No);
        assert_eq!(compare(b"\x81\xa0\x01", b"\x80"), Same::No);
        assert_eq!(compare(b"\x01", b"\x02"), Same::No);
        assert_eq!(compare(b"\xa1a", b"\xc4\x01a"), Same::No);
    }

    #[test]
    fn a_zero_that_lost_its_sign_is_another_value() {
        let (minus, plus) = (b"\xcb\x80\0\0\0\0\0\0\0", b"\xcb\0\0\0\0\0\0\0\0");
        assert_eq!(compare(minus, b"\xca\x80\0\0\0"), Same::Yes);
        assert_eq!(compare(minus, plus), Same::No);
        assert!(loses_its_sign(minus, plus) && !loses_its_sign(plus, minus));
        // A language without the difference writes it as an integer.
        assert_eq!(compare(minus, b"\0"), Same::ButForNumbers);
        assert!(!loses_its_sign(minus, b"\0"));
    }
}
