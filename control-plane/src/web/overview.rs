//! What the overview shows, as plain values: connections, failing first, with their last syncs, and agents.

use std::collections::HashMap;
use std::time::Duration;

use askama::Template;

use super::text::{ago, clock, counted, grouped, minutes, size, span, until};
use super::words;
use crate::api::{ApiError, totals_now};
use crate::app::App;
use crate::job::LiveView;
use crate::store::{Agent, Connection, ConnectionFilter, Page, Sync, SyncFilter};
use crate::time::Timestamp;

/// Syncs shown per connection.
const HISTORY: i64 = 10;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Template)]
#[template(path = "overview.html")]
pub(super) struct Overview {
    now: String,
    /// Whether the product can do anything yet, or what is wrong: one sentence on top of the page.
    tone: &'static str,
    verdict: String,
    online: usize,
    agents: Vec<AgentRow>,
    running: usize,
    failing: usize,
    connections: Vec<ConnectionRow>,
    rows_today: String,
}

#[derive(Debug)]
struct AgentRow {
    name: String,
    id: String,
    state: &'static str,
    label: &'static str,
    mode: String,
    version: String,
    heartbeat: String,
    heartbeat_at: String,
    syncs: Vec<Link>,
    capacity: String,
}

#[derive(Debug, Clone)]
struct Link {
    id: String,
    name: String,
}

#[derive(Debug)]
struct ConnectionRow {
    name: String,
    id: String,
    group: String,
    state: &'static str,
    label: String,
    last: Option<SyncRow>,
    /// Newest first, the last one included.
    history: Vec<SyncRow>,
    schedule: String,
    rank: u8,
}

#[derive(Debug, Clone)]
struct SyncRow {
    id: String,
    status: String,
    glyph: &'static str,
    when: String,
    at: String,
    rows: String,
    took: String,
    code: String,
    problem: &'static str,
}

pub(super) async fn overview(app: &App) -> Result<Overview, ApiError> {
    let now = Timestamp::now();
    let groups: HashMap<_, _> =
        app.store.groups(&Page::ALL).await?.into_iter().map(|group| (group.id, group.name)).collect();
    let mut connections = Vec::new();
    let mut held: HashMap<String, Vec<Link>> = HashMap::new();
    let mut rows_today = app.store.rows_since(now.minus(DAY)).await?;
    let mut running = 0;
    for connection in app.store.connections(&ConnectionFilter::default(), &Page::ALL).await? {
        let filter = SyncFilter { connection_id: Some(connection.id.clone()), status: None };
        let syncs = app.store.syncs(&filter, &Page { after: None, limit: HISTORY }).await?;
        let mut history = Vec::new();
        for sync in &syncs {
            let live = app.jobs.view(&sync.id).await;
            if !sync.ended {
                let (totals, _) = totals_now(sync, live.as_ref());
                rows_today += totals.upserts + totals.updates + totals.deletes;
            }
            if sync.status == "running" {
                running += 1;
                let link = Link { id: sync.id.clone(), name: connection.schema_name.clone() };
                held.entry(sync.agent_id.clone().unwrap_or_default()).or_default().push(link);
            }
            history.push(sync_row(sync, live.as_ref(), now));
        }
        let group = groups.get(&connection.group_id).cloned().unwrap_or_default();
        connections.push(connection_row(&connection, group, syncs.first(), history, now));
    }
    // Failing first: that is what someone comes to look for.
    connections.sort_by(|one, other| (one.rank, &one.name).cmp(&(other.rank, &other.name)));
    let mut agents: Vec<_> = app
        .store
        .agents(None, &Page::ALL)
        .await?
        .iter()
        .map(|agent| agent_row(app, agent, held.remove(&agent.id).unwrap_or_default(), now))
        .collect();
    agents.sort_by(|one, other| (one.state != "failed", &one.name).cmp(&(other.state != "failed", &other.name)));
    Ok(assemble(connections, agents, (running, rows_today), now))
}

fn assemble(
    connections: Vec<ConnectionRow>,
    agents: Vec<AgentRow>,
    (running, rows_today): (usize, i64),
    now: Timestamp,
) -> Overview {
    let online = agents.iter().filter(|agent| agent.state == "succeeded").count();
    let failing = connections.iter().filter(|connection| connection.state == "failed").count();
    let (tone, verdict) = verdict(agents.len(), online, connections.len(), failing, running);
    let rows_today = grouped(rows_today);
    Overview { now: clock(now), tone, verdict, online, agents, running, failing, connections, rows_today }
}

fn verdict(agents: usize, online: usize, connections: usize, failing: usize, running: usize) -> (&'static str, String) {
    match (agents, online, connections, failing, running) {
        (0, ..) => ("idle", "Nothing moves yet: enrol an agent, then create a connection.".to_owned()),
        (_, _, _, 1.., _) => ("failed", format!("{} failing.", counted(failing, "connection"))),
        (_, 0, ..) => ("failed", "No agent is online: no sync can start.".to_owned()),
        (_, _, 0, ..) => ("idle", "An agent is ready: create a connection.".to_owned()),
        (.., 1..) => ("running", format!("{} running, nothing failing.", counted(running, "sync"))),
        _ => ("succeeded", "Nothing failing.".to_owned()),
    }
}

fn agent_row(app: &App, agent: &Agent, syncs: Vec<Link>, now: Timestamp) -> AgentRow {
    let online = app.sessions.get(&agent.id);
    let seen = online.as_ref().map(|online| online.last_frame_at).or(agent.last_seen_at);
    let (state, label) = match (&online, agent.enrolled_at) {
        (Some(_), _) => ("succeeded", "online"),
        (None, Some(_)) => ("failed", "offline"),
        (None, None) => ("queued", "not enrolled"),
    };
    AgentRow {
        name: agent.name.clone(),
        id: agent.id.clone(),
        state,
        label,
        mode: online.as_ref().and_then(|online| online.mode).or(agent.mode.as_deref()).unwrap_or("–").to_owned(),
        version: online
            .as_ref()
            .map(|online| online.version.as_str())
            .or(agent.version.as_deref())
            .unwrap_or("–")
            .to_owned(),
        heartbeat: seen.map_or_else(|| "never".to_owned(), |at| ago(at, now)),
        heartbeat_at: seen.map_or_else(String::new, clock),
        syncs,
        capacity: online.map_or_else(String::new, |online| {
            let capacity = online.capacity;
            format!(
                "{} CPU · {} of {} memory free · {} disk free",
                capacity.cpu_count,
                size(capacity.memory_available_bytes),
                size(capacity.memory_bytes),
                size(capacity.disk_available_bytes)
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
        Some(sync) if sync.status == "running" => ("running", "syncing".to_owned(), 2),
        Some(sync) if sync.status == "failed" => ("failed", "failing".to_owned(), 0),
        _ if connection.rescheduled_for.is_some() => {
            let wait = connection.rescheduled_for.map_or_else(String::new, |at| until(at, now));
            ("waiting", format!("tries again {wait}"), 1)
        }
        Some(sync) if sync.status == "queued" => ("queued", "queued".to_owned(), 3),
        _ if connection.paused => ("paused", "paused".to_owned(), 6),
        _ if connection.package_id.is_none() => ("paused", "no package yet".to_owned(), 5),
        Some(sync) if sync.status == "cancelled" => ("paused", "cancelled".to_owned(), 4),
        Some(_) => ("succeeded", "healthy".to_owned(), 4),
        None => ("queued", "never synced".to_owned(), 4),
    };
    let schedule =
        if connection.manual { "on request".to_owned() } else { format!("every {}", minutes(connection.frequency)) };
    ConnectionRow {
        name: connection.schema_name.clone(),
        id: connection.id.clone(),
        group,
        state,
        label,
        last: history.first().cloned(),
        history,
        schedule,
        rank,
    }
}

fn sync_row(sync: &Sync, live: Option<&LiveView>, now: Timestamp) -> SyncRow {
    let (totals, _) = totals_now(sync, live);
    let took = match sync.started_at {
        Some(started_at) => span(sync.finished_at.unwrap_or(now).since(started_at).as_secs()),
        None => "–".to_owned(),
    };
    SyncRow {
        id: sync.id.clone(),
        status: sync.status.clone(),
        glyph: glyph(&sync.status),
        when: ago(sync.queued_at, now),
        at: clock(sync.queued_at),
        rows: grouped(totals.upserts + totals.updates + totals.deletes),
        took,
        code: sync.code.clone().unwrap_or_default(),
        problem: sync.code.as_deref().map_or("", words),
    }
}

/// A state is never told by colour alone.
fn glyph(status: &str) -> &'static str {
    match status {
        "succeeded" => "✓",
        "failed" => "✕",
        "running" => "▸",
        "rescheduled" => "↻",
        "queued" => "…",
        _ => "–",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const EVIL: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";

    /// A connection of this name and id.
    pub(in crate::web) fn connection_of(name: &str) -> Connection {
        let now = Timestamp(0);
        Connection {
            id: name.to_owned(),
            group_id: "g".to_owned(),
            service: "connector_sdk".to_owned(),
            schema_name: name.to_owned(),
            naming: String::new(),
            inference: String::new(),
            bounds: crate::store::Bounds::default(),
            type_locked: false,
            package_id: Some("p".to_owned()),
            python_version: None,
            agent_id: None,
            paused: false,
            frequency: 360,
            manual: false,
            networking: String::new(),
            connected_by: String::new(),
            created_at: now,
            succeeded_at: None,
            failed_at: None,
            rescheduled_for: None,
            attempt: 1,
            historical: false,
            setup_tests: "[]".to_owned(),
            resync: None,
        }
    }

    fn connection(status: &str) -> ConnectionRow {
        let now = Timestamp(0);
        let connection = connection_of(EVIL);
        let sync = SyncRow {
            id: EVIL.to_owned(),
            status: status.to_owned(),
            glyph: glyph(status),
            when: EVIL.to_owned(),
            at: EVIL.to_owned(),
            rows: "1".to_owned(),
            took: "1 s".to_owned(),
            code: EVIL.to_owned(),
            problem: words("DST-001"),
        };
        connection_row(&connection, EVIL.to_owned(), None, vec![sync], now)
    }

    fn agent() -> AgentRow {
        AgentRow {
            name: EVIL.to_owned(),
            id: EVIL.to_owned(),
            state: "succeeded",
            label: "online",
            mode: EVIL.to_owned(),
            version: EVIL.to_owned(),
            heartbeat: "just now".to_owned(),
            heartbeat_at: EVIL.to_owned(),
            syncs: vec![Link { id: EVIL.to_owned(), name: EVIL.to_owned() }],
            capacity: EVIL.to_owned(),
        }
    }

    #[test]
    fn no_text_becomes_markup() {
        let page = assemble(vec![connection("failed")], vec![agent()], (1, 5), Timestamp(0));
        let html = page.render().expect("renders");
        assert!(html.contains("&#60;script&#62;alert(1)&#60;/script&#62;"));
        assert!(!html.contains("<script>alert") && !html.contains("<img src=x") && !html.contains("\"'>"), "{html}");
    }

    #[test]
    fn the_first_sentence_says_what_to_do() {
        for (counts, expected) in [
            ((0, 0, 0, 0, 0), "Nothing moves yet: enrol an agent, then create a connection."),
            ((1, 0, 2, 0, 0), "No agent is online: no sync can start."),
            ((1, 1, 0, 0, 0), "An agent is ready: create a connection."),
            ((1, 0, 2, 2, 1), "2 connections failing."),
            ((1, 1, 2, 0, 1), "1 sync running, nothing failing."),
            ((1, 1, 2, 0, 0), "Nothing failing."),
        ] {
            let (agents, online, connections, failing, running) = counts;
            assert_eq!(verdict(agents, online, connections, failing, running).1, expected);
        }
    }

    #[test]
    fn empty_pages_name_the_next_call() {
        let html = assemble(Vec::new(), Vec::new(), (0, 0), Timestamp(0)).render().expect("renders");
        for call in ["/v1/hybrid-deployment-agents", "inshore enrol", "/v1/connections"] {
            assert!(html.contains(call), "{call}");
        }
    }
}
