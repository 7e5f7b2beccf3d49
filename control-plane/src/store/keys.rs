//! API keys: salted hashes only.

use sqlx::Row as _;

use super::{Error, Store};
use crate::time::Timestamp;

impl Store {
    pub(crate) async fn has_api_key(&self) -> Result<bool, Error> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM api_keys").fetch_one(&self.pool).await?;
        Ok(count > 0)
    }

    pub(crate) async fn add_api_key(&self, id: &str, salt: &[u8], hash: &[u8], now: Timestamp) -> Result<(), Error> {
        sqlx::query("INSERT INTO api_keys (id, salt, hash, created_us) VALUES (?, ?, ?, ?)")
            .bind(id)
            .bind(salt)
            .bind(hash)
            .bind(now.0)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Salt and hash of a key.
    pub(crate) async fn api_key(&self, id: &str) -> Result<Option<(Vec<u8>, Vec<u8>)>, Error> {
        let row =
            sqlx::query("SELECT salt, hash FROM api_keys WHERE id = ?").bind(id).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| Ok::<_, sqlx::Error>((row.try_get("salt")?, row.try_get("hash")?))).transpose()?)
    }
}
