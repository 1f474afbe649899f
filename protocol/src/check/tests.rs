//! Tests of the check of `data`: each rule, every truncation, and input made to exhaust stack or memory.

use super::*;

fn nested(depth: usize) -> Vec<u8> {
    let mut data = vec![0x91; depth - 1];
    data.push(0x90);
    data
}

#[test]
fn plain_values_pass() {
    for data in [
        &b"\xc0"[..],
        b"\x00",
        b"\xff",
        b"\xc3",
        b"\xa0",
        b"\xa1a",
        b"\xc4\x00",
        b"\x80",
        b"\x90",
        b"\x82\xa1a\x01\xa1b\x02",
    ] {
        assert_eq!(check(data), Ok(()), "{data:02x?}");
    }
}

#[test]
fn sixty_four_levels_pass_and_one_more_does_not() {
    assert_eq!(check(&nested(DEPTH_MAX)), Ok(()));
    assert_eq!(check(&nested(DEPTH_MAX + 1)), Err(DataError::TooDeep));
    let maps = [b"\x81\xa1k".repeat(DEPTH_MAX - 1), b"\x80".to_vec()].concat();
    assert_eq!(check(&maps), Ok(()));
    let maps = [b"\x81\xa1k".repeat(DEPTH_MAX), b"\x80".to_vec()].concat();
    assert_eq!(check(&maps), Err(DataError::TooDeep));
}

#[test]
fn a_scalar_at_the_deepest_level_passes() {
    let data = [vec![0x91; DEPTH_MAX], vec![0xc0]].concat();
    assert_eq!(check(&data), Ok(()));
}

#[test]
fn siblings_do_not_add_up_to_depth() {
    let mut data = vec![0xdc, 0x03, 0xe8];
    data.extend(std::iter::repeat_n([0x91, 0xc0], 1_000).flatten());
    assert_eq!(check(&data), Ok(()));
}

#[test]
fn equal_keys_of_one_map_fail_and_of_two_maps_do_not() {
    assert_eq!(check(b"\x82\xa1a\x01\xa1a\x02"), Err(DataError::DuplicateKey));
    assert_eq!(check(b"\x82\xa1a\x01\xd9\x01a\x02"), Err(DataError::DuplicateKey), "equal in another width");
    assert_eq!(check(b"\x82\xa1a\x81\xa1a\x01\xa1b\x81\xa1a\x02"), Ok(()));
    assert_eq!(check(b"\x81\xa1a\x82\xa1b\x01\xa1b\x02"), Err(DataError::DuplicateKey));
    assert_eq!(
        check(b"\x83\xa1a\x81\xa1b\x01\xa1c\x02\xa1a\x03"),
        Err(DataError::DuplicateKey),
        "around a nested map"
    );
}

#[test]
fn keys_must_be_texts() {
    for key in [&b"\x01"[..], b"\xc0", b"\xc4\x01a", b"\xcb\0\0\0\0\0\0\0\0", b"\x90", b"\x80", b"\xc2"] {
        let data = [b"\x81", key, b"\x01"].concat();
        assert_eq!(check(&data), Err(DataError::KeyNotText), "{data:02x?}");
    }
}

#[test]
fn extension_types_fail_in_every_width() {
    for data in [
        &b"\xd4\x01\x00"[..],
        b"\xd5\x01\0\0",
        b"\xd6\xff\0\0\0\0",
        b"\xd7\xff\0\0\0\0\0\0\0\0",
        b"\xd8\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\xc7\x01\x05a",
        b"\xc8\x00\x01\x05a",
        b"\xc9\x00\x00\x00\x01\x05a",
    ] {
        assert_eq!(check(data), Err(DataError::Extension), "{data:02x?}");
    }
}

#[test]
fn the_reserved_byte_fails_wherever_a_value_may_stand() {
    for data in [&b"\xc1"[..], b"\x91\xc1", b"\x81\xa1a\xc1", b"\x81\xc1\x01"] {
        assert_eq!(check(data), Err(DataError::ReservedByte), "{data:02x?}");
    }
    assert_eq!(check(b"\xc4\x01\xc1"), Ok(()), "inside a byte string it is a byte");
}

#[test]
fn bytes_behind_the_value_fail() {
    assert_eq!(check(b"\xc0\xc0"), Err(DataError::TrailingBytes));
    assert_eq!(check(b"\x90\x00"), Err(DataError::TrailingBytes));
    assert_eq!(check(b"\x81\xa1a\x01\xc1"), Err(DataError::TrailingBytes));
}

#[test]
fn texts_must_be_utf8_and_byte_strings_need_not() {
    for bad in [
        &b"\xa1\xff"[..],
        b"\xa2\xc3\x28",
        b"\xa3\xed\xa0\x80",
        b"\xa2\xc0\x80",
        b"\xd9\x01\x80",
        b"\x81\xa1\xff\x01",
    ] {
        assert_eq!(check(bad), Err(DataError::InvalidUtf8), "{bad:02x?}");
    }
    assert_eq!(check(b"\xc4\x02\xff\x80"), Ok(()));
}

#[test]
fn every_truncation_fails_as_truncated() {
    let mut data = Vec::new();
    data.extend_from_slice(
        b"\x86\xa1a\xcb\0\0\0\0\0\0\0\0\xa1b\xcf\0\0\0\0\0\0\0\x01\xa1c\x93\x01\xc4\x02xy\xd9\x02zz",
    );
    data.extend_from_slice(
        b"\xa1d\xde\0\x01\xa1e\xdc\0\x01\xca\0\0\0\0\xa1f\xdb\0\0\0\x01g\xa1h\xc6\0\0\0\x01i",
    );
    assert_eq!(check(&data), Ok(()));
    for len in 0..data.len() {
        assert_eq!(check(&data[..len]), Err(DataError::Truncated), "cut at {len}");
    }
}

#[test]
fn a_hundred_thousand_levels_need_no_stack() {
    let deep = std::thread::Builder::new()
        .stack_size(256 * 1024)
        .spawn(|| {
            let data = vec![0x91; 100_000];
            let maps = b"\x81\xa1k".repeat(100_000);
            let mut reader = Reader::new(&data);
            (check(&data), check(&maps), reader.skip())
        })
        .unwrap();
    let expected = (Err(DataError::TooDeep), Err(DataError::TooDeep), Err(DataError::Truncated));
    assert_eq!(deep.join().unwrap(), expected);
}

#[test]
fn false_counts_of_four_billion_end_at_once() {
    for mark in [
        &b"\xdd\xff\xff\xff\xff"[..],
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ] {
        assert_eq!(check(mark), Err(DataError::Truncated));
        assert_eq!(Reader::new(mark).skip(), Err(DataError::Truncated));
        let within = [b"\x91", mark, b"\xa1a"].concat();
        assert_eq!(check(&within), Err(DataError::Truncated));
    }
    let nested = b"\xdf\xff\xff\xff\xff\xa0".repeat(64);
    assert_eq!(check(&nested), Err(DataError::Truncated));
}
