//! Starts that fail: the stage, the words, and that nothing is left behind.

use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::failure::SpawnStage;
use super::*;

#[test]
fn missing_programs_say_whether_path_was_searched() {
    let error = spawn(command("no-such-program", &[])).unwrap_err();
    assert_eq!(error.stage, SpawnStage::FindProgram);
    assert_eq!(
        error.to_string(),
        "program \"no-such-program\" not found: searched PATH \"/usr/local/bin:/usr/bin:/bin\"; \
         give a path with a slash, or correct PATH"
    );
    let error = spawn(command("/no/such/program", &[])).unwrap_err();
    assert_eq!(error.stage, SpawnStage::FindProgram);
    assert!(error.to_string().ends_with("PATH was not searched"), "{error}");
    assert_eq!(spawn(command("", &[])).unwrap_err().stage, SpawnStage::FindProgram);
}

#[test]
fn path_is_the_childs() {
    let mut command = command("sh", &[]);
    command.env = vec![("PATH".into(), "/nowhere".into())];
    assert!(spawn(command).unwrap_err().to_string().contains("\"/nowhere\""));
}

#[test]
fn files_that_cannot_run_say_why() {
    let files = Files::new("cannot-run");
    let plain = files.write("plain", "#!/bin/sh\n", 0o644);
    let error = spawn(command(&plain, &[])).unwrap_err();
    assert_eq!(error.stage, SpawnStage::Execute);
    assert!(error.to_string().contains("not executable"), "{error}");

    let mut by_name = command("plain", &[]);
    by_name.env = vec![("PATH".into(), files.0.clone().into())];
    let error = spawn(by_name).unwrap_err();
    assert_eq!(error.stage, SpawnStage::FindProgram);
    assert!(error.to_string().contains("not executable"), "{error}");

    let nonsense = files.write("nonsense", "no magic here", 0o755);
    let error = spawn(command(&nonsense, &[])).unwrap_err();
    assert!(error.to_string().ends_with("exec format error: no #! line or wrong architecture"), "{error}");

    let orphan = files.write("orphan", "#!/no/such/interpreter\n", 0o755);
    let error = spawn(command(&orphan, &[])).unwrap_err();
    assert_eq!(error.stage, SpawnStage::Interpreter);

    assert!(spawn(command("/", &[])).unwrap_err().to_string().contains("not executable"));
}

#[test]
fn missing_directory_is_named() {
    let mut command = sh("true");
    command.cwd = Some("/no/such/directory".into());
    let error = spawn(command).unwrap_err();
    assert_eq!(error.stage, SpawnStage::ChangeDirectory);
    assert!(error.to_string().contains("\"/no/such/directory\""), "{error}");
}

#[test]
fn nul_bytes_and_bad_names_are_refused() {
    let nul = || OsString::from_vec(b"a\0b".to_vec());
    let with = |change: fn(&mut SpawnCommand, OsString)| {
        let mut command = sh("true");
        change(&mut command, nul());
        spawn(command).unwrap_err()
    };
    for error in [
        with(|command, nul| command.program = nul),
        with(|command, nul| command.arg0 = Some(nul)),
        with(|command, nul| command.args.push(nul)),
        with(|command, nul| command.env.push((nul, "x".into()))),
        with(|command, nul| command.env.push(("x".into(), nul))),
        with(|command, nul| command.cwd = Some(nul.into())),
        with(|command, _| command.env.push(("a=b".into(), "x".into()))),
        with(|command, _| command.env.push(("".into(), "x".into()))),
    ] {
        assert_eq!(error.stage, SpawnStage::Argument, "{error}");
    }
}

#[test]
fn arguments_too_long_for_the_system_are_reported() {
    let error = spawn(command("/bin/sh", &[&"x".repeat(1 << 20)])).unwrap_err();
    assert_eq!((error.stage, error.error.raw_os_error()), (SpawnStage::Execute, Some(libc::E2BIG)));
}

#[test]
fn failed_starts_leave_nothing_behind() {
    if !alone(module_path!(), "failed_starts_leave_nothing_behind") {
        return;
    }
    let spawner = Spawner::get().unwrap();
    let before = open_descriptors();
    for _ in 0..50 {
        spawn(command("/no/such/program", &[])).unwrap_err();
        let mut command = sh("true");
        command.cwd = Some("/no/such/directory".into());
        spawn(command).unwrap_err();
    }
    assert_eq!(open_descriptors(), before);
    assert_eq!(children(), [spawner.guardian_pid().unwrap()]);
}

#[test]
fn running_out_of_descriptors_is_typed_at_every_step() {
    if !alone(module_path!(), "running_out_of_descriptors_is_typed_at_every_step") {
        return;
    }
    let spawner = Spawner::get().unwrap();
    // With the low numbers taken, no descriptor has to be moved up, which would leave room for a later step.
    let taken: Vec<_> = (0..10).map(|_| rustix::io::dup(io::stderr()).unwrap()).collect();
    let (before, limit) = (open_descriptors(), getrlimit(Resource::Nofile));
    let mut stages = Vec::new();
    for room in 0..20 {
        // The listing itself had one descriptor more than there are.
        let current = Some(before as u64 - 1 + room);
        setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum }).unwrap();
        let mut command = sh("true");
        command.io = ChildIo::Fds;
        let result = spawn(command);
        setrlimit(Resource::Nofile, limit).unwrap();
        match result {
            Ok(child) => drop(child),
            Err(error) => stages.push(error.stage),
        }
        assert_eq!(open_descriptors(), before, "with room for {room}");
        assert_eq!(children(), [spawner.guardian_pid().unwrap()]);
    }
    for stage in [SpawnStage::Pipe, SpawnStage::NullDevice, SpawnStage::Clone] {
        assert!(stages.contains(&stage), "{stage:?} in {stages:?}");
    }
    assert!(stages.len() < 20, "with enough room it starts");
    drop(taken);
}

/// A directory that goes away with the test.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("stokehold-sys-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
