//! What a started child has: its descriptors, environment, directory, name, signals and group; and nothing else.

use std::os::fd::AsFd;
use std::thread;

use super::*;

#[test]
fn protocol_on_standard_input_and_output() {
    let child = spawn(sh("read line; echo got $line; echo aside >&2")).unwrap();
    write(child.to_child.as_fd(), b"hello\n").unwrap();
    assert_eq!(read_to_end(&child.from_child), "got hello\n");
    assert_eq!(read_to_end(&child.stderr), "aside\n");
}

#[test]
fn protocol_on_three_and_four_leaves_output_for_people() {
    let mut command =
        sh("read line <&3; echo got $line >&4; echo out; echo err >&2; read x || echo null input");
    command.io = ChildIo::Fds;
    let child = spawn(command).unwrap();
    write(child.to_child.as_fd(), b"hello\n").unwrap();
    assert_eq!(read_to_end(&child.from_child), "got hello\n");
    assert_eq!(read_to_end(&child.stderr), "out\nerr\nnull input\n");
}

#[test]
fn no_other_descriptor_reaches_the_child() {
    // Not close-on-exec, as a careless host would leave it.
    let careless = rustix::io::dup(io::stderr()).unwrap();
    let child = spawn(sh("ls /proc/$$/fd; true")).unwrap();
    assert_eq!(read_to_end(&child.from_child), "0\n1\n2\n");
    let mut command = sh("exec ls /proc/self/fd >&4");
    command.io = ChildIo::Fds;
    let child = spawn(command).unwrap();
    // The last is the listing's own.
    assert_eq!(read_to_end(&child.from_child), "0\n1\n2\n3\n4\n5\n");
    drop(careless);
}

#[test]
fn a_sibling_does_not_hold_a_childs_input_open() {
    let (first, second) = (spawn(command("cat", &[])).unwrap(), spawn(command("cat", &[])).unwrap());
    drop(first.to_child);
    wait_exit(&first.process);
    assert!(!second.process.has_exited());
    drop(second.to_child);
    wait_exit(&second.process);
}

#[test]
fn our_ends_do_not_block_and_the_childs_do() {
    use rustix::fs::{OFlags, fcntl_getfl};
    use rustix::io::{FdFlags, fcntl_getfd};
    let child =
        spawn(sh("read x; grep -h flags /proc/self/fdinfo/0 /proc/self/fdinfo/1 /proc/self/fdinfo/2"))
            .unwrap();
    for fd in [&child.to_child, &child.from_child, &child.stderr] {
        assert!(fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK));
        assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
    }
    write(child.to_child.as_fd(), b"\n").unwrap();
    for line in read_to_end(&child.from_child).lines() {
        let flags = u32::from_str_radix(line.split_whitespace().last().unwrap(), 8).unwrap();
        assert_eq!(flags & OFlags::NONBLOCK.bits(), 0, "{line}");
    }
}

#[test]
fn environment_is_exactly_what_was_given() {
    let mut command = command("env", &[]);
    command.env.push(("GREETING".into(), "hello world".into()));
    let child = spawn(command).unwrap();
    assert_eq!(read_to_end(&child.from_child), "PATH=/usr/local/bin:/usr/bin:/bin\nGREETING=hello world\n");
}

#[test]
fn directory_and_name_are_as_asked() {
    let mut command = sh("pwd; echo $0; tr '\\0' ' ' < /proc/$$/cmdline");
    command.cwd = Some("/proc".into());
    command.arg0 = Some("sh-by-another-name".into());
    command.args.push("zero".into());
    let child = spawn(command).unwrap();
    let output = read_to_end(&child.from_child);
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[..2], ["/proc", "zero"]);
    assert!(lines[2].starts_with("sh-by-another-name -c "), "{output}");
}

#[test]
fn relative_program_is_relative_to_the_childs_directory() {
    let mut command = command("./sh", &["-c", "echo here"]);
    command.cwd = Some("/bin".into());
    assert_eq!(read_to_end(&spawn(command).unwrap().from_child), "here\n");
    let mut command = self::command("sh", &["-c", "echo there"]);
    command.env = vec![("PATH".into(), "bin".into())];
    command.cwd = Some("/usr".into());
    assert_eq!(read_to_end(&spawn(command).unwrap().from_child), "there\n");
}

#[test]
fn this_program_can_start_itself() {
    let child = spawn(command(super::super::SELF_EXE, &["--list", "--exact", "no-such-test"])).unwrap();
    assert!(read_to_end(&child.from_child).contains("0 tests"));
}

#[test]
fn signals_are_at_their_defaults_and_unblocked() {
    if !alone(module_path!(), "signals_are_at_their_defaults_and_unblocked") {
        return;
    }
    for signal in [libc::SIGHUP, libc::SIGPIPE, libc::SIGTERM, libc::SIGUSR1, libc::SIGTSTP, libc::SIGRTMIN()]
    {
        set_disposition(signal, libc::SIG_IGN);
    }
    let child = spawn(command("grep", &["-E", "^Sig(Blk|Ign|Pnd)", "/proc/self/status"])).unwrap();
    let zero = "0000000000000000";
    assert_eq!(
        read_to_end(&child.from_child),
        format!("SigPnd:\t{zero}\nSigBlk:\t{zero}\nSigIgn:\t{zero}\n")
    );
}

#[test]
fn each_child_leads_a_group_of_its_own() {
    let child = spawn(sh("cut -d' ' -f5 /proc/$$/stat; read wait")).unwrap();
    assert_eq!(read_line(&child.from_child), child.process.pid().to_string());
}

#[test]
fn a_child_outlives_the_thread_that_asked_for_it() {
    let child = thread::spawn(|| spawn(command("cat", &[])).unwrap()).join().unwrap();
    write(child.to_child.as_fd(), b"still here\n").unwrap();
    assert_eq!(read_line(&child.from_child), "still here");
}

#[test]
fn many_starts_from_many_threads_all_succeed() {
    let threads: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(|| {
                for _ in 0..25 {
                    let mut child = spawn(command("true", &[])).unwrap();
                    wait_exit(&child.process);
                    assert!(child.process.reap().status.unwrap().success());
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(Spawner::get().unwrap().has_guardian());
}

#[test]
fn low_numbers_of_the_host_are_no_obstacle() {
    if !alone(module_path!(), "low_numbers_of_the_host_are_no_obstacle") {
        return;
    }
    close_standard_descriptors();
    for _ in 0..3 {
        let child = spawn(sh("read x <&3; echo $x >&4; echo note; ls /proc/$$/fd")).map(|_| ());
        assert!(child.is_ok());
        let mut command = sh("read x <&3; echo $x >&4; echo note");
        command.io = ChildIo::Fds;
        let child = spawn(command).unwrap();
        write(child.to_child.as_fd(), b"through\n").unwrap();
        assert_eq!(read_to_end(&child.from_child), "through\n");
        assert_eq!(read_to_end(&child.stderr), "note\n");
    }
}

/// So that the next descriptors get the numbers 0, 1 and 2.
#[expect(unsafe_code, reason = "there is no safe way to close a descriptor by number")]
fn close_standard_descriptors() {
    for fd in 0..3 {
        // SAFETY: this process is alone with this test, and nothing in it uses them until it ends.
        unsafe { libc::close(fd) };
    }
}
