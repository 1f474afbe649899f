//! The demonstration counts right, and a worker was killed on the way.

use crate::support::{Dir, Run, within};

#[test]
fn the_files_of_a_directory_are_counted_although_a_worker_was_killed() {
    within(|| {
        let dir = Dir::new("demo");
        dir.file("a.txt", "stoke stoke stoke\nhold\n");
        dir.file("deep/below/b.txt", "Stoke the hold");
        dir.file("deep/many.txt", "hold fire\n".repeat(30_000));
        dir.file(".hidden/c.txt", "hidden");
        dir.file(".d.txt", "hidden");
        dir.file("target/e.txt", "target");
        dir.file("f.bin", b"\xff\xfe binary");
        std::os::unix::fs::symlink(dir.path("a.txt"), dir.path("link.txt")).unwrap();
        std::os::unix::fs::symlink(&dir.0, dir.path("deep/loop")).unwrap();
        for jobs in ["1", "3"] {
            let finished = Run::new(["demo", "-j", jobs, dir.0.to_str().unwrap()]).feed("").expect_code(0);
            let text = finished.text();
            assert!(text.contains("files 3, lines 30 003, words 60 007, bytes 300 037"), "{text}");
            assert!(
                text.contains("30 002  hold") && text.contains("4  stoke") && text.contains("1  the"),
                "{text}"
            );
            assert!(text.contains("with SIGKILL while it had task 1"), "{text}");
            assert!(text.contains("Task 1 ran again: attempt 2 was answered by worker"), "{text}");
            assert!(
                !text.contains("hidden") && !text.contains("target") && !text.contains('\u{1b}'),
                "{text}"
            );
        }
    });
}

#[test]
fn a_directory_without_text_has_a_built_in_one() {
    within(|| {
        let dir = Dir::new("demo-empty");
        dir.file("empty.txt", "");
        let finished = Run::new(["demo", dir.0.to_str().unwrap()]).feed("").expect_code(0);
        assert!(finished.text().contains("built-in text"), "{}", finished.text());
        assert!(finished.text().contains("SIGKILL"), "{}", finished.text());
    });
}
