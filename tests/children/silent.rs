//! Never says HELLO: any program that does not know the protocol and reads its input, such as `cat` into nothing.

fn main() -> std::io::Result<()> {
    stokehold_tests::park_until_end_of_input()
}
