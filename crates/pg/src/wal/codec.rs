//! Numbers and bytes in a stable binary form: LEB128 for numbers, zigzag for signed ones.
//!
//! Promises that reading never panics and never allocates more than the input justifies: a count is believed only as far as bytes are left.

use crate::error::PgError;

pub(crate) const WHAT: &str = "WAL summary";

pub(crate) fn damaged(why: &str) -> PgError {
    PgError::malformed(WHAT, why)
}

#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn number(&mut self, value: impl Into<u64>) {
        let mut value = value.into();
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(crate) fn signed(&mut self, value: i64) {
        self.number((value << 1 ^ value >> 63) as u64);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.bytes.push(value.into());
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn option<T>(&mut self, value: &Option<T>, write: impl FnOnce(&mut Self, &T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn list<T>(&mut self, values: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.number(values.len() as u64);
        for value in values {
            write(self, value);
        }
    }
}

pub(crate) struct Reader<'a> {
    pub(crate) bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> Result<u8, PgError> {
        let (first, rest) = self.bytes.split_first().ok_or_else(|| damaged("it ends too early"))?;
        self.bytes = rest;
        Ok(*first)
    }

    pub(crate) fn number(&mut self) -> Result<u64, PgError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7F);
            // The tenth byte has room for one bit only.
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(damaged("a number is too long"))
    }

    pub(crate) fn word(&mut self) -> Result<u32, PgError> {
        u32::try_from(self.number()?).map_err(|_| damaged("a number is too large"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, PgError> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn flag(&mut self) -> Result<bool, PgError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(damaged("a flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], PgError> {
        let len = self.count()?;
        let (value, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        Ok(value)
    }

    /// A number of things that take at least a byte each.
    pub(crate) fn count(&mut self) -> Result<usize, PgError> {
        let count = self.number()?;
        if count > self.bytes.len() as u64 {
            return Err(damaged("it ends too early"));
        }
        Ok(count as usize)
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, PgError>,
    ) -> Result<Option<T>, PgError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, PgError>,
    ) -> Result<Vec<T>, PgError> {
        // Capacity grows with what is really read: an item in memory can be many times its encoding.
        let mut list = Vec::new();
        for _ in 0..self.count()? {
            list.push(read(self)?);
        }
        Ok(list)
    }
}
