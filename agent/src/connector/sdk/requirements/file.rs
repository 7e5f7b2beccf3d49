//! Requirements files in pip's syntax: continuations, comments, includes, and each option either honoured or refused.

use std::path::{Component, Path};

use super::{Error, Line, Requirements, content, masked};

/// Files included by `-r` may nest this deep.
const INCLUDES_MAX: usize = 8;
/// Options and their short forms, as the canonical name.
const OPTIONS: [(&str, &str); 19] = [
    ("-r", "include"),
    ("--requirement", "include"),
    ("-c", "constrain"),
    ("--constraint", "constrain"),
    ("-e", "editable"),
    ("--editable", "editable"),
    ("-i", "--index-url"),
    ("--index-url", "--index-url"),
    ("--pypi-url", "--index-url"),
    ("--extra-index-url", "--extra-index-url"),
    ("-f", "--find-links"),
    ("--find-links", "--find-links"),
    ("--no-index", "--no-index"),
    ("--trusted-host", "--trusted-host"),
    ("--no-binary", "--no-binary"),
    ("--only-binary", "--only-binary"),
    ("--pre", "--pre"),
    ("--prefer-binary", "--prefer-binary"),
    ("--require-hashes", "--require-hashes"),
];

/// The requirements of a file; `None` when there is no such file.
pub(super) fn read(project: &Path, file: &str) -> Result<Option<Requirements>, Error> {
    let Some(text) = content::text(project, file)? else { return Ok(None) };
    let mut reader = Reader { project, found: Requirements::default() };
    reader.file(file, &text, INCLUDES_MAX, false)?;
    Ok(Some(reader.found))
}

/// One requirement as pyproject.toml has it.
pub(super) fn requirement(project: &Path, file: &str, text: &str) -> Result<Line, Error> {
    Reader { project, found: Requirements::default() }.requirement(file, text)
}

struct Reader<'a> {
    project: &'a Path,
    found: Requirements,
}

impl Reader<'_> {
    fn file(&mut self, file: &str, text: &str, depth_left: usize, is_constraints: bool) -> Result<(), Error> {
        for line in joined(text) {
            match option(&line) {
                None if !line.starts_with('-') && is_constraints => self.found.constraints.push(line),
                None if !line.starts_with('-') => {
                    let line = self.requirement(file, &line)?;
                    self.found.lines.push(line);
                }
                None => return Err(refused(file, &line, "this option is not known here")),
                Some(("include", value)) => self.include(file, &line, value, depth_left, is_constraints)?,
                Some(("constrain", value)) => self.include(file, &line, value, depth_left, true)?,
                Some(("editable", value)) => {
                    // An environment outlives the folder of a sync: what is installed is a copy.
                    let line = self.requirement(file, value)?;
                    self.found.lines.push(line);
                }
                Some((name, value)) => self.option(file, &line, name, value)?,
            }
        }
        Ok(())
    }

    fn include(&mut self, file: &str, line: &str, value: &str, depth: usize, constrain: bool) -> Result<(), Error> {
        if depth == 0 {
            return Err(refused(file, line, "files include each other too deeply"));
        }
        if value.contains("://") {
            return Err(refused(file, line, "a file of the network is not read: put it into the project"));
        }
        let nested = Path::new(file).with_file_name(value);
        let missing = || refused(file, line, "there is no such file in the project");
        let is_inside = nested.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let nested = nested.to_str().filter(|_| is_inside).ok_or_else(missing)?;
        let text = content::text(self.project, nested)?.ok_or_else(missing)?;
        self.file(nested, &text, depth - 1, constrain)
    }

    fn option(&mut self, file: &str, line: &str, name: &str, value: &str) -> Result<(), Error> {
        let is_flag = matches!(name, "--no-index" | "--pre" | "--prefer-binary" | "--require-hashes");
        if is_flag != value.is_empty() {
            return Err(refused(file, line, if is_flag { "this option takes no value" } else { "a value is missing" }));
        }
        match name {
            "--pre" => self.found.allow_prereleases = true,
            "--prefer-binary" => self.found.prefer_binary = true,
            "--require-hashes" => self.found.require_hashes = true,
            "--no-binary" => self.found.no_binary.extend(value.split(',').map(str::to_owned)),
            "--only-binary" => self.found.only_binary.extend(value.split(',').map(str::to_owned)),
            "--find-links" if !value.contains("://") => {
                let folder = self.project.join(value);
                if !folder.exists() {
                    return Err(refused(file, line, "there is no such folder in the project"));
                }
                self.found.find_links.push(folder);
            }
            _ => self.found.index_options.push(if is_flag { name.to_owned() } else { format!("{name} {value}") }),
        }
        Ok(())
    }

    fn requirement(&self, file: &str, text: &str) -> Result<Line, Error> {
        let options = text.split_whitespace().filter(|word| word.starts_with("--"));
        if options.into_iter().any(|word| !word.starts_with("--hash=")) {
            return Err(refused(file, text, "options for one requirement are not supported here, --hash apart"));
        }
        let Some(named) = named_path(text) else { return Ok(Line::plain(text.to_owned())) };
        let path = self.project.join(named);
        let path = path.canonicalize().map_err(|_| refused(file, text, "there is no such file in the project"))?;
        Ok(Line { text: text.to_owned(), path: Some(path) })
    }
}

fn refused(file: &str, line: &str, why: &str) -> Error {
    Error::Refused { file: file.to_owned(), line: masked(line), why: why.to_owned() }
}

/// The canonical name of a line's option, and its value.
fn option(line: &str) -> Option<(&'static str, &str)> {
    let end = line.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    let value = rest.trim_start_matches('=').trim().trim_matches('"').trim_matches('\'');
    if let Some((_, name)) = OPTIONS.iter().find(|(known, _)| *known == word) {
        return Some((name, value));
    }
    // `-rmore.txt`
    let (short, value) = line.split_at_checked(2)?;
    let known = OPTIONS.iter().find(|(known, _)| *known == short && short.len() == 2 && !value.starts_with('-'));
    known.map(|(_, name)| (*name, value.trim()))
}

/// Lines without comments and blanks, continuations joined.
fn joined(text: &str) -> Vec<String> {
    let text = text.replace("\\\r\n", " ").replace("\\\n", " ");
    text.lines().map(|line| without_comment(line).trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// A comment begins with `#` at the start of a line or after a space; elsewhere it is part of a URL.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, letter) in line.char_indices() {
        if letter == '#' && before.is_whitespace() {
            return line.get(..at).unwrap_or_default();
        }
        before = letter;
    }
    line
}

/// The path that a requirement names, as pip tells one: it begins with a dot or a slash, or is an archive.
fn named_path(text: &str) -> Option<&Path> {
    let end = text.find([' ', '[']).unwrap_or(text.len());
    let word = text.get(..end)?;
    if word.contains("://") || text.contains(" @ ") {
        return None;
    }
    let is_archive = [".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2"].iter().any(|end| word.ends_with(end));
    (word.starts_with('.') || word.starts_with('/') || is_archive).then(|| Path::new(word))
}

/// The normalised name of the distribution that a line asks for.
pub(in crate::connector::sdk) fn name(line: &str) -> Option<String> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || rest.starts_with("+") || rest.starts_with("://") {
        return None;
    }
    let words: Vec<&str> = name.split(['-', '_', '.']).filter(|word| !word.is_empty()).collect();
    Some(words.join("-").to_ascii_lowercase())
}
