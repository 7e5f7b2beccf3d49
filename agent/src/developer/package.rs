//! The package of a project: one zip of everything that a sync needs and nothing that is the developer's own. Equal
//! projects give equal bytes: entries in the order of their names, without times and owners.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::ignore::Rules;
use super::project::Project;

/// Folders that never belong to a package, wherever they are.
const FOLDERS: [&str; 5] = ["__pycache__", "lib", "include", "files", "crash-reports"];
/// Files that hold a developer's own values, wherever they are.
const FILES: [&str; 3] = ["configuration.json", "destination.json", "options.toml"];
const IGNORE_FILE: &str = ".gitignore";
const ENTRIES_MAX: usize = 50_000;
const COMPRESSION_LEVEL: i64 = 6;

/// Why there is no package.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("write {}", path.display())]
    Zip {
        path: PathBuf,
        #[source]
        source: zip::result::ZipError,
    },
    #[error("{} leads out of the project, to {}", path.display(), target.display())]
    Escapes { path: PathBuf, target: PathBuf },
    #[error("{} is a link to a folder: put the folder itself there", path.display())]
    FolderLink { path: PathBuf },
    #[error("{} is neither a file nor a folder", path.display())]
    Special { path: PathBuf },
    #[error("the name {} is not UTF-8", path.display())]
    Name { path: PathBuf },
    #[error("drivers/ has no installation.sh")]
    DriversWithoutInstaller,
    #[error("the package has {what}; the limit is {limit}")]
    TooLarge { what: String, limit: String },
}

impl Error {
    /// The page in docs/errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::Read { .. } | Error::Write { .. } | Error::Zip { .. } | Error::Name { .. } => "PKG-010",
            Error::Escapes { .. } | Error::FolderLink { .. } | Error::Special { .. } => "PKG-002",
            Error::DriversWithoutInstaller => "DEV-006",
            Error::TooLarge { .. } => "PKG-008",
        }
    }
}

/// A package on disk, and its bytes.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
    /// The names of its entries, in order.
    pub(crate) entries: Vec<String>,
    pub(crate) zip: Vec<u8>,
}

/// Writes `files/<project>.zip`, which may have `bytes_max`.
pub(crate) fn package(project: &Project, bytes_max: u64) -> Result<Package, Error> {
    let mut entries = Vec::new();
    let mut rules = Vec::new();
    collect(project.folder(), &mut Vec::new(), &mut rules, &mut entries)?;
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let drivers = entries.iter().any(|entry| entry.name.starts_with("drivers/"));
    if drivers && !entries.iter().any(|entry| entry.name == "drivers/installation.sh") {
        return Err(Error::DriversWithoutInstaller);
    }
    if entries.len() > ENTRIES_MAX {
        return Err(Error::TooLarge { what: format!("{} files", entries.len()), limit: ENTRIES_MAX.to_string() });
    }
    write(project, &entries, bytes_max)
}

struct Entry {
    /// In the zip, with slashes.
    name: String,
    /// Where its bytes are.
    path: PathBuf,
    executable: bool,
}

/// `below` are the names from the project down to `folder`; `rules` those of each folder on the way.
fn collect(
    folder: &Path,
    below: &mut Vec<String>,
    rules: &mut Vec<Rules>,
    entries: &mut Vec<Entry>,
) -> Result<(), Error> {
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Read { path, source }
    };
    rules.push(match std::fs::read(folder.join(IGNORE_FILE)) {
        Ok(bytes) => Rules::parse(&String::from_utf8_lossy(&bytes)),
        Err(_) => Rules::default(),
    });
    for entry in std::fs::read_dir(folder).map_err(read(folder))? {
        let path = entry.map_err(read(folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let name = name.ok_or_else(|| Error::Name { path: path.clone() })?;
        let is_link = path.symlink_metadata().map_err(read(&path))?.is_symlink();
        let is_folder = path.is_dir();
        below.push(name);
        if !is_excluded(&path, below, rules, is_folder) {
            if is_folder && !is_link {
                collect(&path, below, rules, entries)?;
            } else {
                entries.push(file(&path, is_link, below)?);
            }
        }
        below.pop();
    }
    rules.pop();
    Ok(())
}

fn is_excluded(path: &Path, below: &[String], rules: &[Rules], is_folder: bool) -> bool {
    let name = below.last().map(String::as_str).unwrap_or_default();
    if name == IGNORE_FILE && !is_folder {
        return false;
    }
    let ours =
        if is_folder { FOLDERS.contains(&name) || path.join("pyvenv.cfg").exists() } else { FILES.contains(&name) };
    if ours || name.starts_with('.') {
        return true;
    }
    let names: Vec<&str> = below.iter().map(String::as_str).collect();
    // The rules of the deepest folder that say anything decide.
    let said = rules.iter().enumerate().rev().find_map(|(depth, rules)| rules.ignores(&names[depth..], is_folder));
    said.unwrap_or(false)
}

fn file(path: &Path, is_link: bool, below: &[String]) -> Result<Entry, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let real = path.canonicalize().map_err(read)?;
    if is_link {
        let root = path.ancestors().nth(below.len()).unwrap_or(path);
        if !real.starts_with(root) {
            return Err(Error::Escapes { path: path.to_owned(), target: real });
        }
        if real.is_dir() {
            return Err(Error::FolderLink { path: path.to_owned() });
        }
    }
    let metadata = real.metadata().map_err(read)?;
    if !metadata.is_file() {
        return Err(Error::Special { path: path.to_owned() });
    }
    let executable = std::os::unix::fs::MetadataExt::mode(&metadata) & 0o100 != 0;
    Ok(Entry { name: below.join("/"), path: real, executable })
}

fn write(project: &Project, entries: &[Entry], bytes_max: u64) -> Result<Package, Error> {
    let name = project.folder().file_name().map_or_else(|| "project".into(), |name| name.to_string_lossy());
    let path = project.files().join(format!("{name}.zip"));
    let failed = |source| Error::Write { path: path.clone(), source };
    std::fs::create_dir_all(project.files()).map_err(failed)?;
    // The old package stays until the new one is whole.
    let mut new = tempfile::NamedTempFile::new_in(project.files()).map_err(failed)?;
    write_zip(new.as_file_mut(), &path, entries)?;
    let bytes = new.as_file().metadata().map_err(failed)?.len();
    if bytes > bytes_max {
        let limit = format!("{} MiB", bytes_max >> 20);
        return Err(Error::TooLarge { what: format!("{} MiB", bytes >> 20), limit });
    }
    let zip = std::fs::read(new.path()).map_err(failed)?;
    let sha256 = hex::encode(Sha256::digest(&zip));
    new.persist(&path).map_err(|error| failed(error.error))?;
    let entries = entries.iter().map(|entry| entry.name.clone()).collect();
    Ok(Package { path, bytes, sha256, entries, zip })
}

fn write_zip(file: &mut File, path: &Path, entries: &[Entry]) -> Result<(), Error> {
    let failed = |source| Error::Zip { path: path.to_owned(), source };
    let mut zip = ZipWriter::new(io::BufWriter::new(file));
    for entry in entries {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .compression_level(Some(COMPRESSION_LEVEL))
            .last_modified_time(DateTime::default())
            .unix_permissions(if entry.executable { 0o755 } else { 0o644 });
        zip.start_file(entry.name.as_str(), options).map_err(failed)?;
        let mut source = File::open(&entry.path).map_err(|source| Error::Read { path: entry.path.clone(), source })?;
        io::copy(&mut source, &mut zip).map_err(|source| Error::Write { path: path.to_owned(), source })?;
    }
    let mut out = zip.finish().map_err(failed)?;
    out.flush().map_err(|source| Error::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::developer::project::tests::project;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_package_holds_what_a_sync_needs() {
        let (_folder, project) = project(&[
            ("requirements.txt", ""),
            (".gitignore", "*.csv\n!keep.csv\n/notes/\n"),
            ("data.csv", ""),
            ("keep.csv", ""),
            ("notes/x.md", ""),
            ("sub/.gitignore", "*.txt\n!data.csv\n"),
            ("sub/a.txt", ""),
            ("sub/data.csv", ""),
            ("sub/lib/x.py", ""),
            ("sub/files/x.py", ""),
            ("sub/configuration.json", ""),
            ("library/x.py", ""),
            ("__pycache__/x.pyc", ""),
            (".env", ""),
            (".venv/x.py", ""),
            ("env/pyvenv.cfg", ""),
            ("env/bin/python", ""),
            ("configuration.json", "{}"),
            ("options.toml", ""),
            ("files/state.json", "{}"),
        ]);
        let package = package(&project, MIB).expect("a package");
        let names = [
            ".gitignore",
            "connector.py",
            "keep.csv",
            "library/x.py",
            "requirements.txt",
            "sub/.gitignore",
            "sub/data.csv",
        ];
        assert_eq!(package.entries, names);
        let mut zip = zip::ZipArchive::new(File::open(&package.path).expect("a file")).expect("a zip");
        let inside: Result<Vec<_>, _> = zip.file_names().map(|name| name.map(String::from)).collect();
        assert_eq!(inside.expect("names"), names);
        assert_eq!(io::read_to_string(zip.by_name("connector.py").expect("an entry")).expect("text"), "pass");
        let bytes = std::fs::read(&package.path).expect("a file");
        assert_eq!((package.bytes, package.sha256), (bytes.len() as u64, hex::encode(Sha256::digest(&bytes))));
    }

    #[test]
    fn equal_projects_give_equal_bytes() {
        let files = [("b.py", "1"), ("a/c.py", "2")];
        let (_one, first) = project(&files);
        let (_other, second) = project(&[files[1], files[0]]);
        let (first, second) = (package(&first, MIB).expect("a package"), package(&second, MIB).expect("a package"));
        assert_eq!(first.sha256, second.sha256);
        let (_third, third) = project(&[("b.py", "1"), ("a/c.py", "3")]);
        assert_ne!(package(&third, MIB).expect("a package").sha256, first.sha256);
    }

    #[test]
    fn nothing_leads_out_of_the_project() {
        let cases = [
            ("/etc/passwd", "PKG-002", "leads out"),
            ("sub", "PKG-002", "link to a folder"),
            ("nowhere", "PKG-010", "read"),
        ];
        for (target, code, words) in cases {
            let (folder, project) = project(&[("sub/x.py", "")]);
            std::os::unix::fs::symlink(target, folder.path().join("link")).expect("a link");
            let error = package(&project, MIB).expect_err(target);
            assert!(error.code() == code && error.to_string().contains(words), "{error}");
        }
        let (folder, project) = project(&[("sub/x.py", "inside")]);
        std::os::unix::fs::symlink("sub/x.py", folder.path().join("link.py")).expect("a link");
        assert!(package(&project, MIB).expect("a package").entries.contains(&"link.py".to_owned()));
    }

    #[test]
    fn drivers_come_with_their_installer() {
        let (_folder, without) = project(&[("drivers/odbc.deb", "")]);
        assert_eq!(package(&without, MIB).expect_err("refused").code(), "DEV-006");
        let (_folder, with) = project(&[("drivers/odbc.deb", ""), ("drivers/installation.sh", "")]);
        assert_eq!(package(&with, MIB).expect("a package").entries.len(), 3);
    }

    #[test]
    fn a_package_beyond_the_limit_is_refused() {
        let (_folder, project) = project(&[("a.py", "x")]);
        let error = package(&project, 100).expect_err("too large");
        assert_eq!(error.code(), "PKG-008");
        assert!(!project.files().join("a.zip").exists());
    }
}
