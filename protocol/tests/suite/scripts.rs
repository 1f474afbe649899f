//! The scripts of `vectors/sessions` (format: `vectors/README.md`) without processes: each half of a session is one side of every
//! script that it can be. What only a process can do, the conformance kit plays with the testee.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value as Json, json};
use stokehold_protocol::vectors::SESSIONS;
use stokehold_protocol::wire::Reader;
use stokehold_protocol::{
    ChildEvent, ChildHello, ChildSession, Die, Failure, FrameError, FrameEvent, Kind, Message, ParentEvent,
    ParentHello, ParentSession, PeerError, Splitter, Verb, check, code, limits,
};

use super::vectors::{Value, bytes};

/// The addresses of the scripts' `$me` and `$pid`.
const PARENT: u64 = 1234;
const CHILD: u64 = 77;

/// The header, and the steps with their lines.
fn parse(text: &str) -> (Json, Vec<(usize, Json)>) {
    let mut lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let header = lines.next().unwrap();
    (header, (2..).zip(lines).collect())
}

/// Something that a notation stands for, in the notation of the frames' file.
fn concrete(notation: &Json) -> Json {
    match notation {
        Json::String(name) => match name.as_str() {
            "$pid" => CHILD.into(),
            "$me" => PARENT.into(),
            "$any" => Json::Null,
            "$uint" => 1.into(),
            "$text" => "text".into(),
            _ => notation.clone(),
        },
        Json::Array(items) => items.iter().map(concrete).collect(),
        Json::Object(pairs) => match pairs.iter().next().map(|(key, inner)| (key.as_str(), inner)) {
            Some(("$has", text)) => text.clone(),
            Some(("$one_of", those)) => concrete(&those[0]),
            Some(("$nest", inner)) => {
                let depth = inner[0].as_u64().unwrap();
                (0..depth).fold(concrete(&inner[1]), |value, _| json!([value]))
            }
            Some((tag, _)) if tag.starts_with('$') => notation.clone(),
            _ => {
                json!({"$map": pairs.iter().map(|(key, value)| json!([key, concrete(value)])).collect::<Json>()})
            }
        },
        _ => notation.clone(),
    }
}

/// Id and body of `[id, message]`.
fn frame(notation: &Json) -> (u32, Vec<u8>) {
    (u32::try_from(notation[0].as_u64().unwrap()).unwrap(), data(&notation[1]))
}

/// A value as bytes.
fn data(notation: &Json) -> Vec<u8> {
    let mut data = Vec::new();
    Value::of(&concrete(notation)).write(&mut data);
    data
}

/// What the parent says of itself, with changes.
fn hello(changes: &Json) -> Json {
    let mut hello = json!({"v": 1, "pid": CHILD, "parent": PARENT, "caps": []});
    hello["max_frame"] = limits::FRAME_LEN_CEILING.into();
    hello.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    hello
}

/// The frames of a step that sends or expects one or more.
fn frames(step: &Json) -> Vec<Json> {
    ["send", "expect", "expect_or_exit"]
        .iter()
        .find_map(|key| step.get(key).map(|frame| vec![frame.clone()]))
        .or_else(|| {
            let many = ["send_all", "expect_all", "expect_any_of", "may"];
            many.iter().find_map(|key| step.get(key)?.as_array().cloned())
        })
        .unwrap_or_default()
}

/// What the parent writes in a step.
fn written(step: &Json) -> Vec<u8> {
    if let Some(changes) = step.get("open") {
        return written(&json!({"send": [0, ["HELLO", "$me", "$pid", hello(changes)]]}));
    }
    if let Some(raw) = step.get("raw") {
        return bytes(raw);
    }
    let is_sent = step.get("send").is_some() || step.get("send_all").is_some();
    let mut out = Vec::new();
    for (id, body) in frames(step).iter().filter(|_| is_sent).map(frame) {
        out.extend(stokehold_protocol::frame_header(id, body.len()));
        out.extend(body);
    }
    out
}

/// The parent's half. Its ids are its own, so that the script's are translated.
#[derive(Clone)]
struct Parent {
    session: ParentSession<u32>,
    ids: BTreeMap<u32, u32>,
}

impl Parent {
    fn new() -> Self {
        let ours = ParentHello::decode(&data(&hello(&json!({})))).unwrap();
        Self { session: ParentSession::new(ours), ids: BTreeMap::new() }
    }

    /// Looks at what the script sends: tasks are begun, as far as a parent may begin them.
    fn sends(&mut self, sent: &mut Splitter) {
        // What follows a broken frame is never read.
        while let Ok(Some(FrameEvent::Frame { id, body })) = sent.next_frame() {
            let message = Message::decode(body);
            // A task whose head is spoilt on its way is a task all the same.
            let kind = message.map_or(Kind::User, |message| Kind::of(message.request));
            let mut out = Vec::new();
            match kind {
                Kind::User | Kind::Verb(Verb::Batch) if id != 0 => {
                    assert!(!self.ids.contains_key(&id), "the id {id} is used twice");
                    let ours = self.session.begin(id).expect("more tasks than the header's window");
                    self.ids.insert(id, ours);
                }
                Kind::Verb(Verb::Cancel) if self.ids.contains_key(&id) => {
                    assert!(self.session.cancel(self.ids[&id], &mut out), "the child does not list `cancel`");
                }
                Kind::Verb(Verb::Die) => self.session.die(&Die::default(), &mut out),
                _ => {}
            }
        }
    }

    /// Takes a frame of the child, which has the script's id; gives what rule it breaks.
    fn hears(&mut self, id: u32, body: &[u8]) -> Option<PeerError> {
        let ours = if id == 0 { 0 } else { *self.ids.get(&id).unwrap_or(&u32::MAX) };
        let event = match self.session.handle_frame(ours, body) {
            Ok(event) => event,
            Err(error) => return Some(error),
        };
        match event {
            ParentEvent::Finished { ticket, .. } | ParentEvent::Failed { ticket, .. } => {
                assert_eq!(ticket, id);
                self.ids.remove(&id);
            }
            ParentEvent::Item { id: heard, .. } | ParentEvent::Started { id: heard } => {
                assert_eq!(heard, ours)
            }
            _ => {}
        }
        None
    }

    /// The frames of a child that is all that the header asks for.
    fn opens(&mut self, header: &Json) {
        let window = header.get("window").cloned().unwrap_or_else(|| 1.into());
        let hello = json!([0, ["HELLO", 1, null, {
            "v": 1, "window": window, "caps": ["batch", "cancel", "meta", "ping", "started"]
        }]]);
        for notation in [hello, json!([0, ["READY", "$pid", "$me", null]])] {
            let (id, body) = frame(&notation);
            assert!(self.hears(id, &body).is_none());
        }
    }
}

#[test]
fn a_parent_takes_every_frame_that_a_script_expects_of_a_child() {
    for (name, text) in SESSIONS {
        let (header, steps) = parse(text);
        let mut parent = Parent::new();
        let mut sent = Splitter::new();
        sent.set_max_frame(limits::FRAME_LEN_CEILING);
        let mut dies_now = false;
        for (line, step) in steps {
            let place = format!("{name}, line {line}");
            if step.get("open").is_some() {
                parent.opens(&header);
            }
            let bytes = written(&step);
            sent.feed(&bytes);
            parent.sends(&mut sent);
            dies_now |= step.to_string().contains(r#""now":true"#);
            let is_refusal = |frame: &Json| frame[0] == 0 && frame[1][0] == "FAILED";
            let expected: Vec<Json> = if written(&step).is_empty() { frames(&step) } else { Vec::new() };
            let is_one_of = ["expect_any_of", "may"].iter().any(|key| step.get(key).is_some());
            let before = parent.clone();
            for notation in expected {
                if is_one_of {
                    parent = before.clone();
                }
                let (id, body) = frame(&notation);
                let heard = parent.hears(id, &body);
                if is_refusal(&notation) {
                    assert!(matches!(heard, Some(PeerError::Refused { .. })), "{place}: {heard:?}");
                } else {
                    assert!(heard.is_none(), "{place}: {notation}: {heard:?}");
                }
            }
            if step.get("exit") == Some(&0.into()) && !dies_now {
                assert_eq!(parent.session.open_count(), 0, "{place}: a clean end with tasks unanswered");
            }
        }
    }
}

/// A child that echoes, without a process: the child's half, its splitter, and what it has written.
struct Echo {
    session: ChildSession,
    splitter: Splitter,
    said: VecDeque<(u32, Vec<u8>)>,
    /// How it ended: well, or because of its parent.
    ended: Option<bool>,
}

impl Echo {
    fn new() -> Self {
        let hello = json!({"v": 1, "window": 64, "caps": ["cancel", "meta", "ping", "started"]});
        let hello = ChildHello::decode(&data(&hello)).unwrap();
        let mut echo = Self {
            session: ChildSession::new(hello, CHILD),
            splitter: Splitter::new(),
            said: VecDeque::new(),
            ended: None,
        };
        let mut out = Vec::new();
        echo.session.hello(&mut out).unwrap();
        echo.session.ready(&mut out).unwrap();
        echo.says(&out);
        echo
    }

    fn says(&mut self, out: &[u8]) {
        let mut splitter = Splitter::new();
        splitter.set_max_frame(limits::FRAME_LEN_CEILING);
        splitter.feed(out);
        while let Some(event) = splitter.next_frame().unwrap() {
            let FrameEvent::Frame { id, body } = event else { unreachable!("{event:?}") };
            self.said.push_back((id, body.to_vec()));
        }
        splitter.finish().unwrap();
    }

    fn reads(&mut self, written: &[u8]) {
        self.splitter.feed(written);
        let mut out = Vec::new();
        while self.ended.is_none() {
            match self.splitter.next_frame() {
                Ok(None) => break,
                Ok(Some(FrameEvent::Frame { id, body })) => {
                    match self.session.handle_frame(id, body, &mut out) {
                        Ok(ChildEvent::Task { id, request, data, .. }) => {
                            answer(&mut self.session, id, request, data, &mut out);
                        }
                        Ok(ChildEvent::Ping { data }) => self.session.pong(data, &mut out),
                        Ok(ChildEvent::Die(_)) => {
                            self.session.bye(&mut out).unwrap();
                            self.ended = Some(true);
                        }
                        Ok(_) => {}
                        Err(_) => self.ended = Some(false),
                    }
                }
                Ok(Some(FrameEvent::TooLarge { id, len, head })) => {
                    self.session.handle_too_large(id, len, head, &mut out);
                }
                Ok(Some(event)) => unreachable!("{event:?}"),
                Err(_) => self.ended = Some(false),
            }
        }
        self.says(&out);
    }

    fn reads_the_end(&mut self) {
        if self.ended.is_some() {
            return;
        }
        if let Err(error) = self.splitter.finish() {
            assert!(matches!(error, FrameError::Truncated { .. }), "{error}");
            self.ended = Some(false);
            return;
        }
        let mut out = Vec::new();
        self.session.handle_eof();
        self.session.bye(&mut out).unwrap();
        self.says(&out);
        self.ended = Some(true);
    }

    /// The next frame is one of these, which are left.
    fn expect(&mut self, those: &mut Vec<Json>, place: &str) {
        let (id, body) = self.said.pop_front().unwrap_or_else(|| panic!("{place}: nothing was said"));
        let message = Message::decode(&body).unwrap();
        let fits = |wanted: &Json| {
            let data = &wanted[1][3];
            let same = if data == "$any" {
                true
            } else if message.request == "FAILED" {
                data["code"] == Failure::decode(message.data).code.as_str()
            } else if message.request == "HELLO" {
                ChildHello::decode(message.data).unwrap().version == 1
            } else {
                Value::read(&mut Reader::new(message.data)).unwrap() == Value::of(&concrete(data))
            };
            wanted[0] == id && wanted[1][0] == message.request && same
        };
        let found = those.iter().position(fits);
        those.remove(found.unwrap_or_else(|| panic!("{place}: {} with id {id}", message.request)));
    }
}

fn answer(session: &mut ChildSession, id: u32, request: &str, data: &[u8], out: &mut Vec<u8>) {
    if session.tells_starts() {
        session.started(id, out).unwrap();
    }
    let failure = match (request, check(data)) {
        ("DO", Ok(())) => return session.finished(id, out, |out| out.extend_from_slice(data)).unwrap(),
        ("DO", Err(error)) => Failure::new(code::BAD_DATA, error.to_string()),
        _ => Failure::new(code::UNKNOWN_REQUEST, request),
    };
    session.failed(id, &failure, out).unwrap();
}

#[test]
fn an_echo_made_of_the_childs_half_keeps_every_script_that_asks_for_no_more() {
    let mut played = 0;
    for (name, text) in SESSIONS {
        let (header, steps) = parse(text);
        // Handlers, variables and descriptors are a process's.
        let is_more = ["needs", "env", "io"].iter().any(|key| header.get(key).is_some());
        if is_more || header.get("caps").is_some_and(|caps| *caps == json!(["batch"])) {
            continue;
        }
        played += 1;
        let mut echo = Echo::new();
        for (line, step) in steps {
            let place = format!("{name}, line {line}");
            if step.get("open").is_some() {
                for request in ["HELLO", "READY"] {
                    echo.expect(&mut vec![json!([0, [request, 0, null, "$any"]])], &place);
                }
            }
            let sent = written(&step);
            echo.reads(&sent);
            if step.get("close") == Some(&"in".into()) {
                echo.reads_the_end();
            } else if let Some(code) = step.get("exit") {
                assert_eq!(echo.ended, Some(*code == 0), "{place}");
                let may = frames(&step);
                for (id, body) in std::mem::take(&mut echo.said) {
                    let request = Message::decode(&body).unwrap().request.to_owned();
                    let may_come = may.iter().any(|frame| frame[0] == id && frame[1][0] == *request);
                    assert!(request == "BYE" || may_come, "{place}: {request} with id {id}");
                }
            } else if sent.is_empty() {
                let mut expected = frames(&step);
                let left =
                    if step.get("expect_any_of").is_some() { expected.len().saturating_sub(1) } else { 0 };
                while expected.len() > left {
                    echo.expect(&mut expected, &place);
                }
            }
        }
    }
    assert!(played >= 60, "{played} scripts");
}
