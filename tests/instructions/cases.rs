//! What is counted.

use std::hint::black_box;

use stokehold_protocol::{
    Capabilities, FrameEvent, Message, Outgoing, ParentHello, ParentSession, Recipient, Splitter, VERSION,
    limits::MAX_FRAME_DEFAULT, wire, write_head,
};

use crate::stand::Stand;

/// Something that is done again and again.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Does so many tasks of it.
    pub(crate) run: fn(u64),
    /// How many are counted: a multiple of what is done together, and enough that what is seldom done, such as the growth of a
    /// buffer, is lost in it.
    pub(crate) times: u64,
}

/// Every case.
pub(crate) const ALL: [Case; 6] = [
    Case { name: "frame_written", run: write_frames, times: 64 * 1_000 },
    Case { name: "frame_read", run: read_frames, times: 64 * 1_000 },
    Case { name: "core_task_alone", run: |times| Stand::new(1).tasks(times, 1), times: 5_000 },
    Case { name: "core_tasks_in_window", run: |times| Stand::new(64).tasks(times, 64), times: 64 * 200 },
    Case { name: "core_jobs_single", run: |times| Stand::new(64).jobs(times, 64), times: 64 * 200 },
    Case {
        name: "core_jobs_in_batches",
        run: |times| Stand::batching().jobs(times, 1_024),
        times: 1_024 * 100,
    },
];

/// Bytes of a frame, its header included.
const FRAME_BYTES: usize = 64;

/// Frames in one buffer.
const TOGETHER: u64 = 64;

/// Writes tasks as a pool does: each body once, and the frame around it when it is handed out.
fn write_frames(times: u64) {
    let hello = ParentHello {
        version: VERSION,
        pid: 1_001,
        parent: 99,
        capabilities: Capabilities::NONE,
        max_frame: MAX_FRAME_DEFAULT,
        spin: false,
    };
    let session = ParentSession::<u64>::new(hello);
    let data = data();
    let (mut body, mut out) = (Vec::with_capacity(FRAME_BYTES), Vec::new());
    for _ in 0..times / TOGETHER {
        out.clear();
        for id in 0..TOGETHER {
            body.clear();
            write_head(&mut body, "DO", 99, Recipient::Anyone);
            body.extend_from_slice(black_box(&data));
            let outgoing = Outgoing { body: &body, attempt: 1, ..Outgoing::default() };
            session.send(id as u32, outgoing, &mut out);
        }
        black_box(&out);
    }
    assert_eq!(out.len(), FRAME_BYTES * TOGETHER as usize, "the frames are not of the size they should be");
}

/// Reads frames where they lie.
fn read_frames(times: u64) {
    let mut frames = Vec::new();
    for id in 1..=TOGETHER as u32 {
        let message = Message { request: "DO", sender: 99, recipient: Recipient::Anyone, data: &data() };
        message.encode_frame(id, &mut frames);
    }
    let mut splitter = Splitter::new();
    let mut bytes = 0;
    for _ in 0..times / TOGETHER {
        splitter.feed(black_box(&frames));
        while let Ok(Some(FrameEvent::Frame { id, body })) = splitter.next_frame() {
            let message = Message::decode(body).expect("a message");
            black_box(id);
            bytes += black_box(message).data.len() as u64;
        }
    }
    assert_eq!(bytes, times * data().len() as u64, "frames were lost");
}

/// Data that makes a frame of [`FRAME_BYTES`].
fn data() -> Vec<u8> {
    let mut head = Vec::new();
    write_head(&mut head, "DO", 99, Recipient::Anyone);
    let mut data = Vec::new();
    // Two bytes say how long the text is.
    wire::write_str(&mut data, &"x".repeat(FRAME_BYTES - 8 - head.len() - 2));
    data
}
