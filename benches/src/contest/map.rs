//! W6: map of a trivial function over integers, two workers, all settings at their defaults.

use stokehold::{Pool, Request};

use super::{Report, Settings, compete, timed};
use crate::measure::Outcome;
use crate::ours;

const ITEMS: u64 = 100_000;
const ADD_ONE: Request<u64, u64> = Request::DO;

pub(super) fn run(settings: &Settings<'_>) -> Outcome<()> {
    let items = settings.number("n", ITEMS)?;
    let rounds = settings.number("rounds", 30)?;
    let pool = ours::builder(&["add-one"])?.workers(2).start()?;
    map(&pool, items)?;
    compete(|| {
        let mut time = std::time::Duration::ZERO;
        for _ in 0..rounds {
            let (results, took) = timed(|| Ok(pool.map(ADD_ONE, 0..items)))?;
            time += took;
            check(&results)?;
        }
        Ok(Report::new(items * rounds, time))
    })?;
    ours::end(pool)
}

fn map(pool: &Pool, items: u64) -> Outcome<()> {
    check(&pool.map(ADD_ONE, 0..items))
}

fn check(results: &[Result<u64, stokehold::TaskError>]) -> Outcome<()> {
    for (number, result) in (0..).zip(results) {
        match result {
            Ok(value) if *value == number + 1 => {}
            Ok(value) => return Err(format!("{number} and one is not {value}").into()),
            Err(error) => return Err(error.clone().into()),
        }
    }
    Ok(())
}
