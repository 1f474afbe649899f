//! Payloads that carry a number, and the check that every answer came, once, and unharmed.

use crate::contest::Outcome;

/// The number that tells a worker to stop.
pub const END: u64 = u64::MAX;

/// What is checked of a large payload: its length, its number, its end, and one byte of every so many.
const SAMPLE_EVERY: usize = 4096;

/// A payload with room for a number in its first 8 bytes.
pub fn numbered(size: usize) -> Vec<u8> {
    // 251 is a prime: samples taken at powers of two see every value.
    let mut payload: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
    set_number(&mut payload, 0);
    payload
}

pub fn set_number(payload: &mut [u8], number: u64) {
    payload[..8].copy_from_slice(&number.to_le_bytes());
}

/// Whether a large answer is what was sent.
pub fn is_echo(sent: &[u8], answer: &[u8]) -> bool {
    sent.len() == answer.len()
        && sent[..8] == answer[..8]
        && sent.last() == answer.last()
        && sent.iter().step_by(SAMPLE_EVERY).eq(answer.iter().step_by(SAMPLE_EVERY))
}

/// Which of `count` numbered answers have come.
pub struct Answers {
    came: Vec<bool>,
    missing: usize,
    like: Vec<u8>,
}

impl Answers {
    /// `like` is one of the payloads; they differ in their numbers only.
    pub fn new(count: usize, like: &[u8]) -> Self {
        Self { came: vec![false; count], missing: count, like: like.to_vec() }
    }

    pub fn missing(&self) -> usize {
        self.missing
    }

    /// An error when it is not an echo of something sent, or came before.
    #[inline]
    pub fn take(&mut self, answer: &[u8]) -> Outcome {
        match answer.split_first_chunk::<8>() {
            Some((number, _)) if answer.len() == self.like.len() && answer.last() == self.like.last() => {
                match self.came.get_mut(u64::from_le_bytes(*number) as usize) {
                    Some(came) if !*came => *came = true,
                    _ => return Err("an answer that nobody asked for, or a second time".into()),
                }
            }
            _ => return Err("an answer is not what was sent".into()),
        }
        self.missing -= 1;
        Ok(())
    }
}
