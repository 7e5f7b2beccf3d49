//! Agents and their join tokens. A revoked agent keeps its row, so that its syncs still name someone.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Error, Page, Store};
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub(crate) struct Agent {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) group_id: Option<String>,
    pub(crate) deployment: String,
    pub(crate) created_by: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) enrolled_at: Option<Timestamp>,
    pub(crate) last_seen_at: Option<Timestamp>,
    pub(crate) identity: Option<[u8; 32]>,
    /// The certified sealing key of the newest session.
    pub(crate) sealing: Option<[u8; 32]>,
    pub(crate) renewal_counter: i64,
    pub(crate) mode: Option<String>,
    pub(crate) version: Option<String>,
}

impl Agent {
    /// Whether it may run syncs of this connection.
    /// Whether it may ever run connections of this group: one without a group of its own serves all.
    pub(crate) fn serves(&self, group_id: &str) -> bool {
        self.group_id.as_deref().is_none_or(|own| own == group_id)
    }

    pub(crate) fn is_eligible(&self, group_id: &str, wanted: Option<&str>) -> bool {
        self.enrolled_at.is_some() && self.serves(group_id) && wanted.is_none_or(|wanted| wanted == self.id)
    }
}

/// What creating an agent stores.
#[derive(Debug)]
pub(crate) struct NewAgent<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) group_id: Option<&'a str>,
    pub(crate) deployment: &'a str,
    pub(crate) created_by: &'a str,
}

/// What presenting a join token came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TokenUse {
    Unknown,
    Expired,
    /// By another identity.
    Used,
    /// This identity is (or already was) enrolled as this agent.
    Enrolled {
        agent_id: String,
    },
}

fn key(row: &SqliteRow, column: &str) -> Result<Option<[u8; 32]>, sqlx::Error> {
    let bytes: Option<Vec<u8>> = row.try_get(column)?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()))
}

fn agent(row: &SqliteRow) -> Result<Agent, sqlx::Error> {
    Ok(Agent {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        group_id: row.try_get("group_id")?,
        deployment: row.try_get("deployment")?,
        created_by: row.try_get("created_by")?,
        created_at: Timestamp(row.try_get("created_us")?),
        updated_at: Timestamp(row.try_get("updated_us")?),
        enrolled_at: row.try_get::<Option<i64>, _>("enrolled_us")?.map(Timestamp),
        last_seen_at: row.try_get::<Option<i64>, _>("last_seen_us")?.map(Timestamp),
        identity: key(row, "identity")?,
        sealing: key(row, "sealing")?,
        renewal_counter: row.try_get("renewal_counter")?,
        mode: row.try_get("mode")?,
        version: row.try_get("version")?,
    })
}

impl Store {
    pub(crate) async fn add_agent(&self, new: &NewAgent<'_>, now: Timestamp) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO agents (id, name, group_id, deployment, created_by, created_us, updated_us)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
        )
        .bind(new.id)
        .bind(new.name)
        .bind(new.group_id)
        .bind(new.deployment)
        .bind(new.created_by)
        .bind(now.0)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(crate) async fn add_token(&self, token_id: &str, agent_id: &str, expires_at: Timestamp) -> Result<(), Error> {
        sqlx::query("INSERT INTO join_tokens (id, agent_id, expires_us) VALUES (?, ?, ?)")
            .bind(token_id)
            .bind(agent_id)
            .bind(expires_at.0)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// An agent that is not revoked.
    pub(crate) async fn agent(&self, id: &str) -> Result<Option<Agent>, Error> {
        let row = sqlx::query("SELECT * FROM agents WHERE id = ? AND revoked_us IS NULL")
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.as_ref().map(agent).transpose()?)
    }

    /// Whether an agent of this id was revoked.
    pub(crate) async fn is_revoked(&self, id: &str) -> Result<bool, Error> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM agents WHERE id = ? AND revoked_us IS NOT NULL")
            .bind(id)
            .fetch_one(&self.pool)
            .await?;
        Ok(count > 0)
    }

    pub(crate) async fn agents(&self, group_id: Option<&str>, page: &Page) -> Result<Vec<Agent>, Error> {
        let rows = sqlx::query(
            "SELECT * FROM agents WHERE revoked_us IS NULL AND (?1 IS NULL OR group_id = ?1)
             AND (created_us, id) > (?2, ?3) ORDER BY created_us, id LIMIT ?4",
        )
        .bind(group_id)
        .bind(page.at_us())
        .bind(page.id())
        .bind(page.limit)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(agent).collect::<Result<_, _>>()?)
    }

    /// Uses a join token for an identity, once. The same identity may come again: its answer may have been lost.
    pub(crate) async fn use_token(
        &self,
        token_id: &str,
        identity: &[u8; 32],
        now: Timestamp,
    ) -> Result<TokenUse, Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let row = sqlx::query(
            "SELECT t.agent_id, t.expires_us, t.used_by FROM join_tokens t JOIN agents a ON a.id = t.agent_id
             WHERE t.id = ? AND a.revoked_us IS NULL",
        )
        .bind(token_id)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else { return Ok(TokenUse::Unknown) };
        let agent_id: String = row.try_get("agent_id")?;
        match row.try_get::<Option<Vec<u8>>, _>("used_by")? {
            Some(used_by) if used_by == identity => return Ok(TokenUse::Enrolled { agent_id }),
            Some(_) => return Ok(TokenUse::Used),
            None if row.try_get::<i64, _>("expires_us")? <= now.0 => return Ok(TokenUse::Expired),
            None => {}
        }
        sqlx::query("UPDATE join_tokens SET used_by = ? WHERE id = ?")
            .bind(&identity[..])
            .bind(token_id)
            .execute(&mut *transaction)
            .await?;
        sqlx::query(
            "UPDATE agents SET identity = ?1, enrolled_us = ?2, updated_us = ?2, renewal_counter = 0 WHERE id = ?3",
        )
        .bind(&identity[..])
        .bind(now.0)
        .bind(&agent_id)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(TokenUse::Enrolled { agent_id })
    }

    pub(crate) async fn set_sealing_key(&self, agent_id: &str, sealing: &[u8; 32]) -> Result<(), Error> {
        sqlx::query("UPDATE agents SET sealing = ? WHERE id = ?")
            .bind(&sealing[..])
            .bind(agent_id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Records a session. False where the renewal counter does not rise: someone else holds this identity too.
    pub(crate) async fn begin_session(
        &self,
        agent_id: &str,
        counter: i64,
        sealing: &[u8; 32],
        version: &str,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let result = sqlx::query(
            "UPDATE agents SET renewal_counter = ?1, sealing = ?2, version = ?3, last_seen_us = ?4
             WHERE id = ?5 AND revoked_us IS NULL AND renewal_counter < ?1",
        )
        .bind(counter)
        .bind(&sealing[..])
        .bind(version)
        .bind(now.0)
        .bind(agent_id)
        .execute(&self.pool)
        .await?;
        Ok(result.rows_affected() == 1)
    }

    pub(crate) async fn set_agent_mode(&self, agent_id: &str, mode: &str) -> Result<(), Error> {
        sqlx::query("UPDATE agents SET mode = ?1 WHERE id = ?2 AND mode IS NOT ?1")
            .bind(mode)
            .bind(agent_id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(crate) async fn set_last_seen(&self, agent_id: &str, now: Timestamp) -> Result<(), Error> {
        sqlx::query("UPDATE agents SET last_seen_us = ? WHERE id = ?")
            .bind(now.0)
            .bind(agent_id)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Revokes the identity and forgets what was sealed for it. False where there is no such agent.
    pub(crate) async fn revoke_agent(&self, agent_id: &str, now: Timestamp) -> Result<bool, Error> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let result =
            sqlx::query("UPDATE agents SET revoked_us = ?1, updated_us = ?1 WHERE id = ?2 AND revoked_us IS NULL")
                .bind(now.0)
                .bind(agent_id)
                .execute(&mut *transaction)
                .await?;
        sqlx::query("DELETE FROM sealed_values WHERE agent_id = ?").bind(agent_id).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(result.rows_affected() == 1)
    }
}
