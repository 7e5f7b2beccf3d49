//! A connector package on this host: its zip is checked against the digest that was asked for and unpacked into the
//! job's own scratch folder. A package is hostile input: every entry's path, kind and size is checked while unpacking.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

/// Entries a package may have.
pub(crate) const ENTRIES_MAX: usize = 50_000;
/// Bytes a package may hold once unpacked.
pub(crate) const UNPACKED_BYTES_MAX: u64 = 2 << 30;
/// How much larger than its zip a package may be once unpacked.
pub(crate) const RATIO_MAX: u64 = 100;
/// Below this size the ratio is not looked at: a small text file may well shrink a thousandfold.
const SMALL_BYTES: u64 = 1 << 20;

/// Folders one entry may lie in, and itself.
const DEPTH_MAX: usize = 32;

/// What is wrong with a package.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read the package")]
    Read(#[source] std::io::Error),
    #[error("unpack the package into the scratch folder")]
    Write(#[source] std::io::Error),
    #[error("the package's SHA-256 is not the digest that was asked for")]
    DigestMismatch,
    #[error("the package is not a zip archive")]
    NotZip(#[source] zip::result::ZipError),
    #[error("entry {number} of the package leads out of the project or is no plain file or folder")]
    Escapes { number: usize },
    #[error("the package is larger than {limit}")]
    TooLarge { limit: &'static str },
    #[error("the package has no connector.py at its root")]
    NoConnector,
}

/// Unpacks `archive` into `target`, which must be empty, after checking that its bytes are those of `digest_hex`.
pub(crate) fn unpack(archive: &Path, digest_hex: &str, target: &Path) -> Result<(), Error> {
    let mut file = File::open(archive).map_err(Error::Read)?;
    if digest_of(&mut file)? != digest_hex {
        return Err(Error::DigestMismatch);
    }
    let packed_bytes = file.metadata().map_err(Error::Read)?.len();
    let mut zip = zip::ZipArchive::new(file).map_err(Error::NotZip)?;
    if zip.len() > ENTRIES_MAX {
        return Err(Error::TooLarge { limit: "50,000 entries" });
    }
    let mut budget = UNPACKED_BYTES_MAX.min(packed_bytes.saturating_mul(RATIO_MAX).max(SMALL_BYTES));
    for number in 0..zip.len() {
        let mut entry = zip.by_index(number).map_err(Error::NotZip)?;
        let name = entry.name().map_err(|_| Error::Escapes { number })?.into_owned();
        let path = inside(&name).filter(|_| !entry.is_symlink()).ok_or(Error::Escapes { number })?;
        let path = target.join(path);
        if entry.is_dir() {
            std::fs::create_dir_all(&path).map_err(Error::Write)?;
        } else {
            std::fs::create_dir_all(path.parent().unwrap_or(target)).map_err(Error::Write)?;
            budget = copy_within(&mut entry, &path, budget)?;
        }
    }
    if target.join("connector.py").is_file() { Ok(()) } else { Err(Error::NoConnector) }
}

fn digest_of(file: &mut File) -> Result<String, Error> {
    let mut hash = Sha256::new();
    std::io::copy(file, &mut hash).map_err(Error::Read)?;
    file.rewind().map_err(Error::Read)?;
    Ok(hex::encode(hash.finalize()))
}

/// The entry's path when it stays inside the project: plain components only, and not so deep that its folders alone
/// would fill a disk.
fn inside(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let shallow = path.components().count() <= DEPTH_MAX;
    let plain = shallow && path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    (plain && !name.contains(['\\', '\0']) && !name.is_empty()).then(|| path.to_owned())
}

/// Copies one entry, whatever size it claims, and returns what is left of the budget.
fn copy_within(entry: &mut impl Read, path: &Path, mut budget: u64) -> Result<u64, Error> {
    let mut file = File::options().write(true).create_new(true).open(path).map_err(Error::Write)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match entry.read(&mut buffer) {
            Ok(0) => return Ok(budget),
            Ok(count) => count,
            Err(error) => return Err(Error::NotZip(zip::result::ZipError::Io(error))),
        };
        budget = budget
            .checked_sub(u64::try_from(count).unwrap_or(u64::MAX))
            .ok_or(Error::TooLarge { limit: "2 GiB unpacked, or 100 times its zip" })?;
        file.write_all(buffer.get(..count).unwrap_or_default()).map_err(Error::Write)?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use sha2::{Digest, Sha256};
    use zip::write::SimpleFileOptions;

    use super::{Error, unpack};

    /// Packs entries, unpacks them, and returns what came of it.
    fn check(entries: &[(&str, &[u8])], spoil: impl Fn(&mut Vec<u8>)) -> Result<tempfile::TempDir, Error> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, content) in entries {
            writer.start_file(*name, SimpleFileOptions::default()).expect("an entry starts");
            writer.write_all(content).expect("an entry is written");
        }
        let mut bytes = writer.finish().expect("the zip closes").into_inner();
        spoil(&mut bytes);
        let digest = hex::encode(Sha256::digest(&bytes));
        let archive = folder.path().join("package.zip");
        std::fs::write(&archive, bytes).expect("the zip is stored");
        let target = folder.path().join("project");
        std::fs::create_dir(&target).expect("an empty target");
        unpack(&archive, &digest, &target).map(|()| folder)
    }

    #[test]
    fn a_good_package_is_unpacked() {
        let folder = check(&[("connector.py", b"x = 1\n"), ("lib/a.py", b"")], |_| ()).expect("unpacks");
        assert_eq!(std::fs::read(folder.path().join("project/connector.py")).expect("is there"), b"x = 1\n");
        assert!(folder.path().join("project/lib/a.py").is_file());
    }

    #[test]
    fn a_bad_package_is_refused_by_what_is_wrong_with_it() {
        let good: &[(&str, &[u8])] = &[("connector.py", b"")];
        let deep = "a/".repeat(40) + "b";
        for name in ["../evil.py", "/etc/evil", "a/../../b", "a\\..\\b", &deep] {
            let refused = check(&[("connector.py", b""), (name, b"")], |_| ());
            assert!(matches!(refused, Err(Error::Escapes { number: 1 })), "{name}: {refused:?}");
        }
        assert!(matches!(check(&[("other.py", b"")], |_| ()), Err(Error::NoConnector)));
        assert!(matches!(check(good, |bytes| bytes.truncate(20)), Err(Error::NotZip(_))));
        let bomb = vec![0; 64 << 20];
        assert!(matches!(check(&[("connector.py", &bomb)], |_| ()), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn a_package_whose_bytes_changed_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let archive = folder.path().join("package.zip");
        std::fs::write(&archive, b"other bytes").expect("stored");
        let refused = unpack(&archive, &"0".repeat(64), folder.path());
        assert!(matches!(refused, Err(Error::DigestMismatch)), "{refused:?}");
    }
}
