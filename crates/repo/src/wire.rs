//! Bytes into values and back: variable-length integers, texts, identities. All limits are checked before anything is allocated.

use crate::error::Malformed;
use crate::seal::ContentId;

const ENDS_EARLY: Malformed = Malformed::new("it ends in the middle of a value");
const BAD_VARINT: Malformed = Malformed::new("a number is written in a way that no writer uses");

/// Appends an unsigned LEB128 integer.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a length and a text.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Small magnitudes of either sign as small numbers.
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads values from the front of some bytes.
#[derive(Debug, Clone)]
pub(crate) struct Wire<'a> {
    rest: &'a [u8],
}

impl<'a> Wire<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// What has not been read yet.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(byte)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(ENDS_EARLY)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn id16(&mut self) -> Result<ContentId, Malformed> {
        self.array().map(ContentId)
    }

    /// An integer in its shortest form; padded forms are refused, so that equal values have equal bytes.
    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..).step_by(7).take(10) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 || byte == 0 && shift > 0 {
                return Err(BAD_VARINT);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BAD_VARINT)
    }

    /// An integer of at most `max`; `what` says which one it is.
    pub(crate) fn varint_up_to(&mut self, max: u64, what: &'static str) -> Result<u64, Malformed> {
        self.varint().and_then(|value| if value <= max { Ok(value) } else { Err(Malformed::new(what)) })
    }

    pub(crate) fn varint_u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.varint_up_to(u32::MAX.into(), what).map(|value| value as u32)
    }

    pub(crate) fn varint_u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.varint_up_to(u16::MAX.into(), what).map(|value| value as u16)
    }

    /// How many elements follow. Each takes at least `bytes_each`, so a count that the rest cannot hold is refused here and
    /// never becomes an allocation.
    pub(crate) fn count(&mut self, bytes_each: usize, what: &'static str) -> Result<usize, Malformed> {
        let max = self.remaining() / bytes_each.max(1);
        self.varint_up_to(max as u64, what).map(|count| count as usize)
    }

    /// A text of at most `max` bytes.
    pub(crate) fn text(&mut self, max: usize, what: &'static str) -> Result<&'a str, Malformed> {
        let length = self.varint_up_to(max as u64, what)? as usize;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Malformed::new(what))
    }

    /// Refuses bytes after the last value.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::new("bytes follow the last value")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_read_back(value: u64, signed: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_varint(&mut out, zigzag(signed));
            let mut wire = Wire::new(&out);
            prop_assert_eq!(wire.varint(), Ok(value));
            prop_assert_eq!(wire.varint().map(unzigzag), Ok(signed));
            prop_assert_eq!(wire.finish(), Ok(()));
        }

        #[test]
        fn an_integer_that_reads_has_one_spelling(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut wire = Wire::new(&bytes);
            if let Ok(value) = wire.varint() {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - wire.remaining()]);
            }
        }
    }

    #[test]
    fn counts_beyond_the_bytes_that_follow_are_refused() {
        let mut out = Vec::new();
        put_varint(&mut out, 1 << 40);
        out.extend_from_slice(&[0; 100]);
        assert!(Wire::new(&out).count(1, "too many").is_err());
    }
}
