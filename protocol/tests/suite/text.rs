//! Properties of text mode over random values and lines.

use proptest::prelude::*;
use stokehold_protocol::{FrameEvent, Message, Splitter, check, limits, text, wire};

use crate::properties::{configured, recipients};

/// Any value of the data model as MessagePack in its shortest form, without NaN and infinities, some levels deep.
fn values() -> impl Strategy<Value = Vec<u8>> {
    let texts = || prop_oneof![any::<String>(), "[$]{0,3}[a-z]{0,3}", Just("$bin".to_owned())];
    let written = |write: fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        out
    };
    let leaf = prop_oneof![
        Just(written(wire::write_nil)),
        any::<bool>().prop_map(|value| {
            let mut out = Vec::new();
            wire::write_bool(&mut out, value);
            out
        }),
        prop_oneof![any::<u64>(), 0..70_000_u64].prop_map(|value| {
            let mut out = Vec::new();
            wire::write_uint(&mut out, value);
            out
        }),
        prop_oneof![any::<i64>(), -70_000..0_i64].prop_map(|value| {
            let mut out = Vec::new();
            wire::write_int(&mut out, value);
            out
        }),
        prop_oneof![any::<f64>(), (-1000..1000_i16).prop_map(f64::from)]
            .prop_filter("JSON has no form for it", |value| value.is_finite())
            .prop_map(|value| {
                let mut out = Vec::new();
                wire::write_float(&mut out, value);
                out
            }),
        texts().prop_map(|value| {
            let mut out = Vec::new();
            wire::write_str(&mut out, &value);
            out
        }),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|value| {
            let mut out = Vec::new();
            wire::write_bin(&mut out, &value);
            out
        }),
    ];
    leaf.prop_recursive(6, 60, 20, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(|values| {
                let mut out = Vec::new();
                wire::write_array_len(&mut out, values.len() as u32);
                out.extend(values.concat());
                out
            }),
            prop_oneof![
                prop::collection::btree_map(texts(), inner.clone(), 0..20),
                prop::collection::btree_map(texts(), inner, 1..2),
            ]
            .prop_map(|pairs| {
                let mut out = Vec::new();
                wire::write_map_len(&mut out, pairs.len() as u32);
                for (key, value) in pairs {
                    wire::write_str(&mut out, &key);
                    out.extend(value);
                }
                out
            }),
        ]
    })
}

proptest! {
    #![proptest_config(configured(2_000))]

    #[test]
    fn any_value_survives_as_a_line(data in values(), id in any::<u32>(), sender in 0..=limits::ADDRESS_MAX, recipient in recipients()) {
        prop_assert_eq!(check(&data), Ok(()));
        let mut frame = Vec::new();
        Message { request: "x y\n", sender, recipient, data: &data }.encode_frame(id, &mut frame);
        let mut line = Vec::new();
        prop_assert_eq!(text::write_lines(&mut line, &frame), 0);
        // A JSON library agrees about what it says.
        let (_, json) = line.split_at(id.to_string().len());
        let parsed: serde_json::Value = serde_json::from_slice(json).unwrap();
        prop_assert_eq!(&parsed[0], "x y\n");
        let mut splitter = Splitter::lines();
        splitter.feed(&line);
        prop_assert_eq!(splitter.next_frame(), Ok(Some(FrameEvent::Frame { id, body: &frame[8..] })));
        prop_assert_eq!(splitter.next_frame(), Ok(None));
    }

    #[test]
    fn any_text_is_a_message_or_has_a_reason(line in "(0 |7 )?\\[\"[A-Z]{0,3}\"[\\[\\]{}:,0-9eE.+\"$\\\\u a-z-]{0,60}") {
        let mut body = Vec::new();
        match text::read_line(line.as_bytes(), &mut body) {
            Ok(_) => {
                prop_assert_eq!(check(Message::decode(&body).unwrap().data), Ok(()));
                prop_assert!(serde_json::from_str::<serde_json::Value>(line.trim_start_matches(|c: char| c != '[')).is_ok());
            }
            Err(text::LineError::Message { .. }) => prop_assert!(body.is_empty()),
            Err(text::LineError::Data { .. }) => prop_assert_eq!(Message::decode(&body).unwrap().data, [0xc0]),
            Err(text::LineError::Stray) => prop_assert!(false, "it begins like a message"),
        }
    }
}
