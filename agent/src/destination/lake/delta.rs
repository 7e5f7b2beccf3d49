//! The Delta log of one table: reading it into a snapshot, and the text of the next version. Pure but for `load` and
//! `refresh`. Protocol 1/2, or 3/7 that lists `timestampNtz` alone where a column needs it: every reader reads that.
//! The logical types that Delta cannot tell apart (JSON, XML, STRING) stand in the column metadata.

use std::collections::BTreeMap;
use std::str::FromStr;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use inshore_columnar::schema::{DELETED_COLUMN, ID_COLUMN, SYNCED_COLUMN};
use inshore_columnar::{Column, DataType, TableName, TableSchema};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::stats::Stats;
use crate::destination::SHARED_SCHEMA;
use crate::destination::error::Error;
use crate::destination::store::Store;

const OWNER_PROPERTY: &str = "inshore.owner";
/// The owner of a table that all connections write.
const SHARED_OWNER: &str = "shared";
const KEY_PROPERTY: &str = "inshore.key";
const TYPE_METADATA: &str = "inshore.type";
const DECLARED_METADATA: &str = "inshore.declared";
const TIMESTAMP_NTZ: &str = "timestampNtz";
const SYSTEM_COLUMNS: [&str; 3] = [ID_COLUMN, DELETED_COLUMN, SYNCED_COLUMN];
/// Log files that are fetched ahead while a table is loaded.
const READ_AHEAD: usize = 8;

/// One version of a table.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) table: TableName,
    /// `<schema>/<table>` below the destination's root.
    pub(crate) folder: Path,
    app_id: String,
    connection: String,
    /// `None` while the table does not exist.
    pub(crate) version: Option<u64>,
    protocol: Protocol,
    metadata: Option<Metadata>,
    pub(crate) schema: Option<TableSchema>,
    pub(crate) files: BTreeMap<String, DataFile>,
    /// Removed files that time travel may still ask for, with the instant of their removal.
    pub(crate) removed: BTreeMap<String, i64>,
    /// The marker: the last applied chain slot.
    pub(crate) marker: Option<u64>,
    pub(crate) timestamp_ms: i64,
}

/// A live file of a table.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DataFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) stats: Stats,
}

/// What one chain entry does to one version of a table.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The logical schema after the entry, when it differs.
    pub(crate) schema: Option<TableSchema>,
    pub(crate) removed: Vec<DataFile>,
    pub(crate) added: Vec<DataFile>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    commit_info: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta_data: Option<Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    txn: Option<Txn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove: Option<Remove>,
    #[serde(skip_serializing_if = "Option::is_none")]
    add: Option<Add>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Protocol {
    min_reader_version: u32,
    min_writer_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reader_features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    writer_features: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    id: String,
    format: Value,
    schema_string: String,
    #[serde(default)]
    partition_columns: Vec<String>,
    #[serde(default)]
    configuration: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_time: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Txn {
    app_id: String,
    version: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remove {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_timestamp: Option<i64>,
    #[serde(default)]
    data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    extended_file_metadata: Option<bool>,
    #[serde(default)]
    partition_values: Option<BTreeMap<String, Option<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Add {
    path: String,
    partition_values: BTreeMap<String, Option<String>>,
    size: u64,
    modification_time: i64,
    data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_vector: Option<Value>,
}

impl Snapshot {
    /// Loads the newest version. A table that is not there yet is a snapshot without version.
    pub(crate) async fn load(store: &Store, connection: &str, table: &TableName) -> Result<Snapshot, Error> {
        let folder = Path::from_iter([table.schema.as_str(), table.table.as_str()]);
        Snapshot::load_at(store, connection, table, folder).await
    }

    /// Loads the newest version of a table in the given folder.
    pub(crate) async fn load_at(
        store: &Store,
        connection: &str,
        table: &TableName,
        folder: Path,
    ) -> Result<Snapshot, Error> {
        let mut snapshot = Snapshot {
            table: table.clone(),
            folder,
            app_id: format!("{connection}/{}", table.table),
            connection: connection.to_owned(),
            version: None,
            protocol: Protocol::default(),
            metadata: None,
            schema: None,
            files: BTreeMap::new(),
            removed: BTreeMap::new(),
            marker: None,
            timestamp_ms: 0,
        };
        snapshot.refresh(store).await?;
        snapshot.check_owner()?;
        Ok(snapshot)
    }

    /// Reads the versions above the known one.
    pub(crate) async fn refresh(&mut self, store: &Store) -> Result<(), Error> {
        let first = self.version.map_or(0, |version| version + 1);
        let offset = self.version.map(|version| self.log_path(version));
        let listed = store.list(&self.log_folder(), offset.as_ref()).await?;
        let mut versions: Vec<u64> = listed.iter().filter_map(|object| version_number(&object.location)).collect();
        versions.sort_unstable();
        if versions.iter().zip(first..).any(|(found, wanted)| *found != wanted) {
            return Err(self.bad_log(first, "a version is missing".to_owned()));
        }
        let paths: Vec<(u64, Path)> = versions.iter().map(|version| (*version, self.log_path(*version))).collect();
        let mut bodies = futures::stream::iter(paths)
            .map(|(version, path)| async move { store.get(&path).await.map(|bytes| (version, bytes)) })
            .buffered(READ_AHEAD);
        while let Some((version, body)) = bodies.try_next().await? {
            let body = body.ok_or_else(|| self.bad_log(version, "it vanished while it was read".to_owned()))?;
            self.replay(version, &body)?;
        }
        Ok(())
    }

    /// Takes one version's actions.
    pub(crate) fn replay(&mut self, version: u64, body: &[u8]) -> Result<(), Error> {
        let text = std::str::from_utf8(body).map_err(|error| self.bad_log(version, error.to_string()))?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let line: Line = serde_json::from_str(line).map_err(|error| self.bad_log(version, error.to_string()))?;
            self.take(line).map_err(|reason| self.bad_log(version, reason))?;
        }
        self.version = Some(version);
        Ok(())
    }

    /// The text of the version that follows this one. The same changes give the same bytes.
    pub(crate) fn next_version(&self, changes: &Changes, seq: u64, timestamp_ms: i64) -> Bytes {
        let mut lines = vec![Line {
            commit_info: Some(json!({
                "timestamp": timestamp_ms,
                "operation": "WRITE",
                "operationParameters": {"mode": "Append"},
                "engineInfo": concat!("inshore/", env!("CARGO_PKG_VERSION")),
            })),
            ..Line::default()
        }];
        if let Some(schema) = &changes.schema {
            let protocol = protocol_for(schema, &self.protocol);
            if protocol != self.protocol {
                lines.push(Line { protocol: Some(protocol), ..Line::default() });
            }
            lines.push(Line { meta_data: Some(self.metadata_for(schema, timestamp_ms)), ..Line::default() });
        }
        let version = i64::try_from(seq).expect("slots are counted from one");
        lines.push(Line { txn: Some(Txn { app_id: self.app_id.clone(), version }), ..Line::default() });
        lines.extend(
            changes.removed.iter().map(|file| Line { remove: Some(remove(file, timestamp_ms)), ..Line::default() }),
        );
        lines.extend(changes.added.iter().map(|file| Line { add: Some(add(file, timestamp_ms)), ..Line::default() }));
        let mut text = String::new();
        for line in lines {
            text.push_str(&serde_json::to_string(&line).expect("plain structs always serialise"));
            text.push('\n');
        }
        text.into()
    }

    pub(crate) fn next_log_path(&self) -> Path {
        self.log_path(self.next_number())
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.version.map_or(0, |version| version + 1)
    }

    pub(crate) fn log_folder(&self) -> Path {
        self.folder.clone().join("_delta_log")
    }

    /// The folder of this connection's data files.
    pub(crate) fn data_folder(&self) -> Path {
        self.folder.clone().join("data").join(self.connection.as_str())
    }

    /// The key of a file below the destination's root.
    pub(crate) fn key_of(&self, path: &str) -> Path {
        let parts: Vec<&str> = path.split('/').collect();
        parts.into_iter().fold(self.folder.clone(), |folder, part| folder.join(part))
    }

    /// The path of a key relative to the table, as the log names it.
    pub(crate) fn relative(&self, file_name: &str) -> String {
        format!("data/{}/{file_name}", self.connection)
    }

    fn log_path(&self, version: u64) -> Path {
        self.log_folder().join(format!("{version:020}.json"))
    }

    fn check_owner(&self) -> Result<(), Error> {
        let Some(metadata) = &self.metadata else { return Ok(()) };
        match metadata.configuration.get(OWNER_PROPERTY) {
            Some(owner) if owner == self.owner() => Ok(()),
            owner => Err(Error::NotOwned {
                table: self.table.clone(),
                owner: owner.cloned().unwrap_or_else(|| "another program".to_owned()),
            }),
        }
    }

    fn owner(&self) -> &str {
        if self.is_shared() { SHARED_OWNER } else { &self.connection }
    }

    /// Whether other connections write this table too, each under a marker of its own.
    pub(crate) fn is_shared(&self) -> bool {
        self.table.schema == SHARED_SCHEMA
    }

    fn take(&mut self, line: Line) -> Result<(), String> {
        if let Some(protocol) = line.protocol {
            check_protocol(&protocol)?;
            self.protocol = protocol;
        }
        if let Some(metadata) = line.meta_data {
            self.schema = schema_from(&self.table, &metadata)?;
            self.metadata = Some(metadata);
        }
        if let Some(txn) = line.txn
            && txn.app_id == self.app_id
        {
            self.marker = Some(u64::try_from(txn.version).map_err(|_| "the marker is negative".to_owned())?);
        }
        if let Some(remove) = line.remove {
            self.files.remove(&remove.path);
            self.removed.insert(remove.path, remove.deletion_timestamp.unwrap_or(0));
        }
        if let Some(add) = line.add {
            if add.deletion_vector.is_some() {
                return Err("a file has a deletion vector".to_owned());
            }
            self.removed.remove(&add.path);
            let stats = Stats::from_json(add.stats.as_deref());
            self.files.insert(add.path.clone(), DataFile { path: add.path, bytes: add.size, stats });
        }
        let committed_at = line.commit_info.as_ref().and_then(|info| info.get("timestamp")).and_then(Value::as_i64);
        self.timestamp_ms = self.timestamp_ms.max(committed_at.unwrap_or(0));
        Ok(())
    }

    fn metadata_for(&self, schema: &TableSchema, timestamp_ms: i64) -> Metadata {
        let key = serde_json::to_string(&schema.key).expect("strings always serialise");
        let created = self.metadata.clone();
        let mut configuration = created.as_ref().map(|m| m.configuration.clone()).unwrap_or_default();
        configuration.insert(OWNER_PROPERTY.to_owned(), self.owner().to_owned());
        configuration.insert(KEY_PROPERTY.to_owned(), key);
        Metadata {
            id: created.as_ref().map_or_else(|| table_id(&self.app_id, &self.folder, timestamp_ms), |m| m.id.clone()),
            format: json!({"provider": "parquet", "options": {}}),
            schema_string: schema_string(schema),
            partition_columns: Vec::new(),
            configuration,
            created_time: created.map_or(Some(timestamp_ms), |m| m.created_time),
        }
    }

    fn bad_log(&self, version: u64, reason: String) -> Error {
        Error::TableLog { table: self.table.clone(), path: self.log_path(version).to_string(), reason }
    }
}

/// The name of a column's type in a Delta schema; `None` where Delta has no such type.
pub(crate) fn delta_type(data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Short => "short".to_owned(),
        DataType::Int => "integer".to_owned(),
        DataType::Long => "long".to_owned(),
        DataType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
        DataType::Float => "float".to_owned(),
        DataType::Double => "double".to_owned(),
        DataType::NaiveDate => "date".to_owned(),
        DataType::NaiveDatetime => "timestamp_ntz".to_owned(),
        DataType::UtcDatetime => "timestamp".to_owned(),
        DataType::Binary => "binary".to_owned(),
        DataType::Xml | DataType::String | DataType::Json => "string".to_owned(),
        DataType::NaiveTime => return None,
    })
}

/// All columns in file order with their logical types: `_fivetran_id`, user columns, `_fivetran_deleted`, `_fivetran_synced`.
pub(crate) fn columns_of(schema: &TableSchema) -> Vec<Column> {
    let system = |field: &arrow::datatypes::Field| Column {
        name: field.name().clone(),
        data_type: match field.data_type() {
            arrow::datatypes::DataType::Boolean => DataType::Boolean,
            arrow::datatypes::DataType::Utf8 => DataType::String,
            _ => DataType::UtcDatetime,
        },
        declared: true,
    };
    let fields = schema.with_system_columns();
    let known = |name: &str| schema.columns.iter().find(|column| column.name == name).cloned();
    fields.fields().iter().map(|field| known(field.name()).unwrap_or_else(|| system(field))).collect()
}

fn schema_string(schema: &TableSchema) -> String {
    let fields: Vec<Value> = columns_of(schema)
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": delta_type(&column.data_type).unwrap_or_else(|| "string".to_owned()),
                "nullable": true,
                "metadata": {TYPE_METADATA: column.data_type.to_string(), DECLARED_METADATA: column.declared},
            })
        })
        .collect();
    json!({"type": "struct", "fields": fields}).to_string()
}

/// The logical schema of a table of ours; `None` for a table that another program made.
fn schema_from(table: &TableName, metadata: &Metadata) -> Result<Option<TableSchema>, String> {
    #[derive(Deserialize)]
    struct Struct {
        fields: Vec<FieldText>,
    }
    #[derive(Deserialize)]
    struct FieldText {
        name: String,
        #[serde(default)]
        metadata: BTreeMap<String, Value>,
    }
    let Some(key) = metadata.configuration.get(KEY_PROPERTY) else { return Ok(None) };
    let key: Vec<String> = serde_json::from_str(key).map_err(|error| error.to_string())?;
    let text: Struct = serde_json::from_str(&metadata.schema_string).map_err(|error| error.to_string())?;
    let mut columns = Vec::new();
    for field in text.fields.into_iter().filter(|field| !SYSTEM_COLUMNS.contains(&field.name.as_str())) {
        let data_type = field.metadata.get(TYPE_METADATA).and_then(Value::as_str).unwrap_or_default();
        let data_type = DataType::from_str(data_type).map_err(|error| format!("column {}: {error}", field.name))?;
        let declared = field.metadata.get(DECLARED_METADATA).and_then(Value::as_bool).unwrap_or(false);
        columns.push(Column { name: field.name, data_type, declared });
    }
    Ok(Some(TableSchema { name: table.clone(), key, columns }))
}

fn protocol_for(schema: &TableSchema, current: &Protocol) -> Protocol {
    let needs_ntz = schema.columns.iter().any(|column| column.data_type == DataType::NaiveDatetime);
    if needs_ntz || current.min_writer_version == 7 {
        let features = Some(vec![TIMESTAMP_NTZ.to_owned()]);
        Protocol {
            min_reader_version: 3,
            min_writer_version: 7,
            reader_features: features.clone(),
            writer_features: features,
        }
    } else {
        Protocol { min_reader_version: 1, min_writer_version: 2, reader_features: None, writer_features: None }
    }
}

/// We go on only where we know all that the table asks of a reader and a writer.
fn check_protocol(protocol: &Protocol) -> Result<(), String> {
    let features = [&protocol.reader_features, &protocol.writer_features].into_iter().flatten().flatten();
    if let Some(unknown) = features.into_iter().find(|feature| *feature != TIMESTAMP_NTZ) {
        return Err(format!("the table asks for the feature {unknown}"));
    }
    let plain = protocol.min_reader_version <= 1 && protocol.min_writer_version <= 2;
    if plain || (protocol.min_reader_version == 3 && protocol.min_writer_version == 7) {
        Ok(())
    } else {
        Err(format!("the table asks for protocol {}/{}", protocol.min_reader_version, protocol.min_writer_version))
    }
}

fn remove(file: &DataFile, timestamp_ms: i64) -> Remove {
    Remove {
        path: file.path.clone(),
        deletion_timestamp: Some(timestamp_ms),
        data_change: true,
        extended_file_metadata: Some(true),
        partition_values: Some(BTreeMap::new()),
        size: Some(file.bytes),
    }
}

fn add(file: &DataFile, timestamp_ms: i64) -> Add {
    Add {
        path: file.path.clone(),
        partition_values: BTreeMap::new(),
        size: file.bytes,
        modification_time: timestamp_ms,
        data_change: true,
        stats: Some(file.stats.to_json()),
        deletion_vector: None,
    }
}

/// A table id in the form of a UUID, the same whoever writes the first version.
fn table_id(app_id: &str, folder: &Path, timestamp_ms: i64) -> String {
    let digest: [u8; 32] = Sha256::digest(format!("{app_id}\n{folder}\n{timestamp_ms}")).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.split_at(16).0);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

fn version_number(path: &Path) -> Option<u64> {
    let digits = path.filename()?.strip_suffix(".json")?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}
