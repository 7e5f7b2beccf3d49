//! Random windows against a naive model of a table: a map from key to row.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::Value;

use super::readers::{check_with_other_readers, switch};
use super::*;

/// Columns appear in this order; the value column widens along these types.
const TYPES: [DataType; 4] = [DataType::Int, DataType::Long, DataType::Double, DataType::String];
const COLUMNS: [&str; 3] = ["a", "b", "c"];

/// One commit as it is drawn.
#[derive(Debug, Clone)]
struct Drawn {
    truncate: Option<i64>,
    upserts: BTreeMap<i64, [Option<i16>; 3]>,
    updates: BTreeMap<i64, (u8, [Option<i16>; 3])>,
    deletes: BTreeSet<i64>,
    widen: Option<usize>,
    add_column: bool,
    apply: bool,
    reopen: bool,
    /// Whether the indices beside the data files lose a byte.
    damage: bool,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let key = 0..24_i64;
    let values = || prop::array::uniform3(prop::option::of(any::<i16>()));
    (
        prop::option::weighted(0.15, 0..12_i64),
        prop::collection::btree_map(key.clone(), values(), 0..8),
        prop::collection::btree_map(key.clone(), (1..8_u8, values()), 0..6),
        prop::collection::btree_set(key, 0..4),
        prop::option::weighted(0.2, 0..3_usize),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.6),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(truncate, upserts, updates, deletes, widen, add_column, apply, reopen, damage)| Drawn {
            truncate,
            upserts,
            updates,
            deletes,
            widen,
            add_column,
            apply,
            reopen,
            damage,
        })
}

/// The columns of the moment and the table that a reader must see.
#[derive(Debug)]
struct Model {
    /// Numbers are looked up by themselves, texts by their hashes.
    key: DataType,
    types: Vec<usize>,
    rows: BTreeMap<i64, Row>,
}

impl Model {
    fn schema(&self, name: &TableName) -> TableSchema {
        let user = self.types.iter().zip(COLUMNS).map(|(level, column)| (column, TYPES[*level]));
        let columns: Vec<(&str, DataType)> = [("id", self.key)].into_iter().chain(user).collect();
        schema(name, &columns)
    }

    fn columns(&self) -> Vec<String> {
        COLUMNS.iter().take(self.types.len()).map(|name| (*name).to_owned()).collect()
    }

    fn grow(&mut self, drawn: &Drawn) {
        if self.types.is_empty() || (drawn.add_column && self.types.len() < COLUMNS.len()) {
            self.types.push(0);
            let name = COLUMNS[self.types.len() - 1].to_owned();
            self.rows.values_mut().for_each(|row| drop(row.values.insert(name.clone(), None)));
        }
        if let Some(level) = drawn.widen.and_then(|column| self.types.get_mut(column)) {
            *level = (*level + 1).min(TYPES.len() - 1);
        }
    }

    /// The window as the fold would seal it: a key of an upsert is in no other step.
    fn window(&self, drawn: &Drawn, now_ms: i64) -> Window {
        let columns = self.columns();
        let texts = |values: &[Option<i16>; 3]| values.map(|value| value.map(|value| value.to_string()));
        let row = |values: &[Option<i16>; 3]| columns.iter().cloned().zip(texts(values)).collect();
        let mut updates: BTreeMap<Vec<String>, BTreeMap<i64, Vec<Text>>> = BTreeMap::new();
        for (key, (mask, values)) in drawn.updates.iter().filter(|(key, _)| !drawn.upserts.contains_key(key)) {
            let set: Vec<usize> = (0..columns.len()).filter(|column| mask & (1 << column) != 0).collect();
            let names = set.iter().map(|column| columns[*column].clone()).collect();
            let values = set.iter().map(|column| texts(values)[*column].clone()).collect();
            updates.entry(names).or_default().insert(*key, values);
        }
        Window {
            truncate_before_ms: drawn.truncate.map(|back| now_ms - 100 * back),
            upserts: drawn.upserts.iter().map(|(key, values)| (*key, row(values))).collect(),
            updates: updates.into_iter().collect(),
            deletes: drawn.deletes.iter().copied().filter(|key| !drawn.upserts.contains_key(key)).collect(),
        }
    }

    fn take(&mut self, window: &Window, synced_ms: i64) {
        if let Some(bound) = window.truncate_before_ms {
            self.rows.values_mut().filter(|row| row.synced_ms < bound).for_each(|row| row.deleted = true);
        }
        for (key, values) in &window.upserts {
            self.rows.insert(*key, Row { values: values.clone(), deleted: false, synced_ms });
        }
        for (columns, rows) in &window.updates {
            for (key, values) in rows {
                let Some(row) = self.rows.get_mut(key).filter(|row| !row.deleted) else { continue };
                row.values.extend(columns.iter().cloned().zip(values.clone()));
                row.synced_ms = synced_ms;
            }
        }
        for key in &window.deletes {
            let Some(row) = self.rows.get_mut(key) else { continue };
            (row.deleted, row.synced_ms) = (true, synced_ms);
        }
    }
}

async fn damage_indices(store: &Store) {
    for object in store.list(&Path::from("shop/orders/_index"), None).await.unwrap() {
        let mut bytes = store.get(&object.location).await.unwrap().unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        store.overwrite(&object.location, bytes.into()).await.unwrap();
    }
}

/// Commits what was drawn, from an instant on, and leaves it applied and collected.
async fn replay(store: &Store, terms: &Terms, name: &TableName, drawn: &(DataType, Vec<Drawn>), from_ms: i64) -> Model {
    let open = || Lake::open(store.clone(), terms.clone(), writer("agt_1", 1));
    let mut model = Model { key: drawn.0, types: Vec::new(), rows: BTreeMap::new() };
    let mut lake = open().await.unwrap();
    let mut now_ms = from_ms;
    for drawn in &drawn.1 {
        now_ms += 100;
        model.grow(drawn);
        let window = model.window(drawn, now_ms);
        model.take(&window, now_ms);
        commit(&mut lake, &model.schema(name), &window, now_ms, "{}").await.unwrap();
        if drawn.apply {
            lake.apply().await.unwrap();
        }
        if drawn.damage {
            damage_indices(store).await;
        }
        if drawn.reopen {
            lake = open().await.unwrap();
            lake.collect_garbage().await.unwrap();
        }
    }
    lake.apply().await.unwrap();
    assert_eq!(read(store, name).await, model.rows);
    assert_eq!(lake.current(name).unwrap().schema, model.schema(name));
    lake.collect_garbage().await.unwrap();
    assert_eq!(read(store, name).await, model.rows, "after garbage collection");
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_windows_give_the_table_of_the_model(
        key in prop_oneof![Just(DataType::Long), Just(DataType::String)],
        formats in prop_oneof![Just(Formats::Both), Just(Formats::Iceberg), Just(Formats::Delta)],
        commits in prop::collection::vec(drawn(), 1..10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (store, terms) = (Scripted::new().store(), Terms { formats, marks: formats == Formats::Iceberg, ..terms() });
        runtime.block_on(replay(&store, &terms, &table("orders"), &(key, commits), 1_000_000));
    }
}

/// The same sequences each time, over another store.
pub(super) async fn run_some(stores: impl IntoIterator<Item = Store>) {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for store in stores {
        let commits = prop::collection::vec(drawn(), 1..6).new_tree(&mut runner).unwrap().current();
        replay(&store, &terms(), &table("orders"), &(DataType::Long, commits), 1_000_000).await;
    }
}

/// A table's rows as `tests/python/read_tables.py` prints them.
fn printed(model: &Model) -> Value {
    let cell = |data_type: DataType, text: &Text| match (data_type, text) {
        (_, None) => Value::Null,
        (DataType::Int | DataType::Long, Some(text)) => format!("i:{text}").into(),
        (DataType::Double, Some(text)) => format!("f:{text}.0").into(),
        (_, Some(text)) => format!("s:{text}").into(),
    };
    let row = |(key, row): (&i64, &Row)| {
        let synced = chrono::DateTime::from_timestamp_millis(row.synced_ms).unwrap();
        let columns = model.columns();
        let values = model.types.iter().zip(&columns).map(|(level, name)| cell(TYPES[*level], &row.values[name]));
        let system = [format!("b:{}", row.deleted), format!("T:{}", synced.format("%Y-%m-%dT%H:%M:%S%.6fZ"))];
        let cells = [cell(model.key, &some(key))].into_iter().chain(values).chain(system.map(Value::from));
        cells.collect::<Vec<Value>>()
    };
    let mut rows: Vec<Vec<Value>> = model.rows.iter().map(row).collect();
    if model.key == DataType::String {
        rows.sort_by_key(|row| row[0].as_str().unwrap_or_default().to_owned());
    }
    Value::from(rows.into_iter().map(Value::from).collect::<Vec<_>>())
}

/// `INSHORE_LAKE_SEQUENCES` names how many.
#[tokio::test]
async fn every_reader_of_every_format_sees_the_rows_of_the_model() {
    let count = switch("INSHORE_LAKE_SEQUENCES").map_or(9, |count| count.to_str().unwrap().parse().unwrap());
    let temporary = tempfile::tempdir().unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (prop_oneof![Just(DataType::Long), Just(DataType::String)], prop::collection::vec(drawn(), 4..12));
    let all = [Formats::Both, Formats::Iceberg, Formats::Delta];
    let mut expected = [(); 3].map(|()| serde_json::Map::new());
    for number in 0..count {
        let (place, formats) = (number % all.len(), all[number % all.len()]);
        let folder = temporary.path().join(format!("{formats:?}"));
        std::fs::create_dir_all(&folder).unwrap();
        let root: url::Url = url::Url::from_directory_path(&folder).unwrap();
        let store = Store::open(&root, false).unwrap();
        let root = format!("file://{}", folder.display()).into();
        let terms = Terms { root, formats, marks: formats == Formats::Iceberg, ..terms() };
        let drawn = strategy.new_tree(&mut runner).unwrap().current();
        let name = table(&format!("table_{number}"));
        let from_ms = 1_000_000 + 1_000_000 * i64::try_from(number).unwrap();
        let model = replay(&store, &terms, &name, &drawn, from_ms).await;
        expected[place].insert(format!("{}/{}", name.schema, name.table), printed(&model));
    }
    for (formats, expected) in all.iter().zip(expected) {
        let folder = temporary.path().join(format!("{formats:?}"));
        std::fs::write(folder.join("expected.json"), Value::from(expected).to_string()).unwrap();
        if let Some(python) = switch("INSHORE_TEST_PYTHON") {
            check_with_other_readers(&python, &folder);
        }
    }
}
