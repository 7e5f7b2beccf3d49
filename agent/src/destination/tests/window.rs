//! Operations as a connector gives them, through the fold and into the table: the live rows are those of the plain
//! semantics, wherever windows are cut, processes restart and types widen.

use inshore_columnar::builder::{TableBuilder, Value};
use inshore_columnar::{Naming, Op};
use proptest::prelude::*;

use super::*;
use crate::batch::{BatchSettings, Window as Fold};

#[derive(Debug, Clone)]
enum Cell {
    Null,
    Int(i64),
    Half,
    Text,
}

#[derive(Debug, Clone)]
enum Action {
    Upsert(i64, Vec<(usize, Cell)>),
    Update(i64, Vec<(usize, Cell)>),
    Delete(i64),
    Truncate,
    /// A checkpoint: seal, write, commit; with or without a roll-forward, with or without a restart.
    Checkpoint {
        apply: bool,
        restart: bool,
    },
}

const COLUMNS: [&str; 3] = ["a", "b", "c"];

fn cells() -> impl Strategy<Value = Vec<(usize, Cell)>> {
    let cell = prop_oneof![
        2 => Just(Cell::Null),
        6 => any::<i16>().prop_map(|n| Cell::Int(n.into())),
        2 => Just(Cell::Int(1 << 40)),
        1 => Just(Cell::Int(i64::MAX)),
        2 => Just(Cell::Half),
        1 => Just(Cell::Text),
    ];
    prop::collection::btree_map(0..COLUMNS.len(), cell, 1..=COLUMNS.len()).prop_map(|cells| cells.into_iter().collect())
}

fn action() -> impl Strategy<Value = Action> {
    let key = || 0..10_i64;
    prop_oneof![
        8 => (key(), cells()).prop_map(|(key, cells)| Action::Upsert(key, cells)),
        5 => (key(), cells()).prop_map(|(key, cells)| Action::Update(key, cells)),
        3 => key().prop_map(Action::Delete),
        1 => Just(Action::Truncate),
        4 => (any::<bool>(), prop::bool::weighted(0.3)).prop_map(|(apply, restart)| Action::Checkpoint { apply, restart }),
    ]
}

impl Cell {
    fn value(&self) -> Value<'_> {
        match self {
            Cell::Null => Value::Null,
            Cell::Int(n) => Value::Int(*n),
            Cell::Half => Value::Float(0.5),
            Cell::Text => Value::Str("text"),
        }
    }

    fn text(&self) -> Text {
        match self {
            Cell::Null => None,
            Cell::Int(n) => some(n),
            Cell::Half => some("0.5"),
            Cell::Text => some("text"),
        }
    }
}

/// The connector's process and the fold of one job.
struct Job {
    builder: TableBuilder,
    fold: Fold,
    name: TableName,
}

impl Job {
    fn new(name: &TableName, spool: &std::path::Path) -> Job {
        let settings = BatchSettings {
            type_locked: false,
            memory_bytes_max: 4096,
            file_bytes_target: 2048,
            row_group_rows: 16,
            spool_dir: spool.to_owned(),
            spool_bytes_max: 1 << 30,
        };
        let builder = TableBuilder::new(name.clone(), &["id".to_owned()], &[], Naming::Source);
        Job { builder, fold: Fold::new(settings), name: name.clone() }
    }

    fn row(&mut self, op: Op, key: i64, cells: &[(usize, Cell)]) {
        self.builder.begin_row(op);
        let slot = self.builder.column_index("id");
        self.builder.set(slot, Value::Int(key)).unwrap();
        for (column, cell) in cells {
            let slot = self.builder.column_index(COLUMNS[*column]);
            self.builder.set(slot, cell.value()).unwrap();
        }
        self.builder.end_row().unwrap();
    }

    fn flush(&mut self) {
        if let Some(rows) = self.builder.finish() {
            self.fold.push(rows).unwrap();
        }
    }

    fn truncate(&mut self) {
        self.flush();
        self.fold.truncate(&self.name).unwrap();
    }

    async fn checkpoint(&mut self, lake: &mut Lake, synced_at_ms: i64) {
        self.flush();
        let mut sealed = Vec::new();
        let current = |table: &TableName| lake.current(table);
        let mut sink = |file| {
            sealed.push(file);
            Ok(())
        };
        let tables = self.fold.seal(&current, synced_at_ms, synced_at_ms, &mut sink).unwrap();
        let mut files = Vec::new();
        for file in sealed {
            files.push(lake.write(file).await.unwrap());
        }
        lake.commit(CommitRequest { state: "{}".to_owned(), synced_at_ms, tables, files }).await.unwrap();
    }
}

/// Live rows by the plain semantics; a deleted row keeps its values for nobody.
fn model(actions: &[Action]) -> BTreeMap<i64, BTreeMap<usize, Text>> {
    let mut rows: BTreeMap<i64, BTreeMap<usize, Text>> = BTreeMap::new();
    let texts = |cells: &[(usize, Cell)]| cells.iter().map(|(c, cell)| (*c, cell.text())).collect::<BTreeMap<_, _>>();
    for action in actions {
        match action {
            Action::Upsert(key, cells) => drop(rows.insert(*key, texts(cells))),
            Action::Update(key, cells) => {
                if let Some(row) = rows.get_mut(key) {
                    row.extend(texts(cells));
                }
            }
            Action::Delete(key) => drop(rows.remove(key)),
            Action::Truncate => rows.clear(),
            Action::Checkpoint { .. } => {}
        }
    }
    rows
}

async fn run(actions: Vec<Action>) {
    let store = Scripted::new().store();
    let spool = tempfile::tempdir().unwrap();
    let name = table("orders");
    let mut job = Job::new(&name, spool.path());
    let mut lake = open(&store, 1).await.unwrap();
    let mut now_ms = 1_000_000;
    let end = Action::Checkpoint { apply: true, restart: false };
    for action in actions.iter().chain([&end]) {
        match action {
            Action::Upsert(key, cells) => job.row(Op::Upsert, *key, cells),
            Action::Update(key, cells) => job.row(Op::Update, *key, cells),
            Action::Delete(key) => job.row(Op::Delete, *key, &[]),
            Action::Truncate => job.truncate(),
            Action::Checkpoint { apply, restart } => {
                now_ms += 1000;
                job.checkpoint(&mut lake, now_ms).await;
                if *apply {
                    lake.apply().await.unwrap();
                }
                if *restart {
                    lake = open(&store, 1).await.unwrap();
                    job = Job::new(&name, spool.path());
                }
            }
        }
    }
    let rows = read(&store, &name).await.into_iter().filter(|(_, row)| !row.deleted);
    let value = |row: &Row, column: &str| row.values.get(column).cloned().flatten();
    let found: BTreeMap<i64, Vec<Text>> =
        rows.map(|(key, row)| (key, COLUMNS.iter().map(|column| value(&row, column)).collect())).collect();
    let expected: BTreeMap<i64, Vec<Text>> = model(&actions)
        .into_iter()
        .map(|(key, row)| (key, (0..COLUMNS.len()).map(|column| row.get(&column).cloned().flatten()).collect()))
        .collect();
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn operations_arrive_as_their_plain_meaning(actions in prop::collection::vec(action(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(run(actions));
    }
}
