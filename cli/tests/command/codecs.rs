//! The codecs of the SDKs by the test vectors: the program `vectors` of an SDK reads the table that `conform vectors --tsv` prints. A
//! missing compiler or interpreter is a reason to skip it. (Python and Node read the vectors themselves: `tests/suite`.)

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{Dir, Run, STOKEHOLD, within};

fn sdks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("sdks")
}

/// Whether there is such a program; if not, that is said.
fn runs(program: &str) -> bool {
    let version = Command::new(program).arg("-v").output();
    if version.is_err() {
        eprintln!("skipped: there is no {program}");
    }
    version.is_ok()
}

/// The program of each SDK that can be run here, made in that directory.
fn programs(dir: &Dir) -> Vec<Vec<String>> {
    let mut programs = Vec::new();
    let source = |name: &str| sdks().join(name).to_str().unwrap().to_owned();
    if runs("cc") {
        let made = dir.path("vectors");
        let options = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread", "-g", "-o", &made];
        let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"];
        let compiled =
            Command::new("cc").args(options).args(sanitizers).arg(source("c/vectors.c")).output().unwrap();
        let said = String::from_utf8_lossy(&compiled.stderr);
        if said.contains("cannot find") {
            eprintln!("skipped: this cc has no sanitizers");
        } else {
            assert!(compiled.status.success(), "{said}");
            programs.push(vec![made]);
        }
    }
    if runs("javac") && runs("java") {
        let classes = dir.path("classes");
        let sources = [source("java/StokeholdWorker.java"), source("java/Vectors.java")];
        let compiled =
            Command::new("javac").args(["--release", "11", "-d", &classes]).args(sources).output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        programs.push(["java", "-cp", &classes, "Vectors"].map(str::to_owned).to_vec());
    }
    if runs("perl") {
        programs.push(vec!["perl".to_owned(), source("perl/vectors.pl")]);
    }
    programs
}

#[test]
fn the_codecs_in_c_java_and_perl_judge_and_write_each_message_as_its_vector_says() {
    within(|| {
        let dir = Dir::new("codecs");
        let programs = programs(&dir);
        let table = dir.path("table.tsv");
        // Not through this process: the table has 100 MB.
        let printed = Command::new(STOKEHOLD)
            .args(["conform", "vectors", "--tsv"])
            .stdout(File::create(&table).unwrap())
            .status();
        assert!(printed.unwrap().success());
        for program in &programs {
            let read = Run::of(&program[0], program[1..].iter().chain([&table])).feed("").expect_code(0);
            // Java's standard output is standard error, once the SDK is loaded.
            let said = format!("{}{}", read.text(), read.stderr);
            assert!(said.contains(" messages, 0 wrong"), "{program:?}: {said}");
        }

        // Each notices what is not as the table says.
        let good = ["X1.1", "accept", "data", "frames", "000000090000000794a2444f01c001", "[]", "D-8", "01"];
        let differing = [
            (1, "reject", "the data is accepted"),
            (7, "02", "the data is written otherwise"),
            (4, "000000090000000794a2444f01c0c1", "the data is refused"),
            (4, "000000090000000793a2444f01c001", "the head is refused"),
        ];
        for (field, value, complaint) in differing {
            let mut wrong = good;
            wrong[field] = value;
            let lines = [good, wrong].map(|fields| fields.join("\t") + "\n").concat();
            let table = dir.file("wrong.tsv", lines);
            for program in &programs {
                let read = Run::of(&program[0], program[1..].iter().chain([&table])).feed("").expect_code(1);
                let said = format!("{}{}", read.text(), read.stderr);
                assert!(said.contains("2 messages, 1 wrong"), "{program:?}: {said}");
                assert!(said.contains(complaint), "{program:?}: {said}");
            }
        }
    });
}
