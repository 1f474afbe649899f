//! The two session halves run against each other in every order of events up to a depth.

use std::collections::{HashMap, HashSet};

use stokehold_protocol::{
    Capabilities, Capability, ChildEvent, ChildHello, ChildSession, Die, Failure, Message, Meta, Outgoing,
    ParentEvent, ParentHello, ParentSession, Recipient, limits, wire,
};

/// How many events in a row. Every order of that many is covered: equal states are explored once and counted as often as
/// there are ways to reach them.
const DEPTH: usize = 9;

/// Tasks that exist at most, so that the exploration ends.
const TASKS_MAX: u32 = 3;

/// ITEM, PROGRESS, LOG, STARTED and CANCEL frames at most.
const CHATTER_MAX: u32 = 2;

/// The data of a batch of two.
const BATCH: &[u8] = b"\x82\xa3req\xa2DO\xa5items\x92\x2a\x2a";

/// What can happen next, to either side or between them.
#[derive(Clone, Copy, Debug)]
enum Step {
    ChildHello,
    ChildReady,
    ChildFinishes,
    ChildFails,
    ChildItem,
    ChildProgress,
    ChildStarts,
    ChildLogs,
    ChildBye,
    ChildCrashes,
    ParentBegins,
    ParentRepeats,
    ParentCancels,
    ParentDies,
    ParentCloses,
    /// All bytes on the way to the child arrive, or only the first half of them.
    ToChild,
    ToChildHalf,
    ToParent,
    ToParentHalf,
}

const STEPS: [Step; 19] = [
    Step::ChildHello,
    Step::ChildReady,
    Step::ChildFinishes,
    Step::ChildFails,
    Step::ChildItem,
    Step::ChildProgress,
    Step::ChildStarts,
    Step::ChildLogs,
    Step::ChildBye,
    Step::ChildCrashes,
    Step::ParentBegins,
    Step::ParentRepeats,
    Step::ParentCancels,
    Step::ParentDies,
    Step::ParentCloses,
    Step::ToChild,
    Step::ToChildHalf,
    Step::ToParent,
    Step::ToParentHalf,
];

/// Both halves, the bytes between them, and what a witness has seen.
#[derive(Clone, Debug)]
struct World {
    parent: ParentSession<u32>,
    child: ChildSession,
    to_child: Pipe,
    to_parent: Pipe,
    /// What the child's handlers work on, oldest first.
    working: Vec<u32>,
    ready_in_hello: bool,
    child_said_hello: bool,
    child_said_ready: bool,
    child_gone: bool,
    parent_closed: bool,
    parent_heard_hello: bool,
    /// Open ids as the witness counts them.
    open: Vec<u32>,
    begun: u32,
    /// One bit for each ticket that came back with an answer.
    answered: u32,
    /// One bit for each ticket taken back when the child was gone.
    returned: u32,
    /// Frames of no consequence so far: ITEM, PROGRESS and CANCEL are few, so that the exploration gets deep.
    chatter: u32,
    /// What the child will say in BYE.
    done: u32,
    failed: u32,
}

#[derive(Clone, Eq, Hash, PartialEq)]
struct Key {
    parent: (u8, bool, u32, u32),
    child: (u8, bool, usize, bool),
    pipes: [Pipe; 2],
    ids: [Vec<u32>; 2],
    said: [bool; 5],
    counts: [u32; 6],
}

/// Bytes on their way, and bytes that have arrived and are no whole frame yet.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct Pipe {
    flying: Vec<u8>,
    arrived: Vec<u8>,
    closed: bool,
    /// The reader has been told of the end.
    ended: bool,
}

impl Pipe {
    /// Lets `count` bytes arrive and gives the whole frames.
    fn deliver(&mut self, count: usize) -> Vec<(u32, Vec<u8>)> {
        self.arrived.extend(self.flying.drain(..count));
        let mut frames = Vec::new();
        while let Some((len, _)) = self.arrived.split_first_chunk::<4>() {
            let end = u32::from_be_bytes(*len) as usize + 4;
            if self.arrived.len() < end {
                break;
            }
            let frame: Vec<u8> = self.arrived.drain(..end).collect();
            frames.push((u32::from_be_bytes(frame[4..8].try_into().unwrap()), frame[8..].to_vec()));
        }
        frames
    }

    fn at_end(&self) -> bool {
        self.closed && self.flying.is_empty()
    }
}

impl World {
    fn new(ready_in_hello: bool) -> Self {
        let hello = ChildHello {
            window: 2,
            capabilities: Capabilities::NONE
                .with(Capability::Batch)
                .with(Capability::Cancel)
                .with(Capability::Meta),
            ready: ready_in_hello,
            ..ChildHello::default()
        };
        Self {
            parent: ParentSession::new(parent_hello()),
            child: ChildSession::new(hello, 7),
            to_child: Pipe::default(),
            to_parent: Pipe::default(),
            working: Vec::new(),
            ready_in_hello,
            child_said_hello: false,
            child_said_ready: false,
            child_gone: false,
            parent_closed: false,
            parent_heard_hello: false,
            open: Vec::new(),
            begun: 0,
            answered: 0,
            returned: 0,
            chatter: 0,
            done: 0,
            failed: 0,
        }
    }

    /// Lets a step happen. False if it cannot happen in this state of affairs.
    fn step(&mut self, step: Step) -> bool {
        match step {
            Step::ToChild | Step::ToChildHalf | Step::ToParent | Step::ToParentHalf => self.move_bytes(step),
            Step::ParentBegins
            | Step::ParentRepeats
            | Step::ParentCancels
            | Step::ParentDies
            | Step::ParentCloses => !self.parent_closed && self.parent_acts(step),
            Step::ChildItem | Step::ChildProgress | Step::ChildStarts | Step::ChildLogs
                if self.chatter == CHATTER_MAX =>
            {
                false
            }
            _ => !self.child_gone && self.child_acts(step),
        }
    }

    fn child_acts(&mut self, step: Step) -> bool {
        let out = &mut self.to_parent.flying;
        let before = out.len();
        match step {
            Step::ChildHello => {
                let ok = self.child.hello(out).is_ok();
                assert_eq!(ok, !self.child_said_hello, "HELLO is said once");
                self.child_said_hello = true;
                self.child_said_ready |= self.ready_in_hello;
                ok
            }
            Step::ChildReady => {
                let ok = self.child.ready(out).is_ok();
                assert_eq!(
                    ok,
                    self.child_said_hello && !self.child_said_ready,
                    "READY is said once, after HELLO"
                );
                self.child_said_ready |= ok;
                ok
            }
            Step::ChildFinishes | Step::ChildFails => {
                let oldest = matches!(step, Step::ChildFinishes);
                let Some(id) = (if oldest { self.working.first() } else { self.working.last() }).copied()
                else {
                    return false;
                };
                self.working.retain(|open| *open != id);
                let done = if oldest {
                    self.done += 1;
                    self.child.finished(id, out, wire::write_nil)
                } else {
                    self.failed += 1;
                    self.child.failed(id, &Failure::new("error", "no"), out)
                };
                assert_eq!(done, Ok(()), "a task in work can be answered");
                assert!(self.child.finished(id, out, wire::write_nil).is_err(), "and only once");
                out.len() > before
            }
            Step::ChildItem => {
                let Some(id) = self.working.first() else { return false };
                self.chatter += 1;
                self.child.item(*id, b"\x01", out).is_ok()
            }
            Step::ChildProgress => {
                self.chatter += 1;
                self.child.progress(0, b"\x01", out).is_ok()
            }
            Step::ChildStarts => {
                let Some(id) = self.working.last() else { return false };
                self.chatter += 1;
                self.child.started(*id, out).is_ok()
            }
            Step::ChildLogs => {
                let id = self.working.first().copied().unwrap_or(0);
                self.chatter += 1;
                self.child.log(id, b"\x80", out).is_ok()
            }
            Step::ChildBye => {
                if !self.working.is_empty() || self.child.bye(out).is_err() {
                    return false;
                }
                self.child_leaves();
                true
            }
            _ => {
                // The last frame is cut off, if it has not arrived.
                out.pop();
                self.child_leaves();
                true
            }
        }
    }

    fn child_leaves(&mut self) {
        self.child_gone = true;
        self.to_parent.closed = true;
        self.to_child = Pipe::default();
        self.working.clear();
    }

    fn parent_acts(&mut self, step: Step) -> bool {
        let out = &mut self.to_child.flying;
        match step {
            Step::ParentBegins | Step::ParentRepeats => {
                if self.begun == TASKS_MAX {
                    return false;
                }
                let room = self.parent.is_open() && self.parent.open_count() < self.parent.window();
                let Ok(id) = self.parent.begin(self.begun) else {
                    assert!(!room, "an open session with room takes a task");
                    return false;
                };
                assert!(room && id != 0 && !self.open.contains(&id), "id {id} is fresh");
                self.begun += 1;
                self.open.push(id);
                let attempt = if matches!(step, Step::ParentBegins) { 1 } else { 2 };
                // Every second one is a batch: to both halves it is a task like any other.
                let body =
                    if self.begun.is_multiple_of(2) { body("BATCH", BATCH) } else { body("DO", b"\x2a") };
                self.parent.send(id, Outgoing { body: &body, attempt, ..Outgoing::default() }, out);
            }
            Step::ParentCancels => {
                let Some(id) = self.open.first().filter(|_| self.chatter < CHATTER_MAX) else { return false };
                self.chatter += 1;
                Message { request: "CANCEL", sender: 3, recipient: Recipient::Process(7), data: b"\xc0" }
                    .encode_frame(*id, out);
            }
            Step::ParentDies => {
                if self.parent.has_ended() || self.parent.fingerprint().1 {
                    return false;
                }
                self.parent.die(&Die::default(), out);
                assert!(!self.parent.is_open());
            }
            _ => {
                self.parent_closed = true;
                self.to_child.closed = true;
            }
        }
        if self.child_gone {
            // Nobody reads it any more.
            self.to_child.flying.clear();
        }
        true
    }

    fn move_bytes(&mut self, step: Step) -> bool {
        let to_child = matches!(step, Step::ToChild | Step::ToChildHalf);
        let half = matches!(step, Step::ToChildHalf | Step::ToParentHalf);
        let pipe = if to_child { &mut self.to_child } else { &mut self.to_parent };
        let count = if half { pipe.flying.len() / 2 } else { pipe.flying.len() };
        if count == 0 && (half || !pipe.at_end() || pipe.ended) {
            return false;
        }
        let frames = pipe.deliver(count);
        let ended = pipe.at_end();
        pipe.ended = ended;
        for (id, body) in frames {
            if to_child { self.child_reads(id, &body) } else { self.parent_reads(id, &body) }
        }
        if ended && to_child && !self.child_gone {
            self.child.handle_eof();
            assert!(self.child.is_finishing());
        }
        if ended && !to_child {
            for (id, ticket) in self.parent.leases().close_all() {
                self.open.retain(|open| *open != id);
                self.returned |= 1 << ticket;
            }
        }
        true
    }

    fn child_reads(&mut self, id: u32, body: &[u8]) {
        let mut refusals = Vec::new();
        let event = self.child.handle_frame(id, body, &mut refusals);
        match event.expect("a well-behaved parent makes no error") {
            ChildEvent::Task { id, request, data, meta } => {
                assert!(self.child_said_ready, "no task before READY");
                assert_eq!((request, data), ("DO", &b"\x2a"[..]));
                assert!(meta == Meta::default() || meta.attempt == Some(2));
                self.working.push(id);
            }
            ChildEvent::Batch { id, request, mut items } => {
                assert!(self.child_said_ready, "no batch before READY");
                assert_eq!((request, items.left(), items.next_value()), ("DO", 2, Ok(Some(&b"\x2a"[..]))));
                self.working.push(id);
            }
            ChildEvent::Cancel { id } => assert!(self.working.contains(&id), "only open tasks are cancelled"),
            ChildEvent::Refused | ChildEvent::OneWay { .. } | ChildEvent::Ping { .. } => {
                panic!("nobody sent that")
            }
            ChildEvent::Hello | ChildEvent::Die(_) | ChildEvent::Ignored => {}
        }
        assert!(refusals.is_empty(), "nothing of a well-behaved parent is refused");
        assert_eq!(self.child.open_count(), self.working.len());
    }

    fn parent_reads(&mut self, id: u32, body: &[u8]) {
        match self.parent.handle_frame(id, body).expect("a well-behaved child makes no error") {
            ParentEvent::Hello { .. } => {
                assert!(!self.parent_heard_hello, "one HELLO");
                self.parent_heard_hello = true;
                if !self.parent_closed && !self.child_gone {
                    self.parent.hello(&mut self.to_child.flying);
                }
            }
            ParentEvent::Finished { ticket, .. } | ParentEvent::Failed { ticket, .. } => {
                assert_eq!(self.answered & (1 << ticket), 0, "task {ticket} is answered once");
                self.answered |= 1 << ticket;
                self.open.retain(|open| *open != id);
            }
            ParentEvent::Item { id, .. } => assert!(self.open.contains(&id)),
            ParentEvent::Started { id } => assert!(self.open.contains(&id)),
            ParentEvent::Log { id, .. } => assert!(id == 0 || self.open.contains(&id)),
            ParentEvent::Progress { id, .. } => assert_eq!(id, 0),
            ParentEvent::Ready | ParentEvent::Bye => {}
            event => panic!("nobody sent that: {event:?}"),
        }
    }

    /// What must hold after every step.
    fn check(&self) {
        assert_eq!(self.answered & self.returned, 0, "no task both answered and taken back");
        let settled = (self.answered | self.returned).count_ones();
        assert_eq!(self.begun, settled + self.parent.open_count(), "no ticket is lost");
        assert_eq!(self.open.len(), self.parent.open_count() as usize);
        assert!(self.begun == 0 || self.child_said_ready, "no work before READY");
        if !self.child_said_hello {
            assert!(self.to_parent.flying.is_empty(), "a child's first frame is HELLO");
        }
    }

    /// Everything that decides what can happen next. The halves' fingerprints leave out what follows from the rest: the next
    /// id is one more than `begun`, a ticket one less than its id.
    fn key(&self) -> Key {
        Key {
            parent: self.parent.fingerprint(),
            child: self.child.fingerprint(),
            pipes: [self.to_child.clone(), self.to_parent.clone()],
            ids: [self.working.clone(), self.open.clone()],
            said: [
                self.child_said_hello,
                self.child_said_ready,
                self.child_gone,
                self.parent_closed,
                self.parent_heard_hello,
            ],
            counts: [self.begun, self.answered, self.returned, self.chatter, self.done, self.failed],
        }
    }
}

/// Explores from `world` and gives distinct states, and orders of at most [`DEPTH`] events.
fn explore(world: World) -> (usize, u128) {
    let mut level: HashMap<Key, (World, u128)> = HashMap::from([(world.key(), (world, 1))]);
    let mut states = 1;
    let mut orders = 0_u128;
    let mut known: HashSet<Key> = level.keys().cloned().collect();
    for _ in 0..DEPTH {
        let mut next: HashMap<Key, (World, u128)> = HashMap::new();
        for (world, ways) in level.into_values() {
            for step in STEPS {
                let mut after = world.clone();
                if !after.step(step) {
                    continue;
                }
                after.check();
                orders += ways;
                let key = after.key();
                if known.insert(key.clone()) {
                    states += 1;
                }
                next.entry(key).or_insert((after, 0)).1 += ways;
            }
        }
        level = next;
    }
    (states, orders)
}

#[test]
fn well_behaved_halves_survive_every_order_of_events() {
    let (states, orders) = explore(World::new(false));
    println!("HELLO, then READY: {states} states, {orders} orders of up to {DEPTH} events");
    assert!(states > 20_000 && orders > 1_000_000, "{states} states, {orders} orders");
}

#[test]
fn well_behaved_halves_survive_every_order_of_events_with_ready_in_hello() {
    let (states, orders) = explore(World::new(true));
    println!("READY in HELLO: {states} states, {orders} orders of up to {DEPTH} events");
    assert!(states > 20_000 && orders > 1_000_000, "{states} states, {orders} orders");
}

#[test]
fn a_whole_session_answers_everything_and_ends() {
    let mut world = World::new(false);
    let steps = [
        Step::ChildHello,
        Step::ChildReady,
        Step::ToParent,
        Step::ParentBegins,
        Step::ParentRepeats,
        Step::ToChild,
        Step::ChildItem,
        Step::ChildFinishes,
        Step::ChildFails,
        Step::ParentDies,
        Step::ParentCloses,
        Step::ToChildHalf,
        Step::ToChild,
        Step::ChildBye,
        Step::ToParentHalf,
        Step::ToParent,
    ];
    for step in steps {
        assert!(world.step(step), "{step:?}");
        world.check();
    }
    assert_eq!((world.begun, world.answered, world.returned), (2, 0b11, 0));
    assert!(world.parent.has_ended());
    assert_eq!(world.parent.child().window, 2);
    assert_eq!(world.child.parent().map(|hello| hello.parent), Some(3));
}

#[test]
fn what_a_child_has_not_answered_at_bye_comes_back() {
    let mut world = World::new(true);
    let steps = [Step::ChildHello, Step::ToParent, Step::ParentBegins, Step::ChildBye, Step::ToParent];
    for step in steps {
        assert!(world.step(step), "{step:?}");
        world.check();
    }
    assert_eq!((world.begun, world.answered, world.returned), (1, 0, 1));
}

#[test]
fn a_child_speaks_about_open_tasks_only_and_not_before_hello() {
    let mut child = ChildSession::new(ChildHello { ready: true, ..ChildHello::default() }, 7);
    let mut out = Vec::new();
    assert!(child.log(0, b"\x80", &mut out).is_err() && child.started(1, &mut out).is_err());
    child.hello(&mut out).unwrap();
    out.clear();
    assert!(child.log(1, b"\x80", &mut out).is_err() && child.started(1, &mut out).is_err());
    assert!(out.is_empty());
    child.handle_frame(1, &body("DO", b"\x2a"), &mut out).unwrap();
    child.started(1, &mut out).unwrap();
    child.log(1, b"\x80", &mut out).unwrap();
    child.finished(1, &mut out, wire::write_nil).unwrap();
    assert!(child.log(1, b"\x80", &mut out).is_err() && child.started(1, &mut out).is_err());
    child.log(0, b"\x80", &mut out).unwrap();
    child.bye(&mut out).unwrap();
    assert!(child.log(0, b"\x80", &mut out).is_err());
}

#[test]
fn started_is_said_only_if_both_sides_list_it() {
    let started = Capabilities::NONE.with(Capability::Started);
    for (ours, theirs) in [(started, started), (started, Capabilities::NONE), (Capabilities::NONE, started)] {
        let mut child = ChildSession::new(ChildHello { capabilities: ours, ..ChildHello::default() }, 7);
        child.hello(&mut Vec::new()).unwrap();
        assert!(!child.tells_starts(), "the parent has said nothing yet");
        let mut data = Vec::new();
        ParentHello { capabilities: theirs, ..parent_hello() }.encode(&mut data);
        child.handle_frame(0, &body("HELLO", &data), &mut Vec::new()).unwrap();
        assert_eq!(child.tells_starts(), ours == theirs);
    }
}

#[test]
fn a_task_above_the_childs_limit_is_refused_and_nothing_else_is() {
    let mut child = ChildSession::new(ChildHello { ready: true, ..ChildHello::default() }, 7);
    child.hello(&mut Vec::new()).unwrap();
    let (task, verb) = (body("DO", b"\x2a"), body("PING", b"\x2a"));
    for (id, head, refused) in
        [(1, &task, true), (0, &task, false), (2, &verb, false), (3, &vec![0xc0], false)]
    {
        let mut out = Vec::new();
        let event = child.handle_too_large(id, 1 << 25, head, &mut out);
        let expected = if refused { ChildEvent::Refused } else { ChildEvent::Ignored };
        assert_eq!((event, out.is_empty()), (expected, !refused), "{id}");
    }
    assert_eq!(child.open_count(), 0);
}

#[test]
fn a_frame_too_large_with_the_id_of_an_open_task_is_ignored() {
    let mut child = ChildSession::new(ChildHello { ready: true, ..ChildHello::default() }, 7);
    child.hello(&mut Vec::new()).unwrap();
    let task = body("DO", b"\x2a");
    child.handle_frame(5, &task, &mut Vec::new()).unwrap();
    let mut out = Vec::new();
    assert_eq!(child.handle_too_large(5, 1 << 25, &task, &mut out), ChildEvent::Ignored);
    assert!(out.is_empty(), "that would be the answer of the task that is open");
    child.finished(5, &mut out, |out| out.push(0x2a)).unwrap();
}

#[test]
fn die_is_obeyed_whatever_is_behind_it() {
    for data in [&b"\xc1"[..], b"\x81\xa3now\x07", b"\xa1x", b"\xc0\xc0"] {
        let mut child = ChildSession::new(ChildHello { ready: true, ..ChildHello::default() }, 7);
        child.hello(&mut Vec::new()).unwrap();
        let die = body("DIE", data);
        let event = child.handle_frame(0, &die, &mut Vec::new());
        assert_eq!(event, Ok(ChildEvent::Die(Die::default())), "{data:?}");
        assert!(child.is_finishing());
    }
}

#[test]
fn meta_that_cannot_be_read_is_ignored() {
    let capabilities = Capabilities::NONE.with(Capability::Meta);
    let mut child = ChildSession::new(ChildHello { ready: true, capabilities, ..ChildHello::default() }, 7);
    child.hello(&mut Vec::new()).unwrap();
    for data in [&b"\xc1"[..], b"\x2a", b"\x81\xa7attempt\xa1x"] {
        let meta = body("META", data);
        let event = child.handle_frame(5, &meta, &mut Vec::new());
        assert_eq!(event, Ok(ChildEvent::Ignored), "{data:?}");
    }
    let task = body("DO", b"\x2a");
    let event = child.handle_frame(5, &task, &mut Vec::new());
    let expected = ChildEvent::Task { id: 5, request: "DO", data: b"\x2a", meta: Meta::default() };
    assert_eq!(event, Ok(expected));
}

/// What the parent says of itself in these tests.
pub(crate) fn parent_hello() -> ParentHello {
    ParentHello {
        version: 1,
        pid: 7,
        parent: 3,
        capabilities: Capabilities::NONE,
        max_frame: limits::MAX_FRAME_DEFAULT,
        spin: true,
    }
}

/// The body of a frame.
pub(crate) fn body(request: &str, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Message { request, sender: 7, recipient: Recipient::Anyone, data }.encode_frame(0, &mut out);
    out.split_off(limits::FRAME_HEADER_BYTES)
}
