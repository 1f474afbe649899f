//! The body of the target `payloads`: the data of every protocol request that has a shape. What is read is written as one
//! value, and read and written again as the same. Whatever it is, it is read as many inputs and as their results, too.

use std::fmt::Debug;

use stokehold_protocol::wire::Reader;
use stokehold_protocol::{
    Batch, BatchResult, Capabilities, ChildHello, ChildSession, Die, Failure, GoodResults, LogLine, Message,
    Meta, ParentEvent, ParentHello, ParentSession, PeerError, Progress, Recipient, ResultList, Results,
    check, limits, wire, write_batch_head,
};

use super::stretch::stretch;

/// The first byte chooses the request, the rest is its data.
pub(crate) fn run(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let data = stretch(rest);
    match choice % 9 {
        0 => again(&data, ChildHello::decode, ChildHello::encode, |hello| {
            assert!(hello.methods.len() <= limits::LIST_ENTRIES_MAX);
            assert!(hello.sdk.len() <= limits::TEXT_BYTES_MAX);
            assert!((limits::MAX_FRAME_FLOOR..=limits::FRAME_LEN_CEILING).contains(&hello.max_frame));
            hello.window > 0
        }),
        1 => again(&data, ParentHello::decode, ParentHello::encode, |hello| {
            assert!(hello.pid.max(hello.parent) <= limits::ADDRESS_MAX);
            true
        }),
        2 => again(&data, Die::decode, Die::encode, |_| true),
        3 => again(&data, Meta::decode, Meta::encode, |_| true),
        // What stands in `data` of a failure is the peer's, and carried as it is.
        4 => {
            again(
                &data,
                |data| Ok(Failure::decode(data)),
                Failure::encode,
                |failure| {
                    bounded(failure);
                    failure.data.as_deref().is_none_or(|inner| check(inner).is_ok())
                },
            );
        }
        5 => credit("READY", &data),
        6 => credit("CREDIT", &data),
        7 => again(&data, |data| Ok(Progress::decode(data)), Progress::encode, |_| true),
        _ => again(&data, |data| Ok(LogLine::decode(data)), LogLine::encode, |_| true),
    }
    to_the_child(&data);
    inputs(&data);
    results(&data);
}

/// Reads, writes, reads and writes. `clean` tells whether what was written has to be a value of the data model.
fn again<T: Debug>(
    data: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, PeerError>,
    encode: impl Fn(&T, &mut Vec<u8>),
    clean: impl Fn(&T) -> bool,
) {
    let first = match decode(data) {
        Ok(first) => first,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut written = Vec::new();
    encode(&first, &mut written);
    if clean(&first) {
        assert_eq!(check(&written), Ok(()), "{first:?}");
    } else {
        let mut reader = Reader::new(&written);
        assert_eq!((reader.skip(), reader.rest()), (Ok(()), &[][..]), "{first:?}");
    }
    let second = decode(&written).expect("what was written can be read");
    // In words, because a number may be none, which equals nothing.
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    let mut rewritten = Vec::new();
    encode(&second, &mut rewritten);
    assert_eq!(written, rewritten);
}

/// A batch that is read to its end is written and read again as the same.
fn inputs(data: &[u8]) {
    let Ok(batch) = Batch::decode(data) else { return };
    let (mut items, count) = (batch.items, batch.items.left());
    assert!((1..=limits::BATCH_ITEMS_MAX).contains(&count));
    let mut written = Vec::new();
    write_batch_head(&mut written, batch.request, count);
    let mut read = 0;
    loop {
        match items.next_value() {
            Ok(Some(item)) => written.extend_from_slice(item),
            Ok(None) => break,
            Err(_) => return assert_eq!(items.left(), 0, "there are no more after an error"),
        }
        read += 1;
    }
    assert_eq!(read, count);
    let again = Batch::decode(&written).expect("what was written can be read");
    assert_eq!((again.request, again.items.left()), (batch.request, count));
    let (mut one, mut other) = (batch.items, again.items);
    while let Some(item) = one.next_value().expect("it was read before") {
        assert_eq!(other.next_value(), Ok(Some(item)));
    }
    assert_eq!(other.next_value(), Ok(None));
}

/// Results are the same when the good ones are read many at a time.
fn results(data: &[u8]) {
    let Ok(mut one_by_one) = Results::decode(data) else { return };
    let (mut in_bulk, count) = (one_by_one, one_by_one.left());
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let first_end = loop {
        match one_by_one.next_result() {
            Ok(Some(result)) => first.push(result),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    let second_end = loop {
        let good = in_bulk.next_good().map(|(count, good)| (count as usize, GoodResults::new(good)));
        let next = good.and_then(|(count, good)| {
            let before = second.len();
            second.extend(good.map(BatchResult::Good));
            assert_eq!(second.len() - before, count);
            in_bulk.next_result()
        });
        match next {
            Ok(Some(result)) => second.push(result),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert_eq!(first_end.is_ok(), second_end.is_ok());
    if first_end.is_err() {
        return;
    }
    assert_eq!((first.len(), &first), (count as usize, &second));
    written_again(&first);
}

/// A list of results that a child writes reads as the same.
fn written_again(results: &[BatchResult<'_>]) {
    let mut written = Vec::new();
    let mut list = ResultList::begin(u32::try_from(results.len()).unwrap_or(u32::MAX), &mut written);
    let (mut good, mut bad) = (Vec::new(), 0);
    for result in results.iter().take(limits::BATCH_ITEMS_MAX as usize) {
        match result {
            BatchResult::Good(value) => {
                good.push(*value);
                let put: Result<(), ()> = list.good(&mut written, |out| {
                    out.extend_from_slice(value);
                    Ok(())
                });
                assert!(put.is_ok());
            }
            BatchResult::Bad(failure) => {
                bad += 1;
                list.bad(&mut written, &Failure::decode(failure));
            }
        }
    }
    list.finish(&mut written);
    let mut again = Results::decode(&written).expect("what was written can be read");
    while let Some(result) = again.next_result().expect("all of it") {
        match result {
            BatchResult::Good(value) => assert_eq!(good.remove(0), value),
            BatchResult::Bad(_) => bad -= 1,
        }
    }
    assert!(good.is_empty() && bad == 0);
}

/// No text of a failure is longer than what is kept.
fn bounded(failure: &Failure) {
    let texts = [&failure.code, &failure.message].into_iter().chain(&failure.trace).chain(&failure.chain);
    for text in texts {
        assert!(text.len() <= limits::TEXT_BYTES_MAX, "a text of {} bytes", text.len());
    }
    assert!(failure.chain.len() <= limits::LIST_ENTRIES_MAX);
}

/// READY and CREDIT are read inside the parent's half only. What they changed is said again, and changes the same.
fn credit(request: &'static str, data: &[u8]) {
    let Some((window, serial)) = told(request, data) else { return };
    assert!(window <= limits::WINDOW_MAX);
    let mut said = Vec::new();
    wire::write_map_len(&mut said, 2);
    wire::write_str(&mut said, "serial");
    wire::write_bool(&mut said, serial);
    wire::write_str(&mut said, "window");
    wire::write_uint(&mut said, u64::from(window));
    assert_eq!(told(request, &said), Some((window, serial)));
}

/// The window and the way of working after a child said `data`; `None` if that ended the connection.
fn told(request: &'static str, data: &[u8]) -> Option<(u32, bool)> {
    if data.is_empty() {
        return None;
    }
    let mut parent: ParentSession<()> = ParentSession::new(ParentHello {
        version: 1,
        pid: 7,
        parent: 3,
        capabilities: Capabilities::NONE,
        max_frame: limits::MAX_FRAME_DEFAULT,
        spin: true,
    });
    let ready = if request == "CREDIT" { &b"\x82\xa1v\x01\xa5ready\xc3"[..] } else { b"\x81\xa1v\x01" };
    parent.handle_frame(0, &body("HELLO", ready)).expect("a good HELLO");
    match parent.handle_frame(0, &body(request, data)) {
        Ok(ParentEvent::Ready | ParentEvent::Window) => Some((parent.window(), parent.child().serial)),
        Ok(event) => panic!("{request} became {event:?}"),
        Err(_) => None,
    }
}

/// A child reads its parent's payloads through the same readers, whatever they are.
fn to_the_child(data: &[u8]) {
    if data.is_empty() {
        return;
    }
    for request in ["HELLO", "DIE", "META", "PING", "CREDIT"] {
        let mut child = ChildSession::new(ChildHello { ready: true, ..ChildHello::default() }, 7);
        let mut out = Vec::new();
        child.hello(&mut out).expect("HELLO is said first");
        let said = out.len();
        let id = u32::from(request == "META");
        let _ = child.handle_frame(id, &body(request, data), &mut out);
        assert_eq!(out.len(), said, "{request} has no answer");
    }
}

fn body(request: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Message { request, sender: 7, recipient: Recipient::Anyone, data }.encode_frame(0, &mut out);
    out.split_off(limits::FRAME_HEADER_BYTES)
}
