//! The keys that an entry names, as many as fit the budget, and which rows of a data file have one of them. CPU only.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::hash::{BuildHasher, Hasher};

use super::code::{Codes, Kind};

/// Memory that one group of keys may take.
pub(crate) const KEYS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a key costs in the map and beside it.
const KEY_BYTES: usize = 48;
/// Bits of the filter before the map: it fits the caches of a core.
const FILTER_BITS: usize = 1 << 23;
/// The end of a chain of names.
const NONE: u32 = u32::MAX;

/// One row of a source that names a key.
#[derive(Debug, Clone, Copy)]
struct Name {
    source: u32,
    row: u32,
    /// The next one with the same key.
    next: u32,
}

/// One row of a data file that one row of a source names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hit {
    pub(crate) row: u32,
    pub(crate) source: u32,
    pub(crate) source_row: u32,
}

/// Keys of some sources.
#[derive(Debug)]
pub(crate) struct Keys {
    map: Map,
    names: Vec<Name>,
    filter: Vec<u64>,
    mixer: Mixer,
    /// Of whole keys, sorted once all are in.
    sorted: Vec<i64>,
}

#[derive(Debug)]
enum Map {
    Whole(HashMap<i64, u32, Mixer>),
    Hashed(HashMap<u128, u32, Mixer>),
}

/// Spreads keys by two random factors, so that nobody outside can make them meet in the map.
#[derive(Debug, Clone, Copy)]
struct Mixer {
    add: u64,
    factor: u64,
}

#[derive(Debug)]
struct Mixed {
    mixer: Mixer,
    state: u64,
}

impl Mixer {
    fn random() -> Mixer {
        Mixer { add: fastrand::u64(..), factor: fastrand::u64(..) | 1 }
    }

    fn mix(self, value: u64) -> u64 {
        let product = u128::from(value ^ self.add) * u128::from(self.factor);
        let [low, high] = [product & u128::from(u64::MAX), product >> 64];
        u64::try_from(low ^ high).unwrap_or(u64::MAX)
    }

    fn whole(self, key: i64) -> u64 {
        self.mix(key.cast_unsigned())
    }

    /// The halves of a hash are random already.
    fn hashed(self, key: u128) -> u64 {
        self.mix(u64::try_from(key >> 64).unwrap_or(u64::MAX))
    }
}

impl BuildHasher for Mixer {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed { mixer: *self, state: 0 }
    }
}

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.state = self.mixer.mix(self.state ^ u64::from(*byte)));
    }

    fn write_i64(&mut self, key: i64) {
        self.state = self.mixer.whole(key);
    }

    fn write_u128(&mut self, key: u128) {
        self.state = self.mixer.hashed(key);
    }
}

impl Keys {
    pub(crate) fn new(kind: Kind) -> Keys {
        let mixer = Mixer::random();
        let map = match kind {
            Kind::Whole => Map::Whole(HashMap::with_hasher(mixer)),
            Kind::Hashed => Map::Hashed(HashMap::with_hasher(mixer)),
        };
        Keys { map, names: Vec::new(), filter: vec![0; FILTER_BITS / 64], mixer, sorted: Vec::new() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.names.len() * KEY_BYTES >= KEYS_BYTES_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Takes the keys of rows of a source; the first of them stands at `first`.
    pub(crate) fn add(&mut self, source: u32, first: u32, codes: &Codes) {
        let Keys { map, names, filter, mixer, .. } = self;
        match (map, codes) {
            (Map::Whole(map), Codes::Whole(values, nulls)) => {
                for (at, key) in (0_u32..).zip(values) {
                    if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(at as usize)) {
                        set_bit(filter, mixer.whole(*key));
                        name(map.entry(*key), names, source, first + at);
                    }
                }
            }
            (Map::Hashed(map), Codes::Hashed(values)) => {
                for (at, key) in (0_u32..).zip(values) {
                    set_bit(filter, mixer.hashed(*key));
                    name(map.entry(*key), names, source, first + at);
                }
            }
            _ => debug_assert!(false, "one table has one kind of codes"),
        }
    }

    /// Call once all keys are in.
    pub(crate) fn ready(&mut self) {
        if let Map::Whole(map) = &self.map {
            self.sorted = map.keys().copied().collect();
            self.sorted.sort_unstable();
        }
    }

    /// Whether a key may lie within bounds; keys that are hashed may lie anywhere.
    pub(crate) fn may_lie_within(&self, lowest: i64, highest: i64) -> bool {
        let Map::Whole(_) = &self.map else { return true };
        let at = self.sorted.partition_point(|key| *key < lowest);
        self.sorted.get(at).is_some_and(|key| *key <= highest)
    }

    /// The rows among these whose keys are known; the first of them stands at `first`.
    pub(crate) fn find(&self, first: u32, codes: &Codes, each: &mut dyn FnMut(Hit)) {
        match (&self.map, codes) {
            (Map::Whole(map), Codes::Whole(values, nulls)) => {
                for (at, key) in (0_u32..).zip(values) {
                    let valid = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(at as usize));
                    if self.has_bit(self.mixer.whole(*key)) && valid {
                        self.tell(map.get(key), first + at, each);
                    }
                }
            }
            (Map::Hashed(map), Codes::Hashed(values)) => {
                for (at, key) in (0_u32..).zip(values) {
                    if self.has_bit(self.mixer.hashed(*key)) {
                        self.tell(map.get(key), first + at, each);
                    }
                }
            }
            _ => debug_assert!(false, "one table has one kind of codes"),
        }
    }

    fn tell(&self, found: Option<&u32>, row: u32, each: &mut dyn FnMut(Hit)) {
        let mut next = found.copied().unwrap_or(NONE);
        while let Some(name) = self.names.get(next as usize) {
            each(Hit { row, source: name.source, source_row: name.row });
            next = name.next;
        }
    }

    fn has_bit(&self, hash: u64) -> bool {
        let bit = hash as usize % FILTER_BITS;
        self.filter[bit / 64] & (1 << (bit % 64)) != 0
    }
}

fn set_bit(filter: &mut [u64], hash: u64) {
    let bit = hash as usize % FILTER_BITS;
    filter[bit / 64] |= 1 << (bit % 64);
}

fn name<K>(slot: Slot<'_, K, u32>, names: &mut Vec<Name>, source: u32, row: u32) {
    let index = u32::try_from(names.len()).unwrap_or(NONE);
    let next = match slot {
        Slot::Occupied(mut known) => std::mem::replace(known.get_mut(), index),
        Slot::Vacant(free) => {
            free.insert(index);
            NONE
        }
    };
    names.push(Name { source, row, next });
}

#[cfg(test)]
mod tests {
    use arrow::buffer::NullBuffer;

    use super::*;

    fn hits(keys: &Keys, codes: &Codes) -> Vec<(u32, u32, u32)> {
        let mut found = Vec::new();
        keys.find(100, codes, &mut |hit| found.push((hit.row, hit.source, hit.source_row)));
        found.sort_unstable();
        found
    }

    #[test]
    fn rows_are_found_by_every_source_that_names_them() {
        let mut keys = Keys::new(Kind::Whole);
        assert!(keys.is_empty());
        keys.add(0, 0, &Codes::Whole(vec![5, 7], None));
        keys.add(3, 10, &Codes::Whole(vec![7, -1], None));
        keys.ready();
        let file = Codes::Whole(vec![7, 8, -1, 5], None);
        assert_eq!(hits(&keys, &file), [(100, 0, 1), (100, 3, 10), (102, 3, 11), (103, 0, 0)]);
    }

    #[test]
    fn rows_without_a_key_match_nothing() {
        let some = |values: Vec<i64>| Codes::Whole(values, Some(NullBuffer::from(vec![false, true])));
        let mut keys = Keys::new(Kind::Whole);
        keys.add(0, 0, &some(vec![0, 4]));
        keys.ready();
        assert_eq!(hits(&keys, &some(vec![0, 4])), [(101, 0, 1)]);
        assert_eq!(hits(&keys, &Codes::Whole(vec![0], None)), []);
    }

    #[test]
    fn bounds_that_hold_no_key() {
        let mut keys = Keys::new(Kind::Whole);
        keys.add(0, 0, &Codes::Whole(vec![10, 20], None));
        keys.ready();
        let within = |lowest, highest| keys.may_lie_within(lowest, highest);
        assert!(within(10, 10) && within(0, 15) && within(20, 90));
        assert!(!within(0, 9) && !within(11, 19) && !within(21, i64::MAX));
        assert!(Keys::new(Kind::Hashed).may_lie_within(0, 0));
    }

    #[test]
    fn hashed_keys_are_found() {
        let mut keys = Keys::new(Kind::Hashed);
        keys.add(1, 0, &Codes::Hashed(vec![1 << 90, 2]));
        keys.ready();
        assert_eq!(hits(&keys, &Codes::Hashed(vec![3, 1 << 90])), [(101, 1, 0)]);
    }
}
