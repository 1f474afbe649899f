//! One connection from HELLO to BYE: greet, make the state, then read and let the `desk` work until the end. Works on any
//! byte streams; what a process needs around it is in `worker.rs` and `guard.rs`.

use std::error::Error;
use std::sync::Arc;

use stokehold_protocol::{ChildHello, ChildSession, Codec, Splitter};

use crate::context::{Ctx, Init};
use crate::desk::{After, Desk, Entry};
use crate::line::Line;
use crate::outbox::Outbox;
use crate::probe::{Point, Probe};
use crate::stop::Stop;

/// What a whole connection needs.
pub(crate) struct Plan<'e, 'h, S, P> {
    /// What HELLO says.
    pub(crate) hello: ChildHello,
    /// This process.
    pub(crate) pid: u64,
    /// The handlers.
    pub(crate) entries: &'e mut [Entry<'h, S>],
    /// The slot, for handlers.
    pub(crate) worker: Option<u32>,
    /// The parent's run, for the start.
    pub(crate) run: Option<String>,
    /// The streams.
    pub(crate) line: Arc<Line>,
    /// How the parent writes. What is written to it is translated by the output itself.
    pub(crate) codec: Codec,
    /// Is told how far it is.
    pub(crate) probe: Arc<P>,
}

/// Serves one connection. `init` runs after HELLO was written; `before_bye` when all answers are.
pub(crate) fn serve<S, P: Probe>(
    plan: Plan<'_, '_, S, P>,
    init: impl FnOnce(&mut Init) -> Result<S, Box<dyn Error + Send + Sync>>,
    before_bye: impl FnOnce(),
) -> Result<(), Stop> {
    let Plan { hello, pid, entries, worker, run, line, codec, probe } = plan;
    let mut splitter = match codec {
        Codec::MessagePack => Splitter::new(),
        Codec::Json => Splitter::lines(),
    };
    splitter.set_max_frame(hello.max_frame);
    let mut session = ChildSession::new(hello, pid);
    let mut out = Outbox::new(Arc::clone(&line));
    probe.reach(Point::BeforeHello, 1);
    session.hello(&mut out.bytes)?;
    out.flush()?;
    probe.reach(Point::AfterHello, 1);
    let mut about = Init { worker, run, line: Arc::clone(&line), voice: session.voice() };
    let state = init(&mut about).map_err(Stop::NotReady)?;
    line.end_task();
    probe.reach(Point::BeforeReady, 1);
    session.ready(&mut out.bytes)?;
    out.flush()?;
    probe.reach(Point::AfterReady, 1);
    let shared_probe = probe.is_active().then(|| Arc::clone(&probe) as Arc<dyn Probe>);
    let context = Ctx::new(Arc::clone(&line), session.voice(), worker, shared_probe);
    let mut desk = Desk::new(session, out, entries, state, context, probe);
    loop {
        desk.write_out()?;
        if desk.read(&mut splitter)? == 0 {
            splitter.finish().map_err(Stop::Truncated)?;
            desk.handle_eof();
            break;
        }
        match desk.work_through(&mut splitter) {
            Ok(After::GoOn) => {}
            Ok(After::Finish) => break,
            Ok(After::Drop) => {
                // What was done is still an answer, if anybody wants it.
                let _ = desk.out.flush();
                return Ok(());
            }
            Err(stop) => {
                if matches!(stop, Stop::Peer(_)) {
                    // What was answered before the parent went wrong is still an answer.
                    let _ = desk.out.flush();
                }
                return Err(stop);
            }
        }
    }
    desk.out.flush()?;
    before_bye();
    desk.bye()
}

#[cfg(test)]
mod tests;
