//! Destinations: where the rows of a group land. The id is the group's.

use inshore_protocol::TableOptions;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Error, Page, Store};
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(crate) id: String,
    pub(crate) service: String,
    pub(crate) uri: String,
    pub(crate) tables: TableOptions,
    pub(crate) region: String,
    pub(crate) time_zone_offset: String,
    pub(crate) agent_id: Option<String>,
    pub(crate) created_at: Timestamp,
}

/// An empty text, as rows of earlier versions have, stands for the defaults.
fn tables(row: &SqliteRow) -> Result<TableOptions, sqlx::Error> {
    let text: &str = row.try_get("tables")?;
    if text.is_empty() {
        return Ok(TableOptions::default());
    }
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn destination(row: &SqliteRow) -> Result<Destination, sqlx::Error> {
    Ok(Destination {
        id: row.try_get("id")?,
        service: row.try_get("service")?,
        uri: row.try_get("uri")?,
        tables: tables(row)?,
        region: row.try_get("region")?,
        time_zone_offset: row.try_get("time_zone_offset")?,
        agent_id: row.try_get("agent_id")?,
        created_at: Timestamp(row.try_get("created_us")?),
    })
}

impl Store {
    /// Inserts it, or replaces the one with its id.
    pub(crate) async fn put_destination(&self, destination: &Destination) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO destinations (id, service, uri, region, time_zone_offset, agent_id, created_us, tables)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO UPDATE SET
             uri = ?3, region = ?4, time_zone_offset = ?5, agent_id = ?6, tables = ?8",
        )
        .bind(&destination.id)
        .bind(&destination.service)
        .bind(&destination.uri)
        .bind(&destination.region)
        .bind(&destination.time_zone_offset)
        .bind(&destination.agent_id)
        .bind(destination.created_at.0)
        .bind(serde_json::to_string(&destination.tables).expect("plain structs always serialise"))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(crate) async fn destination(&self, id: &str) -> Result<Option<Destination>, Error> {
        let row = sqlx::query("SELECT * FROM destinations WHERE id = ?").bind(id).fetch_optional(&self.pool).await?;
        Ok(row.as_ref().map(destination).transpose()?)
    }

    pub(crate) async fn destinations(&self, page: &Page) -> Result<Vec<Destination>, Error> {
        let rows =
            sqlx::query("SELECT * FROM destinations WHERE (created_us, id) > (?, ?) ORDER BY created_us, id LIMIT ?")
                .bind(page.at_us())
                .bind(page.id())
                .bind(page.limit)
                .fetch_all(&self.pool)
                .await?;
        Ok(rows.iter().map(destination).collect::<Result<_, _>>()?)
    }

    /// False where connections still write to it.
    pub(crate) async fn delete_destination(&self, id: &str) -> Result<bool, Error> {
        let result = sqlx::query(
            "DELETE FROM destinations WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM connections WHERE group_id = ?1)",
        )
        .bind(id)
        .execute(&self.pool)
        .await?;
        Ok(result.rows_affected() == 1)
    }
}
