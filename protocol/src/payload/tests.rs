//! Tests of the data of protocol requests: what is written is read back, and how much a reader forgives.

use super::*;
use crate::check;
use crate::request::Capability;

fn written(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    assert_eq!(check(&out), Ok(()), "{out:02x?}");
    out
}

fn full_hello() -> ChildHello {
    ChildHello {
        version: 1,
        window: 300,
        window_bytes: Some(1 << 33),
        capabilities: Capabilities::NONE.with(Capability::Cancel).with(Capability::Started),
        max_frame: 1 << 20,
        serial: false,
        sdk: "rust 0.1".to_owned(),
        methods: vec!["resize".to_owned(), "DO".to_owned()],
        ready: true,
    }
}

#[test]
fn hellos_round_trip() {
    for hello in [full_hello(), ChildHello::default()] {
        assert_eq!(ChildHello::decode(&written(|out| hello.encode(out))), Ok(hello));
    }
    let hello = ParentHello {
        version: 1,
        pid: ADDRESS_MAX,
        parent: 77,
        capabilities: Capabilities::NONE.with(Capability::Started),
        max_frame: MAX_FRAME_DEFAULT,
        spin: true,
    };
    for hello in [ParentHello { spin: false, ..hello.clone() }, hello] {
        assert_eq!(ParentHello::decode(&written(|out| hello.encode(out))), Ok(hello));
    }
}

#[test]
fn the_smallest_hello_has_a_version_and_defaults() {
    assert_eq!(ChildHello::decode(b"\x81\xa1v\x01"), Ok(ChildHello::default()));
    let wide = ChildHello::decode(b"\x82\xa1v\x01\xa6window\x08").unwrap();
    assert_eq!((wide.window, wide.serial), (8, false), "a wider window is not serial unless it says so");
    let parent = ParentHello::decode(b"\x80").unwrap();
    assert_eq!((parent.version, parent.pid, parent.max_frame), (VERSION, 0, MAX_FRAME_DEFAULT));
}

#[test]
fn unknown_keys_and_capabilities_are_ignored() {
    let data = b"\x84\xa1v\x01\xa3new\x82\xa1a\x93\x01\x02\x03\xa1b\xc0\xa4caps\x92\xa8teleport\xa4ping\xa2xx\xc4\x01\xff";
    let hello = ChildHello::decode(data).unwrap();
    assert_eq!(hello.capabilities, Capabilities::NONE.with(Capability::Ping));
}

#[test]
fn numbers_are_clamped_into_their_range() {
    let hello = ChildHello::decode(b"\x83\xa1v\x01\xa6window\x00\xa9max_frame\x07").unwrap();
    assert_eq!((hello.window, hello.max_frame), (1, MAX_FRAME_FLOOR));
    let hello = ChildHello::decode(
        b"\x83\xa1v\x01\xa6window\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa9max_frame\xce\xff\xff\xff\xff",
    )
    .unwrap();
    assert_eq!((hello.window, hello.max_frame), (u32::MAX, FRAME_LEN_CEILING));
}

#[test]
fn a_whole_number_may_come_as_a_float() {
    let hello = ChildHello::decode(b"\x82\xa1v\xcb\x3f\xf0\0\0\0\0\0\0\xa6window\xca\x40\x80\0\0").unwrap();
    assert_eq!((hello.version, hello.window), (1, 4));
    for bad in [1.5, -1.0, f64::NAN, f64::INFINITY, 1e300] {
        let mut data = b"\x81\xa1v".to_vec();
        wire::write_float(&mut data, bad);
        assert!(ChildHello::decode(&data).is_err(), "{bad}");
    }
}

#[test]
fn a_hello_that_is_none_is_refused() {
    for data in [
        &b""[..],
        b"\xc0",
        b"\x80",
        b"\x81\xa1v\x00",
        b"\x81\xa1v\xa11",
        b"\x81\x01\x01",
        b"\x81\xa1v",
        b"\x82\xa1v\x01",
        b"\x81\xa1v\x01\xc0",
        b"\x93\x01\x02\x03",
        b"\xdf\xff\xff\xff\xff",
        b"\x82\xa1v\x01\xa4caps\xdd\xff\xff\xff\xff",
        b"\x82\xa1v\x01\xa4caps\x91\x01",
        b"\x82\xa1v\x01\xa5ready\x01",
    ] {
        assert!(matches!(ChildHello::decode(data), Err(PeerError::BadProtocolData { .. })), "{data:02x?}");
    }
}

#[test]
fn an_address_that_no_message_can_carry_is_refused() {
    let mut data = b"\x81\xa3pid".to_vec();
    wire::write_uint(&mut data, ADDRESS_MAX + 1);
    assert!(ParentHello::decode(&data).is_err());
}

#[test]
fn lists_and_texts_are_cut_at_their_limits() {
    let hello = ChildHello {
        methods: vec!["m".to_owned(); LIST_ENTRIES_MAX + 5],
        sdk: "é".repeat(TEXT_BYTES_MAX),
        ..ChildHello::default()
    };
    let read = ChildHello::decode(&written(|out| hello.encode(out))).unwrap();
    assert_eq!((read.methods.len(), read.sdk.len()), (LIST_ENTRIES_MAX, TEXT_BYTES_MAX));
    let odd = "a".to_owned() + &"é".repeat(TEXT_BYTES_MAX);
    assert_eq!(cut(&odd).len(), TEXT_BYTES_MAX - 1, "no character is split");
}

#[test]
fn failures_round_trip() {
    let full = Failure {
        code: "acme.jam".to_owned(),
        message: "paper jam".to_owned(),
        retry: true,
        after_ms: Some(250),
        begun: Some(false),
        trace: Some("line 1\nline 2".to_owned()),
        chain: vec!["outer".to_owned(), "inner".to_owned()],
        data: Some(b"\x81\xa1a\x01".to_vec()),
    };
    for failure in [full, Failure::new("error", "no")] {
        assert_eq!(Failure::decode(&written(|out| failure.encode(out))), failure);
    }
}

#[test]
fn a_failure_that_is_no_map_is_the_message() {
    for (data, message) in [
        (&b"\xa4oops"[..], "oops"),
        (b"\xc4\x04oops", "oops"),
        (b"\x07", "7"),
        (b"\xff", "-1"),
        (b"\xc3", "true"),
        (b"\xcb\x3f\xf8\0\0\0\0\0\0", "1.5"),
        (b"\xc0", ""),
        (b"\xc1", ""),
        (b"", ""),
        (b"\x92\x01\x02", "(a structured value)"),
    ] {
        let failure = Failure::decode(data);
        assert_eq!((failure.code.as_str(), failure.message.as_str()), ("error", message), "{data:02x?}");
    }
}

#[test]
fn wrong_types_in_a_failure_are_forgiven() {
    let data = b"\x86\xa4code\x05\xa7message\x07\xa5retry\xa1y\xa8after_ms\xa1x\xa5chain\x01\xa5begun\xc0";
    let failure = Failure::decode(data);
    assert_eq!(failure, Failure::new("error", "7"));
    let cut_off = Failure::decode(b"\x83\xa4code\xa3a.b\xa7message\xa2no\xa5retr");
    assert_eq!((cut_off.code.as_str(), cut_off.message.as_str()), ("a.b", "no"), "what was read stays");
}

#[test]
fn die_and_meta_round_trip() {
    let die = Die { now: true, grace_ms: Some(2_000), reason: Some("deploy".to_owned()) };
    assert_eq!(Die::decode(&written(|out| die.encode(out))), Ok(die));
    assert_eq!(written(|out| Die::default().encode(out)), b"\xc0");
    assert_eq!(Die::decode(b"\xc0"), Ok(Die::default()));
    assert!(Die::decode(b"\x01").is_err());
    let meta = Meta {
        attempt: Some(2),
        deadline_ms: Some(u64::MAX),
        key: Some("k".to_owned()),
        traceparent: Some("00-0-0-01".to_owned()),
    };
    assert_eq!(Meta::decode(&written(|out| meta.encode(out))), Ok(meta));
    assert_eq!(Meta::decode(&written(|out| Meta::default().encode(out))), Ok(Meta::default()));
    assert!(Meta::decode(b"\xc0").is_err());
}

#[test]
fn a_new_way_of_working_is_read_from_nil_or_a_map() {
    let read = |data: &[u8]| Credit::decode("CREDIT", data);
    assert_eq!(read(b"\xc0"), Ok(Credit::default()));
    assert_eq!(read(b"\x80"), Ok(Credit::default()));
    let window = Credit { window: Some(0), serial: None };
    assert_eq!(read(b"\x82\xa5items\x01\xa6window\x00"), Ok(window));
    assert_eq!(read(b"\x81\xa6serial\xc2"), Ok(Credit { window: None, serial: Some(false) }));
    assert!(read(b"\xc3").is_err());
    assert!(read(b"\x81\xa6window\xa11").is_err());
    assert!(read(b"\x81\xa6serial\x01").is_err());
}

#[test]
fn a_new_way_of_working_is_read_as_it_was_written() {
    for window in [None, Some(0), Some(u32::MAX)] {
        for serial in [None, Some(false), Some(true)] {
            let credit = Credit { window, serial };
            assert_eq!(Credit::decode("READY", &written(|out| credit.encode(out))), Ok(credit));
        }
    }
}

#[test]
fn every_truncation_of_every_payload_is_survived() {
    let payloads = [
        written(|out| full_hello().encode(out)),
        written(|out| Die { now: true, grace_ms: Some(9), reason: Some("r".to_owned()) }.encode(out)),
        written(|out| Meta { attempt: Some(1), key: Some("k".to_owned()), ..Meta::default() }.encode(out)),
    ];
    for payload in payloads {
        for len in 0..payload.len() {
            let part = &payload[..len];
            assert!(
                ChildHello::decode(part).is_err()
                    && Meta::decode(part).is_err()
                    && Die::decode(part).is_err()
            );
            let _ = ParentHello::decode(part);
            let _ = Failure::decode(part);
        }
    }
}

#[test]
fn what_a_parent_says_besides_the_work_fits_the_smallest_frame_whatever_the_user_said() {
    let long = "é".repeat(40_000);
    let die = Die { now: true, grace_ms: Some(u64::MAX), reason: Some(long.clone()) };
    let meta = Meta {
        attempt: Some(u32::MAX),
        deadline_ms: Some(u64::MAX),
        key: Some(long.clone()),
        traceparent: Some(long),
    };
    let (mut die_bytes, mut meta_bytes) = (Vec::new(), Vec::new());
    die.encode(&mut die_bytes);
    meta.encode(&mut meta_bytes);
    assert!(die_bytes.len().max(meta_bytes.len()) < 10_000, "{} {}", die_bytes.len(), meta_bytes.len());
    assert_eq!(Die::decode(&die_bytes).unwrap().reason.map(|reason| reason.len()), Some(4_096));
}
