//! Makes long inputs of short ones, so that limits of 64 KiB are within reach of a fuzzer that works on small files.

/// A control byte in front says how often, in KiB, the byte behind it is to stand at the place that the two bytes after that
/// give; the rest is the text around it. 0 repeats nothing, and has no further control bytes.
pub(crate) fn stretch(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [] => Vec::new(),
        [0, rest @ ..] => rest.to_vec(),
        [kib, fill, high, low, rest @ ..] => {
            let place = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
            let (before, behind) = rest.split_at(place);
            [before, &vec![*fill; usize::from(*kib) * 1024], behind].concat()
        }
        _ => bytes.to_vec(),
    }
}
