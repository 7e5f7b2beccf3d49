//! Which tables and columns of a connection arrive, and which arrive hashed: decided here, between the connector and the
//! window, so that nothing of what is blocked is folded, spilled, sealed or counted. The connector never learns of it.
//!
//! Rules name tables and columns as the destination does, as the source does, or by the hashes that this host tells
//! instead of names. What no rule names follows from the change handling: what the destination had when the sync began is
//! known and goes on, the rest is new.

mod cut;
mod rules;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use inshore_columnar::hash::SALT_BYTES;
use inshore_columnar::schema::{COLUMNS_MAX, FILE_PATH_COLUMN, TABLES_MAX};
use inshore_columnar::{DataType, RowBatch, TableName, TableSchema};
use zeroize::Zeroizing;

pub(super) use self::cut::Cut;
pub(crate) use self::rules::{ColumnRule, Rules, SchemaRule, TableRule};
use crate::batch;

/// The secret of hashed columns.
#[derive(Clone)]
pub(crate) struct Salt(Arc<Zeroizing<[u8; SALT_BYTES]>>);

/// What happens to what is new at the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Handling {
    /// New tables and columns come in.
    #[default]
    AllowAll,
    /// New columns of known tables come in.
    AllowColumns,
    /// Nothing new comes in unless a rule enables it.
    BlockAll,
}

/// The hash that stands for a schema, a table or a column in rules that were written without their names.
pub(crate) type Spell = Arc<dyn Fn(&str, Option<&str>, Option<&str>) -> String + Send + Sync>;

/// A selection that this host cannot carry out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the schema configuration blocks {column}, a key column of {table}: hash it, or block the table")]
    KeyBlocked { table: TableName, column: String },
    #[error("the schema configuration hashes columns and this host has no salt")]
    NoSalt,
    #[error(transparent)]
    Batch(#[from] batch::Error),
}

/// How a column arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    In,
    Hash,
    Out,
}

/// The rules of one sync, and what they came to for each table the connector named.
#[derive(Default)]
pub(crate) struct Selection {
    handling: Handling,
    rules: Rules,
    spell: Option<Spell>,
    salt: Option<Salt>,
    tables: BTreeMap<TableName, Table>,
    blocked_rows: u64,
}

/// A table as this sync saw it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) enabled: bool,
    /// Whether the destination had it when the sync began.
    pub(crate) known: bool,
    pub(crate) key: Vec<String>,
    pub(crate) columns: HashMap<String, Decision>,
}

/// The same with what decides on columns that are not seen yet.
#[derive(Debug, Default)]
struct Table {
    seen: Seen,
    rule: TableRule,
    known_columns: HashSet<String>,
}

/// The schema of a table as the destination has it.
pub(super) type Current<'a> = &'a dyn Fn(&TableName) -> Option<TableSchema>;

impl Salt {
    pub(crate) fn new(bytes: [u8; SALT_BYTES]) -> Salt {
        Salt(Arc::new(Zeroizing::new(bytes)))
    }

    fn bytes(&self) -> &[u8; SALT_BYTES] {
        &self.0
    }
}

impl Selection {
    /// `spell` is for rules that may hold hashes instead of names.
    pub(crate) fn new(
        handling: Handling,
        rules: Rules,
        spell: Option<Spell>,
        salt: Option<Salt>,
    ) -> Result<Selection, Error> {
        if rules.hash() && salt.is_none() {
            return Err(Error::NoSalt);
        }
        Ok(Selection { handling, rules, spell, salt, ..Selection::default() })
    }

    /// The declared tables that arrive, without the columns that do not.
    pub(super) fn declare(
        &mut self,
        tables: Vec<TableSchema>,
        current: Current<'_>,
    ) -> Result<Vec<TableSchema>, Error> {
        let mut declared = Vec::with_capacity(tables.len());
        for mut schema in tables {
            if !self.lets_in(&schema.name, current)? {
                self.note(&schema)?;
                continue;
            }
            let decisions = self.decide(&schema)?;
            let mut decisions = decisions.into_iter();
            schema.columns.retain_mut(|column| match decisions.next() {
                Some(Decision::Out) => false,
                Some(Decision::Hash) => {
                    column.data_type = DataType::String;
                    true
                }
                _ => true,
            });
            declared.push(schema);
        }
        Ok(declared)
    }

    /// What to cut off these rows; `None` when nothing of them arrives.
    pub(super) fn rows(&mut self, batch: &RowBatch, current: Current<'_>) -> Result<Option<Cut>, Error> {
        batch.validate().map_err(batch::Error::from)?;
        if !self.lets_in(&batch.table, current)? {
            self.note(&batch.schema)?;
            self.blocked_rows += batch.row_count() as u64;
            return Ok(None);
        }
        let columns = self.decide(&batch.schema)?;
        let untyped = batch.untyped.iter().map(|name| self.column(&batch.table, &batch.schema.key, name));
        let untyped = untyped.collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Cut::new(columns, untyped, self.salt.clone())))
    }

    /// Whether anything of the table arrives.
    pub(super) fn lets_in(&mut self, table: &TableName, current: Current<'_>) -> Result<bool, Error> {
        if let Some(table) = self.tables.get(table) {
            return Ok(table.seen.enabled);
        }
        if self.tables.len() > TABLES_MAX {
            return Err(batch::Error::TooManyTables { tables_max: TABLES_MAX }.into());
        }
        let at_destination = current(table);
        let rule = self.rules.of_table(table, self.spell.as_ref());
        let known = at_destination.is_some();
        let enabled = rule.enabled.unwrap_or(known || self.handling == Handling::AllowAll);
        let known_columns = at_destination.into_iter().flat_map(|schema| schema.columns);
        let known_columns = known_columns.map(|column| column.name).collect();
        let seen = Seen { enabled, known, ..Seen::default() };
        self.tables.insert(table.clone(), Table { seen, rule, known_columns });
        Ok(enabled)
    }

    /// Columns that arrive as text whatever their type is.
    pub(super) fn hashed(&self, table: &TableName) -> impl Iterator<Item = &String> {
        let found = self.salt.as_ref().and_then(|_| self.tables.get(table));
        let columns = found.into_iter().flat_map(|table| &table.seen.columns);
        columns.filter(|(_, decision)| **decision == Decision::Hash).map(|(name, _)| name)
    }

    /// Rows of blocked tables.
    pub(crate) fn blocked_rows(&self) -> u64 {
        self.blocked_rows
    }

    /// The tables that the connector named, with what became of them.
    pub(crate) fn into_seen(self) -> BTreeMap<TableName, Seen> {
        self.tables.into_iter().map(|(name, table)| (name, table.seen)).collect()
    }

    fn decide(&mut self, schema: &TableSchema) -> Result<Vec<Decision>, Error> {
        schema.columns.iter().map(|column| self.column(&schema.name, &schema.key, &column.name)).collect()
    }

    /// Names of a blocked table are told like others.
    fn note(&mut self, schema: &TableSchema) -> Result<(), Error> {
        self.decide(schema).map(drop)
    }

    fn column(&mut self, table: &TableName, key: &[String], name: &str) -> Result<Decision, Error> {
        let Some(Table { seen, rule, known_columns }) = self.tables.get_mut(table) else { return Ok(Decision::Out) };
        if let Some(decision) = seen.columns.get(name) {
            return Ok(*decision);
        }
        if seen.key.is_empty() {
            seen.key = key.to_vec();
        }
        let is_key = key.iter().any(|column| column == name);
        let rule = rules::of_column(rule, table, name, self.spell.as_ref());
        let is_new = seen.known && !known_columns.contains(name);
        let decision = match rule {
            _ if name == FILE_PATH_COLUMN => Decision::In,
            ColumnRule { enabled: Some(false), .. } if is_key && seen.enabled => {
                seen.columns.insert(name.to_owned(), Decision::Out);
                return Err(Error::KeyBlocked { table: table.clone(), column: name.to_owned() });
            }
            ColumnRule { enabled: Some(false), .. } => Decision::Out,
            ColumnRule { enabled: None, .. } if is_new && !is_key && self.handling == Handling::BlockAll => {
                Decision::Out
            }
            ColumnRule { hashed: true, .. } => Decision::Hash,
            ColumnRule { .. } => Decision::In,
        };
        // A table of more columns is refused where it arrives; a blocked one only costs the decision again.
        if seen.columns.len() < COLUMNS_MAX {
            seen.columns.insert(name.to_owned(), decision);
        }
        Ok(decision)
    }
}

#[cfg(test)]
mod tests;
