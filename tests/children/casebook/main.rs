//! The parent of each case of the fault suite, in a process of its own: `casebook CASE [ARGUMENTS…]` plays that case's scene
//! in its arena and leaves a record of it, with what it held before and after. It judges only what cannot be seen from
//! outside; the rest is the suite's.

use std::process::ExitCode;

use stokehold_tests::{Case, record_fact};

use crate::stage::{Outcome, Scene, Stage};

/// Children that die.
mod a;
/// Children that hang.
mod b;
/// A process without standard streams.
mod bare;
/// The parent and the machine below it.
mod c;
/// Children that are hostile.
mod d;
/// What scenes begin with.
mod stage;

#[expect(clippy::print_stderr, reason = "the suite shows it when the case fails")]
fn main() -> ExitCode {
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            // Some scenes have no stderr. A record that cannot be written is no better.
            let _ = record_fact("failed", &error);
            ExitCode::FAILURE
        }
    }
}

fn play() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let case: Case = arguments.next().unwrap_or_default().parse()?;
    let scene: Scene = match case {
        Case::A(case) => a::scene(case),
        Case::B(case) => b::scene(case),
        Case::C(case) => c::scene(case),
        Case::D(case) => d::scene(case),
    };
    let stage = Stage::new(arguments.collect());
    scene(&stage)?;
    stage.clear()
}
