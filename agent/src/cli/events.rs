//! `--progress json`: one JSON object a line on stdout, for programs. Every line has `schema_version`, `ts`, `event` and
//! `sync_id`; readers pass over fields they do not know.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use inshore_columnar::TableName;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Failure;
use crate::connector::{LogLevel, LogLine, LogOrigin};
use crate::context::{Counts, Progress, Stage};
use crate::developer::{Change, Happening, TableChange, Timing};

const SCHEMA_VERSION: u32 = 1;

/// The events of one run.
pub(super) struct Events {
    sync_id: String,
    started: Instant,
    progress: watch::Receiver<Progress>,
    start: Value,
    said: Mutex<Said>,
}

/// What was said already.
#[derive(Default)]
struct Said {
    tables: BTreeMap<TableName, Counts>,
    /// At the last checkpoint.
    totals: Counts,
    bytes: u64,
    schema_changes: u64,
}

impl Events {
    /// `start` holds the fields of the first event that are known before the run.
    pub(super) fn new(progress: watch::Receiver<Progress>, start: Value) -> Self {
        let sync_id = uuid::Uuid::now_v7().to_string();
        Self { sync_id, started: Instant::now(), progress, start, said: Mutex::default() }
    }

    pub(super) fn happening(&self, happening: &Happening) {
        match happening {
            Happening::Start { state_bytes } => {
                let mut fields = self.start.clone();
                fields["state_bytes"] = json!(state_bytes);
                self.emit("start", fields);
            }
            Happening::Line(line) => self.line(line),
            Happening::Table(change) => self.table(change),
            Happening::Checkpoint { state_bytes } => self.checkpoint(*state_bytes),
        }
    }

    fn line(&self, line: &LogLine) {
        // The connector's own lines are its log: they go to stderr with the rest.
        if line.level == LogLevel::Warning && line.origin == LogOrigin::Library {
            self.emit("warning", json!({"code": null, "message": line.message}));
        }
    }

    fn table(&self, change: &TableChange) {
        if change.change != Change::Unchanged {
            self.said().schema_changes += 1;
        }
        self.emit("schema", serde_json::to_value(change).expect("plain structs always serialise"));
    }

    fn checkpoint(&self, state_bytes: usize) {
        let (totals, bytes) = (self.progress.borrow().totals(), self.progress.borrow().bytes);
        let mut said = self.said();
        let mut fields = counters(less(totals, said.totals), bytes - said.bytes);
        (said.totals, said.bytes) = (totals, bytes);
        drop(said);
        fields["state_bytes"] = json!(state_bytes);
        fields["elapsed_ms"] = json!(self.elapsed_ms());
        self.emit("checkpoint", fields);
    }

    pub(super) fn profile(&self, timing: &Timing) {
        self.emit("profile", timing.json());
    }

    pub(super) fn egress(&self, rules: &[String]) {
        self.emit("egress", json!({"rules": rules}));
    }

    /// Tables that moved since the last time.
    pub(super) fn tick(&self) {
        let progress = self.progress.borrow().clone();
        let mut said = self.said();
        let moved = |(name, counts): &(&TableName, &Counts)| said.tables.get(*name) != Some(*counts);
        let moved: Vec<_> =
            progress.tables.iter().filter(moved).map(|(name, counts)| (name.clone(), *counts)).collect();
        said.tables.clone_from(&progress.tables);
        drop(said);
        for (name, counts) in moved {
            let elapsed_ms = self.elapsed_ms().max(1);
            let rows = counts.upserts + counts.updates + counts.deletes;
            let mut fields = counters(counts, progress.bytes);
            fields["schema"] = json!(name.schema);
            fields["table"] = json!(name.table);
            fields["stage"] = json!(stage(progress.stage));
            fields["elapsed_ms"] = json!(elapsed_ms);
            fields["rows_per_s"] = json!(rows.saturating_mul(1000) / elapsed_ms);
            self.emit("progress", fields);
        }
    }

    /// The last events: what went wrong, if anything did, and the sum.
    pub(super) fn end(
        &self,
        status: &str,
        exit: u8,
        failure: Option<(&Failure, Option<(&Path, usize)>)>,
        quiet: Option<&str>,
    ) {
        self.tick();
        if let Some((failure, place)) = failure {
            let mut lines = failure.text.lines();
            let message = lines.next().unwrap_or_default().to_owned();
            let cause: Vec<&str> = lines.collect();
            let docs = format!("docs/errors/{}.md", failure.code);
            let mut fields =
                json!({"code": failure.code, "message": message, "cause": cause, "hint": null, "docs": docs});
            if let Some((file, line)) = place {
                fields["file"] = json!(file);
                fields["line"] = json!(line);
            }
            self.emit("error", fields);
        }
        let progress = self.progress.borrow().clone();
        let mut fields = counters(progress.totals(), progress.bytes);
        fields["status"] = json!(status);
        fields["exit_code"] = json!(exit);
        fields["elapsed_ms"] = json!(self.elapsed_ms());
        fields["state_bytes"] = json!(progress.state_bytes);
        fields["checkpoints"] = json!(progress.checkpoints);
        fields["schema_changes"] = json!(self.said().schema_changes);
        if let Some(reason) = quiet {
            fields["nothing_moved_reason"] = json!(reason);
        }
        self.emit("end", fields);
    }

    fn emit(&self, event: &str, mut fields: Value) {
        fields["schema_version"] = json!(SCHEMA_VERSION);
        fields["ts"] = json!(chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
        fields["event"] = json!(event);
        fields["sync_id"] = json!(self.sync_id);
        let mut out = std::io::stdout().lock();
        // Whoever reads may stop; the run goes on.
        drop(writeln!(out, "{fields}").and_then(|()| out.flush()));
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn counters(counts: Counts, bytes: u64) -> Value {
    json!({
        "upserts": counts.upserts, "updates": counts.updates, "deletes": counts.deletes, "truncates": counts.truncates,
        "bytes": bytes,
    })
}

fn less(now: Counts, before: Counts) -> Counts {
    Counts {
        upserts: now.upserts - before.upserts,
        updates: now.updates - before.updates,
        deletes: now.deletes - before.deletes,
        truncates: now.truncates - before.truncates,
    }
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Prepare => "prepare",
        Stage::Extract => "extract",
        Stage::Seal => "stage",
        Stage::Commit => "commit",
        Stage::Done => "done",
    }
}
