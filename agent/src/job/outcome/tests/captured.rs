//! What goes up of the tables that a connector named.

use std::collections::BTreeMap;

use inshore_columnar::TableName;

use super::super::{CAPTURE_BYTES_MAX, captured};
use crate::fixture;
use crate::report::Labels;
use crate::sync::{Decision, Seen};

fn seen(known: bool, columns: &[(&str, Decision)]) -> Seen {
    let columns = columns.iter().map(|(name, decision)| ((*name).to_owned(), *decision)).collect();
    Seen { enabled: true, known, key: vec!["id".to_owned()], columns }
}

fn told(labels: &Labels, generation: u64, tables: BTreeMap<TableName, Seen>) -> (serde_json::Value, Vec<String>) {
    let attempt = fixture::spec("job_1", generation).job_ref();
    let captured = captured(labels, &attempt, &tables).expect("tables");
    let names = captured.tables.iter().map(|table| table.table.as_str().to_owned()).collect();
    (serde_json::to_value(captured).expect("JSON"), names)
}

#[test]
fn names_go_up_where_the_policy_opens_them_and_hashes_elsewhere() {
    let columns = [("id", Decision::Hash), ("email", Decision::Out), ("note", Decision::In)];
    let tables = || BTreeMap::from([(TableName::new("shop", "people"), seen(false, &columns))]);
    let (open, _) = told(&Labels::Names, 1, tables());
    let expected = serde_json::json!({"tables": [{"schema": "shop", "table": "people", "enabled": true, "columns": [
        {"column": "email", "enabled": false}, {"column": "id", "enabled": true, "key": true},
        {"column": "note", "enabled": true},
    ]}]});
    assert_eq!(open, expected);
    let (hashed, _) = told(&Labels::Hashed { key: [1; 32] }, 1, tables());
    let text = hashed.to_string();
    assert!(["shop", "people", "email", "note"].iter().all(|name| !text.contains(name)), "{text}");
    assert_eq!(hashed["label_key"].as_str().map(str::len), Some(32));
    assert_eq!(hashed["tables"][0]["columns"].as_array().map(Vec::len), Some(3));
    assert!(captured(&Labels::Names, &fixture::spec("job_1", 1).job_ref(), &BTreeMap::new()).is_none());
}

#[test]
fn beyond_the_limit_new_tables_come_first_and_the_others_take_turns() {
    let wide: Vec<String> = (0..400).map(|number| format!("a_column_with_a_name_{number:05}")).collect();
    let columns: Vec<_> = wide.iter().map(|name| (name.as_str(), Decision::In)).collect();
    let mut tables = BTreeMap::new();
    let all = |tables: &mut BTreeMap<_, _>| {
        tables.clear();
        for number in 0..40 {
            tables.insert(TableName::new("shop", format!("t{number:02}")), seen(number != 39, &columns));
        }
        std::mem::take(tables)
    };
    let mut ever = std::collections::BTreeSet::new();
    for generation in 1..=40 {
        let (captured, names) = told(&Labels::Names, generation, all(&mut tables));
        assert!(captured.to_string().len() <= CAPTURE_BYTES_MAX && captured["cut"] == true, "{}", names.len());
        assert_eq!((names[0].as_str(), names.len() < 40), ("t39", true), "{names:?}");
        ever.extend(names);
    }
    assert_eq!(ever.len(), 40, "every table is told in time");
}
