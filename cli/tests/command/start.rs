//! Workers that cannot be started: exit code 3, and a text that says why and what to do.

use crate::support::{Dir, Finished, Run, within};

fn start(command: &[&str]) -> Finished {
    Run::new([&["run", "-j", "2", "--"], command].concat()).feed("a\n").expect_code(3)
}

#[test]
fn a_missing_program_is_named() {
    within(|| {
        let finished = start(&["no-such-program-anywhere"]);
        assert!(
            finished.stderr.contains("no-such-program-anywhere") && finished.stderr.contains("not found")
        );
        assert!(finished.stderr.contains("hint:"), "{}", finished.stderr);
        assert_eq!(finished.text(), "");
    });
}

#[test]
fn a_program_without_permission_is_named() {
    within(|| {
        let dir = Dir::new("not-executable");
        let file = dir.file("worker.sh", "#!/bin/sh\n");
        let finished = start(&[&file]);
        assert!(
            finished.stderr.contains("worker.sh") && finished.stderr.contains("chmod +x"),
            "{}",
            finished.stderr
        );
    });
}

#[test]
fn a_program_that_exits_is_told_with_its_status_and_last_words() {
    within(|| {
        let finished = start(&["sh", "-c", "echo no licence >&2; exit 9"]);
        assert!(finished.stderr.contains("exited with code 9"), "{}", finished.stderr);
        assert!(finished.stderr.contains("no licence"), "{}", finished.stderr);
    });
}

#[test]
fn text_where_frames_belong_is_quoted() {
    within(|| {
        let finished = start(&["sh", "-c", "echo Loading the model; exec sleep 1000"]);
        assert!(finished.stderr.contains("wrote text where a frame was expected"), "{}", finished.stderr);
        assert!(finished.stderr.contains("Loading the model"), "{}", finished.stderr);
    });
}
