//! X: what a child meets that it does not know, or that is not for it, and must live with.

use stokehold_protocol::{Codec, wire};

use super::drive::drive;
use super::{code, said};
use crate::conform::case::Case;
use crate::conform::process::{Ended, Setup};
use crate::conform::referee::Answer;
use crate::conform::same::{self, Same};
use crate::conform::session::{Pacing, Session};
use crate::conform::stage::{Greeting, Sample, Stage, grease};
use crate::conform::trace::json;
use crate::conform::verdict::{Checked, must};

pub(super) static CASES: &[Case] = &[
    Case::must("X1", "a user request without a handler", &["R-20", "R-7", "E-9"], unknown_request),
    Case::must("X2", "requests with id 0 get no answer", &["R-21", "R-22"], one_way),
    Case::must("X3", "answers that nobody waits for", &["R-10", "R-11", "R-7"], stray_answers),
    Case::must("X4", "CANCEL of an id that no task has", &["R-37"], stray_cancel),
    Case::must("X5", "DIE with unknown keys", &["D-17", "L-2"], die_with_keys),
    Case::must("X6", "unknown ALL-CAPS requests, with an id and without", &["R-9", "V-6"], unknown_words),
    Case::must(
        "X7",
        "a session with unknown words in it equals a plain one",
        &["V-5", "R-9", "R-17"],
        same_session,
    ),
    Case::must("X8", "long names", &["M-3", "R-20"], |stage| drive(stage, "X8")).of_frames(),
    Case::must("X9", "an empty name", &["M-3", "M-13"], |stage| drive(stage, "X9")).of_frames(),
    Case::should("X10", "words of a child that come from the parent", &["R-10"], words_of_a_child),
    Case::must("X11", "protocol requests with data that cannot be read", &["D-18"], unreadable_data),
    Case::must("X12", "any valid sender and recipient", &["M-11"], any_address),
    Case::must("X13", "names with a dot, and names that are not ASCII", &["M-3"], |stage| drive(stage, "X1"))
        .of_frames(),
    Case::should("X14", "requests behind DIE", &["S-6", "L-2"], behind_die),
];

/// What is to be done with names.
const IGNORE: &str = "ignore every ALL-CAPS request that you do not know or that is not for you; answer only DO and names in lower case, and only if their id is not 0";

fn unknown_request(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    for data in ["null", "1", r#"{"a":[1,2]}"#, r#""text""#] {
        let id = session.submit("grease.unknown", &json(data));
        is_unknown(&mut session, id, &format!("the data {data}"))?;
    }
    for (data, what) in no_data(session.codec()) {
        let id = session.fresh_id();
        session.referee.open(id);
        let bytes = match session.codec() {
            Codec::MessagePack => session.frame(id, "grease.unknown", &data),
            Codec::Json => {
                [format!("{id} [\"grease.unknown\",1234,12345,").as_bytes(), &data, b"]\n"].concat()
            }
        };
        session.send_bytes(&bytes);
        is_unknown(&mut session, id, what)?;
    }
    session.finish()
}

/// What stands where data should be and is none, though the message can be read up to there.
fn no_data(codec: Codec) -> Vec<(Vec<u8>, &'static str)> {
    match codec {
        Codec::MessagePack => vec![
            (vec![0xc1], "the byte c1 as its data"),
            (b"\xa5ab".to_vec(), "data that ends too early"),
            (vec![0xd4, 5, 0], "an extension type as its data"),
            (b"\xa1\xff".to_vec(), "a text as its data that is not UTF-8"),
            ([[0x91; 65].as_slice(), &[0xc0]].concat(), "data of 65 levels"),
            ([[0x91; 5000].as_slice(), &[0xc0]].concat(), "data of 5,000 levels"),
        ],
        Codec::Json => vec![
            (br#"{"$date":1}"#.to_vec(), "a mark as its data that nobody knows"),
            (br#""\ud83d""#.to_vec(), "half a pair of surrogates as its data"),
            ([[b'['; 65], [b']'; 65]].concat(), "data of 65 levels"),
        ],
    }
}

/// Waits for FAILED `unknown_request`.
fn is_unknown(session: &mut Session, id: u32, what: &str) -> Checked {
    let answer = session.answer(id)?;
    must(
        code(&answer) == "unknown_request",
        "R-20",
        || format!("with {what} the answer is {}", said(&answer)),
        "answer a request without a handler by FAILED with {\"code\": \"unknown_request\"}, before you look at its data",
    )?;
    let says = super::look(&answer.data).get("begun").is_some_and(|begun| begun == false);
    session.should(
        says,
        "E-9",
        "FAILED does not say `begun` false",
        "say {\"begun\": false} where no handler began",
    );
    Ok(())
}

fn one_way(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let (input, _) = stage.sample()?;
    session.send(0, "DO", &input);
    session.send(0, "grease.unknown", &json("null"));
    let everyone = stokehold_protocol::Recipient::Everyone;
    session.send_bytes(&session.addressed(0, "grease.everyone", 0, everyone, &json("null")));
    stage.check_alive(&mut session)?;
    if stage.testee.sample == Sample::Echo {
        // A result may be large enough to take another way out.
        let pacing = std::mem::replace(&mut session.pacing, Pacing::Whole);
        session.patience *= 2;
        let max_frame = session.hello().max_frame as usize;
        for size in [60_000, 1 << 20].into_iter().filter(|size| size + 1000 < max_frame) {
            let mut data = Vec::new();
            wire::write_str(&mut data, &"x".repeat(size));
            session.send(0, "DO", &data);
            stage.check_alive(&mut session)?;
        }
        session.pacing = pacing;
    }
    session.finish()
}

fn stray_answers(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    for id in [1, 7, 0x7fff_ffff] {
        session.send(id, "FINISHED", &json("1"));
        session.send(id, "FAILED", &json(r#"{"code":"error","message":"nobody asked"}"#));
    }
    // A task with one of those ids has its own answer.
    stage.check_alive(&mut session)?;
    session.finish()
}

fn stray_cancel(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    session.send(0x7fff_fff0, "CANCEL", &json("null"));
    stage.check_alive(&mut session)?;
    session.finish()
}

fn die_with_keys(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    stage.check_alive(&mut session)?;
    session.send(0, "DIE", &json(r#"{"x-new":[1],"reason":"a test","grace_ms":1000,"now":false}"#));
    let hint = "read the keys of DIE that you know and ignore the others; exit with code 0";
    let ended = session.end("L-2", hint)?;
    must(ended == Ended::Code(0), "L-2", || format!("after DIE the child {ended}"), hint)
}

fn unknown_words(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    for (id, name) in
        [(0, "A"), (70_001, "A"), (0, "FUTURE_REQUEST_2"), (70_002, "FUTURE_REQUEST_2"), (70_003, "PUT")]
    {
        session.send(id, name, &json(r#"{"x":1}"#));
        stage.check_alive(&mut session)?;
    }
    session.finish()
}

fn same_session(stage: &mut Stage<'_>) -> Checked {
    let (input, _) = stage.sample()?;
    let mut seen = Vec::new();
    for with_grease in [false, true] {
        let greeting = Greeting { grease: with_grease, ..Greeting::default() };
        let mut session = stage.ready_in(&Setup::default(), &greeting)?;
        let mut answers = Vec::new();
        for _ in 0..5 {
            if with_grease {
                grease(&mut session);
            }
            answers.push(session.ask("DO", &input)?);
            answers.push(session.ask("grease.unknown", &json("null"))?);
        }
        session.finish()?;
        seen.push(answers);
    }
    let alike = |(plain, greased): (&Answer, &Answer)| {
        plain.finished == greased.finished && same::compare(&plain.data, &greased.data) != Same::No
    };
    must(
        matches!(seen.as_slice(), [plain, greased] if plain.iter().zip(greased).all(alike)),
        "V-5",
        || "the answers are others when unknown words stand between the tasks".to_owned(),
        IGNORE,
    )
}

fn words_of_a_child(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let words = [
        (0, "READY"),
        (0, "BYE"),
        (0, "CREDIT"),
        (0, "PONG"),
        (7, "ITEM"),
        (7, "STARTED"),
        (7, "PROGRESS"),
        (7, "LOG"),
        (7, "READY"),
        (7, "HELLO"),
        (0, "CANCEL"),
    ];
    for (id, name) in words {
        session.note(format!("{name} with id {id}"));
        session.send(id, name, &json("null"));
        stage.check_alive(&mut session)?;
    }
    session.finish()
}

fn unreadable_data(stage: &mut Stage<'_>) -> Checked {
    for (name, data) in
        [("HELLO", "7"), ("HELLO", r#"{"max_frame":"large"}"#), ("DIE", "[1]"), ("PING", r#"{"a":1}"#)]
    {
        let mut session = stage.ready()?;
        session.send(0, name, &json(data));
        let id = session.submit("DO", &stage.sample()?.0);
        session.wait(|session| session.answered(id) || session.process.ended().is_some())?;
        if session.answered(id) {
            continue;
        }
        let hint = "ignore a protocol request whose data you cannot read, or exit with code 4";
        let ended = session.end("D-18", hint)?;
        // DIE is DIE, whatever is said with it.
        let may = ended == Ended::Code(4) || name == "DIE" && ended == Ended::Code(0);
        must(may, "D-18", || format!("at {name} with the data {data} the child {ended}"), hint)?;
    }
    Ok(())
}

fn any_address(stage: &mut Stage<'_>) -> Checked {
    use stokehold_protocol::Recipient::{Anyone, Process};
    let mut session = stage.ready()?;
    let (input, _) = stage.sample()?;
    let most = stokehold_protocol::limits::ADDRESS_MAX;
    for (sender, recipient) in [(0, Anyone), (most, Process(most)), (1, Process(1)), (4_194_400, Process(99))]
    {
        let id = session.fresh_id();
        session.referee.open(id);
        session.send_bytes(&session.addressed(id, "DO", sender, recipient, &input));
        let answer = session.answer(id)?;
        must(
            answer.finished,
            "M-11",
            || format!("sender {sender} and recipient {recipient:?} were answered by {}", said(&answer)),
            "do not compare sender and recipient with anything",
        )?;
    }
    session.finish()
}

fn behind_die(stage: &mut Stage<'_>) -> Checked {
    let mut session = stage.ready()?;
    let (input, _) = stage.sample()?;
    let die = session.frame(0, "DIE", &json("null"));
    let late = session.fresh_id();
    session.referee.open(late);
    let mut bytes = die;
    bytes.extend(session.frame(late, "DO", &input));
    session.send_bytes(&bytes);
    let hint = "after DIE read nothing more, finish what came before, and exit with code 0";
    let ended = session.end("L-2", hint)?;
    must(ended == Ended::Code(0), "L-2", || format!("after DIE and a task the child {ended}"), hint)
}
