//! Poll, waker, pipes: what is reported, when, and what is not.

use super::super::pipe::{ChildPipe, OurEnd};
use super::super::poll::Ready;
use super::*;

fn wait(poll: &Poll, timeout: Duration) -> Vec<Ready> {
    let mut ready = Vec::new();
    poll.wait(Some(timeout), &mut ready).unwrap();
    ready
}

#[test]
fn this_kernel_is_supported() {
    super::super::check_support().unwrap();
    assert_eq!(super::super::current_pid(), std::process::id());
}

#[test]
fn data_room_and_closing_are_told_apart() {
    let pipe = ChildPipe::new(OurEnd::Reading).unwrap();
    let poll = Poll::new().unwrap();
    poll.add(pipe.ours.as_fd(), 1, Interest::Read).unwrap();
    poll.add(pipe.childs.as_fd(), 2, Interest::Room).unwrap();
    let room = Ready { token: 2, readable: false, writable: true, closed: false };
    assert_eq!(wait(&poll, WATCHDOG), [room]);
    assert_eq!(wait(&poll, Duration::ZERO), [], "said once");
    poll.remove(pipe.childs.as_fd()).unwrap();
    write(pipe.childs.as_fd(), b"x").unwrap();
    let data = Ready { token: 1, readable: true, writable: false, closed: false };
    assert_eq!(wait(&poll, WATCHDOG), [data]);
    assert_eq!(wait(&poll, WATCHDOG), [data], "level-triggered");
    drop(pipe.childs);
    assert_eq!(wait(&poll, WATCHDOG), [Ready { closed: true, ..data }]);
    let mut buffer = [0; 8];
    assert_eq!(super::super::read(pipe.ours.as_fd(), &mut buffer).unwrap(), 1);
    assert_eq!(super::super::read(pipe.ours.as_fd(), &mut buffer).unwrap(), 0);
}

#[test]
fn room_is_reported_each_time_it_comes_after_there_was_none() {
    let pipe = ChildPipe::new(OurEnd::Writing).unwrap();
    let poll = Poll::new().unwrap();
    poll.add(pipe.ours.as_fd(), 1, Interest::Room).unwrap();
    let room = Ready { token: 1, readable: false, writable: true, closed: false };
    assert_eq!(wait(&poll, WATCHDOG), [room]);
    for _ in 0..3 {
        let mut full = 0;
        while let Ok(count) = write(pipe.ours.as_fd(), &[0; 10_000]) {
            full += count;
        }
        assert_eq!(wait(&poll, Duration::ZERO), []);
        let mut read = 0;
        while read < full {
            read += rustix::io::read(&pipe.childs, &mut [0; 100_000]).unwrap();
        }
        assert_eq!(wait(&poll, WATCHDOG), [room]);
        assert_eq!(wait(&poll, Duration::ZERO), []);
    }
    drop(pipe.childs);
    assert!(wait(&poll, WATCHDOG)[0].closed);
}

#[test]
fn an_alarm_ends_one_wait_and_can_be_taken_back() {
    let poll = Poll::new().unwrap();
    for after in [Duration::ZERO, Duration::from_millis(20)] {
        poll.set_alarm(Some(after)).unwrap();
        let begun = Instant::now();
        assert_eq!(wait(&poll, WATCHDOG), []);
        assert!(begun.elapsed() >= after && begun.elapsed() < WATCHDOG, "{:?}", begun.elapsed());
    }
    let short = Duration::from_millis(30);
    let begun = Instant::now();
    assert_eq!(wait(&poll, short), []);
    assert!(begun.elapsed() >= short, "it rang twice");
    poll.set_alarm(Some(Duration::from_millis(5))).unwrap();
    poll.set_alarm(None).unwrap();
    let begun = Instant::now();
    assert_eq!(wait(&poll, short), []);
    assert!(begun.elapsed() >= short, "it rang though it was taken back");
}

#[test]
fn an_empty_pipe_would_block_and_a_full_one_too() {
    let reading = ChildPipe::new(OurEnd::Reading).unwrap();
    let error = super::super::read(reading.ours.as_fd(), &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let writing = ChildPipe::new(OurEnd::Writing).unwrap();
    let mut written = 0;
    let error = loop {
        match write(writing.ours.as_fd(), &[0; 10_000]) {
            Ok(count) => written += count,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert!(written > 0);
}

#[test]
fn a_process_is_readable_when_it_has_exited() {
    let child = spawn(command("cat", &[])).unwrap();
    let poll = Poll::new().unwrap();
    poll.add(child.process.pidfd(), 9, Interest::Read).unwrap();
    assert_eq!(wait(&poll, Duration::ZERO), []);
    drop(child.to_child);
    let ready = wait(&poll, WATCHDOG);
    assert_eq!((ready.len(), ready[0].token, ready[0].readable), (1, 9, true));
    poll.remove(child.process.pidfd()).unwrap();
}

#[test]
fn wakes_end_a_wait_and_are_not_reported() {
    let poll = Poll::new().unwrap();
    let waker = poll.waker();
    for _ in 0..3 {
        waker.wake();
        waker.clone().wake();
        let start = Instant::now();
        assert_eq!(wait(&poll, WATCHDOG), []);
        assert!(start.elapsed() < WATCHDOG);
        let start = Instant::now();
        assert_eq!(wait(&poll, Duration::from_millis(3)), [], "a wake counts once");
        assert!(start.elapsed() >= Duration::from_millis(3));
    }
    let from_elsewhere = poll.waker();
    let waking = thread::spawn(move || from_elsewhere.wake());
    let start = Instant::now();
    wait(&poll, WATCHDOG);
    assert!(start.elapsed() < WATCHDOG);
    waking.join().unwrap();
    drop(poll);
    waker.wake();
}

#[test]
fn a_wait_is_never_shorter_than_its_timeout() {
    for coarse in [false, true] {
        let poll = if coarse { Poll::without_nanoseconds() } else { Poll::new() }.unwrap();
        for micros in [1, 300, 999, 1000, 1500, 20_001] {
            let (timeout, start) = (Duration::from_micros(micros), Instant::now());
            assert_eq!(wait(&poll, timeout), []);
            assert!(start.elapsed() >= timeout, "{micros} µs, coarse: {coarse}");
        }
    }
    let poll = Poll::new().unwrap();
    poll.waker().wake();
    wait(&poll, Duration::MAX);
    poll.waker().wake();
    poll.wait(None, &mut Vec::new()).unwrap();
}

#[test]
fn misuse_of_a_poll_is_an_error() {
    let poll = Poll::new().unwrap();
    let pipe = ChildPipe::new(OurEnd::Reading).unwrap();
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    let fd = pipe.ours.as_fd();
    assert_eq!(kind(poll.add(fd, u64::MAX, Interest::Read)), ErrorKind::InvalidInput);
    assert_eq!(kind(poll.remove(fd)), ErrorKind::NotFound);
    poll.add(fd, 1, Interest::Read).unwrap();
    assert_eq!(kind(poll.add(fd, 1, Interest::Read)), ErrorKind::AlreadyExists);
}

#[test]
fn a_vanished_reader_is_an_error_and_not_a_signal() {
    if !alone(module_path!(), "a_vanished_reader_is_an_error_and_not_a_signal") {
        return;
    }
    for handler in [libc::SIG_DFL, libc::SIG_IGN] {
        set_disposition(libc::SIGPIPE, handler);
        let pipe = ChildPipe::new(OurEnd::Writing).unwrap();
        write(pipe.ours.as_fd(), b"x").unwrap();
        drop(pipe.childs);
        let error = write(pipe.ours.as_fd(), b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(status.contains("SigPnd:\t0000000000000000"), "nothing is left pending");
        assert!(status.contains("SigBlk:\t0000000000000000"), "nor blocked");
    }
}
