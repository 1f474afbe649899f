//! What a case has in its hands: children in the states it needs, made for it alone.

use std::cell::RefCell;
use std::ffi::OsString;
use std::rc::Rc;
use std::time::{Duration, Instant};

use stokehold_protocol::limits::MAX_FRAME_DEFAULT;
use stokehold_protocol::wire;
use stokehold_protocol::{Capability, ChildHello};

use super::carrier::Carrier;
use super::process::{Process, Setup};
use super::random::Random;
use super::referee::failure;
use super::same::{self, Same};
use super::session::{PARENT, Record, Session};
use super::trace::json;
use super::verdict::{Checked, Stop, must};

/// The whole case may take so many times what one step may.
const STEPS: u32 = 8;

/// Why a case is skipped for a child that is no testee.
pub(crate) const NEEDS_TESTEE: &str = "needs --testee";

/// How the child is tested: the same for all cases.
#[derive(Clone, Debug)]
pub(crate) struct Testee {
    pub(crate) command: Vec<OsString>,
    /// It answers the requests of `sdks/TESTEE.md`.
    pub(crate) is_testee: bool,
    /// In what it is spoken to.
    pub(crate) carrier: Carrier,
    /// What the child is known to do with DO.
    pub(crate) sample: Sample,
    pub(crate) patience: Duration,
    pub(crate) seed: u64,
}

/// A task that the child is known to do.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Sample {
    /// DO gives back whatever it gets.
    #[default]
    Echo,
    /// DO does something else: an input, and its result.
    Given(Vec<u8>, Vec<u8>),
    /// DO does something else, and nothing is known that it does the same way each time.
    Unknown,
}

/// The input of the sample task for an echo.
fn echoed() -> Vec<u8> {
    json(r#"{"value":20,"text":"grüße","list":[1,null,true]}"#)
}

/// What the parent's HELLO says, where a case wants something of its own.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    pub(crate) max_frame: u64,
    pub(crate) offers_started: bool,
    /// Names, keys and requests that no version knows are mixed in.
    pub(crate) grease: bool,
    /// The child may look for frames before it sleeps; said only if not.
    pub(crate) may_spin: bool,
}

impl Default for Greeting {
    fn default() -> Self {
        Self { max_frame: u64::from(MAX_FRAME_DEFAULT), offers_started: false, grease: true, may_spin: true }
    }
}

/// One case's surroundings.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) testee: &'a Testee,
    /// The case's id.
    pub(crate) case: &'a str,
    pub(crate) record: Rc<RefCell<Record>>,
    random: Random,
    ends: Instant,
    children: u64,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(testee: &'a Testee, case: &'a str) -> Self {
        Self {
            testee,
            case,
            record: Rc::default(),
            random: Random::new(testee.seed, case),
            ends: Instant::now() + testee.patience * STEPS,
            children: 0,
        }
    }

    /// Starts a child and nothing else.
    pub(crate) fn start(&mut self, setup: &Setup) -> Checked<Session> {
        self.children += 1;
        if self.children > 1 {
            self.record.borrow_mut().trace.note("another child");
        }
        // What a child speaks that is offered something else, or nothing, is the case's own business.
        let offers_other = setup.env.iter().any(|(name, _)| *name == "STOKEHOLD_CODEC");
        let carrier = if offers_other { Carrier::Either } else { self.testee.carrier };
        let process = Process::start(&self.testee.command, carrier, setup)?;
        // No process has such a number, and a child must not care.
        let address = (1 << 22) + self.children;
        let mut random = self.random.clone();
        self.random.next();
        random.next();
        // Each child may take as long as a case with one.
        self.ends = self.ends.max(Instant::now() + self.testee.patience * STEPS / 2);
        let record = Rc::clone(&self.record);
        Ok(Session::new(process, carrier, address, record, random, self.testee.patience, self.ends))
    }

    /// Starts a child and reads its HELLO.
    pub(crate) fn greeted_by(&mut self, setup: &Setup) -> Checked<Session> {
        let mut session = self.start(setup)?;
        hear_hello(&mut session)?;
        Ok(session)
    }

    /// A child that is ready, in the usual surroundings.
    pub(crate) fn ready(&mut self) -> Checked<Session> {
        self.ready_in(&Setup::default(), &Greeting::default())
    }

    /// A child that is ready.
    pub(crate) fn ready_in(&mut self, setup: &Setup, greeting: &Greeting) -> Checked<Session> {
        let mut session = self.greeted_by(setup)?;
        greet(&mut session, greeting);
        get_ready(&mut session)?;
        if greeting.grease {
            grease(&mut session);
        }
        Ok(session)
    }

    /// Input and result of a task that any child under test can do.
    pub(crate) fn sample(&self) -> Checked<(Vec<u8>, Vec<u8>)> {
        match &self.testee.sample {
            Sample::Echo => Ok((echoed(), echoed())),
            Sample::Given(input, result) => Ok((input.clone(), result.clone())),
            Sample::Unknown => Err(Stop::skip("needs a task that the child can do: --do and --expect")),
        }
    }

    /// Finds out what a child that has greeted does with DO. One that does not get so far is taken for an echo: the cases tell
    /// what is wrong.
    pub(crate) fn try_echo(&self, mut session: Session) -> Checked<Sample> {
        greet(&mut session, &Greeting { grease: false, ..Greeting::default() });
        get_ready(&mut session)?;
        let (first, second) = (session.ask("DO", &echoed())?, session.ask("DO", &echoed())?);
        if first.finished && same::compare(&echoed(), &first.data) != Same::No {
            return Ok(Sample::Echo);
        }
        let is_same = first.finished && second.finished;
        if is_same && same::compare(&first.data, &second.data) == Same::Yes {
            return Ok(Sample::Given(echoed(), first.data));
        }
        Ok(Sample::Unknown)
    }

    /// Does the sample task, and checks its result: so everything that was sent before it has been read, and was not answered.
    pub(crate) fn check_alive(&self, session: &mut Session) -> Checked {
        let (input, result) = self.sample()?;
        let answer = session.ask("DO", &input)?;
        must(
            answer.finished && same::compare(&result, &answer.data) != Same::No,
            "R-19",
            || "the sample task has not the expected result".to_owned(),
            "DO must give its input back; for a child that does something else use --do and --expect",
        )
    }

    /// Skips a case that needs a child which gives back any value.
    pub(crate) fn needs_echo(&self) -> Checked {
        if self.testee.sample != Sample::Echo {
            return Err(Stop::skip("needs a child that echoes"));
        }
        Ok(())
    }

    /// Skips a case that needs a request of `sdks/TESTEE.md`, which some testees lack. One that lists no `methods` says so
    /// when it is asked, and the referee skips the case then.
    pub(crate) fn needs(&self, session: &Session, request: &str) -> Checked {
        if !self.testee.is_testee {
            return Err(Stop::skip(NEEDS_TESTEE));
        }
        let methods = session.referee.hello.as_ref().map(|hello| hello.methods.clone()).unwrap_or_default();
        if !methods.is_empty() {
            let known = methods.iter().any(|method| method == request);
            return if known { Ok(()) } else { Err(Stop::skip(format!("the testee has no {request}"))) };
        }
        Ok(())
    }

    /// Whether the testee does a request of `sdks/TESTEE.md` that the case is poorer without. It is tried: have it ask for
    /// little.
    pub(crate) fn offers(&self, session: &mut Session, request: &str, data: &[u8]) -> Checked<bool> {
        let tried = self.needs(session, request).and_then(|()| session.ask(request, data));
        match tried {
            Ok(_) => Ok(true),
            Err(Stop::Skip(_)) => Ok(false),
            Err(stop) => Err(stop),
        }
    }

    /// Something to know.
    pub(crate) fn inform(&self, what: impl Into<String>) {
        self.record.borrow_mut().notes.push(what.into());
    }
}

/// Waits for the child's HELLO.
pub(crate) fn hear_hello(session: &mut Session) -> Checked {
    session.wait(|session| {
        session.referee.hello.is_some() || session.referee.refused.is_some() || session.is_over()
    })?;
    if session.referee.hello.is_some() {
        return Ok(());
    }
    if session.is_over() {
        // The end of its output comes a moment before its own.
        session.wait(|session| session.process.ended().is_some())?;
    }
    let hint = "write HELLO at once, flush it, and wait for nothing before it";
    let what = match (session.process.ended(), &session.referee.refused) {
        (_, Some(data)) => format!("it refused: {} (FAILED instead of HELLO)", failure(data)),
        (Some(ended), None) => format!("the child {ended} before HELLO"),
        (None, None) if session.is_over() => "the child closed its output before HELLO".to_owned(),
        (None, None) => {
            let what = format!("no HELLO within {:?}", session.patience);
            return Err(Stop::fail("S-1", what, format!("{hint}; --timeout gives a slow machine more time")));
        }
    };
    Err(Stop::fail("S-1", what, hint))
}

/// Waits for READY.
pub(crate) fn get_ready(session: &mut Session) -> Checked {
    let arrived = session.wait(|session| session.referee.ready || session.is_over())?;
    if arrived && session.referee.ready {
        return Ok(());
    }
    let what = match session.process.ended() {
        Some(ended) => format!("the child {ended} before READY"),
        None => format!("no READY within {:?}", session.patience),
    };
    Err(Stop::fail("R-14", what, "write READY with nil when the child can work, and flush it"))
}

/// Writes the parent's HELLO.
pub(crate) fn greet(session: &mut Session, greeting: &Greeting) {
    let address = session.address;
    let mut data = Vec::new();
    let count = 5 + u32::from(greeting.grease) * 2 + u32::from(!greeting.may_spin);
    wire::write_map_len(&mut data, count);
    wire::write_str(&mut data, "v");
    wire::write_uint(&mut data, 1);
    wire::write_str(&mut data, "pid");
    wire::write_uint(&mut data, address);
    if greeting.grease {
        wire::write_str(&mut data, "x-grease");
        data.extend(json(r#"[{"a":[null,1.5]},"b"]"#));
    }
    wire::write_str(&mut data, "parent");
    wire::write_uint(&mut data, PARENT);
    let mut caps = Vec::new();
    if greeting.offers_started {
        caps.push("started");
    }
    if greeting.grease {
        caps.push("x-teleport");
    }
    wire::write_str(&mut data, "caps");
    wire::write_array_len(&mut data, u32::try_from(caps.len()).unwrap_or(0));
    for name in caps {
        wire::write_str(&mut data, name);
    }
    wire::write_str(&mut data, "max_frame");
    wire::write_uint(&mut data, greeting.max_frame);
    if greeting.grease {
        wire::write_str(&mut data, "");
        wire::write_nil(&mut data);
    }
    if !greeting.may_spin {
        wire::write_str(&mut data, "spin");
        wire::write_bool(&mut data, false);
    }
    session.referee.greeted = true;
    session.referee.offers_started = greeting.offers_started;
    session.send(0, "HELLO", &data);
}

/// Requests of later versions and one-way requests, which nobody may answer.
pub(crate) fn grease(session: &mut Session) {
    session.send(0, "X_GREASE_1", &json("null"));
    session.send(0x7ff0_0001, "X_GREASE_2", &json(r#"{"a":1}"#));
    session.send(0, "grease.note", &json(r#"["nobody","answers"]"#));
}

impl Session {
    /// What the child said of itself.
    pub(crate) fn hello(&self) -> ChildHello {
        self.referee.hello.clone().unwrap_or_default()
    }

    /// Whether the child lists a capability.
    pub(crate) fn can(&self, capability: Capability) -> bool {
        self.hello().capabilities.has(capability)
    }

    /// Skips a case about something the child does not list.
    pub(crate) fn needs_capability(&self, capability: Capability) -> Checked {
        if self.can(capability) {
            return Ok(());
        }
        Err(Stop::skip(format!("the child does not list `{}`", capability.name())))
    }
}
