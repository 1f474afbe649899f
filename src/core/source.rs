//! Where many tasks of one kind come from, a channel or a map: how they are written, how they are treated, and how many of them
//! go into one frame, by how long the last ones took.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use stokehold_protocol::{Recipient, Values, write_batch_head, write_head};

use super::{Body, Policy};

/// How much work, in time, goes into one frame. The cost of a frame and of looking at it, some microseconds on both sides
/// together, is then lost in it; and a worker that holds two of them, one to do and one behind it, holds no more than half a
/// millisecond.
const BATCH_TIME: Duration = Duration::from_micros(250);

/// Inputs in one frame, at most: beyond it nothing is gained any more.
const BATCH_ITEMS: u32 = 1_024;

/// So many times more or fewer than the last time, at most: one lucky measurement hoards nothing, and one moment in which somebody
/// else had the processor does not undo what was learned.
const STEP: u32 = 4;

/// What took so long was no such moment.
const LONG: Duration = Duration::from_millis(10);

/// So many are tried in one frame now and then where each takes too long to be sent with others. Where more workers want a processor
/// than there are, most of that time is waiting for one, which many in one frame share.
const TRIED: u32 = 4;

/// Where one takes longer, it is work.
const TRY_BELOW: Duration = Duration::from_millis(5);

/// After so many answers that is tried for the first time, and after twice as many each time it was in vain.
const TRY_AFTER: u32 = 16;

/// It is tried after so many answers at the latest.
const TRY_AFTER_MOST: u32 = 1_024;

/// What the tasks of one source have in common.
#[derive(Debug)]
pub(crate) struct Source {
    request: Box<str>,
    sender: u64,
    policy: Policy,
    /// Everything in front of the input of one task.
    head: Box<[u8]>,
    /// How many go into one frame now.
    size: AtomicU32,
    /// What one by itself takes, in nanoseconds, the way there and back and the wait for a processor included; 0 if none was seen.
    single: AtomicU64,
    /// After so many more answers to single ones a few are tried together.
    try_in: AtomicU32,
    /// After so many the next time.
    try_after: AtomicU32,
}

impl Source {
    /// Tasks that ask for `request`, sent by the process `sender`.
    pub(crate) fn new(request: &str, sender: u32, policy: Policy) -> Self {
        let mut head = Vec::new();
        write_head(&mut head, request, u64::from(sender), Recipient::Anyone);
        Self {
            request: request.into(),
            sender: sender.into(),
            policy,
            head: head.into(),
            size: AtomicU32::new(1),
            single: AtomicU64::new(0),
            try_in: AtomicU32::new(TRY_AFTER),
            try_after: AtomicU32::new(TRY_AFTER),
        }
    }

    /// How they are treated.
    pub(crate) fn policy(&self) -> Policy {
        self.policy
    }

    /// The body of one task's frame is written to `body`, which is empty.
    pub(crate) fn write_one(&self, input: &[u8], body: &mut Vec<u8>) {
        body.reserve(self.head.len() + input.len());
        body.extend_from_slice(&self.head);
        body.extend_from_slice(input);
    }

    /// The body of a frame with `count` inputs is written to `body`, which is empty.
    pub(crate) fn write_batch(&self, count: u32, inputs: &[u8], body: &mut Vec<u8>) {
        body.reserve(64 + self.request.len() + inputs.len());
        write_head(body, "BATCH", self.sender, Recipient::Anyone);
        write_batch_head(body, &self.request, count);
        body.extend_from_slice(inputs);
    }

    /// The inputs in such a body.
    pub(crate) fn inputs<'a>(&self, count: u32, body: &'a Body) -> Values<'a> {
        if let Some(inputs) = body.rest() {
            return Values::new(count, inputs);
        }
        // They stand at its end; the length of what stands in front follows from the names and the number.
        let mut head = Vec::new();
        self.write_batch(count, &[], &mut head);
        Values::new(count, body.bytes().get(head.len()..).unwrap_or_default())
    }

    /// How many go into one frame now. More than one only where nobody asked for anything that is of each by itself: a limit of
    /// time, a key, a single run, none after a crash.
    pub(crate) fn batch_size(&self) -> u32 {
        if !self.policy.is_plain() {
            return 1;
        }
        match self.size.load(Ordering::Relaxed) {
            1 if self.try_in.load(Ordering::Relaxed) == 0 => TRIED,
            size => size,
        }
    }

    /// So many were put into one frame.
    pub(crate) fn sent(&self, items: u32) {
        if items > 1 && self.try_in.load(Ordering::Relaxed) == 0 {
            self.try_in.store(self.try_after.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The same, whatever was asked for. A mistake to be made on purpose.
    #[cfg(test)]
    pub(crate) fn size_of_any(&self) -> u32 {
        self.size.load(Ordering::Relaxed)
    }

    /// `items` of them took that long in a worker, from one answer to the next. `crowded` says that more workers were busy than there
    /// are processors.
    pub(crate) fn learned(&self, items: u32, took: Duration, crowded: bool) {
        let size = self.size.load(Ordering::Relaxed);
        let each = self.each(items, took, crowded);
        let wanted = u32::try_from(nanos(BATCH_TIME) / each.max(1)).unwrap_or(u32::MAX).clamp(1, BATCH_ITEMS);
        if size == 1 {
            self.learn_from_trying(items, wanted > 1, took);
        }
        let new = if wanted >= size {
            wanted.min(size.saturating_mul(STEP))
        } else if took >= LONG {
            wanted
        } else if !crowded && (items >= size / 2 || took > BATCH_TIME) {
            wanted.max(size / STEP)
        } else {
            // Of what few took, most may be the way there and back, or a wait for a processor: that says nothing against many.
            size
        };
        if new != size {
            self.size.store(new, Ordering::Relaxed);
        }
    }

    /// What each took of what `items` of them took together, without what only the first one costs.
    fn each(&self, items: u32, took: Duration, crowded: bool) -> u64 {
        let (all, single) = (nanos(took), self.single.load(Ordering::Relaxed));
        if items == 1 || all < single {
            // Slowly: one moment in which somebody else had the processor says little.
            let smoothed = if single == 0 { all } else { single - single / 8 + all / 8 };
            self.single.store(smoothed, Ordering::Relaxed);
        }
        match items {
            0 | 1 => all,
            // That much is work, wherever the time goes.
            _ if took >= LONG || !crowded => all / u64::from(items),
            _ => all.saturating_sub(single) / u64::from(items - 1),
        }
    }

    /// Answers to single ones came, or what came of trying a few together.
    fn learn_from_trying(&self, items: u32, is_worth_it: bool, took: Duration) {
        if items > 1 {
            let after = self.try_after.load(Ordering::Relaxed);
            let after = if is_worth_it { TRY_AFTER } else { (after * 2).min(TRY_AFTER_MOST) };
            self.try_after.store(after, Ordering::Relaxed);
        } else if took < TRY_BELOW {
            let left = self.try_in.load(Ordering::Relaxed);
            self.try_in.store(left.saturating_sub(1), Ordering::Relaxed);
        }
    }

    /// Several in one frame did not work out: one by one from now on, until that is learned anew.
    pub(crate) fn go_single(&self) {
        self.size.store(1, Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How many inputs take so many values: for a body that is made by hand.
#[cfg(test)]
pub(crate) fn encoded(inputs: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    inputs.iter().for_each(|input| stokehold_protocol::wire::write_uint(&mut bytes, *input));
    bytes
}

#[cfg(test)]
mod tests {
    use stokehold_protocol::{Batch, Message};

    use super::*;

    const MICRO: Duration = Duration::from_micros(1);

    fn source(policy: Policy) -> Source {
        Source::new("half", 4711, policy)
    }

    #[test]
    fn one_task_and_many_are_written_as_the_protocol_has_them() {
        let source = source(Policy::default());
        let (mut one, mut many) = (Vec::new(), Vec::new());
        source.write_one(b"\x07", &mut one);
        let message = Message::decode(&one).unwrap();
        assert_eq!((message.request, message.sender, message.data), ("half", 4711, &b"\x07"[..]));
        for count in [2, 15, 16, 300] {
            many.clear();
            let inputs = encoded(&(0..count).collect::<Vec<_>>());
            let count = u32::try_from(count).unwrap();
            source.write_batch(count, &inputs, &mut many);
            let message = Message::decode(&many).unwrap();
            let batch = Batch::decode(message.data).unwrap();
            assert_eq!((message.request, batch.request, batch.items.left()), ("BATCH", "half", count));
            let body = Body::in_one_piece(many.clone());
            assert_eq!(batch.items, source.inputs(count, &body), "and found again");
            let shared = Body::with_rest(Vec::new(), stokehold_protocol::SharedTail::new(inputs));
            assert_eq!(batch.items, source.inputs(count, &shared), "where they lie by themselves, too");
        }
    }

    #[test]
    fn frames_grow_step_by_step_to_a_quarter_of_a_millisecond() {
        let source = source(Policy::default());
        assert_eq!(source.batch_size(), 1);
        source.learned(1, MICRO, false);
        assert_eq!(source.batch_size(), 4);
        source.learned(4, MICRO, false);
        assert_eq!(source.batch_size(), 16);
        source.learned(16, 80 * MICRO, false);
        assert_eq!(source.batch_size(), 50);
        for size in [200, 800, BATCH_ITEMS, BATCH_ITEMS] {
            source.learned(1000, MICRO, false);
            assert_eq!(source.batch_size(), size);
        }
    }

    fn quick() -> Source {
        let source = source(Policy::default());
        while source.batch_size() < BATCH_ITEMS {
            source.learned(1000, MICRO, false);
        }
        source
    }

    #[test]
    fn a_slow_answer_ends_it_at_once() {
        let source = quick();
        source.learned(1, LONG, false);
        assert_eq!(source.batch_size(), 1);
    }

    #[test]
    fn one_moment_in_which_somebody_else_had_the_processor_does_not_undo_it() {
        let source = quick();
        for size in [256, 64, 16, 4, 1] {
            source.learned(1, LONG - MICRO, false);
            assert_eq!(source.batch_size(), size);
        }
    }

    #[test]
    fn what_few_took_with_the_way_there_and_back_says_nothing_against_many() {
        let source = quick();
        source.learned(1, BATCH_TIME, false);
        assert_eq!(source.batch_size(), BATCH_ITEMS);
        source.learned(BATCH_ITEMS / 2, BATCH_TIME, false);
        assert_eq!(source.batch_size(), BATCH_ITEMS / 2, "those were not few");
    }

    #[test]
    fn tasks_with_something_of_their_own_go_one_by_one() {
        for policy in [
            Policy::once(),
            Policy::default().with_key(),
            Policy::default().retry_crashes(false),
            Policy::default().timeout(MICRO),
            Policy::default().soft_timeout(MICRO),
            Policy::default().total_timeout(MICRO),
        ] {
            let source = source(policy);
            source.learned(1000, MICRO, false);
            assert_eq!(source.batch_size(), 1);
        }
    }
}
