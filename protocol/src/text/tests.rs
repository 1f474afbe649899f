//! Tests of text mode: one line each way.

use super::*;
use crate::{Message, Recipient};

/// The body of a line, and its id.
fn read(line: &[u8]) -> Result<(u32, Vec<u8>), LineError> {
    let mut body = vec![7];
    let id = read_line(line, &mut body)?;
    Ok((id, body.split_off(1)))
}

/// The data of a line whose fourth field is `json`.
fn data(json: &str) -> Result<Vec<u8>, DataError> {
    match read(format!("[\"DO\",0,null,{json}]").as_bytes()) {
        Ok((_, body)) => Ok(Message::decode(&body).unwrap().data.to_vec()),
        Err(LineError::Data { error, .. }) => Err(error),
        // None of the cases is for this one.
        Err(_) => Err(DataError::WrongType),
    }
}

/// What is written of that data.
fn json(data: &[u8]) -> Result<String, DataError> {
    let body = [b"\x94\xa2DO\x00\xc0", data].concat();
    let mut out = b"x".to_vec();
    write_message(&mut out, &body)?;
    let text = String::from_utf8(out).unwrap();
    Ok(text.strip_prefix("x[\"DO\",0,null,").unwrap().strip_suffix(']').unwrap().to_owned())
}

fn message_error(line: &[u8]) -> (u32, MessageError) {
    match read(line) {
        Err(LineError::Message { id, error }) => (id, error),
        other => panic!("{}: {other:?}", String::from_utf8_lossy(line)),
    }
}

#[test]
fn a_line_is_the_frame_with_the_same_id() {
    let (id, body) = read(b"7 [\"DO\",1234,12345,{\"value\":20}]").unwrap();
    assert_eq!(id, 7);
    let message = Message::decode(&body).unwrap();
    assert_eq!((message.request, message.sender, message.recipient), ("DO", 1234, Recipient::Process(12345)));
    assert_eq!(message.data, b"\x81\xa5value\x14");
    let mut line = Vec::new();
    write_message(&mut line, &body).unwrap();
    let mut whole = Vec::new();
    write_line(&mut whole, id, &line);
    assert_eq!(whole, b"7 [\"DO\",1234,12345,{\"value\":20}]\n");
}

#[test]
fn without_an_id_it_has_the_id_0_and_spaces_mean_nothing() {
    for line in [
        &b"[\"READY\",0,null,null]"[..],
        b"0 [\"READY\",0,null,null]",
        b"0  ",
        b"[ \"\\u0052EADY\" ,\t0 , null , null ]  \r",
    ] {
        match read(line) {
            Ok((0, body)) => assert_eq!(body, b"\x94\xa5READY\x00\xc0\xc0"),
            other => assert_eq!((line, other), (&b"0  "[..], Err(LineError::Stray))),
        }
    }
}

#[test]
fn what_begins_like_no_message_is_stray() {
    for line in [
        "hello",
        "07 [1]",
        "4294967296 [1]",
        "-1 [1]",
        "7[1]",
        "7",
        "7 ",
        " [1]",
        "7 {}",
        "\u{feff}[1]",
        "+7 [1]",
    ] {
        assert_eq!(read(line.as_bytes()), Err(LineError::Stray), "{line}");
    }
    assert_eq!(read(b"4294967295 [\"DO\",0,null,1]").unwrap().0, u32::MAX);
}

#[test]
fn the_head_is_judged_as_that_of_a_frame() {
    let cases: [(&str, MessageError); 12] = [
        ("[]", MessageError::FieldCount(0)),
        ("[\"DO\",0,null]", MessageError::FieldCount(3)),
        ("[\"DO\",0,null,1,2]", MessageError::FieldCount(5)),
        ("[1,0,null,1]", MessageError::BadRequest),
        ("[\"\",0,null,1]", MessageError::BadRequest),
        ("[[\"DO\"],0,null,1]", MessageError::BadRequest),
        ("[\"\\ud800\",0,null,1]", MessageError::BadRequest),
        ("[\"DO\",-1,null,1]", MessageError::BadSender),
        ("[\"DO\",1.0,null,1]", MessageError::BadSender),
        ("[\"DO\",9007199254740992,null,1]", MessageError::BadSender),
        ("[\"DO\",0,0,1]", MessageError::BadRecipient),
        ("[\"DO\",0,-2,1]", MessageError::BadRecipient),
    ];
    for (array, error) in cases {
        assert_eq!(message_error(format!("9 {array}").as_bytes()), (9, error), "{array}");
    }
    assert!(read(b"[\"DO\",0,-1,1]").is_ok());
    let long = "x".repeat(256);
    assert_eq!(message_error(format!("[\"{long}\",0,null,1]").as_bytes()).1, MessageError::BadRequest);
}

#[test]
fn what_is_no_json_says_where() {
    let cases: [(&str, u32); 22] = [
        ("[\"DO\",0,null,1", 14),
        ("[\"DO\",0,null,]", 13),
        ("[\"DO\",0,null,1]]", 15),
        ("[\"DO\",0,null,1] x", 16),
        ("[\"DO\",0,null,{]", 14),
        ("[\"DO\",0,null,{\"a\"}]", 17),
        ("[\"DO\",0,null,{\"a\":1,}]", 20),
        ("[\"DO\",0,null,{1:1}]", 14),
        ("[\"DO\",0,null,[1}]", 15),
        ("[\"DO\",0,null,[1 2]]", 16),
        ("[\"DO\",0,null,nul]", 14),
        ("[\"DO\",0,null,01]", 14),
        ("[\"DO\",0,null,1.]", 15),
        ("[\"DO\",0,null,1e]", 15),
        ("[\"DO\",0,null,-]", 14),
        ("[\"DO\",0,null,+1]", 13),
        ("[\"DO\",0,null,.5]", 13),
        ("[\"DO\",0,null,NaN]", 13),
        ("[\"DO\",0,null,\"\\x\"]", 15),
        ("[\"DO\",0,null,\"\\u12g4\"]", 18),
        ("[\"DO\",0,null,\"a\tb\"]", 15),
        ("[\"DO\",0,null,'a']", 13),
    ];
    for (array, at) in cases {
        assert_eq!(message_error(array.as_bytes()), (0, MessageError::NotJson { at }), "{array}");
    }
    // Broken JSON is no message, whatever stands before it.
    let line = b"5 [\"DO\",0,null,{\"a\":1,\"a\":1}";
    assert!(matches!(message_error(line), (5, MessageError::NotJson { .. })));
}

#[test]
fn every_kind_of_value_goes_there_and_back() {
    let cases: [(&[u8], &str); 26] = [
        (b"\xc0", "null"),
        (b"\xc2", "false"),
        (b"\xc3", "true"),
        (b"\x00", "0"),
        (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
        (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808"),
        (b"\xe0", "-32"),
        (b"\xd0\xdf", "-33"),
        (b"\xd1\xff\x7f", "-129"),
        (b"\xd2\xff\xff\x7f\xff", "-32769"),
        (b"\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00", "1.0"),
        (b"\xcb\x80\x00\x00\x00\x00\x00\x00\x00", "-0.0"),
        (b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", "0.1"),
        (b"\xcb\x00\x00\x00\x00\x00\x00\x00\x01", "5e-324"),
        (b"\xcb\x7f\xef\xff\xff\xff\xff\xff\xff", "1.7976931348623157e308"),
        (b"\xa0", "\"\""),
        (b"\xa7\"\\/\x00\x1f\n\t", "\"\\\"\\\\/\\u0000\\u001f\\n\\t\""),
        (b"\xa4\xf0\x9f\x9a\xa2", "\"\u{1f6a2}\""),
        (b"\xc4\x00", "{\"$bin\":\"\"}"),
        (b"\xc4\x02\xfb\xff", "{\"$bin\":\"+/8=\"}"),
        (b"\x90", "[]"),
        (b"\x80", "{}"),
        (b"\x92\x91\x01\x82\xa1b\x01\xa1a\x90", "[[1],{\"b\":1,\"a\":[]}]"),
        (b"\x81\xa4$bin\xa2AA", "{\"$$bin\":\"AA\"}"),
        (b"\x81\xa2$$\x81\xa1$\xc4\x01\x00", "{\"$$$\":{\"$$\":{\"$bin\":\"AA==\"}}}"),
        (b"\x82\xa4$bin\xa2AA\xa1a\x01", "{\"$bin\":\"AA\",\"a\":1}"),
    ];
    for (bytes, text) in cases {
        assert_eq!(json(bytes).unwrap(), text);
        assert_eq!(data(text).unwrap(), bytes, "{text}");
    }
}

#[test]
fn other_ways_to_write_the_same_are_read() {
    let cases: [(&str, &[u8]); 9] = [
        ("-0", b"\x00"),
        ("1E0", b"\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"),
        ("1e-999", b"\xcb\x00\x00\x00\x00\x00\x00\x00\x00"),
        ("\"\\u00e9\\/\\b\\f\\r\"", b"\xa6\xc3\xa9/\x08\x0c\r"),
        ("\"\\ud83d\\uDEA2\"", b"\xa4\xf0\x9f\x9a\xa2"),
        ("\"\x7f\"", b"\xa1\x7f"),
        (" { \"\\u0024bin\" : \"Z\\u0067\" } ", b"\xc4\x01f"),
        ("{\"$bin\":\"Zm8\"}", b"\xc4\x02fo"),
        ("[ ]", b"\x90"),
    ];
    for (text, bytes) in cases {
        assert_eq!(data(text).unwrap(), bytes, "{text}");
    }
}

#[test]
fn what_is_json_and_no_value_is_bad_data() {
    let cases: [(&str, DataError); 19] = [
        ("18446744073709551616", DataError::IntegerRange),
        ("-9223372036854775809", DataError::IntegerRange),
        (&"9".repeat(400), DataError::IntegerRange),
        ("1e309", DataError::NotFinite),
        ("{\"a\":1,\"a\":2}", DataError::DuplicateKey),
        ("[{\"a\":1,\"\\u0061\":2}]", DataError::DuplicateKey),
        ("\"\\ud800\"", DataError::LoneSurrogate),
        ("\"\\ud800x\"", DataError::LoneSurrogate),
        ("\"\\ud800\\n\"", DataError::LoneSurrogate),
        ("\"\\ud800\\ud800\"", DataError::LoneSurrogate),
        ("\"\\udea2\\ud83d\"", DataError::LoneSurrogate),
        ("{\"\\udc00\":1}", DataError::LoneSurrogate),
        ("{\"$bin\":1}", DataError::BadBytes),
        ("{\"$bin\":\"A\"}", DataError::BadBytes),
        ("{\"$bin\":{\"$bin\":\"\"}}", DataError::BadBytes),
        ("{\"$bin\":null}", DataError::BadBytes),
        ("{\"$\":1}", DataError::UnknownMark),
        ("{\"$date\":1}", DataError::UnknownMark),
        ("[[{\"$x\":\"\"}]]", DataError::UnknownMark),
    ];
    for (text, error) in cases {
        assert_eq!(data(text), Err(error), "{text}");
    }
    let mut body = Vec::new();
    let line = b"3 [\"FINISHED\",0,null,\"\xff\"]";
    assert_eq!(read_line(line, &mut body), Err(LineError::Data { id: 3, error: DataError::InvalidUtf8 }));
    assert_eq!(body, b"\x94\xa8FINISHED\x00\xc0\xc0", "the head is there");
}

#[test]
fn the_deepest_value_is_read_and_written_and_one_level_more_is_refused() {
    let nested = |depth: usize, inner: &str| "[".repeat(depth) + inner + &"]".repeat(depth);
    for inner in ["", "{\"$bin\":\"AA==\"}"] {
        let bytes = data(&nested(DEPTH, inner)).unwrap();
        assert_eq!(json(&bytes).unwrap(), nested(DEPTH, inner));
        assert_eq!(data(&nested(DEPTH + 1, inner)), Err(DataError::TooDeep));
    }
    for depth in [DEPTH + 2, DEPTH + 3, 100_000] {
        assert_eq!(data(&nested(depth, "1")), Err(DataError::TooDeep));
    }
    let flood = [&b"1 "[..], &b"[".repeat(100_000)].concat();
    assert_eq!(message_error(&flood), (1, MessageError::BadRequest));
}

const DEPTH: usize = crate::limits::DEPTH_MAX;

#[test]
fn what_has_no_form_is_refused_and_leaves_nothing() {
    for bits in [0x7ff8_0000_0000_0000_u64, 0x7ff0_0000_0000_0000, 0xfff0_0000_0000_0000] {
        let mut nested = vec![0x91, 0xcb];
        nested.extend_from_slice(&bits.to_be_bytes());
        assert_eq!(json(&nested), Err(DataError::NotFinite));
    }
    assert_eq!(json(b"\xca\x7f\xc0\x00\x00"), Err(DataError::NotFinite));
    let mut out = b"x".to_vec();
    assert!(write_message(&mut out, b"\x94\xa2DO\x00\xc0\x92\x01\xca\x7f\xc0\x00\x00").is_err());
    assert_eq!(out, b"x");
    assert_eq!(json(b"\xc1"), Err(DataError::ReservedByte));
    assert_eq!(json(b"\x81\x01\x01"), Err(DataError::KeyNotText));
    assert_eq!(json(b"\x92\x01"), Err(DataError::Truncated));
    assert_eq!(write_message(&mut Vec::new(), b"\x93\x01"), Err(DataError::WrongType));
}

#[test]
fn frames_become_lines_and_one_that_cannot_is_counted() {
    let mut frames = Vec::new();
    for (id, data) in [(0, &b"\xc0"[..]), (5, b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), (6, b"\x01")] {
        let message = Message { request: "ITEM", sender: 1, recipient: Recipient::Anyone, data };
        message.encode_frame(id, &mut frames);
    }
    let mut lines = Vec::new();
    assert_eq!(write_lines(&mut lines, &frames), 1);
    assert_eq!(lines, b"0 [\"ITEM\",1,null,null]\n6 [\"ITEM\",1,null,1]\n");
}
