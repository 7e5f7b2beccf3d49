//! The Delta log of one table: reading it into a snapshot, and the text of the next version. Pure but for `load` and
//! `refresh`. A load begins at a checkpoint where there is one (`checkpoint`), else at the first version.
//! The logical types that Delta cannot tell apart (JSON, XML, STRING) stand in the column metadata.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::str::FromStr;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use inshore_columnar::{Column, DataType, TableName, TableSchema};
use object_store::ObjectMeta;
use object_store::path::Path;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::action::{Action, Add, Format, Metadata, Protocol, Remove, Texts, Txn, check_protocol, protocol_for};
use super::checkpoint;
use super::snapshot::{Changes, DataFile, Foreign, SYSTEM_COLUMNS, Snapshot, columns_of};
use super::stats::Stats;
use crate::destination::error::Error;
use crate::destination::store::Store;

const OWNER_PROPERTY: &str = "inshore.owner";
const KEY_PROPERTY: &str = "inshore.key";
const TYPE_METADATA: &str = "inshore.type";
const DECLARED_METADATA: &str = "inshore.declared";
/// Log files that are fetched ahead while a table is loaded.
const READ_AHEAD: usize = 8;

/// A table in its Delta log, at one version.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    snapshot: Snapshot,
    app_id: String,
    pub(super) protocol: Protocol,
    pub(super) metadata: Option<Metadata>,
    /// The markers of all who write the table.
    pub(super) txns: BTreeMap<String, Txn>,
    /// The newest checkpoint that we know of.
    pub(crate) checkpoint: Option<u64>,
}

impl Deref for Table {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl DerefMut for Table {
    fn deref_mut(&mut self) -> &mut Snapshot {
        &mut self.snapshot
    }
}

impl Table {
    /// Loads the newest version. A table that is not there yet is a snapshot without version.
    pub(crate) async fn load(store: &Store, connection: &str, table: &TableName) -> Result<Table, Error> {
        let folder = Path::from_iter([table.schema.as_str(), table.table.as_str()]);
        Table::load_at(store, connection, table, folder).await
    }

    /// Loads the newest version of a table in the given folder.
    pub(crate) async fn load_at(
        store: &Store,
        connection: &str,
        table: &TableName,
        folder: Path,
    ) -> Result<Table, Error> {
        let empty = Table {
            snapshot: Snapshot::empty(connection, table, folder),
            app_id: format!("{connection}/{}", table.table),
            protocol: Protocol::default(),
            metadata: None,
            txns: BTreeMap::new(),
            checkpoint: None,
        };
        let snapshot = match Self::from_hint(store, &empty).await? {
            Some(snapshot) => snapshot,
            None => Self::from_listing(store, &empty).await?,
        };
        snapshot.check_owner()?;
        Ok(snapshot)
    }

    /// `None` where the hint leads to no whole log: it may be older than a log that was cut behind it.
    async fn from_hint(store: &Store, empty: &Table) -> Result<Option<Table>, Error> {
        let Some(mut snapshot) = checkpoint::hinted(store, empty).await else { return Ok(None) };
        let offset = snapshot.version.map(|version| snapshot.log_path(version));
        let listed = store.list(&snapshot.log_folder(), offset.as_ref()).await?;
        match snapshot.read_on(store, &listed).await {
            Ok(()) => Ok((!checkpoint::is_above(&listed, snapshot.version)).then_some(snapshot)),
            Err(Error::TableLog { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn from_listing(store: &Store, empty: &Table) -> Result<Table, Error> {
        let (mut snapshot, listed) = checkpoint::begin(store, empty).await?;
        snapshot.read_on(store, &listed).await?;
        if checkpoint::is_above(&listed, snapshot.version) {
            return Err(snapshot.bad_log(snapshot.next_number(), "a version is missing before a checkpoint".to_owned()));
        }
        Ok(snapshot)
    }

    /// Reads the versions above the known one.
    pub(crate) async fn refresh(&mut self, store: &Store) -> Result<(), Error> {
        let offset = self.version.map(|version| self.log_path(version));
        let listed = store.list(&self.log_folder(), offset.as_ref()).await?;
        self.read_on(store, &listed).await
    }

    async fn read_on(&mut self, store: &Store, listed: &[ObjectMeta]) -> Result<(), Error> {
        let first = self.next_number();
        let versions = listed.iter().filter_map(|object| version_number(&object.location));
        let mut versions: Vec<u64> = versions.filter(|version| *version >= first).collect();
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
            let action: Action =
                serde_json::from_str(line).map_err(|error| self.bad_log(version, error.to_string()))?;
            self.take(action).map_err(|reason| self.bad_log(version, reason))?;
        }
        self.version = Some(version);
        Ok(())
    }

    /// The text of the version that follows this one. The same changes give the same bytes.
    pub(crate) fn next_version(&self, changes: &Changes, seq: u64, timestamp_ms: i64) -> Bytes {
        let mut lines = vec![Action {
            commit_info: Some(json!({
                "timestamp": timestamp_ms,
                "operation": "WRITE",
                "operationParameters": {"mode": "Append"},
                "engineInfo": concat!("inshore/", env!("CARGO_PKG_VERSION")),
            })),
            ..Action::default()
        }];
        if let Some(schema) = &changes.schema {
            let protocol = protocol_for(schema, &self.protocol);
            if protocol != self.protocol {
                lines.push(Action { protocol: Some(protocol), ..Action::default() });
            }
            lines.push(Action { meta_data: Some(self.metadata_for(schema, timestamp_ms)), ..Action::default() });
        }
        let version = i64::try_from(seq).expect("slots are counted from one");
        let txn = Txn { app_id: self.app_id.clone(), version, last_updated: None };
        lines.push(Action { txn: Some(txn), ..Action::default() });
        lines.extend(changes.removed.iter().map(|file| file.removal(timestamp_ms)));
        lines.extend(changes.added.iter().map(|file| file.addition(timestamp_ms, true)));
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

    /// Which table this is, wherever it lies.
    pub(super) fn id(&self) -> Option<&str> {
        self.metadata.as_ref().map(|metadata| metadata.id.as_str())
    }

    /// The connections that write the table, each with its marker.
    pub(super) fn markers(&self) -> impl Iterator<Item = (&str, i64)> {
        let suffix = format!("/{}", self.table.table);
        let ours = move |txn: &Txn| txn.app_id.strip_suffix(&suffix).map(str::len);
        self.txns.values().filter_map(move |txn| Some((txn.app_id.split_at(ours(txn)?).0, txn.version)))
    }

    /// The same version with the markers of the other connections that write the table.
    pub(super) fn with_markers<'a>(&self, body: &Bytes, markers: impl Iterator<Item = (&'a str, i64)>) -> Bytes {
        let mut body = body.to_vec();
        for (connection, version) in markers.filter(|(connection, _)| *connection != self.connection) {
            let app_id = format!("{connection}/{}", self.table.table);
            let txn = Action { txn: Some(Txn { app_id, version, last_updated: None }), ..Action::default() };
            body.extend(serde_json::to_vec(&txn).expect("plain structs always serialise"));
            body.push(b'\n');
        }
        body.into()
    }

    fn log_path(&self, version: u64) -> Path {
        self.log_folder().join(format!("{version:020}.json"))
    }

    fn check_owner(&self) -> Result<(), Error> {
        let Some(metadata) = &self.metadata else { return Ok(()) };
        match metadata.configuration.get(OWNER_PROPERTY) {
            Some(owner) if owner == self.snapshot.owner() => Ok(()),
            owner => Err(Error::NotOwned {
                table: self.table.clone(),
                owner: owner.cloned().unwrap_or_else(|| "another program".to_owned()),
            }),
        }
    }

    /// Takes one action; the order of those of one version is of no matter.
    pub(super) fn take(&mut self, action: Action) -> Result<(), String> {
        if let Some(protocol) = action.protocol {
            check_protocol(&protocol)?;
            self.protocol = protocol;
        }
        if let Some(metadata) = action.meta_data {
            self.schema = schema_from(&self.table, &metadata)?;
            self.metadata = Some(metadata);
        }
        if let Some(txn) = action.txn {
            if txn.app_id == self.app_id {
                self.marker = Some(u64::try_from(txn.version).map_err(|_| "the marker is negative".to_owned())?);
            }
            self.txns.insert(txn.app_id.clone(), txn);
        }
        if let Some(remove) = action.remove {
            self.files.remove(&remove.path);
            self.removed.insert(remove.path, remove.deletion_timestamp.unwrap_or(0));
        }
        if let Some(add) = action.add {
            if add.deletion_vector.is_some() {
                return Err("a file has a deletion vector".to_owned());
            }
            self.removed.remove(&add.path);
            self.files.insert(add.path.clone(), DataFile::from(add));
        }
        let committed_at = action.commit_info.as_ref().and_then(|info| info.get("timestamp")).and_then(Value::as_i64);
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
            name: created.as_ref().and_then(|m| m.name.clone()),
            description: created.as_ref().and_then(|m| m.description.clone()),
            format: Format { provider: "parquet".to_owned(), options: BTreeMap::new() },
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

impl DataFile {
    /// The file as it stands in a checkpoint.
    pub(super) fn kept(&self) -> Action {
        self.addition(self.modified_ms, false)
    }

    fn addition(&self, modification_time: i64, data_change: bool) -> Action {
        let ours = || Foreign { partition_values: Texts::new(), tags: None, stats: Some(self.stats.to_json()) };
        let Foreign { partition_values, tags, stats } = self.foreign.as_deref().cloned().unwrap_or_else(ours);
        let (path, size) = (self.path.clone(), self.bytes);
        let deletion_vector = None;
        let add = Add { path, partition_values, size, modification_time, data_change, tags, stats, deletion_vector };
        Action { add: Some(add), ..Action::default() }
    }

    fn removal(&self, timestamp_ms: i64) -> Action {
        let remove = Remove {
            path: self.path.clone(),
            deletion_timestamp: Some(timestamp_ms),
            data_change: true,
            extended_file_metadata: Some(true),
            partition_values: Some(Texts::new()),
            size: Some(self.bytes),
        };
        Action { remove: Some(remove), ..Action::default() }
    }
}

impl From<Add> for DataFile {
    fn from(add: Add) -> DataFile {
        let stats = Stats::from_json(add.stats.as_deref());
        let ours = add.partition_values.is_empty()
            && add.tags.is_none()
            && add.stats.as_ref().is_some_and(|text| *text == stats.to_json());
        let foreign = Foreign { partition_values: add.partition_values, tags: add.tags, stats: add.stats };
        let foreign = (!ours).then(|| Box::new(foreign));
        DataFile { foreign, modified_ms: add.modification_time, ..DataFile::new(add.path, add.size, stats) }
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

/// A table id in the form of a UUID, the same whoever writes the first version.
fn table_id(app_id: &str, folder: &Path, timestamp_ms: i64) -> String {
    let digest: [u8; 32] = Sha256::digest(format!("{app_id}\n{folder}\n{timestamp_ms}")).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(digest.split_at(16).0);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

pub(super) fn version_number(path: &Path) -> Option<u64> {
    let digits = path.filename()?.strip_suffix(".json")?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}
