//! `/v1/syncs/{id}/events`: server-sent events of one sync, one a second while it runs, then a last one.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use serde_json::{Value, json};

use super::{ApiError, sync_json};
use crate::app::App;
use crate::time::Timestamp;

const INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What the next turn of the stream does.
enum Turn {
    First,
    Next,
    Over,
}

pub(super) async fn stream(State(app): State<Arc<App>>, Path(sync_id): Path<String>) -> Result<Response, ApiError> {
    if app.store.sync(&sync_id).await?.is_none() {
        return Err(ApiError::not_found("NotFound_Sync", "there is no such sync"));
    }
    let events = stream::unfold((app, sync_id, Turn::First), |(app, sync_id, turn)| async move {
        match turn {
            Turn::Over => return None,
            Turn::First => {}
            Turn::Next => {
                tokio::select! {
                    biased;
                    () = app.tasks.stopped() => return None,
                    () = app.jobs.wait(&sync_id, INTERVAL) => {}
                }
            }
        }
        let (event, over) = snapshot(&app, &sync_id).await?;
        Some((Ok::<_, Infallible>(event), (app, sync_id, if over { Turn::Over } else { Turn::Next })))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

async fn snapshot(app: &App, sync_id: &str) -> Option<(Event, bool)> {
    let sync = app.store.sync(sync_id).await.ok()??;
    let live = app.jobs.view(sync_id).await;
    let mut data = sync_json(&sync, live.as_ref());
    let tables = match live.and_then(|live| live.progress) {
        Some(progress) => json!(progress.tables),
        None => serde_json::from_str(&sync.tables).unwrap_or(Value::Null),
    };
    if let Some(fields) = data.as_object_mut() {
        fields.insert("tables".to_owned(), tables);
        fields.insert("now".to_owned(), Timestamp::now().text().into());
    }
    let event = Event::default().event(if sync.ended { "end" } else { "sync" }).data(data.to_string());
    Some((event, sync.ended))
}
