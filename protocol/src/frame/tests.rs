//! Tests of the splitter: lengths, chunking, frames above the limit, ends of the stream, and the buffer.

use super::*;
use crate::message::frame_header;

fn frame(id: u32, body: &[u8]) -> Vec<u8> {
    [&frame_header(id, body.len()), body].concat()
}

fn desync(error: &FrameError) -> &Quote {
    let FrameError::Desync { quote } = error else { panic!("{error}") };
    quote
}

#[test]
fn frames_come_out_in_order_and_then_none() {
    let mut splitter = Splitter::new();
    splitter.feed(&[frame(1, b"a"), frame(0, b"bc"), frame(u32::MAX, b"d")].concat());
    for (id, body) in [(1, &b"a"[..]), (0, b"bc"), (u32::MAX, b"d")] {
        assert_eq!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { id, body })));
    }
    assert_eq!(splitter.next_frame(), Ok(None));
    assert_eq!(splitter.finish(), Ok(()));
    assert!(splitter.is_empty());
}

#[test]
fn single_bytes_are_enough() {
    let bytes = frame(7, b"hello");
    let mut splitter = Splitter::new();
    for byte in &bytes[..bytes.len() - 1] {
        splitter.feed(&[*byte]);
        assert_eq!(splitter.next_frame(), Ok(None));
    }
    splitter.feed(&bytes[bytes.len() - 1..]);
    assert_eq!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { id: 7, body: b"hello" })));
}

#[test]
fn lengths_outside_the_range_are_a_desync_for_ever() {
    for len in [0, 1, 2, 3, 4, FRAME_LEN_CEILING + 1, 0x1000_0000, u32::MAX] {
        let mut splitter = Splitter::new();
        splitter.feed(&len.to_be_bytes());
        let first = splitter.next_frame().map(|_| ()).unwrap_err();
        assert_eq!(desync(&first).as_bytes(), len.to_be_bytes());
        splitter.feed(&frame(1, b"a"));
        assert_eq!(splitter.next_frame(), Err(first), "{len}");
        assert_eq!(splitter.finish(), Err(first), "{len}");
    }
}

#[test]
fn text_is_a_desync_and_quoted_as_text() {
    let mut splitter = Splitter::new();
    splitter.feed(b"Traceback (most recent call last):\n  File ...");
    let error = splitter.next_frame().map(|_| ()).unwrap_err();
    assert!(desync(&error).looks_like_text());
    assert_eq!(desync(&error).as_bytes(), b"Traceback (most recent call last");
}

#[test]
fn text_behind_good_frames_is_found_there() {
    let mut splitter = Splitter::new();
    splitter.feed(&[frame(1, b"a"), b"oops".to_vec()].concat());
    assert!(matches!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { id: 1, .. }))));
    assert!(splitter.next_frame().is_err());
}

#[test]
fn a_frame_of_exactly_the_limit_passes_and_one_byte_more_is_skipped() {
    let mut splitter = Splitter::new();
    splitter.set_max_frame(MAX_FRAME_FLOOR);
    let fits = vec![0x11; MAX_FRAME_FLOOR as usize - 4];
    let more = vec![0x22; MAX_FRAME_FLOOR as usize - 3];
    splitter.feed(&[frame(1, &fits), frame(2, &more), frame(3, b"z")].concat());
    assert_eq!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { id: 1, body: &fits })));
    let head = &more[..HEAD_BYTES_MAX];
    assert_eq!(
        splitter.next_frame(),
        Ok(Some(FrameEvent::TooLarge { id: 2, len: MAX_FRAME_FLOOR + 1, head }))
    );
    assert_eq!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { id: 3, body: b"z" })));
}

#[test]
fn the_limit_is_clamped_to_what_the_protocol_allows() {
    let mut splitter = Splitter::new();
    splitter.set_max_frame(0);
    splitter.feed(&frame(1, &[0; 60_000]));
    assert!(matches!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { .. }))));
    splitter.set_max_frame(u32::MAX);
    splitter.feed(&(FRAME_LEN_CEILING + 1).to_be_bytes());
    assert!(splitter.next_frame().is_err());
}

#[test]
fn a_skipped_frame_takes_no_memory_and_the_stream_goes_on() {
    let mut splitter = Splitter::new();
    splitter.set_max_frame(MAX_FRAME_FLOOR);
    let len = 100 * 1024 * 1024_u32;
    splitter.feed(&[&len.to_be_bytes()[..], &9_u32.to_be_bytes()].concat());
    let chunk = vec![0x33; 1024 * 1024];
    let mut left = len as usize - 4;
    let mut seen = 0;
    while left > 0 {
        let now = left.min(chunk.len());
        splitter.feed(&chunk[..now]);
        left -= now;
        if let Some(FrameEvent::TooLarge { id: 9, .. }) = splitter.next_frame().unwrap() {
            seen += 1;
        }
        assert!(splitter.buffer.len() <= 4 * chunk.len(), "{}", splitter.buffer.len());
    }
    assert_eq!(seen, 1);
    assert_eq!(splitter.finish(), Ok(()));
    splitter.feed(&frame(10, b"next"));
    assert_eq!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { id: 10, body: b"next" })));
}

#[test]
fn an_end_inside_a_frame_says_how_much_is_missing() {
    let whole = frame(1, b"abcdef");
    for cut in 1..whole.len() {
        let mut splitter = Splitter::new();
        splitter.feed(&whole[..cut]);
        assert_eq!(splitter.next_frame(), Ok(None));
        let want = if cut < 4 { 8 } else { whole.len() as u64 };
        assert_eq!(splitter.finish(), Err(FrameError::Truncated { want, got: cut as u64 }));
    }
}

#[test]
fn an_end_inside_a_skipped_frame_says_how_much_is_missing() {
    let mut splitter = Splitter::new();
    splitter.set_max_frame(MAX_FRAME_FLOOR);
    let whole = frame(1, &vec![0; 70_000]);
    splitter.feed(&whole[..1_000]);
    assert!(matches!(splitter.next_frame(), Ok(Some(FrameEvent::TooLarge { .. }))));
    assert_eq!(splitter.next_frame(), Ok(None));
    assert_eq!(splitter.finish(), Err(FrameError::Truncated { want: 70_008, got: 1_000 }));
}

#[test]
fn reads_into_the_space_are_taken_and_counts_beyond_it_are_cut() {
    let mut splitter = Splitter::new();
    let bytes = frame(5, b"in place");
    let space = splitter.space();
    assert!(space.len() >= SPACE_BYTES_MIN);
    space[..bytes.len()].copy_from_slice(&bytes);
    splitter.filled(bytes.len());
    assert_eq!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { id: 5, body: b"in place" })));
    splitter.space().fill(0);
    splitter.filled(usize::MAX);
    assert!(splitter.next_frame().is_err(), "zeros are no frame");
}

#[test]
fn the_buffer_of_a_giant_frame_is_given_back() {
    let mut splitter = Splitter::new();
    let body = vec![1; 3 * BUFFER_BYTES_KEPT];
    splitter.feed(&frame(1, &body));
    assert!(matches!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { .. }))));
    assert!(splitter.space().len() <= BUFFER_BYTES_KEPT);
}

#[test]
fn an_empty_splitter_lends_its_buffer_and_a_busy_one_keeps_it() {
    let mut splitter = Splitter::new();
    let mut spare = vec![0; 128 * 1024];
    splitter.swap_buffer(&mut spare);
    assert_eq!((splitter.buffer.len(), spare.len()), (128 * 1024, 0));
    splitter.feed(&frame(1, b"abc")[..6]);
    splitter.swap_buffer(&mut spare);
    assert_eq!(spare.len(), 0);
    assert_eq!(splitter.quote().as_bytes(), &frame(1, b"abc")[..6]);
    splitter.feed(&frame(1, b"abc")[6..]);
    assert_eq!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { id: 1, body: b"abc" })));
}

#[test]
fn a_buffer_lent_while_a_frame_is_skipped_changes_nothing() {
    let mut splitter = Splitter::new();
    splitter.set_max_frame(MAX_FRAME_FLOOR);
    let whole = [frame(1, &vec![7; 70_000]), frame(2, b"z")].concat();
    splitter.feed(&whole[..50_000]);
    assert!(matches!(splitter.next_frame(), Ok(Some(FrameEvent::TooLarge { .. }))));
    splitter.swap_buffer(&mut Vec::new());
    splitter.feed(&whole[50_000..]);
    assert_eq!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { id: 2, body: b"z" })));
}

#[test]
fn a_large_frame_that_arrives_in_part_is_read_into_a_buffer_of_its_own_and_given_away() {
    let (first, body) = (frame(1, b"a"), vec![0x33; 300_000]);
    let stream = [&first[..], &frame(2, &body), &frame(3, b"z")].concat();
    let mut splitter = Splitter::new();
    splitter.feed(&stream[..5_000]);
    assert_eq!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { id: 1, body: b"a" })));
    assert!(splitter.large().is_none(), "nobody knows of it yet");
    assert_eq!(splitter.next_frame(), Ok(None));
    assert!(!splitter.is_empty());
    assert_eq!(splitter.finish(), Err(FrameError::Truncated { want: 300_008, got: 5_000 - 9 }));
    // Two ways to read: appended, and into the space.
    splitter.large().unwrap().extend_from_slice(&stream[5_000..50_000]);
    let space = splitter.space();
    space[..1_000].copy_from_slice(&stream[50_000..51_000]);
    splitter.filled(1_000);
    assert!(splitter.take_large().is_none());
    splitter.large().unwrap().extend_from_slice(&stream[51_000..]);
    let (id, large) = splitter.take_large().unwrap();
    assert_eq!((id, &large[..]), (2, &body[..]));
    let data = large.share(&large[7..]).unwrap();
    assert_eq!((data.as_ptr(), data.len()), (large[7..].as_ptr(), body.len() - 7));
    assert!(large.share(&large[..7]).is_none() && large.share(&body).is_none());
    assert_eq!(
        splitter.next_frame(),
        Ok(Some(FrameEvent::Frame { id: 3, body: b"z" })),
        "what came behind it"
    );
    assert_eq!(splitter.finish(), Ok(()));
}

#[test]
fn a_large_frame_that_nobody_takes_is_lent_and_its_memory_used_again() {
    let body = vec![0x44; 200_000];
    let mut splitter = Splitter::new();
    let mut addresses = Vec::new();
    for id in 1..4 {
        let stream = frame(id, &body);
        for piece in stream.chunks(7_000) {
            splitter.feed(piece);
            if let Some(FrameEvent::Frame { id: found, body: lent }) = splitter.next_frame().unwrap() {
                assert_eq!((found, lent), (id, &body[..]));
                addresses.push(lent.as_ptr());
            }
        }
    }
    assert!(addresses.len() == 3 && addresses[1] == addresses[2], "{addresses:?}");
    splitter.shrink();
    assert_eq!(splitter.memory(), 0);
}

#[test]
fn behind_a_large_frame_little_is_read_until_a_small_one_came() {
    let mut splitter = Splitter::new();
    let stream = [frame(1, &vec![1; 100_000]), frame(2, b"small")].concat();
    assert!(splitter.space().len() >= SPACE_BYTES_MIN);
    splitter.feed(&stream[..SPACE_BYTES_MIN]);
    assert_eq!(splitter.next_frame(), Ok(None));
    splitter.feed(&stream[SPACE_BYTES_MIN..100_008]);
    assert!(splitter.next_frame().unwrap().is_some());
    assert_eq!(splitter.space().len(), PEEK_BYTES);
    splitter.feed(&stream[100_008..]);
    assert!(splitter.next_frame().unwrap().is_some());
    assert!(splitter.space().len() >= SPACE_BYTES_MIN);
}

#[test]
fn a_large_frame_that_is_announced_and_never_comes_takes_no_more_memory_than_one_that_is_expected() {
    let mut splitter = Splitter::new();
    splitter.set_max_frame(FRAME_LEN_CEILING);
    splitter.feed(&frame_header(1, FRAME_LEN_CEILING as usize - 4));
    splitter.feed(b"x");
    assert_eq!(splitter.next_frame(), Ok(None));
    let rest = splitter.large().unwrap();
    assert!(rest.capacity() <= 1024 * 1024 + 100, "{}", rest.capacity());
}
