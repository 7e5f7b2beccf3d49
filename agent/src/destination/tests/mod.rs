//! What the tests of the destination share: a scripted store, writers under one root, and rows as plain text.

mod aside;
mod bench;
mod chain;
mod checkpoints;
mod faults;
mod flat;
mod formats;
mod lake;
mod model;
mod readers;
mod reading;
mod servers;
mod store_faults;
mod stores;
mod window;
mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::array::{AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type, Schema, TimestampMicrosecondType};
use bytes::Bytes;
use futures::stream::BoxStream;
use inshore_columnar::{Column, DataType, TableName, TableSchema};
use inshore_trust::{CertificateBody, CertificateChain, JobSigner, KeyKind, PublicKey, SigningKey, issue};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use parquet::arrow::ArrowWriter;
use sha2::{Digest, Sha256};

use self::reading::{current, read};
use super::lake::{Lake, Terms, delta, iceberg};
use super::store::Store;
use super::{Collected, CommitRequest, Committed, Destination, Error, FileRef, Formats, Writer};
use crate::batch::{SealedFile, SealedStep, SealedTable, StepOp};

const ROOT: &str = "memory://lake";
const RETENTION: Duration = Duration::from_secs(3600);

/// What happens to one put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It does not land and is answered with a server error.
    Reject,
    /// It lands, the answer is lost.
    FailAfterWrite,
    /// No answer within the client's patience; it lands later, when somebody else may have the slot.
    Hold,
    /// It lands and is answered late, within the client's patience.
    Slow,
}

/// A store whose puts follow a script: the n-th put of a key that contains a text meets a fault, once.
#[derive(Debug)]
pub(super) struct Scripted {
    inner: Arc<InMemory>,
    script: Mutex<Vec<(&'static str, Fault)>>,
    reads: Mutex<Vec<String>>,
    late: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
    lies: std::sync::atomic::AtomicBool,
}

impl std::fmt::Display for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("scripted store")
    }
}

impl Scripted {
    pub(super) fn new() -> Arc<Scripted> {
        let (inner, script) = (Arc::new(InMemory::new()), Mutex::new(Vec::new()));
        Arc::new(Scripted { inner, script, reads: Mutex::default(), late: Mutex::default(), lies: false.into() })
    }

    pub(super) fn plan(&self, key: &'static str, fault: Fault) {
        self.script.lock().unwrap().push((key, fault));
    }

    /// Creates over existing keys succeed from here on.
    fn overwrite_everything(&self) {
        self.lies.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    pub(super) fn unused_faults(&self) -> usize {
        self.script.lock().unwrap().len()
    }

    /// Lets the held requests land now.
    async fn land_late(&self) {
        let late: Vec<_> = self.late.lock().unwrap().drain(..).collect();
        for (path, payload, options) in late {
            drop(self.inner.put_opts(&path, payload, options).await);
        }
    }

    fn next_fault(&self, path: &Path) -> Option<Fault> {
        let mut script = self.script.lock().unwrap();
        let index = script.iter().position(|(key, _)| path.as_ref().contains(key))?;
        Some(script.remove(index).1)
    }

    /// The Parquet files that were read since the last call.
    fn data_reads(&self) -> Vec<String> {
        let mut reads = self.reads.lock().unwrap();
        std::mem::take(&mut *reads).into_iter().filter(|key| key.ends_with(".parquet")).collect()
    }

    pub(super) fn store(self: &Arc<Scripted>) -> Store {
        Store::over(self)
    }
}

fn server_error() -> object_store::Error {
    object_store::Error::Generic { store: "scripted", source: "502 bad gateway".into() }
}

#[async_trait::async_trait]
impl ObjectStore for Scripted {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let lies = self.lies.load(std::sync::atomic::Ordering::Relaxed);
        let mode = if lies { object_store::PutMode::Overwrite } else { options.mode.clone() };
        let options = PutOptions { mode, ..options };
        match self.next_fault(location) {
            None => self.inner.put_opts(location, payload, options).await,
            Some(Fault::Reject) => Err(server_error()),
            Some(Fault::FailAfterWrite) => {
                self.inner.put_opts(location, payload, options).await?;
                Err(server_error())
            }
            Some(Fault::Slow) => {
                let answer = self.inner.put_opts(location, payload, options).await;
                tokio::time::sleep(Duration::from_secs(20)).await;
                answer
            }
            Some(Fault::Hold) => {
                self.late.lock().unwrap().push((location.clone(), payload, options));
                std::future::pending().await
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        if !options.head {
            self.reads.lock().unwrap().push(location.to_string());
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait::async_trait]
impl MultipartStore for Scripted {
    async fn create_multipart(&self, path: &Path) -> object_store::Result<MultipartId> {
        self.inner.create_multipart(path).await
    }

    /// The script's keys for parts are `part <index>`; one that is held is answered when the client has left.
    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        index: usize,
        data: PutPayload,
    ) -> object_store::Result<PartId> {
        let part = Path::from(format!("part {index}"));
        let fault = self.next_fault(&part);
        if fault == Some(Fault::Reject) {
            return Err(server_error());
        }
        let answer = self.inner.put_part(path, id, index, data).await;
        match fault {
            None | Some(Fault::Reject) => answer,
            Some(Fault::FailAfterWrite) => Err(server_error()),
            Some(Fault::Slow) => {
                tokio::time::sleep(Duration::from_secs(20)).await;
                answer
            }
            Some(Fault::Hold) => std::future::pending().await,
        }
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> object_store::Result<PutResult> {
        match self.next_fault(&Path::from("complete")) {
            Some(Fault::Reject) => Err(server_error()),
            Some(_) => {
                self.inner.complete_multipart(path, id, parts).await?;
                Err(server_error())
            }
            None => self.inner.complete_multipart(path, id, parts).await,
        }
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> object_store::Result<()> {
        self.inner.abort_multipart(path, id).await
    }
}

fn root_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn root() -> PublicKey {
    root_key().public()
}

/// A writer of connection `con_1`, certified by the test's root.
fn writer(agent_id: &str, generation: u64) -> Writer {
    let identity = SigningKey::generate();
    let body = CertificateBody::new(KeyKind::Agent, agent_id, identity.public().0, 1);
    let agent = CertificateChain::default().with(issue(&root_key(), &body));
    let job_id = format!("job_{generation}");
    Writer {
        connection_id: "con_1".to_owned(),
        agent_id: agent_id.to_owned(),
        signer: JobSigner::certify(&identity, &agent, &job_id, 2),
        job_id,
        generation,
        trusted_root: root(),
    }
}

fn terms() -> Terms {
    Terms { root: ROOT.into(), formats: Formats::Both, marks: false, retention: RETENTION }
}

async fn open(store: &Store, generation: u64) -> Result<Lake, Error> {
    Lake::open(store.clone(), terms(), writer("agt_1", generation)).await
}

/// A value as text, whatever the type of its column: so a model needs no types.
type Text = Option<String>;

/// One row as the table shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    values: BTreeMap<String, Text>,
    deleted: bool,
    synced_ms: i64,
}

fn table(name: &str) -> TableName {
    TableName { schema: "shop".to_owned(), table: name.to_owned() }
}

fn schema(name: &TableName, columns: &[(&str, DataType)]) -> TableSchema {
    let column = |(name, data_type): &(&str, DataType)| Column {
        name: (*name).to_owned(),
        data_type: *data_type,
        declared: false,
    };
    TableSchema { name: name.clone(), key: vec!["id".to_owned()], columns: columns.iter().map(column).collect() }
}

fn array(data_type: &DataType, values: &[Text]) -> ArrayRef {
    fn parsed<T: std::str::FromStr>(values: &[Text]) -> Vec<Option<T>> {
        values
            .iter()
            .map(|value| value.as_ref().map(|text| text.parse().ok().expect("the model fits its type")))
            .collect()
    }
    match data_type {
        DataType::Int => Arc::new(Int32Array::from(parsed::<i32>(values))),
        DataType::Long => Arc::new(Int64Array::from(parsed::<i64>(values))),
        DataType::Double => Arc::new(Float64Array::from(parsed::<f64>(values))),
        DataType::Boolean => Arc::new(BooleanArray::from(parsed::<bool>(values))),
        DataType::UtcDatetime => Arc::new(TimestampMicrosecondArray::from(parsed::<i64>(values)).with_timezone("UTC")),
        DataType::NaiveDatetime => Arc::new(TimestampMicrosecondArray::from(parsed::<i64>(values))),
        _ => Arc::new(StringArray::from(parsed::<String>(values))),
    }
}

fn text(array: &ArrayRef, row: usize) -> Text {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        arrow::datatypes::DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        arrow::datatypes::DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        arrow::datatypes::DataType::Float64 => array.as_primitive::<Float64Type>().value(row).to_string(),
        arrow::datatypes::DataType::Boolean => array.as_boolean().value(row).to_string(),
        arrow::datatypes::DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        _ => array.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
    })
}

/// A sealed file of the named columns. System columns are `_fivetran_deleted` and `_fivetran_synced` (microseconds).
fn sealed(schema: &TableSchema, index: usize, names: &[&str], rows: &[Vec<Text>]) -> SealedFile {
    let all = super::lake::snapshot::columns_of(schema);
    let columns: Vec<&Column> = names
        .iter()
        .map(|name| all.iter().find(|column| column.name == *name).expect("a column of the schema"))
        .collect();
    let arrays: Vec<ArrayRef> = columns
        .iter()
        .enumerate()
        .map(|(position, column)| {
            let values: Vec<Text> = rows.iter().map(|row| row[position].clone()).collect();
            array(&column.data_type, &values)
        })
        .collect();
    let full = schema.with_system_columns();
    let fields: Vec<_> = names.iter().map(|name| full.field_with_name(name).unwrap().clone()).collect();
    sealed_batch(schema, index, &RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap())
}

fn sealed_batch(schema: &TableSchema, index: usize, batch: &RecordBatch) -> SealedFile {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    let bytes = Bytes::from(writer.into_inner().unwrap());
    let sha256 = Sha256::digest(&bytes).into();
    SealedFile { table: schema.name.clone(), index, bytes, rows: batch.num_rows() as u64, sha256 }
}

fn some(value: impl ToString) -> Text {
    Some(value.to_string())
}

/// Keys with the values of a column set.
type Patches = BTreeMap<i64, Vec<Text>>;

/// One window's steps of one table, with plain rows; sealed by `seal`.
#[derive(Debug, Clone, Default)]
struct Window {
    truncate_before_ms: Option<i64>,
    /// Key and the values of the other user columns.
    upserts: BTreeMap<i64, BTreeMap<String, Text>>,
    /// Per column set: key and the values of exactly these columns.
    updates: Vec<(Vec<String>, Patches)>,
    deletes: Vec<i64>,
}

impl Window {
    fn seal(&self, schema: &TableSchema, synced_ms: i64, first_index: usize) -> (SealedTable, Vec<SealedFile>) {
        let synced = some(synced_ms * 1000);
        let (mut steps, mut files) = (Vec::new(), Vec::new());
        let mut step = |op, columns, sealed: Vec<SealedFile>| {
            let indices = sealed.iter().map(|file| file.index).collect();
            steps.push(SealedStep { op, columns, files: indices });
            files.extend(sealed);
            first_index + files.len()
        };
        let mut index = first_index;
        if let Some(before_ms) = self.truncate_before_ms {
            index = step(StepOp::Truncate { before_ms }, None, Vec::new());
        }
        if !self.upserts.is_empty() {
            let user: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
            let names: Vec<&str> = user.iter().copied().chain(["_fivetran_deleted", "_fivetran_synced"]).collect();
            let rows: Vec<Vec<Text>> = self
                .upserts
                .iter()
                .map(|(key, values)| {
                    let value =
                        |name: &&str| if *name == "id" { some(key) } else { values.get(*name).cloned().flatten() };
                    user.iter().map(value).chain([some(false), synced.clone()]).collect()
                })
                .collect();
            // Two files, as a window above the size of a file has.
            let (low, high) = rows.split_at(rows.len() / 2);
            let parts = [low, high].into_iter().filter(|part| !part.is_empty());
            let sealed = parts.enumerate().map(|(n, part)| sealed(schema, index + n, &names, part)).collect();
            index = step(StepOp::Upsert, None, sealed);
        }
        for (columns, rows) in &self.updates {
            let names: Vec<&str> =
                ["id"].into_iter().chain(columns.iter().map(String::as_str)).chain(["_fivetran_synced"]).collect();
            let rows: Vec<Vec<Text>> = rows
                .iter()
                .map(|(key, values)| [some(key)].into_iter().chain(values.clone()).chain([synced.clone()]).collect())
                .collect();
            index = step(StepOp::Update, Some(columns.clone()), vec![sealed(schema, index, &names, &rows)]);
        }
        if !self.deletes.is_empty() {
            let rows: Vec<Vec<Text>> = self.deletes.iter().map(|key| vec![some(key), synced.clone()]).collect();
            step(StepOp::Delete, None, vec![sealed(schema, index, &["id", "_fivetran_synced"], &rows)]);
        }
        (SealedTable { schema: schema.clone(), steps }, files)
    }
}

/// Writes and commits one window of one table; `apply` is the caller's.
async fn commit(
    lake: &mut Lake,
    schema: &TableSchema,
    window: &Window,
    synced_at_ms: i64,
    state: &str,
) -> Result<Committed, Error> {
    let (sealed, files) = window.seal(schema, synced_at_ms, 0);
    let mut written: Vec<FileRef> = Vec::new();
    for file in files {
        written.push(lake.write(file).await?);
    }
    let request = CommitRequest { state: state.to_owned(), synced_at_ms, tables: vec![sealed], files: written };
    lake.commit(request).await
}

fn upserts(rows: &[(i64, &str)]) -> Window {
    let row = |(key, note): &(i64, &str)| (*key, BTreeMap::from([("note".to_owned(), some(note))]));
    Window { upserts: rows.iter().map(row).collect(), ..Window::default() }
}

fn notes(name: &TableName) -> TableSchema {
    schema(name, &[("id", DataType::Int), ("note", DataType::String)])
}

/// Keys and notes of the live rows: enough for most tests.
async fn live_notes(store: &Store, name: &TableName) -> BTreeMap<i64, String> {
    let rows = read(store, name).await;
    rows.into_iter()
        .filter(|(_, row)| !row.deleted)
        .map(|(key, row)| (key, row.values["note"].clone().unwrap_or_default()))
        .collect()
}

fn want(rows: &[(i64, &str)]) -> BTreeMap<i64, String> {
    rows.iter().map(|(key, note)| (*key, (*note).to_owned())).collect()
}
