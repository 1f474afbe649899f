//! The `stokehold` command.
fn main() {}
