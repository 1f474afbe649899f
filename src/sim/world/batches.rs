//! Several tasks in one frame: what children do with them, and what follows from what they say.

use stokehold_protocol::{BatchResult, Failure, Message, ResultList, Results, code, wire};

use super::script::{begin, frame};
use super::seat::Lease;
use super::{Delivery, Known, MAX_FRAME, World};

/// What a script does with the child's half of a session is allowed.
const RULES: &str = "the script keeps the rules of the session";

/// What was seen of batches, so that it can be seen that the walks get to them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Batches {
    /// Steps of a walk with one in some worker.
    pub(crate) steps: usize,
    /// How many were handed out.
    pub(crate) handed: usize,
    /// How many tasks they had.
    pub(crate) tasks: usize,
    /// The largest.
    pub(crate) largest: u32,
    /// Those that were handed out before.
    pub(crate) whole_again: usize,
    /// Results that came before the final answer, counted by frames.
    pub(crate) parts: usize,
    /// Results that say that a task failed.
    pub(crate) bad: usize,
    /// Batches that failed as a whole.
    pub(crate) failed: usize,
    /// Results that are none, or not as many as they should be.
    pub(crate) wrong: usize,
    /// Workers that died with one.
    pub(crate) deaths: usize,
    /// Those among them that were doing the only task without a result.
    pub(crate) blamed: usize,
}

impl Batches {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.handed += other.handed;
        self.tasks += other.tasks;
        self.largest = self.largest.max(other.largest);
        self.whole_again += other.whole_again;
        self.parts += other.parts;
        self.bad += other.bad;
        self.failed += other.failed;
        self.wrong += other.wrong;
        self.deaths += other.deaths;
        self.blamed += other.blamed;
    }
}

/// What is no list of the results that are due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wrong {
    /// The last of them is neither good nor bad.
    Broken,
    /// It is no list.
    NoList,
    /// One is missing.
    TooFew,
    /// There is one more.
    TooMany,
    /// It ends inside the last of them.
    Torn,
    /// Something stands behind it.
    Trailing,
}

impl Wrong {
    pub(crate) const ALL: [Self; 6] =
        [Self::Broken, Self::NoList, Self::TooFew, Self::TooMany, Self::Torn, Self::Trailing];
}

/// The results of tasks from `task` on: good ones, but where there is a failure.
pub(super) fn write_results(task: u64, results: &[Option<Failure>], out: &mut Vec<u8>) {
    let most = u32::try_from(results.len()).expect("a number of results");
    let mut list = ResultList::begin(most, out);
    for (task, result) in (task..).zip(results) {
        match result {
            Some(failure) => list.bad(out, failure),
            None => {
                let written = list.good(out, |out| {
                    wire::write_str(out, &task.to_string());
                    Ok::<(), ()>(())
                });
                written.expect("a text can be written");
            }
        }
    }
    list.finish(out);
}

impl World {
    // What children do.

    /// Results of the next tasks of a batch, before the final answer: a failure, or that it is done.
    pub(crate) fn give(&mut self, slot: usize, index: usize, results: &[Option<Failure>]) {
        let task = self.claim(slot, index, results.len());
        self.say(slot, |child, out| {
            begin(child, index, out);
            let job = &mut child.tasks[index];
            job.given += u32::try_from(results.len()).expect("a number of results");
            let mut data = Vec::new();
            write_results(task, results, &mut data);
            child.session.item(job.id, &data, out).expect(RULES);
            child.given.extend((task..).take(results.len()).map(|task| (job.id, task)));
        });
    }

    /// The final answer to a batch, with the results of all tasks that are left.
    pub(crate) fn finish(&mut self, slot: usize, index: usize, results: &[Option<Failure>]) {
        let task = self.child(slot).tasks[index].open().start;
        assert_eq!(self.child(slot).tasks[index].open().count(), results.len());
        self.say_final(slot, index, |child, job, out| {
            child.session.finished(job.id, out, |out| write_results(task, results, out))
        });
    }

    /// The results of the next `count` tasks of a batch, in a frame that is larger than any may be.
    pub(crate) fn give_too_large(&mut self, slot: usize, index: usize, count: u32) {
        self.say(slot, |child, out| {
            begin(child, index, out);
            child.tasks[index].given += count;
            let (id, pid) = (child.tasks[index].id, u64::from(child.pid));
            frame(out, id, "ITEM", pid, |out| wire::write_bin(out, &[0; MAX_FRAME as usize]));
        });
    }

    /// Results of a batch that are none, or not as many as they should be: of the next `count` tasks, or of all that are left.
    pub(crate) fn give_wrong(&mut self, slot: usize, index: usize, part: Option<usize>, wrong: Wrong) {
        let left = self.child(slot).tasks[index].open().count();
        let count = part.unwrap_or(left);
        let task = self.claim(slot, index, count);
        let mut data = Vec::new();
        let due = match wrong {
            Wrong::TooFew => count - 1,
            Wrong::TooMany => left + 1,
            _ => count,
        };
        write_results(task, &vec![None; due], &mut data);
        match wrong {
            Wrong::Broken => {
                // A text of at least one digit is the value of the last.
                let digits = (task + due as u64 - 1).to_string().len();
                let place = data.len() - digits - 2;
                data[place] = 0xc0;
            }
            Wrong::NoList => data = vec![0xc0],
            Wrong::Torn => drop(data.pop()),
            Wrong::Trailing => wire::write_nil(&mut data),
            Wrong::TooFew | Wrong::TooMany => {}
        }
        self.batches.wrong += 1;
        if part.is_none() {
            self.say_final(slot, index, |child, job, out| {
                child.answered.pop();
                child.session.finished(job.id, out, |out| out.extend_from_slice(&data))
            });
        } else {
            let pid = u64::from(self.child(slot).pid);
            self.say(slot, |child, out| {
                begin(child, index, out);
                let id = child.tasks[index].id;
                frame(out, id, "ITEM", pid, |out| out.extend_from_slice(&data));
            });
        }
    }

    /// A worker is about to answer so many tasks of a batch. Gives the first.
    fn claim(&mut self, slot: usize, index: usize, count: usize) -> u64 {
        let (pid, job) = (self.child(slot).pid, self.child(slot).tasks[index]);
        assert!(job.is_batch() && count <= job.open().count());
        for task in job.open().take(count) {
            self.known(task).answered_by = Some((pid, job.id, 0));
        }
        job.open().start
    }

    // What follows for the tasks.

    /// Several tasks go in one frame.
    pub(super) fn note_batch(&mut self, delivery: &Delivery) {
        let Delivery { task, count, attempt, .. } = *delivery;
        if count == 1 {
            return;
        }
        let was_handed = self.known(task).was_handed;
        self.batches.handed += 1;
        self.batches.tasks += count as usize;
        self.batches.largest = self.batches.largest.max(count);
        self.batches.whole_again += usize::from(was_handed);
        assert_eq!(attempt, 1, "tasks {:?} were begun, and go in one frame", delivery.tasks());
        for task in delivery.tasks() {
            let Known { policy, is_of_channel, .. } = self.known(task);
            assert!(*is_of_channel, "task {task} is of no channel");
            let is_exact = policy.at_most_once || !policy.retries_crashes;
            assert!(!is_exact && !policy.tells_key, "task {task} is to go by itself");
            let has_limits = policy.times_attempts() || policy.total_limit().is_some();
            assert!(!has_limits, "task {task} has limits of its own");
        }
    }

    /// The final answer to a batch is read. Gives the tasks that it answers.
    pub(super) fn note_end_of_batch(
        &mut self,
        mut lease: Lease,
        message: &Message<'_>,
        is_whole: bool,
    ) -> Vec<u64> {
        let mut answered = Vec::new();
        // What cannot be read, or not be written, says nothing of any one of them.
        let is_lost = !is_whole || lease.is_doomed;
        if message.request == "FINISHED" && !is_lost {
            answered = self.note_results(&mut lease, message.data);
        } else if !is_lost {
            self.batches.failed += 1;
            let failure = Failure::decode(message.data);
            let is_of_frame = [code::BAD_DATA, code::BAD_MESSAGE, code::TOO_LARGE].contains(&&*failure.code);
            for task in lease.open() {
                self.known(task).lives += u32::from(!is_of_frame && failure.begun != Some(false));
            }
        }
        for task in lease.open() {
            self.known(task).holder = None;
        }
        answered
    }

    /// Results of a batch are read. Gives the tasks that are answered. Good ones in a row count together, or not at all if there
    /// is something between them that cannot be read.
    pub(super) fn note_results(&mut self, lease: &mut Lease, data: &[u8]) -> Vec<u64> {
        let mut answered = Vec::new();
        let Ok(mut results) = Results::decode(data) else { return answered };
        if results.left() > lease.left() {
            return answered;
        }
        while let Ok((count, _)) = results.next_good() {
            answered.extend(lease.open().take(count as usize));
            lease.given += count;
            match results.next_result() {
                Ok(Some(BatchResult::Good(_))) => {
                    answered.extend(lease.open().take(1));
                    lease.given += 1;
                }
                Ok(Some(BatchResult::Bad(failure))) => {
                    let task = lease.open().start;
                    lease.given += 1;
                    self.batches.bad += 1;
                    let known = self.known(task);
                    known.holder = None;
                    known.lives += u32::from(Failure::decode(failure).begun != Some(false));
                }
                Ok(None) | Err(_) => break,
            }
        }
        for task in &answered {
            self.known(*task).holder = None;
        }
        answered
    }

    /// What was read is answered, and nothing else.
    pub(super) fn note_answers(&mut self, due: &[u64]) {
        let answers = std::mem::take(&mut self.post.0);
        let answered: Vec<u64> = answers.iter().map(|(task, _)| *task).collect();
        assert_eq!(answered, due, "each answer that is read counts, for its own task");
        for (task, answer) in answers {
            self.note_end(task, Ok(answer));
        }
    }
}
