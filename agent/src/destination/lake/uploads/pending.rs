//! Whole files of the open window, by their path and by their staged object. Pure: no IO.

use std::collections::{BTreeMap, HashMap};

use inshore_columnar::TableName;

use crate::destination::chain::entry::Upload;

/// The last content of a path wins; paths with one content share its staged object.
#[derive(Debug, Default)]
pub(super) struct Pending {
    by_path: BTreeMap<(TableName, String), Upload>,
    /// How many paths need a staged object.
    paths_of: HashMap<String, usize>,
}

impl Pending {
    /// Takes a file. Hands back the key of a staged object that no path needs any more.
    pub(super) fn put(&mut self, table: TableName, upload: Upload) -> Option<String> {
        *self.paths_of.entry(upload.key.clone()).or_default() += 1;
        let replaced = self.by_path.insert((table, upload.path.clone()), upload)?;
        let paths = self.paths_of.get_mut(&replaced.key)?;
        *paths -= 1;
        if *paths > 0 {
            return None;
        }
        self.paths_of.remove(&replaced.key);
        Some(replaced.key)
    }

    pub(super) fn len(&self) -> usize {
        self.by_path.len()
    }

    pub(super) fn has(&self, table: &TableName, path: &str) -> bool {
        self.by_path.contains_key(&(table.clone(), path.to_owned()))
    }

    /// Whether the path is a folder of other files.
    pub(super) fn has_below(&self, table: &TableName, path: &str) -> bool {
        let below = format!("{path}/");
        let mut later = self.by_path.range((table.clone(), below.clone())..);
        later.next().is_some_and(|((other, found), _)| other == table && found.starts_with(&below))
    }

    /// The staged objects that some path needs.
    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.paths_of.keys()
    }

    pub(super) fn into_tables(self) -> BTreeMap<TableName, Vec<Upload>> {
        let mut tables: BTreeMap<TableName, Vec<Upload>> = BTreeMap::new();
        for ((table, _), upload) in self.by_path {
            tables.entry(table).or_default().push(upload);
        }
        tables
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::destination::chain::entry::Hash;

    proptest! {
        /// Whatever is put where: an object is handed back once, exactly when the last path gives it up.
        #[test]
        fn objects_live_as_long_as_a_path_needs_them(puts in proptest::collection::vec((0..4_u8, 0..5_u8), 0..60)) {
            let mut pending = Pending::default();
            let mut expected: BTreeMap<String, String> = BTreeMap::new();
            let mut staged: BTreeSet<String> = BTreeSet::new();
            for (path, content) in puts {
                let (path, key) = (format!("path {path}"), format!("object {content}"));
                staged.insert(key.clone());
                expected.insert(path.clone(), key.clone());
                let upload = Upload { path, key, bytes: 1, sha256: Hash([content; 32]) };
                if let Some(unused) = pending.put(TableName::new("shop", "docs"), upload) {
                    prop_assert!(staged.remove(&unused), "{unused} is handed back twice");
                }
                let needed: BTreeSet<String> = expected.values().cloned().collect();
                prop_assert_eq!(&staged, &needed);
                prop_assert_eq!(pending.keys().cloned().collect::<BTreeSet<_>>(), needed);
                prop_assert_eq!(pending.len(), expected.len());
            }
        }
    }
}
