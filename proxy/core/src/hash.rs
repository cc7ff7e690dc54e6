//! The stable hash of sticky decisions: the same visitor gets the same bucket on every machine and in every release.
//!
//! MurmurHash3, x86, 32 bits, seed 0, as its author published it; other tools can predict a visitor's bucket.

const C1: u32 = 0xcc9e_2d51;
const C2: u32 = 0x1b87_3593;

/// Buckets of a sticky decision, and numbers of a split: one for each basis point.
pub const NUMBERS: u16 = 10_000;

/// MurmurHash3 of texts that are hashed as if they were one.
#[derive(Debug, Clone, Copy)]
struct Murmur {
    hash: u32,
    /// Bytes that do not fill a word yet, the first in the lowest byte.
    word: u32,
    length: u32,
}

impl Murmur {
    fn new(seed: u32) -> Self {
        Self { hash: seed, word: 0, length: 0 }
    }

    fn write(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min((4 - self.length as usize % 4) % 4));
        head.iter().for_each(|byte| self.push(*byte));
        let mut words = rest.chunks_exact(4);
        for word in &mut words {
            self.mix(word.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)));
            self.length = self.length.wrapping_add(4);
        }
        words.remainder().iter().for_each(|byte| self.push(*byte));
    }

    fn push(&mut self, byte: u8) {
        self.word |= u32::from(byte) << (8 * (self.length % 4));
        self.length = self.length.wrapping_add(1);
        if self.length.is_multiple_of(4) {
            self.mix(self.word);
            self.word = 0;
        }
    }

    fn mix(&mut self, word: u32) {
        let word = word.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
        self.hash = (self.hash ^ word).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }

    fn finish(self) -> u32 {
        let word = self.word.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
        let mut hash = self.hash ^ word ^ self.length;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        hash ^ (hash >> 16)
    }
}

/// The bucket of a visitor, 0 to 9,999: `(murmur3_32(salt ‖ visitor, seed 0) * 10000) >> 32`.
pub fn bucket(salt: &str, visitor: &[u8]) -> u16 {
    number(visitor_bits(salt, visitor))
}

/// The hash that [`bucket`] scales: `murmur3_32(salt ‖ visitor, seed 0)`. Its low bits are unrelated to the bucket.
pub fn visitor_bits(salt: &str, visitor: &[u8]) -> u32 {
    let mut murmur = Murmur::new(0);
    murmur.write(salt.as_bytes());
    murmur.write(visitor);
    murmur.finish()
}

/// Scales 32 evenly spread bits to 0..10,000.
pub(crate) fn number(bits: u32) -> u16 {
    // Invariant: the product is below 10,000 * 2^32, so what is left after the shift is below 10,000.
    ((u64::from(bits) * u64::from(NUMBERS)) >> 32) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn murmur3_32(seed: u32, parts: &[&[u8]]) -> u32 {
        let mut murmur = Murmur::new(seed);
        parts.iter().for_each(|part| murmur.write(part));
        murmur.finish()
    }

    #[test]
    fn hash_is_the_published_murmur3() {
        let vectors: [(u32, &[u8], u32); 16] = [
            (0, b"", 0),
            (1, b"", 0x514e_28b7),
            (0xffff_ffff, b"", 0x81f1_6f39),
            (0, &[0xff; 4], 0x7629_3b50),
            (0, &[0x21, 0x43, 0x65, 0x87], 0xf55b_516b),
            (0x5082_edee, &[0x21, 0x43, 0x65, 0x87], 0x2362_f9de),
            (0, &[0x21, 0x43, 0x65], 0x7e4a_8634),
            (0, &[0x21, 0x43], 0xa0f7_b07a),
            (0, &[0x21], 0x7266_1cf4),
            (0, &[0; 4], 0x2362_f9de),
            (0, &[0; 3], 0x85f0_b427),
            (0, &[0; 2], 0x30f4_c306),
            (0, &[0], 0x514e_28b7),
            (0, b"test", 0xba6b_d213),
            (0, b"Hello, world!", 0xc036_3e43),
            (0x9747_b28c, b"The quick brown fox jumps over the lazy dog", 0x2fa8_26cd),
        ];
        for (seed, bytes, hash) in vectors {
            assert_eq!(murmur3_32(seed, &[bytes]), hash, "{bytes:?} with seed {seed:#x}");
        }
    }

    #[test]
    fn hash_does_not_depend_on_where_the_text_is_cut() {
        let text = b"The quick brown fox jumps over the lazy dog";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let parts: [&[u8]; 3] = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(murmur3_32(0x9747_b28c, &parts), 0x2fa8_26cd, "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn numbers_are_below_their_bound() {
        assert_eq!(number(0), 0);
        assert_eq!(number(u32::MAX), NUMBERS - 1);
    }
}
