//! PM: heads that are none, heads that are unusual, and data that are no value.

use std::io;

use stokehold_protocol::{ChildHello, Recipient, wire};

use super::{each_breaks, framed};
use crate::conform::parent::actor::{Actor, Played, Task};
use crate::conform::parent::evidence::Evidence;
use crate::conform::parent::plot::{Plot, numbered};
use crate::conform::trace::frame;
use crate::conform::verdict::{Checked, must};

pub(super) static PLOTS: &[Plot] = &[
    Plot::must("PM1", "bodies that are no array of four", &["M-14", "M-1", "M-2", "M-6"], |actor| {
        each_breaks(actor, "M-14", NO_MESSAGES)
    })
    .tasks(|| numbered(16)),
    Plot::must("PM2", "requests that are no text of 1 to 255 bytes", &["M-14", "M-3"], |actor| {
        each_breaks(actor, "M-14", BAD_REQUESTS)
    })
    .tasks(|| numbered(16)),
    Plot::must("PM3", "senders and recipients that are none", &["M-14", "M-4", "M-5"], |actor| {
        each_breaks(actor, "M-14", BAD_ADDRESSES)
    })
    .tasks(|| numbered(16)),
    Plot::must("PM4", "heads and values that are wider than need be", &["M-7", "D-8"], wide)
        .judged(|evidence| evidence.nothing_ran_twice("M-7")),
    Plot::must("PM5", "answers with the addresses of others", &["M-10", "M-9"], other_addresses)
        .judged(|evidence| evidence.nothing_ran_twice("M-10")),
    Plot::must("PM6", "results that are no value", &["D-15", "D-1", "D-7"], |actor| {
        results(actor, NO_VALUES)
    })
    .own(|seq| seq <= NO_VALUES.len() as u64)
    .tasks(|| numbered(8))
    .judged(|evidence| are_bad(evidence, NO_VALUES.len(), false)),
    Plot::must("PM7", "results that announce more than there is", &["D-9", "D-15"], |actor| {
        results(actor, ANNOUNCED)
    })
    .own(|seq| seq <= ANNOUNCED.len() as u64)
    .tasks(|| numbered(8))
    .judged(|evidence| {
        are_bad(evidence, ANNOUNCED.len(), false)?;
        evidence.memory_is_bounded("D-9")
    }),
    Plot::must(
        "PM8",
        "results that break a rule of values",
        &["D-15", "D-2", "D-3", "D-4", "D-5", "D-6"],
        |actor| results(actor, ODD_VALUES),
    )
    .own(|seq| seq <= ODD_VALUES.len() as u64)
    .tasks(|| numbered(8))
    .judged(|evidence| are_bad(evidence, ODD_VALUES.len(), true)),
];

/// An array of four: FINISHED, 0, nil, nil, save for what is given.
fn head(request: &[u8], sender: &[u8], recipient: &[u8]) -> Vec<u8> {
    [b"\x94", request, sender, recipient, b"\xc0"].concat()
}

const FINISHED: &[u8] = b"\xa8FINISHED";

static NO_MESSAGES: &[fn(&Task) -> Vec<u8>] = &[
    |task| framed(task.id, b"\x93\xa8FINISHED\x00\xc0"),
    |task| framed(task.id, b"\x95\xa8FINISHED\x00\xc0\xc0\xc0"),
    |task| framed(task.id, b"\x84\xa8FINISHED\x00\xc0\xc0"),
    |task| framed(task.id, b"\xc0"),
    |task| framed(task.id, b"\x94\xa8FINISHED\x00\xc0"),
];

static BAD_REQUESTS: &[fn(&Task) -> Vec<u8>] = &[
    |task| framed(task.id, &head(b"\x07", b"\x00", b"\xc0")),
    |task| framed(task.id, &head(b"\xa0", b"\x00", b"\xc0")),
    |task| framed(task.id, &head(b"\xa3LO\xff", b"\x00", b"\xc0")),
    |task| framed(task.id, &head(&[&b"\xda\x01\x00"[..], &[b'L'; 256]].concat(), b"\x00", b"\xc0")),
    |task| framed(task.id, &head(b"\xc4\x08FINISHED", b"\x00", b"\xc0")),
];

static BAD_ADDRESSES: &[fn(&Task) -> Vec<u8>] = &[
    |task| framed(task.id, &head(FINISHED, b"\xff", b"\xc0")),
    |task| framed(task.id, &head(FINISHED, b"\xa1x", b"\xc0")),
    |task| framed(task.id, &head(FINISHED, b"\xcf\x00\x20\x00\x00\x00\x00\x00\x00", b"\xc0")),
    |task| framed(task.id, &head(FINISHED, b"\x00", b"\x00")),
    |task| framed(task.id, &head(FINISHED, b"\x00", b"\xa1x")),
];

/// `ADDRESS_MAX` in the widest form, and the task's data behind a head in the widest form.
fn wide(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        let head = b"\xdd\x00\x00\x00\x04\xdb\x00\x00\x00\x08FINISHED\xd3\x00\x1f\xff\xff\xff\xff\xff\xff\xd3\x00\x00\x00\x00\x00\x00\x00\x01";
        // The same value in other widths: {"task": n, "text": "grüße"}.
        let mut data = b"\xdf\x00\x00\x00\x02\xda\x00\x04task\xd3".to_vec();
        data.extend(task.number().to_be_bytes());
        data.extend(b"\xd9\x04text\xdb\x00\x00\x00\x07");
        data.extend("grüße".as_bytes());
        actor.send(&framed(task.id, &[&head[..], &data].concat()))?;
    }
    actor.leave()
}

fn other_addresses(actor: &mut Actor) -> Played {
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        let recipients = [Recipient::Process(4711), Recipient::Anyone, Recipient::Everyone];
        let place = usize::try_from(task.number()).unwrap_or(0) % recipients.len();
        let recipient = recipients.get(place).copied().unwrap_or(Recipient::Anyone);
        // Everyone goes with no id: a LOG before the answer.
        if recipient == Recipient::Everyone {
            actor.send(&frame(0, "LOG", 4242, recipient, b"\xa2hi"))?;
            actor.finish(&task)?;
        } else {
            actor.send(&frame(task.id, "FINISHED", 4242 + task.number(), recipient, &task.data))?;
        }
    }
    actor.leave()
}

static NO_VALUES: &[fn() -> Vec<u8>] = &[
    // Nothing is left of it, one byte is missing, one is too many, and a byte that begins no value.
    || b"\xa5".to_vec(),
    || b"\x92\x01".to_vec(),
    || b"\xc0\xc0".to_vec(),
    || b"\xc1".to_vec(),
];

static ANNOUNCED: &[fn() -> Vec<u8>] = &[
    || b"\xdd\xff\xff\xff\xff".to_vec(),
    || b"\xdf\xff\xff\xff\xff".to_vec(),
    || b"\xdb\xff\xff\xff\xff".to_vec(),
    || b"\xc6\xff\xff\xff\xff".to_vec(),
    // Arrays of arrays, without an end.
    || vec![0x91; 1_000_000],
];

static ODD_VALUES: &[fn() -> Vec<u8>] = &[
    || b"\x82\xa1a\x01\xa1a\x02".to_vec(),
    || b"\x81\x01\x02".to_vec(),
    || b"\xd4\x01\x00".to_vec(),
    || b"\xa2\xff\xfe".to_vec(),
    || {
        let mut deep = vec![0x91; 65];
        wire::write_nil(&mut deep);
        deep
    },
];

/// The first tasks are answered by these data, the others by themselves.
fn results(actor: &mut Actor, results: &[fn() -> Vec<u8>]) -> Played {
    actor.begin(&ChildHello::default())?;
    while let Some(task) = actor.task()? {
        let place = usize::try_from(task.number()).map_err(io::Error::other)?.saturating_sub(1);
        match results.get(place) {
            Some(data) => actor.say(task.id, "FINISHED", &data())?,
            None => actor.finish(&task)?,
        }
    }
    actor.leave()
}

/// The first tasks ended by `bad_data`, or a lenient reader took them; and none of them ran again.
fn are_bad(evidence: &Evidence<'_>, count: usize, may_be_read: bool) -> Checked {
    for seq in (1..).take(count) {
        if !may_be_read || evidence.code(seq).is_some() {
            let hint = "end a task whose result cannot be decoded with bad_data";
            evidence.must_fail_by(seq, "bad_data", "D-15", hint)?;
        }
        must(
            evidence.attempts(seq) <= 1,
            "D-15",
            || format!("the task {seq} was run {} times", evidence.attempts(seq)),
            "do not run a task again because its answer cannot be decoded",
        )?;
    }
    Ok(())
}
