//! From text to a checked value, and from a parser's complaint to file, line, column and nearest key.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::error::{Error, FileKind};

/// A settings file above this size is a mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads and parses a file.
pub(crate) fn load<T: DeserializeOwned>(file: FileKind, path: &Path) -> Result<T, Error> {
    let text = read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { file, path: path.to_owned() },
        _ => Error::Unreadable { file, path: path.to_owned(), source },
    })?;
    parse(file, path, &text)
}

fn read(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "above 1 MiB"));
    }
    Ok(text)
}

/// Parses a text; `path` is for messages only.
pub(crate) fn parse<T: DeserializeOwned>(file: FileKind, path: &Path, text: &str) -> Result<T, Error> {
    toml::from_str(text).map_err(|error| {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        let path = path.to_owned();
        match unknown_key(error.message()) {
            Some((key, nearest)) => Error::UnknownKey { file, path, line, column, key, nearest },
            None => Error::Malformed { file, path, line, column, message: error.message().to_owned() },
        }
    })
}

/// Line and column of a byte offset, both from one, the column in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

/// serde names the unknown field and every known one between backticks: the only place where both are known.
fn unknown_key(message: &str) -> Option<(String, Option<String>)> {
    let quoted = message.strip_prefix("unknown field ")?;
    let mut names = quoted.split('`').skip(1).step_by(2);
    let key = names.next()?.to_owned();
    let nearest = names
        .map(|name| (strsim::damerau_levenshtein(&key, name), name))
        .filter(|(distance, name)| *distance <= (name.len() / 2).max(2))
        .min()
        .map(|(_, name)| name.to_owned());
    Some((key, nearest))
}

/// Tests learn the keys of a table from the parser itself, so that a sample cannot lag behind the types.
#[cfg(test)]
pub(crate) fn known_keys<T: DeserializeOwned + std::fmt::Debug>(table: &str) -> Vec<String> {
    let text = if table.is_empty() { "probe__ = 1".to_owned() } else { format!("[{table}]\nprobe__ = 1") };
    let error = toml::from_str::<T>(&text).expect_err("no table knows this key");
    let names = error.message().split('`').skip(1).step_by(2).map(ToOwned::to_owned);
    names.filter(|name| name != "probe__").collect()
}

/// The lines `#key = value` of a sample are its defaults; prose is `# text`.
#[cfg(test)]
pub(crate) fn uncommented(sample: &str) -> String {
    let lines = sample.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase() || first == '[') => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}
