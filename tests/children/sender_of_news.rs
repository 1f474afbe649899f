//! In slot 1 it writes legal frames that nobody asked for, without end, and answers nothing; in slot 0 it is honest: a
//! progress bar gone mad.

use stokehold_tests::Wire;

fn main() -> std::io::Result<()> {
    let wire = Wire::greet(64)?;
    if std::env::var("STOKEHOLD_WORKER").as_deref() != Ok("1") {
        return wire.echo();
    }
    let news: Vec<u8> = (0..1000).flat_map(|_| Wire::frame(0, "LOG", b"\x81\xa7message\xa4news")).collect();
    loop {
        // Ends when the parent kills it, or reads no more.
        wire.write(&news)?;
    }
}
