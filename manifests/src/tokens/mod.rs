//! Codec `deflate-tokens`: gzip bytes as a token stream that zstd compresses well (`docs/spec/tokens.md`).
//!
//! A gzip layer is hard to compress again, because its entropy coder has hidden every repetition
//! behind bits that are not bytes. [`TokenEncoder`] undoes only that coder: literals, match lengths
//! and distances lie in streams of bytes, and [`TokenDecoder`] writes the identical gzip bytes again
//! without knowing which compressor made them. The token bytes hold no offsets and no counters, so
//! that equal content in another layer or in a former version gives equal token bytes.
//!
//! Threats: both sides read bytes from across the gap. Gzip that no compressor would write, tokens
//! that no encoder would write, lengths that lie, a stream that never ends. Defences: every length is
//! bounded before it is allocated, a segment holds at most [`crate::limits::TOKEN_SEGMENT_MOST`] bytes,
//! every input byte gives a bounded number of output bytes, and the decoder counts its output against
//! the caller's limit. Neither side proves anything: the digest of the blob does (spec 6).

#![allow(
    clippy::cast_possible_truncation,
    reason = "symbols, lengths and code words are below their types' bounds by RFC 1951"
)]
#![allow(clippy::inline_always, reason = "a call for each symbol halves the speed")]

mod bits;
mod content;
mod decode;
mod encode;
mod foretell;
mod header;
mod huffman;
mod inflate;
mod merge;
mod segment;
mod symbols;
mod tree;

pub use content::{Inside, Listener};
pub use decode::TokenDecoder;
pub use encode::TokenEncoder;

/// Why a blob cannot be carried as tokens. No error of the input: the blob is carried otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not codable as deflate tokens: {0}")]
pub struct NotCodable(pub(crate) &'static str);

/// Token bytes that no encoder writes, or that give more than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed deflate tokens: {0}")]
pub struct BadTokens(pub(crate) &'static str);
