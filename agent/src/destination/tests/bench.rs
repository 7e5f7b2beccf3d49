//! The lake's share of a sync, for measuring: rows of Parquet files go through the window, the chain and the roll-forward
//! into a local lake. `tests/bench` runs it by name, in a process of its own, in a release build, and says by environment what
//! to move; without, it moves a few rows, so that it is known to work.

use std::fs::File;
use std::path::{Path as FilePath, PathBuf};

use arrow::array::UInt8Array;
use arrow::datatypes::{DataType as Arrow, Field, TimeUnit};
use inshore_columnar::RowBatch;
use inshore_columnar::batch::OP_COLUMN;
use inshore_columnar::builder::Op;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::batch::{BatchSettings, FILE_BYTES_TARGET, ROW_GROUP_ROWS, Window};
use crate::destination::LakeSettings;
use crate::destination::lake::files::{FileReader, FileWriter};

const SPOOL_BYTES_MAX: u64 = 64 << 30;
const MEMORY_BYTES_MAX: u64 = 128 << 20;

/// What to move, and where to.
struct Job {
    root: PathBuf,
    /// A Parquet file, or a folder of them.
    rows: PathBuf,
    key: String,
    work: Work,
    formats: Formats,
}

#[derive(Clone, Copy)]
enum Work {
    Move(Op),
    /// Decodes and encodes the table's files: what no rewriting of them can do without.
    Floor,
}

#[expect(clippy::disallowed_methods, reason = "what is measured comes from who measures")]
fn asked() -> Option<Job> {
    let setting = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let root = PathBuf::from(std::env::var_os("INSHORE_BENCH_LAKE")?);
    let (rows, work) = (PathBuf::from(setting("INSHORE_BENCH_ROWS")), work(&setting("INSHORE_BENCH_OP")));
    let formats = match setting("INSHORE_BENCH_FORMATS").as_str() {
        "delta" => Formats::Delta,
        "iceberg" => Formats::Iceberg,
        _ => Formats::Both,
    };
    Some(Job { root, rows, key: setting("INSHORE_BENCH_KEY"), work, formats })
}

fn data_type(arrow: &Arrow) -> DataType {
    match arrow {
        Arrow::Boolean => DataType::Boolean,
        Arrow::Int32 => DataType::Int,
        Arrow::Int64 => DataType::Long,
        Arrow::Float64 => DataType::Double,
        Arrow::Timestamp(TimeUnit::Microsecond, Some(_)) => DataType::UtcDatetime,
        Arrow::Utf8 => DataType::String,
        other => panic!("the bench has no column of type {other}"),
    }
}

fn work(text: &str) -> Work {
    match text {
        "upsert" => Work::Move(Op::Upsert),
        "delete" => Work::Move(Op::Delete),
        "floor" => Work::Floor,
        other => panic!("{other} is no operation of the bench"),
    }
}

/// The rows of a file as the connector's process hands them over.
fn batches(file: &FilePath, name: &TableName, key: &str, op: Op) -> impl Iterator<Item = RowBatch> {
    let (name, key) = (name.clone(), key.to_owned());
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
    let reader = reader.with_batch_size(ROW_GROUP_ROWS / 8).build().unwrap();
    reader.map(move |rows| {
        let rows = rows.unwrap();
        let fields = rows.schema().fields().clone();
        let columns = fields.iter().map(|field| Column::new(field.name(), data_type(field.data_type())));
        let schema = TableSchema { name: name.clone(), key: vec![key.clone()], columns: columns.collect() };
        let ops: ArrayRef = Arc::new(UInt8Array::from(vec![op.code(); rows.num_rows()]));
        let fields: Vec<Field> = fields
            .iter()
            .map(|field| Field::new(field.name(), field.data_type().clone(), true))
            .chain([Field::new(OP_COLUMN, Arrow::UInt8, false)])
            .collect();
        let arrays = rows.columns().iter().cloned().chain([ops]).collect();
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
        RowBatch { table: name.clone(), schema, rows, sets: Vec::new(), untyped: Vec::new() }
    })
}

/// One checkpoint per file.
async fn commit(lake: &mut Lake, window: &mut Window, synced_at_ms: i64) {
    let mut sealed = Vec::new();
    let current = |table: &TableName| lake.current(table);
    let mut sink = |file| {
        sealed.push(file);
        Ok(())
    };
    let tables = window.seal(&current, synced_at_ms, synced_at_ms, &mut sink).unwrap();
    let mut files = Vec::new();
    for file in sealed {
        files.push(lake.write(file).await.unwrap());
    }
    lake.commit(CommitRequest { state: "{}".to_owned(), synced_at_ms, tables, files }).await.unwrap();
    lake.apply().await.unwrap();
}

async fn perform(job: Job) {
    let spool = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(&job.root).unwrap();
    let root = url::Url::from_directory_path(&job.root).unwrap();
    let settings = LakeSettings { formats: job.formats, ..LakeSettings::new(root) };
    let mut lake = crate::destination::open(&settings, writer("agt_1", 1)).await.unwrap();
    let op = match job.work {
        Work::Move(op) => op,
        Work::Floor => return floor(&lake, &job.root),
    };
    let mut window = Window::new(BatchSettings {
        memory_bytes_max: MEMORY_BYTES_MAX,
        file_bytes_target: FILE_BYTES_TARGET,
        row_group_rows: ROW_GROUP_ROWS,
        spool_dir: spool.path().to_owned(),
        type_locked: false,
        spool_bytes_max: SPOOL_BYTES_MAX,
    });
    let files = if job.rows.is_dir() {
        let entries = std::fs::read_dir(&job.rows).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> = entries.collect();
        files.sort();
        files
    } else {
        vec![job.rows]
    };
    let name = TableName { schema: "bench".to_owned(), table: "rows".to_owned() };
    let mut synced_at_ms = lake.last_synced_ms().max(1_700_000_000_000);
    for file in files {
        for batch in batches(&file, &name, &job.key, op) {
            window.push(batch).unwrap();
        }
        synced_at_ms += 1000;
        commit(&mut lake, &mut window, synced_at_ms).await;
    }
}

fn floor(lake: &Lake, root: &FilePath) {
    for table in lake.live_tables() {
        let name = TableName { schema: table.schema, table: table.table };
        let schema = lake.current(&name).unwrap().schema;
        let columns = crate::destination::lake::snapshot::columns_of(&schema);
        for file in table.files {
            let bytes = Bytes::from(std::fs::read(root.join(file)).unwrap());
            let mut writer = FileWriter::new(&name, &columns, &schema.effective_key());
            for batch in FileReader::open(&name, bytes, &columns, &columns).unwrap() {
                writer.write(batch.unwrap().0).unwrap();
                drop(writer.take());
            }
            drop(writer.finish().unwrap());
        }
    }
}

fn write_rows(file: &FilePath, ids: std::ops::Range<i64>) {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    let rows = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(file).unwrap(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lake() {
    if let Some(job) = asked() {
        return perform(job).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("lake");
    let rows = folder.path().join("rows.parquet");
    for ids in [0..1000, 900..1100] {
        write_rows(&rows, ids);
        let (root, rows, key) = (root.clone(), rows.clone(), "id".to_owned());
        perform(Job { root, rows, key, work: Work::Move(Op::Upsert), formats: Formats::Both }).await;
    }
    let settings = LakeSettings::new(url::Url::from_directory_path(&root).unwrap());
    let lake = crate::destination::open(&settings, writer("agt_1", 1)).await.unwrap();
    let [table] = lake.live_tables().try_into().unwrap();
    let count = |file: &String| {
        let file = File::open(root.join(file)).unwrap();
        ParquetRecordBatchReaderBuilder::try_new(file).unwrap().metadata().file_metadata().num_rows()
    };
    assert_eq!(table.files.iter().map(count).sum::<i64>(), 1100);
}
