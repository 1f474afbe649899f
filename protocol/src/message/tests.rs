//! Tests of the head of a message: every legal width, every wrong field, every truncation.

use super::*;
use crate::error::MessageError::{BadRecipient, BadRequest, BadSender, FieldCount, NotAnArray, Truncated};

/// `["DO", 1234, 12345, {"value": 20}]`, the example of the specification.
const EXAMPLE: &[u8] = b"\x94\xa2DO\xcd\x04\xd2\xcd\x30\x39\x81\xa5value\x14";

fn head(bytes: &[u8]) -> Result<(&str, u64, Recipient), MessageError> {
    Message::decode(bytes).map(|message| (message.request, message.sender, message.recipient))
}

#[test]
fn the_example_of_the_specification_reads_and_writes() {
    let message = Message::decode(EXAMPLE).unwrap();
    assert_eq!(
        (message.request, message.sender, message.recipient),
        ("DO", 1234, Recipient::Process(12_345))
    );
    assert_eq!(message.data, b"\x81\xa5value\x14");
    let mut out = Vec::new();
    message.encode_frame(7, &mut out);
    assert_eq!(out, [b"\0\0\0\x16\0\0\0\x07", EXAMPLE].concat());
}

#[test]
fn every_width_of_every_field_is_read() {
    let arrays = [&b"\x94"[..], b"\xdc\0\x04", b"\xdd\0\0\0\x04"];
    let requests = [&b"\xa2DO"[..], b"\xd9\x02DO", b"\xda\0\x02DO", b"\xdb\0\0\0\x02DO"];
    let fives = [
        &b"\x05"[..],
        b"\xcc\x05",
        b"\xcd\0\x05",
        b"\xce\0\0\0\x05",
        b"\xcf\0\0\0\0\0\0\0\x05",
        b"\xd0\x05",
        b"\xd1\0\x05",
        b"\xd2\0\0\0\x05",
        b"\xd3\0\0\0\0\0\0\0\x05",
    ];
    let everyone = [
        &b"\xff"[..],
        b"\xd0\xff",
        b"\xd1\xff\xff",
        b"\xd2\xff\xff\xff\xff",
        b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    for array in arrays {
        for request in requests {
            for sender in fives {
                let recipients = fives.map(|bytes| (bytes, Recipient::Process(5)));
                let rest = everyone.map(|bytes| (bytes, Recipient::Everyone));
                let anyone = [(&b"\xc0"[..], Recipient::Anyone)];
                for (bytes, recipient) in recipients.into_iter().chain(rest).chain(anyone) {
                    let body = [array, request, sender, bytes, b"\xc0"].concat();
                    assert_eq!(head(&body), Ok(("DO", 5, recipient)), "{body:02x?}");
                }
            }
        }
    }
}

#[test]
fn wrong_fields_are_named() {
    let cases: [(&[u8], MessageError); 22] = [
        (b"\x81\xa1a\x01", NotAnArray),
        (b"\xc0", NotAnArray),
        (b"\xa2DO", NotAnArray),
        (b"\xc1", NotAnArray),
        (b"\xd4\x01\x00", NotAnArray),
        (b"\x90", FieldCount(0)),
        (b"\x93\xa2DO\x01\xc0", FieldCount(3)),
        (b"\x95\xa2DO\x01\xc0\xc0\xc0", FieldCount(5)),
        (b"\xdd\xff\xff\xff\xff", FieldCount(u32::MAX)),
        (b"\x94\xa0\x01\xc0\xc0", BadRequest),
        (b"\x94\x01\x01\xc0\xc0", BadRequest),
        (b"\x94\xc4\x02DO\x01\xc0\xc0", BadRequest),
        (b"\x94\xa2\xff\xff\x01\xc0\xc0", BadRequest),
        (b"\x94\xa2DO\xff\xc0\xc0", BadSender),
        (b"\x94\xa2DO\xc0\xc0\xc0", BadSender),
        (b"\x94\xa2DO\xcf\x00\x20\0\0\0\0\0\0\xc0\xc0", BadSender),
        (b"\x94\xa2DO\xcb\x3f\xf0\0\0\0\0\0\0\xc0\xc0", BadSender),
        (b"\x94\xa2DO\x01\x00\xc0", BadRecipient),
        (b"\x94\xa2DO\x01\xfe\xc0", BadRecipient),
        (b"\x94\xa2DO\x01\xcf\x00\x20\0\0\0\0\0\0\xc0", BadRecipient),
        (b"\x94\xa2DO\x01\x93\x01\x02\x03\xc0", BadRecipient),
        (b"\x94\xa2DO\x01\xc0", Truncated),
    ];
    for (body, error) in cases {
        assert_eq!(head(body), Err(error), "{body:02x?}");
    }
}

#[test]
fn a_request_has_at_most_255_bytes() {
    for (len, fits) in [(1, true), (255, true), (256, false)] {
        let name = "x".repeat(len);
        let mut body = Vec::new();
        write_head(&mut body, &name, 1, Recipient::Anyone);
        body.push(0xc0);
        assert_eq!(Message::decode(&body).is_ok(), fits, "{len} bytes");
    }
}

#[test]
fn addresses_reach_to_the_limit() {
    let message = Message {
        request: "x",
        sender: ADDRESS_MAX,
        recipient: Recipient::Process(ADDRESS_MAX),
        data: b"\xc0",
    };
    let mut out = Vec::new();
    message.encode_frame(u32::MAX, &mut out);
    assert_eq!(Message::decode(&out[FRAME_HEADER_BYTES..]), Ok(message));
}

#[test]
fn every_truncation_of_a_head_is_named_so() {
    let data_at = EXAMPLE.len() - 8;
    for len in 0..=data_at {
        assert_eq!(head(&EXAMPLE[..len]), Err(Truncated), "cut at {len}");
    }
    for len in data_at + 1..EXAMPLE.len() {
        assert!(head(&EXAMPLE[..len]).is_ok(), "cut at {len}: data is not walked");
    }
}

#[test]
fn the_widest_head_is_as_long_as_the_limit_says() {
    let mut body = b"\xdd\0\0\0\x04\xdb\0\0\0\xff".to_vec();
    body.extend([b'x'; 255]);
    body.extend(b"\xcf\0\0\0\0\0\0\0\x01\xd3\0\0\0\0\0\0\0\x01");
    assert_eq!(body.len(), crate::limits::HEAD_BYTES_MAX);
    body.push(0xc0);
    assert!(Message::decode(&body).is_ok());
}

#[test]
fn a_false_length_allocates_nothing_and_is_truncated() {
    assert_eq!(head(b"\x94\xdb\xff\xff\xff\xffDO"), Err(Truncated));
    assert_eq!(head(b"\x94\xa2DO\x01\xc6\xff\xff\xff\xff"), Err(Truncated));
}

#[test]
fn a_frame_of_no_known_length_is_patched() {
    let mut out = b"before".to_vec();
    let start = begin_frame(&mut out, 9);
    out.extend_from_slice(&[1, 2, 3]);
    assert_eq!(finish_frame(&mut out, start), 7);
    assert_eq!(out, b"before\0\0\0\x07\0\0\0\x09\x01\x02\x03");
}

#[test]
fn a_header_for_a_body_beyond_all_frames_has_a_length_nobody_takes() {
    assert_eq!(frame_header(0, usize::MAX)[..4], [0xff; 4]);
}

#[test]
fn recipients_print_as_people_say_them() {
    let printed = [Recipient::Anyone, Recipient::Everyone, Recipient::Process(7)]
        .map(|recipient| recipient.to_string());
    assert_eq!(printed, ["anyone", "everyone", "7"]);
}
