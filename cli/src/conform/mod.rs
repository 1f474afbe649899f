//! `stokehold conform`: whether a worker or a parent, in whatever language, keeps the protocol's rules.
//!
//! A case is a small play with a child of its own (`case`, `cases`); the `stage` starts children, a `session` is the wire to
//! one, `dialogue` what is said over it, the `referee` knows the rules that hold in any case. Whether messages travel in binary
//! frames or in lines of text is the `carrier`'s business, and that of the cases of groups F and T, which are about one of them.

mod baseline;
mod carrier;
mod case;
mod cases;
mod child;
mod dialogue;
mod digits;
mod launch;
mod matrix;
mod notation;
mod options;
mod parent;
mod process;
mod random;
mod referee;
mod report;
mod same;
mod script;
mod session;
mod stage;
mod trace;
mod vectors;
mod verdict;

use clap::{Args, Subcommand};

use crate::exit::Exit;

/// Tests workers and parents against the specification
///
/// For authors of workers and parents in any language: what is tested is started again and again, and each time one thing is tried
/// that the other side may do to it. What it does wrong is told with the statement of the specification, the bytes, and a hint.
#[derive(Debug, Args)]
pub(crate) struct ConformArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Child(child::ChildArgs),
    Parent(parent::ParentArgs),
    Matrix(matrix::MatrixArgs),
    Vectors(vectors::VectorsArgs),
    /// Becomes a child that dies with the kit
    #[command(hide = true)]
    Launch(launch::LaunchArgs),
    /// Holds the pipes of a child, to be killed
    #[command(hide = true)]
    Hold(launch::HoldArgs),
    /// Plays a child for a parent under test
    #[command(hide = true)]
    Villain(parent::VillainArgs),
}

/// Does what was asked.
pub(crate) fn run(args: &ConformArgs) -> Exit {
    match &args.what {
        What::Child(args) => child::run(args),
        What::Parent(args) => parent::run(args),
        What::Matrix(args) => matrix::run(args),
        What::Vectors(args) => vectors::run(args),
        What::Launch(args) => launch::launch(args),
        What::Hold(args) => launch::hold(args),
        What::Villain(args) => parent::play_villain(args),
    }
}
