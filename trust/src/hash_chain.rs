//! Hash-chained lines: each line is a JSON object that begins with its number and the SHA-256 of the line before it, so
//! that no line can be altered, dropped or inserted without breaking all that follow. Pure: files are the caller's.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What links a line to its predecessor. The first line has n = 0 and a hash of zeros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub n: u64,
    /// Lower-case hexadecimal SHA-256 of the previous line, without its line feed.
    pub prev_hash: String,
}

/// Where a chain of lines ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    next_n: u64,
    hash: [u8; 32],
}

/// A line that does not continue its chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    #[error("verify a hash chain: line {n} is not a JSON object with a link")]
    Malformed { n: u64 },
    #[error("verify a hash chain: line {n} is numbered {found}")]
    Number { n: u64, found: u64 },
    #[error("verify a hash chain: line {n} does not carry the hash of the line before it")]
    Hash { n: u64 },
}

impl Head {
    /// The head just before `line`, taken from its own link: where a chain is picked up in the middle.
    pub fn before(line: &[u8]) -> Result<Self, Break> {
        let link: Link = serde_json::from_slice(line).map_err(|_| Break::Malformed { n: 0 })?;
        let mut hash = [0; 32];
        hex::decode_to_slice(&link.prev_hash, &mut hash).map_err(|_| Break::Malformed { n: link.n })?;
        Ok(Self { next_n: link.n, hash })
    }

    /// The link the next line must carry.
    #[must_use]
    pub fn link(&self) -> Link {
        Link { n: self.next_n, prev_hash: hex::encode(self.hash) }
    }

    /// How many lines the chain has.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.next_n
    }

    /// Whether nothing was appended yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.next_n == 0
    }

    /// The hash of the newest line.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Moves on over a line that was written with [`Head::link`].
    pub fn advance(&mut self, line: &[u8]) {
        self.hash = Sha256::digest(line).into();
        self.next_n = self.next_n.saturating_add(1);
    }

    /// Checks that `line` continues the chain, then moves on.
    pub fn verify(&mut self, line: &[u8]) -> Result<(), Break> {
        let n = self.next_n;
        let found: Link = serde_json::from_slice(line).map_err(|_| Break::Malformed { n })?;
        if found.n != n {
            return Err(Break::Number { n, found: found.n });
        }
        if found.prev_hash != hex::encode(self.hash) {
            return Err(Break::Hash { n });
        }
        self.advance(line);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u64) -> Vec<Vec<u8>> {
        let mut head = Head::default();
        (0..count)
            .map(|number| {
                let Link { n, prev_hash } = head.link();
                let line = format!(r#"{{"n":{n},"prev_hash":"{prev_hash}","body":{number}}}"#).into_bytes();
                head.advance(&line);
                line
            })
            .collect()
    }

    fn verify(lines: &[Vec<u8>]) -> Result<Head, Break> {
        let mut head = Head::default();
        for line in lines {
            head.verify(line)?;
        }
        Ok(head)
    }

    #[test]
    fn an_untouched_chain_verifies() {
        assert_eq!(verify(&lines(5)).expect("chain").len(), 5);
    }

    #[test]
    fn altered_dropped_inserted_and_reordered_lines_are_found() {
        let good = lines(4);
        let mut altered = good.clone();
        altered[1] = String::from_utf8(altered[1].clone()).expect("text").replace("\"body\":1", "\"body\":9").into();
        assert_eq!(verify(&altered).err(), Some(Break::Hash { n: 2 }));
        let mut dropped = good.clone();
        dropped.remove(1);
        assert_eq!(verify(&dropped).err(), Some(Break::Number { n: 1, found: 2 }));
        let mut inserted = good.clone();
        inserted.insert(2, good[1].clone());
        assert!(verify(&inserted).is_err());
        assert_eq!(verify(&[b"nonsense".to_vec()]).err(), Some(Break::Malformed { n: 0 }));
    }
}
