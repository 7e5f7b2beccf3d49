//! `[project].dependencies` of pyproject.toml, with uv's sources and indexes where they change what is installed.

use std::path::Path;

use toml::{Table, Value};

use super::{Error, Line, Requirements, content, file};

const FILE: &str = "pyproject.toml";

/// The dependencies; `None` when the file is absent or names none.
pub(super) fn read(project: &Path) -> Result<Option<Requirements>, Error> {
    let Some(text) = content::text(project, FILE)? else { return Ok(None) };
    let not_toml = |error: toml::de::Error| Error::NotToml { file: FILE.to_owned(), what: error.message().to_owned() };
    let table: Table = text.parse().map_err(not_toml)?;
    let dependencies = table.get("project").and_then(|project| project.get("dependencies"));
    let Some(dependencies) = dependencies else { return Ok(None) };
    let wrong = |line: &Value| refused(&line.to_string(), "dependencies is a list of texts");
    let dependencies = dependencies.as_array().ok_or_else(|| wrong(dependencies))?;
    let uv = table.get("tool").and_then(|tool| tool.get("uv"));
    let mut found = Requirements::default();
    for dependency in dependencies {
        let text = dependency.as_str().ok_or_else(|| wrong(dependency))?.trim();
        found.lines.push(match uv.and_then(|uv| source(uv, text)) {
            Some(source) => from_source(project, text, source)?,
            None => file::requirement(project, FILE, text)?,
        });
    }
    for index in uv.and_then(|uv| uv.get("index")).and_then(Value::as_array).into_iter().flatten() {
        let url = index.get("url").and_then(Value::as_str);
        let url = url.ok_or_else(|| refused("[[tool.uv.index]]", "an index has a url"))?;
        let is_default = index.get("default").and_then(Value::as_bool) == Some(true);
        let option = if is_default { "--index-url" } else { "--extra-index-url" };
        found.index_options.push(format!("{option} {url}"));
    }
    Ok(Some(found))
}

/// What `[tool.uv.sources]` says about a dependency.
fn source<'a>(uv: &'a Value, text: &str) -> Option<&'a Value> {
    let wanted = file::name(text)?;
    let sources = uv.get("sources")?.as_table()?;
    sources.iter().find(|(name, _)| file::name(name).as_ref() == Some(&wanted)).map(|(_, source)| source)
}

fn from_source(project: &Path, text: &str, source: &Value) -> Result<Line, Error> {
    let field = |name: &str| source.get(name).and_then(Value::as_str);
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.[],".contains(c))).unwrap_or(text.len());
    let (name, _) = text.split_at(end);
    let marker = text.split_once(';').map_or(String::new(), |(_, marker)| format!(" ;{marker}"));
    if let Some(url) = field("git") {
        let revision = ["rev", "tag", "branch"].into_iter().find_map(field);
        let revision = revision.map_or(String::new(), |revision| format!("@{revision}"));
        let folder = field("subdirectory").map_or(String::new(), |folder| format!("#subdirectory={folder}"));
        return Ok(Line::plain(format!("{name} @ git+{url}{revision}{folder}{marker}")));
    }
    if let Some(url) = field("url") {
        return Ok(Line::plain(format!("{name} @ {url}{marker}")));
    }
    if let Some(path) = field("path") {
        let extras = name.find('[').and_then(|at| name.get(at..)).unwrap_or_default();
        return file::requirement(project, FILE, &format!("./{}{extras}{marker}", path.trim_start_matches("./")));
    }
    // An index by name only says where to look: every index of the file is looked at anyway.
    if field("index").is_some() {
        return file::requirement(project, FILE, text);
    }
    Err(refused(&format!("tool.uv.sources.{name}"), "only git, url, path and index are supported"))
}

fn refused(line: &str, why: &str) -> Error {
    Error::Refused { file: FILE.to_owned(), line: super::masked(line), why: why.to_owned() }
}
