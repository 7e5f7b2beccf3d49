//! Rules about whole files: size, opening line, words that do not belong here, manifests.

use std::path::Path;

use crate::{assert_none, read, repository_files, root, rust_files};

const LINES_MAX: usize = 500;
/// Of the one audited file.
const UNSAFE_LINES_MAX: usize = 100;
const BLOB_BYTES_MAX: u64 = 200_000;

#[test]
fn every_rust_file_opens_with_what_it_owns() {
    let offences: Vec<_> = rust_files()
        .into_iter()
        .filter(|path| !read(path).starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    assert_none("open the file with `//!`: what it owns, what it leaves to others", &offences);
}

#[test]
fn no_file_is_longer_than_its_limit_before_its_tests() {
    let offences: Vec<_> = rust_files()
        .into_iter()
        .map(|path| (lines_before_tests(&read(&path)), path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{}: {lines} lines (limit {LINES_MAX})", path.display()))
        .collect();
    assert_none("split the file by concept", &offences);
}

fn lines_before_tests(text: &str) -> usize {
    text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count()
}

#[test]
fn no_unfinished_work_is_landed() {
    let marks = [concat!("FIX", "ME"), concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[ig", "nore")];
    assert_none("finish it or leave it out", &lines_with(&marks, |path| path.starts_with("docs")));
}

#[test]
fn no_path_of_one_machine_and_no_registry_host_is_named() {
    let marks = [
        concat!("/wo", "rk/"),
        concat!("/tmp/bash", "_jobs"),
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("npmjs", "."),
    ];
    let skip = |path: &Path| path.ends_with("Cargo.lock");
    assert_none("the repository speaks of the project alone", &lines_with(&marks, skip));
}

#[test]
fn forbidden_packages_are_in_no_lock_or_requirements_file() {
    let mut offences = Vec::new();
    for path in repository_files() {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if !(name.ends_with(".txt") || name.ends_with(".lock") || name.ends_with(".toml")) {
            continue;
        }
        for (number, line) in read(&path).lines().enumerate() {
            let word = line.to_ascii_lowercase().replace('_', "-");
            let core = word.contains(concat!("fivetran-connector-sdk", "-core"));
            let third = word.contains("fivetran-connector-sdk") && (word.contains("==3") || word.contains(">=3"));
            if core || third {
                offences.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert_none("their terms forbid these packages here", &offences);
}

#[test]
fn no_large_blob_is_committed() {
    let offences: Vec<_> = repository_files()
        .into_iter()
        .filter_map(|path| Some((std::fs::metadata(root().join(&path)).ok()?.len(), path)))
        .filter(|(bytes, _)| *bytes > BLOB_BYTES_MAX)
        .map(|(bytes, path)| format!("{}: {bytes} bytes (limit {BLOB_BYTES_MAX})", path.display()))
        .collect();
    assert_none("make it small, or make it when it is needed", &offences);
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    // The Python module alone has its own copy, which `deny`s what the workspace `forbid`s: see `unsafe_is_in_one_file`.
    let offences: Vec<_> = repository_files()
        .into_iter()
        .filter(|path| path.ends_with("Cargo.toml") && path.parent() != Some(Path::new("")))
        .filter(|path| !path.starts_with("sdk/native"))
        .filter(|path| !read(path).contains("[lints]\nworkspace = true"))
        .map(|path| path.display().to_string())
        .collect();
    assert_none("add `[lints] workspace = true`", &offences);
}

#[test]
fn the_python_module_has_the_lints_of_the_workspace() {
    let section = |path: &str, from: &str, to: &str| {
        let text = read(Path::new(path));
        let start = text.find(from).expect("the first section is there");
        let end = text.get(start..).and_then(|rest| rest.find(to)).map_or(text.len(), |length| start + length);
        text.get(start..end).unwrap_or_default().trim_end().to_owned()
    };
    let workspace = section("Cargo.toml", "[workspace.lints.rust]", "[profile.dev]");
    let expected = workspace.replace("[workspace.lints.", "[lints.").replace("\"forbid\"", "\"deny\"");
    assert_eq!(section("sdk/native/Cargo.toml", "[lints.rust]", "[profile"), expected);
}

#[test]
fn unsafe_is_in_one_file() {
    let mark = concat!("uns", "afe ");
    let audited = Path::new("sdk/native/src/borrowed.rs");
    let offences: Vec<_> = rust_files()
        .into_iter()
        .filter(|path| path != audited)
        .flat_map(|path| {
            let text = read(&path);
            let found = text
                .lines()
                .enumerate()
                .filter(|(_, line)| line.trim_start().starts_with(mark) || line.contains(concat!(" uns", "afe {")));
            found.map(|(number, _)| format!("{}:{}", path.display(), number + 1)).collect::<Vec<_>>()
        })
        .collect();
    assert_none("no unsafe", &offences);
    let lines = read(audited).lines().count();
    assert!(lines <= UNSAFE_LINES_MAX, "{}: {lines} lines (limit {UNSAFE_LINES_MAX})", audited.display());
}

fn lines_with(marks: &[&str], skip: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut offences = Vec::new();
    for path in repository_files() {
        if skip(&path) {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                offences.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    offences
}
