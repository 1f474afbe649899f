//! What is sent of a task: head and data, encoded. A large one is shared by everybody who needs it, and never copied.

use stokehold_protocol::{Data, SHARED_BYTES_MIN, SharedTail};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    /// All of it, or what stands before the rest.
    bytes: Vec<u8>,
    /// The rest of a large one.
    rest: Option<SharedTail>,
}

impl Body {
    /// A body that is `head` and then `data`.
    pub(crate) fn with_data(mut head: Vec<u8>, data: &Data) -> Self {
        match data.shared() {
            Some(rest) => Self { bytes: head, rest: Some(rest.clone()) },
            None => {
                head.extend_from_slice(data.as_bytes());
                Self { bytes: head, rest: None }
            }
        }
    }

    /// A body in one piece, whatever its size: one whose inputs are looked at again.
    pub(crate) fn in_one_piece(bytes: Vec<u8>) -> Self {
        Self { bytes, rest: None }
    }

    /// A body that is `head` and then `rest`.
    pub(crate) fn with_rest(head: Vec<u8>, rest: SharedTail) -> Self {
        Self { bytes: head, rest: Some(rest) }
    }

    /// How many bytes it has.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    /// All of it, or what stands before the rest.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The rest of a large one.
    #[inline]
    pub(crate) fn rest(&self) -> Option<&SharedTail> {
        self.rest.as_ref()
    }

    /// What it is made of.
    #[inline]
    pub(crate) fn into_parts(self) -> (Vec<u8>, Option<SharedTail>) {
        (self.bytes, self.rest)
    }

    /// All of it in one piece.
    pub(crate) fn into_vec(self) -> Vec<u8> {
        let Self { mut bytes, rest } = self;
        match rest {
            Some(rest) if bytes.is_empty() => rest.into_vec(),
            Some(rest) => {
                bytes.extend_from_slice(&rest);
                bytes
            }
            None => bytes,
        }
    }

    /// Takes the memory out of it, to be used for something else.
    #[inline]
    pub(crate) fn take_memory(&mut self) -> Vec<u8> {
        self.rest = None;
        std::mem::take(&mut self.bytes)
    }
}

impl From<Vec<u8>> for Body {
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() < SHARED_BYTES_MIN {
            return Self { bytes, rest: None };
        }
        Self { bytes: Vec::new(), rest: Some(SharedTail::new(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_payload_is_shared_and_a_small_one_is_not() {
        for len in [10, SHARED_BYTES_MIN] {
            let data = Data::bytes(&vec![7; len]);
            let body = Body::with_data(b"head".to_vec(), &data);
            assert_eq!(body.rest().is_some(), len > 10);
            assert_eq!(body.len(), 4 + data.as_bytes().len());
            assert_eq!(body.clone().into_vec(), [b"head", data.as_bytes()].concat());
            let whole = Body::from(body.into_vec());
            assert_eq!((whole.rest().is_some(), whole.bytes().is_empty()), (len > 10, len > 10));
        }
    }

    #[test]
    fn a_large_body_in_one_piece_comes_back_without_a_copy() {
        let bytes = vec![7; SHARED_BYTES_MIN];
        let address = bytes.as_ptr();
        let back = Body::from(bytes).into_vec();
        assert_eq!(back.as_ptr(), address);
    }
}
