//! Published files: `<schema>/<table>/_files/<path>`, put there by the roll-forward of the Commit that names them. Readers see
//! the old content of a path or the new one. A table on another disk than the chain gets its files by a copy beside it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use inshore_columnar::TableName;

use super::{clash, folders, remove};
use crate::destination::Collected;
use crate::destination::chain::entry::Upload;
use crate::destination::error::Error;
use crate::destination::lake::apply::blocking;
use crate::destination::store::{Store, file_error};
use crate::failpoint;

/// Where a table's published files lie, below its folder.
const PUBLISHED: &str = "_files";
/// Where a table on another disk has copies on their way to their places.
const COPIES: &str = "_stage";

pub(super) const FOLDER_NEEDED: &str = "needs a folder where a file lies";
pub(super) const IS_FOLDER: &str = "is a folder of other files";

/// Puts the files of one Commit to one table in their places. Repeating it changes nothing.
pub(in crate::destination::lake) async fn publish(
    store: &Store,
    table: &TableName,
    claim_seq: u64,
    uploads: &[Upload],
) -> Result<(), Error> {
    let (Some(root), false) = (store.local_root(), uploads.is_empty()) else { return Ok(()) };
    let (root, store, table, uploads) = (root.to_owned(), store.clone(), table.clone(), uploads.to_vec());
    blocking(move || {
        let folder = published(&root, &table);
        let mut changed = BTreeSet::new();
        for upload in &uploads {
            let (staged, place) = (root.join(&upload.key), folder.join(&upload.path));
            link((&table, &folder), &staged, &place, &format!("{claim_seq:020}"))?;
            // All of them, also when the file was there: whoever put it may have ended before this.
            changed.extend(place.ancestors().skip(1).take_while(|at| at.starts_with(&folder)).map(Path::to_owned));
            failpoint::hit("P22");
        }
        changed.extend(folder.ancestors().skip(1).take_while(|at| at.starts_with(&root)).map(Path::to_owned));
        changed.iter().try_for_each(|folder| store.sync_folder(folder))?;
        failpoint::hit("P23");
        Ok(())
    })
    .await
}

/// The place has the old content or the new one, at every instant. Whatever else is made begins with the claim.
fn link((table, published): (&TableName, &Path), staged: &Path, place: &Path, claim: &str) -> Result<(), Error> {
    // The names of the user's files are values of rows: messages name the staged object.
    let failed = |source| file_error(staged, source);
    let key = || staged.display().to_string();
    let found = match std::fs::metadata(staged) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::FileMissing { table: table.clone(), path: key() });
        }
        Err(source) => return Err(failed(source)),
    };
    let same = |there: std::fs::Metadata| (there.dev(), there.ino()) == (found.dev(), found.ino());
    if std::fs::symlink_metadata(place).is_ok_and(same) {
        return Ok(());
    }
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let name = format!("{claim}-link-{}", uuid::Uuid::new_v4().simple());
    let beside = staged.with_file_name(&name);
    if std::fs::hard_link(staged, &beside).is_err() {
        // Too many names for one file, most likely: an own copy is as good.
        copy(staged, &beside).map_err(failed)?;
    }
    match std::fs::rename(&beside, place) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            remove(&beside)?;
            copy_across(staged, place, &published.with_file_name(COPIES).join(&name)).map_err(failed)
        }
        renamed => renamed.map_err(failed),
    }
}

/// The same where the table lies on another disk: the copy is made there, beside the published files.
fn copy_across(staged: &Path, place: &Path, made: &Path) -> io::Result<()> {
    let copies = made.parent().ok_or(io::ErrorKind::CrossesDevices)?;
    std::fs::create_dir_all(copies)?;
    let moved = copy(staged, made).and_then(|()| std::fs::rename(made, place));
    if moved.is_err() {
        // What cannot be removed now goes with the garbage.
        drop(std::fs::remove_file(made));
    }
    drop(std::fs::remove_dir(copies));
    moved
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::copy(from, to).and_then(|_| File::open(to)?.sync_all())
}

/// Deletes the copies of older claims that were cut off on their way. Blocks.
pub(super) fn sweep_copies(root: &Path, table: &TableName, claim_seq: u64) -> Result<Collected, Error> {
    let folder = root.join(&table.schema).join(&table.table).join(COPIES);
    let mut collected = Collected::default();
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(collected) };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let claim =
            name.to_str().and_then(|name| name.split_once('-')).and_then(|(claim, _)| claim.parse::<u64>().ok());
        if claim.is_some_and(|claim| claim < claim_seq) {
            let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
            remove(&entry.path())?;
            collected.add(Collected { files_deleted: 1, bytes });
        }
    }
    drop(std::fs::remove_dir(&folder));
    Ok(collected)
}

/// Whether a path fits among the files that are published already. Blocks.
pub(super) fn check_place((published, table, path): (PathBuf, TableName, String)) -> Result<(), Error> {
    let is_file = |folder: &str| std::fs::symlink_metadata(published.join(folder)).is_ok_and(|found| !found.is_dir());
    if folders(&path).any(is_file) {
        return Err(clash(&table, &path, FOLDER_NEEDED));
    }
    if published.join(&path).is_dir() { Err(clash(&table, &path, IS_FOLDER)) } else { Ok(()) }
}

pub(super) fn published(root: &Path, table: &TableName) -> PathBuf {
    root.join(&table.schema).join(&table.table).join(PUBLISHED)
}
