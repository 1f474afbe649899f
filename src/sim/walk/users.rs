//! What the users of a walk do: send tasks of all kinds, cancel some, take results or not.

use std::time::Duration;

use stokehold_protocol::limits::MAX_FRAME_FLOOR;

use super::Walk;
use crate::core::sim::world::Stream;
use crate::core::{Policy, RetryFailures};

impl Walk<'_> {
    pub(super) fn user(&mut self) {
        let task = 1 + self.random.below(self.world.accepted.max(1) as usize) as u64;
        let recent = self.world.accepted.saturating_sub(self.random.below(8) as u64);
        let is_there = task <= self.world.accepted && recent > 0;
        match self.random.below(16) {
            0 if is_there => self.world.cancel(task),
            1 | 2 if is_there => self.world.cancel(recent),
            // With one of a channel all of it is forgotten.
            3 if is_there && (!self.world.is_of_channel(task) || self.random.once_in(8)) => {
                self.world.forget(task);
            }
            4..=6 if is_there => {
                if let Some(task) = self.any_full().filter(|_| self.random.once_in(2)) {
                    let count = 1 + self.random.below(4) as u32;
                    self.world.take_items(task, count);
                }
            }
            7 if self.random.once_in(30) => self.world.shutdown(Duration::from_secs(30)),
            8 if self.random.once_in(4) => {
                let workers = 1 + self.random.below(4);
                self.world.resize(workers);
            }
            9..=11 => self.submit_run(),
            12..=14 if self.is_quick => self.submit_run(),
            _ => self.submit(),
        }
    }

    /// A live task whose stream is full.
    fn any_full(&mut self) -> Option<u64> {
        let full = self.world.live_streams();
        self.random.pick(&full)
    }

    fn submit(&mut self) {
        for _ in 0..=self.random.below(6) {
            let policy = self.any_policy();
            let padding = if self.random.once_in(50) { MAX_FRAME_FLOOR as usize } else { 0 };
            let room = 1 + self.random.below(6) as u32;
            let stream = Stream { buffered: 0, room, came: 0, restarts: 0 };
            let stream = self.random.once_in(3).then_some(stream);
            self.world.put_as(policy, padding, stream);
        }
        self.world.settle();
    }

    /// Some tasks of a channel that come together.
    fn submit_run(&mut self) {
        let channel = self.any_channel();
        let most = if self.random.once_in(20) { 200 } else { 12 };
        let count = 1 + self.random.below(most);
        let mut paddings = vec![0; count];
        if self.random.once_in(60) {
            paddings.truncate(12);
            for padding in &mut paddings {
                let most = [20, 10_000, MAX_FRAME_FLOOR as usize + 2_000][self.random.below(3)];
                *padding = self.random.below(most);
            }
        }
        self.world.put_run(channel, &paddings);
        self.world.settle();
    }

    /// One of three channels, each replaced by another when nobody receives of it any more.
    fn any_channel(&mut self) -> usize {
        let place = self.random.below(3);
        if let Some(channel) = self.channels.get(place).copied() {
            // What was sent before that may come after it.
            if self.world.is_channel_open(channel) || self.random.once_in(4) {
                return channel;
            }
        }
        // Most often one whose tasks may go several in one frame.
        let policy = match self.random.once_in(4) {
            true => self.any_policy(),
            false => {
                let attempts = 1 + self.random.below(5) as u32;
                let pause = Duration::from_millis(1 + self.random.below(300) as u64);
                Policy::default()
                    .attempts(attempts)
                    .backoff(pause, pause * 4)
                    .retry_failures(self.any_retry())
            }
        };
        let channel = self.world.open_channel(policy);
        match self.channels.get_mut(place) {
            Some(place) => *place = channel,
            None => self.channels.push(channel),
        }
        channel
    }

    fn any_retry(&mut self) -> RetryFailures {
        match self.random.below(4) {
            0 => RetryFailures::Never,
            1 => RetryFailures::Always,
            _ => RetryFailures::WhenAsked,
        }
    }

    fn any_policy(&mut self) -> Policy {
        let failures = self.any_retry();
        let random = &mut self.random;
        let mut policy = match random.below(6) {
            0 => Policy::once(),
            lives => Policy::default().attempts(lives as u32),
        };
        let mut millis = |most: usize| Duration::from_millis(1 + random.below(most) as u64);
        let (hard, soft, total, pause) = (millis(2_000), millis(1_000), millis(6_000), millis(300));
        policy = policy.backoff(pause, pause * 4);
        if random.once_in(3) {
            policy = policy.timeout(hard);
        }
        if random.once_in(3) {
            policy = policy.soft_timeout(soft);
        }
        if random.once_in(4) {
            policy = policy.total_timeout(total);
        }
        policy = policy
            .retry_crashes(!random.once_in(6))
            .retry_timeouts(!random.once_in(6))
            .retry_failures(failures);
        if random.once_in(2) {
            policy = policy.restart_stream();
        }
        if random.once_in(6) { policy.with_key() } else { policy }
    }
}
