//! Prints a line to standard output before it speaks the protocol: a library with a banner.

use stokehold_tests::Wire;

fn main() -> std::io::Result<()> {
    Wire::silent().write(b"Loading model weights, please wait\n")?;
    Wire::greet(1)?.echo()
}
