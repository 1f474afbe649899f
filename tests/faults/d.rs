//! Children that are hostile: group D. Each test is a list of orders for `wire_villain`, what each must end as, and what its
//! worker must be said to have died of. Most are played twice: as they are, and with every byte written by itself.

use std::path::PathBuf;

use stokehold_protocol::ChildHello;

use crate::cases;
use crate::d::streams::{corpus, framed, hex, recorded_session, refused_vectors, replay};
use crate::harness::{Finished, Trial};

/// What is played and judged by.
mod streams;

cases! {
    WireCase {
        D1: d01_a_frame_that_is_too_large_costs_its_task_or_its_worker_and_no_memory,
        D2: d02_a_frame_that_is_too_small_ends_its_worker,
        D3: d03_a_frame_cut_at_any_byte_is_never_taken_for_an_answer,
        D4: d04_nesting_without_end_stays_opaque_in_data_and_ends_a_worker_in_a_head,
        D5: d05_lengths_that_lie_take_no_memory,
        D6: d06_messages_that_are_almost_right_are_judged_as_the_vectors_say,
        D7: d07_text_on_standard_output_is_found_and_quoted,
        D8: d08_of_two_answers_the_first_counts,
        D9: d09_an_answer_to_what_is_not_its_own_touches_nobody_else,
        D10: d10_nobody_is_known_by_what_it_writes_as_its_name,
        D11: d11_requests_that_are_not_a_childs_end_it_or_are_refused,
        D12: d12_a_flood_of_tiny_frames_ends_its_worker_and_holds_up_no_other,
        D13: d13_progress_without_end_is_bounded_in_memory_and_by_the_total_limit,
        D14: d14_a_flipped_bit_is_survived,
        D15: d15_another_version_is_named,
        D16: d16_anything_at_all_is_survived,
    }
}

const MIB: u64 = 1 << 20;

/// How much the parent may grow by something that brings no bytes: its buffers, and the noise of an allocator.
const NOTHING: u64 = 8 * MIB;

/// How a play is begun: with one write for each piece, and with one for each byte.
const WAYS: [&[&str]; 2] = [&[], &["split"]];

/// An order, and what the task must end as: `done` means that the second worker answered, or this one did.
struct Order {
    text: String,
    end: &'static str,
    /// A part of what is said of the death of its worker, if it must die.
    death: Option<String>,
}

impl Order {
    /// The task is done in the end, and its first worker dies of that.
    fn deadly(text: impl Into<String>, death: &str) -> Self {
        Self { text: text.into(), end: "done", death: Some(death.to_owned()) }
    }

    /// The task ends as that, and its worker lives.
    fn harmless(text: impl Into<String>, end: &'static str) -> Self {
        Self { text: text.into(), end, death: None }
    }

    fn name(&self) -> &str {
        self.text.split(':').next().unwrap()
    }
}

/// Plays the orders one after another and judges each; the deaths must be those, in that order, and no others.
fn play(trial: &Trial, options: &[&str], orders: &[Order]) -> Finished {
    let arguments: Vec<&str> =
        options.iter().copied().chain(["--"]).chain(orders.iter().map(|order| order.text.as_str())).collect();
    let finished = trial.scene(&arguments).usable().run();
    for order in orders {
        let end = finished.fact(&format!("end.{}", order.name()));
        assert!(end.starts_with(order.end), "{:.200} ended as {end}, not as {}", order.text, order.end);
    }
    let expected: Vec<&str> = orders.iter().filter_map(|order| order.death.as_deref()).collect();
    let deaths = deaths(&finished);
    for (index, expected) in expected.iter().enumerate() {
        let death = deaths.get(index).map_or("none", String::as_str);
        assert!(death.contains(expected), "death {index} is {death:?}, and not {expected:?}: {deaths:#?}");
    }
    assert_eq!(deaths.len(), expected.len(), "{deaths:#?}");
    finished
}

fn deaths(finished: &Finished) -> Vec<String> {
    (0..finished.number("deaths")).map(|index| finished.fact(&format!("death.{index}")).to_owned()).collect()
}

fn d01_a_frame_that_is_too_large_costs_its_task_or_its_worker_and_no_memory(trial: &Trial) {
    let desync = "Desync { quote: ";
    for way in WAYS {
        let orders = [
            Order::deadly("all:raw ffffffff00000001", desync),
            Order::deadly("ceiling:raw 0800000000000001; park", &format!("{desync}08 00 00 00")),
            // The largest length there is, and nothing behind the head: it costs its task only, and then the worker hangs.
            Order {
                text: "head:large_head 134217727; park".into(),
                end: "Failed [too_large]",
                death: Some("SlowFrame".into()),
            },
        ];
        let finished = play(trial, &[way, &["frame=300"]].concat(), &orders);
        assert!(finished.number("memory_growth") < NOTHING, "{:?}", finished.facts);
    }
    // Above the bound by one, and whole: the worker did nothing that it must die of. The second was not a frame for it.
    let orders = [
        Order::harmless("whole:large 16777216", "Failed [too_large]"),
        Order::harmless("behind:answer", "done"),
        Order::deadly("item:frame ITEM +9 c0; park", "UnknownId { request: \"ITEM\""),
    ];
    let finished = play(trial, &[], &orders);
    assert!(finished.number("memory_growth") < NOTHING, "{:?}", finished.facts);
    let finished =
        trial.scene(&["start=always raw 0001000100000000940000*400; sleep", "hello=2000", "--"]).run();
    assert!(finished.fact("start_error").contains("larger than a HELLO may be"), "{:?}", finished.facts);
}

fn d02_a_frame_that_is_too_small_ends_its_worker(trial: &Trial) {
    for way in WAYS {
        let orders: Vec<Order> = (0..5)
            .map(|len| {
                let text = format!("len{len}:raw 0000000{len}000000019400; park");
                Order::deadly(text, &format!("Desync {{ quote: 00 00 00 0{len}"))
            })
            .collect();
        play(trial, way, &orders);
    }
    let finished = trial.scene(&["start=always raw 0000000400000000; park", "--"]).run();
    assert!(finished.fact("start_error").contains("no frame"), "{:?}", finished.facts);
}

fn d03_a_frame_cut_at_any_byte_is_never_taken_for_an_answer(trial: &Trial) {
    // Shorter than any answer here is.
    let orders: Vec<Order> =
        (0..36).map(|at| Order::deadly(format!("cut{at:02}:cut {at}; exit 3"), "code 3")).collect();
    play(trial, &[], &orders);
    play(trial, &["split"], &orders[..20]);
    // It lives on and writes no more: at the edge of a frame that is a hang, inside it a broken frame.
    let orders: Vec<Order> = (1..36)
        .step_by(6)
        .map(|at| Order::deadly(format!("stuck{at:02}:cut {at}; sleep"), "SlowFrame"))
        .collect();
    play(trial, &["frame=150"], &orders);
    // And the greeting.
    let mut hello = Vec::new();
    ChildHello::default().encode(&mut hello);
    let greeting = [framed("HELLO", 0, &hello), framed("READY", 0, b"\xc0")].concat();
    for at in (0..greeting.len()).step_by(5) {
        let start = format!("start=raw {}; exit 3", hex(&greeting[..at]));
        let finished = trial.scene(&[&start, "--"]).run();
        let ready = finished.facts.get("start_error").is_none_or(|error| error.contains("code 3"));
        assert!(ready, "cut at {at}: {:?}", finished.facts);
    }
}

fn d04_nesting_without_end_stays_opaque_in_data_and_ends_a_worker_in_a_head(trial: &Trial) {
    let bad_head = "BadMessage";
    for way in WAYS {
        let orders = [
            Order::harmless("data:data 91*100000,c0", "Decode [bad_data]"),
            Order::harmless("maps:data 81*100000,c0", "Decode [bad_data]"),
            Order::harmless("failed:frame FAILED +0 91*100000,c0", "Failed"),
            Order::harmless("progress:frame PROGRESS +0 91*100000,c0; answer", "done"),
            Order::harmless("log:frame LOG +0 91*100000,c0; answer", "done"),
            Order::deadly("request:body 9491*100000,c0; park", bad_head),
            Order::deadly("sender:body 94a24f4b91*100000,c0; park", bad_head),
            Order::deadly("recipient:body 94a24f4b0091*100000,c0; park", bad_head),
            Order::deadly("bare:body 91*100000,c0; park", bad_head),
            Order::deadly("credit:frame CREDIT 0 91*100000,c0; park", "BadProtocolData"),
        ];
        let finished = play(trial, way, &orders);
        assert_eq!(finished.number("opaque_bytes"), 100_001);
        assert!(finished.fact("relay_error").contains("nested deeper than 64"), "{:?}", finished.facts);
    }
}

fn d05_lengths_that_lie_take_no_memory(trial: &Trial) {
    // array32, map32, str32, bin32 of 4 G.
    let marks = ["ddffffffff", "dfffffffff", "dbffffffff", "c6ffffffff"];
    let mut orders = Vec::new();
    for (number, mark) in marks.into_iter().enumerate() {
        let places = ["", "94", "94a24f4b", "94a24f4b00"];
        for (place, head) in places.into_iter().enumerate() {
            orders.push(Order::deadly(format!("head{number}{place}:body {head}{mark}; park"), "BadMessage"));
        }
        orders.push(Order::harmless(format!("data{number}:data {mark}"), "Decode [bad_data]"));
        orders.push(Order::harmless(format!("failed{number}:frame FAILED +0 {mark}"), "Failed"));
        orders.push(Order::deadly(format!("ready{number}:frame READY 0 {mark}; park"), "BadProtocolData"));
    }
    for way in WAYS {
        let finished = play(trial, way, &orders);
        assert!(finished.number("memory_growth") < NOTHING, "{:?}", finished.facts);
    }
    for mark in marks {
        let start = format!("start=always frame HELLO 0 {mark}; sleep");
        let finished = trial.scene(&[&start, "--"]).run();
        assert!(finished.fact("start_error").contains("HELLO came with data"), "{:?}", finished.facts);
    }
    // The same without a pool and its noise.
    let decodes: Vec<String> = marks
        .into_iter()
        .flat_map(|mark| {
            ["", "94", "94a24f4b", "94a24f4b00", "94a24f4b00c0"].map(|head| format!("decode={head}{mark}"))
        })
        .collect();
    let arguments: Vec<&str> = decodes.iter().map(String::as_str).chain(["--"]).collect();
    let finished = trial.scene(&arguments).run();
    assert!(finished.number("decode_growth") < MIB, "{:?}", finished.facts);
}

fn d06_messages_that_are_almost_right_are_judged_as_the_vectors_say(trial: &Trial) {
    // The table's own.
    let head =
        |name: &str, body: &str, error: &str| Order::deadly(format!("{name}:body {body}; park"), error);
    let data = |name: &str, data: &str| Order::harmless(format!("{name}:data {data}"), "Decode [bad_data]");
    let orders = [
        data("trailing", "a178c0"),
        head("three", "93a24f4b00c0", "FieldCount(3)"),
        head("five", "95a24f4b00c0c0c0", "FieldCount(5)"),
        head("map", "82a178a24f4ba17900", "NotAnArray"),
        data("double_keys", "82a16101a16102"),
        data("reserved", "c1"),
        data("extension", "d40100"),
        data("float_in_a_list", "91c1"),
        head("reserved_request", "94c100c0c0", "BadRequest"),
        head("float_sender", "94a24f4bcb0000000000000000c0c0", "BadSender"),
        head("negative_sender", "94a24f4bffc0c0", "BadSender"),
        head("negative_recipient", "94a24f4b00fec0", "BadRecipient"),
        head("zero_recipient", "94a24f4b0000c0", "BadRecipient"),
        head("not_utf8", "94a2fffe00c0c0", "BadRequest"),
        data("text_not_utf8", "a2fffe"),
        head("empty_request", "94a000c0c0", "BadRequest"),
    ];
    for way in WAYS {
        play(trial, way, &orders);
    }
    // Every vector that other languages test themselves with, and that a reader must refuse.
    let vectors = refused_vectors();
    let count = |stage: &str| vectors.iter().filter(|vector| vector.stage == stage).count();
    assert!(count("head") >= 20 && count("data") >= 20, "{} and {}", count("head"), count("data"));
    let orders: Vec<Order> = vectors
        .iter()
        .map(|vector| match vector.stage.as_str() {
            "head" => Order::deadly(format!("{}:raw {}; park", vector.id, vector.bytes), "BadMessage"),
            _ => Order::harmless(format!("{}:data {}", vector.id, vector.data()), "Decode [bad_data]"),
        })
        .collect();
    play(trial, &[], &orders);
}

fn d07_text_on_standard_output_is_found_and_quoted(trial: &Trial) {
    let hello = hex(b"hello\n");
    let warning = hex(b"OpenJDK 64-Bit Server VM warning: options\n");
    for (text, quote) in [(&hello, "hello"), (&warning, "OpenJDK 64-Bit Server VM")] {
        let start = format!("start=always raw {text}; greet 1");
        let finished = trial.scene(&[&start, "--"]).run();
        let error = finished.fact("start_error");
        assert!(error.contains(quote) && error.contains("something printed to stdout"), "{error}");
    }
    for way in WAYS {
        let orders = [
            Order::deadly(format!("before:raw {hello}; answer"), "text where a frame was expected: \"hell"),
            Order::deadly(format!("warning:raw {warning}; answer"), "something printed to stdout"),
            // The answer counts. The text behind it is found when the next task has come, or before.
            Order {
                text: format!("behind:answer; raw {hello}; park"),
                end: "done",
                death: Some("hell".into()),
            },
        ];
        play(trial, way, &orders);
    }
    // Inside a frame, at each byte of it. What stood there is pushed behind the frame's end, and is no frame. Behind the name of
    // the request nobody can tell: each letter is a good sender, recipient or value, and frames have no checksum, because pipes
    // do not corrupt. Then the answer is a wrong one, or none at all; and its worker ends at the bytes behind the frame.
    let orders: Vec<String> =
        (0..38).step_by(2).map(|at| format!("inside{at:02}:insert {at} {hello}; park")).collect();
    let arguments: Vec<&str> =
        ["frame=200", "lives=3", "--"].into_iter().chain(orders.iter().map(String::as_str)).collect();
    let finished = trial.scene(&arguments).usable().run();
    for (at, order) in (0..38).step_by(2).zip(&orders) {
        let end = finished.fact(&format!("end.inside{at:02}"));
        let is_blind = at >= REQUEST_END;
        let known = end == "done" || (is_blind && (end.starts_with("Decode") || end.starts_with("wrong")));
        assert!(known, "{order} ended as {end}");
    }
    for death in deaths(&finished) {
        assert!(death.contains("Protocol") || death.contains("SlowFrame"), "{death}");
    }
    assert!(finished.number("deaths") >= orders.len() as u64, "{:?}", finished.facts);
}

/// Where the name of the request ends in a villain's FINISHED: behind the header, the mark of the array, and the name.
const REQUEST_END: usize = 8 + 1 + 9;

fn d08_of_two_answers_the_first_counts(trial: &Trial) {
    let twice = "UnknownId { request: \"FINISHED\"";
    for way in WAYS {
        let orders = [
            Order { text: "twice:answer; answer; park".into(), end: "done", death: Some(twice.into()) },
            Order {
                text: "other:answer; data a56f74686572; park".into(),
                end: "done",
                death: Some(twice.into()),
            },
            Order {
                text: "failed_too:answer; frame FAILED +0 c0; park".into(),
                end: "done",
                death: Some("UnknownId { request: \"FAILED\"".into()),
            },
        ];
        let finished = play(trial, way, &orders);
        // The first answer counted: nothing was run again.
        for order in &orders {
            assert_eq!(finished.runs_of(order.name()), 1, "{:?}", finished.runs);
        }
    }
    // With others behind it in the window: each of them has one outcome, and runs once more at the most.
    let orders: Vec<String> = (0..8)
        .map(|number| match number {
            3 => "double3:answer; answer; park".to_owned(),
            number => format!("double{number}:answer"),
        })
        .collect();
    let arguments: Vec<&str> =
        ["window=8", "together", "--"].into_iter().chain(orders.iter().map(String::as_str)).collect();
    let finished = trial.scene(&arguments).typed("Protocol").usable().run();
    for number in 0..8 {
        assert_eq!(finished.fact(&format!("end.double{number}")), "done");
        assert!(finished.runs_of(&format!("double{number}")) == 1, "{:?}", finished.runs);
    }
}

fn d09_an_answer_to_what_is_not_its_own_touches_nobody_else(trial: &Trial) {
    let unknown = |id: &str| format!("UnknownId {{ request: \"FINISHED\", id: {id}");
    for way in WAYS {
        let orders = [
            Order::deadly("future:frame FINISHED +1 c0; park", "UnknownId { request: \"FINISHED\", id: "),
            Order::deadly("unknown:frame FINISHED 77 c0; park", &unknown("77")),
            Order::deadly("greatest:frame FINISHED 4294967295 c0; park", &unknown("4294967295")),
            Order::deadly("none:frame FINISHED 0 c0; park", &unknown("0")),
            Order::deadly("item:frame ITEM 77 c0; park", "UnknownId { request: \"ITEM\", id: 77"),
            Order::deadly("failed:frame FAILED 77 c0; park", "UnknownId { request: \"FAILED\", id: 77"),
            Order::deadly("started:frame STARTED 77 c0; park", "UnknownId { request: \"STARTED\", id: 77"),
        ];
        play(trial, way, &orders);
    }
    // Two workers: the second answers the first's task as well, whose id on its own connection is 1 like its own.
    let orders = [
        "victim:open victim_runs; gate villain_is_done; answer",
        "villain:gate victim_runs; frame FINISHED 2 a576696c65; park",
        "opener:open villain_is_done; answer",
    ];
    let arguments: Vec<&str> = ["workers=2", "together", "--"].into_iter().chain(orders).collect();
    let finished = trial.scene(&arguments).typed("Protocol").usable().run();
    for (name, runs) in [("victim", 1), ("villain", 2), ("opener", 1)] {
        assert_eq!(finished.fact(&format!("end.{name}")), "done");
        assert_eq!(finished.runs_of(name), runs, "{name}: {:?}", finished.runs);
    }
    assert_eq!(finished.number("deaths"), 1);
}

fn d10_nobody_is_known_by_what_it_writes_as_its_name(trial: &Trial) {
    let unknown = "UnknownId { request: \"FINISHED\", id: 77";
    for way in WAYS {
        let orders = [
            // Another's name as the sender, another as the recipient: it is its own task all the same.
            Order::harmless("forged:frame PROGRESS +0 05 1 2; answer", "done"),
            Order::harmless("widest:frame LOG 0 c0 9007199254740991 9007199254740991; answer", "done"),
            Order::harmless("failure:frame FAILED +0 c0 1 2", "Failed [error]"),
            // A request to another child is for the parent to route, and it routes none.
            Order::harmless("request:frame acme.steal 5 c0 1 2; refused 5; answer", "done"),
            Order::deadly("answer:frame FINISHED 77 c0 1 2; park", unknown),
        ];
        play(trial, way, &orders);
    }
}

fn d11_requests_that_are_not_a_childs_end_it_or_are_refused(trial: &Trial) {
    let not_its = "is not a child's to send";
    for way in WAYS {
        let orders = [
            Order::deadly("die:frame DIE 0 c0; park", not_its),
            Order::deadly("meta:frame META +0 c0; park", not_its),
            Order::deadly("cancel:frame CANCEL +0 c0; park", not_its),
            Order::deadly("ping:frame PING 0 c0; park", not_its),
            Order::deadly("batch:frame BATCH +0 c0; park", not_its),
            Order::deadly("ready_of_a_task:frame READY +0 c0; park", "has an id it must not have"),
            // Its own requests are refused, and it lives.
            Order::harmless("do:frame DO 5 c0; refused 5; answer", "done"),
            Order::harmless("ask:frame acme.ask 6 c0; refused 6; answer", "done"),
            Order::harmless("one_way:frame acme.tell 0 c0; answer", "done"),
            Order::harmless("again:frame HELLO 0 81a17601; answer", "done"),
            // Reserved: it means nothing yet.
            Order::harmless("credit_of_a_task:frame CREDIT +0 c0; answer", "done"),
            Order::harmless("future:frame FUTURE_REQUEST +0 c0; answer", "done"),
            // A window beyond all bounds, and one of nothing that is taken back.
            Order::harmless("credit:frame CREDIT 0 81a677696e646f77ceffffffff; answer", "done"),
            Order::harmless(
                "no_credit:frame CREDIT 0 81a677696e646f7700; answer; frame CREDIT 0 81a677696e646f7701",
                "done",
            ),
        ];
        play(trial, way, &orders);
    }
    // It asks and asks, and reads no refusal.
    let orders = [Order::deadly("asks:flood_of acme.ask 7", "refusals of earlier ones were not read")];
    let finished = play(trial, &[], &orders);
    assert!(finished.number("memory_growth") < NOTHING, "{:?}", finished.facts);
}

fn d12_a_flood_of_tiny_frames_ends_its_worker_and_holds_up_no_other(trial: &Trial) {
    for request in ["PROGRESS", "LOG", "FUTURE_REQUEST", "PONG", "acme.tell"] {
        let order = format!("flood:flood {request}");
        let finished = trial.scene(&["workers=2", "--", &order]).typed("Protocol").usable().run();
        assert_eq!(finished.fact("end.flood"), "done");
        assert!(
            finished.fact("death.0").contains("100000 messages in a second answer nothing"),
            "{:?}",
            finished.facts
        );
        assert!(!finished.facts.contains_key("small_error"), "{:?}", finished.facts);
        // On a machine of two cores with other tests beside it.
        assert!(finished.number("p99_milliseconds") < 250, "{:?}", finished.facts);
        // What a turn of the engine reads, as events.
        assert!(finished.number("memory_growth") < 32 * MIB, "{:?}", finished.facts);
    }
}

fn d13_progress_without_end_is_bounded_in_memory_and_by_the_total_limit(trial: &Trial) {
    // Some 20,000 a second, each with a note: it may do that.
    let note = hex(&[b"\x82\xa4done\x05\xa4note\xd9\xc8".as_slice(), &[b'x'; 200]].concat());
    let order = format!("progress:always pulse PROGRESS +0 {note} 1 20");
    let finished = trial.scene(&["soft=300", "total=1500", "--", &order]).typed("TimedOut").usable().run();
    assert!(finished.fact("end.progress").starts_with("TimedOut { limit: Total"), "{:?}", finished.facts);
    let took = finished.number("milliseconds");
    assert!((1_500..2_500).contains(&took), "{took} ms");
    assert_eq!(finished.number("overdue"), 0, "it said PROGRESS all the time");
    assert!(finished.number("progress") > 1_000, "{:?}", finished.facts);
    assert!(finished.number("memory_growth") < 16 * MIB, "{:?}", finished.facts);
    // Lines for the log, of 60,000 bytes each, as fast as the pipe takes them; 16 MiB of text are kept for a listener.
    let order = "log:always pulse LOG +0 82a56c6576656ca4696e666fa36d7367daea6078*60000 0 16";
    let finished = trial.scene(&["total=1000", "--", order]).typed("TimedOut").usable().run();
    assert!(finished.number("memory_growth") < 64 * MIB, "{:?}", finished.facts);
}

fn d14_a_flipped_bit_is_survived(trial: &Trial) {
    let (session, ids) = recorded_session();
    let clean = replay(&session, &ids, session.len());
    assert_eq!((clean.answered.len(), clean.broke), (ids.len(), false));
    // Each bit, and each two neighbours, with every way to cut the stream: all in one piece, and byte by byte.
    let mut detected = 0;
    for bit in 0..session.len() * 8 {
        for wide in [1_u8, 3] {
            let mut flipped = session.clone();
            flipped[bit / 8] ^= wide.rotate_left(u32::try_from(bit % 8).unwrap());
            let whole = replay(&flipped, &ids, flipped.len());
            let split = replay(&flipped, &ids, 1);
            assert_eq!(whole, split, "bit {bit} is another thing when it comes by bytes");
            assert!(whole.answered.len() <= ids.len());
            detected += usize::from(whole != clean);
        }
    }
    // The others are in texts for people, senders, or names that a later version may know.
    assert!(detected > session.len() * 8, "only {detected} were noticed");
    // And some dozens with a real worker. Bits of the greeting, of the first answer and of the second.
    let bits: Vec<String> = (0..1_200).step_by(25).map(|bit| bit.to_string()).collect();
    let bits: Vec<&str> = bits.iter().map(String::as_str).collect();
    let finished = trial.scene(&bits).deadline(std::time::Duration::from_secs(30)).run();
    let (mut done, mut others) = (0, 0);
    for (name, end) in finished.facts.iter().filter(|(name, _)| name.starts_with("end.")) {
        let known = ["done", "wrong", "Decode", "Failed", "TimedOut", "Dead"]
            .iter()
            .any(|word| end.starts_with(word));
        assert!(known, "{name} ended as {end}");
        *(if end == "done" { &mut done } else { &mut others }) += 1;
    }
    assert!(done > 2 * others, "{done} were done, {others} not: {:#?}", finished.facts);
}

fn d15_another_version_is_named(trial: &Trial) {
    let start = |script: &str| {
        let start = format!("start=always {script}; sleep");
        let [whole, split] = WAYS.map(|way| {
            let finished = trial.scene(&[way, &[&start, "--"]].concat()).run();
            let error = finished.fact("start_error");
            // Without the name of the process.
            error.split_once(") ").map_or(error, |(_, said)| said).to_owned()
        });
        assert_eq!(whole, split);
        whole
    };
    let error = start("frame HELLO 0 81a17602");
    assert!(error.contains("speaks version 2") && error.contains("this side speaks 1"), "{error}");
    let error = start("frame HELLO 0 81a176cfffffffffffffffff");
    assert!(error.contains("speaks version 18446744073709551615"), "{error}");
    for data in ["c0", "80", "81a176a131", "81a176ff", "90"] {
        let error = start(&format!("frame HELLO 0 {data}"));
        assert!(error.contains("HELLO came with data"), "{data}: {error}");
    }
    for first in ["OLLEH 0 81a17601", "READY 0 c0", "DO 1 c0", "FINISHED 1 c0", "hello 0 81a17601"] {
        let error = start(&format!("frame {first}"));
        assert!(error.contains("came before HELLO and READY"), "{first}: {error}");
    }
    let error = start("frame HELLO 1 81a17601");
    assert!(error.contains("came first with an id"), "{error}");
    let failed = hex(b"\x82\xa4code\xa7version\xa7message\xa6only 9");
    let error = start(&format!("frame FAILED 0 {failed}"));
    assert!(error.contains("refused to start: version: only 9"), "{error}");
}

fn d16_anything_at_all_is_survived(trial: &Trial) {
    let files: Vec<PathBuf> =
        ["message", "payloads", "sessions", "splitter"].into_iter().flat_map(corpus).collect();
    assert!(files.len() >= 40, "{} files", files.len());
    // In place of an answer, as a stream and as the body of a frame. Then the worker ends, or is ended.
    for (verb, kind) in [("file", "stream"), ("body_of", "body")] {
        let orders: Vec<String> = files
            .iter()
            .enumerate()
            .map(|(number, file)| format!("{kind}{number}:{verb} {}; exit 3", file.display()))
            .collect();
        let arguments: Vec<&str> = ["--"].into_iter().chain(orders.iter().map(String::as_str)).collect();
        let finished = trial.scene(&arguments).deadline(std::time::Duration::from_secs(30)).usable().run();
        for (number, order) in orders.iter().enumerate() {
            let end = finished.fact(&format!("end.{kind}{number}"));
            // Some of the files are good answers to anything.
            let known = ["done", "wrong", "Decode", "Failed"].iter().any(|word| end.starts_with(word));
            assert!(known, "{order} ended as {end}");
        }
        assert!(finished.number("memory_growth") < 64 * MIB, "{:?}", finished.facts);
    }
    // In place of the greeting.
    for file in files.iter().step_by(12) {
        let start = format!("start=always file {}; exit 3", file.display());
        let finished = trial.scene(&[&start, "hello=1000", "--"]).run();
        assert!(finished.facts.contains_key("start_error"), "{}: {:?}", file.display(), finished.facts);
    }
}
