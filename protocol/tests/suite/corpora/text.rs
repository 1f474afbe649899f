//! The body of the target `text`: a stream of lines in pieces of any size, and a body as a line. Nothing panics, the pieces do not
//! matter, and what was read is written and read again as the same.

use stokehold_protocol::text::{read_line, write_line, write_message};
use stokehold_protocol::{FrameEvent, Message, Quote, Splitter, check, limits};

use super::stretch::stretch;

pub(crate) fn run(bytes: &[u8]) {
    let stream = stretch(bytes);
    for recognises in [false, true] {
        let whole = split(&stream, stream.len().max(1), recognises);
        for piece in [1, 7] {
            // Single bytes of long streams tell no more, and take long.
            if stream.len() < 4096 || piece > 1 {
                assert_eq!(split(&stream, piece, recognises), whole);
            }
        }
    }
    there_and_back(&stream);
}

/// What came out, in words: how a stream breaks depends on how much of it had arrived, where it does not.
fn split(stream: &[u8], piece: usize, recognises: bool) -> Vec<String> {
    let mut splitter = if recognises { Splitter::recognising() } else { Splitter::lines() };
    splitter.set_max_frame(limits::MAX_FRAME_FLOOR);
    let mut seen = Vec::new();
    for bytes in stream.chunks(piece) {
        splitter.feed(bytes);
        loop {
            match splitter.next_frame() {
                Ok(Some(FrameEvent::Frame { id, body })) => {
                    seen.push(format!("{id} {body:?}"));
                    // What is read as lines alone is what `read_line` made.
                    if !recognises {
                        assert!(check(Message::decode(body).expect("a whole head").data).is_ok());
                        there_and_back(body);
                    }
                }
                Ok(Some(FrameEvent::BadLine { id, quote, error })) => {
                    assert!(!error.to_string().is_empty());
                    seen.push(format!("{id} {:?} {error:?}", quote.as_bytes()));
                }
                Ok(Some(FrameEvent::BadData { id, head, error })) => {
                    assert_eq!(Message::decode(head).expect("a whole head").data, [0xc0]);
                    assert!(!error.to_string().is_empty());
                    seen.push(format!("{id} {head:?} {error:?}"));
                }
                Ok(Some(FrameEvent::TooLarge { id, len, head })) => {
                    seen.push(format!("{id} {len} {head:?}"));
                }
                Ok(None) => break,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    seen.push("broken".to_owned());
                    return seen;
                }
            }
        }
        assert!(
            splitter.memory()
                < 4 * usize::try_from(limits::MAX_FRAME_FLOOR).expect("it fits") + stream.len() * 4
        );
    }
    seen.push(format!("{}", splitter.finish().is_ok()));
    seen
}

/// A body that has a line is that line's body.
fn there_and_back(body: &[u8]) {
    let mut message = Vec::new();
    if write_message(&mut message, body).is_err() {
        assert!(message.is_empty());
        return;
    }
    assert!(!message.iter().any(|byte| *byte < b' '), "{:?} is one line", Quote::new(&message));
    let mut line = Vec::new();
    write_line(&mut line, 9, &message);
    let mut again = Vec::new();
    assert_eq!(read_line(line.trim_ascii_end(), &mut again), Ok(9));
    assert!(again.len() <= body.len(), "the shortest form is written");
    let mut rewritten = Vec::new();
    write_message(&mut rewritten, &again).expect("it has a line");
    assert_eq!(rewritten, message);
}
