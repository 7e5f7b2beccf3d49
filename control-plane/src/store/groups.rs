//! Groups of connections.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Error, Page, Store};
use crate::time::Timestamp;

#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created_at: Timestamp,
}

fn group(row: &SqliteRow) -> Result<Group, sqlx::Error> {
    Ok(Group { id: row.try_get("id")?, name: row.try_get("name")?, created_at: Timestamp(row.try_get("created_us")?) })
}

impl Store {
    pub(crate) async fn add_group(&self, group: &Group) -> Result<(), Error> {
        sqlx::query("INSERT INTO groups (id, name, created_us) VALUES (?, ?, ?)")
            .bind(&group.id)
            .bind(&group.name)
            .bind(group.created_at.0)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    pub(crate) async fn group(&self, id: &str) -> Result<Option<Group>, Error> {
        let row = sqlx::query("SELECT * FROM groups WHERE id = ?").bind(id).fetch_optional(&self.pool).await?;
        Ok(row.as_ref().map(group).transpose()?)
    }

    pub(crate) async fn groups(&self, page: &Page) -> Result<Vec<Group>, Error> {
        let rows = sqlx::query("SELECT * FROM groups WHERE (created_us, id) > (?, ?) ORDER BY created_us, id LIMIT ?")
            .bind(page.at_us())
            .bind(page.id())
            .bind(page.limit)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().map(group).collect::<Result<_, _>>()?)
    }

    pub(crate) async fn rename_group(&self, id: &str, name: &str) -> Result<(), Error> {
        sqlx::query("UPDATE groups SET name = ? WHERE id = ?").bind(name).bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// False where something still belongs to the group.
    pub(crate) async fn delete_group(&self, id: &str) -> Result<bool, Error> {
        let result = sqlx::query(
            "DELETE FROM groups WHERE id = ?1
             AND NOT EXISTS (SELECT 1 FROM destinations WHERE id = ?1)
             AND NOT EXISTS (SELECT 1 FROM connections WHERE group_id = ?1)
             AND NOT EXISTS (SELECT 1 FROM agents WHERE group_id = ?1)",
        )
        .bind(id)
        .execute(&self.pool)
        .await?;
        Ok(result.rows_affected() == 1)
    }
}
