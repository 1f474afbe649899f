//! The body of the target `splitter`: any stream, in any pieces and by each way to hand them over, gives the frames that a plain
//! reader of the whole stream finds, and the buffer stays within what arrived.

use stokehold_protocol::{FrameError, FrameEvent, LargeBody, Splitter, frame_header, limits};

use super::input::Input;

/// A stream is not longer than this, so that no input takes long.
const STREAM_BYTES_MAX: usize = 640 * 1024;

/// What a splitter always takes for a read.
const SPACE_BYTES: usize = 64 * 1024;

/// What came out of a stream.
#[derive(Debug, PartialEq)]
enum Seen {
    Frame(u32, Vec<u8>),
    TooLarge { id: u32, len: u32, head: Vec<u8> },
}

/// How bytes are handed over.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Copied in.
    Feed,
    /// Into the room there is.
    InPlace,
    /// The same, and what belongs to a large frame behind what it has; such frames are taken as a whole.
    Large,
}

/// How a stream ended.
#[derive(Debug, PartialEq)]
enum End {
    Whole,
    Inside {
        want: u64,
        got: u64,
    },
    /// With the first four bytes where a frame was expected. How many more are quoted depends on what had arrived.
    Desync([u8; 4]),
}

/// The first byte chooses the limit and how bytes are handed over, four more the sizes of the pieces, the rest is the stream.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choice = input.byte().unwrap_or(0);
    let limits = [limits::MAX_FRAME_FLOOR, 100_000, limits::MAX_FRAME_DEFAULT, limits::FRAME_LEN_CEILING];
    let max_frame = limits[usize::from(choice & 3)];
    let way = if choice & 4 == 0 { Way::Feed } else { Way::InPlace };
    let sizes: Vec<usize> = input.take(4).iter().map(|byte| size(*byte)).collect();
    let stream = stream(&mut input);

    let expected = read_plainly(&stream, max_frame);
    assert_eq!(split(&stream, &[stream.len().max(1)], max_frame, Way::Feed), expected, "in one piece");
    assert_eq!(split(&stream, &sizes, max_frame, way), expected, "in pieces");
    assert_eq!(split(&stream, &sizes, max_frame, Way::Large), expected, "in large pieces");
}

/// Mostly a few bytes, sometimes more than a read's worth.
fn size(byte: u8) -> usize {
    match byte {
        0..=199 => usize::from(byte) + 1,
        _ => usize::from(byte - 199) * 2_000,
    }
}

/// The stream that the input describes: literal bytes, frames with a right header, long frames, and long runs of a byte.
fn stream(input: &mut Input<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while let Some(tag) = input.byte() {
        let count = usize::from(tag & 0x3f) + 1;
        match tag >> 6 {
            0 => stream.extend_from_slice(input.take(count)),
            1 => {
                let id = u32::from(input.byte().unwrap_or(0));
                let body = input.take(count);
                stream.extend_from_slice(&frame_header(id, body.len()));
                stream.extend_from_slice(body);
            }
            2 => {
                let len = count * 8_192 + usize::from(input.byte().unwrap_or(0));
                stream.extend_from_slice(&frame_header(9, len));
                stream.resize(stream.len() + len, tag);
            }
            _ => stream.resize(stream.len() + count * 2_048, input.byte().unwrap_or(0)),
        }
        if stream.len() > STREAM_BYTES_MAX {
            stream.truncate(STREAM_BYTES_MAX);
            break;
        }
    }
    stream
}

/// Lets the stream through a splitter, piece by piece; `sizes` come round again.
fn split(stream: &[u8], sizes: &[usize], max_frame: u32, way: Way) -> (Vec<Seen>, End) {
    let mut splitter = Splitter::new();
    splitter.set_max_frame(max_frame);
    let (mut seen, mut arrived, mut largest) = (Vec::new(), 0, 0);
    let mut kept = Vec::new();
    let mut sizes = sizes.iter().copied().cycle();
    while arrived < stream.len() {
        let mut piece = sizes.next().unwrap_or(1).min(stream.len() - arrived);
        largest = piece.max(largest);
        if way == Way::Large
            && let Some(large) = splitter.large()
        {
            piece = piece.min(large.capacity() - large.len());
            assert!(piece > 0, "there is room for what is missing");
            large.extend_from_slice(&stream[arrived..arrived + piece]);
        } else if way != Way::Feed {
            let space = splitter.space();
            piece = piece.min(space.len());
            space[..piece].copy_from_slice(&stream[arrived..arrived + piece]);
            splitter.filled(piece);
        } else {
            splitter.feed(&stream[arrived..arrived + piece]);
        }
        arrived += piece;
        if way == Way::Large {
            take_large(&mut splitter, &mut seen, &mut kept);
        }
        if let Some(end) = drain(&mut splitter, &mut seen) {
            assert!(drain(&mut splitter, &mut seen).is_some(), "it stays broken");
            return (seen, end);
        }
        if way == Way::Large && splitter.large().is_some() {
            // Room for a read would have to be made, and is not used.
            continue;
        }
        let least = if splitter.is_empty() { 512 } else { 1 };
        let room = splitter.space().len();
        assert!(room >= least, "a read of {room} bytes");
        assert!(room <= 2 * arrived + SPACE_BYTES, "{room} bytes of room after {arrived}");
        let in_flight = max_frame as usize + limits::FRAME_HEADER_BYTES + largest;
        assert!(room <= 2 * in_flight + SPACE_BYTES, "{room} bytes of room for frames of {max_frame}");
    }
    for (place, body) in kept {
        assert!(
            matches!(&seen[place], Seen::Frame(_, bytes) if **bytes == *body),
            "it changed while it was kept"
        );
    }
    let end = match splitter.finish() {
        Ok(()) => End::Whole,
        Err(error) => end(error),
    };
    assert!(splitter.is_empty() || end != End::Whole, "whole, with bytes left");
    if splitter.is_empty() {
        let mut buffer = Vec::new();
        splitter.swap_buffer(&mut buffer);
        assert!(buffer.capacity() <= 2 * arrived + SPACE_BYTES, "{} bytes kept", buffer.capacity());
    }
    (seen, end)
}

/// Takes a large frame, if it is there as a whole. The memory of every second one is for the next; the others are kept, with the
/// place of what was seen of them.
fn take_large(splitter: &mut Splitter, seen: &mut Vec<Seen>, kept: &mut Vec<(usize, LargeBody)>) {
    let Some((id, body)) = splitter.take_large() else { return };
    if seen.len().is_multiple_of(2) {
        kept.push((seen.len(), body.clone()));
    }
    seen.push(Seen::Frame(id, body.to_vec()));
    splitter.reuse(body);
}

/// Takes all frames there are. Gives the end if the stream broke.
fn drain(splitter: &mut Splitter, seen: &mut Vec<Seen>) -> Option<End> {
    loop {
        match splitter.next_frame() {
            Ok(Some(FrameEvent::Frame { id, body })) => seen.push(Seen::Frame(id, body.to_vec())),
            Ok(Some(FrameEvent::TooLarge { id, len, head })) => {
                seen.push(Seen::TooLarge { id, len, head: head.to_vec() });
            }
            Ok(Some(FrameEvent::BadLine { .. } | FrameEvent::BadData { .. })) => unreachable!("no lines"),
            Ok(None) => return None,
            Err(error) => return Some(end(error)),
        }
    }
}

fn end(error: FrameError) -> End {
    assert!(!error.to_string().is_empty());
    match error {
        FrameError::Desync { quote } => {
            End::Desync(*quote.as_bytes().first_chunk().expect("a quote has the length at least"))
        }
        FrameError::Truncated { want, got } => End::Inside { want, got },
        other => panic!("{other}"),
    }
}

/// What a reader finds who has the whole stream at once: the specification's words, written down a second time.
fn read_plainly(stream: &[u8], max_frame: u32) -> (Vec<Seen>, End) {
    let (mut seen, mut rest) = (Vec::new(), stream);
    loop {
        let got = rest.len() as u64;
        let Some(first) = rest.first_chunk::<4>() else {
            let end = if rest.is_empty() { End::Whole } else { End::Inside { want: 8, got } };
            return (seen, end);
        };
        let len = u32::from_be_bytes(*first);
        if !(limits::FRAME_LEN_MIN..=limits::FRAME_LEN_CEILING).contains(&len) {
            return (seen, End::Desync(*first));
        }
        let whole = len as usize + 4;
        let inside = End::Inside { want: whole as u64, got };
        let Some((header, body)) = rest.split_at_checked(limits::FRAME_HEADER_BYTES) else {
            return (seen, inside);
        };
        let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        if len > max_frame {
            // All of these are longer than a head.
            let Some(head) = body.get(..limits::HEAD_BYTES_MAX) else { return (seen, inside) };
            seen.push(Seen::TooLarge { id, len, head: head.to_vec() });
        }
        if rest.len() < whole {
            return (seen, inside);
        }
        if len <= max_frame {
            seen.push(Seen::Frame(id, rest[limits::FRAME_HEADER_BYTES..whole].to_vec()));
        }
        rest = &rest[whole..];
    }
}
