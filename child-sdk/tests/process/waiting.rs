//! Answers that wait for each other behind tiny handlers do not wait for a long one, in a real process with its monitor.

use std::fs;
use std::path::PathBuf;

use crate::support::{Worker, frame, test_worker};

/// Enough that most of them come after the proof that handlers are tiny; all of them and their answers fit a pipe.
const TINY_TASKS: u32 = 3000;

/// The task that takes long.
const LONG: u32 = TINY_TASKS + 1;

const NIL: &[u8] = &[0xc0];

/// The data of CREDIT, saying whether the worker answers before it goes on.
const NOT_SERIAL: &[u8] = b"\x81\xa6serial\xc2";
const SERIAL: &[u8] = b"\x81\xa6serial\xc3";

/// A file that is not there yet. Dropping this removes it.
struct Signal(PathBuf);

impl Signal {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stokehold-child-{}-{name}", std::process::id()));
        Self(path)
    }

    fn give(&self) {
        fs::write(&self.0, "").unwrap();
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn tiny_tasks_then(long: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = (1..=TINY_TASKS).flat_map(|id| frame(id, "DO", NIL)).collect();
    bytes.extend_from_slice(long);
    bytes
}

/// Plays a round until answers were held back in one: on a machine that is very busy not every handler is tiny.
fn until_held_back(mut round: impl FnMut() -> bool) {
    assert!((0..20).any(|_| round()), "answers never wait for each other");
}

#[test]
fn answers_of_tiny_tasks_arrive_while_the_long_one_behind_them_runs() {
    until_held_back(|| {
        let signal = Signal::new("answers-arrive");
        let path = rmp_serde::to_vec(&signal.0).unwrap();
        let mut worker = Worker::ready(test_worker());
        worker.send_bytes(&tiny_tasks_then(&frame(LONG, "await_file", &path)));
        let mut serial = true;
        for expected in 1..=TINY_TASKS {
            let mut answer = worker.receive().unwrap();
            while answer.request == "CREDIT" {
                assert_eq!(answer.data, if serial { NOT_SERIAL } else { SERIAL });
                serial = !serial;
                answer = worker.receive().unwrap();
            }
            assert_eq!((answer.request.as_str(), answer.id), ("FINISHED", expected));
        }
        // All are here, and the long one waits for this.
        signal.give();
        assert_eq!(worker.expect("FINISHED").id, LONG);
        if !serial {
            assert_eq!(worker.expect("CREDIT").data, SERIAL);
        }
        worker.finish();
        !serial
    });
}

#[test]
fn what_a_handler_says_comes_behind_the_answers_that_wait() {
    until_held_back(|| {
        let mut worker = Worker::ready(test_worker());
        worker.send_bytes(&tiny_tasks_then(&frame(LONG, "talk_and_hang", NIL)));
        let (mut answered, mut serial) = (0, true);
        let said = loop {
            let said = worker.receive().unwrap();
            match said.request.as_str() {
                "FINISHED" => answered += 1,
                "CREDIT" => serial = said.data == SERIAL,
                _ => break said,
            }
        };
        assert_eq!((said.request.as_str(), said.id, answered), ("ITEM", LONG, TINY_TASKS));
        worker.kill();
        !serial
    });
}
