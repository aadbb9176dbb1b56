//! Payloads: content, compressed where that makes it smaller.
//!
//! [`Encoder`] and [`Decoder`] keep their contexts and buffers from one payload to the next; a thread has one of each. Allocating
//! a zstd context for each extent costs more than compressing a small one (measured: 20,000 small tables spend three
//! quarters of pgBackRest's time on memory management).

use crate::error::Malformed;
use crate::wire::{Wire, put_varint};
use crate::{Error, Result};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use std::{fmt, io, io::Cursor, str::FromStr};

/// The level used where none is asked for: what pgBackRest and zstd itself use.
pub const ZSTD_LEVEL_DEFAULT: i32 = 3;

/// How content is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// LZ4 blocks: fast, compresses less.
    Lz4,
    /// Zstandard at a level of 1 to 22, or -7 to -1 for its fast modes.
    Zstd {
        /// The level.
        level: i32,
    },
}

impl Default for Codec {
    fn default() -> Self {
        Self::Zstd { level: ZSTD_LEVEL_DEFAULT }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Zstd { level } => write!(f, "zstd:{level}"),
        }
    }
}

impl FromStr for Codec {
    type Err = Error;

    /// Reads `none`, `lz4`, `zstd` and `zstd:LEVEL`.
    fn from_str(text: &str) -> Result<Self> {
        let level = match text {
            "none" => return Ok(Self::None),
            "lz4" => return Ok(Self::Lz4),
            "zstd" => return Ok(Self::default()),
            _ => text.strip_prefix("zstd:").and_then(|level| level.parse().ok()),
        };
        let known = level.filter(|level| *level != 0 && (-7..=22).contains(level));
        known.map(|level| Self::Zstd { level }).ok_or_else(|| Error::NotA {
            kind: "a compression: write zstd, zstd:1 to zstd:22, lz4 or none",
            text: text.to_owned(),
        })
    }
}

impl serde::Serialize for Codec {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Codec {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// First byte of a payload.
const RAW: u8 = 0;
const LZ4: u8 = 1;
const ZSTD: u8 = 2;

/// Makes payloads. One for each thread, used again and again.
pub struct Encoder {
    codec: Codec,
    context: EncodeContext,
}

enum EncodeContext {
    None,
    Lz4 { table: Box<CompressTable>, scratch: Vec<u8> },
    Zstd(zstd::bulk::Compressor<'static>),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoder({})", self.codec)
    }
}

impl Encoder {
    /// Prepares a context.
    ///
    /// # Errors
    /// [`Error::Codec`] when the library refuses the level or has no memory.
    pub fn new(codec: Codec) -> Result<Self> {
        let context = match codec {
            Codec::None => EncodeContext::None,
            Codec::Lz4 => EncodeContext::Lz4 { table: Box::new(CompressTable::large()), scratch: Vec::new() },
            Codec::Zstd { level } => {
                let compressor = zstd::bulk::Compressor::new(level);
                EncodeContext::Zstd(compressor.map_err(|source| Error::Codec {
                    operation: "compress",
                    codec: codec.to_string(),
                    source,
                })?)
            }
        };
        Ok(Self { codec, context })
    }

    /// The codec asked for.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Appends the payload of `raw` to `out`. What does not shrink is stored as it is.
    ///
    /// # Errors
    /// [`Error::Codec`] when the library fails; `out` is then as it was.
    pub fn encode(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.push(RAW);
        put_varint(out, raw.len() as u64);
        let head = out.len();
        let method = match self.compress(raw, out) {
            Ok(method) => method,
            Err(source) => {
                out.truncate(start);
                return Err(Error::Codec { operation: "compress", codec: self.codec.to_string(), source });
            }
        };
        if method != RAW && out.len() - head < raw.len() {
            out[start] = method;
        } else {
            out.truncate(head);
            out.extend_from_slice(raw);
        }
        Ok(())
    }

    /// Appends the compressed bytes and says how they were made.
    fn compress(&mut self, raw: &[u8], out: &mut Vec<u8>) -> io::Result<u8> {
        match &mut self.context {
            EncodeContext::None => Ok(RAW),
            EncodeContext::Lz4 { table, scratch } => {
                // Grows to the largest payload once; the zeroes it is filled with are never paid again.
                if scratch.len() < get_maximum_output_size(raw.len()) {
                    scratch.resize(get_maximum_output_size(raw.len()), 0);
                }
                let length = compress_into_with_table(raw, scratch, table).map_err(io::Error::other)?;
                out.extend_from_slice(&scratch[..length]);
                Ok(LZ4)
            }
            EncodeContext::Zstd(compressor) => {
                out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
                let mut tail = Cursor::new(&mut *out);
                tail.set_position(tail.get_ref().len() as u64);
                compressor.compress_to_buffer(raw, &mut tail)?;
                Ok(ZSTD)
            }
        }
    }
}

/// Reads payloads. One for each thread, used again and again.
pub struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

const NOT_DECODABLE: Malformed = Malformed::new("a payload cannot be decompressed");

impl Decoder {
    /// Prepares a context.
    ///
    /// # Errors
    /// [`Error::Codec`] when there is no memory for it.
    pub fn new() -> Result<Self> {
        let zstd = zstd::bulk::Decompressor::new();
        let zstd = zstd.map_err(|source| Error::Codec {
            operation: "decompress",
            codec: "zstd".to_owned(),
            source,
        })?;
        Ok(Self { zstd })
    }

    /// Replaces what is in `out` with the content of a payload, which is at most `max` bytes long.
    ///
    /// # Errors
    /// [`Malformed`] when the payload is none, or is longer; `out` then holds nothing of use.
    pub fn decode(&mut self, payload: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let mut wire = Wire::new(payload);
        let method = wire.byte()?;
        let length = wire.varint_up_to(max as u64, "a payload is longer than its kind can be")? as usize;
        let encoded = wire.rest();
        if method == RAW {
            out.clear();
            out.extend_from_slice(encoded);
        } else {
            // Only what grows is zeroed: with equal payloads one after the other, nothing is.
            out.resize(length, 0);
        }
        let decoded = match method {
            RAW => encoded.len(),
            LZ4 => decompress_into(encoded, out).map_err(|_| NOT_DECODABLE)?,
            ZSTD => self.zstd.decompress_to_buffer(encoded, &mut out[..]).map_err(|_| NOT_DECODABLE)?,
            _ => return Err(Malformed::new("a payload is compressed in an unknown way")),
        };
        if decoded == length { Ok(()) } else { Err(NOT_DECODABLE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODECS: [Codec; 4] = [Codec::None, Codec::Lz4, Codec::Zstd { level: 3 }, Codec::Zstd { level: -1 }];

    proptest! {
        #[test]
        fn payloads_read_back_whatever_came_before(
            contents in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..3000),
                    (any::<u8>(), 0..200_000_usize).prop_map(|(byte, length)| vec![byte; length]),
                ],
                1..6,
            ),
        ) {
            let mut decoder = Decoder::new().unwrap();
            let mut read = Vec::new();
            for codec in CODECS {
                let mut encoder = Encoder::new(codec).unwrap();
                for content in &contents {
                    let mut payload = vec![0xee; 3];
                    encoder.encode(content, &mut payload).unwrap();
                    decoder.decode(&payload[3..], content.len(), &mut read).unwrap();
                    prop_assert_eq!(&read, content);
                    prop_assert!(payload.len() <= content.len() + 3 + 1 + 3);
                    if !content.is_empty() {
                        prop_assert!(decoder.decode(&payload[3..], content.len() - 1, &mut read).is_err());
                    }
                }
            }
        }

        #[test]
        fn hostile_payloads_are_refused(mut payload in prop::collection::vec(any::<u8>(), 1..300), method in 0..4_u8) {
            payload[0] = method;
            let mut out = Vec::new();
            let _ = Decoder::new().unwrap().decode(&payload, 1 << 16, &mut out);
            prop_assert!(out.capacity() <= 1 << 17);
        }
    }

    #[test]
    fn names_of_codecs_read_back() {
        for codec in CODECS {
            assert_eq!(codec.to_string().parse::<Codec>().unwrap(), codec);
        }
        assert_eq!("zstd".parse::<Codec>().unwrap(), Codec::Zstd { level: 3 });
        for unknown in ["", "gzip", "zstd:", "zstd:0", "zstd:23", "zstd:-8", "lz4:1", "ZSTD"] {
            assert!(unknown.parse::<Codec>().is_err(), "{unknown}");
        }
    }
}
