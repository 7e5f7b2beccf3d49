//! How the type of an undeclared column follows from Python's values. A setting of the connection.

use serde::{Deserialize, Serialize};

/// Which values have a type of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inference {
    /// As the original runtime, except where that loses digits.
    #[default]
    Compatible,
    /// Exactly as the original runtime: floats have 32 bits, and so have integers from 2^63 on and -2^63.
    Strict,
    /// Decimals, dates, datetimes and numpy's scalars too have their types.
    Rich,
}
