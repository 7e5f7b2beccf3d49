//! Folds one commit window of operations into sealed Parquet files, in bounded memory.

mod sealed;

pub(crate) use self::sealed::{CurrentTable, SealedFile, SealedStep, SealedTable, StepOp};
