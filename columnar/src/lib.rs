//! The type system: which type a value has, how types widen, how names are spelled at the destination, and how rows
//! become Arrow. Shared by the agent and the connector's process. No tokio, no clock, no files.
//!
//! Reading order: [`types`] and [`schema`] are the nouns, [`widen`] and [`render`] the rules, [`name`] the spelling,
//! [`builder`] turns values into a [`batch::RowBatch`], [`frame`] carries it between two processes.

pub mod batch;
pub mod builder;
pub mod frame;
pub mod hash;
pub mod inference;
pub mod lock;
pub mod name;
pub mod render;
pub mod schema;
pub mod temporal;
pub mod types;
pub mod widen;

pub use batch::RowBatch;
pub use builder::{Op, TableBuilder, Value};
pub use inference::Inference;
pub use name::Naming;
pub use schema::{Column, TableName, TableSchema};
pub use types::DataType;
pub use widen::ColumnFacts;
