//! The SQLite store: WAL, `synchronous=FULL`, migrations run at start. Queries are checked when they run, by the tests.
//! It keeps what must outlive the process; who is connected and how far a sync is right now live in memory elsewhere.
//! Invariant: what a function here returned `Ok` for is durable.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, SqliteConnection, SqlitePool};

mod agents;
mod connections;
mod destinations;
mod groups;
mod keys;
mod packages;
mod schema;
mod settings;
mod syncs;

pub(crate) use agents::{Agent, NewAgent, TokenUse};
pub(crate) use connections::{Bounds, Connection, ConnectionFilter};
pub(crate) use destinations::Destination;
pub(crate) use groups::Group;
pub(crate) use packages::Package;
pub(crate) use schema::{ItemChange, Schema, SchemaChange, SchemaItem};
pub(crate) use settings::{NewSetting, Purpose, Sealed, Setting, SettingKey, SettingValue};
pub(crate) use syncs::{Finish, LeaseRow, NewSync, OutcomeKey, Sync, SyncFilter, Totals};

/// One per schema version, in order; `PRAGMA user_version` says how many ran.
const MIGRATIONS: [&str; 9] = [
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_inference.sql"),
    include_str!("migrations/0003_bounds.sql"),
    include_str!("migrations/0004_purpose.sql"),
    include_str!("migrations/0005_type_locked.sql"),
    include_str!("migrations/0006_setup_tests.sql"),
    include_str!("migrations/0007_schema.sql"),
    include_str!("migrations/0008_tables.sql"),
    include_str!("migrations/0009_resync.sql"),
];
const POOL_CONNECTIONS: u32 = 4;
const BUSY: Duration = Duration::from_secs(15);

/// A store operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("open the store")]
    Open(#[source] sqlx::Error),
    #[error("migrate the store to version {version}")]
    Migrate { version: usize, source: sqlx::Error },
    #[error("the store was written by a newer version ({found}, this one knows {known})")]
    Newer { found: i64, known: usize },
    #[error("query the store")]
    Query(#[from] sqlx::Error),
}

impl Error {
    /// A UNIQUE constraint refused the row.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, Error::Query(error) if error.as_database_error().is_some_and(|error| error.is_unique_violation()))
    }
}

/// The store. Clones share one pool.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pool: SqlitePool,
}

impl Store {
    pub(crate) async fn open(path: &Path) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY);
        // A connection that was open before a migration would go on with the columns of before: the pool comes after all.
        let mut alone = options.connect().await.map_err(Error::Open)?;
        migrate(&mut alone).await?;
        alone.close().await.map_err(Error::Open)?;
        let pool = SqlitePoolOptions::new()
            .max_connections(POOL_CONNECTIONS)
            .connect_with(options)
            .await
            .map_err(Error::Open)?;
        Ok(Self { pool })
    }

    /// Whether the store answers.
    pub(crate) async fn ping(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Writes the WAL back and closes all files.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Where a page begins: strictly after this (created, id), or before it in lists that show the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) at_us: i64,
    pub(crate) id: String,
}

/// One page to fetch.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) after: Option<Position>,
    pub(crate) limit: i64,
}

impl Page {
    /// More than any list this version keeps: for internal callers that want all.
    pub(crate) const ALL: Page = Page { after: None, limit: 100_000 };

    fn at_us(&self) -> i64 {
        self.after.as_ref().map_or(i64::MIN, |position| position.at_us)
    }

    fn id(&self) -> &str {
        self.after.as_ref().map_or("", |position| position.id.as_str())
    }
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), Error> {
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Err(Error::Newer { found, known: MIGRATIONS.len() });
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let version = index + 1;
        let failed = |source| Error::Migrate { version, source };
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        sqlx::raw_sql(*migration).execute(&mut *transaction).await.map_err(failed)?;
        let mark = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {version}"));
        sqlx::raw_sql(mark).execute(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
    }
    Ok(())
}
