//! That every script in the repository is in the program and can be played, that together they use all there is, and what is said
//! of a text that is no script.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use stokehold_protocol::vectors::SESSIONS;

use super::*;
use crate::conform::digits;
use crate::conform::same::Same;

const NAMES: Names = Names { child: 7, parent: 1234 };

const HEADER: &str = r#"{"schema":"stokehold-session","version":1,"level":"L2","strength":"must","spec":["R-25"],"why":"a test"}"#;

fn vectors_folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/vectors")
}

/// The frames that a step expects.
fn expected(action: &Action) -> Vec<&Frame> {
    match action {
        Action::Expect { expect: frame, .. } | Action::ExpectOrExit { expect_or_exit: frame, .. } => {
            vec![frame]
        }
        Action::ExpectAll { expect_all: frames, .. }
        | Action::ExpectAnyOf { expect_any_of: frames, .. }
        | Action::Exit { may: frames, .. } => frames.iter().collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_program_has_every_script_of_the_repository() {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(vectors_folder().join("sessions")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        files.insert(name, fs::read_to_string(&path).unwrap());
    }
    let names: Vec<&str> = SESSIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, files.keys().collect::<Vec<_>>(), "the list in protocol/src/vectors.rs is another");
    for (name, text) in SESSIONS {
        assert!(files[*name] == *text, "{name} is not as its file");
    }
}

#[test]
fn every_script_can_be_played() {
    for (name, text) in SESSIONS {
        let script = Script::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        for Step { line, action } in &script.steps {
            let done = match action {
                Action::Open { open } => hello(open, NAMES).map(drop),
                Action::Send { send } => send.encode(NAMES, &mut Vec::new()),
                Action::SendAll { send_all } => {
                    send_all.iter().try_for_each(|frame| frame.encode(NAMES, &mut Vec::new()))
                }
                Action::Raw { raw, .. } => digits::pieces(raw).map(drop),
                Action::Stderr { stderr } => notation::fit(b"\xa1x", stderr, NAMES).map(drop),
                _ => Ok(()),
            };
            done.unwrap_or_else(|error| panic!("{name}, line {line}: {error}"));
            for Frame(_, fields) in expected(action) {
                for field in fields {
                    let fitted = notation::fit(b"\xc0", field, NAMES);
                    assert!(fitted.is_ok(), "{name}, line {line}: {fitted:?}");
                }
            }
        }
    }
}

/// What the tables of the README name, by the heading or the line above each table.
fn tables() -> BTreeSet<String> {
    let text = fs::read_to_string(vectors_folder().join("README.md")).unwrap();
    let values = text.split("## Notation").nth(1).unwrap().split("## Examples").next().unwrap();
    let sessions = text.split("## Sessions").nth(1).unwrap();
    let cells = values.lines().chain(sessions.lines()).filter_map(|line| line.strip_prefix("| `"));
    let first_cell = |line: &str| line.split(" | ").next().unwrap().to_owned();
    // What a cell names is the first word of each piece of code in it.
    let code = cells.map(|line| format!("`{}", first_cell(line)));
    let mut names = BTreeSet::new();
    for cell in code {
        for code in cell.split('`').skip(1).step_by(2) {
            let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '$';
            let name: String =
                code.chars().skip_while(|letter| !word(*letter)).take_while(|letter| word(*letter)).collect();
            names.insert(name);
        }
    }
    names
}

/// Every key and every text that begins with `$`.
fn words(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(pairs) => {
            for (key, value) in pairs {
                found.insert(key.clone());
                words(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| words(item, found)),
        Value::String(text) => {
            found.insert(text.clone());
        }
        Value::Bool(_) | Value::Null => {
            found.insert(value.to_string());
        }
        Value::Number(_) => {}
    }
}

#[test]
fn the_scripts_use_all_that_the_readme_describes() {
    let mut used = BTreeSet::new();
    for (_, text) in SESSIONS {
        for line in text.lines() {
            words(&serde_json::from_str(line).unwrap(), &mut used);
        }
    }
    let described = tables();
    for name in
        ["open", "expect_or_exit", "signal", "stderr", "window", "$nest", "$has", "$me", "$f64", "false"]
    {
        assert!(described.contains(name), "the tables are not found: {described:?}");
    }
    let missing: Vec<_> = described.difference(&used).collect();
    assert!(missing.is_empty(), "no script uses {missing:?}");
}

#[test]
fn a_text_that_is_no_script_is_told_with_its_line() {
    let with = |line: &str| format!("{HEADER}\n{line}\n");
    let wrong = [
        (String::new(), "empty"),
        ("{}".to_owned(), "line 1"),
        (HEADER.replace("stokehold-session", "stokehold-frames"), "stokehold-frames of version 1"),
        (HEADER.replace("\"version\":1", "\"version\":2"), "of version 2"),
        (HEADER.replace("\"why\"", "\"because\""), "because"),
        (HEADER.replace("L2", "L4"), "L4"),
        (with("{"), "line 2"),
        (with(r#"{"jump":1}"#), "line 2"),
        (with(r#"{"open":{},"within_ms":1}"#), "line 2"),
        (with(r#"{"send":[1,["DO",1]]}"#), "line 2"),
        (with(r#"{"send":[-1,["DO",1,null,null]]}"#), "line 2"),
        (with(r#"{"expect":[1,["DO",1,null,null]],"later":1}"#), "line 2"),
        (with(r#"{"signal":"KILL"}"#), "line 2"),
        (with(r#"{"close":"err"}"#), "line 2"),
        (with(r#"{"exit":"soon"}"#), "line 2"),
        (with("{\"open\":{}}\n\n"), "line 3"),
    ];
    for (text, part) in wrong {
        let error = Script::parse(&text).err().unwrap_or_else(|| panic!("{text} is a script"));
        assert!(error.contains(part), "{error} does not say {part:?}");
    }
}

#[test]
fn what_a_script_leaves_out_is_as_the_readme_says() {
    let text = format!("{HEADER}\n{{\"exit\":0}}\n{{\"exit\":\"any\",\"within_ms\":50}}\n");
    let Script { header, steps } = Script::parse(&text).unwrap();
    assert_eq!((header.window, header.max_frame, header.io), (1, None, Io::Stdio));
    assert!(header.needs.is_empty() && header.caps.is_empty() && header.env.is_empty());
    let limits: Vec<_> = steps.iter().map(|step| (step.line, step.action.limit().as_millis())).collect();
    assert_eq!(limits, [(2, 8000), (3, 50)]);
}

#[test]
fn a_script_changes_what_the_parent_says_in_hello() {
    let fits = |changes: Value, wanted: Value| {
        let data = hello(changes.as_object().unwrap(), NAMES).unwrap();
        assert_eq!(notation::fit(&data, &wanted, NAMES), Ok(Same::Yes), "{changes}");
    };
    let usual = serde_json::json!({"$map": [
        ["v", 1], ["pid", 7], ["parent", 1234], ["caps", []], ["max_frame", 134_217_727]
    ]});
    fits(serde_json::json!({}), usual);
    fits(
        serde_json::json!({"caps": ["started"], "new": [1]}),
        serde_json::json!({"v": 1, "caps": ["started"], "new": [1]}),
    );
}
