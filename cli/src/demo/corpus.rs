//! The text of the demo: what files are read, and how they are cut into batches. It counts nothing.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::count::Counts;

/// All files together, at most: they are kept in memory for the count in the parent.
const CORPUS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A batch is about this long: some dozen microseconds of transport for a millisecond of work.
const BATCH_BYTES: usize = 64 * 1024;

/// A file with a longer stretch without white space is no text; cutting batches would cut it.
const STRETCH_BYTES_MAX: usize = 1024 * 1024;

/// What is counted where no text is found.
const BUILT_IN: &str = "\
Stokehold keeps workers warm. A worker is a process that is started once and fed for as long as there is work.
Starting a process for every task costs more than most tasks do; keeping it costs nothing.
Now and then a worker dies. It may run out of memory, or meet an input that its author never thought of,
or somebody may pull the plug. The work that it had is then given to another worker, and nobody notices.
What was asked for is answered exactly once. What cannot be answered ends in an error that says who, what and why.
This text is counted here because there was no other. The worker that had it was killed, and yet every word is there.
";

/// Texts of files.
#[derive(Debug)]
pub(super) struct Corpus {
    texts: Vec<String>,
    is_built_in: bool,
    /// Files passed over because the bound was reached.
    left_out: u64,
}

/// What a worker gets.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Batch<'a> {
    pub(super) parts: Vec<Part<'a>>,
    /// The worker holds it on the first attempt, so that it can be killed with it.
    pub(super) hold: bool,
}

/// A part of a file, or a whole one: whole lines, but for a line that is very long.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Part<'a> {
    pub(super) text: Cow<'a, str>,
    /// It is the last part of its file.
    pub(super) ends_file: bool,
}

impl Corpus {
    /// Reads the text files below `dir`. What cannot be read is passed over, unless it is `dir` itself.
    pub(super) fn read(dir: &Path) -> io::Result<Self> {
        let mut corpus = Self { texts: Vec::new(), is_built_in: false, left_out: 0 };
        let mut room = CORPUS_BYTES_MAX;
        let mut dirs = vec![fs::read_dir(dir)?];
        while let Some(entries) = dirs.pop() {
            let mut entries: Vec<_> = entries.flatten().collect();
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let name = entry.file_name();
                let Ok(kind) = entry.file_type() else { continue };
                if name.as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                // A symbolic link is neither: it is not followed.
                if kind.is_dir() && name != "target" {
                    dirs.extend(fs::read_dir(entry.path()));
                } else if kind.is_file() {
                    corpus.take_file(&entry.path(), &mut room);
                }
            }
        }
        if corpus.bytes() == 0 {
            corpus.texts = vec![BUILT_IN.to_owned()];
            corpus.is_built_in = true;
        }
        Ok(corpus)
    }

    /// The bytes of all texts.
    pub(super) fn bytes(&self) -> u64 {
        self.texts.iter().map(|text| text.len() as u64).sum()
    }

    /// "213 files".
    pub(super) fn describe(&self) -> String {
        let left_out = match self.left_out {
            0 => String::new(),
            count => format!(", {count} more left out beyond 64 MiB"),
        };
        match self.texts.len() {
            _ if self.is_built_in => "a built-in text, there being no other".to_owned(),
            1 => format!("1 file{left_out}"),
            count => format!("{count} files{left_out}"),
        }
    }

    /// The texts in batches of whole lines, at least one. The first is to be held.
    pub(super) fn batches(&self) -> Vec<Batch<'_>> {
        let mut batches = Vec::new();
        let mut batch = Batch { parts: Vec::new(), hold: true };
        let mut length = 0;
        for text in &self.texts {
            let mut rest = text.as_str();
            loop {
                let (part, after) = rest.split_at(cut(rest, BATCH_BYTES - length));
                length += part.len();
                batch.parts.push(Part { text: Cow::Borrowed(part), ends_file: after.is_empty() });
                if length >= BATCH_BYTES || !after.is_empty() {
                    batches.push(std::mem::take(&mut batch));
                    length = 0;
                }
                if after.is_empty() {
                    break;
                }
                rest = after;
            }
        }
        if !batch.parts.is_empty() {
            batches.push(batch);
        }
        batches
    }

    /// The count of everything, without workers.
    pub(super) fn count(&self) -> Counts {
        let mut total = Counts::default();
        for text in &self.texts {
            total.add(Counts::of_text(text, true));
        }
        total
    }

    fn take_file(&mut self, path: &Path, room: &mut u64) {
        let mut bytes = Vec::new();
        let Ok(file) = File::open(path) else { return };
        // What a file says of its length is no bound: those of /proc say 0.
        if file.take(*room + 1).read_to_end(&mut bytes).is_err() {
            return;
        }
        if bytes.len() as u64 > *room {
            self.left_out += 1;
            return;
        }
        let Ok(text) = String::from_utf8(bytes) else { return };
        if text.split_ascii_whitespace().all(|stretch| stretch.len() <= STRETCH_BYTES_MAX) {
            *room -= text.len() as u64;
            self.texts.push(text);
        }
    }
}

/// Where to cut `text` so that about `room` bytes come off: everything, else behind the last line's end, else behind the last
/// white space, else behind the next.
fn cut(text: &str, room: usize) -> usize {
    if text.len() <= room {
        return text.len();
    }
    let (head, tail) = text.as_bytes().split_at(room);
    let behind = |index: usize| index + 1;
    let blank = |byte: &u8| byte.is_ascii_whitespace();
    head.iter()
        .rposition(|byte| *byte == b'\n')
        .or_else(|| head.iter().rposition(blank))
        .map(behind)
        .or_else(|| tail.iter().position(blank).map(|index| room + behind(index)))
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus(texts: &[&str]) -> Corpus {
        Corpus {
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
            is_built_in: false,
            left_out: 0,
        }
    }

    #[test]
    fn batches_count_the_same_as_whole_files() {
        let long_lines = "word ".repeat(50_000);
        let short_lines = "one two three\n".repeat(20_000);
        let one_word = "ü".repeat(200_000);
        for texts in [
            &["a\nb"][..],
            &["", "x", ""],
            &[&long_lines, &short_lines, "end"],
            &[&one_word, "a b\n"],
            &[&short_lines[..BATCH_BYTES], "tail"],
        ] {
            let corpus = corpus(texts);
            let mut total = Counts::default();
            let batches = corpus.batches();
            assert!(batches.iter().skip(1).all(|batch| !batch.hold) && batches[0].hold);
            for batch in &batches {
                total.add(Counts::of_batch(batch));
            }
            let whole = corpus.count();
            assert_eq!(
                (total.files, total.lines, total.words, total.bytes),
                (whole.files, whole.lines, whole.words, whole.bytes)
            );
            assert_eq!(total.tally, whole.tally);
        }
    }

    #[test]
    fn a_cut_is_behind_a_line_or_at_least_behind_a_word() {
        assert_eq!(cut("ab\ncd ef", 7), 3);
        assert_eq!(cut("ab cd", 4), 3);
        assert_eq!(cut("abcd e", 2), 5);
        assert_eq!(cut("abcd", 2), 4);
        assert_eq!(cut("abcd", 4), 4);
    }
}
