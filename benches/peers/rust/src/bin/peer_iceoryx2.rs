//! iceoryx2: publish and subscribe through shared memory. `wake=event` sleeps on the library's events. `wake=poll` asks
//! again and again, which burns a core for every process, and offers the core to others after a while; `wake=spin` never
//! does, which is for processes that have a core each. Every worker has a service of tasks and one of answers.

use std::fmt::Debug;
use std::hint;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory as PubSub;
use peers::{
    Answers, END, Outcome, Report, Settings, Worker, WorkerSide, is_echo, numbered, set_number, start,
};

type Shared = ipc::Service;

const WORKERS: usize = 2;
const WARM_UP: usize = 200;
/// Tasks that a worker may hold, which is also how many a subscriber's buffer has room for.
const WINDOW: usize = 1024;
/// Messages between two wake-ups. A wake-up for each would cost more than the message.
const BATCH: usize = 64;
/// The listener of 0.10.0 can lose a wake-up, and all later ones with it, when it is woken just as it empties its
/// socket. It finds out at its next call, so it must not sleep for ever.
const SLEEP_MOST: Duration = Duration::from_millis(5);
/// Looks without a pause, before the processor is offered to others.
const EAGER_LOOKS: u32 = 200;
/// What a subscriber's buffer has room for where payloads are large.
const LARGE_WINDOW: usize = 2;

fn main() -> Outcome {
    set_log_level(LogLevel::Error);
    if let Some(side) = WorkerSide::of_this_process()? {
        return match (side.settings.workload.as_str(), side.settings.number("size", 0)?) {
            ("large", _) => work_on_large(side),
            (_, 20) => work::<20>(side),
            (_, 1024) => work::<1024>(side),
            (_, _) => work::<64>(side),
        };
    }
    let settings = Settings::from_command_line()?;
    match (settings.workload.as_str(), settings.number("size", 64)?, settings.text("mode", "records")) {
        ("w1", _, _) => w1(&settings),
        ("w2", 1024, _) => w2::<1024>(&settings),
        ("w2", 64, _) => w2::<64>(&settings),
        ("w3", _, "lines") => w3::<20>(&settings),
        ("w3", _, _) => w3::<1024>(&settings),
        ("w4", _, _) => w4(&settings),
        (other, size, _) => Err(format!("iceoryx2 does not do {other} with {size} bytes").into()),
    }
}

/// One direction between the parent and a worker. Both sides open it; neither has to be first.
struct Way<'a> {
    node: &'a Node<Shared>,
    name: String,
}

impl<'a> Way<'a> {
    fn new(node: &'a Node<Shared>, contestant: &str, worker: usize, direction: &str) -> Self {
        Self { node, name: format!("stokehold-peers/{contestant}/{worker}/{direction}") }
    }

    fn small<T: Debug + ZeroCopySend + 'static>(&self) -> Outcome<PubSub<Shared, T, ()>> {
        let service = self.node.service_builder(&self.name.as_str().try_into()?).publish_subscribe::<T>();
        // Nothing may be overwritten: the publisher waits instead.
        Ok(service.enable_safe_overflow(false).subscriber_max_buffer_size(WINDOW).open_or_create()?)
    }

    fn publisher<T: Debug + ZeroCopySend + 'static>(&self) -> Outcome<Publisher<Shared, T, ()>> {
        let patient = BackpressureStrategy::RetryUntilDelivered;
        Ok(self.small()?.publisher_builder().backpressure_strategy(patient).create()?)
    }

    fn subscriber<T: Debug + ZeroCopySend + 'static>(&self) -> Outcome<Subscriber<Shared, T, ()>> {
        Ok(self.small()?.subscriber_builder().create()?)
    }

    fn large(&self) -> Outcome<PubSub<Shared, [u8], ()>> {
        let service = self.node.service_builder(&self.name.as_str().try_into()?).publish_subscribe::<[u8]>();
        Ok(service.enable_safe_overflow(false).subscriber_max_buffer_size(LARGE_WINDOW).open_or_create()?)
    }

    fn large_publisher(&self, size: usize) -> Outcome<Publisher<Shared, [u8], ()>> {
        Ok(self.large()?.publisher_builder().initial_max_slice_len(size).create()?)
    }

    fn large_subscriber(&self) -> Outcome<Subscriber<Shared, [u8], ()>> {
        Ok(self.large()?.subscriber_builder().create()?)
    }

    fn notifier(&self) -> Outcome<Notifier<Shared>> {
        let service = self.node.service_builder(&self.name.as_str().try_into()?).event().open_or_create()?;
        Ok(service.notifier_builder().create()?)
    }

    fn listener(&self) -> Outcome<Listener<Shared>> {
        let service = self.node.service_builder(&self.name.as_str().try_into()?).event().open_or_create()?;
        Ok(service.listener_builder().create()?)
    }
}

/// What a side does when there is nothing to receive, and how it tells the other that there is.
struct Waker {
    /// None: the other side polls.
    notifier: Option<Notifier<Shared>>,
    listener: Option<Listener<Shared>>,
    spins: bool,
    looks: u32,
}

impl Waker {
    fn new(wake: &str, other: &Way<'_>, own: &Way<'_>) -> Outcome<Self> {
        let events = wake == "event";
        let notifier = if events { Some(other.notifier()?) } else { None };
        let listener = if events { Some(own.listener()?) } else { None };
        Ok(Self { notifier, listener, spins: wake == "spin", looks: 0 })
    }

    fn wake(&mut self) -> Outcome {
        if let Some(notifier) = &self.notifier {
            notifier.notify()?;
        }
        Ok(())
    }

    fn wait(&mut self) -> Outcome {
        match &self.listener {
            Some(listener) => {
                listener.timed_wait(|_| {}, SLEEP_MOST)?;
            }
            None if self.spins || self.looks < EAGER_LOOKS => {
                self.looks = self.looks.saturating_add(1);
                hint::spin_loop();
            }
            None => thread::yield_now(),
        }
        Ok(())
    }

    fn had_something(&mut self) {
        self.looks = 0;
    }
}

/// The parent's side of one worker.
struct Line<const N: usize> {
    tasks: Publisher<Shared, [u8; N], ()>,
    answers: Subscriber<Shared, [u8; N], ()>,
    waker: Waker,
    process: Worker,
}

impl<const N: usize> Line<N> {
    fn start(node: &Node<Shared>, i: usize, job: &str, settings: &Settings) -> Outcome<Self> {
        let contestant = process::id().to_string();
        let there = Way::new(node, &contestant, i, "tasks");
        let back = Way::new(node, &contestant, i, "answers");
        let wake = settings.text("wake", "poll");
        let (tasks, answers) = (there.publisher()?, back.subscriber()?);
        let waker = Waker::new(wake, &there, &back)?;
        let mut process = Worker::start(&[
            job.to_owned(),
            format!("of={contestant}"),
            format!("i={i}"),
            format!("size={N}"),
            format!("wake={wake}"),
        ])?;
        process.wait_until_up()?;
        Ok(Self { tasks, answers, waker, process })
    }

    fn send(&self, payload: &[u8; N]) -> Outcome {
        self.tasks.loan_uninit()?.write_payload(*payload).send()?;
        Ok(())
    }

    fn receive(&mut self) -> Outcome<[u8; N]> {
        loop {
            if let Some(answer) = self.answers.receive()? {
                self.waker.had_something();
                return Ok(*answer);
            }
            self.waker.wait()?;
        }
    }

    fn end(mut self, payload: &mut [u8; N]) -> Outcome {
        set_number(payload, END);
        self.send(payload)?;
        self.waker.wake()?;
        self.process.release()
    }
}

fn array<const N: usize>() -> Outcome<[u8; N]> {
    Ok(numbered(N)[..].try_into()?)
}

fn work<const N: usize>(side: WorkerSide) -> Outcome {
    let node = NodeBuilder::new().create::<Shared>()?;
    let contestant = side.settings.text("of", "");
    let i = side.settings.number("i", 0)?;
    let (there, back) = (Way::new(&node, contestant, i, "tasks"), Way::new(&node, contestant, i, "answers"));
    let (tasks, answers) = (there.subscriber::<[u8; N]>()?, back.publisher::<[u8; N]>()?);
    let mut waker = Waker::new(side.settings.text("wake", "poll"), &back, &there)?;
    let counting = side.settings.workload == "count";
    side.say_up()?;
    let mut count = 0u64;
    'work: loop {
        let mut answered = false;
        while let Some(task) = tasks.receive()? {
            waker.had_something();
            if task[..8] == END.to_le_bytes() {
                break 'work;
            }
            let mut answer = *task;
            if counting {
                // A number of 0 asks how many came before.
                if task[..8] != [0; 8] {
                    count += 1;
                    continue;
                }
                set_number(&mut answer, count);
            }
            answers.loan_uninit()?.write_payload(answer).send()?;
            answered = true;
        }
        if answered {
            waker.wake()?;
        } else {
            waker.wait()?;
        }
    }
    side.wait_for_release()
}

fn w1(settings: &Settings) -> Outcome {
    let n = settings.number("n", 5000)?;
    let node = NodeBuilder::new().create::<Shared>()?;
    let mut payload = array::<64>()?;
    let mut line = Line::<64>::start(&node, 0, "echo", settings)?;
    let mut times = Vec::with_capacity(n);
    let mut round = |number: usize| -> Outcome<_> {
        set_number(&mut payload, number as u64);
        let sent = Instant::now();
        line.send(&payload)?;
        line.waker.wake()?;
        let answer = line.receive()?;
        let time = sent.elapsed();
        if answer == payload { Ok(time) } else { Err("a wrong answer".into()) }
    };
    for number in 0..WARM_UP {
        round(number)?;
    }
    let clock = start()?;
    for number in 0..n {
        times.push(round(number)?);
    }
    Report::new(n, clock.elapsed()).with_latencies(times).hand_in()?;
    line.end(&mut payload)
}

fn w2<const N: usize>(settings: &Settings) -> Outcome {
    let n = settings.number("n", 1_000_000)?;
    let node = NodeBuilder::new().create::<Shared>()?;
    let mut payload = array::<N>()?;
    let mut lines = Vec::new();
    for i in 0..WORKERS {
        lines.push(Line::<N>::start(&node, i, "echo", settings)?);
    }
    let mut echo = |n: usize| -> Outcome {
        let mut answers = Answers::new(n, &payload);
        let (mut sent, mut held) = (0, [0; WORKERS]);
        while answers.missing() > 0 {
            let mut idle = None;
            for (line, held) in lines.iter_mut().zip(&mut held) {
                let batch = BATCH.min(WINDOW - *held).min(n - sent);
                for _ in 0..batch {
                    set_number(&mut payload, sent as u64);
                    line.send(&payload)?;
                    sent += 1;
                }
                *held += batch;
                if batch > 0 {
                    line.waker.wake()?;
                }
                let mut came = 0;
                while let Some(answer) = line.answers.receive()? {
                    answers.take(&answer[..])?;
                    came += 1;
                }
                *held -= came;
                if came > 0 || batch > 0 {
                    line.waker.had_something();
                } else if *held > 0 {
                    idle = Some(line);
                }
            }
            if let Some(line) = idle {
                line.waker.wait()?;
            }
        }
        Ok(())
    };
    echo(WARM_UP)?;
    let clock = start()?;
    echo(n)?;
    Report::new(n, clock.elapsed()).with_bytes(2 * n * N).hand_in()?;
    lines.into_iter().try_for_each(|line| line.end(&mut payload))
}

fn w3<const N: usize>(settings: &Settings) -> Outcome {
    let n = settings.number("n", 1_000_000)?;
    let node = NodeBuilder::new().create::<Shared>()?;
    let mut payload = array::<N>()?;
    let mut lines = Vec::new();
    for i in 0..WORKERS {
        lines.push(Line::<N>::start(&node, i, "count", settings)?);
    }
    let mut feed = |n: usize| -> Outcome<u64> {
        set_number(&mut payload, 1);
        let mut left = n;
        while left > 0 {
            for line in &mut lines {
                let batch = BATCH.min(left);
                for _ in 0..batch {
                    line.send(&payload)?;
                }
                line.waker.wake()?;
                left -= batch;
            }
        }
        set_number(&mut payload, 0);
        for line in &mut lines {
            line.send(&payload)?;
            line.waker.wake()?;
        }
        let mut counted = 0;
        for line in &mut lines {
            counted += u64::from_le_bytes(line.receive()?[..8].try_into()?);
        }
        Ok(counted)
    };
    let before = feed(WARM_UP)?;
    let clock = start()?;
    let after = feed(n)?;
    let time = clock.elapsed();
    if after - before != n as u64 {
        return Err(format!("the workers counted {after} - {before} of {n}").into());
    }
    Report::new(n, time).with_bytes(n * N).hand_in()?;
    lines.into_iter().try_for_each(|line| line.end(&mut payload))
}

fn work_on_large(side: WorkerSide) -> Outcome {
    let node = NodeBuilder::new().create::<Shared>()?;
    let contestant = side.settings.text("of", "");
    let there_and_back = side.settings.text("dir", "oneway") == "rt";
    let (there, back) = (Way::new(&node, contestant, 0, "tasks"), Way::new(&node, contestant, 0, "answers"));
    let answer_size = if there_and_back { side.settings.number("size", 0)? } else { 8 };
    let (tasks, answers) = (there.large_subscriber()?, back.large_publisher(answer_size)?);
    let mut waker = Waker::new(side.settings.text("wake", "poll"), &back, &there)?;
    side.say_up()?;
    loop {
        let Some(task) = tasks.receive()? else {
            waker.wait()?;
            continue;
        };
        waker.had_something();
        if task[..8] == END.to_le_bytes() {
            break;
        }
        let length = (task.len() as u64).to_le_bytes();
        // Its own copy, as with every other peer; handing the same memory back would move nothing.
        let answer: &[u8] = if there_and_back { &task } else { &length };
        answers.loan_slice_uninit(answer.len())?.write_from_slice(answer).send()?;
        waker.wake()?;
    }
    side.wait_for_release()
}

fn w4(settings: &Settings) -> Outcome {
    let n = settings.number("n", 100)?;
    let size = settings.number("size", 1 << 20)?;
    let dir = settings.text("dir", "oneway");
    let wake = settings.text("wake", "poll");
    let node = NodeBuilder::new().create::<Shared>()?;
    let contestant = process::id().to_string();
    let (there, back) =
        (Way::new(&node, &contestant, 0, "tasks"), Way::new(&node, &contestant, 0, "answers"));
    let (tasks, answers) = (there.large_publisher(size)?, back.large_subscriber()?);
    let mut waker = Waker::new(wake, &there, &back)?;
    let mut worker = Worker::start(&[
        "large".to_owned(),
        format!("of={contestant}"),
        format!("size={size}"),
        format!("dir={dir}"),
        format!("wake={wake}"),
    ])?;
    worker.wait_until_up()?;
    let mut payload = numbered(size);
    let mut round = |number: usize| -> Outcome {
        set_number(&mut payload, number as u64);
        tasks.loan_slice_uninit(size)?.write_from_slice(&payload).send()?;
        waker.wake()?;
        loop {
            if let Some(answer) = answers.receive()? {
                waker.had_something();
                let right = match dir {
                    "rt" => is_echo(&payload, &answer),
                    _ => answer[..] == (size as u64).to_le_bytes(),
                };
                return if right { Ok(()) } else { Err("a wrong answer".into()) };
            }
            waker.wait()?;
        }
    };
    round(0)?;
    round(1)?;
    let clock = start()?;
    for number in 0..n {
        round(number)?;
    }
    let directions = if dir == "rt" { 2 } else { 1 };
    Report::new(n, clock.elapsed()).with_bytes(n * size * directions).hand_in()?;
    tasks.loan_slice_uninit(8)?.write_from_slice(&END.to_le_bytes()).send()?;
    waker.wake()?;
    worker.release()
}
