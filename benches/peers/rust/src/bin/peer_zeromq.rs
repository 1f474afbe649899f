//! ZeroMQ over Unix sockets: REQ/REP for W1, PUSH/PULL for W2 and W3 (as the guide does for a ventilator, its workers,
//! and a sink), PAIR for W4. Nothing is acknowledged: what a worker that dies holds is lost.

use std::process;
use std::time::Instant;

use peers::{
    Answers, END, Outcome, Report, Settings, Worker, WorkerSide, is_echo, numbered, set_number, start,
};
use zmq::{Context, Socket, SocketType};

const WORKERS: usize = 2;
const WARM_UP: usize = 200;
/// Tasks that a worker may hold. ZeroMQ's own default for what a socket holds before a send blocks: with this, none
/// does.
const WINDOW: usize = 1000;

fn main() -> Outcome {
    if let Some(side) = WorkerSide::of_this_process()? {
        return work(side);
    }
    let settings = Settings::from_command_line()?;
    match settings.workload.as_str() {
        "w1" => w1(&settings),
        "w2" => w2(&settings),
        "w3" => w3(&settings),
        "w4" => w4(&settings),
        other => Err(format!("ZeroMQ does not do {other}").into()),
    }
}

/// In Linux's abstract namespace (`@`), which leaves no file behind.
fn address(contestant: &str, name: &str) -> String {
    format!("ipc://@stokehold-peers-{contestant}-{name}")
}

struct Workers {
    processes: Vec<Worker>,
    /// One for each worker.
    tasks: Vec<Socket>,
    /// From all workers. None when answers come back on the socket of the tasks.
    answers: Option<Socket>,
}

impl Workers {
    fn start(context: &Context, count: usize, kind: SocketType, job: &str) -> Outcome<Self> {
        let contestant = process::id().to_string();
        let answers = match kind {
            SocketType::PUSH => {
                let socket = context.socket(SocketType::PULL)?;
                socket.bind(&address(&contestant, "answers"))?;
                Some(socket)
            }
            _ => None,
        };
        let (mut processes, mut tasks) = (Vec::new(), Vec::new());
        for i in 0..count {
            let name = format!("tasks{i}");
            let socket = context.socket(kind)?;
            socket.bind(&address(&contestant, &name))?;
            tasks.push(socket);
            let mut process =
                Worker::start(&[job.to_owned(), format!("of={contestant}"), format!("tasks={name}")])?;
            process.wait_until_up()?;
            processes.push(process);
        }
        Ok(Self { processes, tasks, answers })
    }

    fn end(self, payload: &mut [u8]) -> Outcome {
        set_number(payload, END);
        for tasks in &self.tasks {
            tasks.send(&*payload, 0)?;
        }
        self.processes.into_iter().try_for_each(Worker::release)
    }
}

fn work(side: WorkerSide) -> Outcome {
    let context = Context::new();
    let contestant = side.settings.text("of", "").to_owned();
    let job = side.settings.workload.clone();
    let (tasks_kind, answers_kind) = match job.as_str() {
        "reply" => (SocketType::REP, None),
        "echo" | "measure" => (SocketType::PAIR, None),
        _ => (SocketType::PULL, Some(SocketType::PUSH)),
    };
    let tasks = context.socket(tasks_kind)?;
    tasks.connect(&address(&contestant, side.settings.text("tasks", "")))?;
    let answers = match answers_kind {
        Some(kind) => {
            let socket = context.socket(kind)?;
            socket.connect(&address(&contestant, "answers"))?;
            Some(socket)
        }
        None => None,
    };
    let desk = answers.as_ref().unwrap_or(&tasks);
    side.say_up()?;
    let mut count = 0u64;
    loop {
        let task = tasks.recv_msg(0)?;
        if task[..8] == END.to_le_bytes() {
            break;
        }
        match job.as_str() {
            // A number of 0 asks how many came before.
            "count" if task[..8] == [0; 8] => desk.send(&count.to_le_bytes()[..], 0)?,
            "count" => count += 1,
            "measure" => desk.send(&(task.len() as u64).to_le_bytes()[..], 0)?,
            _ => desk.send(task, 0)?,
        }
    }
    side.wait_for_release()
}

fn w1(settings: &Settings) -> Outcome {
    let n = settings.number("n", 5000)?;
    let mut payload = numbered(64);
    let context = Context::new();
    let workers = Workers::start(&context, 1, SocketType::REQ, "reply")?;
    let mut times = Vec::with_capacity(n);
    let mut round = |number: usize| -> Outcome<_> {
        set_number(&mut payload, number as u64);
        let sent = Instant::now();
        workers.tasks[0].send(&payload, 0)?;
        let answer = workers.tasks[0].recv_msg(0)?;
        let time = sent.elapsed();
        if answer[..] == payload { Ok(time) } else { Err("a wrong answer".into()) }
    };
    for number in 0..WARM_UP {
        round(number)?;
    }
    let clock = start()?;
    for number in 0..n {
        times.push(round(number)?);
    }
    Report::new(n, clock.elapsed()).with_latencies(times).hand_in()?;
    workers.end(&mut payload)
}

fn w2(settings: &Settings) -> Outcome {
    let n = settings.number("n", 2_000_000)?;
    let size = settings.number("size", 64)?;
    let mut payload = numbered(size);
    let context = Context::new();
    let workers = Workers::start(&context, WORKERS, SocketType::PUSH, "push")?;
    let answered = workers.answers.as_ref().ok_or("no socket for answers")?;
    let mut echo = |n: usize| -> Outcome {
        let mut answers = Answers::new(n, &payload);
        let mut sent = 0;
        while answers.missing() > 0 {
            while sent < n && sent < n - answers.missing() + WINDOW * WORKERS {
                set_number(&mut payload, sent as u64);
                workers.tasks[sent % WORKERS].send(&payload, 0)?;
                sent += 1;
            }
            answers.take(&answered.recv_msg(0)?)?;
        }
        Ok(())
    };
    echo(WARM_UP)?;
    let clock = start()?;
    echo(n)?;
    Report::new(n, clock.elapsed()).with_bytes(2 * n * size).hand_in()?;
    workers.end(&mut payload)
}

fn w3(settings: &Settings) -> Outcome {
    let n = settings.number("n", 1_000_000)?;
    let size = if settings.text("mode", "records") == "lines" { 20 } else { 1024 };
    let mut payload = numbered(size);
    let context = Context::new();
    let workers = Workers::start(&context, WORKERS, SocketType::PUSH, "count")?;
    let answers = workers.answers.as_ref().ok_or("no socket for answers")?;
    let mut feed = |n: usize| -> Outcome<u64> {
        set_number(&mut payload, 1);
        for i in 0..n {
            workers.tasks[i % WORKERS].send(&payload, 0)?;
        }
        set_number(&mut payload, 0);
        let mut counted = 0;
        for tasks in &workers.tasks {
            tasks.send(&payload, 0)?;
        }
        for _ in &workers.tasks {
            counted += u64::from_le_bytes(answers.recv_msg(0)?[..].try_into()?);
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
    Report::new(n, time).with_bytes(n * size).hand_in()?;
    workers.end(&mut payload)
}

fn w4(settings: &Settings) -> Outcome {
    let n = settings.number("n", 100)?;
    let size = settings.number("size", 1 << 20)?;
    let there_and_back = settings.text("dir", "oneway") == "rt";
    let mut payload = numbered(size);
    let context = Context::new();
    let job = if there_and_back { "echo" } else { "measure" };
    let workers = Workers::start(&context, 1, SocketType::PAIR, job)?;
    let mut round = |number: usize| -> Outcome {
        set_number(&mut payload, number as u64);
        workers.tasks[0].send(&payload, 0)?;
        let answer = workers.tasks[0].recv_msg(0)?;
        let right = if there_and_back {
            is_echo(&payload, &answer)
        } else {
            answer[..] == (size as u64).to_le_bytes()
        };
        if right { Ok(()) } else { Err("a wrong answer".into()) }
    };
    round(0)?;
    round(1)?;
    let clock = start()?;
    for number in 0..n {
        round(number)?;
    }
    let directions = if there_and_back { 2 } else { 1 };
    Report::new(n, clock.elapsed()).with_bytes(n * size * directions).hand_in()?;
    workers.end(&mut payload)
}
