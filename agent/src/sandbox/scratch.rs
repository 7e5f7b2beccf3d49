//! How much disk a connector's own files take: what lies in its folders, and what it unlinked and still holds open.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// More entries than this count as more bytes than any limit: a tree that cannot be walked is no way around it.
const ENTRIES_MAX: usize = 1_000_000;

/// Bytes on disk of these folders, and of files without a name that these processes hold open.
pub(crate) fn used_bytes(folders: &[PathBuf], processes: &[i32]) -> u64 {
    let mut bytes = 0;
    let mut left = ENTRIES_MAX;
    let mut open: Vec<PathBuf> = folders.to_vec();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Some(rest) = left.checked_sub(1) else { return u64::MAX };
            left = rest;
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    bytes
        + processes.iter().flat_map(|pid| unlinked(*pid)).collect::<HashSet<_>>().iter().map(|file| file.2).sum::<u64>()
}

/// Device, inode and size of files without a name that a process holds.
fn unlinked(pid: i32) -> Vec<(u64, u64, u64)> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| regular_without_name(&entry.path()));
    files.collect()
}

fn regular_without_name(descriptor: &Path) -> Option<(u64, u64, u64)> {
    let metadata = std::fs::metadata(descriptor).ok()?;
    (metadata.is_file() && metadata.nlink() == 0).then(|| (metadata.dev(), metadata.ino(), metadata.blocks() * 512))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_and_unlinked_files_count() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("a")).expect("a folder");
        std::fs::write(folder.path().join("a/b"), vec![1; 1 << 20]).expect("a file");
        let mut nameless = tempfile::tempfile_in(folder.path()).expect("a file");
        std::io::Write::write_all(&mut nameless, &[1; 2 << 20]).expect("written");
        let ours = [i32::try_from(std::process::id()).expect("a pid")];
        let folders = [folder.path().to_owned()];
        let (named, all) = (used_bytes(&folders, &[]), used_bytes(&folders, &ours));
        assert!((1 << 20..2 << 20).contains(&named), "{named}");
        assert!(all >= named + (2 << 20), "{all}");
    }
}
