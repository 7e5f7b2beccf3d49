//! From what is stored of a connection's schema to what an agent is told: only what does not follow from the change
//! handling, so that the configuration of a thousand tables is a few lines. Pure.

use std::collections::{BTreeMap, BTreeSet};

use inshore_protocol::limits::SCHEMA_CONFIG_BYTES_MAX;
use inshore_protocol::{ChangeHandling, ColumnRule, Hex16, ResyncScope, SchemaConfig, SchemaRule, TableRef, TableRule};

use crate::store::{Schema, SchemaItem};

/// The three handlings, the default first.
pub(crate) const HANDLINGS: [&str; 3] = ["ALLOW_ALL", "ALLOW_COLUMNS", "BLOCK_ALL"];

/// Why a schema cannot be stored as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("`{column}` is a key column of `{schema}.{table}` and cannot be blocked: hash it, or block the table")]
    Key { schema: String, table: String, column: String },
    #[error(
        "the configuration would have {bytes} bytes of at most {SCHEMA_CONFIG_BYTES_MAX}: block whole tables, or schemas, instead of single columns"
    )]
    TooLarge { bytes: usize },
}

/// What the agent is told; `None` when everything comes in as it is.
pub(crate) fn config(schema: &Schema) -> Option<SchemaConfig> {
    let handling = match schema.handling.as_str() {
        "BLOCK_ALL" => ChangeHandling::BlockAll,
        "ALLOW_COLUMNS" => ChangeHandling::AllowColumns,
        _ => ChangeHandling::AllowAll,
    };
    let told: Vec<&SchemaItem> = schema.items.iter().filter(|item| is_told(item, handling)).collect();
    let keys: BTreeSet<&String> = told.iter().filter_map(|item| item.label_key.as_ref()).collect();
    let label_keys = keys.into_iter().filter_map(|key| serde_json::from_value::<Hex16>(key.as_str().into()).ok());
    let mut config = SchemaConfig { handling, label_keys: label_keys.collect(), schemas: Vec::new() };
    for item in told {
        add(&mut config.schemas, item);
    }
    (!config.is_default()).then_some(config)
}

/// The tables of a re-sync, as its JSON names them; `None` for all tables.
pub(crate) fn resync_scope(schema: &Schema, scope: &str) -> Option<ResyncScope> {
    let named: BTreeMap<String, Vec<String>> = serde_json::from_str(scope).unwrap_or_default();
    let tables = named
        .into_iter()
        .flat_map(|(schema, tables)| tables.into_iter().map(move |table| TableRef { schema: schema.clone(), table }));
    let tables: Vec<TableRef> = tables.collect();
    let keys = schema.items.iter().filter(|item| {
        item.column.is_empty() && tables.iter().any(|table| table.schema == item.schema && table.table == item.table)
    });
    let keys: BTreeSet<&String> = keys.filter_map(|item| item.label_key.as_ref()).collect();
    let label_keys = keys.into_iter().filter_map(|key| serde_json::from_value::<Hex16>(key.as_str().into()).ok());
    let label_keys = label_keys.collect();
    (!tables.is_empty()).then_some(ResyncScope { tables, label_keys })
}

/// What a person set, and what a more permissive handling would now let in that was not in before.
fn is_told(item: &SchemaItem, handling: ChangeHandling) -> bool {
    let out = item.enabled == Some(false);
    item.touched
        || match handling {
            ChangeHandling::AllowAll => out,
            ChangeHandling::AllowColumns => out && !item.column.is_empty(),
            ChangeHandling::BlockAll | ChangeHandling::Unknown => false,
        }
}

/// Items come in the order of names, so that what belongs together follows.
fn add(schemas: &mut Vec<SchemaRule>, item: &SchemaItem) {
    if schemas.last().is_none_or(|last| last.schema != item.schema) {
        schemas.push(SchemaRule { schema: item.schema.clone(), enabled: None, tables: Vec::new() });
    }
    let Some(schema) = schemas.last_mut() else { return };
    if item.table.is_empty() {
        schema.enabled = item.enabled;
        return;
    }
    if schema.tables.last().is_none_or(|last| last.table != item.table) {
        schema.tables.push(TableRule { table: item.table.clone(), enabled: None, columns: Vec::new() });
    }
    let Some(table) = schema.tables.last_mut() else { return };
    if item.column.is_empty() {
        table.enabled = item.enabled;
    } else {
        let rule = ColumnRule { column: item.column.clone(), enabled: item.enabled, hashed: item.hashed };
        table.columns.push(rule);
    }
}

/// Whether a schema can be stored and told.
pub(crate) fn check(schema: &Schema) -> Result<(), Refused> {
    let blocked = |item: &&SchemaItem| item.is_key && item.enabled == Some(false) && item.touched;
    if let Some(SchemaItem { schema, table, column, .. }) = schema.items.iter().find(blocked) {
        let (schema, table, column) = (schema.clone(), table.clone(), column.clone());
        return Err(Refused::Key { schema, table, column });
    }
    let bytes = config(schema).map_or(0, |config| inshore_protocol::encode(&config).len());
    if bytes > SCHEMA_CONFIG_BYTES_MAX { Err(Refused::TooLarge { bytes }) } else { Ok(()) }
}

/// Whether a table arrives, as far as it is known here.
pub(crate) fn is_table_enabled(schema: &Schema, item: Option<&SchemaItem>) -> bool {
    item.and_then(|item| item.enabled).unwrap_or(schema.handling == HANDLINGS[0])
}

/// The same of a column.
pub(crate) fn is_column_enabled(schema: &Schema, item: &SchemaItem) -> bool {
    item.enabled.unwrap_or(schema.handling != HANDLINGS[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a.b.c=out`, `=in`, `=hash`; a leading `!` is a person's word, a trailing `*` a key column.
    fn item(text: &str) -> SchemaItem {
        let (name, what) = text.split_once('=').expect("a name and what");
        let mut parts = name.trim_start_matches('!').trim_end_matches('*').split('.').map(str::to_owned);
        SchemaItem {
            schema: parts.next().unwrap_or_default(),
            table: parts.next().unwrap_or_default(),
            column: parts.next().unwrap_or_default(),
            enabled: Some(what != "out"),
            hashed: what == "hash",
            touched: name.starts_with('!'),
            captured: true,
            is_key: name.ends_with('*'),
            label_key: None,
        }
    }

    fn schema(handling: &str, items: &[&str]) -> Schema {
        let items = items.iter().map(|text| item(text)).collect();
        Schema { handling: handling.to_owned(), items, ..Schema::default() }
    }

    fn told(handling: &str, items: &[&str]) -> Vec<String> {
        let config = config(&schema(handling, items));
        let mut told = Vec::new();
        for schema in config.into_iter().flat_map(|config| config.schemas) {
            told.extend(schema.enabled.map(|enabled| format!("{}={enabled}", schema.schema)));
            for table in schema.tables {
                told.extend(table.enabled.map(|enabled| format!("{}={enabled}", table.table)));
                told.extend(table.columns.into_iter().map(|column| format!("{}#{}", column.column, column.hashed)));
            }
        }
        told
    }

    #[test]
    fn only_what_does_not_follow_from_the_handling_is_told() {
        let items = ["s.a=in", "s.a.id=in", "s.a.x=out", "s.b=out", "s.b.y=in", "!s.c=in", "!s.c.z=hash"];
        assert_eq!(told("ALLOW_ALL", &items), ["x#false", "b=false", "c=true", "z#true"]);
        assert_eq!(told("ALLOW_COLUMNS", &items), ["x#false", "c=true", "z#true"]);
        assert_eq!(told("BLOCK_ALL", &items), ["c=true", "z#true"]);
        assert!(config(&schema("ALLOW_ALL", &["s.a=in", "s.a.id=in"])).is_none());
        assert!(config(&schema("BLOCK_ALL", &[])).is_some());
        assert_eq!(told("ALLOW_ALL", &["!s=out", "!t=in"]), ["s=false", "t=true"]);
    }

    #[test]
    fn key_columns_cannot_be_blocked_and_a_configuration_has_a_size() {
        assert_eq!(check(&schema("ALLOW_ALL", &["!s.a.id*=hash", "!s.a=out"])), Ok(()));
        assert!(matches!(check(&schema("ALLOW_ALL", &["!s.a.id*=out"])), Err(Refused::Key { .. })));
        let many: Vec<String> = (0..20_000).map(|number| format!("!s.a.a_column_{number:06}=out")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(matches!(check(&schema("ALLOW_ALL", &many)), Err(Refused::TooLarge { .. })));
        assert_eq!(check(&schema("ALLOW_ALL", &["!s.a=out"])), Ok(()));
    }

    #[test]
    fn hashes_of_every_agent_they_came_from_are_named() {
        let mut schema = schema("ALLOW_ALL", &["!s.a=out", "!s.b=out", "s.c=in"]);
        let keys = ["00", "01", "02"].map(|byte| byte.repeat(16));
        schema.items.iter_mut().zip(&keys).for_each(|(item, key)| item.label_key = Some(key.clone()));
        let named = config(&schema).expect("a config").label_keys;
        assert_eq!(named, [Hex16([0; 16]), Hex16([1; 16])]);
    }
}
