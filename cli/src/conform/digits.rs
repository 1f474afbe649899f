//! Bytes as the vectors and scripts write them: digits, and runs `{"repeat": [digits, count]}` (`protocol/vectors/README.md`).

use serde_json::Value;

/// The pieces of a stream, and how often each is repeated.
pub(crate) fn pieces(notation: &Value) -> Result<Vec<(Vec<u8>, usize)>, String> {
    match notation {
        Value::Array(pieces) => pieces.iter().map(piece).collect(),
        whole => Ok(vec![piece(whole)?]),
    }
}

fn piece(piece: &Value) -> Result<(Vec<u8>, usize), String> {
    if let Some(digits) = piece.as_str() {
        return Ok((unhex(digits)?, 1));
    }
    repeated(piece.get("repeat").ok_or("a piece of bytes is neither digits nor a run")?)
}

/// Bytes, and how often they are repeated.
pub(crate) fn repeated(run: &Value) -> Result<(Vec<u8>, usize), String> {
    let digits = run.get(0).and_then(Value::as_str).ok_or("a run has no digits")?;
    let count = run.get(1).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    Ok((unhex(digits)?, count.ok_or("a run has no count")?))
}

/// The bytes of hexadecimal digits.
pub(crate) fn unhex(digits: &str) -> Result<Vec<u8>, String> {
    let byte = |at: usize| {
        let pair = digits.get(at..at + 2).ok_or("an odd number of digits")?;
        u8::from_str_radix(pair, 16).map_err(|error| error.to_string())
    };
    (0..digits.len()).step_by(2).map(byte).collect()
}
