//! Tests of the quotes in errors: what they keep, and how they read.

use super::*;

#[test]
fn a_quote_keeps_the_first_bytes_only() {
    let quote = Quote::new(&[0x41; 100]);
    assert_eq!(quote.as_bytes(), [0x41; limits::QUOTE_BYTES_MAX]);
    assert_eq!(Quote::new(b"").as_bytes(), b"");
}

#[test]
fn text_is_quoted_as_text_and_bytes_as_hex() {
    assert_eq!(Quote::new(b"Loading model\n").to_string(), "\"Loading model\\n\"");
    assert_eq!(Quote::new(b"\xff\x00\x10").to_string(), "ff 00 10");
    assert_eq!(format!("{:?}", Quote::new(b"a")), "\"a\"");
    assert_eq!(Quote::new(b"").to_string(), "");
}

#[test]
fn text_is_recognised() {
    for text in [&b"hello"[..], "für Elise".as_bytes(), b"\x1b[31mred\x1b[0m", b"a\tb\r\n"] {
        assert!(Quote::new(text).looks_like_text(), "{text:?}");
    }
    for bytes in [&b""[..], b"\0\0\0\x05", b"\x1f\x8b\x08\0", b"abc\x00"] {
        assert!(!Quote::new(bytes).looks_like_text(), "{bytes:?}");
    }
}

#[test]
fn a_character_cut_by_the_quote_does_not_break_it() {
    let text = "é".repeat(40);
    let quote = Quote::new(&text.as_bytes()[1..]);
    assert!(!quote.to_string().is_empty());
}

#[test]
fn terminal_controls_in_a_quote_are_escaped() {
    assert!(!Quote::new(b"\x1b[31mred").to_string().contains('\x1b'));
}

#[test]
fn a_desync_says_what_the_bytes_look_like() {
    let text = FrameError::Desync { quote: Quote::new(b"Hello") };
    assert_eq!(text.to_string(), "text where a frame was expected: \"Hello\"");
    let bytes = FrameError::Desync { quote: Quote::new(&[0; 4]) };
    assert_eq!(bytes.to_string(), "bytes that are no frame: 00 00 00 00");
}

#[test]
fn a_printed_line_in_front_of_a_frame_is_quoted_as_text() {
    let quote = Quote::new(b"warning: rare\n\x00\x00\x00\x16\x00\x00\x00\x07\x94\xa2DO");
    assert!(quote.looks_like_text());
    assert_eq!(quote.to_string(), r#""warning: rare\n""#);
    assert!(!Quote::new(b"a\n\x00\x01\x02").looks_like_text(), "two bytes are a chance");
}

#[test]
fn bytes_above_ascii_alone_are_no_text_unless_they_are_utf8() {
    assert!(!Quote::new(&[0xff; 4]).looks_like_text());
    assert!(!Quote::new(&[0xf0, 0x9f]).looks_like_text());
    assert!(Quote::new("žluťoučký".as_bytes()).looks_like_text());
    assert!(Quote::new("日本語".as_bytes()).looks_like_text());
    assert!(Quote::new(&"日本語".as_bytes()[..8]).looks_like_text(), "cut in a character");
    assert!(Quote::new(b"caf\xe9").looks_like_text(), "another encoding");
}
