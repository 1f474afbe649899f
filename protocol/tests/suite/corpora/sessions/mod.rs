//! The body of the target `sessions`: both session halves with a line of bytes each way, and any operations on any of them,
//! frames and bytes of strangers included. Nothing panics, every ticket comes back once, every task is answered once; and
//! while nobody broke a rule, nobody is told that one was broken.

use stokehold_protocol::{
    Capabilities, Capability, ChildHello, Die, Failure, Message, Outgoing, ParentHello, Recipient, limits,
    wire,
};

use super::input::Input;
use world::World;

mod line;
mod world;

/// Frames with a body beyond the smallest limit; few, because each costs a walk through its bytes.
const LONG_FRAMES_MAX: usize = 8;

/// More than the smallest `max_frame`.
const LONG_BYTES: usize = 66_000;

/// Requests that a stranger writes into a line.
const NAMES: [&str; 20] = [
    "HELLO", "READY", "DO", "FINISHED", "FAILED", "ITEM", "PROGRESS", "LOG", "STARTED", "CANCEL", "META",
    "CREDIT", "PING", "PONG", "DIE", "BYE", "BATCH", "FUTURE", "resize", "",
];

/// Data that a stranger writes; the last choice is bytes of the input.
const DATA: [&[u8]; 11] = [
    b"\xc0",
    b"\x01",
    b"\x82\xa1v\x01\xa6window\x04",
    b"\x83\xa1v\x01\xa5ready\xc3\xa6window\x02",
    b"\x81\xa6window\x00",
    b"\x81\xa6window\xcd\x01\x00",
    b"\x81\xa6serial\xc2",
    b"\x81\xa7attempt\x02",
    b"\x81\xa3now\xc3",
    b"\x82\xa4code\xa3a.b\xa5retry\xc3",
    b"\x82\xa1v\x01\xa9max_frame\xce\x00\x01\x00\x00",
];

/// Two bytes choose what the sides say of themselves, the rest are operations.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (ours, theirs) = (input.byte().unwrap_or(0), input.byte().unwrap_or(0));
    let mut world = World::new(parent_hello(ours), child_hello(theirs));
    let mut long_frames = 0;
    while let Some(operation) = input.byte() {
        let long = operation & 0x80 != 0 && long_frames < LONG_FRAMES_MAX;
        long_frames += usize::from(long);
        match operation & 0x1f {
            0..=9 => child_acts(&mut world, operation & 0x1f, &mut input, long),
            10..=17 => parent_acts(&mut world, operation & 0x1f, &mut input, long),
            choice => outside(&mut world, choice, &mut input, long),
        }
        world.check();
    }
    world.end();
}

fn parent_hello(choice: u8) -> ParentHello {
    ParentHello {
        version: 1,
        pid: 7,
        parent: 3,
        capabilities: capabilities(choice >> 2),
        max_frame: if choice & 1 == 0 { limits::MAX_FRAME_FLOOR } else { limits::MAX_FRAME_DEFAULT },
        spin: choice & 2 == 0,
    }
}

fn child_hello(choice: u8) -> ChildHello {
    ChildHello {
        window: [0, 1, 2, 9][usize::from(choice & 3)],
        ready: choice & 4 != 0,
        capabilities: capabilities(choice >> 3),
        max_frame: limits::MAX_FRAME_FLOOR,
        ..ChildHello::default()
    }
}

fn capabilities(choice: u8) -> Capabilities {
    let some =
        [Capability::Meta, Capability::Cancel, Capability::Credit, Capability::Ping, Capability::Started];
    let chosen = some.iter().enumerate().filter(|(bit, _)| choice & (1 << bit) != 0);
    chosen.fold(Capabilities::NONE, |set, (_, one)| set.with(*one))
}

/// Something that an author of a child may call, at any time.
fn child_acts(world: &mut World, choice: u8, input: &mut Input<'_>, long: bool) {
    let task = input.byte().unwrap_or(0);
    match choice {
        0 => world.child_says(|child, out| child.hello(out)),
        1 => world.child_says(|child, out| child.ready(out)),
        2 | 3 => world.child_answers(task, |child, id, out| {
            child.finished(id, out, |out| wire::write_bin(out, if long { &[0; LONG_BYTES] } else { b"x" }))
        }),
        4 => world.child_answers(task, |child, id, out| {
            let message = if long { "é".repeat(LONG_BYTES / 2) } else { String::new() };
            child.failed(id, &Failure { trace: Some(message.clone()), ..Failure::new("a.b", message) }, out)
        }),
        5 => {
            let id = world.some_task(task);
            let item = if long { vec![0xc0; LONG_BYTES] } else { vec![0x01] };
            // Not one value when long, which is never sent to a parent that could mind.
            world.child_says(|child, out| child.item(id, &item, out));
        }
        6 => {
            let id = world.some_task(task);
            world.child_says(|child, out| child.progress(id, b"\x05", out));
        }
        7 => match task & 3 {
            0 => world.child_says(|child, out| child.serial(false, out)),
            1 => world.child_says(|child, out| child.serial(true, out)),
            2 => {
                let id = world.some_task(task >> 2);
                world.child_says(|child, out| child.log(id, b"\xa3any", out));
            }
            _ => {
                let id = world.some_task(task >> 2);
                world.child_says(|child, out| child.started(id, out));
            }
        },
        8 => world.child_leaves(),
        _ => world.child_crashes(usize::from(task)),
    }
}

/// Something that a parent may do while the connection stands.
fn parent_acts(world: &mut World, choice: u8, input: &mut Input<'_>, long: bool) {
    let which = input.byte().unwrap_or(0);
    match choice {
        10..=12 => {
            let mut body = Vec::new();
            stokehold_protocol::write_head(&mut body, "DO", 3, Recipient::Process(7));
            wire::write_bin(&mut body, if long { &[0; LONG_BYTES] } else { b"job" });
            let deadline_ms = (which & 4 != 0).then_some(50);
            let key = (which & 8 != 0).then_some("the same");
            world.parent_begins(Outgoing {
                body: &body,
                rest_len: 0,
                attempt: u32::from(which & 3),
                deadline_ms,
                key,
            });
        }
        13 => {
            let reason = (which & 2 != 0).then(|| "enough".to_owned());
            world.parent_dies(&Die { now: which & 1 != 0, grace_ms: None, reason });
        }
        14 => world.parent_cancels(which),
        15 => world.parent_pings(u64::from(which) << 50),
        16 => world.parent_closes(),
        _ => world.parent_takes_back(which),
    }
}

/// Bytes move, and strangers write.
fn outside(world: &mut World, choice: u8, input: &mut Input<'_>, long: bool) {
    let control = input.byte().unwrap_or(0);
    let to_child = control & 1 == 0;
    match choice {
        18..=20 => world.deliver(to_child, usize::from(control) * usize::from(control)),
        21..=24 => world.deliver(to_child, usize::MAX),
        25..=29 => {
            let mut frame = frame(input, long);
            frame.truncate(frame.len() - usize::from(choice == 29 && control & 2 != 0));
            world.strangers_write(to_child, &frame);
        }
        _ => {
            let bytes = input.take(usize::from(control >> 1) % 32);
            world.strangers_write(to_child, bytes);
        }
    }
}

/// A frame with any request, a small id and some data.
fn frame(input: &mut Input<'_>, long: bool) -> Vec<u8> {
    let mut next = || usize::from(input.byte().unwrap_or(0));
    let (name, id, data) = (next(), next(), next());
    let mut data = match DATA.get(data % 16) {
        Some(data) => data.to_vec(),
        None => input.take(data >> 4).to_vec(),
    };
    if long {
        data.resize(LONG_BYTES, 0xc0);
    }
    let request = NAMES[name % NAMES.len()];
    let mut out = Vec::new();
    let id = u32::try_from(id % 16).unwrap_or(0);
    Message { request, sender: 7, recipient: Recipient::Anyone, data: &data }.encode_frame(id, &mut out);
    out
}
