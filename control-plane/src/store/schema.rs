//! The schema of a connection: what its syncs saw, and what a person decided about it. A decision outlives every capture.

use inshore_protocol::{CapturedSchema, CapturedTable, Hex16};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, Transaction};

use super::{Error, Store};

/// Items of one connection; what syncs see beyond is not kept.
const ITEMS_MAX: i64 = 200_000;

/// A schema (`table` and `column` empty), a table (`column` empty) or a column.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SchemaItem {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) column: String,
    /// None: nobody decided, and no sync saw it.
    pub(crate) enabled: Option<bool>,
    pub(crate) hashed: bool,
    /// A person set it.
    pub(crate) touched: bool,
    /// A sync saw it.
    pub(crate) captured: bool,
    pub(crate) is_key: bool,
    /// Whose hashes its names are, as hexadecimal text.
    pub(crate) label_key: Option<String>,
}

/// A connection's schema, in the order of names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Schema {
    /// `ALLOW_ALL`, `ALLOW_COLUMNS` or `BLOCK_ALL`.
    pub(crate) handling: String,
    /// A person decided something, if only by saying so.
    pub(crate) configured: bool,
    pub(crate) type_locked: bool,
    pub(crate) items: Vec<SchemaItem>,
}

/// What a person changes, all of it or nothing.
#[derive(Debug, Default)]
pub(crate) struct SchemaChange {
    /// Forget what was decided before.
    pub(crate) replace: bool,
    pub(crate) handling: Option<&'static str>,
    pub(crate) type_locked: Option<bool>,
    /// For every table and column that nobody decided about.
    pub(crate) rest: Option<bool>,
    pub(crate) items: Vec<ItemChange>,
}

/// Absent: stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ItemChange {
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) column: String,
    pub(crate) enabled: Option<bool>,
    pub(crate) hashed: Option<bool>,
}

fn item(row: &SqliteRow) -> Result<SchemaItem, sqlx::Error> {
    Ok(SchemaItem {
        schema: row.try_get("schema_name")?,
        table: row.try_get("table_name")?,
        column: row.try_get("column_name")?,
        enabled: row.try_get("enabled")?,
        hashed: row.try_get("hashed")?,
        touched: row.try_get("touched")?,
        captured: row.try_get("captured")?,
        is_key: row.try_get("is_key")?,
        label_key: row.try_get("label_key")?,
    })
}

impl Store {
    pub(crate) async fn schema(&self, connection_id: &str) -> Result<Schema, Error> {
        let mut transaction = self.pool.begin().await?;
        read(&mut transaction, connection_id).await
    }

    /// Changes it unless `check` refuses what would come of it.
    pub(crate) async fn change_schema<E>(
        &self,
        connection_id: &str,
        change: &SchemaChange,
        check: impl FnOnce(&Schema) -> Result<(), E>,
    ) -> Result<Result<Schema, E>, Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        if change.replace {
            forget(&mut transaction, connection_id).await?;
        }
        sqlx::query(
            "UPDATE connections SET schema_configured = 1, schema_change_handling = coalesce(?2, schema_change_handling),
             type_locked = coalesce(?3, type_locked) WHERE id = ?1",
        )
        .bind(connection_id)
        .bind(change.handling)
        .bind(change.type_locked)
        .execute(&mut *transaction)
        .await?;
        if let Some(enabled) = change.rest {
            // Key columns go as their tables do.
            sqlx::query(
                "UPDATE schema_items SET enabled = ?2, touched = 1 WHERE connection_id = ?1 AND touched = 0 AND is_key = 0",
            )
            .bind(connection_id)
            .bind(enabled)
            .execute(&mut *transaction)
            .await?;
        }
        for item in &change.items {
            set(&mut transaction, connection_id, item).await?;
        }
        let schema = read(&mut transaction, connection_id).await?;
        match check(&schema) {
            Ok(()) => transaction.commit().await?,
            Err(refused) => return Ok(Err(refused)),
        }
        Ok(Ok(schema))
    }

    /// Takes in what a sync saw. What a person decided stays; the rest is as the agent did.
    pub(crate) async fn capture_schema(&self, connection_id: &str, captured: &CapturedSchema) -> Result<(), Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let count = "SELECT count(*) FROM schema_items WHERE connection_id = ?";
        let mut room: i64 =
            ITEMS_MAX - sqlx::query_scalar::<_, i64>(count).bind(connection_id).fetch_one(&mut *transaction).await?;
        let label_key = captured.label_key.map(|key: Hex16| key.to_string());
        for table in &captured.tables {
            room -= 1 + i64::try_from(table.columns.len()).unwrap_or(i64::MAX);
            if room < 0 {
                tracing::warn!(connection_id, "the connection has more tables and columns than are kept");
                break;
            }
            capture(&mut transaction, connection_id, label_key.as_deref(), table).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

async fn read(transaction: &mut Transaction<'_, Sqlite>, connection_id: &str) -> Result<Schema, Error> {
    let connection = "SELECT schema_change_handling, schema_configured, type_locked FROM connections WHERE id = ?";
    let Some(row) = sqlx::query(connection).bind(connection_id).fetch_optional(&mut **transaction).await? else {
        return Ok(Schema::default());
    };
    let items = "SELECT * FROM schema_items WHERE connection_id = ? ORDER BY schema_name, table_name, column_name";
    let items = sqlx::query(items).bind(connection_id).fetch_all(&mut **transaction).await?;
    Ok(Schema {
        handling: row.try_get("schema_change_handling")?,
        configured: row.try_get("schema_configured")?,
        type_locked: row.try_get("type_locked")?,
        items: items.iter().map(item).collect::<Result<_, _>>()?,
    })
}

async fn forget(transaction: &mut Transaction<'_, Sqlite>, connection_id: &str) -> Result<(), Error> {
    for query in [
        "DELETE FROM schema_items WHERE connection_id = ? AND captured = 0",
        "UPDATE schema_items SET touched = 0, hashed = 0, enabled = 1 WHERE connection_id = ?",
        "UPDATE connections SET schema_change_handling = 'ALLOW_ALL' WHERE id = ?",
    ] {
        sqlx::query(query).bind(connection_id).execute(&mut **transaction).await?;
    }
    Ok(())
}

async fn set(transaction: &mut Transaction<'_, Sqlite>, connection_id: &str, item: &ItemChange) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO schema_items (connection_id, schema_name, table_name, column_name, enabled, hashed, touched)
         VALUES (?1, ?2, ?3, ?4, ?5, coalesce(?6, 0), 1)
         ON CONFLICT DO UPDATE SET enabled = coalesce(?5, enabled), hashed = coalesce(?6, hashed), touched = 1",
    )
    .bind(connection_id)
    .bind(&item.schema)
    .bind(&item.table)
    .bind(&item.column)
    .bind(item.enabled)
    .bind(item.hashed)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn capture(
    transaction: &mut Transaction<'_, Sqlite>,
    connection_id: &str,
    label_key: Option<&str>,
    table: &CapturedTable,
) -> Result<(), Error> {
    let own = std::iter::once(("", table.enabled, false));
    let columns = table.columns.iter().map(|column| (column.column.as_str(), column.enabled, column.key));
    for (column, enabled, is_key) in own.chain(columns) {
        sqlx::query(
            "INSERT INTO schema_items (connection_id, schema_name, table_name, column_name, enabled, captured, is_key, label_key)
             VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7)
             ON CONFLICT DO UPDATE SET captured = 1, is_key = ?6, label_key = ?7,
               enabled = CASE WHEN touched AND enabled IS NOT NULL THEN enabled ELSE ?5 END
             WHERE captured = 0 OR is_key <> ?6 OR label_key IS NOT ?7 OR enabled IS NULL OR (touched = 0 AND enabled <> ?5)",
        )
        .bind(connection_id)
        .bind(table.schema.as_str())
        .bind(table.table.as_str())
        .bind(column)
        .bind(enabled)
        .bind(is_key)
        .bind(label_key)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}
