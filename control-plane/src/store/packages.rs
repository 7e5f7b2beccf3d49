//! Connector packages: ids and digests; the bytes are files named by their SHA-256 (`package`).

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Error, Page, Store};
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) sha256: String,
    pub(crate) bytes: i64,
    pub(crate) created_by: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

fn package(row: &SqliteRow) -> Result<Package, sqlx::Error> {
    Ok(Package {
        id: row.try_get("id")?,
        sha256: row.try_get("sha256")?,
        bytes: row.try_get("bytes")?,
        created_by: row.try_get("created_by")?,
        created_at: Timestamp(row.try_get("created_us")?),
        updated_at: Timestamp(row.try_get("updated_us")?),
    })
}

impl Store {
    /// Inserts it, or gives the one with its id new content.
    pub(crate) async fn put_package(&self, package: &Package) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO packages (id, sha256, bytes, created_by, created_us, updated_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (id) DO UPDATE SET sha256 = ?2, bytes = ?3, updated_us = ?6",
        )
        .bind(&package.id)
        .bind(&package.sha256)
        .bind(package.bytes)
        .bind(&package.created_by)
        .bind(package.created_at.0)
        .bind(package.updated_at.0)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(crate) async fn package(&self, id: &str) -> Result<Option<Package>, Error> {
        let row = sqlx::query("SELECT * FROM packages WHERE id = ?").bind(id).fetch_optional(&self.pool).await?;
        Ok(row.as_ref().map(package).transpose()?)
    }

    pub(crate) async fn packages(&self, page: &Page) -> Result<Vec<Package>, Error> {
        let rows =
            sqlx::query("SELECT * FROM packages WHERE (created_us, id) > (?, ?) ORDER BY created_us, id LIMIT ?")
                .bind(page.at_us())
                .bind(page.id())
                .bind(page.limit)
                .fetch_all(&self.pool)
                .await?;
        Ok(rows.iter().map(package).collect::<Result<_, _>>()?)
    }

    pub(crate) async fn package_connections(&self, id: &str) -> Result<Vec<String>, Error> {
        Ok(sqlx::query_scalar("SELECT id FROM connections WHERE package_id = ? ORDER BY created_us, id")
            .bind(id)
            .fetch_all(&self.pool)
            .await?)
    }

    /// False where a connection uses it.
    pub(crate) async fn delete_package(&self, id: &str) -> Result<bool, Error> {
        let result = sqlx::query(
            "DELETE FROM packages WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM connections WHERE package_id = ?1)",
        )
        .bind(id)
        .execute(&self.pool)
        .await?;
        Ok(result.rows_affected() == 1)
    }

    /// Whether no package has this content any more, so that its file may go.
    pub(crate) async fn is_content_unused(&self, sha256: &str) -> Result<bool, Error> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM packages WHERE sha256 = ?")
            .bind(sha256)
            .fetch_one(&self.pool)
            .await?;
        Ok(count == 0)
    }

    /// Whether a connection this agent may run uses the content: an agent gets no other package.
    pub(crate) async fn may_fetch(&self, agent_id: &str, sha256: &str) -> Result<bool, Error> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM packages p JOIN connections c ON c.package_id = p.id JOIN agents a ON a.id = ?1
             WHERE p.sha256 = ?2 AND a.revoked_us IS NULL AND (a.group_id IS NULL OR a.group_id = c.group_id)
             AND (c.agent_id IS NULL OR c.agent_id = a.id)",
        )
        .bind(agent_id)
        .bind(sha256)
        .fetch_one(&self.pool)
        .await?;
        Ok(count > 0)
    }
}
