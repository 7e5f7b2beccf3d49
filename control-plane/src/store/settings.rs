//! The settings of a connection, its configuration and its environment: references as text, everything else as
//! ciphertext, one per agent.

use sqlx::{Row as _, Sqlite, Transaction};

use super::{Error, Store};

/// What a setting is for. Its text is sealed with the value, so that no value can stand in for one of another purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// A value of the connector's configuration.
    Configuration,
    /// A variable of the connector's environment.
    Environment,
}

impl Purpose {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Purpose::Configuration => "configuration",
            Purpose::Environment => "environment",
        }
    }

    fn of(text: &str) -> Self {
        if text == "environment" { Purpose::Environment } else { Purpose::Configuration }
    }
}

/// The name of a sealed value.
pub(crate) type SettingKey = (Purpose, String);

/// A setting to be stored.
#[derive(Debug)]
pub(crate) struct NewSetting {
    pub(crate) key: String,
    pub(crate) value: SettingValue,
}

/// What a setting holds.
#[derive(Debug)]
pub(crate) enum SettingValue {
    Reference(String),
    Sealed(Vec<Sealed>),
    /// The mask came back: what is stored stays.
    Keep,
}

/// One value, for one agent.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) agent_id: String,
    /// The key it was sealed to.
    pub(crate) sealing: [u8; 32],
    pub(crate) data: Vec<u8>,
}

/// A stored setting.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) purpose: Purpose,
    pub(crate) key: String,
    /// None: it is sealed.
    pub(crate) reference: Option<String>,
}

/// Makes `settings` the whole list of its purpose, in this order.
pub(super) async fn replace(
    transaction: &mut Transaction<'_, Sqlite>,
    connection_id: &str,
    purpose: Purpose,
    settings: &[NewSetting],
) -> Result<(), Error> {
    // Kept rows move out of the way by their position; what is still negative at the end was not named.
    sqlx::query("UPDATE settings SET position = -1 WHERE connection_id = ? AND purpose = ?")
        .bind(connection_id)
        .bind(purpose.text())
        .execute(&mut **transaction)
        .await?;
    for (position, setting) in (0_i64..).zip(settings) {
        if !matches!(setting.value, SettingValue::Keep) {
            sqlx::query("DELETE FROM settings WHERE connection_id = ? AND purpose = ? AND key = ?")
                .bind(connection_id)
                .bind(purpose.text())
                .bind(&setting.key)
                .execute(&mut **transaction)
                .await?;
        }
        let reference = match &setting.value {
            SettingValue::Reference(reference) => Some(reference),
            SettingValue::Sealed(_) | SettingValue::Keep => None,
        };
        sqlx::query(
            "INSERT INTO settings (connection_id, position, key, reference, purpose) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (connection_id, purpose, key) DO UPDATE SET position = ?2",
        )
        .bind(connection_id)
        .bind(position)
        .bind(&setting.key)
        .bind(reference)
        .bind(purpose.text())
        .execute(&mut **transaction)
        .await?;
        if let SettingValue::Sealed(values) = &setting.value {
            add_sealed(transaction, connection_id, (purpose, &setting.key), values).await?;
        }
    }
    sqlx::query("DELETE FROM settings WHERE connection_id = ? AND purpose = ? AND position < 0")
        .bind(connection_id)
        .bind(purpose.text())
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn add_sealed(
    transaction: &mut Transaction<'_, Sqlite>,
    connection_id: &str,
    (purpose, key): (Purpose, &str),
    values: &[Sealed],
) -> Result<(), Error> {
    for value in values {
        let insert = "INSERT INTO sealed_values (connection_id, purpose, key, agent_id, sealing, data) VALUES (?, ?, ?, ?, ?, ?)";
        sqlx::query(insert)
            .bind(connection_id)
            .bind(purpose.text())
            .bind(key)
            .bind(&value.agent_id)
            .bind(&value.sealing[..])
            .bind(&value.data)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

impl Store {
    pub(crate) async fn settings(&self, connection_id: &str) -> Result<Vec<Setting>, Error> {
        let rows = sqlx::query(
            "SELECT purpose, key, reference FROM settings WHERE connection_id = ? ORDER BY purpose, position",
        )
        .bind(connection_id)
        .fetch_all(&self.pool)
        .await?;
        let setting = |row: &sqlx::sqlite::SqliteRow| {
            let purpose = Purpose::of(row.try_get("purpose")?);
            Ok::<_, sqlx::Error>(Setting { purpose, key: row.try_get("key")?, reference: row.try_get("reference")? })
        };
        Ok(rows.iter().map(setting).collect::<Result<_, _>>()?)
    }

    /// The values sealed to this agent's current key, by setting.
    pub(crate) async fn sealed_for(
        &self,
        connection_id: &str,
        agent_id: &str,
    ) -> Result<Vec<(SettingKey, Vec<u8>)>, Error> {
        let rows = sqlx::query(
            "SELECT v.purpose, v.key, v.data FROM sealed_values v JOIN agents a ON a.id = v.agent_id
             WHERE v.connection_id = ? AND v.agent_id = ? AND v.sealing = a.sealing",
        )
        .bind(connection_id)
        .bind(agent_id)
        .fetch_all(&self.pool)
        .await?;
        let pair = |row: &sqlx::sqlite::SqliteRow| {
            let key = (Purpose::of(row.try_get("purpose")?), row.try_get("key")?);
            Ok::<_, sqlx::Error>((key, row.try_get("data")?))
        };
        Ok(rows.iter().map(pair).collect::<Result<_, _>>()?)
    }
}
