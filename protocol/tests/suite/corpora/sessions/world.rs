//! Both session halves, the bytes between them, and a witness who keeps books of his own and compares.

use std::collections::{BTreeMap, BTreeSet};

use stokehold_protocol::{
    ApiMisuse, ChildEvent, ChildHello, ChildSession, Die, Message, Outgoing, ParentEvent, ParentHello,
    ParentSession, PeerError, check, code, limits,
};

use super::line::{Arrival, Line, finals};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ticket {
    Open,
    Answered,
    TakenBack,
}

pub(crate) struct World {
    parent: ParentSession<usize>,
    /// The parent reads no more: an error, or the end of the child's stream.
    parent_over: bool,
    parent_heard_bye: bool,
    child: ChildSession,
    /// The child is gone: BYE, a crash, or an error.
    child_over: bool,
    to_child: Line,
    to_parent: Line,
    /// One for each task begun, by its ticket.
    tickets: Vec<Ticket>,
    /// Open ids with their tickets, as the witness counts them.
    open: BTreeMap<u32, usize>,
    /// Open ids that lost a result to the size limit: their answer is a failure.
    doomed: BTreeSet<u32>,
    /// What the child has accepted and not answered, oldest first.
    tasks: Vec<u32>,
}

impl World {
    pub(crate) fn new(ours: ParentHello, theirs: ChildHello) -> Self {
        let mut world = Self {
            parent: ParentSession::new(ours),
            parent_over: false,
            parent_heard_bye: false,
            child: ChildSession::new(theirs, 7),
            child_over: false,
            to_child: Line::default(),
            to_parent: Line::default(),
            tickets: Vec::new(),
            open: BTreeMap::new(),
            doomed: BTreeSet::new(),
            tasks: Vec::new(),
        };
        world.to_child.splitter.set_max_frame(limits::MAX_FRAME_FLOOR);
        world.to_parent.splitter.set_max_frame(world.parent.max_frame());
        world
    }

    /// The child says something that is no answer. What it may not say, it does not say.
    pub(crate) fn child_says(
        &mut self,
        say: impl FnOnce(&mut ChildSession, &mut Vec<u8>) -> Result<(), ApiMisuse>,
    ) {
        if self.child_over {
            return;
        }
        let mut out = Vec::new();
        let said = say(&mut self.child, &mut out);
        let expected: &[bool] = if said.is_ok() { &[false] } else { &[] };
        assert_eq!(finals(&out), expected, "{said:?}");
        self.to_parent.write(&out);
    }

    /// The child answers one of its tasks, or one that it does not have.
    pub(crate) fn child_answers(
        &mut self,
        which: u8,
        answer: impl FnOnce(&mut ChildSession, u32, &mut Vec<u8>) -> Result<(), ApiMisuse>,
    ) {
        if self.child_over {
            return;
        }
        let id = self.some_task(which);
        let mut out = Vec::new();
        let answered = answer(&mut self.child, id, &mut out);
        let place = self.tasks.iter().position(|task| *task == id);
        match (answered, place) {
            (Ok(()), Some(place)) => {
                self.tasks.remove(place);
                assert_eq!(finals(&out), [true], "one answer");
                assert!(out.len() <= self.child.peer_max_frame() as usize + 4, "within the parent's limit");
            }
            (Err(ApiMisuse::WrongState(_)), _) => assert!(out.is_empty()),
            (Err(ApiMisuse::NotOpen(_)), None) => assert!(out.is_empty()),
            (answered, place) => panic!("{answered:?} for the task at {place:?}"),
        }
        self.to_parent.write(&out);
    }

    /// One of the child's tasks, or an id that may or may not be one.
    pub(crate) fn some_task(&self, which: u8) -> u32 {
        match self.tasks.get(usize::from(which & 0x0f)) {
            Some(id) => *id,
            None => u32::from(which >> 4),
        }
    }

    /// BYE.
    pub(crate) fn child_leaves(&mut self) {
        if !self.child_over && self.child.bye(&mut self.to_parent.flying).is_ok() {
            assert!(self.child.finished(1, &mut Vec::new(), |_| {}).is_err(), "nothing behind BYE");
            self.child_ends();
        }
    }

    /// The child dies, and the last bytes it would have written with it.
    pub(crate) fn child_crashes(&mut self, lost: usize) {
        if !self.child_over {
            let kept = self.to_parent.flying.len().saturating_sub(lost);
            self.to_parent.flying.truncate(kept);
            self.child_ends();
        }
    }

    fn child_ends(&mut self) {
        self.child_over = true;
        self.to_parent.closed = true;
        self.to_child.flying.clear();
        self.tasks.clear();
    }

    pub(crate) fn parent_begins(&mut self, outgoing: Outgoing<'_>) {
        if self.parent_over || self.to_child.closed || !self.parent.fits(outgoing.body.len()) {
            return;
        }
        let ticket = self.tickets.len();
        let room = self.parent.is_open() && self.parent.open_count() < self.parent.window();
        match self.parent.begin(ticket) {
            Ok(id) => {
                assert!(room && id != 0, "a task with id {id} without room");
                assert_eq!(self.open.insert(id, ticket), None, "id {id} is fresh");
                self.tickets.push(Ticket::Open);
                self.parent.send(id, outgoing, &mut self.to_child.flying);
            }
            Err(back) => assert!(!room && back == ticket, "an open session with room takes a task"),
        }
    }

    pub(crate) fn parent_dies(&mut self, die: &Die) {
        if !self.parent_over && !self.to_child.closed && !self.parent.has_ended() {
            self.parent.die(die, &mut self.to_child.flying);
            assert!(!self.parent.is_open());
        }
    }

    /// Cancels an open task, or none.
    pub(crate) fn parent_cancels(&mut self, which: u8) {
        let id = self.open.keys().nth(usize::from(which)).copied().unwrap_or(0);
        if !self.parent_over && !self.to_child.closed {
            let said = self.parent.cancel(id, &mut self.to_child.flying);
            assert!(!said || self.open.contains_key(&id), "only open tasks are cancelled");
        }
    }

    pub(crate) fn parent_pings(&mut self, data: u64) {
        if !self.parent_over && !self.to_child.closed {
            self.parent.ping(data, &mut self.to_child.flying);
        }
    }

    pub(crate) fn parent_closes(&mut self) {
        self.to_child.closed = true;
    }

    /// The caller closes a lease itself. The child may still answer it, which then is against the rules.
    pub(crate) fn parent_takes_back(&mut self, which: u8) {
        let Some((id, ticket)) = self.open.iter().nth(usize::from(which)).map(|(id, ticket)| (*id, *ticket))
        else {
            return;
        };
        assert_eq!(self.parent.leases().get(id), Some(&ticket));
        assert_eq!(self.parent.leases().close(id), Some(ticket));
        assert_eq!(self.parent.leases().close(id), None, "once");
        self.comes_back(id, ticket, Ticket::TakenBack);
        self.to_parent.tampered = true;
    }

    pub(crate) fn strangers_write(&mut self, to_child: bool, bytes: &[u8]) {
        let line = if to_child { &mut self.to_child } else { &mut self.to_parent };
        line.write(bytes);
        // A child that is given a stranger's tasks answers them.
        self.to_parent.tampered = true;
        self.to_child.tampered |= to_child;
    }

    /// Lets at most `count` bytes arrive, and their reader take the frames among them.
    pub(crate) fn deliver(&mut self, to_child: bool, count: usize) {
        let line = if to_child { &mut self.to_child } else { &mut self.to_parent };
        let count = count.min(line.flying.len());
        let bytes: Vec<u8> = line.flying.drain(..count).collect();
        line.splitter.feed(&bytes);
        if to_child { self.child_reads() } else { self.parent_reads() }
    }

    fn child_reads(&mut self) {
        while !self.child_over {
            match self.to_child.arrival() {
                Some(Ok(Arrival::Frame(id, body))) => self.child_takes(id, &body),
                Some(Ok(Arrival::TooLarge(..))) => {
                    assert!(self.to_child.tampered, "a frame that does not fit")
                }
                Some(Err(error)) => {
                    assert!(self.to_child.tampered, "{error}");
                    self.child_ends();
                }
                None => {
                    if self.to_child.at_end() {
                        self.child.handle_eof();
                        assert!(self.child.is_finishing());
                    }
                    return;
                }
            }
        }
    }

    fn child_takes(&mut self, id: u32, body: &[u8]) {
        let mut out = Vec::new();
        match self.child.handle_frame(id, body, &mut out) {
            Ok(ChildEvent::Task { id: task, .. }) => {
                assert!(task == id && id != 0 && out.is_empty());
                self.tasks.push(id);
            }
            Ok(ChildEvent::Cancel { id: task }) => assert!(task == id && self.tasks.contains(&id)),
            Ok(ChildEvent::Ping { data }) => {
                assert_eq!(check(data), Ok(()));
                self.child.pong(data, &mut out);
                assert!(!finals(&out).contains(&true));
            }
            Ok(ChildEvent::Refused) => {
                assert!(self.to_child.tampered, "something of an honest parent was refused");
                assert_eq!(finals(&out), [true], "a refusal is one answer");
            }
            Ok(_) => assert!(out.is_empty()),
            Err(error) => {
                assert!(self.to_child.tampered, "{error}");
                return self.child_ends();
            }
        }
        self.to_parent.write(&out);
    }

    fn parent_reads(&mut self) {
        while !self.parent_over {
            match self.to_parent.arrival() {
                Some(Ok(Arrival::Frame(id, body))) => self.parent_takes(id, &body),
                Some(Ok(Arrival::TooLarge(id, head))) => self.parent_misses(id, &head),
                Some(Err(error)) => self.parent_gives_up(&error),
                None => {
                    if self.to_parent.at_end() {
                        self.parent_ends();
                    }
                    return;
                }
            }
            self.to_parent.splitter.set_max_frame(self.parent.max_frame());
        }
    }

    /// A frame was too large: the parent sees its head only.
    fn parent_misses(&mut self, id: u32, head: &[u8]) {
        match self.parent.handle_too_large(id, head) {
            Ok(Some(ticket)) => self.comes_back(id, ticket, Ticket::Answered),
            Ok(None) if self.parent_heard_bye => {}
            Ok(None) => {
                let request = Message::decode(head).expect("a head was read").request;
                assert!(!matches!(request, "FINISHED" | "FAILED"), "an answer that ends nothing");
                if request == "ITEM" {
                    assert!(self.open.contains_key(&id), "a result of no task");
                    self.doomed.insert(id);
                }
            }
            Err(error) => self.parent_gives_up(&error),
        }
    }

    fn parent_takes(&mut self, id: u32, body: &[u8]) {
        match self.parent.handle_frame(id, body) {
            Ok(ParentEvent::Finished { ticket, .. }) => {
                assert!(!self.doomed.contains(&id), "a success with a result lost");
                self.comes_back(id, ticket, Ticket::Answered);
            }
            Ok(ParentEvent::Failed { ticket, failure }) => {
                assert!(!self.doomed.contains(&id) || failure.code == code::TOO_LARGE);
                self.comes_back(id, ticket, Ticket::Answered);
            }
            Ok(ParentEvent::Hello { ready }) => {
                let dying = self.parent.fingerprint().1;
                assert_eq!(self.parent.is_open(), ready && !dying);
                if !self.to_child.closed {
                    self.parent.hello(&mut self.to_child.flying);
                }
            }
            Ok(ParentEvent::Item { id: task, .. } | ParentEvent::Started { id: task }) => {
                assert!(task == id && self.open.contains_key(&id));
            }
            Ok(ParentEvent::Progress { id: task, .. } | ParentEvent::Log { id: task, .. }) => {
                assert!(task == id && (id == 0 || self.open.contains_key(&id)));
            }
            Ok(ParentEvent::Ask { id }) => {
                assert!(id != 0 && self.to_parent.tampered);
                self.parent.refuse(id, &mut self.to_child.flying);
            }
            Ok(ParentEvent::Bye) => {
                assert!(self.parent.has_ended() && !self.parent_heard_bye);
                self.parent_heard_bye = true;
            }
            Ok(_) => {}
            Err(error) => self.parent_gives_up(&error),
        }
    }

    /// The ticket of a task is given back by the parent's half.
    fn comes_back(&mut self, id: u32, ticket: usize, how: Ticket) {
        assert_eq!(self.open.remove(&id), Some(ticket), "the ticket of id {id}");
        assert_eq!(self.tickets[ticket], Ticket::Open, "ticket {ticket} comes back once");
        assert!(how == Ticket::TakenBack || !self.parent_heard_bye, "an answer behind BYE");
        self.doomed.remove(&id);
        self.tickets[ticket] = how;
    }

    fn parent_gives_up(&mut self, error: &PeerError) {
        assert!(self.to_parent.tampered, "{error}");
        assert!(!error.to_string().is_empty());
        self.parent_ends();
    }

    /// What is still open is taken back, in the order in which it was begun.
    fn parent_ends(&mut self) {
        self.parent_over = true;
        self.to_child.closed = true;
        let expected: Vec<(u32, usize)> = self.open.iter().map(|(id, ticket)| (*id, *ticket)).collect();
        let back = self.parent.leases().close_all();
        assert_eq!(back, expected, "oldest first");
        for (id, ticket) in back {
            self.comes_back(id, ticket, Ticket::TakenBack);
        }
        assert!(self.parent.leases().is_empty());
    }

    /// What must hold after every operation.
    pub(crate) fn check(&mut self) {
        assert_eq!(self.parent.open_count() as usize, self.open.len());
        let oldest = self.open.first_key_value().map(|(id, ticket)| (*id, *ticket));
        assert_eq!(self.parent.leases().oldest().map(|(id, ticket)| (id, *ticket)), oldest);
        assert!(self.parent.window() <= limits::WINDOW_MAX);
        assert!(self.child_over || self.child.open_count() == self.tasks.len());
    }

    /// Everything arrives, everything is answered, both sides end. Then every ticket is back.
    pub(crate) fn end(&mut self) {
        let honest = !self.to_parent.tampered && !self.child_over;
        self.deliver(false, usize::MAX);
        self.deliver(true, usize::MAX);
        while let Some(id) = self.tasks.first().copied() {
            let before = self.tasks.len();
            self.child_answers(0, |child, _, out| child.finished(id, out, |out| out.push(0xc0)));
            if self.tasks.len() == before {
                assert!(!honest, "a task of an honest parent cannot be answered");
                break;
            }
        }
        self.to_parent.closed = true;
        self.deliver(false, usize::MAX);
        if !self.parent_over {
            assert!(!honest);
            self.parent_ends();
        }
        self.check();
        assert!(!self.tickets.contains(&Ticket::Open), "a ticket is lost");
        assert!(!honest || !self.tickets.contains(&Ticket::TakenBack), "a task is not answered");
    }
}
