//! The source tree itself. These tests read text: they know Rust and markdown only as far as they need to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Names that say nothing.
const EMPTY_NAMES: [&str; 8] = ["base", "common", "helpers", "imp", "manager", "misc", "types", "util"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every file below `folder` with that extension, by its path from the root. What is built or hidden is no source.
fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "node_modules"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                let shown = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push((shown, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The code of every file below `folder`, without comments, and without tests.
fn code(folder: &str) -> Vec<(String, String)> {
    let mut files = files(folder, "rs");
    assert!(!files.is_empty(), "there is nothing in {folder}");
    files.retain(|(path, _)| {
        !path.ends_with("/tests.rs") && !path.contains("/tests/") && !path.contains("/sim/")
    });
    for (_, text) in &mut files {
        let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
        let lines = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
        *text = lines
            .map(|line| line.split(" // ").next().unwrap_or(line))
            .fold(String::new(), |code, line| code + line + "\n");
    }
    files
}

/// The first segments of every path that begins with `crate::`, also in a list.
fn named_from_crate(code: &str) -> BTreeSet<String> {
    let identifier =
        |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(identifier(rest));
            continue;
        };
        let mut depth = 1;
        let mut begins = true;
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => begins = true,
                c if begins && (c.is_alphanumeric() || c == '_') => {
                    names.insert(identifier(&list[at..]));
                    begins = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    names
}

/// Nothing below `folder` has any of these words in its code.
fn assert_free_of(folder: &str, words: &[&str], allowed: &[&str]) {
    for (path, code) in code(folder) {
        if allowed.iter().any(|allowed| path.starts_with(allowed)) {
            continue;
        }
        for word in words {
            let line = code.lines().find(|line| has_word(line, word));
            assert!(line.is_none(), "{path} must not name {word}: {}", line.unwrap_or_default().trim());
        }
    }
}

/// Whether `word` stands in `line` and does not begin in the middle of another.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn the_core_knows_itself_and_the_protocol_only() {
    for (path, code) in code("src/core") {
        let named = named_from_crate(&code);
        assert!(named.iter().all(|name| name == "core"), "{path} names {named:?}");
        let depth = path.trim_start_matches("src/core/").trim_end_matches("/mod.rs").split('/').count();
        assert!(!code.contains(&"super::".repeat(depth + 1)), "{path} climbs out of the core");
    }
    let system = ["std::fs", "std::net", "std::thread", "std::env", "rustix", "libc", "crossbeam_channel"];
    assert_free_of("src/core", &system, &[]);
}

#[test]
fn the_system_layer_knows_neither_decisions_nor_the_engine() {
    for (path, code) in code("src/sys") {
        let named = named_from_crate(&code);
        assert!(named.iter().all(|name| name == "sys"), "{path} names {named:?}");
        assert!(!code.contains("stokehold_protocol"), "{path} names the protocol");
    }
}

#[test]
fn the_driver_knows_no_handle() {
    for (path, code) in code("src/driver") {
        let named = named_from_crate(&code);
        let below = |name: &String| ["core", "driver", "sys"].contains(&name.as_str());
        assert!(named.iter().all(below), "{path} names {named:?}");
    }
}

#[test]
fn parent_child_sdk_and_protocol_meet_in_the_protocol_only() {
    let manifest = |folder: &str| fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
    // What a package is built from counts; an example in its documentation may need both sides.
    let depends = |folder: &str| -> BTreeSet<String> {
        let text = manifest(folder);
        let table = text.split("\n[").filter(|table| table.starts_with("dependencies]"));
        let names = table.flat_map(str::lines).filter_map(|line| line.split(['.', ' ', '=']).next());
        names.filter(|name| name.starts_with("stokehold")).map(str::to_owned).collect()
    };
    assert_eq!(depends("protocol"), BTreeSet::new());
    assert_eq!(depends("child-sdk"), BTreeSet::from(["stokehold-protocol".to_owned()]));
    assert_eq!(depends("."), BTreeSet::from(["stokehold-protocol".to_owned()]));
    assert_free_of("src", &["stokehold_child"], &[]);
    assert_free_of("child-sdk/src", &["stokehold::"], &[]);
    assert_free_of("protocol/src", &["stokehold::", "stokehold_child"], &[]);
}

#[test]
fn unsafe_code_stands_in_the_system_layers_only() {
    let allowed = ["src/sys/", "child-sdk/src/sys"];
    for folder in ["src", "child-sdk/src", "protocol/src", "cli/src"] {
        let marks = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe_code"];
        let marks = if folder == "protocol/src" { &marks[..4] } else { &marks[..] };
        assert_free_of(folder, marks, &allowed);
    }
}

#[test]
fn clock_threads_and_processes_are_the_drivers_and_the_systems() {
    let clock = ["Instant::now", "SystemTime", ".elapsed()"];
    let threads = ["thread::spawn", "thread::sleep", "thread::Builder", "thread::park"];
    let processes = ["Command::new", ".spawn()", "process::exit", "process::abort"];
    let outside = ["src/driver/", "src/sys/"];
    assert_free_of("src", &threads, &outside);
    assert_free_of("src", &processes, &outside);
    for folder in ["src/core", "protocol/src"] {
        assert_free_of(folder, &[clock.as_slice(), &threads, &processes].concat(), &[]);
    }
    // Handles turn timeouts into deadlines, and do nothing else with a clock.
    assert_free_of("src", &["SystemTime", ".elapsed()"], &outside);
}

#[test]
fn every_member_opts_into_the_workspaces_lints() {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = text.split("members = [").nth(1).unwrap().split("\n]").next().unwrap();
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.len() >= 6, "{members:?}");
    for member in members.into_iter().chain(["."]) {
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{member} escapes the lints");
    }
}

#[test]
fn no_crate_has_features() {
    for (path, manifest) in files(".", "toml") {
        if path.ends_with("Cargo.toml") {
            assert!(!manifest.contains("\n[features]"), "{path} has features");
        }
    }
}

#[test]
fn every_source_file_says_what_it_is() {
    for (path, text) in files(".", "rs") {
        assert!(text.starts_with("//! "), "{path} does not begin with a `//!` line");
    }
}

#[test]
fn no_file_has_an_empty_name() {
    for (path, _) in files(".", "rs") {
        let mut parts = path.trim_end_matches(".rs").split('/');
        assert!(!parts.any(|part| EMPTY_NAMES.contains(&part)), "{path} says nothing");
    }
}

#[test]
fn every_file_of_a_suite_is_declared() {
    let mut suites = 0;
    for (main, text) in files(".", "rs") {
        let Some(folder) = main.strip_suffix("/main.rs") else { continue };
        if !folder.contains("tests") {
            continue;
        }
        suites += 1;
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let is_module = path.is_dir() || path.extension().is_some_and(|extension| extension == "rs");
            let declared = text.lines().any(|line| line.trim_start().starts_with(&format!("mod {name};")));
            assert!(!is_module || name == "main" || declared, "{folder} does not declare {name}");
        }
    }
    assert!(suites >= 2, "the suites were not found");
}

#[test]
fn every_child_is_a_program_and_every_program_exists() {
    let manifest = fs::read_to_string(root().join("tests/Cargo.toml")).unwrap();
    let declared: BTreeSet<&str> =
        manifest.split('"').filter(|part| part.starts_with("children/") && part.ends_with(".rs")).collect();
    let present = files("tests/children", "rs");
    // A folder is one program, with its modules.
    let is_program = |path: &&str| path.matches('/').count() == 1 || path.ends_with("/main.rs");
    let present: BTreeSet<&str> =
        present.iter().map(|(path, _)| path.strip_prefix("tests/").unwrap()).filter(is_program).collect();
    assert_eq!(declared, present);
}

#[test]
fn the_oldest_compiler_is_the_same_everywhere() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let version = manifest.split("rust-version = \"").nth(1).unwrap().split('"').next().unwrap();
    let mut said = 0;
    for (path, text) in files(".", "md") {
        // A changelog and decisions tell of other times.
        if path.ends_with("CHANGELOG.md") || path.starts_with("docs/adr/") {
            continue;
        }
        for (at, claim) in text.match_indices("minimum Rust version is ") {
            let named = &text[at + claim.len()..];
            assert!(named.starts_with(version), "{path} names another version than {version}");
            said += 1;
        }
    }
    assert!(
        said > 0 || !root().join("README.md").exists(),
        "the README does not say which compiler is needed"
    );
}

#[test]
fn every_link_in_markdown_leads_somewhere() {
    let pages: BTreeMap<String, String> = files(".", "md").into_iter().collect();
    for (path, text) in &pages {
        for link in links(text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let folder = root().join(path).parent().unwrap().to_owned();
            let target = if file.is_empty() { root().join(path) } else { folder.join(file) };
            assert!(target.exists(), "{path} links to {file}, which is not there");
            if !anchor.is_empty() && target.extension().is_some_and(|extension| extension == "md") {
                let page = fs::read_to_string(&target).unwrap();
                assert!(
                    anchors(&page).contains(anchor),
                    "{path} links to {link}, where there is no such heading"
                );
            }
        }
    }
}

/// The targets of inline links, outside code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in outside_code(text) {
        // Every second part stands in backticks.
        let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
        for part in plain.split("](").skip(1) {
            found.extend(part.split(')').next().map(str::to_owned));
        }
    }
    found
}

fn outside_code(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The anchors that headings get: lower case, spaces to hyphens, other marks dropped.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = outside_code(text).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_statement_of_the_specification_has_an_id_of_its_own() {
    let text = fs::read_to_string(root().join("protocol/SPEC.md")).unwrap();
    let mut ids = BTreeSet::new();
    for part in text.split("**[").skip(1) {
        let id = part.split("]**").next().unwrap();
        let (letter, number) = id.split_once('-').unwrap_or((id, ""));
        let well_formed = letter.chars().all(|c| c.is_ascii_uppercase()) && number.parse::<u32>().is_ok();
        assert!(well_formed, "{id:?} is no id of a statement");
        assert!(ids.insert(id), "two statements are called {id}");
    }
    assert!(ids.len() > 100, "only {} statements were found", ids.len());
    // What the specification itself refers to is there.
    for part in text.split('[').skip(1) {
        let id = part.split(']').next().unwrap();
        let is_id = id.split_once('-').is_some_and(|(letter, number)| {
            letter.len() == 1
                && letter.chars().all(|c| c.is_ascii_uppercase())
                && number.parse::<u32>().is_ok()
        });
        assert!(!is_id || ids.contains(id), "[{id}] is referred to and does not exist");
    }
}
