//! ipc-channel: one bytes channel to each worker, and one back that the workers share. W4 also with `way=shared`, where
//! the payload lies in shared memory. The typed channels are left out: they cost a serialisation more.

use std::thread;
use std::time::Instant;

use ipc_channel::ipc::{
    self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender, IpcSharedMemory,
};
use peers::{
    Answers, END, Outcome, Report, Settings, Worker, WorkerSide, is_echo, numbered, set_number, start,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const WORKERS: usize = 2;
const WARM_UP: usize = 200;

/// What a worker sends first: where it takes its tasks, and where it wants to be told where answers go.
type Hello<Task, Answer> = (Task, IpcSender<Answer>);
/// The answer to a payload in shared memory: its length, or a copy of it.
type SharedAnswer = (usize, Option<IpcSharedMemory>);

fn main() -> Outcome {
    if let Some(side) = WorkerSide::of_this_process()? {
        return match side.settings.text("way", "bytes") {
            "shared" => work_shared(side),
            _ => work(side),
        };
    }
    let settings = Settings::from_command_line()?;
    match settings.workload.as_str() {
        "w1" => w1(&settings),
        "w2" => w2(&settings),
        "w3" => w3(&settings),
        "w4" if settings.text("way", "bytes") == "shared" => w4_shared(&settings),
        "w4" => w4(&settings),
        other => Err(format!("ipc-channel does not do {other}").into()),
    }
}

struct Workers {
    processes: Vec<Worker>,
    tasks: Vec<IpcBytesSender>,
    answers: IpcBytesReceiver,
}

impl Workers {
    fn start(count: usize, job: &str) -> Outcome<Self> {
        let (sender, answers) = ipc::bytes_channel()?;
        let (mut processes, mut tasks) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (process, task_sender) = start_worker(&[job.to_owned()], sender.clone())?;
            processes.push(process);
            tasks.push(task_sender);
        }
        Ok(Self { processes, tasks, answers })
    }

    fn end(self, payload: &mut [u8]) -> Outcome {
        set_number(payload, END);
        for tasks in &self.tasks {
            tasks.send(payload)?;
        }
        self.processes.into_iter().try_for_each(Worker::release)
    }
}

fn start_worker<Task, Answer>(words: &[String], answers: Answer) -> Outcome<(Worker, Task)>
where
    Task: Serialize + DeserializeOwned,
    Answer: Serialize + DeserializeOwned,
{
    let (server, name) = IpcOneShotServer::<Hello<Task, Answer>>::new()?;
    let mut all = words.to_vec();
    all.push(format!("server={name}"));
    let mut process = Worker::start(&all)?;
    let (_, (tasks, desk)) = server.accept()?;
    desk.send(answers)?;
    process.wait_until_up()?;
    Ok((process, tasks))
}

/// In the worker: hands over where tasks go, and learns where answers go.
fn connect<Task, Answer>(side: &WorkerSide, tasks: Task) -> Outcome<Answer>
where
    Task: Serialize + DeserializeOwned,
    Answer: Serialize + DeserializeOwned,
{
    let (desk, told) = ipc::channel()?;
    IpcSender::<Hello<Task, Answer>>::connect(side.settings.text("server", "").to_owned())?
        .send((tasks, desk))?;
    let answers = told.recv()?;
    side.say_up()?;
    Ok(answers)
}

fn work(side: WorkerSide) -> Outcome {
    let (sender, tasks) = ipc::bytes_channel()?;
    let answers: IpcBytesSender = connect(&side, sender)?;
    let job = side.settings.workload.clone();
    let mut count = 0u64;
    loop {
        let task = tasks.recv()?;
        if task[..8] == END.to_le_bytes() {
            break;
        }
        match job.as_str() {
            // A number of 0 asks how many came before.
            "count" if task[..8] == [0; 8] => answers.send(&count.to_le_bytes())?,
            "count" => count += 1,
            "measure" => answers.send(&(task.len() as u64).to_le_bytes())?,
            _ => answers.send(&task)?,
        }
    }
    side.wait_for_release()
}

fn w1(settings: &Settings) -> Outcome {
    let n = settings.number("n", 5000)?;
    let mut payload = numbered(64);
    let workers = Workers::start(1, "echo")?;
    let mut times = Vec::with_capacity(n);
    let mut round = |number: usize| -> Outcome<_> {
        set_number(&mut payload, number as u64);
        let sent = Instant::now();
        workers.tasks[0].send(&payload)?;
        let answer = workers.answers.recv()?;
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
    workers.end(&mut payload)
}

fn w2(settings: &Settings) -> Outcome {
    let n = settings.number("n", 200_000)?;
    let size = settings.number("size", 64)?;
    let mut payload = numbered(size);
    let workers = Workers::start(WORKERS, "echo")?;
    // A thread sends and this one receives. With one thread for both, parent and worker would each wait in a send for
    // the other to receive as soon as the sockets are full; 1 KiB a task fills them with fewer than 100.
    let mut echo = |n: usize| -> Outcome {
        let mut answers = Answers::new(n, &payload);
        let Workers { tasks, answers: answered, .. } = &workers;
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..n {
                    set_number(&mut payload, number as u64);
                    // An error shows on the other side: the answer does not come.
                    let _ = tasks[number % WORKERS].send(&payload);
                }
            });
            while answers.missing() > 0 {
                answers.take(&answered.recv()?)?;
            }
            Ok(())
        })
    };
    echo(WARM_UP)?;
    let clock = start()?;
    echo(n)?;
    Report::new(n, clock.elapsed()).with_bytes(2 * n * size).hand_in()?;
    workers.end(&mut payload)
}

fn w3(settings: &Settings) -> Outcome {
    let n = settings.number("n", 300_000)?;
    let size = if settings.text("mode", "records") == "lines" { 20 } else { 1024 };
    let mut payload = numbered(size);
    let workers = Workers::start(WORKERS, "count")?;
    let mut feed = |n: usize| -> Outcome<u64> {
        set_number(&mut payload, 1);
        for i in 0..n {
            workers.tasks[i % WORKERS].send(&payload)?;
        }
        set_number(&mut payload, 0);
        let mut counted = 0;
        for tasks in &workers.tasks {
            tasks.send(&payload)?;
            counted += u64::from_le_bytes(workers.answers.recv()?[..].try_into()?);
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
    let workers = Workers::start(1, if there_and_back { "echo" } else { "measure" })?;
    let mut round = |number: usize| -> Outcome {
        set_number(&mut payload, number as u64);
        workers.tasks[0].send(&payload)?;
        let answer = workers.answers.recv()?;
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

#[derive(Serialize, Deserialize)]
struct SharedTask(Option<IpcSharedMemory>);

fn work_shared(side: WorkerSide) -> Outcome {
    let (sender, tasks) = ipc::channel::<SharedTask>()?;
    let answers: IpcSender<SharedAnswer> = connect(&side, sender)?;
    let there_and_back = side.settings.workload == "echo";
    while let SharedTask(Some(payload)) = tasks.recv()? {
        // Its own copy, as with every other peer; handing the same memory back would move nothing.
        let copy = there_and_back.then(|| IpcSharedMemory::from_bytes(&payload));
        answers.send((payload.len(), copy))?;
    }
    side.wait_for_release()
}

fn w4_shared(settings: &Settings) -> Outcome {
    let n = settings.number("n", 100)?;
    let size = settings.number("size", 1 << 20)?;
    let there_and_back = settings.text("dir", "oneway") == "rt";
    let mut payload = numbered(size);
    let (sender, answers) = ipc::channel::<SharedAnswer>()?;
    let job = if there_and_back { "echo" } else { "measure" };
    let (worker, tasks): (_, IpcSender<SharedTask>) =
        start_worker(&[job.to_owned(), "way=shared".to_owned()], sender)?;
    let mut round = |number: usize| -> Outcome {
        set_number(&mut payload, number as u64);
        tasks.send(SharedTask(Some(IpcSharedMemory::from_bytes(&payload))))?;
        let (length, copy) = answers.recv()?;
        let right = length == size && copy.map_or(!there_and_back, |copy| is_echo(&payload, &copy));
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
    tasks.send(SharedTask(None))?;
    worker.release()
}
