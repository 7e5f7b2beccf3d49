//! The schema of a connection: what arrives and what is blocked or hashed, a form to change it, and what a change would do
//! before it is stored. Works as a plain form; there is no script.

use std::collections::BTreeMap;

use askama::Template;
use serde::{Deserialize, Serialize};

use crate::api::{ApiError, BACKFILL, change_schema};
use crate::app::App;
use crate::schema::{HANDLINGS, is_column_enabled, is_table_enabled};
use crate::store::{Connection, ItemChange, Schema, SchemaChange, SchemaItem};

/// Tables on one page; a search leads to the others.
const TABLES_SHOWN: usize = 200;
/// Columns are shown at once where there are few; else by the link of their table.
const COLUMNS_SHOWN: usize = 500;

/// What a search asks for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    q: String,
    /// One table whose columns are wanted, as its row names it.
    #[serde(default)]
    table: String,
    saved: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "schema.html")]
pub(super) struct SchemaPage {
    id: String,
    connection: String,
    query: String,
    saved: bool,
    captured: bool,
    hashed_names: bool,
    type_locked: bool,
    handlings: Vec<Choice>,
    found: usize,
    tables: Vec<TableRow>,
    problem: String,
}

#[derive(Debug)]
struct Choice {
    value: &'static str,
    label: &'static str,
    selected: bool,
}

#[derive(Debug)]
struct TableRow {
    name: String,
    /// Leads to the page with its columns.
    link: String,
    /// The name of its field.
    field: String,
    choices: Vec<Choice>,
    columns: usize,
    /// How many of them are not as the source has them.
    changed: usize,
    open: bool,
    rows: Vec<ColumnRow>,
}

#[derive(Debug)]
struct ColumnRow {
    name: String,
    field: String,
    is_key: bool,
    choices: Vec<Choice>,
}

#[derive(Debug, Template)]
#[template(path = "schema_preview.html")]
pub(super) struct Preview {
    id: String,
    connection: String,
    effects: Vec<Effect>,
    /// The change itself, for the form that stores it.
    change: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Effect {
    what: String,
    then: &'static str,
}

/// What a person wants, on its way through the preview.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Wanted {
    handling: Option<String>,
    items: Vec<([String; 3], String)>,
}

/// What a form came to.
#[derive(Debug)]
pub(super) enum Posted {
    Preview(Preview),
    Stored,
    Page(SchemaPage),
}

const IN: &str = "in";
const OUT: &str = "out";
const HASH: &str = "hash";

fn choices(shown: &[(&'static str, &'static str)], now: &str) -> Vec<Choice> {
    shown.iter().map(|(value, label)| Choice { value, label, selected: *value == now }).collect()
}

fn handling_choices(now: &str) -> Vec<Choice> {
    let labels = ["New tables and columns come in", "New columns of known tables come in", "Nothing new comes in"];
    let shown: Vec<_> = HANDLINGS.into_iter().zip(labels).collect();
    choices(&shown, now)
}

fn state_of_column(schema: &Schema, item: &SchemaItem) -> &'static str {
    match (is_column_enabled(schema, item), item.hashed) {
        (false, _) => OUT,
        (true, true) => HASH,
        (true, false) => IN,
    }
}

fn state_of(schema: &Schema, item: &SchemaItem) -> &'static str {
    match (item.table.is_empty(), item.column.is_empty()) {
        (false, false) => state_of_column(schema, item),
        (false, true) if is_table_enabled(schema, Some(item)) => IN,
        (true, _) if item.enabled != Some(false) => IN,
        _ => OUT,
    }
}

/// A text as part of an address.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

fn field(item: [&str; 3]) -> String {
    serde_json::json!(item).to_string()
}

/// The page, or none where the connection is gone.
pub(super) async fn page(app: &App, id: &str, asked: &Asked) -> Result<Option<SchemaPage>, ApiError> {
    let Some(connection) = app.store.connection(id).await? else { return Ok(None) };
    let schema = app.store.schema(id).await?;
    Ok(Some(assemble(&connection, &schema, asked)))
}

fn assemble(connection: &Connection, schema: &Schema, asked: &Asked) -> SchemaPage {
    let mut tables: BTreeMap<(&str, &str), Vec<&SchemaItem>> = BTreeMap::new();
    for item in schema.items.iter().filter(|item| !item.table.is_empty()) {
        tables.entry((&item.schema, &item.table)).or_default().push(item);
    }
    let query = asked.q.trim().to_lowercase();
    let is_found = |names: &(&str, &str), items: &Vec<&SchemaItem>| {
        let named = |name: &str| name.to_lowercase().contains(&query);
        query.is_empty() || named(&format!("{}.{}", names.0, names.1)) || items.iter().any(|item| named(&item.column))
    };
    tables.retain(|names, items| is_found(names, items));
    let found = tables.len();
    let few = tables.values().map(Vec::len).sum::<usize>() <= COLUMNS_SHOWN;
    let rows = tables.into_iter().take(TABLES_SHOWN).map(|((schema_name, table), items)| {
        let open = few || asked.table == field([schema_name, table, ""]);
        table_row(schema, (schema_name, table), &items, (open, &asked.q))
    });
    SchemaPage {
        id: connection.id.clone(),
        connection: connection.schema_name.clone(),
        query: asked.q.clone(),
        saved: asked.saved.is_some(),
        captured: schema.items.iter().any(|item| item.captured),
        hashed_names: schema.items.iter().any(|item| item.label_key.is_some()),
        type_locked: schema.type_locked,
        handlings: handling_choices(&schema.handling),
        found,
        tables: rows.collect(),
        problem: String::new(),
    }
}

fn table_row(
    schema: &Schema,
    (schema_name, table): (&str, &str),
    items: &[&SchemaItem],
    (open, query): (bool, &str),
) -> TableRow {
    let own = items.iter().find(|item| item.column.is_empty()).copied();
    let columns: Vec<_> = items.iter().filter(|item| !item.column.is_empty()).collect();
    let rows = columns.iter().filter(|_| open).map(|item| ColumnRow {
        name: item.column.clone(),
        field: field([schema_name, table, &item.column]),
        is_key: item.is_key,
        choices: choices(
            if item.is_key {
                &[(IN, "arrives"), (HASH, "arrives hashed")]
            } else {
                &[(IN, "arrives"), (HASH, "arrives hashed"), (OUT, "is blocked")]
            },
            state_of_column(schema, item),
        ),
    });
    let now = if is_table_enabled(schema, own) { IN } else { OUT };
    TableRow {
        name: format!("{schema_name}.{table}"),
        link: format!("?q={}&table={}", encoded(query), encoded(&field([schema_name, table, ""]))),
        field: field([schema_name, table, ""]),
        choices: choices(&[(IN, "arrives"), (OUT, "is blocked")], now),
        columns: columns.len(),
        changed: columns.iter().filter(|item| state_of_column(schema, item) != IN).count(),
        open,
        rows: rows.collect(),
    }
}

/// A form: the first one is shown what it would do, the second one stores it.
pub(super) async fn post(app: &App, id: &str, form: &[(String, String)]) -> Result<Option<Posted>, ApiError> {
    let Some(connection) = app.store.connection(id).await? else { return Ok(None) };
    let schema = app.store.schema(id).await?;
    if let Some((_, change)) = form.iter().find(|(name, _)| name == "change") {
        let wanted: Wanted =
            serde_json::from_str(change).map_err(|_| ApiError::invalid("the form is not one of this page"))?;
        return Ok(Some(match change_schema(app, id, &change_of(&wanted)?).await {
            Ok(_) => Posted::Stored,
            Err(error) => {
                let problem = error.message().to_owned();
                Posted::Page(SchemaPage { problem, ..assemble(&connection, &schema, &Asked::default()) })
            }
        }));
    }
    let wanted = wanted_of(&schema, form);
    let effects = effects(&schema, &wanted);
    if effects.is_empty() {
        return Ok(Some(Posted::Page(assemble(&connection, &schema, &Asked::default()))));
    }
    let change = serde_json::to_string(&wanted).unwrap_or_default();
    Ok(Some(Posted::Preview(Preview { id: id.to_owned(), connection: connection.schema_name, effects, change })))
}

/// What of the form differs from what is stored.
fn wanted_of(schema: &Schema, form: &[(String, String)]) -> Wanted {
    let mut wanted = Wanted::default();
    for (name, value) in form {
        if name == "handling" {
            let changed = *value != schema.handling && HANDLINGS.contains(&value.as_str());
            wanted.handling = changed.then(|| value.clone());
            continue;
        }
        let Ok(names) = serde_json::from_str::<[String; 3]>(name) else { continue };
        let is_it = |item: &&SchemaItem| [&item.schema, &item.table, &item.column] == [&names[0], &names[1], &names[2]];
        let Some(item) = schema.items.iter().find(is_it) else { continue };
        if [IN, OUT, HASH].contains(&value.as_str()) && state_of(schema, item) != value {
            wanted.items.push((names, value.clone()));
        }
    }
    wanted
}

fn change_of(wanted: &Wanted) -> Result<SchemaChange, ApiError> {
    let handling = match &wanted.handling {
        None => None,
        Some(text) => {
            let known = HANDLINGS.into_iter().find(|handling| handling == text);
            Some(known.ok_or_else(|| ApiError::invalid("the form is not one of this page"))?)
        }
    };
    let items = wanted.items.iter().map(|([schema, table, column], state)| ItemChange {
        schema: schema.clone(),
        table: table.clone(),
        column: column.clone(),
        enabled: Some(state != OUT),
        hashed: (!column.is_empty()).then_some(state == HASH),
    });
    Ok(SchemaChange { handling, items: items.collect(), ..SchemaChange::default() })
}

fn effects(schema: &Schema, wanted: &Wanted) -> Vec<Effect> {
    let handling = wanted.handling.as_deref().map(|handling| Effect {
        what: format!("Schema changes: {} becomes {handling}", schema.handling),
        then: match handling {
            "ALLOW_ALL" => {
                "Tables and columns that appear from now on come in. What was blocked when it appeared stays blocked."
            }
            "ALLOW_COLUMNS" => {
                "Tables that appear from now on are blocked until you let them in; new columns of known tables come in."
            }
            _ => "Tables and columns that appear from now on are blocked until you let them in.",
        },
    });
    let items = wanted.items.iter().filter_map(|(names, state)| {
        let is_it = |item: &&SchemaItem| [&item.schema, &item.table, &item.column] == [&names[0], &names[1], &names[2]];
        let item = schema.items.iter().find(is_it)?;
        let name = names.iter().filter(|name| !name.is_empty()).cloned().collect::<Vec<_>>().join(".");
        let now = state_of(schema, item);
        Some(Effect { what: format!("{name}: {now} becomes {state}"), then: then(item.column.is_empty(), now, state) })
    });
    handling.into_iter().chain(items).collect()
}

fn then(is_table: bool, now: &str, state: &str) -> &'static str {
    match (is_table, now, state) {
        (true, _, OUT) => "Its rows no longer arrive. What is at the destination stays as it is.",
        (_, OUT, _) => BACKFILL,
        (_, _, OUT) => {
            "Its values no longer arrive: rows that are written from now on have NULL. Rows that are not written again keep their old values."
        }
        (_, _, HASH) => {
            "Its values arrive as hashes and the column becomes text for good. Rows that are not written again keep their old values, readable."
        }
        _ => {
            "Its values arrive as they are; the column stays text. Rows that are not written again keep their hashes until a re-sync."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "<script>alert(1)</script>\"'";

    fn item(table: &str, column: &str, enabled: bool) -> SchemaItem {
        let (schema, table, column) = ("shop".to_owned(), table.to_owned(), column.to_owned());
        SchemaItem { schema, table, column, enabled: Some(enabled), captured: true, ..SchemaItem::default() }
    }

    fn schema() -> Schema {
        let key = SchemaItem { is_key: true, ..item("people", "id", true) };
        let items = vec![item("audit", "", false), item("people", "", true), item("people", "email", true), key];
        Schema { handling: "ALLOW_ALL".to_owned(), items, ..Schema::default() }
    }

    fn check(form: &[(&str, &str)], expected: &[(&str, &str)]) {
        let form: Vec<_> = form.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let effects = effects(&schema(), &wanted_of(&schema(), &form));
        assert_eq!(effects.len(), expected.len(), "{effects:?}");
        for (effect, (what, then)) in effects.iter().zip(expected) {
            assert!(effect.what == *what && effect.then.contains(then), "{effect:?}");
        }
    }

    #[test]
    fn a_form_says_what_each_change_does_and_nothing_of_the_rest() {
        let (people, audit, email) =
            (r#"["shop","people",""]"#, r#"["shop","audit",""]"#, r#"["shop","people","email"]"#);
        check(&[("handling", "ALLOW_ALL"), (people, "in"), (audit, "out"), (email, "in")], &[]);
        check(&[(email, "out")], &[("shop.people.email: in becomes out", "have NULL")]);
        check(&[(email, "hash")], &[("shop.people.email: in becomes hash", "text for good")]);
        check(&[(audit, "in")], &[("shop.audit: out becomes in", "only filled in by a re-sync")]);
        check(&[(people, "out")], &[("shop.people: in becomes out", "stays as it is")]);
        check(
            &[("handling", "BLOCK_ALL")],
            &[("Schema changes: ALLOW_ALL becomes BLOCK_ALL", "until you let them in")],
        );
        check(&[("handling", "NONSENSE"), ("[]", "out"), (email, "nonsense"), (r#"["a","b","c"]"#, "out")], &[]);
    }

    #[test]
    fn what_is_previewed_is_what_is_stored() {
        let form = [
            ("handling".to_owned(), "BLOCK_ALL".to_owned()),
            (r#"["shop","people","email"]"#.to_owned(), "hash".to_owned()),
        ];
        let wanted = wanted_of(&schema(), &form);
        let again: Wanted = serde_json::from_str(&serde_json::to_string(&wanted).expect("JSON")).expect("JSON");
        let change = change_of(&again).expect("a change");
        assert_eq!(
            (change.handling, change.items[0].enabled, change.items[0].hashed),
            (Some("BLOCK_ALL"), Some(true), Some(true))
        );
        assert!(change_of(&Wanted { handling: Some("x".to_owned()), ..Wanted::default() }).is_err());
    }

    #[test]
    fn no_text_becomes_markup_and_keys_cannot_be_blocked() {
        let mut schema = schema();
        schema.items.push(item(EVIL, "", true));
        schema.items.push(item(EVIL, EVIL, true));
        let page = |asked: &Asked| {
            let tables = assemble(&super::super::overview::tests::connection_of(EVIL), &schema, asked);
            tables.render().expect("renders")
        };
        let html = page(&Asked { q: EVIL.to_owned(), ..Asked::default() });
        assert!(html.contains("&#60;script&#62;alert(1)") && !html.contains("<script>"), "{html}");
        let html = page(&Asked { q: "EMAIL".to_owned(), ..Asked::default() });
        assert!(html.contains("shop.people") && !html.contains("shop.audit"), "{html}");
        assert_eq!(html.matches(">is blocked<").count(), 2, "of the table and of one column: {html}");
        let preview = Preview {
            id: EVIL.to_owned(),
            connection: EVIL.to_owned(),
            effects: vec![Effect { what: EVIL.to_owned(), then: "x" }],
            change: EVIL.to_owned(),
        };
        assert!(!preview.render().expect("renders").contains("<script>"));
    }
}
