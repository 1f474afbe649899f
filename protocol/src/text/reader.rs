//! A line as the body of a frame. Two passes: the first finds out whether it is JSON at all and how many values each array and map
//! has, because MessagePack says so in front; the second reads the values. Neither recurses, and neither takes memory but for what
//! stands in the line.

use super::{BIN_KEY, LineError, base64};
use crate::address::Recipient;
use crate::error::{DataError, MessageError};
use crate::limits::{ADDRESS_MAX, DEPTH_MAX, REQUEST_BYTES_MAX};
use crate::message::write_head;
use crate::wire;

/// Levels that the first pass follows: those of the data, the array of the message, and the map around bytes, which is no level.
const LEVELS_MAX: usize = DEPTH_MAX + 2;

/// Reads a line without its end: appends the body that its message has in a frame, and gives its id.
///
/// On [`LineError::Data`] the head is appended, and nil for the data; on other errors nothing is.
pub fn read_line(line: &[u8], body: &mut Vec<u8>) -> Result<u32, LineError> {
    let (id, array) = split_id(line)?;
    let bad = |error| LineError::Message { id, error };
    let start = body.len();
    let counts = count(array);
    let mut values = Values { bytes: array, at: 1 };
    let head = match &counts {
        // Nested too deep, perhaps in the head.
        Ok(None) => head(&mut values, body),
        Ok(Some(counts)) => match counts.first().copied().unwrap_or(0) {
            4 => head(&mut values, body),
            fields => Err(MessageError::FieldCount(fields)),
        },
        Err(error) => Err(*error),
    };
    if let Err(error) = head {
        body.truncate(start);
        return Err(bad(error));
    }
    let data_start = body.len();
    let read = match counts {
        Ok(Some(counts)) => data(&mut values, counts.get(1..).unwrap_or_default(), body),
        _ => Err(DataError::TooDeep),
    };
    if let Err(error) = read {
        body.truncate(data_start);
        wire::write_nil(body);
        return Err(LineError::Data { id, error });
    }
    Ok(id)
}

/// Reads the head of a line of which only the beginning is there: appends it, and nil for the data, and gives the id.
pub(crate) fn read_head(beginning: &[u8], body: &mut Vec<u8>) -> Result<u32, LineError> {
    let (id, array) = split_id(beginning)?;
    let start = body.len();
    let read = head(&mut Values { bytes: array, at: 1 }, body);
    if let Err(error) = read {
        body.truncate(start);
        return Err(LineError::Message { id, error });
    }
    wire::write_nil(body);
    Ok(id)
}

/// The id in front, 0 if there is none, and the rest, which begins with `[`.
pub(crate) fn split_id(line: &[u8]) -> Result<(u32, &[u8]), LineError> {
    if line.first() == Some(&b'[') {
        return Ok((0, line));
    }
    let end = line.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(line.len());
    let (digits, rest) = line.split_at(end);
    let is_number = matches!(digits, [b'0'] | [b'1'..=b'9', ..]);
    let id = std::str::from_utf8(digits).ok().filter(|_| is_number).and_then(|digits| digits.parse().ok());
    match (id, rest) {
        (Some(id), [b' ', array @ ..]) if array.first() == Some(&b'[') => Ok((id, array)),
        _ => Err(LineError::Stray),
    }
}

/// The first pass: whether `bytes` are one JSON value, and how many values each of its arrays and maps has, in the order in which
/// they begin. `None` if they are nested so deep that nothing more can be said.
fn count(bytes: &[u8]) -> Result<Option<Vec<u32>>, MessageError> {
    let mut scan = Scan { bytes, at: 0 };
    let mut counts: Vec<u32> = Vec::new();
    // The place of each open array or map in `counts`, and whether it is a map.
    let mut levels: Vec<(usize, bool)> = Vec::new();
    loop {
        // An empty array or map that has only begun is none yet.
        let mut is_value = true;
        scan.skip_space();
        match scan.next() {
            Some(mark @ (b'[' | b'{')) => {
                if levels.len() == LEVELS_MAX {
                    return Ok(None);
                }
                let is_map = mark == b'{';
                levels.push((counts.len(), is_map));
                counts.push(0);
                scan.skip_space();
                if scan.peek() != Some(if is_map { b'}' } else { b']' }) {
                    if is_map {
                        scan.key()?;
                    }
                    continue;
                }
                is_value = false;
            }
            Some(b'"') => scan.text()?,
            Some(b'n') => scan.word(b"ull")?,
            Some(b't') => scan.word(b"rue")?,
            Some(b'f') => scan.word(b"alse")?,
            Some(first @ (b'-' | b'0'..=b'9')) => scan.number(first)?,
            _ => return Err(scan.wrong()),
        }
        loop {
            let Some((place, is_map)) = levels.last().copied() else {
                scan.skip_space();
                return if scan.peek().is_none() { Ok(Some(counts)) } else { Err(scan.wrong_here()) };
            };
            if is_value && let Some(count) = counts.get_mut(place) {
                *count = count.saturating_add(1);
            }
            scan.skip_space();
            match scan.next() {
                Some(b',') if is_value => {
                    if is_map {
                        scan.skip_space();
                        scan.key()?;
                    }
                    break;
                }
                Some(b']') if !is_map => {}
                Some(b'}') if is_map => {}
                _ => return Err(scan.wrong()),
            }
            levels.pop();
            is_value = true;
        }
    }
}

/// JSON as a grammar, byte by byte.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at = self.at.saturating_add(1);
        byte
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at = self.at.saturating_add(1);
        }
    }

    /// The last byte taken is wrong.
    fn wrong(&self) -> MessageError {
        self.wrong_at(self.at.saturating_sub(1))
    }

    /// The next byte is.
    fn wrong_here(&self) -> MessageError {
        self.wrong_at(self.at)
    }

    fn wrong_at(&self, at: usize) -> MessageError {
        MessageError::NotJson { at: u32::try_from(at.min(self.bytes.len())).unwrap_or(u32::MAX) }
    }

    fn word(&mut self, rest: &[u8]) -> Result<(), MessageError> {
        match self.bytes.get(self.at..).is_some_and(|bytes| bytes.starts_with(rest)) {
            true => self.at = self.at.saturating_add(rest.len()),
            false => return Err(self.wrong_here()),
        }
        Ok(())
    }

    /// A key and the colon behind it.
    fn key(&mut self) -> Result<(), MessageError> {
        if self.next() != Some(b'"') {
            return Err(self.wrong());
        }
        self.text()?;
        self.skip_space();
        if self.next() == Some(b':') { Ok(()) } else { Err(self.wrong()) }
    }

    /// The rest of a text behind its first quote.
    fn text(&mut self) -> Result<(), MessageError> {
        loop {
            match self.next() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => match self.next() {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                    Some(b'u') => {
                        for _ in 0..4 {
                            if !self.next().is_some_and(|digit| digit.is_ascii_hexdigit()) {
                                return Err(self.wrong());
                            }
                        }
                    }
                    _ => return Err(self.wrong()),
                },
                Some(0..=0x1f) | None => return Err(self.wrong()),
                Some(_) => {}
            }
        }
    }

    fn number(&mut self, first: u8) -> Result<(), MessageError> {
        let first = if first == b'-' { self.next() } else { Some(first) };
        match first {
            Some(b'0') => {}
            Some(b'1'..=b'9') => self.skip_digits(),
            _ => return Err(self.wrong()),
        }
        if self.peek() == Some(b'.') {
            self.at = self.at.saturating_add(1);
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at = self.at.saturating_add(1);
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at = self.at.saturating_add(1);
            }
            self.digits()?;
        }
        Ok(())
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), MessageError> {
        if !self.next().is_some_and(|digit| digit.is_ascii_digit()) {
            return Err(self.wrong());
        }
        self.skip_digits();
        Ok(())
    }

    fn skip_digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at = self.at.saturating_add(1);
        }
    }
}

/// The tokens of what is JSON, for the second pass. Of the beginning of a line, they end somewhere.
struct Values<'a> {
    bytes: &'a [u8],
    at: usize,
}

#[derive(Clone, Copy, Debug)]
enum Token<'a> {
    Array,
    Map,
    Nil,
    Bool(bool),
    /// What stands between the quotes.
    Text(&'a [u8]),
    Number(&'a [u8]),
}

impl<'a> Values<'a> {
    /// The next value; of an array or map the first byte only. What separates values is passed over, and the ends of arrays and maps.
    /// `None` if the line ends before the value does.
    fn token(&mut self) -> Option<Token<'a>> {
        let rest = self.bytes.get(self.at..)?;
        let is_between = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b']' | b'}');
        let begin = rest.iter().position(|byte| !is_between(byte))?;
        let rest = rest.get(begin..)?;
        let (token, len) = match rest.first()? {
            b'[' => (Token::Array, 1),
            b'{' => (Token::Map, 1),
            b'n' => (Token::Nil, 4),
            b't' => (Token::Bool(true), 4),
            b'f' => (Token::Bool(false), 5),
            b'"' => {
                let content = rest.get(1..)?;
                let end = text_end(content)?;
                (Token::Text(content.get(..end)?), end.saturating_add(2))
            }
            _ => {
                let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let end = rest.iter().position(|byte| !is_part(byte))?;
                (Token::Number(rest.get(..end)?), end.max(1))
            }
        };
        self.at = self.at.saturating_add(begin).saturating_add(len);
        Some(token)
    }
}

/// Where the quote stands that ends a text.
fn text_end(content: &[u8]) -> Option<usize> {
    let mut at = 0_usize;
    loop {
        let next = content.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        at = at.saturating_add(next);
        if content.get(at) == Some(&b'"') {
            return Some(at);
        }
        at = at.saturating_add(2);
    }
}

/// Reads and writes the first three fields.
fn head(values: &mut Values<'_>, body: &mut Vec<u8>) -> Result<(), MessageError> {
    let mut field = || values.token().ok_or(MessageError::Truncated);
    let Token::Text(request) = field()? else { return Err(MessageError::BadRequest) };
    let request = plain_text(request).map_err(|_| MessageError::BadRequest)?;
    if !(1..=REQUEST_BYTES_MAX).contains(&request.len()) {
        return Err(MessageError::BadRequest);
    }
    let sender = match field()? {
        Token::Number(digits) => integer(digits).and_then(|number| u64::try_from(number).ok()),
        _ => None,
    };
    let sender = sender.filter(|sender| *sender <= ADDRESS_MAX).ok_or(MessageError::BadSender)?;
    let recipient = match field()? {
        Token::Nil => Some(Recipient::Anyone),
        Token::Number(digits) => match integer(digits) {
            Some(-1) => Some(Recipient::Everyone),
            Some(number) => u64::try_from(number)
                .ok()
                .filter(|pid| (1..=ADDRESS_MAX).contains(pid))
                .map(Recipient::Process),
            None => None,
        },
        _ => None,
    };
    write_head(body, &request, sender, recipient.ok_or(MessageError::BadRecipient)?);
    Ok(())
}

/// A map or array whose values are still owed.
struct Level {
    owed: u64,
    /// For a map: where its keys begin in the list of keys.
    keys_from: Option<usize>,
}

/// Reads and writes the data. `counts` are those of its arrays and maps.
fn data(values: &mut Values<'_>, counts: &[u32], body: &mut Vec<u8>) -> Result<(), DataError> {
    let mut counts = counts.iter().copied();
    let mut levels: Vec<Level> = Vec::new();
    // Where the keys of the open maps stand in the body, their content only.
    let mut keys: Vec<(usize, usize)> = Vec::new();
    loop {
        let token = values.token().ok_or(DataError::Truncated)?;
        let at_key =
            levels.last().is_some_and(|level| level.keys_from.is_some() && level.owed.is_multiple_of(2));
        if let Some(level) = levels.last_mut() {
            level.owed = level.owed.saturating_sub(1);
        }
        match token {
            Token::Nil => wire::write_nil(body),
            Token::Bool(value) => wire::write_bool(body, value),
            Token::Number(digits) => number(digits, body)?,
            Token::Text(content) => {
                let text = plain_text(content)?;
                wire::write_str(body, &text);
                if at_key {
                    keys.push((body.len().saturating_sub(text.len()), body.len()));
                }
            }
            Token::Array => {
                let count = counts.next().unwrap_or(0);
                push(&mut levels, Level { owed: u64::from(count), keys_from: None })?;
                wire::write_array_len(body, count);
            }
            Token::Map => {
                let count = counts.next().unwrap_or(0);
                if count != 1 || !marked(values, body)? {
                    let owed = u64::from(count).saturating_mul(2);
                    push(&mut levels, Level { owed, keys_from: Some(keys.len()) })?;
                    wire::write_map_len(body, count);
                    if count == 1 {
                        unmarked_key(values, body, &mut levels)?;
                    }
                }
            }
        }
        while let Some(level) = levels.pop_if(|level| level.owed == 0) {
            if let Some(from) = level.keys_from {
                unique(keys.get_mut(from..).unwrap_or_default(), body)?;
                keys.truncate(from);
            }
        }
        if levels.is_empty() {
            return Ok(());
        }
    }
}

/// Writes the bytes that a map of one key stands for, if it does.
fn marked(values: &mut Values<'_>, body: &mut Vec<u8>) -> Result<bool, DataError> {
    let before = values.at;
    let Some(Token::Text(key)) = values.token() else { return Err(DataError::Truncated) };
    if plain_text(key)? != BIN_KEY {
        values.at = before;
        return Ok(false);
    }
    let Some(Token::Text(content)) = values.token() else { return Err(DataError::BadBytes) };
    let bytes = base64::decode(plain_text(content)?.as_bytes()).ok_or(DataError::BadBytes)?;
    wire::write_bin(body, &bytes);
    Ok(true)
}

/// Writes the key of a map that has one, without the `$` that was put before one.
fn unmarked_key(values: &mut Values<'_>, body: &mut Vec<u8>, levels: &mut [Level]) -> Result<(), DataError> {
    let Some(Token::Text(key)) = values.token() else { return Err(DataError::Truncated) };
    let key = plain_text(key)?;
    let key = match key.strip_prefix('$') {
        Some(key) if key.starts_with('$') => key,
        Some(_) => return Err(DataError::UnknownMark),
        None => &key,
    };
    wire::write_str(body, key);
    if let Some(level) = levels.last_mut() {
        level.owed = level.owed.saturating_sub(1);
    }
    Ok(())
}

fn push(levels: &mut Vec<Level>, level: Level) -> Result<(), DataError> {
    if levels.len() == DEPTH_MAX {
        return Err(DataError::TooDeep);
    }
    levels.push(level);
    Ok(())
}

/// Looks for two equal keys.
fn unique(keys: &mut [(usize, usize)], body: &[u8]) -> Result<(), DataError> {
    let key = |(from, until): (usize, usize)| body.get(from..until).unwrap_or_default();
    keys.sort_unstable_by(|a, b| key(*a).cmp(key(*b)));
    if keys.windows(2).any(|pair| matches!(pair, [a, b] if key(*a) == key(*b))) {
        return Err(DataError::DuplicateKey);
    }
    Ok(())
}

/// A text as it is meant.
fn plain_text(content: &[u8]) -> Result<std::borrow::Cow<'_, str>, DataError> {
    let text = std::str::from_utf8(content).map_err(|_| DataError::InvalidUtf8)?;
    if !text.contains('\\') {
        return Ok(text.into());
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, escaped)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut letters = escaped.chars();
        let (char, len) = match letters.next() {
            Some('b') => ('\u{8}', 1),
            Some('f') => ('\u{c}', 1),
            Some('n') => ('\n', 1),
            Some('r') => ('\r', 1),
            Some('t') => ('\t', 1),
            Some('u') => unicode(escaped)?,
            Some(itself) => (itself, itself.len_utf8()),
            None => return Err(DataError::Truncated),
        };
        plain.push(char);
        rest = escaped.get(len..).unwrap_or_default();
    }
    plain.push_str(rest);
    Ok(plain.into())
}

/// The character that `uXXXX` means, or two of them with a backslash between, and how many bytes that is.
fn unicode(escaped: &str) -> Result<(char, usize), DataError> {
    let unit = |from: usize| {
        let digits = escaped.get(from..from.saturating_add(4))?;
        u16::from_str_radix(digits, 16).ok()
    };
    let first = unit(1).ok_or(DataError::Truncated)?;
    if let Some(char) = char::from_u32(u32::from(first)) {
        return Ok((char, 5));
    }
    let second = escaped.get(5..7).filter(|mark| *mark == "\\u").and_then(|_| unit(7));
    let pair = char::decode_utf16([first].into_iter().chain(second)).next();
    match pair {
        Some(Ok(char)) => Ok((char, 11)),
        _ => Err(DataError::LoneSurrogate),
    }
}

/// An integer without fraction or exponent, if it is within the data model.
fn integer(digits: &[u8]) -> Option<i128> {
    let number: i128 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&number).then_some(number)
}

fn number(digits: &[u8], body: &mut Vec<u8>) -> Result<(), DataError> {
    if digits.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<f64>().ok());
        let number = number.filter(|number| number.is_finite()).ok_or(DataError::NotFinite)?;
        wire::write_float(body, number);
        return Ok(());
    }
    let number = integer(digits).ok_or(DataError::IntegerRange)?;
    match (u64::try_from(number), i64::try_from(number)) {
        (Ok(number), _) => wire::write_uint(body, number),
        (_, Ok(number)) => wire::write_int(body, number),
        _ => return Err(DataError::IntegerRange),
    }
    Ok(())
}
