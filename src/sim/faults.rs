//! What can be wrong on the way between a child and the parent, as small nodes in a row: bytes go through all of them.

use std::time::Duration;

use super::random::Random;

/// One thing that is wrong. Steps are counted in writes of the child, from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// It closes its input at that step.
    ClosesInput { step: u32 },
    /// Bytes take up to so many microseconds.
    Delay { micros: usize },
    /// It dies right after writing that step.
    Dies { step: u32 },
    /// It writes that step twice.
    Duplicates { step: u32 },
    /// It exits when it is told to stop a task.
    ExitsWhenCancelled,
    /// Of that step only a part is written, and nothing after it.
    Half { step: u32 },
    /// It takes no notice of CANCEL.
    IgnoresCancel,
    /// It gets to CANCEL long after it has read it.
    LateCancel,
    /// It says that it works in order, and does not.
    LiesAboutOrder,
    /// Nothing is written from that step on.
    Silence { step: u32 },
    /// Bytes come in pieces.
    Split,
    /// What is written from that step on arrives an hour late, or when it dies.
    Stall { step: u32 },
    /// It reads no more from that step on.
    StopsReading { step: u32 },
    /// It answers no PING.
    IgnoresPing,
}

/// What a write does besides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    ClosesInput,
    Dies,
    StopsReading,
}

/// Bytes, and how long they take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Piece {
    pub(crate) after: Duration,
    pub(crate) bytes: Vec<u8>,
}

/// The faults of one child, in a row.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) faults: Vec<Fault>,
    /// What it says about its order is not true.
    pub(crate) lies: bool,
    /// What it writes does not arrive whole, or not at all.
    pub(crate) is_torn: bool,
    step: u32,
    random: Option<Random>,
}

impl Link {
    /// A way with those faults.
    pub(crate) fn new(faults: Vec<Fault>, seed: u64) -> Self {
        let lies = faults.contains(&Fault::LiesAboutOrder);
        Self { faults, lies, is_torn: false, step: 0, random: Some(Random::new(seed)) }
    }

    /// Whether it has that fault.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// What becomes of something that the child writes.
    pub(crate) fn carry(&mut self, bytes: Vec<u8>) -> (Vec<Piece>, Vec<Effect>) {
        let mut pieces = vec![Piece { after: Duration::ZERO, bytes }];
        let mut effects = Vec::new();
        if self.is_torn {
            return (Vec::new(), effects);
        }
        let Some(random) = &mut self.random else { return (pieces, effects) };
        let now = self.step;
        for fault in &self.faults {
            pieces = match *fault {
                Fault::Split => pieces.into_iter().flat_map(|piece| split(piece, random)).collect(),
                Fault::Delay { micros } => {
                    for piece in &mut pieces {
                        piece.after += Duration::from_micros(random.below(micros) as u64);
                    }
                    pieces
                }
                Fault::Stall { step } if now >= step => {
                    for piece in &mut pieces {
                        piece.after += Duration::from_secs(3_600);
                    }
                    pieces
                }
                Fault::Duplicates { step } if now == step && !self.is_torn => {
                    pieces.extend(pieces.clone());
                    pieces
                }
                Fault::Half { step } if now >= step => {
                    self.is_torn = true;
                    pieces.truncate(1);
                    for piece in &mut pieces {
                        piece.bytes.truncate(random.below(piece.bytes.len().max(1)));
                    }
                    pieces
                }
                Fault::Silence { step } if now >= step => {
                    self.is_torn = true;
                    Vec::new()
                }
                _ => pieces,
            };
            match *fault {
                Fault::ClosesInput { step } if now == step => effects.push(Effect::ClosesInput),
                Fault::Dies { step } if now == step => effects.push(Effect::Dies),
                Fault::StopsReading { step } if now == step => effects.push(Effect::StopsReading),
                _ => {}
            }
        }
        self.step += 1;
        (pieces, effects)
    }
}

/// Two pieces of one, the second a moment later.
fn split(piece: Piece, random: &mut Random) -> Vec<Piece> {
    let Piece { after, mut bytes } = piece;
    let tail = bytes.split_off(random.below(bytes.len().max(1)));
    let later = after + Duration::from_micros(random.below(50) as u64);
    vec![Piece { after, bytes }, Piece { after: later, bytes: tail }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_in_a_row_lose_no_byte_that_they_do_not_mean_to() {
        let mut link = Link::new(vec![Fault::Split, Fault::Split, Fault::Delay { micros: 100 }], 1);
        for len in 1..50_u8 {
            let bytes: Vec<u8> = (0..len).collect();
            let (pieces, effects) = link.carry(bytes.clone());
            assert_eq!(pieces.into_iter().flat_map(|piece| piece.bytes).collect::<Vec<_>>(), bytes);
            assert!(effects.is_empty());
        }
    }

    #[test]
    fn half_a_frame_is_the_last_thing_said() {
        let mut link = Link::new(vec![Fault::Half { step: 1 }], 1);
        assert_eq!(link.carry(vec![1; 9]).0[0].bytes.len(), 9);
        assert!(link.carry(vec![1; 9]).0[0].bytes.len() < 9 && link.is_torn);
        assert!(link.carry(vec![1; 9]).0.is_empty());
    }
}
