//! Tests of the markers: every width is read, the shortest is written, nothing is read past the end.

use super::*;

fn read(bytes: &[u8]) -> Result<Marker<'_>, DataError> {
    let mut reader = Reader::new(bytes);
    let marker = reader.marker()?;
    if reader.rest().is_empty() { Ok(marker) } else { Err(DataError::TrailingBytes) }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

#[test]
fn integers_are_read_in_every_width_and_sign() {
    for bytes in [
        &b"\x07"[..],
        b"\xcc\x07",
        b"\xcd\0\x07",
        b"\xce\0\0\0\x07",
        b"\xcf\0\0\0\0\0\0\0\x07",
        b"\xd0\x07",
        b"\xd1\0\x07",
        b"\xd2\0\0\0\x07",
        b"\xd3\0\0\0\0\0\0\0\x07",
    ] {
        assert_eq!(read(bytes), Ok(Marker::Unsigned(7)), "{bytes:02x?}");
    }
    for bytes in [
        &b"\xff"[..],
        b"\xd0\xff",
        b"\xd1\xff\xff",
        b"\xd2\xff\xff\xff\xff",
        b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        assert_eq!(read(bytes), Ok(Marker::Negative(-1)), "{bytes:02x?}");
    }
    assert_eq!(read(b"\xd3\x80\0\0\0\0\0\0\0"), Ok(Marker::Negative(i64::MIN)));
    assert_eq!(read(b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), Ok(Marker::Unsigned(u64::MAX)));
    assert_eq!(read(b"\xe0"), Ok(Marker::Negative(-32)));
}

#[test]
fn integers_are_written_in_the_shortest_width() {
    for (value, len) in [
        (0, 1),
        (0x7f, 1),
        (0x80, 2),
        (0xff, 2),
        (0x100, 3),
        (0xffff, 3),
        (0x1_0000, 5),
        (0xffff_ffff, 5),
        (0x1_0000_0000, 9),
        (u64::MAX, 9),
    ] {
        let bytes = written(|out| write_uint(out, value));
        assert_eq!(bytes.len(), len, "{value}");
        assert_eq!(read(&bytes), Ok(Marker::Unsigned(value)));
    }
}

#[test]
fn texts_and_byte_strings_are_written_in_the_shortest_width() {
    for (len, mark) in [(0, 1), (31, 1), (32, 2), (255, 2), (256, 3), (65_535, 3), (65_536, 5)] {
        let text = "x".repeat(len);
        let bytes = written(|out| write_str(out, &text));
        assert_eq!(bytes.len(), len + mark);
        assert_eq!(read(&bytes), Ok(Marker::Str(&text)));
        let bytes = written(|out| write_bin(out, text.as_bytes()));
        assert_eq!(bytes.len(), len + mark.max(2));
        assert_eq!(read(&bytes), Ok(Marker::Bin(text.as_bytes())));
    }
}

#[test]
fn counts_are_written_in_the_shortest_width() {
    for (count, len) in [(0, 1), (15, 1), (16, 3), (65_535, 3), (65_536, 5), (u32::MAX, 5)] {
        let bytes = written(|out| write_array_len(out, count));
        assert_eq!((bytes.len(), read(&bytes)), (len, Ok(Marker::Array(count))));
        let bytes = written(|out| write_map_len(out, count));
        assert_eq!((bytes.len(), read(&bytes)), (len, Ok(Marker::Map(count))));
    }
}

#[test]
fn floats_keep_their_bits() {
    for bits in
        [0, 1 << 63, f64::NAN.to_bits(), f64::INFINITY.to_bits(), 0x7ff0_0000_0000_0001, 1.0_f64.to_bits()]
    {
        let bytes = written(|out| write_float(out, f64::from_bits(bits)));
        let Ok(Marker::Float(value)) = read(&bytes) else { panic!("a float was expected") };
        assert_eq!(value.to_bits(), bits);
    }
    assert_eq!(read(b"\xca\x3f\x80\0\0"), Ok(Marker::Float(1.0)));
}

#[test]
fn scalars_round_trip() {
    assert_eq!(read(&written(write_nil)), Ok(Marker::Nil));
    assert_eq!(read(&written(|out| write_bool(out, true))), Ok(Marker::Bool(true)));
    assert_eq!(read(&written(|out| write_bool(out, false))), Ok(Marker::Bool(false)));
}

#[test]
fn every_first_byte_alone_is_read_or_refused() {
    for mark in 0..=0xff_u8 {
        let alone = [mark];
        let mut reader = Reader::new(&alone);
        match reader.marker() {
            Ok(_) => assert!(reader.rest().is_empty()),
            Err(error) => assert!(
                matches!(error, DataError::Truncated | DataError::ReservedByte | DataError::Extension),
                "{mark:02x}: {error}"
            ),
        }
    }
}

#[test]
fn skip_stops_exactly_behind_the_value() {
    let bytes = b"\x82\xa1a\x93\x01\x02\x80\xa1b\xdc\x00\x01\xc0\x2a";
    let mut reader = Reader::new(bytes);
    assert_eq!(reader.skip(), Ok(()));
    assert_eq!(reader.rest(), [0x2a]);
}
