//! What a connection's configuration says of single schemas, tables and columns, and how names find their rules. Where two
//! rules meet in one name, the stricter one counts.

use std::collections::BTreeMap;

use inshore_columnar::name::{rename_column, rename_table};
use inshore_columnar::{Naming, TableName};

use super::Spell;

/// By the name of the schema, or the hash that stands for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules(pub(crate) BTreeMap<String, SchemaRule>);

#[derive(Clone, Debug, Default)]
pub(crate) struct SchemaRule {
    pub(crate) enabled: Option<bool>,
    pub(crate) tables: BTreeMap<String, TableRule>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TableRule {
    pub(crate) enabled: Option<bool>,
    pub(crate) columns: BTreeMap<String, ColumnRule>,
}

/// `enabled` absent: as the change handling says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ColumnRule {
    pub(crate) enabled: Option<bool>,
    pub(crate) hashed: bool,
}

fn stricter(one: Option<bool>, other: Option<bool>) -> Option<bool> {
    match (one, other) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (one, other) => one.or(other),
    }
}

impl ColumnRule {
    fn join(&mut self, other: ColumnRule) {
        self.enabled = stricter(self.enabled, other.enabled);
        self.hashed |= other.hashed;
    }
}

impl TableRule {
    fn join(&mut self, other: &TableRule) {
        self.enabled = stricter(self.enabled, other.enabled);
        for (name, rule) in &other.columns {
            self.columns.entry(name.clone()).or_default().join(*rule);
        }
    }
}

impl Rules {
    /// Adds to each name of a source the one that the destination gives it, so that either finds the rule.
    pub(crate) fn renamed(mut self, naming: Naming) -> Rules {
        for schema in self.0.values_mut() {
            for table in schema.tables.values_mut() {
                for (name, rule) in table.columns.clone() {
                    table.columns.entry(rename_column(&name, naming)).or_default().join(rule);
                }
            }
            for (name, rule) in schema.tables.clone() {
                schema.tables.entry(rename_table(&name, naming)).or_default().join(&rule);
            }
        }
        self
    }

    /// Whether any column is to be hashed.
    pub(crate) fn hash(&self) -> bool {
        let mut tables = self.0.values().flat_map(|schema| schema.tables.values());
        tables.any(|table| table.columns.values().any(|column| column.hashed))
    }

    /// Everything that is said of a table. A blocked schema blocks its tables.
    pub(super) fn of_table(&self, name: &TableName, spell: Option<&Spell>) -> TableRule {
        let mut found = TableRule::default();
        let TableName { schema, table } = name;
        for rules in both(&self.0, schema, || spell.map(|spell| spell(schema, None, None))) {
            for rule in both(&rules.tables, table, || spell.map(|spell| spell(schema, Some(table), None))) {
                found.join(rule);
            }
            if rules.enabled == Some(false) {
                found.enabled = Some(false);
            }
        }
        found
    }
}

pub(super) fn of_column(table: &TableRule, name: &TableName, column: &str, spell: Option<&Spell>) -> ColumnRule {
    let mut found = ColumnRule::default();
    let hash = || spell.map(|spell| spell(&name.schema, Some(&name.table), Some(column)));
    both(&table.columns, column, hash).for_each(|rule| found.join(*rule));
    found
}

/// What stands under the name, and what under its hash.
fn both<'a, T>(
    rules: &'a BTreeMap<String, T>,
    name: &str,
    hash: impl FnOnce() -> Option<String>,
) -> std::iter::Flatten<std::array::IntoIter<Option<&'a T>, 2>> {
    let hash = if rules.is_empty() { None } else { hash() };
    [rules.get(name), hash.and_then(|hash| rules.get(&hash))].into_iter().flatten()
}
