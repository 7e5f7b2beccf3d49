//! Connections: what syncs, from which package, into which group's destination, and when.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Error, Page, Store};
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) id: String,
    pub(crate) group_id: String,
    pub(crate) service: String,
    pub(crate) schema_name: String,
    /// `FIVETRAN_NAMING` or `SOURCE_NAMING`.
    pub(crate) naming: String,
    /// `compatible`, `strict` or `rich`.
    pub(crate) inference: String,
    pub(crate) bounds: Bounds,
    /// Columns that the destination has keep their types.
    pub(crate) type_locked: bool,
    pub(crate) package_id: Option<String>,
    pub(crate) python_version: Option<String>,
    pub(crate) agent_id: Option<String>,
    pub(crate) paused: bool,
    pub(crate) frequency: i64,
    pub(crate) manual: bool,
    pub(crate) networking: String,
    pub(crate) connected_by: String,
    pub(crate) created_at: Timestamp,
    pub(crate) succeeded_at: Option<Timestamp>,
    pub(crate) failed_at: Option<Timestamp>,
    pub(crate) rescheduled_for: Option<Timestamp>,
    /// Of the newest sync; the next retry counts on from it.
    pub(crate) attempt: i64,
    /// The next sync reads everything again.
    pub(crate) historical: bool,
    /// A JSON array, of the last time they were asked for.
    pub(crate) setup_tests: String,
    /// What is to be read again: JSON, `{}` for everything, else tables by schema.
    pub(crate) resync: Option<String>,
}

/// What its connector may reach and use; absent: what the agent's policy gives to everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Rules as in the policy's `sandbox.egress`.
    pub(crate) egress: Option<Vec<String>>,
    pub(crate) memory_bytes: Option<i64>,
    /// 200 is two processors.
    pub(crate) cpu_percent: Option<i64>,
    pub(crate) scratch_bytes: Option<i64>,
}

impl Bounds {
    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let egress = row.try_get::<Option<String>, _>("egress")?;
        let rules = egress.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Self {
            egress: rules.map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
            memory_bytes: row.try_get("memory_bytes")?,
            cpu_percent: row.try_get("cpu_percent")?,
            scratch_bytes: row.try_get("scratch_bytes")?,
        })
    }

    fn egress_text(&self) -> Option<String> {
        self.egress.as_ref().map(|rules| serde_json::json!(rules).to_string())
    }
}

/// Which connections a list shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionFilter {
    pub(crate) group_id: Option<String>,
    pub(crate) schema_name: Option<String>,
}

fn connection(row: &SqliteRow) -> Result<Connection, sqlx::Error> {
    let instant = |column| row.try_get::<Option<i64>, _>(column).map(|value| value.map(Timestamp));
    Ok(Connection {
        id: row.try_get("id")?,
        group_id: row.try_get("group_id")?,
        service: row.try_get("service")?,
        schema_name: row.try_get("schema_name")?,
        naming: row.try_get("naming")?,
        inference: row.try_get("inference")?,
        bounds: Bounds::read(row)?,
        type_locked: row.try_get("type_locked")?,
        package_id: row.try_get("package_id")?,
        python_version: row.try_get("python_version")?,
        agent_id: row.try_get("agent_id")?,
        paused: row.try_get("paused")?,
        frequency: row.try_get("frequency")?,
        manual: row.try_get("manual")?,
        networking: row.try_get("networking")?,
        connected_by: row.try_get("connected_by")?,
        created_at: Timestamp(row.try_get("created_us")?),
        succeeded_at: instant("succeeded_us")?,
        failed_at: instant("failed_us")?,
        rescheduled_for: instant("rescheduled_us")?,
        attempt: row.try_get("attempt")?,
        historical: row.try_get("historical")?,
        setup_tests: row.try_get("setup_tests")?,
        resync: row.try_get("resync")?,
    })
}

impl Store {
    /// Inserts it with its settings, in one transaction.
    pub(crate) async fn add_connection(
        &self,
        connection: &Connection,
        settings: &[(super::Purpose, Vec<super::NewSetting>)],
    ) -> Result<(), Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "INSERT INTO connections (id, group_id, service, schema_name, naming, inference, type_locked, package_id, python_version,
             agent_id, paused, frequency, manual, networking, connected_by, created_us, egress, memory_bytes, cpu_percent,
             scratch_bytes)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(&connection.id)
        .bind(&connection.group_id)
        .bind(&connection.service)
        .bind(&connection.schema_name)
        .bind(&connection.naming)
        .bind(&connection.inference)
        .bind(connection.type_locked)
        .bind(&connection.package_id)
        .bind(&connection.python_version)
        .bind(&connection.agent_id)
        .bind(connection.paused)
        .bind(connection.frequency)
        .bind(connection.manual)
        .bind(&connection.networking)
        .bind(&connection.connected_by)
        .bind(connection.created_at.0)
        .bind(connection.bounds.egress_text())
        .bind(connection.bounds.memory_bytes)
        .bind(connection.bounds.cpu_percent)
        .bind(connection.bounds.scratch_bytes)
        .execute(&mut *transaction)
        .await?;
        for (purpose, settings) in settings {
            super::settings::replace(&mut transaction, &connection.id, *purpose, settings).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Stores what a PATCH may change; settings of a purpose that is absent stay.
    pub(crate) async fn update_connection(
        &self,
        connection: &Connection,
        settings: &[(super::Purpose, Vec<super::NewSetting>)],
    ) -> Result<(), Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(
            "UPDATE connections SET inference = ?, type_locked = ?, package_id = ?, python_version = ?, agent_id = ?, paused = ?, frequency = ?,
             manual = ?, networking = ?, historical = ?, egress = ?, memory_bytes = ?, cpu_percent = ?, scratch_bytes = ?
             WHERE id = ?",
        )
        .bind(&connection.inference)
        .bind(connection.type_locked)
        .bind(&connection.package_id)
        .bind(&connection.python_version)
        .bind(&connection.agent_id)
        .bind(connection.paused)
        .bind(connection.frequency)
        .bind(connection.manual)
        .bind(&connection.networking)
        .bind(connection.historical)
        .bind(connection.bounds.egress_text())
        .bind(connection.bounds.memory_bytes)
        .bind(connection.bounds.cpu_percent)
        .bind(connection.bounds.scratch_bytes)
        .bind(&connection.id)
        .execute(&mut *transaction)
        .await?;
        for (purpose, settings) in settings {
            super::settings::replace(&mut transaction, &connection.id, *purpose, settings).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    pub(crate) async fn connection(&self, id: &str) -> Result<Option<Connection>, Error> {
        let row = sqlx::query("SELECT * FROM connections WHERE id = ?").bind(id).fetch_optional(&self.pool).await?;
        Ok(row.as_ref().map(connection).transpose()?)
    }

    pub(crate) async fn connections(&self, filter: &ConnectionFilter, page: &Page) -> Result<Vec<Connection>, Error> {
        let rows = sqlx::query(
            "SELECT * FROM connections WHERE (?1 IS NULL OR group_id = ?1) AND (?2 IS NULL OR schema_name = ?2)
             AND (created_us, id) > (?3, ?4) ORDER BY created_us, id LIMIT ?5",
        )
        .bind(&filter.group_id)
        .bind(&filter.schema_name)
        .bind(page.at_us())
        .bind(page.id())
        .bind(page.limit)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(connection).collect::<Result<_, _>>()?)
    }

    /// Says what is to be read again; the next sync carries it.
    pub(crate) async fn set_resync(&self, id: &str, resync: &str) -> Result<(), Error> {
        sqlx::query("UPDATE connections SET resync = ? WHERE id = ?").bind(resync).bind(id).execute(&self.pool).await?;
        Ok(())
    }

    pub(crate) async fn set_setup_tests(&self, id: &str, json: &str) -> Result<(), Error> {
        sqlx::query("UPDATE connections SET setup_tests = ? WHERE id = ?")
            .bind(json)
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// For every connection that shows exactly `old`.
    pub(crate) async fn replace_setup_tests(&self, old: &str, new: &str) -> Result<(), Error> {
        sqlx::query("UPDATE connections SET setup_tests = ? WHERE setup_tests = ?")
            .bind(new)
            .bind(old)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(crate) async fn delete_connection(&self, id: &str) -> Result<bool, Error> {
        let result = sqlx::query("DELETE FROM connections WHERE id = ?").bind(id).execute(&self.pool).await?;
        Ok(result.rows_affected() == 1)
    }
}
