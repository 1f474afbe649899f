//! A worker that gives every task back as it came. The smallest useful one, and a measure for everything around it.

use std::process::ExitCode;

use stokehold_child::Data;

fn main() -> ExitCode {
    stokehold_child::serve_raw(|input, _| Data::from_encoded(input.to_vec()))
}
