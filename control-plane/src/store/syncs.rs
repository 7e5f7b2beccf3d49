//! Syncs: one row each, from queued to ended, with the lease; and every outcome an agent ever had acknowledged.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Error, Page, Store};
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub(crate) struct Sync {
    pub(crate) id: String,
    pub(crate) connection_id: String,
    /// schedule, api or retry.
    pub(crate) trigger: String,
    pub(crate) historical: bool,
    /// What it reads again, as its connection said it when it was queued.
    pub(crate) resync: Option<String>,
    pub(crate) status: String,
    pub(crate) ended: bool,
    pub(crate) attempt: i64,
    pub(crate) queued_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) package_id: Option<String>,
    pub(crate) python_version: Option<String>,
    pub(crate) agent_id: Option<String>,
    pub(crate) generation: i64,
    pub(crate) lease: String,
    pub(crate) lease_at: Timestamp,
    pub(crate) cancel_at: Option<Timestamp>,
    pub(crate) totals: Totals,
    pub(crate) state_bytes: Option<i64>,
    pub(crate) delivery: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) nothing_moved: Option<String>,
    pub(crate) rescheduled_for: Option<Timestamp>,
    /// JSON arrays.
    pub(crate) warnings: String,
    pub(crate) tables: String,
}

/// What a sync moved so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) upserts: i64,
    pub(crate) updates: i64,
    pub(crate) deletes: i64,
    pub(crate) truncates: i64,
    pub(crate) bytes: i64,
    pub(crate) checkpoints: i64,
    pub(crate) last_checkpoint_at: Option<Timestamp>,
}

/// A sync to be queued.
#[derive(Debug)]
pub(crate) struct NewSync<'a> {
    pub(crate) id: &'a str,
    pub(crate) connection_id: &'a str,
    pub(crate) group_id: &'a str,
    pub(crate) trigger: &'a str,
    pub(crate) historical: bool,
    pub(crate) attempt: i64,
    pub(crate) package_id: Option<&'a str>,
    pub(crate) python_version: Option<&'a str>,
}

/// The stored form of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub(crate) lease: &'static str,
    pub(crate) agent_id: Option<String>,
    pub(crate) generation: i64,
    pub(crate) at: Timestamp,
}

/// What names an outcome.
#[derive(Debug)]
pub(crate) struct OutcomeKey<'a> {
    pub(crate) sync_id: &'a str,
    pub(crate) generation: i64,
    /// −1 where no chain was opened.
    pub(crate) head_seq: i64,
    pub(crate) agent_id: &'a str,
    pub(crate) result: &'a str,
}

/// How a sync ended.
#[derive(Debug)]
pub(crate) struct Finish<'a> {
    /// succeeded, failed, rescheduled or cancelled.
    pub(crate) status: &'a str,
    pub(crate) code: Option<&'a str>,
    pub(crate) totals: Totals,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) state_bytes: Option<i64>,
    pub(crate) delivery: Option<&'a str>,
    pub(crate) nothing_moved: Option<&'a str>,
    pub(crate) rescheduled_for: Option<Timestamp>,
    pub(crate) warnings: String,
    pub(crate) tables: String,
}

/// Which syncs a list shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct SyncFilter {
    pub(crate) connection_id: Option<String>,
    pub(crate) status: Option<String>,
}

fn sync(row: &SqliteRow) -> Result<Sync, sqlx::Error> {
    let instant = |column| row.try_get::<Option<i64>, _>(column).map(|value| value.map(Timestamp));
    let totals = Totals {
        upserts: row.try_get("upserts")?,
        updates: row.try_get("updates")?,
        deletes: row.try_get("deletes")?,
        truncates: row.try_get("truncates")?,
        bytes: row.try_get("bytes")?,
        checkpoints: row.try_get("checkpoints")?,
        last_checkpoint_at: instant("last_checkpoint_us")?,
    };
    Ok(Sync {
        id: row.try_get("id")?,
        connection_id: row.try_get("connection_id")?,
        trigger: row.try_get("trigger_kind")?,
        historical: row.try_get("historical")?,
        resync: row.try_get("resync")?,
        status: row.try_get("status")?,
        ended: row.try_get("ended")?,
        attempt: row.try_get("attempt")?,
        queued_at: Timestamp(row.try_get("queued_us")?),
        started_at: instant("started_us")?,
        finished_at: instant("finished_us")?,
        package_id: row.try_get("package_id")?,
        python_version: row.try_get("python_version")?,
        agent_id: row.try_get("agent_id")?,
        generation: row.try_get("generation")?,
        lease: row.try_get("lease")?,
        lease_at: Timestamp(row.try_get("lease_us")?),
        cancel_at: instant("cancel_us")?,
        totals,
        state_bytes: row.try_get("state_bytes")?,
        delivery: row.try_get("delivery")?,
        code: row.try_get("code")?,
        nothing_moved: row.try_get("nothing_moved")?,
        rescheduled_for: instant("rescheduled_us")?,
        warnings: row.try_get("warnings")?,
        tables: row.try_get("tables")?,
    })
}

impl Store {
    /// Queues a sync and clears what the connection was waiting for. Returns the newest generation that the connection's
    /// earlier syncs used: its generations only rise.
    pub(crate) async fn add_sync(&self, new: &NewSync<'_>, now: Timestamp) -> Result<u64, Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let floor: i64 = sqlx::query("SELECT coalesce(max(generation), 0) AS floor FROM syncs WHERE connection_id = ?")
            .bind(new.connection_id)
            .fetch_one(&mut *transaction)
            .await?
            .try_get("floor")?;
        sqlx::query(
            "INSERT INTO syncs (id, connection_id, group_id, trigger_kind, historical, status, attempt, queued_us,
             package_id, python_version, lease_us, generation, resync)
             SELECT ?1, ?2, ?3, ?4, ?5 OR coalesce(resync = '{}', 0), 'queued', ?6, ?7, ?8, ?9, ?7, ?10, resync
             FROM connections WHERE id = ?2",
        )
        .bind(new.id)
        .bind(new.connection_id)
        .bind(new.group_id)
        .bind(new.trigger)
        .bind(new.historical)
        .bind(new.attempt)
        .bind(now.0)
        .bind(new.package_id)
        .bind(new.python_version)
        .bind(floor)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("UPDATE connections SET rescheduled_us = NULL, attempt = ? WHERE id = ?")
            .bind(new.attempt)
            .bind(new.connection_id)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(u64::try_from(floor).unwrap_or(0))
    }

    pub(crate) async fn sync(&self, id: &str) -> Result<Option<Sync>, Error> {
        let row = sqlx::query("SELECT * FROM syncs WHERE id = ?").bind(id).fetch_optional(&self.pool).await?;
        Ok(row.as_ref().map(sync).transpose()?)
    }

    /// Newest first.
    pub(crate) async fn syncs(&self, filter: &SyncFilter, page: &Page) -> Result<Vec<Sync>, Error> {
        let before = page.after.as_ref();
        let rows = sqlx::query(
            "SELECT * FROM syncs WHERE (?1 IS NULL OR connection_id = ?1) AND (?2 IS NULL OR status = ?2)
             AND (?3 IS NULL OR (queued_us, id) < (?3, ?4)) ORDER BY queued_us DESC, id DESC LIMIT ?5",
        )
        .bind(&filter.connection_id)
        .bind(&filter.status)
        .bind(before.map(|position| position.at_us))
        .bind(before.map(|position| position.id.as_str()))
        .bind(page.limit)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(sync).collect::<Result<_, _>>()?)
    }

    /// All that are not over, oldest first.
    pub(crate) async fn live_syncs(&self) -> Result<Vec<Sync>, Error> {
        let rows =
            sqlx::query("SELECT * FROM syncs WHERE ended = 0 ORDER BY queued_us, id").fetch_all(&self.pool).await?;
        Ok(rows.iter().map(sync).collect::<Result<_, _>>()?)
    }

    /// Rows of the syncs that ended since then.
    pub(crate) async fn rows_since(&self, since: Timestamp) -> Result<i64, Error> {
        let sum =
            "SELECT COALESCE(SUM(upserts + updates + deletes), 0) FROM syncs WHERE ended = 1 AND finished_us >= ?";
        Ok(sqlx::query_scalar(sum).bind(since.0).fetch_one(&self.pool).await?)
    }

    /// The newest sync of a connection.
    pub(crate) async fn newest_sync(&self, connection_id: &str) -> Result<Option<Sync>, Error> {
        let filter = SyncFilter { connection_id: Some(connection_id.to_owned()), status: None };
        Ok(self.syncs(&filter, &Page { after: None, limit: 1 }).await?.into_iter().next())
    }

    /// Stores a lease before anything is sent that depends on it.
    pub(crate) async fn set_lease(
        &self,
        sync_id: &str,
        row: &LeaseRow,
        started_at: Option<Timestamp>,
    ) -> Result<(), Error> {
        sqlx::query(
            "UPDATE syncs SET lease = ?1, agent_id = coalesce(?2, agent_id), generation = ?3, lease_us = ?4,
             started_us = coalesce(started_us, ?5), status = CASE WHEN ?1 IN ('held', 'lapsed') THEN 'running' ELSE status END
             WHERE id = ?6 AND ended = 0",
        )
        .bind(row.lease)
        .bind(&row.agent_id)
        .bind(row.generation)
        .bind(row.at.0)
        .bind(started_at.map(|at| at.0))
        .bind(sync_id)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(crate) async fn request_cancel(&self, sync_id: &str, now: Timestamp) -> Result<(), Error> {
        sqlx::query("UPDATE syncs SET cancel_us = coalesce(cancel_us, ?) WHERE id = ? AND ended = 0")
            .bind(now.0)
            .bind(sync_id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Records an outcome once; false where it was recorded before.
    pub(crate) async fn add_outcome(&self, key: &OutcomeKey<'_>, counted: bool, now: Timestamp) -> Result<bool, Error> {
        let result = sqlx::query(
            "INSERT OR IGNORE INTO outcomes (sync_id, generation, head_seq, agent_id, result, received_us, counted)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(key.sync_id)
        .bind(key.generation)
        .bind(key.head_seq)
        .bind(key.agent_id)
        .bind(key.result)
        .bind(now.0)
        .bind(counted)
        .execute(&self.pool)
        .await?;
        Ok(result.rows_affected() == 1)
    }

    /// Ends a sync and moves the connection's completion instants, strictly upwards, in one transaction.
    pub(crate) async fn finish_sync(&self, sync_id: &str, finish: &Finish<'_>, now: Timestamp) -> Result<(), Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let totals = &finish.totals;
        let ended = sqlx::query(
            "UPDATE syncs SET ended = 1, lease = 'ended', status = ?1, code = ?2, finished_us = ?3, upserts = ?4,
             updates = ?5, deletes = ?6, truncates = ?7, bytes = ?8, checkpoints = ?9, last_checkpoint_us = ?10,
             state_bytes = ?11, delivery = ?12, nothing_moved = ?13, rescheduled_us = ?14, warnings = ?15, tables = ?16,
             started_us = coalesce(started_us, ?17)
             WHERE id = ?18 AND ended = 0",
        )
        .bind(finish.status)
        .bind(finish.code)
        .bind(now.0)
        .bind(totals.upserts)
        .bind(totals.updates)
        .bind(totals.deletes)
        .bind(totals.truncates)
        .bind(totals.bytes)
        .bind(totals.checkpoints)
        .bind(totals.last_checkpoint_at.map(|at| at.0))
        .bind(finish.state_bytes)
        .bind(finish.delivery)
        .bind(finish.nothing_moved)
        .bind(finish.rescheduled_for.map(|at| at.0))
        .bind(&finish.warnings)
        .bind(&finish.tables)
        .bind(finish.started_at.map(|at| at.0))
        .bind(sync_id)
        .execute(&mut *transaction)
        .await?;
        if ended.rows_affected() == 1 {
            sqlx::query(
                "UPDATE connections SET rescheduled_us = ?1,
                 succeeded_us = CASE WHEN ?2 = 'succeeded' THEN ?3 ELSE succeeded_us END,
                 failed_us = CASE WHEN ?2 IN ('failed', 'cancelled') THEN ?3 ELSE failed_us END,
                 attempt = CASE WHEN ?2 = 'rescheduled' THEN attempt ELSE 0 END,
                 historical = CASE WHEN ?2 = 'succeeded' AND (SELECT historical FROM syncs WHERE id = ?4) THEN 0
                   ELSE historical END,
                 resync = CASE WHEN ?2 = 'succeeded' AND resync IS (SELECT resync FROM syncs WHERE id = ?4) THEN NULL
                   ELSE resync END
                 WHERE id = (SELECT connection_id FROM syncs WHERE id = ?4)",
            )
            .bind(finish.rescheduled_for.map(|at| at.0))
            .bind(finish.status)
            .bind(completion_instant(&mut transaction, sync_id, now).await?)
            .bind(sync_id)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Strictly after both completion instants of the sync's connection.
async fn completion_instant(
    transaction: &mut sqlx::Transaction<'_, sqlx::Sqlite>,
    sync_id: &str,
    now: Timestamp,
) -> Result<i64, Error> {
    let newest: Option<i64> = sqlx::query_scalar(
        "SELECT max(coalesce(succeeded_us, 0), coalesce(failed_us, 0)) FROM connections
         WHERE id = (SELECT connection_id FROM syncs WHERE id = ?)",
    )
    .bind(sync_id)
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(newest.map_or(now.0, |newest| now.0.max(newest + 1)))
}
