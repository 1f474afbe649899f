//! Single rules of a session, one half at a time.

use stokehold_protocol::{
    Capabilities, Capability, ChildEvent, ChildHello, ChildSession, DataError, Failure, Message,
    MessageError, ParentEvent, ParentSession, PeerError, limits, wire,
};

use crate::sessions::{body, parent_hello};

#[test]
fn the_window_bounds_what_is_begun_and_credit_moves_it() {
    let mut session: ParentSession<u32> = ParentSession::new(parent_hello());
    let mut fill = |frame: Vec<u8>| {
        session.handle_frame(0, &frame).unwrap();
        while session.begin(0).is_ok() {}
        session.open_count()
    };
    assert_eq!(fill(body("HELLO", b"\x82\xa1v\x01\xa6window\x03")), 0, "nothing before READY");
    assert_eq!(fill(body("READY", b"\xc0")), 3);
    assert_eq!(fill(body("CREDIT", b"\x81\xa6window\x05")), 5);
    assert_eq!(
        fill(body("CREDIT", b"\x81\xa6window\x02")),
        5,
        "what is in flight beyond a smaller window stays"
    );
    session.handle_frame(1, &body("FINISHED", b"\xc0")).unwrap();
    assert!(session.begin(0).is_err(), "four are more than two");
    session.handle_frame(0, &body("CREDIT", b"\x81\xa6window\xce\xff\xff\xff\xff")).unwrap();
    assert_eq!(session.window(), limits::WINDOW_MAX);
    assert_eq!(session.leases().close_all().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 3, 4, 5]);
}

#[test]
fn a_child_may_change_between_serial_and_not_and_keeps_its_window() {
    let mut parent: ParentSession<u32> = ParentSession::new(parent_hello());
    let mut child =
        ChildSession::new(ChildHello { window: 3, serial: true, ready: true, ..ChildHello::default() }, 7);
    let mut tell = |say: &mut dyn FnMut(&mut ChildSession, &mut Vec<u8>)| {
        let mut out = Vec::new();
        say(&mut child, &mut out);
        // Past the length and the id.
        parent.handle_frame(0, &out[8..]).unwrap();
        (parent.window(), parent.child().serial)
    };
    assert_eq!(tell(&mut |child, out| child.hello(out).unwrap()), (3, true));
    assert_eq!(tell(&mut |child, out| child.serial(false, out).unwrap()), (3, false));
    assert_eq!(tell(&mut |child, out| child.serial(true, out).unwrap()), (3, true));
    let said = body("READY", b"\x82\xa6window\x05\xa6serial\xc2");
    parent.handle_frame(0, &said).unwrap();
    assert_eq!((parent.window(), parent.child().serial), (5, false));
    parent.handle_frame(0, &body("CREDIT", b"\x81\xa6window\x02")).unwrap();
    assert_eq!((parent.window(), parent.child().serial), (2, false), "what is not named stays");
    assert!(parent.handle_frame(0, &body("CREDIT", b"\x81\xa6serial\x01")).is_err());
}

#[test]
fn a_child_says_nothing_of_its_way_of_working_before_ready_and_after_bye() {
    let mut child = ChildSession::new(ChildHello::default(), 7);
    let mut out = Vec::new();
    assert!(child.serial(false, &mut out).is_err());
    child.hello(&mut out).unwrap();
    assert!(child.serial(false, &mut out).is_err());
    child.ready(&mut out).unwrap();
    child.bye(&mut out).unwrap();
    let before = out.len();
    assert!(child.serial(false, &mut out).is_err());
    assert_eq!(out.len(), before);
}

#[test]
fn a_lost_result_dooms_its_task_and_only_that() {
    let mut session: ParentSession<u32> = ParentSession::new(parent_hello());
    session.handle_frame(0, &body("HELLO", b"\x83\xa1v\x01\xa6window\x02\xa5ready\xc3")).unwrap();
    let (first, second) = (session.begin(10).unwrap(), session.begin(20).unwrap());
    let item = body("ITEM", b"\x01");
    assert_eq!(session.handle_too_large(first, &item), Ok(None));
    assert!(matches!(session.handle_frame(first, &item), Ok(ParentEvent::Ignored)));
    assert!(matches!(session.handle_frame(second, &item), Ok(ParentEvent::Item { .. })));
    let finished = body("FINISHED", b"\xc0");
    assert!(matches!(session.handle_frame(second, &finished), Ok(ParentEvent::Finished { ticket: 20, .. })));
    let event = session.handle_frame(first, &finished).unwrap();
    let ParentEvent::Failed { ticket: 10, failure } = event else { panic!("{event:?}") };
    assert_eq!(failure.code, stokehold_protocol::code::TOO_LARGE);
}

#[test]
fn a_final_answer_too_large_ends_its_task() {
    let mut session: ParentSession<u32> = ParentSession::new(parent_hello());
    session.handle_frame(0, &body("HELLO", b"\x82\xa1v\x01\xa5ready\xc3")).unwrap();
    let id = session.begin(10).unwrap();
    assert_eq!(session.handle_too_large(id, &body("LOG", b"\x80")), Ok(None));
    assert_eq!(session.handle_too_large(id, &body("FINISHED", b"\xc0")), Ok(Some(10)));
    assert!(session.handle_too_large(id, &body("FINISHED", b"\xc0")).is_err(), "answered before");
    assert!(session.handle_too_large(id, b"\x93").is_err(), "no head");
}

#[test]
fn answers_above_the_parents_limit_become_failures_that_fit() {
    let mut child = ChildSession::new(ChildHello { ready: true, ..ChildHello::default() }, 7);
    let mut out = Vec::new();
    child.hello(&mut out).unwrap();
    child
        .handle_frame(0, &body("HELLO", b"\x82\xa1v\x01\xa9max_frame\xce\x00\x01\x00\x00"), &mut out)
        .unwrap();
    for id in 1..=3 {
        child.handle_frame(id, &body("DO", b"\xc0"), &mut out).unwrap();
    }
    assert!(child.item(1, &[0xc0; 70_000], &mut out).is_err());
    out.clear();
    child.finished(1, &mut out, |out| wire::write_bin(out, &[0; 70_000])).unwrap();
    assert_eq!(failure(&out).code, stokehold_protocol::code::TOO_LARGE);
    out.clear();
    let long = Failure { trace: Some("é".repeat(60_000)), ..Failure::new("a.b", "é".repeat(60_000)) };
    child.failed(2, &long, &mut out).unwrap();
    assert!(out.len() <= limits::MAX_FRAME_FLOOR as usize);
    assert_eq!(failure(&out).code, "a.b");
    assert!(failure(&out).message.starts_with("éé"));
}

#[test]
fn a_failure_without_room_loses_its_data_first_and_says_so() {
    let mut child = ChildSession::new(ChildHello { ready: true, ..ChildHello::default() }, 7);
    let mut out = Vec::new();
    child.hello(&mut out).unwrap();
    let hello = body("HELLO", b"\x82\xa1v\x01\xa9max_frame\xce\x00\x01\x00\x00");
    child.handle_frame(0, &hello, &mut out).unwrap();
    let data = |bytes: usize| {
        let mut data = Vec::new();
        wire::write_bin(&mut data, &vec![0; bytes]);
        Some(data)
    };
    let words = |data| Failure { data, trace: Some("there".to_owned()), ..Failure::new("a.b", "no") };
    for (id, bytes, arrives) in [(1, 60_000, true), (2, 66_000, false)] {
        child.handle_frame(id, &body("DO", b"\xc0"), &mut out).unwrap();
        out.clear();
        child.failed(id, &words(data(bytes)), &mut out).unwrap();
        assert!(out.len() <= limits::MAX_FRAME_FLOOR as usize);
        if arrives {
            assert_eq!(failure(&out), words(data(bytes)));
        } else {
            let message = "no (its data, 66005 bytes, could not be sent)";
            assert_eq!(failure(&out), Failure { message: message.to_owned(), ..words(None) });
        }
    }
}

#[test]
fn a_hello_above_its_limit_is_refused_before_it_is_sent() {
    let hello = ChildHello { sdk: "x".repeat(70_000), ..ChildHello::default() };
    let mut child = ChildSession::new(hello, 7);
    let mut out = Vec::new();
    assert!(child.hello(&mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn meta_is_forgotten_unless_the_next_frame_has_its_id() {
    let capabilities = Capabilities::NONE.with(Capability::Meta);
    let mut child = ChildSession::new(ChildHello { ready: true, capabilities, ..ChildHello::default() }, 7);
    let mut out = Vec::new();
    child.hello(&mut out).unwrap();
    let meta = body("META", b"\x81\xa7attempt\x02");
    let task = body("DO", b"\xc0");
    for (between, expected) in
        [(None, Some(2)), (Some(b"\x93".to_vec()), None), (Some(body("PING", b"\xc0")), None)]
    {
        child.handle_frame(5, &meta, &mut out).unwrap();
        if let Some(between) = between {
            child.handle_frame(0, &between, &mut out).unwrap();
        }
        let event = child.handle_frame(5, &task, &mut out).unwrap();
        let ChildEvent::Task { meta, .. } = event else { panic!("{event:?}") };
        assert_eq!(meta.attempt, expected);
        child.finished(5, &mut out, wire::write_nil).unwrap();
    }
}

fn failure(frame: &[u8]) -> Failure {
    let message = Message::decode(&frame[limits::FRAME_HEADER_BYTES..]).unwrap();
    assert_eq!(message.request, "FAILED");
    Failure::decode(message.data)
}

/// A child that lists `batch`, or not, that has said HELLO and READY.
fn ready_child(capabilities: Capabilities) -> ChildSession {
    let mut child = ChildSession::new(ChildHello { capabilities, ready: true, ..ChildHello::default() }, 7);
    child.hello(&mut Vec::new()).unwrap();
    child
}

const BATCH: &[u8] = b"\x82\xa3req\xa6resize\xa5items\x93\x01\x02\x03";

#[test]
fn a_batch_is_work_for_a_child_that_lists_it_and_nothing_to_another() {
    let mut out = Vec::new();
    let mut able = ready_child(Capabilities::NONE.with(Capability::Batch));
    let frame = body("BATCH", BATCH);
    let Ok(ChildEvent::Batch { id: 5, request: "resize", items }) = able.handle_frame(5, &frame, &mut out)
    else {
        panic!("a batch")
    };
    assert_eq!(items.left(), 3);
    assert!(matches!(able.handle_frame(5, &frame, &mut out), Ok(ChildEvent::Ignored)), "it is open");
    assert!(matches!(able.handle_frame(0, &frame, &mut out), Ok(ChildEvent::Ignored)), "a batch has an id");
    able.item(5, b"\x91\x92\xc3\x01", &mut Vec::new()).unwrap();
    able.finished(5, &mut Vec::new(), |out| out.extend_from_slice(b"\x92\x92\xc3\x02\x92\xc3\x03")).unwrap();
    assert!(out.is_empty());
    let mut other = ready_child(Capabilities::NONE);
    assert!(matches!(other.handle_frame(5, &frame, &mut out), Ok(ChildEvent::Ignored)));
    assert!(out.is_empty(), "who does not know it does not answer it");
}

#[test]
fn what_is_no_batch_is_refused_as_bad_data_and_the_session_goes_on() {
    let mut child = ready_child(Capabilities::NONE.with(Capability::Batch));
    for (id, data) in [(1, &b"\xc0"[..]), (2, b"\x82\xa3req\xa2DO\xa5items\x90")] {
        let mut out = Vec::new();
        let frame = body("BATCH", data);
        let event = child.handle_frame(id, &frame, &mut out);
        assert!(matches!(event, Ok(ChildEvent::Refused)), "{event:?}");
        let message = Message::decode(&out[8..]).unwrap();
        assert_eq!((message.request, &out[4..8]), ("FAILED", &id.to_be_bytes()[..]));
        let failure = Failure::decode(message.data);
        assert_eq!((&failure.code[..], failure.begun), ("bad_data", Some(false)));
    }
    assert!(matches!(
        child.handle_frame(3, &body("DO", b"\x01"), &mut Vec::new()),
        Ok(ChildEvent::Task { .. })
    ));
}

#[test]
fn a_batch_above_the_childs_limit_is_refused_like_any_task() {
    let mut child = ready_child(Capabilities::NONE.with(Capability::Batch));
    let mut out = Vec::new();
    let event = child.handle_too_large(5, 1 << 26, &body("BATCH", BATCH), &mut out);
    assert!(matches!(event, ChildEvent::Refused));
    assert_eq!(Failure::decode(Message::decode(&out[8..]).unwrap().data).code, "too_large");
}

#[test]
fn data_that_cannot_be_read_ends_its_task_dooms_it_or_is_left_out() {
    const ERROR: DataError = DataError::LoneSurrogate;
    let head = |request: &str| body(request, b"\xc0");
    let mut session: ParentSession<u32> = ParentSession::new(parent_hello());
    assert!(session.handle_bad_data(0, &head("HELLO"), ERROR).is_err());
    assert!(session.handle_bad_data(1, &head("FINISHED"), ERROR).is_err(), "before HELLO");
    session.handle_frame(0, &body("HELLO", b"\x83\xa1v\x01\xa5ready\xc3\xa6window\x04")).unwrap();
    let ids: Vec<u32> = (10..14).map(|ticket| session.begin(ticket).unwrap()).collect();
    fn code(event: Result<ParentEvent<'_, u32>, PeerError>) -> (u32, String) {
        let Ok(ParentEvent::Failed { ticket, failure }) = event else { panic!("{event:?}") };
        (ticket, failure.code)
    }
    for verb in ["FINISHED", "FAILED"] {
        let id = if verb == "FINISHED" { ids[0] } else { ids[1] };
        let ticket = if verb == "FINISHED" { 10 } else { 11 };
        assert_eq!(code(session.handle_bad_data(id, &head(verb), ERROR)), (ticket, "bad_data".to_owned()));
        assert!(session.handle_bad_data(id, &head(verb), ERROR).is_err(), "answered before");
    }
    // A lost ITEM dooms its task, and what was lost first is told.
    assert!(matches!(session.handle_bad_data(ids[2], &head("ITEM"), ERROR), Ok(ParentEvent::Ignored)));
    assert_eq!(session.handle_too_large(ids[2], &head("ITEM")), Ok(None));
    assert!(matches!(session.handle_frame(ids[2], &head("ITEM")), Ok(ParentEvent::Ignored)));
    assert_eq!(code(session.handle_frame(ids[2], &head("FINISHED"))), (12, "bad_data".to_owned()));
    assert!(session.handle_bad_data(ids[2], &head("ITEM"), ERROR).is_err(), "not open");
    // What does not hang on its data is taken without.
    assert!(matches!(
        session.handle_bad_data(0, &head("LOG"), ERROR),
        Ok(ParentEvent::Log { data: [0xc0], .. })
    ));
    assert!(matches!(session.handle_bad_data(9, &head("tell"), ERROR), Ok(ParentEvent::Ask { id: 9 })));
    for verb in ["READY", "CREDIT"] {
        assert!(session.handle_bad_data(0, &head(verb), ERROR).is_err(), "{verb}");
    }
    assert!(matches!(session.handle_bad_data(0, &head("BYE"), ERROR), Ok(ParentEvent::Bye)));
    assert!(matches!(session.handle_bad_data(ids[3], &head("FINISHED"), ERROR), Ok(ParentEvent::Ignored)));
}

#[test]
fn a_child_refuses_lines_it_cannot_read_and_goes_on() {
    let mut child = ChildSession::new(ChildHello { ready: true, ..ChildHello::default() }, 7);
    let mut out = Vec::new();
    child.hello(&mut out).unwrap();
    out.clear();
    let mut codes = |id, head: Option<&[u8]>| {
        out.clear();
        let event = match head {
            Some(head) => child.handle_bad_data(id, head, &DataError::DuplicateKey, &mut out),
            None => child.handle_bad_message(id, &MessageError::FieldCount(3), &mut out),
        };
        let refused = matches!(event, ChildEvent::Refused);
        refused.then(|| Failure::decode(Message::decode(&out[8..]).unwrap().data).code)
    };
    assert_eq!(codes(3, None).as_deref(), Some("bad_message"));
    assert_eq!(codes(0, None), None);
    assert_eq!(codes(3, Some(&body("DO", b"\xc0"))).as_deref(), Some("bad_data"));
    assert_eq!(codes(0, Some(&body("DO", b"\xc0"))), None);
    assert_eq!(codes(3, Some(&body("META", b"\xc0"))), None);
    assert_eq!(codes(3, Some(&body("BATCH", b"\xc0"))), None, "it lists no batch");
}
