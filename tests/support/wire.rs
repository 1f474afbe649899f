//! The protocol spoken by hand, for children that break it: nothing here stops anybody from writing anything. It keeps no
//! rules and uses no SDK.

use std::io::{self, Read, Write};

use stokehold_protocol::{ChildHello, FrameEvent, Message, Recipient, Splitter};

/// A child's two ends: standard input and standard output.
#[derive(Debug)]
pub struct Wire {
    splitter: Splitter,
}

impl Wire {
    /// Says HELLO and READY, with a window of that many tasks.
    ///
    /// # Errors
    /// When the parent is gone.
    pub fn greet(window: u32) -> io::Result<Self> {
        Self::greet_as(&ChildHello { window, ..ChildHello::default() })
    }

    /// Says HELLO with these words, and READY.
    ///
    /// # Errors
    /// When the parent is gone.
    pub fn greet_as(hello: &ChildHello) -> io::Result<Self> {
        let wire = Self::silent();
        let mut data = Vec::new();
        hello.encode(&mut data);
        let mut bytes = Self::frame(0, "HELLO", &data);
        bytes.extend(Self::frame(0, "READY", b"\xc0"));
        wire.write(&bytes)?;
        Ok(wire)
    }

    /// Says nothing.
    pub fn silent() -> Self {
        Self { splitter: Splitter::new() }
    }

    /// The next task: its id and its data. `None` at the end of input, and at DIE.
    ///
    /// # Errors
    /// When the input is no frames.
    pub fn next_task(&mut self) -> io::Result<Option<(u32, Vec<u8>)>> {
        while let Some((id, request, data)) = self.next_frame()? {
            match request.as_str() {
                "DO" => return Ok(Some((id, data))),
                "DIE" => break,
                _ => {}
            }
        }
        Ok(None)
    }

    /// The next frame: its id, request and data. `None` at the end of input.
    ///
    /// # Errors
    /// When the input is no frames.
    pub fn next_frame(&mut self) -> io::Result<Option<(u32, String, Vec<u8>)>> {
        loop {
            if let Some(event) = self.splitter.next_frame().map_err(io::Error::other)? {
                let FrameEvent::Frame { id, body } = event else { continue };
                let message = Message::decode(body).map_err(io::Error::other)?;
                return Ok(Some((id, message.request.to_owned(), message.data.to_vec())));
            }
            let count = io::stdin().lock().read(self.splitter.space())?;
            if count == 0 {
                return Ok(None);
            }
            self.splitter.filled(count);
        }
    }

    /// Answers a task with data that is encoded already.
    ///
    /// # Errors
    /// When the parent is gone.
    pub fn answer(&self, id: u32, data: &[u8]) -> io::Result<()> {
        self.write(&Self::frame(id, "FINISHED", data))
    }

    /// Writes anything, at once.
    ///
    /// # Errors
    /// When the parent is gone.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut output = io::stdout().lock();
        output.write_all(bytes)?;
        output.flush()
    }

    /// A whole frame.
    pub fn frame(id: u32, request: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        Message { request, sender: 0, recipient: Recipient::Anyone, data }.encode_frame(id, &mut bytes);
        bytes
    }

    /// Answers every task with its own data, until the end.
    ///
    /// # Errors
    /// When the parent is gone, or writes no frames.
    pub fn echo(mut self) -> io::Result<()> {
        while let Some((id, data)) = self.next_task()? {
            self.answer(id, &data)?;
        }
        Ok(())
    }
}

/// Reads and forgets, until the end of input.
///
/// # Errors
/// When the input cannot be read.
pub fn park_until_end_of_input() -> io::Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(|_| ())
}
