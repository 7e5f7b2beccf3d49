//! The independent word on what arrived: `tests/python/oracle.py`, which shares no code with the product.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::{python, root};

/// What the oracle counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub rows: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub changed: u64,
}

/// Compares the shop's tables in `lake` with its database.
pub fn compare(lake: &Path, schema: &str, database: &Path, reader: &str) -> Verdict {
    let output = Command::new(python())
        .arg(root().join("tests/python/oracle.py"))
        .arg("--lake")
        .arg(lake)
        .args(["--connection-schema", schema, "--source"])
        .arg(database)
        .args(["--reader", reader, "--json"])
        .output()
        .expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("the oracle answers in JSON ({error}): {text}\n{}", String::from_utf8_lossy(&output.stderr))
    });
    let count = |name: &str| value[name].as_u64().unwrap_or_else(|| panic!("{name} in {value}"));
    Verdict { rows: count("rows"), lost: count("lost"), duplicated: count("duplicated"), changed: count("changed") }
}

/// Fails unless every row is there once and equal to its source.
pub fn assert_exact(lake: &Path, schema: &str, database: &Path, what: &str) -> Verdict {
    let verdict = compare(lake, schema, database, "deltalake");
    assert!(verdict.rows > 0, "{what}: the oracle saw no rows");
    let exact = Verdict { lost: 0, duplicated: 0, changed: 0, ..verdict };
    assert_eq!(verdict, exact, "{what}");
    verdict
}

/// Rows of one table, as deltalake counts them.
pub fn count(lake: &Path, schema: &str, table: &str) -> u64 {
    let script = "import sys, deltalake; print(deltalake.DeltaTable(sys.argv[1]).to_pyarrow_table().num_rows)";
    let output =
        Command::new(python()).args(["-c", script]).arg(lake.join(schema).join(table)).output().expect("Python runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().parse().unwrap_or_else(|_| panic!("a count: {text}{}", String::from_utf8_lossy(&output.stderr)))
}
