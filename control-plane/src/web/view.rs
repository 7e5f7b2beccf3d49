//! What the pages show, as plain values: everything is text by the time a template sees it.

use std::collections::HashMap;

use askama::Template;
use inshore_protocol::{Code, TableProgress};

use crate::api::{ApiError, totals_now};
use crate::app::App;
use crate::catalogue;
use crate::job::LiveView;
use crate::store::{Agent, Connection, ConnectionFilter, Page, Sync, SyncFilter};
use crate::time::Timestamp;

/// Syncs shown per connection.
const HISTORY: i64 = 12;

#[derive(Debug, Template)]
#[template(path = "overview.html")]
pub(super) struct Overview {
    now: String,
    online: usize,
    agents: Vec<AgentRow>,
    running: usize,
    connections: Vec<ConnectionRow>,
    rows_today: String,
}

#[derive(Debug)]
struct AgentRow {
    name: String,
    id: String,
    online: bool,
    enrolled: bool,
    mode: String,
    version: String,
    heartbeat: String,
    running: usize,
    capacity: String,
}

#[derive(Debug)]
struct ConnectionRow {
    name: String,
    id: String,
    group: String,
    state: &'static str,
    label: String,
    last: Option<SyncRow>,
    history: Vec<SyncRow>,
    schedule: String,
    rank: u8,
}

#[derive(Debug)]
struct SyncRow {
    id: String,
    status: String,
    when: String,
    rows: String,
    took: String,
    problem: String,
}

#[derive(Debug, Template)]
#[template(path = "sync.html")]
pub(super) struct SyncPage {
    id: String,
    connection: String,
    agent: String,
    status: String,
    ended: bool,
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
    problem: Option<Problem>,
    tables: Vec<TableRow>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    class: &'static str,
}

#[derive(Debug)]
struct Problem {
    code: String,
    message: &'static str,
    rescheduled: String,
}

#[derive(Debug)]
struct TableRow {
    name: String,
    upserts: String,
    updates: String,
    deletes: String,
    bytes: String,
}

#[derive(Debug, Template)]
#[template(path = "missing.html")]
pub(super) struct Missing;

pub(super) async fn overview(app: &App) -> Result<Overview, ApiError> {
    let now = Timestamp::now();
    let agents = app.store.agents(None, &Page::ALL).await?;
    let held = app.jobs.held_by_agent().await;
    let agents: Vec<_> = agents.iter().map(|agent| agent_row(app, agent, &held, now)).collect();
    let groups: HashMap<_, _> =
        app.store.groups(&Page::ALL).await?.into_iter().map(|group| (group.id, group.name)).collect();
    let mut connections = Vec::new();
    let (mut running, mut rows_today) = (0, 0);
    for connection in app.store.connections(&ConnectionFilter::default(), &Page::ALL).await? {
        let filter = SyncFilter { connection_id: Some(connection.id.clone()), status: None };
        let syncs = app.store.syncs(&filter, &Page { after: None, limit: HISTORY }).await?;
        let mut history = Vec::new();
        for sync in &syncs {
            let live = app.jobs.view(&sync.id).await;
            let (totals, _) = totals_now(sync, live.as_ref());
            if now.since(sync.queued_at).as_secs() < 24 * 60 * 60 {
                rows_today += totals.upserts + totals.updates + totals.deletes;
            }
            history.push(sync_row(sync, live.as_ref(), now));
        }
        running += syncs.iter().filter(|sync| !sync.ended).count();
        let group = groups.get(&connection.group_id).cloned().unwrap_or_default();
        connections.push(connection_row(&connection, group, syncs.first(), history, now));
    }
    // Failing first: that is what someone comes to look for.
    connections.sort_by(|one, other| (one.rank, &one.name).cmp(&(other.rank, &other.name)));
    let online = agents.iter().filter(|agent| agent.online).count();
    Ok(Overview { now: clock(now), online, agents, running, connections, rows_today: grouped(rows_today) })
}

fn agent_row(app: &App, agent: &Agent, held: &HashMap<String, usize>, now: Timestamp) -> AgentRow {
    let online = app.sessions.get(&agent.id);
    let seen = online.as_ref().map(|online| online.last_frame_at).or(agent.last_seen_at);
    AgentRow {
        name: agent.name.clone(),
        id: agent.id.clone(),
        online: online.is_some(),
        enrolled: agent.enrolled_at.is_some(),
        mode: online.as_ref().and_then(|online| online.mode).or(agent.mode.as_deref()).unwrap_or("–").to_owned(),
        version: online
            .as_ref()
            .map(|online| online.version.as_str())
            .or(agent.version.as_deref())
            .unwrap_or("–")
            .to_owned(),
        heartbeat: seen.map_or_else(|| "never".to_owned(), |at| ago(at, now)),
        running: held.get(&agent.id).copied().unwrap_or(0),
        capacity: online.map_or_else(String::new, |online| {
            let capacity = online.capacity;
            format!(
                "{} CPU · {} free of {}",
                capacity.cpu_count,
                size(capacity.memory_available_bytes),
                size(capacity.memory_bytes)
            )
        }),
    }
}

fn connection_row(
    connection: &Connection,
    group: String,
    newest: Option<&Sync>,
    history: Vec<SyncRow>,
    now: Timestamp,
) -> ConnectionRow {
    let (state, label, rank) = match newest {
        _ if connection.rescheduled_for.is_some() => {
            let wait = connection.rescheduled_for.map_or_else(String::new, |at| until(at, now));
            ("waiting", format!("tries again {wait}"), 1)
        }
        Some(sync) if sync.status == "failed" => ("failed", "failed".to_owned(), 0),
        Some(sync) if sync.status == "running" => ("running", "syncing".to_owned(), 2),
        Some(sync) if sync.status == "queued" => ("queued", "queued".to_owned(), 3),
        _ if connection.paused => ("paused", "paused".to_owned(), 6),
        _ if connection.package_id.is_none() => ("paused", "incomplete".to_owned(), 5),
        Some(sync) if sync.status == "cancelled" => ("paused", "cancelled".to_owned(), 4),
        Some(_) => ("succeeded", "healthy".to_owned(), 4),
        None => ("queued", "never synced".to_owned(), 4),
    };
    let schedule =
        if connection.manual { "on request".to_owned() } else { format!("every {}", minutes(connection.frequency)) };
    let mut history = history;
    let last = if history.is_empty() { None } else { Some(history.remove(0)) };
    ConnectionRow {
        name: connection.schema_name.clone(),
        id: connection.id.clone(),
        group,
        state,
        label,
        last,
        history,
        schedule,
        rank,
    }
}

fn sync_row(sync: &Sync, live: Option<&LiveView>, now: Timestamp) -> SyncRow {
    let (totals, _) = totals_now(sync, live);
    SyncRow {
        id: sync.id.clone(),
        status: sync.status.clone(),
        when: ago(sync.queued_at, now),
        rows: grouped(totals.upserts + totals.updates + totals.deletes),
        took: took(sync, now),
        problem: sync.code.as_deref().map_or_else(String::new, |code| format!("{code}: {}", words(code))),
    }
}

pub(super) async fn sync(app: &App, sync_id: &str) -> Result<Option<SyncPage>, ApiError> {
    let Some(sync) = app.store.sync(sync_id).await? else { return Ok(None) };
    let now = Timestamp::now();
    let live = app.jobs.view(sync_id).await;
    let connection = app.store.connection(&sync.connection_id).await?;
    let agent = match &sync.agent_id {
        Some(id) => app.store.agent(id).await?.map_or_else(|| id.clone(), |agent| agent.name),
        None => "none yet".to_owned(),
    };
    let (totals, stage) = totals_now(&sync, live.as_ref());
    let tables: Vec<TableProgress> = match live.as_ref().and_then(|live| live.progress.as_ref()) {
        Some(progress) => progress.tables.clone(),
        None => serde_json::from_str(&sync.tables).unwrap_or_default(),
    };
    let (rows_per_s, rows_per_s_note) =
        speed(&sync, live.as_ref(), totals.upserts + totals.updates + totals.deletes, now);
    Ok(Some(SyncPage {
        id: sync.id.clone(),
        connection: connection.map_or_else(|| sync.connection_id.clone(), |connection| connection.schema_name),
        agent,
        status: sync.status.clone(),
        ended: sync.ended,
        steps: steps(stage),
        rows: grouped(totals.upserts + totals.updates + totals.deletes),
        rows_per_s,
        rows_per_s_note,
        upserts: grouped(totals.upserts),
        updates: grouped(totals.updates),
        deletes: grouped(totals.deletes),
        truncates: grouped(totals.truncates),
        bytes: size(u64::try_from(totals.bytes).unwrap_or(0)),
        checkpoints: totals.checkpoints,
        checkpoint_age: totals.last_checkpoint_at.map_or_else(|| "–".to_owned(), |at| ago(at, now)),
        queued: clock(sync.queued_at),
        took: took(&sync, now),
        attempt: sync.attempt,
        generation: sync.generation,
        delivery: sync.delivery.clone().unwrap_or_else(|| "–".to_owned()),
        problem: sync.code.as_ref().map(|code| Problem {
            code: code.clone(),
            message: words(code),
            rescheduled: sync.rescheduled_for.map_or_else(String::new, |at| until(at, now)),
        }),
        tables: tables.iter().map(table_row).collect(),
    }))
}

fn speed(sync: &Sync, live: Option<&LiveView>, rows: i64, now: Timestamp) -> (String, &'static str) {
    match (live, sync.started_at) {
        (Some(live), _) => (grouped(i64::try_from(live.rows_per_s).unwrap_or(i64::MAX)), "last 10 s"),
        (None, Some(started_at)) => {
            let millis = sync.finished_at.unwrap_or(now).since(started_at).as_millis().max(1);
            let rate = i64::try_from(u128::try_from(rows).unwrap_or(0) * 1000 / millis).unwrap_or(i64::MAX);
            (grouped(rate), "on average")
        }
        (None, None) => ("–".to_owned(), ""),
    }
}

fn steps(stage: Option<&'static str>) -> Vec<Step> {
    const NAMES: [&str; 5] = ["prepare", "extract", "stage", "commit", "done"];
    let current = NAMES.iter().position(|name| Some(*name) == stage);
    NAMES
        .iter()
        .enumerate()
        .map(|(index, name)| Step {
            name,
            class: match current {
                Some(current) if index < current || *name == "done" && index == current => "past",
                Some(current) if index == current => "now",
                _ => "ahead",
            },
        })
        .collect()
}

fn table_row(table: &TableProgress) -> TableRow {
    let number = |value| grouped(i64::try_from(value).unwrap_or(i64::MAX));
    TableRow {
        name: table.table.as_str().to_owned(),
        upserts: number(table.rows.upserts),
        updates: number(table.rows.updates),
        deletes: number(table.rows.deletes),
        bytes: size(table.bytes),
    }
}

fn words(code: &str) -> &'static str {
    catalogue::message(Code::from_text(code).unwrap_or(Code::Unknown))
}

fn took(sync: &Sync, now: Timestamp) -> String {
    match (sync.started_at, sync.finished_at) {
        (Some(started_at), finished_at) => span(finished_at.unwrap_or(now).since(started_at).as_secs()),
        (None, _) => "–".to_owned(),
    }
}

fn clock(at: Timestamp) -> String {
    let text = at.text();
    let whole = text.split_once('.').map_or(text.as_str(), |(whole, _)| whole);
    format!("{} UTC", whole.replace('T', " "))
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.since(at).as_secs() {
        0..=1 => "just now".to_owned(),
        seconds => format!("{} ago", span(seconds)),
    }
}

fn until(at: Timestamp, now: Timestamp) -> String {
    match at.since(now).as_secs() {
        0 => "now".to_owned(),
        seconds => format!("in {}", span(seconds)),
    }
}

fn minutes(minutes: i64) -> String {
    if minutes % 60 == 0 { format!("{} h", minutes / 60) } else { format!("{minutes} min") }
}

fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..172_800 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `1,234,567`
fn grouped(number: i64) -> String {
    let digits = number.max(0).to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).copied().unwrap_or("PiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([grouped(0), grouped(999), grouped(1_000), grouped(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([size(1), size(1024), size(1536), size(5 << 30)], ["1 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]);
        assert_eq!([span(5), span(65), span(3_700), span(900_000)], ["5 s", "1 min 5 s", "1 h 1 min", "10 days"]);
        assert_eq!([minutes(5), minutes(360)], ["5 min", "6 h"]);
    }
}
