//! Each rule by a connection that breaks it, and none by one that does not.

use stokehold_protocol::{Capabilities, Capability, ChildHello, ParentHello};

use super::*;
use crate::conform::trace::{frame, json};

/// What a parent says, with its addresses.
fn got(id: u32, request: &str, data: &[u8]) -> Event {
    Event::Got(Got {
        piece: Piece::new(&frame(id, request, 1234, Recipient::Process(12345), data)),
        line: None,
        flaw: None,
        tasks: Vec::new(),
        living: Vec::new(),
    })
}

/// What a child says.
fn sent(id: u32, request: &str, data: &str) -> Event {
    Event::Sent(Piece::new(&frame(id, request, 0, Recipient::Anyone, &json(data))))
}

fn hello(hello: &ChildHello) -> Event {
    let mut data = Vec::new();
    hello.encode(&mut data);
    Event::Sent(Piece::new(&frame(0, "HELLO", 0, Recipient::Anyone, &data)))
}

fn greeting() -> Event {
    let mut data = Vec::new();
    let capabilities = Capabilities::NONE;
    let hello = ParentHello {
        version: 1,
        pid: 12345,
        parent: 1234,
        capabilities,
        max_frame: MAX_FRAME_DEFAULT,
        spin: true,
    };
    hello.encode(&mut data);
    got(0, "HELLO", &data)
}

fn task(id: u32) -> Event {
    got(id, "DO", &json("1"))
}

/// An open connection with a child of that window.
fn open(window: u32) -> Vec<Event> {
    let capabilities = Capabilities::NONE.with(Capability::Meta).with(Capability::Cancel);
    let child = ChildHello { window, capabilities, window_bytes: Some(60), ..ChildHello::default() };
    vec![hello(&child), sent(0, "READY", "null"), greeting()]
}

/// The statement that the events break, and those that they could keep better.
fn judge(events: &[Event]) -> (Option<String>, Vec<String>) {
    let mut umpire = Umpire::default();
    let broken = events.iter().find_map(|event| match umpire.take(event) {
        Err(Stop::Fail(finding)) => Some(finding.statement.into_owned()),
        Err(other) => panic!("{other:?}"),
        Ok(()) => None,
    });
    (broken, umpire.warnings.into_iter().map(|finding| finding.statement.into_owned()).collect())
}

#[track_caller]
fn breaks(window: u32, events: &[Event], statement: &str) {
    let all = [open(window), events.to_vec()].concat();
    assert_eq!(judge(&all).0.as_deref(), Some(statement));
}

#[track_caller]
fn keeps(window: u32, events: &[Event]) {
    let all = [open(window), events.to_vec()].concat();
    assert_eq!(judge(&all), (None, Vec::new()));
}

#[test]
fn an_ordinary_session_breaks_nothing() {
    keeps(
        1,
        &[
            task(1),
            sent(1, "FINISHED", "1"),
            got(2, "META", &json(r#"{"attempt":2}"#)),
            task(2),
            got(2, "CANCEL", &json("null")),
            sent(2, "FAILED", r#"{"code":"cancelled"}"#),
            got(2, "CANCEL", &json("null")),
            got(0, "FUTURE", &json("null")),
            sent(9, "child.asks", "null"),
            got(9, "FAILED", &json(r#"{"code":"unavailable"}"#)),
            got(0, "DIE", &json(r#"{"grace_ms":5}"#)),
        ],
    );
}

#[test]
fn hello_comes_second_and_nothing_but_die_before_ready() {
    let child = hello(&ChildHello::default());
    assert_eq!(judge(&[greeting()]).0.as_deref(), Some("S-3"));
    assert_eq!(judge(&[child.clone(), task(1)]).0.as_deref(), Some("S-3"));
    assert_eq!(judge(&[child.clone(), greeting(), task(1)]).0.as_deref(), Some("S-4"));
    assert_eq!(judge(&[child.clone(), greeting(), got(0, "DIE", &json("null"))]).0, None);
    let at_once = hello(&ChildHello { ready: true, ..ChildHello::default() });
    assert_eq!(judge(&[at_once, greeting(), task(1)]).0, None);
    for (data, statement) in
        [(r#"{"v":2}"#, "V-1"), (r#"{"v":1,"max_frame":70000}"#, "F-13"), (r#"{"v":1,"pid":"me"}"#, "R-13")]
    {
        let first = got(0, "HELLO", &json(data));
        assert_eq!(judge(&[child.clone(), first]).0.as_deref(), Some(statement));
    }
    let long = json(&serde_json::json!({"v": 1, "x-new": "a".repeat(3_000)}).to_string());
    let Event::Got(mut long) = got(0, "HELLO", &long) else { panic!() };
    assert_eq!(judge(&[child.clone(), Event::Got(long.clone())]).0, None);
    long.piece.whole = HELLO_LEN_MAX as usize + 5;
    assert_eq!(judge(&[child, Event::Got(long)]).0.as_deref(), Some("F-3"));
}

#[test]
fn ids_increase_and_none_is_given_twice() {
    breaks(2, &[task(1), task(1)], "R-1");
    breaks(2, &[task(5), task(4)], "R-1");
    breaks(1, &[task(5), sent(5, "FINISHED", "1"), task(5)], "R-1");
    let last = u32::MAX;
    keeps(1, &[task(last), sent(last, "FINISHED", "1"), task(1)]);
}

#[test]
fn the_window_is_kept_as_far_as_it_is_known() {
    breaks(1, &[task(1), task(2)], "W-1");
    breaks(2, &[task(1), task(2), sent(7, "FINISHED", "1"), task(3)], "W-1");
    // A smaller one may not have been read.
    let smaller = sent(0, "CREDIT", r#"{"window":0}"#);
    keeps(1, &[smaller.clone(), task(1)]);
    // It has, if the parent has answered what came behind it.
    let barrier = [sent(9, "child.asks", "null"), got(9, "FAILED", &json(r#"{"code":"unavailable"}"#))];
    breaks(1, &[&[smaller.clone()][..], &barrier, &[task(1)]].concat(), "W-2");
    // A larger one counts at once.
    let larger = sent(0, "CREDIT", r#"{"window":2}"#);
    keeps(1, &[&[smaller][..], &barrier, &[larger, task(1), task(2)]].concat());
    // That of a second HELLO does not count.
    breaks(1, &[hello(&ChildHello { window: 9, ..ChildHello::default() }), task(1), task(2)], "W-1");
}

#[test]
fn one_frame_is_always_within_window_bytes() {
    let large = |id| got(id, "DO", &json(r#""a text of more than twenty bytes""#));
    keeps(2, &[large(1)]);
    let all = [open(2), vec![large(1), large(2)]].concat();
    assert_eq!(judge(&all), (None, vec!["W-5".to_owned()]));
}

#[test]
fn what_needs_a_capability_is_not_sent_without_it() {
    breaks(1, &[got(0, "PING", &json("1"))], "V-6");
    breaks(1, &[got(1, "BATCH", &json(r#"{"req":"DO","items":[1]}"#))], "V-6");
    breaks(1, &[got(3, "CANCEL", &json("null"))], "R-4");
}

#[test]
fn meta_stands_in_front_of_its_request() {
    breaks(2, &[got(1, "META", &json("{}")), task(2)], "R-28");
    breaks(2, &[task(1), got(2, "META", &json("{}")), got(1, "CANCEL", &json("null"))], "R-28");
    breaks(1, &[got(0, "META", &json("{}"))], "R-28");
    breaks(1, &[got(1, "META", &json(r#"{"attempt":"x"}"#))], "R-28");
}

#[test]
fn nothing_is_asked_after_die() {
    breaks(1, &[got(0, "DIE", &json("null")), task(1)], "S-6");
    breaks(1, &[got(3, "DIE", &json("null"))], "R-4");
}

#[test]
fn a_parent_sends_what_parents_send() {
    breaks(1, &[got(0, "READY", &json("null"))], "R-8");
    breaks(1, &[got(4, "FAILED", &json("null"))], "R-32");
    breaks(1, &[Event::NoFrames("text".to_owned())], "F-1");
}

#[test]
fn frames_have_the_shape_they_should() {
    let with = |change: fn(&mut Got)| {
        let Event::Got(mut got) = task(1) else { panic!() };
        change(&mut got);
        Event::Got(got)
    };
    breaks(1, &[with(|got| got.piece.whole = 0x0100_0004)], "F-2");
    breaks(1, &[with(|got| got.flaw = Some(("D-5".to_owned(), "a key twice".to_owned())))], "D-5");
    breaks(1, &[with(|got| got.line = Some("1 [ \"DO\",1234,12345,1]".to_owned()))], "T-2");
    keeps(1, &[with(|got| got.line = Some("1 [\"DO\",1234,12345,1]".to_owned()))]);
    breaks(
        1,
        &[with(|got| got.piece = Piece::new(&frame(1, "DO", 1, Recipient::Everyone, b"\xc0")))],
        "M-12",
    );
    let wide = [&[0, 0, 0, 12, 0, 0, 0, 1][..], b"\x94\xd9\x02DO\x01\xc0\xc0"].concat();
    let Event::Got(mut odd) = task(1) else { panic!() };
    odd.piece = Piece::new(&wide);
    assert_eq!(judge(&[open(1), vec![Event::Got(odd)]].concat()), (None, vec!["M-8".to_owned()]));
}

#[test]
fn a_parent_that_goes_on_with_a_child_that_broke_a_rule_is_seen() {
    let broke = Event::Broke("R-11".to_owned());
    let wrong = sent(77, "FINISHED", "1");
    let answers = [task(1), broke.clone(), wrong.clone(), sent(1, "FINISHED", "1")];
    // The parent has read what was wrong before it gave another task.
    breaks(1, &[&answers[..], &[task(2)]].concat(), "R-11");
    // The next task may have been on its way already.
    keeps(1, &[task(1), sent(1, "FINISHED", "1"), broke, wrong, task(2)]);
    keeps(2, &[&answers[..], &[task(2)]].concat());
}
