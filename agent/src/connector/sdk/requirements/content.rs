//! Texts and digests of a project's files.

use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::Error;

/// The text of a file of the project, whatever an editor put in front of it; `None` when there is no such file.
pub(super) fn text(project: &Path, file: &str) -> Result<Option<String>, Error> {
    let bytes = match std::fs::read(project.join(file)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::Read { file: file.to_owned(), source }),
    };
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks(2).map(|two| unit([two[0], two.get(1).copied().unwrap_or(0)])).collect();
        String::from_utf16(&units).ok()
    };
    let text = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        _ => String::from_utf8(bytes).ok(),
    };
    text.map(Some).ok_or_else(|| Error::NotText { file: file.to_owned() })
}

/// What a file or a folder holds. Hidden files and bytecode do not count.
pub(super) fn digest(path: &Path) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let failed = |source| Error::Read { file: path.display().to_string(), source };
    add(&mut hash, path).map_err(failed)?;
    Ok(hex::encode(hash.finalize()))
}

fn add(hash: &mut Sha256, path: &Path) -> io::Result<()> {
    if !path.is_dir() {
        hash.update(std::fs::read(path)?);
        return Ok(());
    }
    let mut entries = std::fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let is_kept = !name.to_string_lossy().starts_with('.') && name != "__pycache__";
        // A link could lead round in circles.
        if is_kept && !entry.file_type()?.is_symlink() {
            hash.update(name.as_encoded_bytes());
            hash.update([0]);
            add(hash, &entry.path())?;
        }
    }
    Ok(())
}
