//! V: the scripts of sessions (`protocol/vectors/sessions`), a case each. They say what is sent and what must come; the player does
//! it, step by step.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Map, Value};
use stokehold_protocol::vectors::SESSIONS;
use stokehold_protocol::{Capability, ChildHello, Message, frame_header, wire};

use super::code;
use crate::conform::case::Case;
use crate::conform::digits;
use crate::conform::notation::{self, Names, Read};
use crate::conform::process::{Ended, Setup};
use crate::conform::referee::{Answer, Form};
use crate::conform::same::Same;
use crate::conform::script::{self, Action, Code, CodeKind, End, Frame, Io, Script, SignalName, Strength};
use crate::conform::session::{Heard, PARENT, Pacing, Session};
use crate::conform::stage::Stage;
use crate::conform::trace;
use crate::conform::verdict::{Checked, Finding, Stop};

/// Bytes of a frame, and characters of what was expected instead of it, that are shown.
const SHOWN: usize = 256;

/// A script and the case that it is.
struct Entry {
    id: String,
    script: Read<Script<'static>>,
}

fn entries() -> &'static [Entry] {
    static ENTRIES: OnceLock<Vec<Entry>> = OnceLock::new();
    let entry = |(name, text): &(&str, &'static str)| Entry {
        id: format!("{}.{name}", super::SESSIONS),
        script: Script::parse(text),
    };
    ENTRIES.get_or_init(|| SESSIONS.iter().map(entry).collect())
}

/// A case for each script, also for one that cannot be read.
pub(super) fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| entries().iter().map(case).collect())
}

fn case(entry: &'static Entry) -> Case {
    let Ok(Script { header, .. }) = &entry.script else {
        return Case::must(&entry.id, "a script that cannot be read", &[], play).of_frames();
    };
    let of_strength = match header.strength {
        Strength::Must => Case::must,
        Strength::Should => Case::should,
    };
    of_strength(&entry.id, &header.why, &header.spec, play).of_frames().of_level(header.level)
}

fn play(stage: &mut Stage<'_>) -> Checked {
    let unknown = || Stop::Harness(format!("no script is called {}", stage.case));
    let entry = entries().iter().find(|entry| entry.id == stage.case).ok_or_else(unknown)?;
    play_entry(stage, entry)
}

fn play_entry(stage: &mut Stage<'_>, entry: &'static Entry) -> Checked {
    let script = entry.script.as_ref().map_err(|error| Stop::Harness(error.clone()))?;
    // Also those without `needs` ask for more than the specification does of a child that leaves its data undecoded ([D-14]).
    if !stage.testee.is_testee {
        return Err(Stop::skip("needs --testee"));
    }
    stage.needs_echo()?;
    let mut player = Player::start(stage, script)?;
    for step in &script.steps {
        let played = player.step(&step.action).map_err(|stop| match stop {
            Stop::Fail(finding) => {
                Stop::Fail(Finding { what: format!("line {}: {}", step.line, finding.what), ..finding })
            }
            stop => stop,
        });
        if played? == Next::End {
            break;
        }
    }
    Ok(())
}

/// Whether the script goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    Step,
    End,
}

/// One script on its way.
struct Player {
    script: &'static Script<'static>,
    session: Session,
    names: Names,
    lists_started: bool,
    /// The child says what it answers, and so refuses nothing of that.
    lists_methods: bool,
}

impl Player {
    fn start(stage: &mut Stage<'_>, script: &'static Script<'static>) -> Checked<Self> {
        let header = &script.header;
        let mut setup = Setup { far_descriptors: header.io == Io::Fd, ..Setup::default() };
        if setup.far_descriptors {
            setup.env.push(("STOKEHOLD_IO", Some("fd:3,4")));
        }
        setup.env.extend(header.env.iter().map(|(name, value)| (name.as_str(), value.as_deref())));
        let mut session = stage.start(&setup)?;
        session.pacing = Pacing::Whole;
        session.heard = Some(Heard::default());
        session.set_max_frame(stokehold_protocol::limits::FRAME_LEN_CEILING);
        let names = Names { child: session.address, parent: PARENT };
        Ok(Self { script, session, names, lists_started: false, lists_methods: false })
    }

    fn step(&mut self, action: &Action) -> Checked<Next> {
        // Who gives the child more time for one thing gives it for these.
        let limit = action.limit().max(self.session.patience);
        match action {
            Action::Open { open } => self.open(open, limit)?,
            Action::Send { send } => self.send(std::slice::from_ref(send))?,
            Action::SendAll { send_all } => self.send(send_all)?,
            Action::Raw { raw, each } => self.write(raw, *each)?,
            Action::Expect { expect, .. } => {
                self.expect(&[expect], limit)?;
            }
            Action::ExpectAll { expect_all, .. } => {
                let mut rest: Vec<&Frame> = expect_all.iter().collect();
                while !rest.is_empty() {
                    let found = self.expect(&rest, limit)?;
                    rest.remove(found);
                }
            }
            Action::ExpectAnyOf { expect_any_of, .. } => {
                self.expect(&expect_any_of.iter().collect::<Vec<_>>(), limit)?;
            }
            Action::ExpectOrExit { expect_or_exit, .. } => {
                if self.expect_or_end(&[expect_or_exit], limit)?.is_none() {
                    self.end(Code::Kind(CodeKind::Error), &[], limit)?;
                    return Ok(Next::End);
                }
            }
            Action::Close { close: End::In } => self.session.close_input()?,
            Action::Close { close: End::Out } => self.session.close_output(),
            Action::Signal { signal: SignalName::Interrupt } => self.session.signal(Signal::INT)?,
            Action::Wait { wait_ms } => {
                self.session.reading = false;
                self.session.wait_for(Duration::from_millis(*wait_ms), |_| false)?;
                self.session.reading = true;
            }
            Action::Exit { exit, may, .. } => self.end(*exit, may, limit)?,
            Action::Stderr { stderr } => self.compare_stderr(stderr, limit)?,
        }
        Ok(Next::Step)
    }

    /// The handshake, and whether the script is for this child at all.
    fn open(&mut self, changes: &Map<String, Value>, limit: Duration) -> Checked {
        let Some((id, body)) = self.hear(limit)? else {
            if self.script.header.io == Io::Fd && self.session.process.ended() == Some(Ended::Code(2)) {
                return Err(Stop::skip("the child speaks over standard input and output only"));
            }
            return Err(self.wrong("the child's output ends before HELLO"));
        };
        let message = self.message(id, &body)?;
        if id != 0 || message.request != "HELLO" {
            return Err(self.wrong(format!("{} instead of HELLO", shown(id, &body))));
        }
        let hello = ChildHello::decode(message.data).map_err(|error| self.wrong(error.to_string()))?;
        if hello.version != 1 {
            return Err(self.wrong(format!("HELLO says v {}, and 1 was offered", hello.version)));
        }
        self.skip_unless_for(&hello)?;
        self.lists_methods = !hello.methods.is_empty();
        let data = read(script::hello(changes, self.names))?;
        let listed = changes.get("caps").and_then(Value::as_array);
        self.lists_started = listed.is_some_and(|caps| caps.iter().any(|cap| cap == "started"));
        let bytes = self.session.frame(0, "HELLO", &data);
        self.deliver(&bytes)?;
        let mut is_ready = hello.ready;
        while !is_ready {
            let Some((id, body)) = self.hear(limit)? else {
                return Err(self.wrong("the child's output ends before READY"));
            };
            let message = self.message(id, &body)?;
            is_ready = message.request == "READY";
            if !is_ready && !self.is_aside(&message) {
                return Err(self.wrong(format!("{} instead of READY", shown(id, &body))));
            }
        }
        Ok(())
    }

    fn skip_unless_for(&self, hello: &ChildHello) -> Checked {
        let header = &self.script.header;
        let lists = |name: &String| {
            Capability::ALL.iter().any(|cap| cap.name() == name && hello.capabilities.has(*cap))
        };
        if let Some(missing) = header.caps.iter().find(|name| !lists(name)) {
            return Err(Stop::skip(format!("the child does not list `{missing}`")));
        }
        if hello.window < header.window {
            return Err(Stop::skip(format!("the child's window is {}", hello.window)));
        }
        if header.max_frame.is_some_and(|max_frame| max_frame != hello.max_frame) {
            return Err(Stop::skip(format!("the child's max_frame is {}", hello.max_frame)));
        }
        let missing = header.needs.iter().find(|name| !hello.methods.contains(name));
        match missing {
            Some(missing) if !hello.methods.is_empty() => {
                Err(Stop::skip(format!("the testee has no {missing}")))
            }
            _ => Ok(()),
        }
    }

    fn send(&mut self, frames: &[Frame]) -> Checked {
        let mut bytes = Vec::new();
        for frame in frames {
            read(frame.encode(self.names, &mut bytes))?;
        }
        self.deliver(&bytes)
    }

    fn write(&mut self, notation: &Value, each: Option<usize>) -> Checked {
        let pieces = read(digits::pieces(notation))?;
        let bytes: Vec<u8> = pieces.iter().flat_map(|(piece, count)| piece.repeat(*count)).collect();
        self.session.pacing = each.map_or(Pacing::Whole, Pacing::Pieces);
        let delivered = self.deliver(&bytes);
        self.session.pacing = Pacing::Whole;
        delivered
    }

    /// Writes bytes; also what nobody reads any more, whose end is judged later.
    fn deliver(&mut self, bytes: &[u8]) -> Checked {
        self.session.send_bytes(bytes);
        if self.session.flush()? { Ok(()) } else { Err(self.wrong("the child does not read")) }
    }

    /// The next frame, or the end of the child's output.
    fn hear(&mut self, limit: Duration) -> Checked<Option<(u32, Vec<u8>)>> {
        let arrived = self.session.wait_for(limit, |session| has_heard(session) || session.is_over())?;
        let frame = self.session.heard.as_mut().and_then(Heard::pop);
        if frame.is_none() && !arrived {
            return Err(self.wrong(format!("nothing came in {limit:?}")));
        }
        Ok(frame)
    }

    /// Waits for one of these frames, and gives which.
    fn expect(&mut self, wanted: &[&Frame], limit: Duration) -> Checked<usize> {
        let end = || format!("the end of the child's output instead of {}", all_wanted(wanted));
        self.expect_or_end(wanted, limit)?.ok_or_else(|| self.wrong(end()))
    }

    /// The same; none at the end of the child's output.
    fn expect_or_end(&mut self, wanted: &[&Frame], limit: Duration) -> Checked<Option<usize>> {
        let until = Instant::now() + limit;
        while let Some((id, body)) = self.hear(until.saturating_duration_since(Instant::now()))? {
            let message = self.message(id, &body)?;
            if let Some(index) = self.find(id, &message, wanted.iter().copied())? {
                return Ok(Some(index));
            }
            let answer = Answer {
                finished: message.request != "FAILED",
                data: message.data.to_vec(),
                form: Form::Good,
            };
            let may_lack = !self.lists_methods && !self.script.header.needs.is_empty();
            if may_lack && code(&answer) == "unknown_request" {
                return Err(Stop::skip("the testee has no such request"));
            }
            if !self.is_aside(&message) {
                return Err(self.wrong(format!("{} instead of {}", shown(id, &body), all_wanted(wanted))));
            }
        }
        Ok(None)
    }

    /// The first of these that the message fits.
    fn find<'f>(
        &mut self,
        id: u32,
        message: &Message<'_>,
        those: impl Iterator<Item = &'f Frame>,
    ) -> Checked<Option<usize>> {
        for (index, Frame(wanted, fields)) in those.enumerate() {
            if *wanted != id {
                continue;
            }
            let same = read(notation::fit_message(message, fields, self.names))?;
            self.session.should(
                same != Same::ButForNumbers,
                "D-8",
                "a number came back as one of the other kind",
                "write a float as a float, also if it is whole",
            );
            if same != Same::No {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Waits for the child's end and for that of its output, in which nothing else comes than what may.
    fn end(&mut self, code: Code, may: &[Frame], limit: Duration) -> Checked {
        let until = Instant::now() + limit;
        let is_over = |session: &Session| session.is_over() && session.process.ended().is_some();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let arrived = self.session.wait_for(left, |session| has_heard(session) || is_over(session))?;
            while let Some((id, body)) = self.session.heard.as_mut().and_then(Heard::pop) {
                let message = self.message(id, &body)?;
                let may_come = message.request == "BYE" || self.is_aside(&message);
                if !may_come && self.find(id, &message, may.iter())?.is_none() {
                    return Err(self.wrong(format!("{}, which nobody asked for", shown(id, &body))));
                }
            }
            match self.session.process.ended() {
                Some(ended) if self.session.is_over() => return self.judge_end(code, ended),
                None if !arrived => {
                    return Err(self.wrong(format!("the child is still there after {limit:?}")));
                }
                Some(_) if !arrived => {
                    let what = "the child has ended, but something it started holds its output open";
                    return Err(self.wrong(what));
                }
                _ => {}
            }
        }
    }

    fn judge_end(&self, wanted: Code, ended: Ended) -> Checked {
        self.session.note(format!("the child {ended}"));
        let (holds, wanted) = match wanted {
            Code::Exactly(code) => (ended == Ended::Code(code), format!("code {code}")),
            Code::Kind(CodeKind::Error) => {
                (matches!(ended, Ended::Code(code) if code > 0), "a code other than 0".to_owned())
            }
            Code::Kind(CodeKind::Any) => (true, String::new()),
        };
        if holds { Ok(()) } else { Err(self.wrong(format!("the child {ended} instead of with {wanted}"))) }
    }

    fn compare_stderr(&mut self, wanted: &Value, limit: Duration) -> Checked {
        self.session.wait_for(limit, |session| session.process.stderr.is_none())?;
        let mut text = Vec::new();
        wire::write_str(&mut text, &self.session.stderr_text());
        match read(notation::fit(&text, wanted, self.names))? {
            Same::No => Err(self.wrong(format!("the child's standard error is not {wanted}"))),
            Same::Yes | Same::ButForNumbers => Ok(()),
        }
    }

    fn message<'b>(&self, id: u32, body: &'b [u8]) -> Checked<Message<'b>> {
        let wrong = |error| self.wrong(format!("the body of a frame with id {id} is no message: {error}"));
        Message::decode(body).map_err(wrong)
    }

    /// What a child may say at any time.
    fn is_aside(&self, message: &Message<'_>) -> bool {
        matches!(message.request, "CREDIT" | "LOG" | "PROGRESS")
            || message.request == "STARTED" && self.lists_started
    }

    /// The child did not what the script says, and so broke the first of its statements.
    fn wrong(&self, what: impl Into<String>) -> Stop {
        let statement = self.script.header.spec.first().copied().unwrap_or_default();
        Stop::fail(statement, what, "`stokehold conform vectors --sessions DIR` writes the scripts")
    }
}

fn has_heard(session: &Session) -> bool {
    session.heard.as_ref().is_some_and(|heard| !heard.is_empty())
}

/// A script that says nothing is not the child's fault.
fn read<T>(read: Read<T>) -> Checked<T> {
    read.map_err(Stop::Harness)
}

fn shown(id: u32, body: &[u8]) -> String {
    let mut bytes = frame_header(id, body.len()).to_vec();
    bytes.extend(body.iter().take(SHOWN));
    trace::meaning(&bytes, frame_header(id, body.len()).len() + body.len())
}

fn all_wanted(those: &[&Frame]) -> String {
    let one = |Frame(id, fields): &&Frame| format!("id {id} {}", Value::from(fields.to_vec()));
    let all = those.iter().map(one).collect::<Vec<_>>().join(" or ");
    if all.chars().count() <= SHOWN {
        return all;
    }
    all.chars().take(SHOWN).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::conform::carrier::Carrier;
    use crate::conform::stage::Testee;

    #[test]
    fn a_script_that_cannot_be_read_is_no_fault_of_the_child() {
        static ENTRY: OnceLock<Entry> = OnceLock::new();
        let entry = ENTRY.get_or_init(|| Entry { id: "V.broken".to_owned(), script: Script::parse("{}") });
        assert_eq!(case(entry).about.id, "V.broken");
        let testee = Testee {
            command: Vec::new(),
            is_testee: true,
            carrier: Carrier::Frames,
            sample: crate::conform::stage::Sample::Echo,
            patience: Duration::from_secs(1),
            seed: 1,
        };
        let stopped = play_entry(&mut Stage::new(&testee, &entry.id), entry);
        assert!(matches!(stopped, Err(Stop::Harness(why)) if why.contains("line 1")));
    }
}
