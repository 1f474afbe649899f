//! A test stand for the core: a pool of one worker without a process. What the driver does in a turn is done here as the driver
//! does it; what is sent to the worker is answered by bytes that were written before, so that the core's work is nearly all there
//! is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stokehold_protocol::limits::{FRAME_HEADER_BYTES, MAX_FRAME_DEFAULT};
use stokehold_protocol::{
    Batch, Capabilities, Capability, ChildHello, ChildSession, Data, FrameEvent, Message, Recipient,
    ResultList, Splitter, wire, write_head,
};

use crate::core::{
    Action, Answer, Answers, Body, ItemFate, NewTask, Policy, Recycle, Run, Source, Supervisor,
    SupervisorConfig, TaskKey, Ticket, Value,
};

/// The only worker.
const SLOT: usize = 0;
const PID: u32 = 1_001;
const PARENT: u32 = 99;

/// What a turn takes, by the clock of the stand: as little as that of an idle machine.
const TURN: Duration = Duration::from_micros(20);

/// See the module.
#[derive(Debug)]
pub(crate) struct Stand {
    core: Supervisor<Tag>,
    now: Instant,
    actions: Vec<Action<Tag>>,
    dirty: Vec<usize>,
    /// What the worker wrote.
    output: Splitter,
    /// The same, on its way.
    pipe: Vec<u8>,
    /// The answers to a batch by how many tasks it has, each a whole frame.
    batch_answers: Vec<Vec<u8>>,
    single_answer: Vec<u8>,
    answered: Tally,
    submitted: u64,
}

/// Who waits for a task, or for several: nobody but the count.
#[derive(Debug)]
struct Tag {
    count: u32,
    source: Option<Arc<Source>>,
}

/// How many tasks were answered.
#[derive(Debug, Default)]
struct Tally(u64);

impl Ticket for Tag {
    fn accepted(&self, _key: TaskKey) {}

    fn source(&self) -> Option<&Source> {
        self.source.as_deref()
    }

    fn split_front(&mut self, count: u32) -> Self {
        self.count -= count;
        let source = if self.count == 0 { self.source.take() } else { self.source.clone() };
        Self { count, source }
    }

    fn delivered(&self, _worker: usize, _pid: u32, _attempt: u32) {}

    fn is_wanted(&self) -> bool {
        true
    }

    fn item(&self, _attempt: u32, _data: &[u8]) -> ItemFate {
        ItemFate::Unwanted
    }

    fn restarted(&self, _attempt: u32) {}
}

impl Answers<Tag> for Tally {
    fn answered(&mut self, ticket: &mut Tag, answer: Answer<'_>, body: &mut Body) {
        let count = match answer.value {
            Value::Many(count, _) => count,
            Value::One(_) => 1,
        };
        assert_eq!(count, ticket.count, "as many answers as tasks");
        self.0 += u64::from(count);
        // A handle's answer takes that memory.
        if ticket.source.is_none() {
            drop(body.take_memory());
        }
    }
}

impl Stand {
    /// A pool whose worker takes so many tasks at a time, and one in a frame.
    pub(crate) fn new(window: u32) -> Self {
        Self::of(window, Capabilities::NONE)
    }

    /// A pool whose worker takes many tasks in one frame.
    pub(crate) fn batching() -> Self {
        Self::of(64, Capabilities::NONE.with(Capability::Batch))
    }

    fn of(window: u32, capabilities: Capabilities) -> Self {
        let now = Instant::now();
        let mut stand = Self {
            core: Supervisor::new(config(), now),
            now,
            actions: Vec::new(),
            dirty: Vec::new(),
            output: Splitter::new(),
            pipe: Vec::new(),
            batch_answers: Vec::new(),
            single_answer: frame(|out| wire::write_uint(out, 7)),
            answered: Tally::default(),
            submitted: 0,
        };
        stand.settle();
        stand.core.handle_spawned(SLOT, PID, now);
        stand.settle();
        let hello = ChildHello { window, capabilities, ready: true, ..ChildHello::default() };
        let mut session = ChildSession::new(hello, u64::from(PID));
        session.hello(&mut stand.pipe).expect("the first word");
        stand.read();
        stand.settle();
        stand
    }

    /// Does `times` tasks with a handle each, so many at a time.
    pub(crate) fn tasks(mut self, times: u64, together: u64) {
        let data = Data::text("a task");
        for _ in 0..times / together {
            for _ in 0..together {
                self.submitted += 1;
                let mut head = Vec::with_capacity(64);
                write_head(&mut head, "DO", u64::from(PARENT), Recipient::Anyone);
                let body = Body::with_data(head, &data);
                let (ticket, weight) = (Tag { count: 1, source: None }, body.len());
                let policy = Policy::default();
                let task = NewTask { ticket, number: self.submitted, body, weight, policy };
                self.core.submit(task, self.now);
            }
            self.settle();
            self.answer_all();
        }
    }

    /// Does `times` jobs of a channel, so many at a time.
    pub(crate) fn jobs(mut self, times: u64, together: u32) {
        let source = Arc::new(Source::new("square", PARENT, Policy::default()));
        for _ in 0..times / u64::from(together) {
            let ticket = Tag { count: together, source: Some(Arc::clone(&source)) };
            let buffers = self.core.run_buffers().pop().unwrap_or_default();
            let mut run = Run::new(ticket, self.submitted + 1, buffers);
            for _ in 0..together {
                run.push(b"\x07");
            }
            self.submitted += u64::from(together);
            self.core.submit_run(run, self.now);
            self.settle();
            self.answer_all();
        }
    }

    /// The worker answers, turn by turn, until it has nothing more.
    fn answer_all(&mut self) {
        while !self.pipe.is_empty() {
            self.now += TURN;
            self.read();
            self.settle();
        }
        assert_eq!(self.answered.0, self.submitted, "not everything was answered");
    }

    /// What was written is read.
    fn read(&mut self) {
        self.output.feed(&self.pipe);
        self.pipe.clear();
        while let Some(frame) = self.output.next_frame().expect("frames") {
            let FrameEvent::Frame { id, body } = frame else { panic!("{frame:?} was not written") };
            self.core.handle_frame(SLOT, id, body, self.now, &mut self.answered);
        }
        self.core.handle_read(SLOT, self.output.finish().is_err(), self.now);
        self.output.set_max_frame(self.core.max_frame(SLOT));
    }

    /// The end of a turn.
    fn settle(&mut self) {
        self.core.dispatch(self.now);
        loop {
            self.core.take_actions(&mut self.actions);
            let is_quiet = self.actions.is_empty();
            // The one process is there.
            self.actions.clear();
            self.flush();
            if is_quiet {
                break;
            }
            self.core.dispatch(self.now);
        }
        self.core.take_released();
        self.core.next_deadline();
    }

    /// Every task that is on its way to the worker is answered.
    fn flush(&mut self) {
        self.core.take_dirty(&mut self.dirty);
        for slot in self.dirty.drain(..) {
            let Some(outbox) = self.core.outbox(slot) else { continue };
            let mut written = 0;
            for mut piece in outbox.pending() {
                written += piece.len();
                while let Some((header, rest)) = piece.split_first_chunk::<FRAME_HEADER_BYTES>() {
                    let [a, b, c, d, id @ ..] = *header;
                    let body_len = u32::from_be_bytes([a, b, c, d]) as usize - id.len();
                    let (body, behind) = rest.split_at(body_len);
                    piece = behind;
                    if id == [0; 4] {
                        continue;
                    }
                    let answer = answer(&mut self.batch_answers, &self.single_answer, body);
                    let start = self.pipe.len();
                    self.pipe.extend_from_slice(answer);
                    self.pipe[start + 4..start + FRAME_HEADER_BYTES].copy_from_slice(&id);
                }
            }
            outbox.wrote(written);
        }
    }
}

/// The answer to a task, or to a batch of them, whose id is to be put in.
fn answer<'a>(batches: &'a mut Vec<Vec<u8>>, single: &'a [u8], body: &[u8]) -> &'a [u8] {
    let message = Message::decode(body).expect("a message");
    if message.request != "BATCH" {
        return single;
    }
    let count = Batch::decode(message.data).expect("a batch").items.left();
    if batches.len() <= count as usize {
        batches.resize_with(count as usize + 1, Vec::new);
    }
    let known = &mut batches[count as usize];
    if known.is_empty() {
        *known = frame(|out| {
            let mut list = ResultList::begin(count, out);
            for _ in 0..count {
                let written = list.good(out, |out| {
                    wire::write_uint(out, 7);
                    Ok::<(), ()>(())
                });
                written.expect("a number can be written");
            }
            list.finish(out);
        });
    }
    known
}

/// A final answer.
fn frame(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut data = Vec::new();
    write(&mut data);
    let mut frame = Vec::new();
    let (request, sender) = ("FINISHED", u64::from(PID));
    Message { request, sender, recipient: Recipient::Anyone, data: &data }.encode_frame(0, &mut frame);
    frame
}

/// What a pool is made with if nothing else is said, and whatever would depend on the machine fixed.
fn config() -> SupervisorConfig {
    SupervisorConfig {
        workers: 1,
        workers_max: 1,
        idle_timeout: None,
        recycle: Recycle::default(),
        cores: 2,
        program: "worker".into(),
        parent_pid: PARENT,
        run: "run".into(),
        max_frame: MAX_FRAME_DEFAULT,
        window: None,
        hello_timeout: Duration::from_secs(10),
        ready_timeout: Duration::from_secs(60),
        heartbeat: None,
        frame_timeout: Duration::from_secs(30),
        stream_timeout: Duration::from_secs(60),
        cancel_grace: Duration::from_secs(1),
        terminate_grace: Duration::from_secs(1),
        spin: true,
        reports_starts: false,
        task_events: false,
        keeps_dead_letters: false,
        seed: 1,
    }
}
