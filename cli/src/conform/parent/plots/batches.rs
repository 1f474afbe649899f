//! PB: many inputs in one frame. A parent need not send such: then these are skipped.

use stokehold_protocol::{Batch, Capabilities, Capability, ChildHello, ResultList};

use crate::conform::parent::actor::{Actor, Played, Task};
use crate::conform::parent::evidence::Evidence;
use crate::conform::parent::plot::{Plot, numbered};
use crate::conform::verdict::{Checked, Stop};

pub(super) static PLOTS: &[Plot] = &[
    Plot::must("PB1", "a child that takes BATCH", &["B-1", "B-7", "B-8"], honest).tasks(many).judged(
        |evidence| {
            needs_batch(evidence)?;
            evidence.nothing_ran_twice("B-1")
        },
    ),
    Plot::must("PB2", "a BATCH with a result too few", &["B-6"], too_few).tasks(many).judged(needs_batch),
    Plot::must("PB3", "a BATCH with a result that is none", &["B-6"], no_results)
        .tasks(many)
        .judged(needs_batch),
    Plot::must("PB4", "death in a BATCH, with some results given", &["B-9", "B-3"], dies)
        .tasks(many)
        .judged(given_results_count),
];

fn many() -> Vec<String> {
    numbered(3_000)
}

fn hello() -> ChildHello {
    ChildHello { capabilities: Capabilities::NONE.with(Capability::Batch), ..ChildHello::default() }
}

fn honest(actor: &mut Actor) -> Played {
    actor.begin(&hello())?;
    actor.serve()
}

/// Works as it should until a BATCH of several comes.
fn until_batch(actor: &mut Actor, part: impl FnOnce(&mut Actor, &Task) -> Played) -> Played {
    if actor.ordinal() > 1 {
        return honest(actor);
    }
    actor.begin(&hello())?;
    while let Some(task) = actor.task()? {
        if Actor::inputs(&task) > 4 {
            return part(actor, &task);
        }
        actor.finish(&task)?;
    }
    actor.leave()
}

fn too_few(actor: &mut Actor) -> Played {
    until_batch(actor, |actor, task| {
        actor.breaks("B-6")?;
        actor.finish_batch(task, 1)?;
        actor.serve()
    })
}

fn no_results(actor: &mut Actor) -> Played {
    until_batch(actor, |actor, task| {
        actor.breaks("B-6")?;
        actor.say(task.id, "FINISHED", &vec_of_numbers(Actor::inputs(task)))?;
        actor.serve()
    })
}

/// As many values as there should be results, and none of them is one.
fn vec_of_numbers(count: u32) -> Vec<u8> {
    let mut data = Vec::new();
    stokehold_protocol::wire::write_array_len(&mut data, count);
    data.extend((0..count).map(|_| 7));
    data
}

/// How many results are given before the death.
const GIVEN: usize = 3;

fn dies(actor: &mut Actor) -> Played {
    until_batch(actor, |actor, task| {
        let batch = Batch::decode(&task.data).map_err(std::io::Error::other)?;
        let mut items = batch.items;
        let mut data = Vec::new();
        let mut results = ResultList::begin(3, &mut data);
        for _ in 0..GIVEN {
            let item = items.next_value().map_err(std::io::Error::other)?.unwrap_or_default();
            results.good(&mut data, |out| {
                out.extend_from_slice(item);
                Ok::<(), std::io::Error>(())
            })?;
        }
        results.finish(&mut data);
        actor.say(task.id, "ITEM", &data)?;
        actor.die()
    })
}

fn needs_batch(evidence: &Evidence<'_>) -> Checked {
    if evidence.ever_sent("BATCH") { Ok(()) } else { Err(Stop::skip("the parent sends no BATCH")) }
}

/// Of the inputs of the BATCH that was cut short the first have their results, and are not run again.
fn given_results_count(evidence: &Evidence<'_>) -> Checked {
    needs_batch(evidence)?;
    for seq in evidence.first_of_cut_batch(GIVEN) {
        evidence.must_succeed(seq, "B-9", "count the results that a BATCH had given when its child died")?;
        evidence.must_run_once(seq, "B-9")?;
    }
    Ok(())
}
