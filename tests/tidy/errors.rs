//! Every error code has a page and every page a code; every code is produced somewhere in the product, and some test
//! makes it happen or at least maps to it.

use std::collections::BTreeSet;
use std::path::Path;

use inshore_protocol::Code;

use crate::{assert_none, read, repository_files};

/// The table itself, and its sentences: a code that only they name is produced by nobody.
const TABLES: [&str; 2] = ["protocol/src/failure.rs", "control-plane/src/catalogue.rs"];

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let codes: BTreeSet<String> = Code::all().iter().map(|code| code.to_string()).collect();
    let pages: BTreeSet<String> = repository_files()
        .iter()
        .filter(|path| path.starts_with("docs/errors") && path.extension().is_some_and(|end| end == "md"))
        .filter_map(|path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
        .filter(|stem| stem != "README")
        .collect();
    let index = read(Path::new("docs/errors/README.md"));
    let missing = codes.difference(&pages).map(|code| format!("{code} has no docs/errors/{code}.md"));
    let stale = pages.difference(&codes).map(|page| format!("docs/errors/{page}.md names no code"));
    let unlisted = codes.iter().filter(|code| !index.contains(&format!("[{code}]({code}.md)")));
    let unlisted = unlisted.map(|code| format!("{code} is not listed in docs/errors/README.md"));
    assert_none("one page per error code", &missing.chain(stale).chain(unlisted).collect::<Vec<_>>());
}

#[test]
fn every_code_is_produced_somewhere() {
    let product: String = texts().into_iter().map(|(product, _)| product).collect();
    let unused = Code::all().iter().filter(|code| !names(&product, **code));
    let unused: Vec<_> = unused.map(|code| format!("{code} ({code:?})")).collect();
    assert_none("a code that nothing produces is a promise that nothing keeps", &unused);
}

#[test]
fn every_code_has_a_test() {
    let tests: String = texts().into_iter().map(|(_, tests)| tests).collect();
    let untested = Code::all().iter().filter(|code| !names(&tests, **code));
    let untested: Vec<_> = untested.map(|code| format!("{code} ({code:?})")).collect();
    assert_none("a code that no test produces is one that may never come", &untested);
}

/// As a variant of the table, or as its text.
fn names(text: &str, code: Code) -> bool {
    let variant = format!("Code::{code:?}");
    let literal = format!("\"{code}\"");
    let is_word_end = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_');
    text.contains(&literal) || text.split(&variant).skip(1).any(is_word_end)
}

/// Each source file in two parts: the product's and the tests'.
fn texts() -> Vec<(String, String)> {
    let sources = repository_files().into_iter().filter(|path| {
        path.extension().is_some_and(|end| end == "rs" || end == "py")
            && !path.starts_with("tests/tidy")
            && !TABLES.iter().any(|table| path.ends_with(table))
    });
    sources.map(|path| split(&path, read(&path))).collect()
}

fn split(path: &Path, text: String) -> (String, String) {
    let is_test = path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs");
    if is_test {
        return (String::new(), text);
    }
    match text.split_once("#[cfg(test)]\nmod tests {") {
        Some((product, tests)) => (product.to_owned(), tests.to_owned()),
        None => (text, String::new()),
    }
}
