//! The output in text mode: takes frames, in whatever pieces, and writes a line for each. The rest of the SDK does not know of it.
//!
//! What has no form in JSON is a NaN or an infinity of the user's. An answer with one becomes the failure `bad_data`; so does the
//! answer of a task one of whose items had one. PROGRESS and LOG are left out then.

use std::io::{self, Write};

use stokehold_protocol::limits::{FRAME_LEN_CEILING, MAX_FRAME_DEFAULT};
use stokehold_protocol::{Failure as WireFailure, FrameEvent, Message, Splitter, code, text};

/// No line is longer: every parent takes as much (SPEC F-13), and an answer that is a little frame may be a long line.
const LINE_BYTES_MAX: usize = MAX_FRAME_DEFAULT as usize;

/// See the module.
#[derive(Debug)]
pub(crate) struct TextOutput<W> {
    sink: W,
    splitter: Splitter,
    /// Tasks one of whose items could not be written, and why.
    doomed: Vec<(u32, Box<WireFailure>)>,
    lines: Vec<u8>,
}

impl<W: Write> TextOutput<W> {
    pub(crate) fn new(sink: W) -> Self {
        let mut splitter = Splitter::new();
        splitter.set_max_frame(FRAME_LEN_CEILING);
        Self { sink, splitter, doomed: Vec::new(), lines: Vec::new() }
    }

    /// Makes lines of all frames that have come to their end.
    fn translate(&mut self) {
        while let Ok(Some(FrameEvent::Frame { id, body })) = self.splitter.next_frame() {
            let request = Message::decode(body).map_or("", |message| message.request);
            let is_final = matches!(request, "FINISHED" | "FAILED");
            let doom = self.doomed.iter().position(|(doomed, _)| is_final && *doomed == id);
            let failure = match doom {
                Some(place) => self.doomed.swap_remove(place).1,
                None => match append(&mut self.lines, id, body) {
                    Ok(()) => continue,
                    Err(failure) => failure,
                },
            };
            match request {
                "FINISHED" | "FAILED" => append_failed(&mut self.lines, id, body, &failure),
                "ITEM" => self.doomed.push((id, failure)),
                _ => {}
            }
        }
    }
}

/// Appends the line of a frame, or says why there is none.
fn append(lines: &mut Vec<u8>, id: u32, body: &[u8]) -> Result<(), Box<WireFailure>> {
    let mut message = Vec::new();
    text::write_message(&mut message, body).map_err(|error| {
        Box::new(WireFailure::new(code::BAD_DATA, format!("the result has no form in text mode: {error}")))
    })?;
    if message.len() > LINE_BYTES_MAX - text::ID_BYTES_MAX {
        let (len, max) = (message.len(), LINE_BYTES_MAX);
        let why = format!("the answer's line has {len} bytes, text mode has lines of up to {max}");
        return Err(Box::new(WireFailure::new(code::TOO_LARGE, why)));
    }
    text::write_line(lines, id, &message);
    Ok(())
}

/// Appends FAILED in place of the answer in `body`. Its own failure, if it is one, loses its data only.
fn append_failed(lines: &mut Vec<u8>, id: u32, body: &[u8], failure: &WireFailure) {
    let Ok(message) = Message::decode(body) else { return };
    let told = match message.request {
        "FAILED" => WireFailure { trace: None, ..WireFailure::decode(message.data).without_data() },
        _ => failure.clone(),
    };
    let mut data = Vec::new();
    told.encode(&mut data);
    let mut frame = Vec::new();
    Message { request: "FAILED", data: &data, ..message }.encode_frame(id, &mut frame);
    text::write_lines(lines, &frame);
}

impl<W: Write> Write for TextOutput<W> {
    /// Takes all of `bytes`; the lines of frames that end in them are written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.splitter.feed(bytes);
        self.translate();
        let done = self.sink.write_all(&self.lines);
        self.lines.clear();
        self.lines.shrink_to(MAX_FRAME_DEFAULT as usize / 16);
        done.map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

/// Makes the line of a frame that is sent before anything is agreed.
pub(crate) fn line_of(frame: &[u8]) -> Vec<u8> {
    let mut line = Vec::new();
    text::write_lines(&mut line, frame);
    line
}

#[cfg(test)]
mod tests {
    use stokehold_protocol::wire;

    use super::*;

    fn frame(id: u32, request: &str, data: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let recipient = stokehold_protocol::Recipient::Anyone;
        Message { request, sender: 7, recipient, data }.encode_frame(id, &mut frame);
        frame
    }

    fn written(frames: &[Vec<u8>], piece: usize) -> String {
        let mut lines = Vec::new();
        let mut output = TextOutput::new(&mut lines);
        for bytes in frames.concat().chunks(piece) {
            output.write_all(bytes).unwrap();
        }
        String::from_utf8(lines).unwrap()
    }

    #[test]
    fn frames_in_any_pieces_become_lines() {
        let frames = [frame(0, "READY", b"\xc0"), frame(9, "FINISHED", b"\x81\xa1a\xc4\x01f")];
        for piece in [1, 5, 1000] {
            let expected = "0 [\"READY\",7,null,null]\n9 [\"FINISHED\",7,null,{\"a\":{\"$bin\":\"Zg==\"}}]\n";
            assert_eq!(written(&frames, piece), expected);
        }
    }

    #[test]
    fn what_json_cannot_say_fails_the_task_and_no_other() {
        let mut nan = Vec::new();
        wire::write_float(&mut nan, f64::NAN);
        let lines = written(
            &[
                frame(0, "LOG", &nan),
                frame(3, "FINISHED", &nan),
                frame(4, "ITEM", &nan),
                frame(4, "ITEM", b"\x01"),
                frame(4, "FINISHED", b"\x02"),
                frame(5, "FINISHED", b"\x03"),
            ],
            1000,
        );
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].starts_with("3 [\"FAILED\",7,null,{\"code\":\"bad_data\""), "{lines:?}");
        assert_eq!(lines[1], "4 [\"ITEM\",7,null,1]");
        assert!(lines[2].starts_with("4 [\"FAILED\",7,null,{\"code\":\"bad_data\""), "{lines:?}");
        assert_eq!(lines[3], "5 [\"FINISHED\",7,null,3]");
    }

    #[test]
    fn a_failure_whose_data_json_cannot_say_loses_that_and_says_so() {
        let mut nan = Vec::new();
        wire::write_float(&mut nan, f64::NAN);
        let mut data = Vec::new();
        WireFailure { data: Some(nan), ..WireFailure::new("acme.x", "no") }.encode(&mut data);
        let line = written(&[frame(3, "FAILED", &data)], 1000);
        let start = "3 [\"FAILED\",7,null,{\"code\":\"acme.x\",\"message\":\"no (its data, 9 bytes, could not be sent)\"";
        assert!(line.starts_with(start), "{line}");
    }

    #[test]
    fn a_line_that_no_parent_need_take_fails_its_task() {
        // Each byte becomes six.
        let mut text = Vec::new();
        wire::write_str(&mut text, &"\u{1}".repeat(LINE_BYTES_MAX / 6 + 1));
        let line = written(&[frame(3, "FINISHED", &text)], usize::MAX);
        assert!(line.starts_with("3 [\"FAILED\",7,null,{\"code\":\"too_large\""), "{line}");
    }
}
