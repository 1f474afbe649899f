//! Wrong in no way: gives back what it gets, and has nothing else to load, so that it starts and ends quickly.

use stokehold_tests::Wire;

fn main() -> std::io::Result<()> {
    Wire::greet(8)?.echo()
}
