//! Replays what the fuzz targets have found, without their engine: every file of `fuzz/corpus/<target>` goes through the
//! body of its target, which is the same code in both.

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

mod input;
mod message;
mod payloads;
mod sessions;
mod splitter;
mod stretch;
mod text;

/// What a target does with an input; it panics when something is wrong.
type Body = fn(&[u8]);

/// Every target with its body.
const TARGETS: [(&str, Body); 5] = [
    ("message", message::run),
    ("payloads", payloads::run),
    ("sessions", sessions::run),
    ("splitter", splitter::run),
    ("text", text::run),
];

/// All corpora together stay small enough to be read at every build, and to be kept with the source.
const FILES_MAX: usize = 320;
const BYTES_MAX: u64 = 300 * 1024;

#[test]
fn every_file_of_the_corpora_is_survived() {
    for (target, run) in TARGETS {
        let files = corpus(target);
        assert!(files.len() >= 10, "the corpus of {target} has {} files", files.len());
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let survived = panic::catch_unwind(|| run(&bytes));
            assert!(survived.is_ok(), "{} fails, see above", file.display());
        }
    }
}

#[test]
fn every_target_is_replayed() {
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let bins = manifest.split("[[bin]]\nname = \"").skip(1).filter_map(|bin| bin.split('"').next());
    let declared: BTreeSet<String> = bins.map(str::to_owned).collect();
    let replayed: BTreeSet<String> = TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect();
    assert_eq!(declared, replayed);
    let with_corpus: BTreeSet<String> = fs::read_dir(fuzz().join("corpus"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(with_corpus, replayed);
}

#[test]
fn the_corpora_stay_small() {
    let files: Vec<PathBuf> = TARGETS.iter().flat_map(|(target, _)| corpus(target)).collect();
    let bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(files.len() <= FILES_MAX && bytes <= BYTES_MAX, "{} files, {bytes} bytes", files.len());
}

/// The files of a target, in a fixed order.
fn corpus(target: &str) -> Vec<PathBuf> {
    let folder = fuzz().join("corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}
