//! Counting: the same code in the workers and in the parent, over batches in the one and over whole files in the other.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::corpus::Batch;

/// What was counted.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Counts {
    pub(super) files: u64,
    /// A last line without its end is a line.
    pub(super) lines: u64,
    pub(super) words: u64,
    pub(super) bytes: u64,
    /// How often each word came, in lower case.
    pub(super) tally: HashMap<String, u64>,
}

/// A worker's answer, with who gave it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Counted {
    pub(super) counts: Counts,
    pub(super) worker: Option<u32>,
    pub(super) pid: u32,
    pub(super) attempt: u32,
}

impl Counts {
    pub(super) fn of_batch(batch: &Batch<'_>) -> Self {
        let mut counts = Self::default();
        for part in &batch.parts {
            counts.count(&part.text, part.ends_file);
        }
        counts
    }

    /// Counts a file, or a part of one.
    pub(super) fn of_text(text: &str, ends_file: bool) -> Self {
        let mut counts = Self::default();
        counts.count(text, ends_file);
        counts
    }

    pub(super) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.lines += other.lines;
        self.words += other.words;
        self.bytes += other.bytes;
        for (word, count) in other.tally {
            *self.tally.entry(word).or_default() += count;
        }
    }

    fn count(&mut self, text: &str, ends_file: bool) {
        self.files += u64::from(ends_file);
        self.bytes += text.len() as u64;
        self.lines += text.bytes().filter(|byte| *byte == b'\n').count() as u64;
        self.lines += u64::from(ends_file && !text.is_empty() && !text.ends_with('\n'));
        let mut lower = String::new();
        for word in text.split(|char: char| !char.is_alphabetic()).filter(|word| !word.is_empty()) {
            self.words += 1;
            lower.clear();
            lower.extend(word.chars().flat_map(char::to_lowercase));
            match self.tally.get_mut(&lower) {
                Some(count) => *count += 1,
                None => {
                    self.tally.insert(lower.clone(), 1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_words_and_bytes_are_counted() {
        let counts = Counts::of_text("The cat, the Ünder-cat\n\nx1y", true);
        assert_eq!((counts.files, counts.lines, counts.words, counts.bytes), (1, 3, 7, 28));
        assert_eq!((counts.tally["the"], counts.tally["cat"], counts.tally["ünder"]), (2, 2, 1));
    }
}
