//! The commit protocol that joins connector, batch and destination.
//!
//! `fsm` decides what comes next and holds no IO; `policy` holds the rules that take values and time; `driver` performs
//! what the machine asks for; `selection` decides which tables and columns come in at all. The order of one checkpoint is: seal → write → commit (the only commit point) →
//! acknowledge → apply. Nothing is acknowledged before it is committed (DELIVERY E5).

mod driver;
mod fsm;
mod log_table;
mod policy;
mod resync;
mod secrets;
mod selection;

pub(crate) use driver::{Error, Intake, Log, Summary, drive};
pub(crate) use fsm::Verdict;
pub(crate) use log_table::LogTable;
pub(crate) use resync::{Scope, begin};
pub(crate) use secrets::Secrets;
pub(crate) use selection::{
    ColumnRule, Decision, Error as SelectionError, Handling, Rules, Salt, SchemaRule, Seen, Selection, Spell, TableRule,
};
