//! The states that the runs of a project, or the syncs of an agent's connection, committed: what they were, how two of them
//! differ, and the way back to one. The way back is a commit of its own without rows, so the chain keeps what was undone; rows
//! stay as they are.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Map, Value, json};

use inshore_trust::PublicKey;

use super::debug::{self, CONNECTION};
use super::project::{self, Occupied, Project, Sources};
use super::summary::grouped;
use crate::context::now_ms;
use crate::destination::{self, CommitRequest, Destination as _, History, Lake, LakeSettings, Past, Writer};

/// What a state may take of a line for people.
const STATE_CHARACTERS_MAX: usize = 60;

/// Why there is no past to see, or no way back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no run has committed anything yet: `inshore debug` does")]
    NoRun,
    #[error("there is no commit {commit}; the newest are {known}")]
    NoCommit { commit: u64, known: String },
    #[error("the state of commit {commit} was above 256 KiB, and such a state is kept only until the next one")]
    Collected { commit: u64 },
    #[error("{what} is no JSON")]
    NotJson {
        what: String,
        #[source]
        source: serde_json::Error,
    },
    #[error(transparent)]
    Project(#[from] project::Error),
    #[error(transparent)]
    Open(#[from] debug::Error),
    #[error("read the project's chain")]
    Chain(#[from] destination::Error),
}

impl Error {
    /// The page in docs/errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::NoRun => "DEV-002",
            Error::NoCommit { .. } | Error::Collected { .. } => "DEV-012",
            Error::NotJson { .. } => "PKG-011",
            Error::Project(error) => error.code(),
            Error::Open(error) => error.code(),
            Error::Chain(error) => error.code(),
        }
    }
}

/// Whose past it is.
#[derive(Debug)]
pub(crate) enum Whose {
    /// A project on its author's machine: `files/state.json` is what the next run starts from.
    Project(Project),
    /// A connection of this host's agent: the newest commit is what the next sync starts from.
    Connection(Connection),
}

/// A connection's chain at its destination.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) settings: LakeSettings,
    pub(crate) id: String,
    pub(crate) root: PublicKey,
}

impl Whose {
    async fn read(&self, reach: (usize, Option<u64>)) -> Result<History, Error> {
        let history = match self {
            Whose::Project(project) => return read_own(project, reach).await,
            Whose::Connection(Connection { settings, id, root }) => {
                destination::history(settings, id, *root, reach).await?
            }
        };
        not_empty(history)
    }

    /// What the next run starts from.
    async fn current(&self, history: &History) -> Result<Value, Error> {
        match self {
            Whose::Project(project) => current(project),
            Whose::Connection(_) => {
                let newest = history.commits.first().ok_or(Error::NoRun)?;
                committed_state(history, newest).await?.ok_or(Error::Collected { commit: newest.seq })
            }
        }
    }
}

/// A state, as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// What the next run starts from.
    Current,
    /// What the commit in this slot stored.
    Commit(u64),
}

impl std::str::FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "current" {
            return Ok(Which::Current);
        }
        text.parse().map(Which::Commit).map_err(|_| "a commit's number, or `current`".to_owned())
    }
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Which::Current => f.write_str("current"),
            Which::Commit(commit) => write!(f, "commit {commit}"),
        }
    }
}

/// One commit with its state.
#[derive(Debug, Serialize)]
pub(crate) struct Committed {
    commit: u64,
    at: String,
    upserts: u64,
    updates: u64,
    deletes: u64,
    truncates: u64,
    tables: Vec<String>,
    /// None where it was large and is kept no longer.
    state: Option<Value>,
    /// Whether the next run starts from this state.
    current: bool,
}

/// The commits of a project, newest first.
#[derive(Debug, Serialize)]
pub(crate) struct Timeline {
    commits: Vec<Committed>,
    has_more: bool,
}

/// Reads the newest `commits_max` commits.
pub(crate) async fn timeline(whose: &Whose, commits_max: usize) -> Result<Timeline, Error> {
    let history = whose.read((commits_max, None)).await?;
    let now = whose.current(&history).await?;
    let mut commits = Vec::with_capacity(history.commits.len());
    for past in &history.commits {
        let state = committed_state(&history, past).await?;
        let current = state.as_ref() == Some(&now) && !commits.iter().any(|newer: &Committed| newer.current);
        commits.push(committed(past, state, current));
    }
    Ok(Timeline { commits, has_more: history.has_more })
}

fn committed(past: &Past, state: Option<Value>, current: bool) -> Committed {
    let at = chrono::DateTime::from_timestamp_millis(past.synced_at_ms).unwrap_or_default();
    Committed {
        commit: past.seq,
        at: at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        upserts: past.rows.upserts,
        updates: past.rows.updates,
        deletes: past.rows.deletes,
        truncates: past.rows.truncates,
        tables: past.tables.iter().map(ToString::to_string).collect(),
        state,
        current,
    }
}

impl Timeline {
    /// For people: a line per commit.
    pub(crate) fn text(&self) -> String {
        let width = self.commits.first().map_or(1, |newest| newest.commit.to_string().len()).max("commit".len());
        let mut text = format!("  {:>width$}  {:<19}  {:>9}  state\n", "commit", "at (UTC)", "rows");
        for commit in &self.commits {
            let mark = if commit.current { '*' } else { ' ' };
            let rows = grouped(commit.upserts + commit.updates + commit.deletes);
            let at = commit.at.get(..19).unwrap_or(&commit.at).replace('T', " ");
            let state = commit.state.as_ref().map(Value::to_string);
            let state = state.map_or_else(|| "(large, kept no longer)".to_owned(), |state| shortened(&state));
            writeln!(text, "{mark} {:>width$}  {at}  {rows:>9}  {state}", commit.commit)
                .expect("a String takes everything");
        }
        if self.has_more {
            text.push_str("  … older ones: --limit says how many\n");
        }
        text.push_str(if self.commits.iter().any(|commit| commit.current) {
            "* the next run starts from this state\n"
        } else {
            "the next run starts from another state: `inshore state get` prints it\n"
        });
        text
    }
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= STATE_CHARACTERS_MAX {
        return text.to_owned();
    }
    text.chars().take(STATE_CHARACTERS_MAX - 1).chain(['…']).collect()
}

/// One place where two states differ.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Difference {
    /// Keys and positions from the top, with dots.
    path: String,
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Value>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.path.is_empty() { "(all)" } else { &self.path };
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "~ {path}: {from} → {to}"),
            (Some(from), None) => write!(f, "- {path}: {from}"),
            (None, Some(to)) => write!(f, "+ {path}: {to}"),
            (None, None) => Ok(()),
        }
    }
}

/// How two states differ. Without names: what the next run starts from against the newest commit that differs from it.
pub(crate) async fn diff(whose: &Whose, from: Option<Which>, to: Which) -> Result<(Which, Vec<Difference>), Error> {
    let back_to = [from, Some(to)].into_iter().flatten().filter_map(|which| match which {
        Which::Current => None,
        Which::Commit(commit) => Some(commit),
    });
    let reach = if from.is_some() { 1 } else { usize::MAX };
    let history = whose.read((reach, back_to.min())).await?;
    let after = state_of(whose, &history, to).await?;
    let from = match from {
        Some(which) => which,
        None => Which::Commit(before(&history, to, &after).await?),
    };
    let old = state_of(whose, &history, from).await?;
    let mut differences = Vec::new();
    compare("", &old, &after, &mut differences);
    Ok((from, differences))
}

/// The newest commit below `to` with another state; where there is none, the oldest one.
async fn before(history: &History, to: Which, after: &Value) -> Result<u64, Error> {
    let below = |past: &&Past| matches!(to, Which::Current) || matches!(to, Which::Commit(seq) if past.seq < seq);
    let mut oldest = None;
    for past in history.commits.iter().filter(below) {
        oldest = Some(past.seq);
        if committed_state(history, past).await?.as_ref() != Some(after) {
            break;
        }
    }
    oldest.ok_or(Error::NoRun)
}

fn compare(path: &str, from: &Value, to: &Value, differences: &mut Vec<Difference>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (from, to) {
        (from, to) if from == to => {}
        (Value::Object(from), Value::Object(to)) => compare_objects(from, to, &below, differences),
        (Value::Array(from), Value::Array(to)) => {
            for index in 0..from.len().max(to.len()) {
                compare_optional(below(&index.to_string()), from.get(index), to.get(index), differences);
            }
        }
        (from, to) => compare_changed(path.to_owned(), from, to, differences),
    }
}

fn compare_objects(
    from: &Map<String, Value>,
    to: &Map<String, Value>,
    below: &dyn Fn(&str) -> String,
    differences: &mut Vec<Difference>,
) {
    let keys: std::collections::BTreeSet<_> = from.keys().chain(to.keys()).collect();
    for key in keys {
        compare_optional(below(key), from.get(key), to.get(key), differences);
    }
}

fn compare_optional(path: String, from: Option<&Value>, to: Option<&Value>, differences: &mut Vec<Difference>) {
    match (from, to) {
        (Some(from), Some(to)) => compare(&path, from, to, differences),
        (Some(from), None) => {
            differences.push(Difference { path, change: "removed", from: Some(from.clone()), to: None });
        }
        (None, Some(to)) => differences.push(Difference { path, change: "added", from: None, to: Some(to.clone()) }),
        (None, None) => {}
    }
}

fn compare_changed(path: String, from: &Value, to: &Value, differences: &mut Vec<Difference>) {
    differences.push(Difference { path, change: "changed", from: Some(from.clone()), to: Some(to.clone()) });
}

/// The way back to a commit's state: nobody runs the project meanwhile, and nothing is written before `go_back`.
pub(crate) struct Rewind<'a> {
    whose: &'a Whose,
    state: String,
    generation: u64,
    pub(crate) differences: Vec<Difference>,
    _occupied: Option<Occupied>,
}

/// Prepares to make the state of a commit the one that the next run starts from. That no sync of an agent's connection runs
/// is for the caller to see to.
pub(crate) async fn rewind(whose: &Whose, commit: u64) -> Result<Rewind<'_>, Error> {
    let occupied = match whose {
        Whose::Project(project) => Some(project.occupy()?),
        Whose::Connection(_) => None,
    };
    let history = whose.read((1, Some(commit))).await?;
    let past = history.commit(commit).ok_or_else(|| no_commit(&history, commit))?;
    let state = history.state(past).await?.ok_or(Error::Collected { commit })?;
    let mut differences = Vec::new();
    compare("", &whose.current(&history).await?, &parsed("the state", &state)?, &mut differences);
    Ok(Rewind { whose, state, generation: history.generation(), differences, _occupied: occupied })
}

impl Rewind<'_> {
    /// Commits the old state anew and, for a project, puts it where the next run starts from. Returns the new commit. A crash
    /// between the two leaves the state file as it was: the same command again puts it right. `writer` signs for an agent, and
    /// is given the generation of the chain's head: a sync that begins meanwhile has a higher one and wins.
    pub(crate) async fn go_back(self, writer: impl FnOnce(u64) -> Option<Writer>) -> Result<u64, Error> {
        let lake = match self.whose {
            Whose::Project(project) => debug::open_lake(project).await?,
            Whose::Connection(connection) => {
                let writer = writer(self.generation).ok_or(Error::NoRun)?;
                destination::open(&connection.settings, writer).await?
            }
        };
        let commit = commit_state(lake, self.state.clone()).await?;
        if let Whose::Project(project) = self.whose {
            project.set_state_locked(&self.state)?;
        }
        Ok(commit)
    }
}

async fn commit_state(mut lake: Lake, state: String) -> Result<u64, Error> {
    let synced_at_ms = now_ms().max(lake.last_synced_ms().saturating_add(1));
    let request = CommitRequest { state, synced_at_ms, tables: Vec::new(), files: Vec::new() };
    Ok(lake.commit(request).await?.seq)
}

/// The state that a commit stored, as text.
pub(super) async fn state_of_commit(project: &Project, commit: u64) -> Result<String, Error> {
    let history = read_own(project, (1, Some(commit))).await?;
    let past = history.commit(commit).ok_or_else(|| no_commit(&history, commit))?;
    history.state(past).await?.ok_or(Error::Collected { commit })
}

async fn read_own(project: &Project, reach: (usize, Option<u64>)) -> Result<History, Error> {
    if !project.tables().is_dir() {
        return Err(Error::NoRun);
    }
    let (settings, key) = debug::lake_settings(project)?;
    not_empty(destination::history(&settings, CONNECTION, key.public(), reach).await?)
}

fn not_empty(history: History) -> Result<History, Error> {
    if history.commits.is_empty() { Err(Error::NoRun) } else { Ok(history) }
}

async fn state_of(whose: &Whose, history: &History, which: Which) -> Result<Value, Error> {
    match which {
        Which::Current => whose.current(history).await,
        Which::Commit(commit) => {
            let past = history.commit(commit).ok_or_else(|| no_commit(history, commit))?;
            committed_state(history, past).await?.ok_or(Error::Collected { commit })
        }
    }
}

async fn committed_state(history: &History, past: &Past) -> Result<Option<Value>, Error> {
    let state = history.state(past).await?;
    state.map(|state| parsed(&format!("the state of commit {}", past.seq), &state)).transpose()
}

fn no_commit(history: &History, commit: u64) -> Error {
    let known: Vec<_> = history.commits.iter().take(5).map(|past| past.seq.to_string()).collect();
    Error::NoCommit { commit, known: known.join(", ") }
}

fn current(project: &Project) -> Result<Value, Error> {
    // Only the project's own file: no variable may stand between what is shown and what `rewind` changes.
    let state = project.state(&Sources::default(), &inshore_config::Environment::default())?;
    parsed("files/state.json", state.get())
}

fn parsed(what: &str, state: &str) -> Result<Value, Error> {
    serde_json::from_str(state).map_err(|source| Error::NotJson { what: what.to_owned(), source })
}

/// Everything that differs, for programs.
pub(crate) fn differences_json(from: Which, to: Which, differences: &[Difference]) -> Value {
    json!({"from": from.to_string(), "to": to.to_string(), "differences": differences})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_where_states_differ_is_named() {
        let check = |from: Value, to: Value, lines: &[&str]| {
            let mut differences = Vec::new();
            compare("", &from, &to, &mut differences);
            let told: Vec<_> = differences.iter().map(ToString::to_string).collect();
            assert_eq!(told, lines, "{from} against {to}");
        };
        check(json!({}), json!({}), &[]);
        check(json!({"a": 1}), json!({"a": 2, "b": "x"}), &["~ a: 1 → 2", "+ b: \"x\""]);
        check(json!({"t": {"at": [1, 2]}}), json!({"t": {"at": [1]}}), &["- t.at.1: 2"]);
        check(json!({"t": {"n": null}}), json!({"t": {}}), &["- t.n: null"]);
        check(json!({"t": 1}), json!({"t": {"n": 1}}), &["~ t: 1 → {\"n\":1}"]);
        check(json!([1]), json!({}), &["~ (all): [1] → {}"]);
    }

    #[test]
    fn a_long_state_is_cut_for_people() {
        assert_eq!(shortened("{\"a\":1}"), "{\"a\":1}");
        let cut = shortened(&"ä".repeat(100));
        assert!(cut.chars().count() == STATE_CHARACTERS_MAX && cut.ends_with('…'), "{cut}");
    }

    #[test]
    fn states_are_named_by_their_commit() {
        assert_eq!("12".parse(), Ok(Which::Commit(12)));
        assert_eq!("current".parse(), Ok(Which::Current));
        assert!("newest".parse::<Which>().is_err());
    }
}
