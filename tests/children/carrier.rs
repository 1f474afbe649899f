//! Wrong in no way: a worker with the SDK for payloads that are large, up to the size that its argument says (of frames, in bytes).

use std::error::Error;
use std::process::ExitCode;

use serde_bytes::ByteBuf;
use stokehold_child::{Data, Init, Request, Worker};
use stokehold_tests::note;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let max_frame = std::env::args().nth(1).and_then(|bytes| bytes.parse().ok()).unwrap_or(u32::MAX);
    Worker::new(|_: &mut Init| Outcome::Ok(Vec::<Data>::new()))
        // Gives back what it gets: shared, or as a copy.
        .on_raw("DO", |_, input, context| Outcome::Ok(context.keep(input)))
        .on_raw("copy", |_, input, _| Data::from_encoded(input.to_vec()))
        .on_raw("noted", |_, input, context| {
            note("begun")?;
            Outcome::Ok(context.keep(input))
        })
        // Keeps what it gets, and gives it back when it is asked for.
        .on_raw("hoard", |hoard, input, context| {
            hoard.push(context.keep(input));
            Outcome::Ok(Data::nil())
        })
        .on_raw("hoarded", |hoard, input, _| {
            let place: usize = Data::from_encoded(input.to_vec())?.decode()?;
            Outcome::Ok(hoard.get(place).cloned().ok_or("there is no such thing")?)
        })
        .on(Request::<usize, ByteBuf>::new("inflate"), |_, len, _| Outcome::Ok(ByteBuf::from(vec![7; len])))
        .max_frame(max_frame)
        .serve()
}
