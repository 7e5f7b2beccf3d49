//! The runs of a deployed connection, as its control plane remembers them: instants, counters and codes. What a
//! connector said is on the agent's host only.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::api::Api;
use super::deploy::{self, Error};
use super::summary::grouped;

/// What one page of the control plane holds.
const PAGE: usize = 1_000;

/// The newest runs of the connection of this name, newest first; as the control plane shows them.
pub(crate) fn syncs(
    api: &Api,
    (destination, connection): (Option<&str>, &str),
    status: Option<&str>,
    limit: usize,
) -> Result<Vec<Value>, Error> {
    let found = deploy::find(api, destination, connection)?;
    let absent = || Error::NoConnection { name: found.group_name.clone(), connection: connection.to_owned() };
    let id = &found.connection.as_ref().ok_or_else(absent)?.id;
    let status = status.map(|status| format!("&status={status}")).unwrap_or_default();
    let path = format!("/v1/connections/{id}/syncs?limit={}{status}", limit.min(PAGE));
    let mut syncs = deploy::all_until(api, &path, limit)?;
    syncs.truncate(limit);
    Ok(syncs)
}

/// For people: a line per run.
pub(crate) fn syncs_table(syncs: &[Value]) -> String {
    if syncs.is_empty() {
        return "no syncs yet\n".to_owned();
    }
    let heads = ["queued (UTC)", "status", "trigger", "rows", "took", "note"].map(str::to_owned);
    let lines: Vec<[String; 6]> = [heads].into_iter().chain(syncs.iter().map(line)).collect();
    let widths: Vec<usize> =
        (0..6).map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for [queued, status, trigger, rows, took, note] in lines {
        let line = format!(
            "{queued:<a$}  {status:<b$}  {trigger:<c$}  {rows:>d$}  {took:>e$}  {note}",
            a = widths[0],
            b = widths[1],
            c = widths[2],
            d = widths[3],
            e = widths[4],
        );
        writeln!(text, "{}", line.trim_end()).expect("a String takes everything");
    }
    text
}

fn line(sync: &Value) -> [String; 6] {
    let text = |field: &str| sync[field].as_str().unwrap_or_default().to_owned();
    let queued = text("queued_at").get(..19).unwrap_or_default().replace('T', " ");
    let rows = ["upserts", "updates", "deletes"].map(|kind| sync["rows"][kind].as_u64().unwrap_or(0));
    [queued, text("status"), text("trigger"), grouped(rows.iter().sum()), took(sync), note(sync)]
}

fn took(sync: &Value) -> String {
    let at = |field: &str| sync[field].as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
    let (Some(from), Some(to)) = (at("started_at"), at("finished_at")) else { return String::new() };
    #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
    let seconds = (to - from).num_milliseconds() as f64 / 1000.0;
    format!("{seconds:.1} s")
}

/// Why it failed, when it is tried again, or why nothing moved.
fn note(sync: &Value) -> String {
    let error = &sync["error"];
    if let Some(code) = error["code"].as_str() {
        let again = sync["rescheduled_for"].as_str().and_then(|at| at.get(11..16));
        let again = again.map(|at| format!("; again at {at}")).unwrap_or_default();
        return format!("{code}: {}{again}", error["message"].as_str().unwrap_or_default());
    }
    sync["nothing_moved_reason"].as_str().unwrap_or_default().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_is_one_line() {
        let moved = json!({
            "queued_at": "2026-11-21T18:00:00.000000Z", "started_at": "2026-11-21T18:00:01.000000Z",
            "finished_at": "2026-11-21T18:00:04.500000Z", "status": "succeeded", "trigger": "schedule",
            "rows": {"upserts": 1_200, "updates": 30, "deletes": 4, "truncates": 1}, "error": null,
        });
        let failed = json!({
            "queued_at": "2026-11-21T17:00:00.000000Z", "started_at": null, "finished_at": null, "status": "rescheduled",
            "trigger": "retry", "rows": {"upserts": 0}, "rescheduled_for": "2026-11-21T17:05:00.000000Z",
            "error": {"code": "DST-002", "message": "the destination is full"},
        });
        let text = "queued (UTC)         status       trigger    rows   took  note\n\
                    2026-11-21 18:00:00  succeeded    schedule  1,234  3.5 s\n\
                    2026-11-21 17:00:00  rescheduled  retry         0         DST-002: the destination is full; again at 17:05\n";
        assert_eq!(syncs_table(&[moved, failed]), text);
        assert_eq!(syncs_table(&[]), "no syncs yet\n");
    }
}
