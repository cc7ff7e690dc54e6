//! Bytes that are kept for a copy while they stream by, as far as the mirror's bounds allow.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tidegate_core::stats::MirrorStats;

use super::bounds::Held;
use crate::outbound::Payload;

/// Chunks below this are copied together, longer ones are kept by reference. A small slice of an HTTP/2 frame pins the
/// whole frame (16 KiB): one client that sends single bytes would hold 16,000 times what is counted for it.
const KEPT_BY_REFERENCE: usize = 4 * 1024;

/// Why a chunk was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is longer than it may be.
    TooLong,
    /// The mirror holds too much already.
    Bound,
}

/// The bytes so far.
#[derive(Debug)]
pub(super) struct Gathered {
    parts: Vec<Bytes>,
    tail: BytesMut,
    length: u64,
    held: Held,
}

impl Gathered {
    /// Nothing yet.
    pub(super) fn nothing(stats: &Arc<MirrorStats>) -> Self {
        Self { parts: Vec::new(), tail: BytesMut::new(), length: 0, held: Held::nothing(stats) }
    }

    /// Bytes so far.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Keeps one more chunk, unless there would be more than `limit` bytes or the mirror would hold too much.
    pub(super) fn push(&mut self, chunk: &Bytes, limit: u64) -> Result<(), Refused> {
        let more = chunk.len() as u64;
        if more > limit.saturating_sub(self.length) {
            return Err(Refused::TooLong);
        }
        if !self.held.grow(more) {
            return Err(Refused::Bound);
        }
        self.length += more;
        if chunk.len() < KEPT_BY_REFERENCE {
            self.tail.extend_from_slice(chunk);
        } else {
            self.close_tail();
            self.parts.push(chunk.clone());
        }
        Ok(())
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push(self.tail.split().freeze());
        }
    }

    /// The bytes as the body of a request, and what must live as long as they do.
    pub(super) fn into_payload(mut self) -> (Payload, Held) {
        self.close_tail();
        (self.parts.into_iter().collect(), self.held)
    }

    /// The bytes in one piece.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|part| part.iter()).chain(self.tail.iter()).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_of_any_size_keep_their_bytes_and_order(sizes in prop::collection::vec(0_usize..9000, 0..12)) {
            let stats = Arc::new(MirrorStats::default());
            let whole: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|at| at as u8).collect();
            let mut rest = Bytes::from(whole.clone());
            let mut gathered = Gathered::nothing(&stats);
            for size in sizes {
                gathered.push(&rest.split_to(size), whole.len() as u64).unwrap();
            }
            prop_assert_eq!(stats.bytes_held.load(Relaxed), whole.len() as u64);
            prop_assert_eq!(gathered.bytes(), whole);
            drop(gathered.into_payload());
            prop_assert_eq!(stats.bytes_held.load(Relaxed), 0);
        }
    }

    #[test]
    fn the_limit_itself_is_kept_and_one_byte_more_is_refused() {
        let stats = Arc::new(MirrorStats::default());
        let mut gathered = Gathered::nothing(&stats);
        assert_eq!(gathered.push(&Bytes::from_static(b"12345"), 5), Ok(()));
        assert_eq!(gathered.push(&Bytes::from_static(b"6"), 5), Err(Refused::TooLong));
        assert_eq!((gathered.length(), stats.bytes_held.load(Relaxed)), (5, 5));
    }
}
