//! Values go from JSON to data and back unharmed, and what cannot is refused.

use super::*;

fn there_and_back(json: &str) -> String {
    let mut data = Vec::new();
    encode_json(json.as_bytes(), &mut data).unwrap();
    json_of(&data)
}

fn json_of(data: &[u8]) -> String {
    let mut json = Vec::new();
    write_json(data, &mut json).unwrap();
    String::from_utf8(json).unwrap()
}

fn refusal(json: &str) -> String {
    let mut data = vec![7];
    let error = encode_json(json.as_bytes(), &mut data).unwrap_err();
    assert_eq!(data, [7], "what was there before stays");
    error
}

#[test]
fn json_comes_back_as_it_was_with_its_keys_in_order() {
    for json in [
        "null",
        "true",
        "[]",
        "{}",
        r#"{"z":1,"a":[2,{"k":false}],"m":"ü\n\u0001"}"#,
        r#"[1.5,-0.0,1e+300,"",[[[]]]]"#,
    ] {
        assert_eq!(there_and_back(json), json);
    }
    let long = format!("[{}1]", "\"text of some length\",".repeat(70_000));
    assert_eq!(there_and_back(&long), long);
    let wide = format!("{{{}\"end\":0}}", (0..20).map(|n| format!("\"k{n}\":{n},")).collect::<String>());
    assert_eq!(there_and_back(&wide), wide);
}

#[test]
fn integers_stay_exact_at_every_width() {
    for bits in 0..64 {
        let edge = 1_i128 << bits;
        for value in [edge - 1, edge, edge + 1, -edge, -edge - 1, -edge + 1] {
            if value >= i128::from(i64::MIN) && value <= i128::from(u64::MAX) {
                assert_eq!(there_and_back(&value.to_string()), value.to_string());
            }
        }
    }
    assert_eq!(there_and_back(&u64::MAX.to_string()), u64::MAX.to_string());
    assert_eq!(there_and_back("18446744073709551616"), "1.8446744073709552e+19", "beyond that it is a float");
}

#[test]
fn integers_take_their_shortest_form() {
    for (json, data) in [
        ("-1", &b"\xff"[..]),
        ("-32", b"\xe0"),
        ("-33", b"\xd0\xdf"),
        ("-129", b"\xd1\xff\x7f"),
        ("-32769", b"\xd2\xff\xff\x7f\xff"),
        ("127", b"\x7f"),
        ("128", b"\xcc\x80"),
    ] {
        let mut out = Vec::new();
        encode_json(json.as_bytes(), &mut out).unwrap();
        assert_eq!(out, data, "{json}");
    }
}

#[test]
fn bytes_are_base64_in_json() {
    for (bytes, text) in
        [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"\xff\xfe\xfd\x00", "//79AA==")]
    {
        let mut data = Vec::new();
        wire::write_bin(&mut data, bytes);
        assert_eq!(json_of(&data), format!(r#"{{"$bin":"{text}"}}"#));
    }
}

#[test]
fn a_map_that_looks_like_bytes_is_told_from_them_both_ways() {
    let data_of = |json: &str| {
        let mut data = Vec::new();
        encode_json(json.as_bytes(), &mut data).unwrap();
        data
    };
    for (data, json) in [
        (&b"\xc4\x02fo"[..], r#"{"$bin":"Zm8="}"#),
        (b"\x81\xa4$bin\xa4Zm8=", r#"{"$$bin":"Zm8="}"#),
        (b"\x81\xa5$$bin\x01", r#"{"$$$bin":1}"#),
        (b"\x91\x81\xa1$\x81\xa4$oid\xc4\x01f", r#"[{"$$":{"$$oid":{"$bin":"Zg=="}}}]"#),
        (b"\x82\xa4$bin\xa4Zm8=\xa1a\x01", r#"{"$bin":"Zm8=","a":1}"#),
    ] {
        assert_eq!(json_of(data), json);
        assert_eq!(data_of(json), data, "{json}");
    }
    // Written by somebody who knows nothing of that.
    assert_eq!(data_of(r#"{"_id":{"$oid":"5f"}}"#), b"\x81\xa3_id\x81\xa4$oid\xa25f");
    assert_eq!(data_of(r#"{"$bin":"Zm8"}"#), b"\xc4\x02fo", "without padding");
    let long = format!(r#"{{"${}":1}}"#, "k".repeat(300));
    assert_eq!(json_of(&data_of(&long)), long.replacen('$', "$$", 1));
    for json in [r#"{"$bin":1}"#, r#"[{"$bin":"?"}]"#, r#"{"$bin":{"$bin":""}}"#, r#"{"$bin":null}"#] {
        assert!(refusal(json).contains("no base64"), "{json}: {}", refusal(json));
    }
}

#[test]
fn floats_that_json_cannot_express_are_null() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut data = Vec::new();
        wire::write_float(&mut data, value);
        assert_eq!(json_of(&data), "null");
    }
}

#[test]
fn raw_output_is_the_text_or_the_bytes_themselves() {
    let raw = |data: &[u8]| {
        let mut out = Vec::new();
        write_raw(data, &mut out).unwrap();
        out
    };
    assert_eq!(raw(b"\xa3abc"), b"abc");
    assert_eq!(raw(b"\xc4\x02\xff\n"), b"\xff\n");
    assert_eq!(raw(b"\x92\x01\xa1x"), br#"[1,"x"]"#);
}

#[test]
fn invalid_data_is_refused_and_leaves_nothing() {
    for data in
        [&b""[..], b"\xa3ab", b"\x92\x01", b"\xc1", b"\x01\x01", b"\xa1x\x01", b"\x81\x01\x01", b"\xa1\xff"]
    {
        let mut out = vec![7];
        assert!(write_json(data, &mut out).is_err(), "{data:?}");
        assert!(write_raw(data, &mut out).is_err(), "{data:?}");
        assert_eq!(out, [7]);
    }
}

#[test]
fn bad_json_is_refused_with_its_column() {
    assert_eq!(refusal("{\"a\":}"), "expected value at column 6");
    assert_eq!(refusal("[1] x"), "trailing characters at column 5");
    assert!(refusal("[1").contains("EOF"));
    assert!(refusal("\"\u{1}\"").contains("control character"));
    assert!(refusal(&format!("{}{}", "[".repeat(65), "]".repeat(65))).contains("64"));
    assert!(!refusal(r#"{"a":1,"a":2}"#).is_empty(), "a key that comes twice");
    assert!(!refusal(&"[".repeat(100_000)).is_empty());
}
