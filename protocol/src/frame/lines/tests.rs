//! Tests of lines: where they end, how long they may be, and whether a stream is lines.

use super::*;
use crate::error::{DataError, MessageError};
use crate::limits::MAX_FRAME_FLOOR;
use crate::{Codec, Message};

const HELLO: &[u8] = b"[\"HELLO\",0,null,{\"v\":1}]\n";

/// A splitter that has read HELLO.
fn greeted() -> Splitter {
    let mut splitter = Splitter::recognising();
    splitter.set_max_frame(MAX_FRAME_FLOOR);
    splitter.feed(HELLO);
    assert_eq!(splitter.codec(), Some(Codec::Json));
    assert!(matches!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { id: 0, .. }))));
    splitter
}

fn expect(splitter: &mut Splitter, id: u32, data: &[u8]) {
    let Ok(Some(FrameEvent::Frame { id: read, body })) = splitter.next_frame() else {
        panic!("no frame {id}")
    };
    assert_eq!((read, Message::decode(body).unwrap().data), (id, data));
}

#[test]
fn a_stream_is_what_its_first_bytes_say() {
    let cases: [(&[u8], Recognised); 22] = [
        (b"", Recognised::NotYet),
        (b"0", Recognised::NotYet),
        (b"0 ", Recognised::NotYet),
        (b"0 [", Recognised::NotYet),
        (b"[", Recognised::NotYet),
        (b"[ \t\"HEL", Recognised::NotYet),
        (b"[\"FAILED", Recognised::NotYet),
        (b"[\"HELLO\"", Recognised::Lines),
        (b"[ \"HELLO\" and more", Recognised::Lines),
        (b"0 [\"FAILED\",", Recognised::Lines),
        (b"\0", Recognised::Other),
        (b"[INFO] loading", Recognised::Other),
        (b"[]", Recognised::Other),
        (b"[\"READY\"", Recognised::Other),
        (b"[\"hello", Recognised::Other),
        (b"2026-11-20 started", Recognised::Other),
        (b"0 files", Recognised::Other),
        (b"00 [", Recognised::Other),
        (b"0  [", Recognised::Other),
        (b"1 [\"HELLO\"", Recognised::Other),
        (b"{\"HELLO\"", Recognised::Other),
        (b"\n[\"HELLO\"", Recognised::Other),
    ];
    for (bytes, expected) in cases {
        assert_eq!(recognise(bytes), expected, "{}", String::from_utf8_lossy(bytes));
    }
    for spaces in [64, 65] {
        let begin = [&b"["[..], &vec![b' '; spaces]].concat();
        let whole = [&begin[..], b"\"HELLO\""].concat();
        let expected =
            if spaces == 64 { [Recognised::NotYet, Recognised::Lines] } else { [Recognised::Other; 2] };
        assert_eq!([recognise(&begin), recognise(&whole)], expected);
    }
}

#[test]
fn what_is_no_text_mode_is_judged_as_frames() {
    let mut splitter = Splitter::recognising();
    splitter.feed(b"[INFO] loading the model");
    let Err(FrameError::Desync { quote }) = splitter.next_frame() else { panic!("a desync") };
    assert_eq!(quote.as_bytes(), b"[INFO] loading the model");
    let mut splitter = Splitter::recognising();
    splitter.feed(&[0, 0, 0]);
    assert_eq!((splitter.codec(), splitter.next_frame()), (Some(Codec::MessagePack), Ok(None)));
    splitter.feed(&[5, 0, 0, 0, 7, 0xc0]);
    assert_eq!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { id: 7, body: &[0xc0] })));
}

#[test]
fn lines_end_with_lf_or_crlf_and_blank_ones_are_none() {
    let mut splitter = greeted();
    splitter.feed(b"\n\r\n  \t\n7 [\"FINISHED\",0,null,1]\r\n\n8 [\"FINISHED\",0,null,2]\n\r\n");
    expect(&mut splitter, 7, &[1]);
    expect(&mut splitter, 8, &[2]);
    assert_eq!(splitter.next_frame(), Ok(None));
    assert_eq!(splitter.finish(), Ok(()));
    assert!(splitter.is_empty());
}

#[test]
fn a_line_without_its_end_is_none() {
    let mut splitter = greeted();
    splitter.feed(b"7 [\"FINISHED\",0,null,1]");
    assert_eq!(splitter.next_frame(), Ok(None));
    assert_eq!(splitter.finish(), Err(FrameError::UnfinishedLine { got: 23 }));
    splitter.feed(b"\n");
    expect(&mut splitter, 7, &[1]);
    assert_eq!(splitter.finish(), Ok(()));
}

#[test]
fn the_largest_line_is_taken_and_one_byte_more_is_skipped_and_named() {
    let line = |id: u32, len: usize| {
        let frame = format!("{id} [\"FINISHED\",0,null,\"\"]");
        format!("{id} [\"FINISHED\",0,null,\"{}\"]", "x".repeat(len - frame.len()))
    };
    let max = MAX_FRAME_FLOOR as usize;
    for (piece, end) in [(usize::MAX, "\n"), (1000, "\n"), (1000, "\r\n"), (1, "\r\n")] {
        let stream =
            [line(1, max), line(2, max + 1), line(3, max * 3), "4 [\"FINISHED\",0,null,4]".to_owned()];
        let stream = stream.join(end) + end;
        let mut splitter = greeted();
        let mut seen = Vec::new();
        for bytes in stream.as_bytes().chunks(piece) {
            splitter.feed(bytes);
            while let Some(event) = splitter.next_frame().unwrap() {
                seen.push(match event {
                    FrameEvent::Frame { id, .. } => (id, 0),
                    FrameEvent::TooLarge { id, len, head } => {
                        assert_eq!(Message::decode(head).unwrap().request, "FINISHED");
                        (id, len as usize)
                    }
                    other => panic!("{other:?}"),
                });
            }
        }
        assert_eq!(seen, [(1, 0), (2, max + 1), (3, max * 3), (4, 0)], "{piece}");
        assert!(splitter.memory() <= 4 * max + piece.min(stream.len()) * 2, "{}", splitter.memory());
    }
}

#[test]
fn what_no_line_begins_with_is_told_before_its_end_comes() {
    for (line, quoted) in [
        ("9".repeat(40), "9".repeat(32)),
        ("12345678901 [".to_owned() + &"1".repeat(40), "12345678901 [".to_owned() + &"1".repeat(19)),
        ("Loading the model, which takes a while".to_owned(), "Loading the model, which takes a".to_owned()),
        ("7 ".to_owned() + &"x".repeat(40), "7 ".to_owned() + &"x".repeat(30)),
    ] {
        for piece in [1, 7, 1000] {
            let mut splitter = greeted();
            let mut seen = None;
            for bytes in line.as_bytes().chunks(piece) {
                splitter.feed(bytes);
                seen = seen.or(splitter.next_frame().err());
            }
            let Some(FrameError::Desync { quote }) = seen else { panic!("{line}: {seen:?}") };
            assert_eq!(quote.as_bytes(), quoted.as_bytes());
        }
    }
}

#[test]
fn a_line_that_may_still_become_one_is_waited_for() {
    for line in [
        " ".repeat(60_000),
        "4294967295 [".to_owned() + &" ".repeat(60_000),
        "7 [\"".to_owned() + &"x".repeat(60_000),
    ] {
        let mut splitter = greeted();
        splitter.feed(line.as_bytes());
        assert_eq!(splitter.next_frame(), Ok(None));
    }
}

#[test]
fn a_line_without_end_breaks_the_stream_and_so_do_blank_ones() {
    let piece = vec![b'x'; 1 << 20];
    let mut splitter = greeted();
    splitter.feed(b"7 [\"FINISHED\",0,null,\"");
    let mut fed = 0;
    let error = loop {
        splitter.feed(&piece);
        fed += piece.len();
        match splitter.next_frame() {
            Ok(None) => assert!(fed < 200 << 20, "it is read for ever"),
            Ok(event) => panic!("{event:?}"),
            Err(error) => break error,
        }
    };
    assert!(fed > FRAME_LEN_CEILING as usize);
    assert!(
        matches!(error, FrameError::Desync { quote } if quote.as_bytes().starts_with(b"7 [")),
        "{error:?}"
    );
    for blank in [&b"\n"[..], b" \r\n"] {
        let mut splitter = greeted();
        splitter.feed(&blank.repeat(BLANK_LINES_MAX as usize));
        assert_eq!(splitter.next_frame(), Ok(None));
        splitter.feed(blank);
        assert!(matches!(splitter.next_frame(), Err(FrameError::Desync { .. })));
    }
    let mut splitter = greeted();
    splitter.feed(&vec![b' '; MAX_FRAME_FLOOR as usize + 2]);
    assert!(matches!(splitter.next_frame(), Err(FrameError::Desync { .. })), "no line is so blank");
}

#[test]
fn a_stream_may_not_end_inside_a_line_that_is_too_large() {
    let mut splitter = greeted();
    splitter.feed(b"7 [\"ITEM\",0,null,\"");
    splitter.feed(&vec![b'x'; MAX_FRAME_FLOOR as usize * 2]);
    assert_eq!(splitter.next_frame(), Ok(None));
    assert!(matches!(splitter.finish(), Err(FrameError::UnfinishedLine { got }) if got > 131_072));
}

#[test]
fn a_bad_line_is_told_with_its_beginning_and_the_stream_goes_on() {
    let mut splitter = greeted();
    splitter
        .feed(b"7 [\"FINISHED\",0,null]\n8 [\"FINISHED\",0,null,\"\\ud800\"]\n9 [\"FINISHED\",0,null,9]\n");
    let Ok(Some(FrameEvent::BadLine { id: 7, quote, error })) = splitter.next_frame() else { panic!("7") };
    assert_eq!((quote.as_bytes(), error), (&b"7 [\"FINISHED\",0,null]"[..], MessageError::FieldCount(3)));
    let Ok(Some(FrameEvent::BadData { id: 8, error, .. })) = splitter.next_frame() else { panic!("8") };
    assert_eq!(error, DataError::LoneSurrogate);
    expect(&mut splitter, 9, &[9]);
}

#[test]
fn what_begins_like_no_message_breaks_the_stream() {
    let mut splitter = greeted();
    splitter.feed(b"7 [\"FINISHED\",0,null,1]\nLoading the model\n8 [\"FINISHED\",0,null,1]\n");
    expect(&mut splitter, 7, &[1]);
    for _ in 0..2 {
        let Err(FrameError::Desync { quote }) = splitter.next_frame() else { panic!("a desync") };
        assert_eq!(quote.as_bytes(), b"Loading the model");
    }
}
