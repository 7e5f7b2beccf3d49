//! The pure part: how operations on one key become one state, and the index from keys to states. No arrays here, only
//! references to rows.
//!
//! Upsert replaces. Update merges into a full row or into a patch, and does not match a deleted row. Delete keeps the
//! full row, marked; on a patch it stays a second step. A folded state is itself an item, so that spilled runs fold
//! with the same table as raw operations.

/// What is known of a key. The first three have the codes of the raw operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// The whole row.
    Full = 0,
    /// Some columns of a row the destination may have.
    Patch = 1,
    /// The row is gone.
    Delete = 2,
    /// The whole row, gone.
    FullDeleted = 3,
    /// Some columns, then gone.
    PatchDelete = 4,
}

impl Kind {
    pub(super) fn from_code(code: u8) -> Option<Kind> {
        Some(match code {
            0 => Kind::Full,
            1 => Kind::Patch,
            2 => Kind::Delete,
            3 => Kind::FullDeleted,
            4 => Kind::PatchDelete,
            _ => return None,
        })
    }

    pub(super) fn is_full(self) -> bool {
        matches!(self, Kind::Full | Kind::FullDeleted)
    }

    pub(super) fn has_patch(self) -> bool {
        matches!(self, Kind::Patch | Kind::PatchDelete)
    }

    pub(super) fn is_deleted(self) -> bool {
        matches!(self, Kind::Delete | Kind::FullDeleted | Kind::PatchDelete)
    }
}

/// What happens to the rows behind a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Older rows are forgotten.
    Replace,
    /// The item's columns go on top.
    Patch,
    /// The item's row is not needed.
    Ignore,
}

/// The state after an item, and what happens to the rows.
pub(super) fn compose(before: Kind, item: Kind) -> (Kind, Effect) {
    match (before, item) {
        (_, Kind::Full | Kind::FullDeleted) => (item, Effect::Replace),
        (Kind::Delete | Kind::FullDeleted | Kind::PatchDelete, _) => (before, Effect::Ignore),
        (Kind::Full | Kind::Patch, Kind::Patch) => (before, Effect::Patch),
        (Kind::Full, Kind::Delete) => (Kind::FullDeleted, Effect::Ignore),
        (Kind::Full, Kind::PatchDelete) => (Kind::FullDeleted, Effect::Patch),
        (Kind::Patch, Kind::Delete) => (Kind::PatchDelete, Effect::Ignore),
        (Kind::Patch, Kind::PatchDelete) => (Kind::PatchDelete, Effect::Patch),
    }
}

/// A row of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowRef {
    pub(super) source: u32,
    pub(super) row: u32,
}

/// The columns of one row that go on top of older ones; `set` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PatchRef {
    pub(super) row: RowRef,
    pub(super) set: u32,
}

/// A state or an operation on its way into a state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) kind: Kind,
    pub(super) row: RowRef,
    pub(super) set: u32,
}

const NONE: u32 = u32::MAX;

/// The state of one key. `base` is the whole row, or any row with this key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    hash: u64,
    pub(super) kind: Kind,
    pub(super) base: RowRef,
    first_patch: u32,
    last_patch: u32,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    patch: PatchRef,
    next: u32,
}

/// The states of the keys in memory: an open-addressed index over entries in order of arrival.
///
/// As long as every key is above the one before, nobody needs the index: a full load by key never makes one.
#[derive(Default)]
pub(super) struct States {
    entries: Vec<Entry>,
    links: Vec<Link>,
    /// Entry number plus one; zero is free. The length is a power of two; none as long as keys ascend.
    slots: Vec<u32>,
}

const SLOTS_MIN: usize = 64;

/// Entries and patches of one table in memory; a window spills long before.
pub(super) const STATES_MAX: u32 = u32::MAX - 1;

impl States {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.len() * size_of::<Entry>()
            + self.links.len() * size_of::<Link>()
            + self.slots.len() * size_of::<u32>()
    }

    /// The patches on top of an entry's base, oldest first.
    pub(super) fn patches(&self, entry: &Entry) -> impl Iterator<Item = PatchRef> + '_ {
        let mut next = entry.first_patch;
        std::iter::from_fn(move || {
            let link = self.links.get(next as usize)?;
            next = link.next;
            Some(link.patch)
        })
    }

    /// Whether the keys came in ascending order, each once: entry by entry this is every row of every source.
    pub(super) fn ascend(&self) -> bool {
        self.slots.is_empty()
    }

    /// The row of the highest key, as long as keys ascend.
    pub(super) fn last(&self) -> Option<RowRef> {
        self.entries.last().map(|entry| entry.base)
    }

    /// The item of a key above all others, as long as keys ascend. False when there is no room.
    pub(super) fn append(&mut self, item: Item) -> bool {
        if self.entries.len() >= STATES_MAX as usize {
            return false;
        }
        self.add_entry(0, item);
        true
    }

    /// Makes the index, once keys no longer ascend.
    pub(super) fn index(&mut self, hash_of: impl Fn(RowRef) -> u64) {
        if self.entries.is_empty() {
            return;
        }
        if self.ascend() {
            self.slots.resize((self.entries.len() * 2).next_power_of_two().max(SLOTS_MIN), 0);
        }
        self.rehash(hash_of);
    }

    /// Folds an item into the state of its key; needs the index. `same_key` compares the item's key with that of a row.
    /// False when there is no room.
    pub(super) fn apply(&mut self, hash: u64, item: Item, same_key: impl Fn(RowRef) -> bool) -> bool {
        if self.entries.len().max(self.links.len()) >= STATES_MAX as usize {
            return false;
        }
        if (self.entries.len() + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let slot = self.find(hash, same_key);
        let number = self.slots[slot];
        if number == 0 {
            self.slots[slot] = number_of(self.entries.len()) + 1;
            self.add_entry(hash, item);
            return true;
        }
        let index = number as usize - 1;
        let entry = &mut self.entries[index];
        let (kind, effect) = compose(entry.kind, item.kind);
        entry.kind = kind;
        match effect {
            Effect::Replace => {
                entry.base = item.row;
                (entry.first_patch, entry.last_patch) = (NONE, NONE);
            }
            Effect::Patch => self.add_patch(index, item),
            Effect::Ignore => {}
        }
        true
    }

    fn add_entry(&mut self, hash: u64, item: Item) {
        self.entries.push(Entry { hash, kind: item.kind, base: item.row, first_patch: NONE, last_patch: NONE });
        if item.kind.has_patch() {
            self.add_patch(self.entries.len() - 1, item);
        }
    }

    fn rehash(&mut self, hash_of: impl Fn(RowRef) -> u64) {
        for entry in &mut self.entries {
            entry.hash = hash_of(entry.base);
        }
        self.fill_slots(self.slots.len());
    }

    fn add_patch(&mut self, index: usize, item: Item) {
        let link = number_of(self.links.len());
        self.links.push(Link { patch: PatchRef { row: item.row, set: item.set }, next: NONE });
        let entry = &mut self.entries[index];
        match self.links.get_mut(entry.last_patch as usize) {
            Some(last) => last.next = link,
            None => entry.first_patch = link,
        }
        entry.last_patch = link;
    }

    /// The slot of the key: that of its entry, or the free one where it belongs.
    fn find(&self, hash: u64, same_key: impl Fn(RowRef) -> bool) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = start(hash, mask);
        loop {
            match self.slots[slot] {
                0 => return slot,
                number => {
                    let entry = &self.entries[number as usize - 1];
                    if entry.hash == hash && same_key(entry.base) {
                        return slot;
                    }
                }
            }
            slot = (slot + 1) & mask;
        }
    }

    fn grow(&mut self) {
        self.fill_slots((self.slots.len() * 2).max(SLOTS_MIN));
    }

    fn fill_slots(&mut self, length: usize) {
        self.slots.clear();
        self.slots.resize(length, 0);
        let Some(mask) = length.checked_sub(1) else { return };
        for (index, entry) in self.entries.iter().enumerate() {
            let mut slot = start(entry.hash, mask);
            while self.slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = number_of(index) + 1;
        }
    }
}

fn start(hash: u64, mask: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits are wanted")]
    let low = hash as usize;
    low & mask
}

fn number_of(index: usize) -> u32 {
    u32::try_from(index).expect("apply() refuses what u32 cannot number")
}

/// A keyed hash of key bytes; the seed keeps rows from choosing their collisions.
pub(super) fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut state = seed ^ bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        state = mix(state ^ u64::from_le_bytes(word), MULTIPLIER ^ seed.rotate_left(32));
    }
    mix(state, MULTIPLIER)
}

fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b | 1);
    #[expect(clippy::cast_possible_truncation, reason = "both halves of the product are folded together")]
    let folded = (product >> 64) as u64 ^ product as u64;
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(row: u32) -> RowRef {
        RowRef { source: 0, row }
    }

    fn fold(items: &[Kind]) -> (Kind, u32, Vec<u32>) {
        let mut states = States::default();
        for (index, kind) in items.iter().enumerate() {
            let item = Item { kind: *kind, row: row(u32::try_from(index).unwrap()), set: 0 };
            assert!(states.apply(7, item, |_| true));
        }
        let entry = states.entries()[0];
        (entry.kind, entry.base.row, states.patches(&entry).map(|patch| patch.row.row).collect())
    }

    #[test]
    fn operations_on_one_key() {
        use Kind::{Delete, Full, FullDeleted, Patch, PatchDelete};
        let cases: &[(&[Kind], Kind, u32, &[u32])] = &[
            (&[Full], Full, 0, &[]),
            (&[Full, Full], Full, 1, &[]),
            (&[Full, Patch], Full, 0, &[1]),
            (&[Full, Patch, Patch], Full, 0, &[1, 2]),
            (&[Full, Delete], FullDeleted, 0, &[]),
            (&[Full, Patch, Delete], FullDeleted, 0, &[1]),
            (&[Full, Delete, Patch], FullDeleted, 0, &[]),
            (&[Full, Delete, Full], Full, 2, &[]),
            (&[Patch], Patch, 0, &[0]),
            (&[Patch, Patch], Patch, 0, &[0, 1]),
            (&[Patch, Delete], PatchDelete, 0, &[0]),
            (&[Patch, Delete, Patch], PatchDelete, 0, &[0]),
            (&[Patch, Full], Full, 1, &[]),
            (&[Patch, Full, Patch], Full, 1, &[2]),
            (&[Delete], Delete, 0, &[]),
            (&[Delete, Patch], Delete, 0, &[]),
            (&[Delete, Delete], Delete, 0, &[]),
            (&[Delete, Full], Full, 1, &[]),
            (&[Full, PatchDelete], FullDeleted, 0, &[1]),
            (&[Patch, PatchDelete], PatchDelete, 0, &[0, 1]),
            (&[Delete, PatchDelete], Delete, 0, &[]),
            (&[Patch, FullDeleted], FullDeleted, 1, &[]),
            (&[FullDeleted, Patch], FullDeleted, 0, &[]),
            (&[FullDeleted, Full], Full, 1, &[]),
        ];
        for (items, kind, base, patches) in cases {
            assert_eq!(fold(items), (*kind, *base, patches.to_vec()), "{items:?}");
        }
    }

    #[test]
    fn composing_is_associative() {
        let kinds = [Kind::Full, Kind::Patch, Kind::Delete, Kind::FullDeleted, Kind::PatchDelete];
        for a in kinds {
            for b in kinds {
                for c in kinds {
                    let left = compose(compose(a, b).0, c).0;
                    let right = compose(a, compose(b, c).0).0;
                    assert_eq!(left, right, "{a:?} {b:?} {c:?}");
                }
            }
        }
    }

    #[test]
    fn the_index_is_made_when_keys_no_longer_ascend() {
        let mut states = States::default();
        for number in 0..1000 {
            let kind = if number % 3 == 0 { Kind::Patch } else { Kind::Full };
            assert!(states.append(Item { kind, row: row(number), set: 0 }));
        }
        assert!(states.ascend());
        assert_eq!(states.last(), Some(row(999)));
        states.index(|row| u64::from(row.row));
        assert!(!states.ascend());
        for number in 0..1000 {
            let item = Item { kind: Kind::Delete, row: row(number), set: 0 };
            assert!(states.apply(u64::from(number), item, |other| other.row == number));
        }
        assert_eq!(states.len(), 1000);
        let kinds = [Kind::PatchDelete, Kind::FullDeleted, Kind::FullDeleted, Kind::PatchDelete];
        assert_eq!(states.entries().iter().take(4).map(|entry| entry.kind).collect::<Vec<_>>(), kinds);
    }

    #[test]
    fn keys_with_equal_hashes_stay_apart() {
        let mut states = States::default();
        for number in 0..1000 {
            let item = Item { kind: Kind::Full, row: row(number), set: 0 };
            assert!(states.apply(u64::from(number % 3), item, |other| other.row == number));
        }
        assert_eq!(states.len(), 1000);
        states.index(|row| u64::from(row.row % 5));
        let item = Item { kind: Kind::Delete, row: row(17), set: 0 };
        assert!(states.apply(2, item, |other| other.row == 17));
        assert_eq!(states.len(), 1000);
        assert_eq!(states.entries()[17].kind, Kind::FullDeleted);
    }
}
