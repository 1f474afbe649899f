//! Wrong in no way: a worker with the SDK that does what the suites ask of a good one.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use stokehold_child::{Ctx, Data, Failure, Init, Request, Worker};
use stokehold_tests::{note, wait_for_file};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Clone, Debug, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

#[derive(Debug, Serialize)]
enum Receipt {
    Sold { item: String, total: u32 },
    Refused(String),
    Nothing,
}

fn main() -> ExitCode {
    Worker::new(|_: &mut Init| Ok::<(), io::Error>(()))
        .on_raw("DO", |(), input, _| Data::from_encoded(input.to_vec()))
        .on(Request::<u64, u64>::new("square"), |(), n, _| Ok::<_, io::Error>(n * n))
        .on(Request::<(), (u32, u32, u32)>::new("who"), |(), (), context| Ok::<_, io::Error>(who(context)))
        .on(Request::<String, u32>::new("note"), |(), line, context| {
            note(&line)?;
            Ok::<_, io::Error>(context.attempt())
        })
        .on(Request::<String, (u32, u32, u32)>::new("wait_at"), |(), gate, context| wait_at(&gate, context))
        .on(Request::<u64, u64>::new("nap"), |(), milliseconds, _| {
            std::thread::sleep(Duration::from_millis(milliseconds));
            Ok::<_, io::Error>(milliseconds)
        })
        .on(Request::<Order, Receipt>::new("buy"), |(), order, _| Ok::<_, io::Error>(buy(order)))
        .on(Request::<ByteBuf, ByteBuf>::new("reverse"), |(), mut bytes, _| {
            bytes.reverse();
            Ok::<_, io::Error>(bytes)
        })
        .on(Request::<usize, ByteBuf>::new("inflate"), |(), len, _| {
            Ok::<_, io::Error>(ByteBuf::from(vec![7; len]))
        })
        .on(Request::<(), BTreeMap<u32, u32>>::new("number_keys"), |(), (), _| {
            Ok::<_, io::Error>(BTreeMap::from([(1, 2)]))
        })
        .on(Request::<String, ()>::new("fail"), |(), code, _| {
            Err::<(), _>(Failure::new("it failed").code(code).caused_by("a deeper reason"))
        })
        .on(Request::<(String, usize), ()>::new("fail_with"), |(), (text, bytes), _| {
            let data = (text, ByteBuf::from(vec![7; bytes]));
            Err::<(), _>(Failure::new("it failed").code("acme.with_data").data(&data))
        })
        .on(Request::<u32, u32>::new("fail_until"), |(), attempt, context| fail_until(attempt, context))
        .on(Request::<String, ()>::new("panic"), |(), words, _| -> Outcome<()> { panic!("{words}") })
        .on(Request::<(), u32>::new("leave_a_sleeper"), |(), (), _| leave_a_sleeper())
        .on(Request::<(), ()>::new("spin"), |(), (), _| -> Outcome<()> {
            note("spins")?;
            loop {
                std::hint::spin_loop();
            }
        })
        .serve()
}

/// Process, slot, attempt.
fn who(context: &Ctx) -> (u32, u32, u32) {
    (std::process::id(), context.worker().unwrap_or(u32::MAX), context.attempt())
}

fn wait_at(gate: &str, context: &Ctx) -> io::Result<(u32, u32, u32)> {
    note(&format!("at {gate}"))?;
    wait_for_file(gate)?;
    Ok(who(context))
}

fn buy(order: Order) -> Receipt {
    match order.count {
        0 => Receipt::Nothing,
        1..=9 => Receipt::Sold { total: order.count * 3, item: order.item },
        _ => Receipt::Refused(format!("no {} {} here", order.count, order.item)),
    }
}

fn fail_until(attempt: u32, context: &Ctx) -> Result<u32, Failure> {
    if context.attempt() < attempt {
        return Err(Failure::new("not yet").code("overloaded").retry_after(Duration::from_millis(5)));
    }
    Ok(context.attempt())
}

/// A program that nobody waits for.
fn leave_a_sleeper() -> io::Result<u32> {
    let sleeper = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn()?;
    Ok(sleeper.id())
}
