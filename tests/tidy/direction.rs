//! Who may import whom: the direction table of STYLE §3, read off the `crate::…` paths and crate names of each file.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{assert_none, read, rust_files};

const LEAVES: &[&str] = &[
    "state",
    "secret",
    "retry",
    "tasks",
    "context",
    "identity",
    "metrics",
    "health",
    "failpoint",
    "fixture",
    "log_fields",
];

/// Module of the agent, what it may import of the agent, and which of our crates.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    ("batch", &[], &["columnar"]),
    ("tunnel", &[], &[]),
    ("sandbox", &[], &["config"]),
    ("connector", &["batch", "sandbox"], &["columnar"]),
    ("destination", &["batch"], &["columnar", "config", "trust"]),
    ("sync", &["connector", "batch", "destination"], &["columnar"]),
    ("policy", &[], &["config", "trust"]),
    ("report", &[], &["protocol"]),
    (
        "job",
        &["policy", "sync", "tunnel", "connector", "sandbox", "destination", "report", "batch"],
        &["columnar", "config", "trust", "protocol"],
    ),
    ("developer", &["sync", "connector", "sandbox", "destination", "batch"], &["columnar", "config", "trust"]),
    ("channel", &[], &["protocol", "trust"]),
];

/// Our crates, as the last part of their names in code.
const CRATES: &[&str] = &["protocol", "config", "trust", "columnar", "agent", "control_plane", "tests"];

/// `protocol` inside `job` stays in the two files that turn wire into checked types and back, and in the dispatcher's
/// conversation with the channel.
const JOB_FILES_WITH_PROTOCOL: &[&str] = &["spec.rs", "outcome.rs"];

/// Files that decide and therefore know no runtime, no clock, no files.
const PURE: &[&str] = &[
    "agent/src/sync/fsm.rs",
    "agent/src/sync/policy.rs",
    "agent/src/batch/fold.rs",
    "agent/src/destination/chain/entry.rs",
    "columnar/src",
];

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut offences = Vec::new();
    for path in rust_files() {
        let Some((module, rest)) = agent_module(&path) else { continue };
        let Some((_, allowed, crates)) = TABLE.iter().find(|(name, ..)| *name == module) else { continue };
        let text = read(&path);
        for imported in agent_imports(&text) {
            let leaf = LEAVES.contains(&imported.as_str());
            if imported != module && !leaf && !allowed.contains(&imported.as_str()) {
                offences.push(format!("{}: {module} imports {imported}", path.display()));
            }
        }
        for imported in our_crates(&text) {
            if !crates.contains(&imported.as_str()) {
                offences.push(format!("{}: {module} imports the crate {imported}", path.display()));
            }
            if module == "job" && imported == "protocol" && !JOB_FILES_WITH_PROTOCOL.contains(&rest.as_str()) {
                offences.push(format!("{}: wire types stop at the job's boundary", path.display()));
            }
        }
    }
    assert_none("the direction table of STYLE §3", &offences);
}

#[test]
fn lower_crates_import_none_of_ours() {
    let mut offences = Vec::new();
    for path in rust_files() {
        let folder = path.iter().next().map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
        let imported = our_crates(&read(&path));
        let bad: Vec<_> = match folder.as_str() {
            "protocol" | "config" | "trust" | "columnar" => {
                imported.into_iter().filter(|name| *name != folder).collect()
            }
            "sdk" => imported.into_iter().filter(|name| name != "columnar").collect(),
            "control-plane" => imported
                .into_iter()
                .filter(|name| !["protocol", "config", "trust", "control_plane"].contains(&name.as_str()))
                .collect(),
            _ => Vec::new(),
        };
        offences.extend(bad.into_iter().map(|name| format!("{}: imports {name}", path.display())));
    }
    assert_none("crates below know nothing of those above", &offences);
}

#[test]
fn deciding_code_knows_no_runtime_no_clock_and_no_files() {
    let marks = ["tokio::", "std::fs", "SystemTime", "Utc::now", "Instant::now", "std::env"];
    let mut offences = Vec::new();
    for path in rust_files() {
        let name = path.to_string_lossy().into_owned();
        if !PURE.iter().any(|pure| name.starts_with(pure)) || name.ends_with("tests.rs") {
            continue;
        }
        let text = read(&path);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for mark in marks.iter().filter(|mark| code.contains(**mark)) {
            offences.push(format!("{name}: {mark}"));
        }
    }
    assert_none("time arrives as an argument, IO stays in the driver", &offences);
}

/// The agent's top module that a file belongs to, and the file's name inside it.
fn agent_module(path: &Path) -> Option<(String, String)> {
    let inside = path.strip_prefix("agent/src").ok()?;
    let first = inside.iter().next()?.to_string_lossy().into_owned();
    let rest = inside.iter().skip(1).map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
    Some((first.trim_end_matches(".rs").to_owned(), rest))
}

fn agent_imports(text: &str) -> BTreeSet<String> {
    code(text).flat_map(|line| after(line, "crate::")).collect()
}

fn our_crates(text: &str) -> BTreeSet<String> {
    let named = code(text).flat_map(|line| after(line, "inshore_"));
    named.filter(|name| CRATES.contains(&name.as_str())).collect()
}

/// Lines of code: comments are left out.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// Every identifier that follows `mark` in a line; `crate::{a::b, c}` counts each name.
fn after(line: &str, mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (start, _) in line.match_indices(mark) {
        let rest = line.get(start + mark.len()..).unwrap_or_default();
        if let Some(group) = rest.strip_prefix('{') {
            let names = group.split(['}', ';']).next().unwrap_or_default();
            found.extend(names.split(',').map(|name| identifier(name.trim())));
        } else {
            found.push(identifier(rest));
        }
    }
    found.retain(|name| !name.is_empty() && name.chars().next().is_some_and(|first| first.is_ascii_lowercase()));
    found
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|character| character.is_ascii_alphanumeric() || *character == '_').collect()
}
