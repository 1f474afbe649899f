//! The parent's half against every order of frames from a child that keeps no rules. Random ones are in `properties`.

use stokehold_protocol::{ParentEvent, ParentSession};

use crate::sessions::{body, parent_hello};

/// Frames legal and illegal, with the ids that the first tasks get.
fn childs_frames() -> Vec<(u32, Vec<u8>)> {
    let hello = b"\x82\xa1v\x01\xa6window\x02";
    vec![
        (0, body("HELLO", hello)),
        (0, body("HELLO", b"\x81\xa5ready\xc3")),
        (0, body("HELLO", b"\x83\xa1v\x01\xa6window\x02\xa5ready\xc3")),
        (0, body("READY", b"\xc0")),
        (0, body("CREDIT", b"\x81\xa6window\x00")),
        (1, body("FINISHED", b"\xc0")),
        (2, body("FINISHED", b"\xc1")),
        (0, body("FINISHED", b"\xc0")),
        (1, body("FAILED", b"\xa4oops")),
        (0, body("FAILED", b"\x80")),
        (2, body("ITEM", b"\x01")),
        (1, body("PROGRESS", b"\x01")),
        (9, body("STARTED", b"\xc0")),
        (5, body("DO", b"\xc0")),
        (0, body("BYE", b"\xc0")),
        (1, body("DIE", b"\xc0")),
        (0, body("FUTURE", b"\xc0")),
        (1, b"\x93\x01\x02\x03".to_vec()),
        (3, Vec::new()),
    ]
}

#[derive(Clone)]
struct Hostile {
    parent: ParentSession<u32>,
    begun: u32,
    answered: u32,
    ended: bool,
}

impl Hostile {
    /// Takes a frame as it is, or only its head, as of a frame that was too large.
    fn take(&mut self, id: u32, body: &[u8], too_large: bool) {
        let answered = if too_large {
            self.parent.handle_too_large(id, body).ok().flatten()
        } else {
            match self.parent.handle_frame(id, body) {
                Ok(ParentEvent::Finished { ticket, .. } | ParentEvent::Failed { ticket, .. }) => Some(ticket),
                Ok(ParentEvent::Bye) => {
                    self.ended = true;
                    None
                }
                _ => None,
            }
        };
        if let Some(ticket) = answered {
            assert!(!self.ended, "nothing is answered after BYE");
            assert_eq!(self.answered & (1 << ticket), 0, "task {ticket} is answered once");
            self.answered |= 1 << ticket;
        }
        while let Ok(id) = self.parent.begin(self.begun) {
            assert!(id != 0 && !self.ended);
            self.begun += 1;
        }
        assert_eq!(self.begun, self.answered.count_ones() + self.parent.open_count());
    }
}

fn every_order(hostile: &Hostile, frames: &[(u32, Vec<u8>)], depth: usize, orders: &mut u64) {
    for (id, body) in frames {
        for too_large in [false, true] {
            let mut next = hostile.clone();
            next.take(*id, body, too_large);
            *orders += 1;
            if depth > 1 {
                every_order(&next, frames, depth - 1, orders);
            }
        }
    }
}

#[test]
fn a_childs_frames_in_any_order_never_answer_twice_or_panic() {
    let start = Hostile { parent: ParentSession::new(parent_hello()), begun: 0, answered: 0, ended: false };
    let mut greeted = start.clone();
    greeted.take(0, &body("HELLO", b"\x83\xa1v\x01\xa6window\x02\xa5ready\xc3"), false);
    let mut orders = 0;
    // From the very beginning, and with two tasks open; each frame whole, and as the head of one that was too large.
    every_order(&start, &childs_frames(), 3, &mut orders);
    every_order(&greeted, &childs_frames(), 3, &mut orders);
    let whole: Vec<(u32, Vec<u8>)> = childs_frames().into_iter().step_by(2).collect();
    every_order(&greeted, &whole, 4, &mut orders);
    println!("{orders} orders of a child's frames");
    assert!(orders > 200_000, "{orders}");
}

#[test]
fn every_order_of_six_frames_with_tasks_open_is_survived() {
    let frames: Vec<(u32, Vec<u8>)> =
        childs_frames().into_iter().filter(|(_, body)| body.len() > 4).collect();
    let mut start =
        Hostile { parent: ParentSession::new(parent_hello()), begun: 0, answered: 0, ended: false };
    start.take(0, &body("HELLO", b"\x83\xa1v\x01\xa6window\x02\xa5ready\xc3"), false);
    let mut orders = 0_u64;
    let mut stack = vec![(start, 0)];
    while let Some((hostile, depth)) = stack.pop() {
        for (id, body) in frames.iter().skip(3).step_by(2) {
            let mut next = hostile.clone();
            next.take(*id, body, false);
            orders += 1;
            if depth < 5 {
                stack.push((next, depth + 1));
            }
        }
    }
    println!("{orders} orders of up to six frames");
    assert!(orders > 100_000, "{orders}");
}
