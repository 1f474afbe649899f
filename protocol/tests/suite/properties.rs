//! Properties over random input. Nothing is written to disk when one fails: the smallest case is in the failure's text.

use proptest::prelude::*;
use stokehold_protocol::{
    Capability, ChildEvent, ChildHello, ChildSession, Die, Failure, FrameError, FrameEvent, Kind, Message,
    Meta, ParentEvent, ParentHello, ParentSession, Recipient, Splitter, check, check_user_name, limits,
};

use crate::sessions::{body, parent_hello};

/// What came out of a splitter, owned.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Frame(u32, Vec<u8>),
    TooLarge(u32, u32, Vec<u8>),
    /// Where the stream broke; the quote's length depends on what had arrived, its first four bytes do not.
    Desync([u8; 4]),
    Truncated(u64, u64),
    End,
}

/// Feeds `stream` in chunks of the given sizes, over and over, through [`Splitter::feed`] or [`Splitter::space`].
fn split(stream: &[u8], sizes: &[usize], in_place: bool) -> Vec<Seen> {
    let mut splitter = Splitter::new();
    splitter.set_max_frame(limits::MAX_FRAME_FLOOR);
    let mut seen = Vec::new();
    let mut rest = stream;
    for size in sizes.iter().cycle() {
        if !take_all(&mut splitter, &mut seen) {
            return seen;
        }
        if rest.is_empty() {
            break;
        }
        let mut chunk;
        (chunk, rest) = rest.split_at((*size).clamp(1, rest.len()));
        if in_place {
            while !chunk.is_empty() {
                let space = splitter.space();
                let count = chunk.len().min(space.len());
                space[..count].copy_from_slice(&chunk[..count]);
                splitter.filled(count);
                chunk = &chunk[count..];
            }
        } else {
            splitter.feed(chunk);
        }
    }
    seen.push(match splitter.finish() {
        Ok(()) => Seen::End,
        Err(FrameError::Truncated { want, got }) => Seen::Truncated(want, got),
        Err(error) => panic!("{error}"),
    });
    seen
}

/// False when the stream broke.
fn take_all(splitter: &mut Splitter, seen: &mut Vec<Seen>) -> bool {
    loop {
        match splitter.next_frame() {
            Ok(Some(FrameEvent::Frame { id, body })) => seen.push(Seen::Frame(id, body.to_vec())),
            Ok(Some(FrameEvent::TooLarge { id, len, head })) => {
                seen.push(Seen::TooLarge(id, len, head.to_vec()))
            }
            Ok(Some(FrameEvent::BadLine { .. } | FrameEvent::BadData { .. })) => unreachable!("no lines"),
            Ok(None) => return true,
            Err(FrameError::Desync { quote }) => {
                seen.push(Seen::Desync(quote.as_bytes()[..4].try_into().unwrap()));
                return false;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn raw_frame(id: u32, body: &[u8]) -> Vec<u8> {
    [&stokehold_protocol::frame_header(id, body.len()), body].concat()
}

/// Streams of good frames, frames above the limit, and now and then garbage or a cut.
fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        12 => (any::<u32>(), prop::collection::vec(any::<u8>(), 1..300)).prop_map(|(id, body)| raw_frame(id, &body)),
        2 => (any::<u32>(), 60_000_usize..140_000, any::<u8>()).prop_map(|(id, len, fill)| raw_frame(id, &vec![fill; len])),
        1 => prop::collection::vec(any::<u8>(), 1..40),
        1 => (0_u32..5).prop_map(|len| len.to_be_bytes().to_vec()),
    ];
    (prop::collection::vec(piece, 0..8), 0_usize..60).prop_map(|(pieces, cut)| {
        let mut stream = pieces.concat();
        stream.truncate(stream.len().saturating_sub(cut.saturating_sub(30)));
        stream
    })
}

pub(crate) fn recipients() -> impl Strategy<Value = Recipient> + Clone {
    prop_oneof![
        Just(Recipient::Anyone),
        Just(Recipient::Everyone),
        (1..=limits::ADDRESS_MAX).prop_map(Recipient::Process),
        (1..70_000_u64).prop_map(Recipient::Process),
    ]
}

/// Bytes that are likely to be almost a message, so that the readers get past the first one.
fn almost_messages() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec![
        "HELLO", "READY", "DO", "FINISHED", "FAILED", "ITEM", "PROGRESS", "LOG", "STARTED", "CANCEL", "META",
        "CREDIT", "PING", "PONG", "DIE", "BYE", "BATCH", "UNKNOWN", "resize",
    ]);
    let data = prop_oneof![
        Just(b"\xc0".to_vec()),
        Just(b"\x82\xa1v\x01\xa6window\x04".to_vec()),
        Just(b"\x81\xa6serial\xc2".to_vec()),
        Just(b"\x83\xa1v\x01\xa5ready\xc3\xa6window\x02".to_vec()),
        Just(b"\x81\xa3now\xc3".to_vec()),
        Just(b"\x82\xa4code\xa5error\xa7message\xa2no".to_vec()),
        prop::collection::vec(any::<u8>(), 1..60),
    ];
    let whole = (names, 0..3_u64, recipients(), data).prop_map(|(request, sender, recipient, data)| {
        let mut out = Vec::new();
        Message { request, sender, recipient, data: &data }.encode_frame(0, &mut out);
        out.split_off(limits::FRAME_HEADER_BYTES)
    });
    prop_oneof![
        6 => whole.clone(),
        2 => (whole, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut body, at, byte)| {
            let at = at.index(body.len());
            body[at] = byte;
            body
        }),
        1 => prop::collection::vec(any::<u8>(), 0..80),
    ]
}

pub(crate) fn configured(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(configured(200))]

    #[test]
    fn any_split_of_a_stream_gives_the_same_frames(
        stream in streams(),
        sizes in prop::collection::vec(prop_oneof![1_usize..10, 1_usize..2_000, 60_000_usize..70_000], 1..6),
        in_place in any::<bool>(),
    ) {
        let whole = split(&stream, &[stream.len().max(1)], false);
        prop_assert_eq!(split(&stream, &sizes, in_place), whole);
    }

    #[test]
    fn the_buffer_stays_within_twice_what_arrived_and_64_kib(
        stream in streams(),
        claimed in 0_u32..=limits::FRAME_LEN_CEILING,
    ) {
        let mut splitter = Splitter::new();
        splitter.set_max_frame(limits::FRAME_LEN_CEILING);
        let stream = [raw_frame(1, b"first"), claimed.max(5).to_be_bytes().to_vec(), stream].concat();
        let mut arrived = 0;
        for chunk in stream.chunks(4_000) {
            splitter.feed(chunk);
            arrived += chunk.len();
            while let Ok(Some(_)) = splitter.next_frame() {}
            // Before the next read there is room for it and at most as much again as had arrived.
            prop_assert!(splitter.space().len() <= 2 * arrived + 64 * 1024);
        }
    }
}

proptest! {
    #![proptest_config(configured(2_000))]

    #[test]
    fn a_message_written_is_the_message_read(
        request in "\\PC{1,60}",
        sender in 0..=limits::ADDRESS_MAX,
        recipient in recipients(),
        data in prop::collection::vec(any::<u8>(), 1..200),
        id in any::<u32>(),
    ) {
        prop_assume!(request.len() <= limits::REQUEST_BYTES_MAX);
        let message = Message { request: &request, sender, recipient, data: &data };
        let mut out = Vec::new();
        message.encode_frame(id, &mut out);
        let mut splitter = Splitter::new();
        splitter.feed(&out);
        let Ok(Some(FrameEvent::Frame { id: read, body })) = splitter.next_frame() else { panic!("no frame") };
        prop_assert_eq!(read, id);
        prop_assert_eq!(Message::decode(body), Ok(message));
    }

    #[test]
    fn a_payload_written_is_the_payload_read(
        window in 1_u32..,
        window_bytes in any::<Option<u64>>(),
        max_frame in limits::MAX_FRAME_FLOOR..=limits::FRAME_LEN_CEILING,
        flags in any::<(bool, bool, bool, bool)>(),
        words in prop::collection::vec("\\PC{0,20}", 0..5),
        numbers in any::<(Option<u32>, Option<u64>)>(),
        addresses in (0..=limits::ADDRESS_MAX, 0..=limits::ADDRESS_MAX),
    ) {
        let (serial, ready, now, retry) = flags;
        let word = words.first().cloned().unwrap_or_default();
        let capabilities = if now { Capability::ALL.into_iter().fold(Default::default(), |set: stokehold_protocol::Capabilities, one| set.with(one)) } else { Default::default() };
        let hello = ChildHello {
            version: 1, window, window_bytes, capabilities, max_frame, serial, sdk: word.clone(), methods: words.clone(), ready,
        };
        let mut out = Vec::new();
        hello.encode(&mut out);
        prop_assert_eq!(check(&out), Ok(()));
        prop_assert_eq!(ChildHello::decode(&out), Ok(hello));

        let hello = ParentHello { version: 1, pid: addresses.0, parent: addresses.1, capabilities, max_frame, spin: now };
        out.clear();
        hello.encode(&mut out);
        prop_assert_eq!(ParentHello::decode(&out), Ok(hello));

        let die = Die { now, grace_ms: numbers.1, reason: words.last().cloned() };
        out.clear();
        die.encode(&mut out);
        prop_assert_eq!(Die::decode(&out), Ok(die));

        let meta = Meta { attempt: numbers.0, deadline_ms: numbers.1, key: words.get(1).cloned(), traceparent: None };
        out.clear();
        meta.encode(&mut out);
        prop_assert_eq!(Meta::decode(&out), Ok(meta));

        let failure = Failure {
            code: word.clone(), message: word, retry, after_ms: numbers.1, begun: Some(now), trace: words.last().cloned(),
            chain: words, data: Some(b"\x91\x01".to_vec()),
        };
        out.clear();
        failure.encode(&mut out);
        prop_assert_eq!(check(&out), Ok(()));
        prop_assert_eq!(Failure::decode(&out), failure);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::decode(&bytes);
        let _ = check(&bytes);
        let _ = ChildHello::decode(&bytes);
        let _ = ParentHello::decode(&bytes);
        let _ = Die::decode(&bytes);
        let _ = Meta::decode(&bytes);
        let _ = Failure::decode(&bytes);
        let name = String::from_utf8_lossy(&bytes);
        let _ = (Kind::of(&name), check_user_name(&name));
        let mut reader = stokehold_protocol::wire::Reader::new(&bytes);
        let _ = reader.skip();
    }

    #[test]
    fn what_check_passes_the_plain_reader_steps_over_exactly(bytes in prop::collection::vec(any::<u8>(), 1..40)) {
        if check(&bytes).is_ok() {
            let mut reader = stokehold_protocol::wire::Reader::new(&bytes);
            prop_assert_eq!(reader.skip(), Ok(()));
            prop_assert!(reader.rest().is_empty());
        }
    }

    #[test]
    fn no_frames_make_the_parents_half_panic_or_answer_twice(
        frames in prop::collection::vec((0_u32..6, almost_messages(), any::<bool>()), 0..24),
        greet in any::<bool>(),
    ) {
        let mut session: ParentSession<u32> = ParentSession::new(parent_hello());
        if greet {
            let hello = body("HELLO", b"\x83\xa1v\x01\xa5ready\xc3\xa6window\x03");
            prop_assert!(session.handle_frame(0, &hello).is_ok());
        }
        let (mut begun, mut answered) = (0, Vec::new());
        for (id, body, too_large) in frames {
            if session.begin(begun).is_ok() {
                begun += 1;
            }
            if too_large {
                answered.extend(session.handle_too_large(id, &body).ok().flatten());
            } else if let Ok(ParentEvent::Finished { ticket, .. } | ParentEvent::Failed { ticket, .. }) =
                session.handle_frame(id, &body)
            {
                answered.push(ticket);
            }
            prop_assert_eq!(begun as usize, answered.len() + session.open_count() as usize);
        }
        answered.sort_unstable();
        answered.dedup();
        prop_assert_eq!(begun as usize, answered.len() + session.open_count() as usize);
    }

    #[test]
    fn no_frames_make_the_childs_half_panic_or_answer_wrongly(
        frames in prop::collection::vec((0_u32..6, almost_messages()), 0..24),
        greet in any::<bool>(),
        answer in any::<bool>(),
    ) {
        let mut session = ChildSession::new(ChildHello { ready: true, ..ChildHello::default() }, 7);
        let mut out = Vec::new();
        if greet {
            session.hello(&mut out).unwrap();
        }
        let mut open = 0;
        for (id, body) in frames {
            match session.handle_frame(id, &body, &mut out) {
                Ok(ChildEvent::Task { id, .. }) if answer && greet => {
                    prop_assert_eq!(session.finished(id, &mut out, stokehold_protocol::wire::write_nil), Ok(()));
                }
                Ok(ChildEvent::Task { .. }) => open += 1,
                Ok(ChildEvent::Ping { data }) => session.pong(data, &mut out),
                _ => {}
            }
            prop_assert_eq!(session.open_count(), open);
        }
        prop_assert!(greet || out.is_empty(), "nothing is said before HELLO");
        let mut splitter = Splitter::new();
        splitter.feed(&out);
        while let Some(frame) = splitter.next_frame().unwrap() {
            let FrameEvent::Frame { body, .. } = frame else { panic!("too large") };
            prop_assert_eq!(check(Message::decode(body).unwrap().data), Ok(()));
        }
        prop_assert_eq!(splitter.finish(), Ok(()));
    }
}
