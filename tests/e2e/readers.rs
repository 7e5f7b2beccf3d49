//! Independent readers agree with the source: deltalake, DuckDB, Polars and pyarrow, values and types.

use inshore_tests::oracle;
use inshore_tests::shop;
use inshore_tests::stack::{SCHEMA, Stack};

#[test]
fn every_reader_sees_the_source_before_and_after_it_changed() {
    let stack = Stack::start();
    let (connection, database) = stack.shop(3_000, 11);
    stack.sync(&connection);
    for changed in [false, true] {
        for reader in ["deltalake", "duckdb", "polars", "pyarrow"] {
            let verdict = oracle::compare(&stack.lake, SCHEMA, &database, reader);
            let what = format!("{reader}, source changed: {changed}");
            assert!(verdict.rows > 2_900, "{what}: {verdict:?}");
            assert_eq!((verdict.lost, verdict.duplicated, verdict.changed), (0, 0, 0), "{what}");
        }
        if !changed {
            shop::change(&database, 11);
            stack.sync(&connection);
        }
    }
}
