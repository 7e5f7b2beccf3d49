//! Literal secrets on their way in. They are sealed here, in memory, to every agent that may run the connection, and only the
//! ciphertext goes on. A value that is wholly a reference stays text: it says where the secret is, not what.

use inshore_protocol::Code;
use inshore_protocol::limits::CONFIGURATION_ENTRIES_MAX;
use inshore_trust::{DhPublic, SealContext, seal};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::ApiError;
use super::body::Body;
use crate::app::App;
use crate::store::{Agent, Connection, NewSetting, Page, Purpose, Sealed, Setting, SettingValue};

/// What replies show in place of a secret; sent back, it keeps what is stored.
const MASK: &str = "******";
const KEY_BYTES_MAX: usize = 255;
const VALUE_BYTES_MAX: usize = 64 << 10;
const SCHEMES: [&str; 9] = ["file", "env", "cred", "vault", "aws-sm", "azure-kv", "gcp-sm", "exec", "sops"];

/// The list of a purpose, as replies show it.
pub(super) fn secrets_json(settings: &[Setting], purpose: Purpose) -> Value {
    settings
        .iter()
        .filter(|setting| setting.purpose == purpose)
        .map(|setting| json!({"key": setting.key, "value": setting.reference.as_deref().unwrap_or(MASK)}))
        .collect()
}

/// The key of `config` that holds the settings of a purpose.
fn field(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Configuration => "secrets_list",
        Purpose::Environment => "environment_variables",
    }
}

/// Reads the settings of `config` and seals what is literal. A purpose that is absent keeps what is stored.
pub(super) async fn take(
    app: &App,
    connection: &Connection,
    config: &Body,
) -> Result<Vec<(Purpose, Vec<NewSetting>)>, ApiError> {
    let mut taken = Vec::new();
    for purpose in [Purpose::Configuration, Purpose::Environment] {
        if let Some(settings) = take_list(app, connection, config, purpose).await? {
            taken.push((purpose, settings));
        }
    }
    Ok(taken)
}

async fn take_list(
    app: &App,
    connection: &Connection,
    config: &Body,
    purpose: Purpose,
) -> Result<Option<Vec<NewSetting>>, ApiError> {
    let field = field(purpose);
    let entries = match config.0.get(field) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(ApiError::invalid(format!("`config.{field}` must be a list of {{key, value}}"))),
    };
    if entries.len() > CONFIGURATION_ENTRIES_MAX {
        return Err(ApiError::invalid(format!("`config.{field}` has at most {CONFIGURATION_ENTRIES_MAX} entries")));
    }
    let mut stored = app.store.settings(&connection.id).await?;
    stored.retain(|setting| setting.purpose == purpose);
    let mut settings: Vec<NewSetting> = Vec::with_capacity(entries.len());
    let mut agents = None;
    for entry in entries {
        let (key, value) = pair(entry, field)?;
        if purpose == Purpose::Environment && !inshore_protocol::is_variable(&key) {
            return Err(ApiError::invalid(format!(
                "`config.{field}`: `{key}` is no name of a variable that a connection may set"
            )));
        }
        if settings.iter().any(|setting| setting.key == key) {
            return Err(ApiError::invalid(format!("`config.{field}` names a key twice")));
        }
        let value = if value.as_str() == MASK {
            if stored.iter().all(|setting| setting.key != key) {
                return Err(ApiError::invalid(format!("`config.{field}` has the mask for a key that is not stored")));
            }
            SettingValue::Keep
        } else if is_reference(&value) {
            SettingValue::Reference(value.as_str().to_owned())
        } else {
            let agents = match &mut agents {
                Some(agents) => agents,
                none => none.insert(sealing_agents(app, connection).await?),
            };
            SettingValue::Sealed(sealed(agents, connection, (purpose, &key), &value)?)
        };
        settings.push(NewSetting { key, value });
    }
    Ok(Some(settings))
}

fn pair(entry: &Value, list: &str) -> Result<(String, Zeroizing<String>), ApiError> {
    let field = |name| entry.get(name).and_then(Value::as_str);
    match (field("key"), field("value")) {
        (Some(key), Some(value)) if !key.is_empty() && key.len() <= KEY_BYTES_MAX && value.len() <= VALUE_BYTES_MAX => {
            Ok((key.to_owned(), Zeroizing::new(value.to_owned())))
        }
        (Some(key), None) if key.len() <= KEY_BYTES_MAX && entry.get("value").is_some() => {
            Err(ApiError::invalid(format!("`config.{list}`: give the value of `{key}` as a text in quotes")))
        }
        _ => Err(ApiError::invalid(format!(
            "each entry of `config.{list}` must be {{key, value}}: two strings, at most {KEY_BYTES_MAX} and {VALUE_BYTES_MAX} bytes"
        ))),
    }
}

/// Exactly one `${scheme:locator}`, nothing around it.
fn is_reference(value: &str) -> bool {
    let inner = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let Some((scheme, locator)) = inner.and_then(|inner| inner.split_once(':')) else { return false };
    SCHEMES.contains(&scheme) && !locator.is_empty() && !locator.contains(['{', '}', '$', '\n'])
}

/// The agents a literal secret is sealed to: all that may run the connection, each with a certified sealing key.
async fn sealing_agents(app: &App, connection: &Connection) -> Result<Vec<(Agent, DhPublic)>, ApiError> {
    let mut agents = Vec::new();
    for agent in app.store.agents(None, &Page::ALL).await? {
        if !agent.is_eligible(&connection.group_id, connection.agent_id.as_deref()) {
            continue;
        }
        if agent.mode.as_deref() == Some("locked") {
            return Err(ApiError::invalid(
                "an agent of this connection is locked: give secrets as references such as ${file:/run/secrets/name}",
            ));
        }
        if let Some(sealing) = agent.sealing {
            agents.push((agent, DhPublic(sealing)));
        }
    }
    if agents.is_empty() {
        let message = "no enrolled agent may run this connection, so a literal secret cannot be sealed; enrol one first, or give a reference";
        return Err(ApiError::invalid_coded(Code::SecretNotSealed, message));
    }
    Ok(agents)
}

fn sealed(
    agents: &[(Agent, DhPublic)],
    connection: &Connection,
    (purpose, key): (Purpose, &str),
    value: &str,
) -> Result<Vec<Sealed>, ApiError> {
    agents
        .iter()
        .map(|(agent, sealing)| {
            let context = SealContext {
                agent_id: &agent.id,
                connection_id: &connection.id,
                purpose: purpose.text(),
                endpoint: key,
            };
            let data = seal(sealing, &context.to_bytes(), value.as_bytes()).ok_or_else(|| {
                let message = format!("the sealing key of agent {} protects nothing: revoke that agent", agent.id);
                ApiError::invalid_coded(Code::SecretNotSealed, &message)
            })?;
            Ok(Sealed { agent_id: agent.id.clone(), sealing: sealing.0, data })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_reference_is_a_reference() {
        for (value, expected) in [
            ("${file:/run/secrets/x}", true),
            ("${env:TOKEN}", true),
            ("${cred:db}", true),
            ("a${file:/x}", false),
            ("${file:/x}b", false),
            ("${file:}", false),
            ("${other:x}", false),
            ("${file:${env:X}}", false),
            ("hunter2", false),
            ("", false),
        ] {
            assert_eq!(is_reference(value), expected, "{value}");
        }
    }
}
