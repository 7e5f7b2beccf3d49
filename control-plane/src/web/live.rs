//! What the page of one sync shows, as plain values. While the sync runs, `assets/sync.js` keeps them fresh.

use askama::Template;
use inshore_protocol::{Class, Code, TableProgress};

use super::text::{ago, clock, grouped, size, span, until};
use super::words;
use crate::api::{self, ApiError, totals_now};
use crate::app::App;
use crate::job::LiveView;
use crate::store::{Connection, Sync};
use crate::time::Timestamp;

#[derive(Debug, Template)]
#[template(path = "sync.html")]
pub(super) struct SyncPage {
    id: String,
    connection: String,
    agent: String,
    status: String,
    ended: bool,
    /// What is going on, where the numbers do not say it.
    note: &'static str,
    steps: Vec<Step>,
    rows: String,
    rows_per_s: String,
    rows_per_s_note: &'static str,
    upserts: String,
    updates: String,
    deletes: String,
    truncates: String,
    bytes: String,
    checkpoints: i64,
    checkpoint_age: String,
    queued: String,
    took: String,
    attempt: i64,
    generation: i64,
    delivery: String,
    kind: &'static str,
    cause: String,
    problem: Option<Problem>,
    tables: Vec<TableRow>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    label: &'static str,
    class: &'static str,
    current: bool,
}

#[derive(Debug)]
struct Problem {
    code: String,
    slug: String,
    message: &'static str,
    next: String,
}

#[derive(Debug)]
struct TableRow {
    name: String,
    rows: String,
    /// Of the largest table's rows, in per cent.
    share: u64,
    rate: String,
    upserts: String,
    updates: String,
    deletes: String,
}

pub(super) async fn sync(app: &App, sync_id: &str) -> Result<Option<SyncPage>, ApiError> {
    let Some(sync) = app.store.sync(sync_id).await? else { return Ok(None) };
    let live = app.jobs.view(sync_id).await;
    let connection = app.store.connection(&sync.connection_id).await?;
    let agent = match &sync.agent_id {
        Some(id) => app.store.agent(id).await?.map_or_else(|| id.clone(), |agent| agent.name),
        None => "none yet".to_owned(),
    };
    let note = match (&connection, sync.status.as_str()) {
        (Some(connection), "queued") => api::waiting_for(app, connection).await?,
        (_, status) => moved_nothing(&sync, status),
    };
    Ok(Some(assemble(&sync, live.as_ref(), connection, agent, note)))
}

fn moved_nothing(sync: &Sync, status: &str) -> &'static str {
    match (status, sync.nothing_moved.as_deref()) {
        ("succeeded", Some("all_blocked")) => {
            "Nothing moved: the schema configuration blocks every table that had rows. The page of the connection changes that."
        }
        ("succeeded", Some(_)) => "Nothing moved: the source had nothing new.",
        ("cancelled", _) => "Cancelled. What its checkpoints had committed stays; the next sync goes on from there.",
        _ => "",
    }
}

fn assemble(
    sync: &Sync,
    live: Option<&LiveView>,
    connection: Option<Connection>,
    agent: String,
    note: &'static str,
) -> SyncPage {
    let now = Timestamp::now();
    let (totals, stage) = totals_now(sync, live);
    let tables: Vec<TableProgress> = match live.and_then(|live| live.progress.as_ref()) {
        Some(progress) => progress.tables.clone(),
        None => serde_json::from_str(&sync.tables).unwrap_or_default(),
    };
    let rows = totals.upserts + totals.updates + totals.deletes;
    let (rows_per_s, rows_per_s_note) = match live {
        Some(live) => (grouped(i64::try_from(live.rows_per_s).unwrap_or(i64::MAX)), "last 10 s"),
        None => (average(sync, rows, now), "on average"),
    };
    SyncPage {
        id: sync.id.clone(),
        connection: connection.map_or_else(|| sync.connection_id.clone(), |connection| connection.schema_name),
        agent,
        status: sync.status.clone(),
        ended: sync.ended,
        note,
        steps: steps(stage, sync.ended, &sync.status),
        rows: grouped(rows),
        rows_per_s,
        rows_per_s_note,
        upserts: grouped(totals.upserts),
        updates: grouped(totals.updates),
        deletes: grouped(totals.deletes),
        truncates: grouped(totals.truncates),
        bytes: size(u64::try_from(totals.bytes).unwrap_or(0)),
        checkpoints: totals.checkpoints,
        checkpoint_age: totals.last_checkpoint_at.map_or_else(String::new, |at| ago(at, now)),
        queued: clock(sync.queued_at),
        took: match sync.started_at {
            Some(started_at) => span(sync.finished_at.unwrap_or(now).since(started_at).as_secs()),
            None => "–".to_owned(),
        },
        attempt: sync.attempt,
        generation: sync.generation,
        delivery: sync.delivery.clone().unwrap_or_else(|| "–".to_owned()).replace('_', " "),
        kind: if sync.historical { "everything" } else { "changes only" },
        cause: sync.trigger.clone(),
        problem: sync.code.as_deref().map(|code| problem(code, sync.rescheduled_for, now)),
        tables: table_rows(sync, &tables, now),
    }
}

fn problem(text: &str, rescheduled_for: Option<Timestamp>, now: Timestamp) -> Problem {
    let code = Code::from_text(text).unwrap_or(Code::Unknown);
    let next = match (rescheduled_for, code.class()) {
        (Some(at), _) => format!("It is tried again {}.", until(at, now)),
        (None, Class::Fix) => "A person has to change something first.".to_owned(),
        (None, _) => String::new(),
    };
    Problem { code: text.to_owned(), slug: code.slug().replace('_', " ").to_lowercase(), message: words(text), next }
}

fn average(sync: &Sync, rows: i64, now: Timestamp) -> String {
    let Some(started_at) = sync.started_at else { return "–".to_owned() };
    let millis = sync.finished_at.unwrap_or(now).since(started_at).as_millis().max(1);
    let rate = u128::try_from(rows).unwrap_or(0) * 1000 / millis;
    grouped(i64::try_from(rate).unwrap_or(i64::MAX))
}

fn steps(stage: Option<&'static str>, ended: bool, status: &str) -> Vec<Step> {
    const STEPS: [(&str, &str); 5] = [
        ("prepare", "Prepare"),
        ("extract", "Extract"),
        ("stage", "Seal and stage"),
        ("commit", "Commit"),
        ("done", "Done"),
    ];
    let current = STEPS.iter().position(|(name, _)| Some(*name) == stage);
    let stopped = ended && status != "succeeded";
    let steps = STEPS.iter().enumerate().map(|(index, (name, label))| {
        let class = match current {
            _ if stopped && *name == "done" => "stopped",
            Some(current) if index < current || *name == "done" && index == current => "past",
            Some(current) if index == current => "now",
            _ => "ahead",
        };
        let label = if class == "stopped" { "Not finished" } else { label };
        Step { name, label, class, current: Some(index) == current }
    });
    steps.collect()
}

/// The largest first.
fn table_rows(sync: &Sync, tables: &[TableProgress], now: Timestamp) -> Vec<TableRow> {
    let number = |value| grouped(i64::try_from(value).unwrap_or(i64::MAX));
    let largest = tables.iter().map(|table| table.rows.total()).max().unwrap_or(0).max(1);
    let mut tables: Vec<_> = tables.iter().collect();
    tables.sort_by_key(|table| (std::cmp::Reverse(table.rows.total()), table.table.as_str().to_owned()));
    let rows = tables.into_iter().map(|table| TableRow {
        name: table.table.as_str().to_owned(),
        rows: number(table.rows.total()),
        share: u64::try_from(u128::from(table.rows.total()) * 100 / u128::from(largest)).unwrap_or(100),
        rate: average(sync, i64::try_from(table.rows.total()).unwrap_or(i64::MAX), now),
        upserts: number(table.rows.upserts),
        updates: number(table.rows.updates),
        deletes: number(table.rows.deletes),
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(stage: Option<&'static str>, ended: bool, status: &str) -> Vec<&'static str> {
        steps(stage, ended, status).iter().map(|step| step.class).collect()
    }

    #[test]
    fn steps_show_where_it_is_and_how_it_ended() {
        assert_eq!(classes(None, false, "queued"), ["ahead"; 5]);
        assert_eq!(classes(Some("stage"), false, "running"), ["past", "past", "now", "ahead", "ahead"]);
        assert_eq!(classes(Some("done"), true, "succeeded"), ["past"; 5]);
        assert_eq!(classes(None, true, "failed"), ["ahead", "ahead", "ahead", "ahead", "stopped"]);
    }

    #[test]
    fn a_problem_says_what_comes_next() {
        let now = Timestamp(0);
        let later = Some(Timestamp(61_000_000));
        assert_eq!(problem("DST-003", later, now).next, "It is tried again in 1 min 1 s.");
        assert_eq!(problem("SDK-001", None, now).next, "A person has to change something first.");
        assert_eq!(problem("SDK-001", None, now).slug, "update raised");
    }
}
