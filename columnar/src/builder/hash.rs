//! A quick hash for column names. They come from the connector's own code, so nobody gains from colliding them.

use std::hash::Hasher;

const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

#[derive(Debug, Default)]
pub(super) struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            let product = u128::from(self.0 ^ u64::from_le_bytes(word)) * u128::from(MULTIPLIER);
            #[expect(clippy::cast_possible_truncation, reason = "both halves of the product are folded together")]
            let folded = (product >> 64) as u64 ^ product as u64;
            self.0 = folded.wrapping_add(chunk.len() as u64);
        }
    }
}
