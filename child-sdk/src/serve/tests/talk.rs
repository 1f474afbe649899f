//! What a handler says and is told while it runs, in memory: there is no monitor, so what comes by itself is in `tests/`.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

fn names(answers: &[Answer]) -> Vec<(&str, u32)> {
    answers.iter().map(|answer| (answer.request.as_str(), answer.id)).collect()
}

/// A worker with one handler and no state.
fn one<'h, F>(handler: F) -> Worker<'h, ()>
where
    F: FnMut(u64, &mut Ctx) -> Result<u64, Box<dyn Error + Send + Sync>> + 'h,
{
    let mut handler = handler;
    Worker::new(|_: &mut Init| Ok::<(), io::Error>(()))
        .on(Request::<u64, u64>::DO, move |(), n, ctx| handler(n, ctx))
}

fn meta(id: u32, meta: &Meta) -> Vec<u8> {
    let mut data = Vec::new();
    meta.encode(&mut data);
    frame(id, "META", &data)
}

fn hello(capabilities: Capabilities) -> Vec<u8> {
    let hello = ParentHello { version: 1, pid: 7, parent: 3, capabilities, max_frame: 65_536, spin: true };
    let mut data = Vec::new();
    hello.encode(&mut data);
    frame(0, "HELLO", &data)
}

#[test]
fn items_progress_and_log_come_in_order_before_the_answer() {
    let worker = one(|n, ctx| {
        for item in 0..n {
            ctx.item(&item)?;
        }
        ctx.item_data(&Data::text("last"))?;
        ctx.log(Level::Warn, format_args!("{n} items"));
        for done in 0..=100 {
            ctx.progress(done, Some(100), Some("counting"));
        }
        Ok(n)
    });
    let (answers, ended) = run(worker, Script::whole([task(4, "DO", &3), task(5, "DO", &0)].concat()));
    assert!(ended.is_ok());
    let expected = ["ITEM", "ITEM", "ITEM", "ITEM", "LOG", "PROGRESS", "PROGRESS", "FINISHED"];
    let of = |id: u32| answers.iter().filter(|answer| answer.id == id).collect::<Vec<_>>();
    assert_eq!(of(4).iter().map(|answer| answer.request.as_str()).collect::<Vec<_>>(), expected);
    assert_eq!(of(4)[2].data, [2]);
    assert_eq!(
        LogLine::decode(&of(4)[4].data),
        LogLine { level: "warn".to_owned(), message: "3 items".to_owned() }
    );
    let progress = |answer: &Answer| Progress::decode(&answer.data);
    assert_eq!(progress(of(4)[5]).done, Some(0.0), "the first at once");
    let last = Progress { done: Some(100.0), total: Some(100.0), note: Some("counting".to_owned()) };
    assert_eq!(progress(of(4)[6]), last, "the last before the answer");
    assert_eq!(of(5).len(), 5, "the limit is each task's own");
}

#[test]
fn an_item_is_written_while_its_handler_runs() {
    let tape = Tape::default();
    let seen = tape.clone();
    let worker = one(move |n, ctx| {
        ctx.item(&n)?;
        assert_eq!(seen.frames().last().map(|frame| frame.request.clone()), Some("ITEM".to_owned()));
        Ok(n)
    });
    run_to(worker, Script::whole(task(1, "DO", &1)), tape.clone()).unwrap();
    assert_eq!(names(&tape.frames())[2..4], [("ITEM", 1), ("FINISHED", 1)]);
}

#[test]
fn an_item_that_cannot_be_sent_is_an_error_and_the_next_one_goes() {
    let worker = one(|n, ctx| {
        let too_large = ctx.item(&"x".repeat(70_000)).unwrap_err();
        assert!(too_large.is_too_large() && !too_large.is_bad_data(), "{too_large}");
        let bad = ctx.item(&std::collections::BTreeMap::from([(1, 2)])).unwrap_err();
        assert!(bad.is_bad_data(), "{bad}");
        ctx.item("fine")?;
        if n == 1 { Err(too_large.into()) } else { Err(bad.into()) }
    });
    let input = [hello(Capabilities::NONE), task(1, "DO", &1), task(2, "DO", &2)].concat();
    let (answers, _) = run(worker, Script::whole(input));
    assert_eq!(names(&answers)[2..6], [("ITEM", 1), ("FAILED", 1), ("ITEM", 2), ("FAILED", 2)]);
    assert_eq!(
        (answers[3].failure().code, answers[5].failure().code),
        ("too_large".into(), "bad_data".into())
    );
}

#[test]
fn a_one_way_request_sends_nothing_but_log_lines() {
    let worker = one(|n, ctx| {
        ctx.item(&n)?;
        ctx.progress(1, None, None);
        ctx.log(Level::Info, "heard");
        Ok(n)
    });
    let (answers, ended) = run(worker, Script::whole(frame(0, "DO", &[7])));
    assert!(ended.is_ok());
    assert_eq!(names(&answers)[2..], [("LOG", 0), ("BYE", 0)]);
}

#[test]
fn long_texts_are_cut_so_that_they_fit_the_smallest_frame() {
    let worker = one(|n, ctx| {
        let long = "ü".repeat(1 << 20);
        ctx.log(Level::Error, &long);
        ctx.progress(1, None, Some(&long));
        Ok(n)
    });
    let (answers, _) = run(worker, Script::whole([hello(Capabilities::NONE), task(1, "DO", &1)].concat()));
    assert_eq!(names(&answers)[2..5], [("LOG", 1), ("PROGRESS", 1), ("FINISHED", 1)]);
}

#[test]
fn the_start_can_say_what_it_is_at() {
    let worker = Worker::new(|init: &mut Init| {
        init.progress("loading");
        init.progress("still loading");
        Ok::<(), io::Error>(())
    })
    .on_raw("DO", |(), _, _| Ok::<_, io::Error>(Data::nil()));
    let (answers, _) = run(worker, Script::whole(Vec::new()));
    assert_eq!(names(&answers), [("HELLO", 0), ("PROGRESS", 0), ("PROGRESS", 0), ("READY", 0), ("BYE", 0)]);
    assert_eq!(Progress::decode(&answers[2].data).note.as_deref(), Some("still loading"));
}

#[test]
fn a_handler_knows_deadline_and_key_of_its_own_task_only() {
    let worker = one(|n, ctx| {
        let left = ctx.time_left();
        match n {
            1 => {
                assert_eq!(ctx.key(), Some("k-1"));
                assert!(
                    left.is_some_and(|left| left <= Duration::from_secs(60) && left > Duration::from_secs(1))
                );
                assert!(ctx.deadline().is_some_and(|deadline| deadline > Instant::now()));
            }
            2 => assert_eq!(left, Some(Duration::ZERO)),
            4 => assert!(left.is_some_and(|left| left > Duration::from_secs(1 << 40))),
            _ => assert_eq!((ctx.key(), left), (None, None)),
        }
        Ok(n)
    });
    let told = Meta { deadline_ms: Some(60_000), key: Some("k-1".to_owned()), ..Meta::default() };
    let late = Meta { deadline_ms: Some(0), ..Meta::default() };
    let endless = Meta { deadline_ms: Some(u64::MAX), ..Meta::default() };
    let input = [
        [meta(1, &told), task(1, "DO", &1)].concat(),
        [meta(2, &late), task(2, "DO", &2)].concat(),
        [meta(3, &endless), task(3, "DO", &4)].concat(),
        task(4, "DO", &3),
    ];
    let (answers, _) = run(worker, Script::whole(input.concat()));
    assert_eq!(answers.iter().filter(|answer| answer.request == "FINISHED").count(), 4, "{answers:?}");
}

#[test]
fn started_goes_before_each_handler_in_one_write_with_the_answer_before_it() {
    let tape = Tape::default();
    let mut input = hello(Capabilities::NONE.with(Capability::Started));
    // More than answers need to prove that they may wait.
    input.extend((1..=3000u32).flat_map(|id| task(id, "DO", &id)));
    run_to(worker(), Script::whole(input), tape.clone()).unwrap();
    let writes = std::mem::take(&mut *tape.0.lock().unwrap());
    let writes: Vec<Vec<(String, u32)>> = writes
        .into_iter()
        .map(|write| Tape(Arc::new(Mutex::new(vec![write]))).frames())
        .map(|frames| frames.into_iter().map(|frame| (frame.request, frame.id)).collect())
        .collect();
    assert_eq!(writes[2], [("STARTED".to_owned(), 1)]);
    for (write, id) in writes[3..].iter().zip(2..=3000) {
        assert_eq!(write[..], [("FINISHED".to_owned(), id - 1), ("STARTED".to_owned(), id)]);
    }
    assert_eq!(writes.len(), 2 + 3000 + 2);
}

#[test]
fn without_both_sides_wish_there_is_no_started() {
    for capabilities in [Capabilities::NONE, Capabilities::NONE.with(Capability::Meta)] {
        let input = [hello(capabilities), task(1, "DO", &1)].concat();
        let (answers, _) = run(worker(), Script::whole(input));
        assert_eq!(names(&answers), [("HELLO", 0), ("READY", 0), ("FINISHED", 1), ("BYE", 0)]);
    }
}

#[test]
fn a_task_cancelled_while_it_waits_never_begins_and_its_neighbours_do() {
    let input = [
        task(1, "add", &1u64),
        task(2, "add", &10u64),
        task(3, "add", &100u64),
        frame(2, "CANCEL", &[0xc0]),
        task(4, "add", &1000u64),
    ]
    .concat();
    // One read brings it all; and a byte at a time the cancel comes too late.
    for (script, sums) in
        [(Script::whole(input.clone()), [1, 101, 1101]), (Script::bytewise(&input), [1, 111, 1111])]
    {
        let (answers, ended) = run(worker(), script);
        assert!(ended.is_ok());
        let cancelled = answers.iter().filter(|answer| answer.request == "FAILED").collect::<Vec<_>>();
        for answer in &cancelled {
            let failure = answer.failure();
            assert_eq!((answer.id, failure.code.as_str(), failure.begun), (2, "cancelled", Some(false)));
        }
        assert_eq!(cancelled.len(), usize::from(sums[1] == 101));
        for (id, sum) in [1, 3, 4].into_iter().zip(sums) {
            let answer = answers.iter().find(|answer| answer.id == id).unwrap();
            assert_eq!(answer.value::<u64>(), sum);
        }
    }
}

#[test]
fn a_cancel_of_an_answered_task_is_ignored_and_never_meets_the_next_with_that_id() {
    let tail = [frame(1, "CANCEL", &[0xc0]), task(1, "add", &2u64)].concat();
    let (answers, ended) = run(worker(), Script { chunks: vec![task(1, "add", &1u64), tail] });
    assert!(ended.is_ok());
    assert_eq!(names(&answers)[2..], [("FINISHED", 1), ("FINISHED", 1), ("BYE", 0)]);
    assert_eq!(answers[3].value::<u64>(), 3);
}

/// Gives its second chunk only when a handler has looked for it.
struct Late {
    script: Script,
    looks: Arc<AtomicU32>,
}

impl Read for Late {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.script.read(buffer)
    }
}

impl Source for Late {
    fn wait(&self, _: Duration) -> bool {
        self.looks.fetch_add(1, Ordering::Relaxed) == 1
    }
}

/// Waits until it is cancelled, with a limit.
fn patient<'h>() -> Worker<'h, ()> {
    one(|n, ctx| {
        let start = Instant::now();
        while n == 0 && !ctx.is_cancelled() {
            assert!(start.elapsed() < Duration::from_secs(30), "nobody cancels");
        }
        if n == 0 {
            assert!(ctx.is_cancelled(), "true stays true");
            return Err(Failure::cancelled().into());
        }
        assert!(!ctx.is_cancelled());
        Ok(n)
    })
}

#[test]
fn a_handler_that_asks_sees_its_own_cancel_and_the_next_one_does_not() {
    let looks = Arc::new(AtomicU32::new(0));
    let tail = [
        frame(9, "CANCEL", &[0xc0]),
        frame(1, "CANCEL", &[0xc0]),
        task(2, "DO", &2),
        frame(0, "PING", b"\x07"),
    ];
    let script = Script { chunks: vec![task(1, "DO", &0), tail.concat()] };
    let (tape, input) = (Tape::default(), Late { script, looks: Arc::clone(&looks) });
    run_to(patient(), input, tape.clone()).unwrap();
    let answers = tape.frames();
    let mut names = names(&answers);
    // PING is answered when it is seen, before the task.
    assert_eq!(names.remove(2), ("PONG", 0));
    assert_eq!(names[2..], [("FAILED", 1), ("FINISHED", 2), ("BYE", 0)], "and only once");
    let failure = answers[3].failure();
    assert_eq!((failure.code.as_str(), failure.begun), ("cancelled", None));
}

#[test]
fn a_handlers_threads_can_report_and_ask() {
    let worker = one(|n, ctx| {
        let ctx = &*ctx;
        std::thread::scope(|scope| {
            for done in 0..4 {
                scope.spawn(move || {
                    ctx.progress(done, Some(4), None);
                    ctx.log(Level::Debug, "from a thread");
                    assert!(!ctx.is_cancelled());
                });
            }
        });
        Ok(n)
    });
    let (answers, ended) = run(worker, Script::whole(task(1, "DO", &1)));
    assert!(ended.is_ok());
    assert_eq!(answers.iter().filter(|answer| answer.request == "LOG").count(), 4);
    assert_eq!(names(&answers)[answers.len() - 2], ("FINISHED", 1));
}

#[test]
fn die_now_seen_by_a_handler_stops_it_and_drops_what_waits() {
    let tail = [task(2, "DO", &2), frame(0, "DIE", b"\x81\xa3now\xc3")];
    let script = Script { chunks: vec![[task(1, "DO", &0), task(3, "DO", &3)].concat(), tail.concat()] };
    let tape = Tape::default();
    run_to(patient(), Late { script, looks: Arc::default() }, tape.clone()).unwrap();
    assert_eq!(
        names(&tape.frames())[2..],
        [("FAILED", 1)],
        "the begun task is answered, nothing else happens"
    );
}

/// Notes the points.
#[derive(Clone, Default)]
struct Notebook(Arc<Mutex<Vec<(Point, u64)>>>);

impl Probe for Notebook {
    fn reach(&self, point: Point, task: u64) {
        self.0.lock().unwrap().push((point, task));
    }
}

#[test]
fn every_point_is_reached_in_its_order() {
    let worker = one(|n, ctx| {
        for item in 0..n {
            ctx.item(&item)?;
        }
        Ok(n)
    });
    let input = [
        hello(Capabilities::NONE.with(Capability::Started)),
        meta(1, &Meta { attempt: Some(2), ..Meta::default() }),
        task(1, "DO", &2),
        task(2, "DO", &0),
    ];
    let book = Notebook::default();
    let tape = Tape::default();
    run_probed(worker, Script::whole(input.concat()), tape.clone(), book.clone()).unwrap();
    let reached = std::mem::take(&mut *book.0.lock().unwrap());
    use Point::*;
    let expected = [
        vec![(BeforeHello, 1), (AfterHello, 1), (BeforeReady, 1), (AfterReady, 1)],
        vec![
            (BeforeRead, 1),
            (AfterHeader, 1),
            (AfterRead, 1),
            (AfterStarted, 1),
            (MidItem, 1),
            (MidItem, 1),
        ],
        vec![(AfterHandler, 1), (MidFinished, 1), (AfterFinished, 1)],
        vec![(BeforeRead, 2), (AfterHeader, 2), (AfterRead, 2), (AfterStarted, 2)],
        vec![(AfterHandler, 2), (MidFinished, 2), (AfterFinished, 2), (BeforeRead, 3)],
        vec![(BeforeBye, 3), (AfterBye, 3)],
    ]
    .concat();
    assert_eq!(reached, expected);
    let seen: std::collections::BTreeSet<Point> =
        reached.into_iter().map(|(point, _)| point).chain([Start]).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), Point::ALL, "all of them");
    let expected = ["HELLO", "READY", "STARTED", "ITEM", "ITEM", "FINISHED", "STARTED", "FINISHED", "BYE"];
    assert!(tape.frames().iter().map(|frame| frame.request.as_str()).eq(expected));
}

/// Notes how much of the output was written, and of the input read, at each point.
struct Surveyor {
    tape: Tape,
    read: Arc<AtomicU32>,
    sizes: Arc<Mutex<Vec<(Point, usize, u32)>>>,
}

impl Probe for Surveyor {
    fn reach(&self, point: Point, _: u64) {
        let written = self.tape.0.lock().unwrap().concat().len();
        self.sizes.lock().unwrap().push((point, written, self.read.load(Ordering::Relaxed)));
    }
}

/// Counts what is read.
struct Counted(Script, Arc<AtomicU32>);

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.fetch_add(count as u32, Ordering::Relaxed);
        Ok(count)
    }
}

impl Source for Counted {
    fn wait(&self, _: Duration) -> bool {
        false
    }
}

#[test]
fn points_are_where_their_names_say() {
    let (tape, read, sizes) = (Tape::default(), Arc::new(AtomicU32::new(0)), Arc::default());
    let survey = Surveyor { tape: tape.clone(), read: Arc::clone(&read), sizes: Arc::clone(&sizes) };
    let task = task(1, "DO", &7);
    let input = Counted(Script::whole([task.clone(), task.clone()].concat()), read);
    run_probed(one(|n, _| Ok(n)), input, tape, survey).unwrap();
    let sizes = sizes.lock().unwrap();
    let at = |point: Point| {
        sizes.iter().find(|(reached, ..)| *reached == point).map(|(_, w, r)| (*w, *r)).unwrap()
    };
    let (ready, len) = (at(Point::AfterReady).0, task.len() as u32);
    assert_eq!(at(Point::BeforeHello), (0, 0));
    assert_eq!(at(Point::BeforeRead), (ready, 0));
    assert_eq!(at(Point::AfterHeader), (ready, 8));
    assert_eq!(at(Point::AfterRead), (ready, len));
    assert_eq!(at(Point::AfterHandler), (ready, len));
    let answer = at(Point::AfterFinished).0 - ready;
    assert_eq!(at(Point::MidFinished), (ready + answer / 2, len));
}
