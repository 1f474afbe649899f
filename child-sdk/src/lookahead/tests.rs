//! Every sight, however the bytes arrive, and nothing else.

use stokehold_protocol::Recipient;

use super::*;

const NOW: &[u8] = b"\x81\xa3now\xc3";

fn frame(id: u32, request: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Message { request, sender: 1, recipient: Recipient::Anyone, data }.encode_frame(id, &mut out);
    out
}

/// The sights in `bytes`, as text with the number of the frame.
fn sights(bytes: &[u8], chunk: usize) -> Vec<String> {
    let mut lookahead = Lookahead::default();
    let mut all = Vec::new();
    for chunk in bytes.chunks(chunk) {
        lookahead.pass(chunk, |number, sight| all.push(format!("{number} {sight:?}")));
    }
    all
}

#[test]
fn what_matters_is_found_between_other_frames_however_the_bytes_arrive() {
    let long = [vec![0xc5, 0x10, 0x00], vec![0; 0x1000]].concat();
    let stream = [
        frame(1, "DO", &long),
        frame(0, "HELLO", &[0x80]),
        frame(0, "tick", &long),
        frame(7, "DIE", NOW),
        frame(9, "CANCEL", &[0xc0]),
        frame(2, "DO", &[1]),
        frame(0, "PING", b"\xa1x"),
        frame(3, "square", &[1]),
        frame(4, "Cancel", &[1]),
        frame(0, "DIE", NOW),
        frame(2, "DO", &[1]),
        frame(1, "CANCEL", &[0xc0]),
    ]
    .concat();
    let expected = ["5 Cancel(9)", "7 Ping([161, 120])", "10 DieNow", "12 Cancel(1)"];
    for chunk in (1..60).chain([stream.len()]) {
        assert_eq!(sights(&stream, chunk), expected, "in chunks of {chunk}");
    }
}

#[test]
fn frames_too_short_to_matter_are_stepped_over_exactly() {
    let short =
        |id: u32, body: &[u8]| [&(body.len() as u32 + 4).to_be_bytes()[..], &id.to_be_bytes(), body].concat();
    for len in 1..12 {
        let stream =
            [short(0, &vec![0x94; len]), short(5, &vec![0xc0; len]), frame(9, "CANCEL", &[0xc0])].concat();
        for chunk in (1..20).chain([stream.len()]) {
            assert_eq!(sights(&stream, chunk), ["3 Cancel(9)"], "{len} bytes, in chunks of {chunk}");
        }
    }
}

#[test]
fn the_widest_encodings_are_found_too() {
    let body = [
        &b"\xdd\x00\x00\x00\x04\xdb\x00\x00\x00\x06CANCEL"[..],
        &[0xcf, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0xcf, 0, 0, 0, 0, 0, 0, 0, 1, 0xc0],
    ]
    .concat();
    let stream = [&(body.len() as u32 + 4).to_be_bytes()[..], &[0, 0, 0, 3], &body].concat();
    for chunk in [1, 9, stream.len()] {
        assert_eq!(sights(&stream, chunk), ["1 Cancel(3)"]);
    }
}

#[test]
fn what_is_no_such_frame_is_no_sight() {
    let stream = [
        frame(0, "DIE", &[0xc0]),
        frame(0, "DIE", b"\x81\xa3now\xc2"),
        frame(0, "CANCEL", &[0xc0]),
        frame(3, "PING", &[0xc0]),
        frame(0, "PING", &[0xc1]),
        frame(0, "PING", &[vec![0xc4, 63], vec![0; 63]].concat()),
    ];
    assert!(sights(&stream.concat(), 5).is_empty());
}

#[test]
fn bytes_that_are_no_frames_end_the_looking() {
    for junk in [&b"hello there, this is text"[..], &[0; 20], &[0xff; 20]] {
        for chunk in [1, 7, 20] {
            assert!(sights(&[junk.to_vec(), frame(0, "DIE", NOW)].concat(), chunk).is_empty());
        }
    }
}
