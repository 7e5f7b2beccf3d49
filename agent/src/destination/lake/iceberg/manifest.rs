//! Manifests and manifest lists: their entries, and how they are written and read. No IO.

use std::collections::{BTreeMap, HashMap};

use apache_avro::types::Value;
use apache_avro::{Codec, DeflateSettings, Reader, Writer};
use bytes::Bytes;

use super::bounds::ColumnStats;
use super::schemas;

/// What the files of a manifest hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    Data,
    Deletes,
}

/// What a snapshot did to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Existing,
    Added,
    Deleted,
}

/// One manifest as a manifest list names it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ManifestFile {
    /// Absolute.
    pub(super) path: String,
    pub(super) length: i64,
    pub(super) content: Content,
    pub(super) sequence_number: i64,
    pub(super) min_sequence_number: i64,
    pub(super) added_snapshot_id: i64,
    pub(super) counts: Counts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) added_files: i32,
    pub(super) existing_files: i32,
    pub(super) deleted_files: i32,
    pub(super) added_rows: i64,
    pub(super) existing_rows: i64,
    pub(super) deleted_rows: i64,
}

/// One file of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) status: Status,
    pub(super) snapshot_id: i64,
    pub(super) sequence_number: i64,
    pub(super) file_sequence_number: i64,
    /// Absolute.
    pub(super) path: String,
    pub(super) rows: i64,
    pub(super) bytes: i64,
    pub(super) columns: ColumnStats,
    /// Of a delete file: the one data file, absolute, whose rows it names.
    pub(super) data_file: Option<String>,
}

/// Why a manifest or a list is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it is no Avro file of this kind")]
    Avro(#[from] Box<apache_avro::Error>),
    #[error("{0}")]
    Content(String),
}

impl From<apache_avro::Error> for Unreadable {
    fn from(error: apache_avro::Error) -> Unreadable {
        Unreadable::Avro(Box::new(error))
    }
}

impl Counts {
    pub(super) fn of(entries: &[Entry]) -> Counts {
        let mut counts = Counts::default();
        for entry in entries {
            let (files, rows) = match entry.status {
                Status::Added => (&mut counts.added_files, &mut counts.added_rows),
                Status::Existing => (&mut counts.existing_files, &mut counts.existing_rows),
                Status::Deleted => (&mut counts.deleted_files, &mut counts.deleted_rows),
            };
            *files += 1;
            *rows += entry.rows;
        }
        counts
    }

    pub(super) fn live_files(&self) -> i32 {
        self.added_files + self.existing_files
    }
}

/// A manifest's bytes. `schema` is the table's, as the metadata file has it.
pub(super) fn encode(content: Content, schema: &str, schema_id: i32, entries: &[Entry]) -> Result<Bytes, Unreadable> {
    let kind = match content {
        Content::Data => "data",
        Content::Deletes => "deletes",
    };
    let facts = [
        ("schema", schema.to_owned()),
        ("schema-id", schema_id.to_string()),
        ("partition-spec", "[]".to_owned()),
        ("partition-spec-id", "0".to_owned()),
        ("format-version", "2".to_owned()),
        ("content", kind.to_owned()),
    ];
    write(&schemas::MANIFEST, facts, entries.iter().map(|entry| entry_value(content, entry)))
}

/// A manifest list's bytes.
pub(super) fn encode_list(
    snapshot_id: i64,
    parent: Option<i64>,
    sequence_number: i64,
    manifests: &[&ManifestFile],
) -> Result<Bytes, Unreadable> {
    let parent = parent.map_or_else(|| "null".to_owned(), |id| id.to_string());
    let facts = [
        ("snapshot-id", snapshot_id.to_string()),
        ("parent-snapshot-id", parent),
        ("sequence-number", sequence_number.to_string()),
        ("format-version", "2".to_owned()),
    ];
    write(&schemas::LIST, facts, manifests.iter().map(|manifest| manifest_value(manifest)))
}

fn write<const N: usize>(
    schema: &apache_avro::Schema,
    facts: [(&str, String); N],
    values: impl Iterator<Item = Value>,
) -> Result<Bytes, Unreadable> {
    let codec = Codec::Deflate(DeflateSettings::default());
    let mut writer = Writer::with_codec(schema, Vec::new(), codec);
    for (key, value) in facts {
        writer.add_user_metadata(key.to_owned(), value)?;
    }
    for value in values {
        writer.append(value)?;
    }
    Ok(writer.into_inner()?.into())
}

fn entry_value(content: Content, entry: &Entry) -> Value {
    let status = match entry.status {
        Status::Existing => 0,
        Status::Added => 1,
        Status::Deleted => 2,
    };
    let file = record([
        ("content", Value::Int(i32::from(content == Content::Deletes))),
        ("file_path", Value::String(entry.path.clone())),
        ("file_format", Value::String("PARQUET".to_owned())),
        ("partition", Value::Record(Vec::new())),
        ("record_count", Value::Long(entry.rows)),
        ("file_size_in_bytes", Value::Long(entry.bytes)),
        ("column_sizes", none()),
        ("value_counts", map(&entry.columns.value_counts, |count| Value::Long(*count))),
        ("null_value_counts", map(&entry.columns.null_value_counts, |count| Value::Long(*count))),
        ("nan_value_counts", none()),
        ("lower_bounds", map(&entry.columns.lower_bounds, |bound| Value::Bytes(bound.clone()))),
        ("upper_bounds", map(&entry.columns.upper_bounds, |bound| Value::Bytes(bound.clone()))),
        ("key_metadata", none()),
        ("split_offsets", none()),
        ("equality_ids", none()),
        ("sort_order_id", none()),
        ("referenced_data_file", entry.data_file.clone().map_or_else(none, |path| some(Value::String(path)))),
    ]);
    record([
        ("status", Value::Int(status)),
        ("snapshot_id", some(Value::Long(entry.snapshot_id))),
        ("sequence_number", some(Value::Long(entry.sequence_number))),
        ("file_sequence_number", some(Value::Long(entry.file_sequence_number))),
        ("data_file", file),
    ])
}

fn manifest_value(manifest: &ManifestFile) -> Value {
    let counts = &manifest.counts;
    record([
        ("manifest_path", Value::String(manifest.path.clone())),
        ("manifest_length", Value::Long(manifest.length)),
        ("partition_spec_id", Value::Int(0)),
        ("content", Value::Int(i32::from(manifest.content == Content::Deletes))),
        ("sequence_number", Value::Long(manifest.sequence_number)),
        ("min_sequence_number", Value::Long(manifest.min_sequence_number)),
        ("added_snapshot_id", Value::Long(manifest.added_snapshot_id)),
        ("added_files_count", Value::Int(counts.added_files)),
        ("existing_files_count", Value::Int(counts.existing_files)),
        ("deleted_files_count", Value::Int(counts.deleted_files)),
        ("added_rows_count", Value::Long(counts.added_rows)),
        ("existing_rows_count", Value::Long(counts.existing_rows)),
        ("deleted_rows_count", Value::Long(counts.deleted_rows)),
        ("partitions", some(Value::Array(Vec::new()))),
        ("key_metadata", none()),
    ])
}

fn record<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn none() -> Value {
    Value::Union(0, Box::new(Value::Null))
}

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}

/// Nothing is known of no column: then there is no map at all.
fn map<T>(values: &BTreeMap<i32, T>, to_value: impl Fn(&T) -> Value) -> Value {
    if values.is_empty() {
        return none();
    }
    let pairs = values.iter().map(|(id, value)| record([("key", Value::Int(*id)), ("value", to_value(value))]));
    some(Value::Array(pairs.collect()))
}

/// The entries of a manifest that are not deleted; the sequence numbers that one inherits are its list's.
pub(super) fn decode(bytes: &[u8], manifest: &ManifestFile) -> Result<Vec<Entry>, Unreadable> {
    let mut entries = Vec::new();
    for value in Reader::new(bytes)? {
        let fields = Fields::of(value?)?;
        let status = match fields.long("status")? {
            0 => Status::Existing,
            1 => Status::Added,
            _ => continue,
        };
        let file = Fields::of(fields.take("data_file"))?;
        if file.long("content")? == 2 {
            return Err(Unreadable::Content("it names equality deletes".to_owned()));
        }
        let sequence_number = fields.optional_long("sequence_number").unwrap_or(manifest.sequence_number);
        let data_file = match file.take("referenced_data_file") {
            Value::String(path) => Some(path),
            _ => None,
        };
        entries.push(Entry {
            status,
            snapshot_id: fields.optional_long("snapshot_id").unwrap_or(manifest.added_snapshot_id),
            sequence_number,
            file_sequence_number: fields.optional_long("file_sequence_number").unwrap_or(sequence_number),
            path: file.text("file_path")?,
            rows: file.long("record_count")?,
            bytes: file.long("file_size_in_bytes")?,
            columns: ColumnStats {
                value_counts: longs(file.map("value_counts")),
                null_value_counts: longs(file.map("null_value_counts")),
                lower_bounds: binaries(file.map("lower_bounds")),
                upper_bounds: binaries(file.map("upper_bounds")),
            },
            data_file,
        });
    }
    Ok(entries)
}

/// The manifests of a list.
pub(super) fn decode_list(bytes: &[u8]) -> Result<Vec<ManifestFile>, Unreadable> {
    let mut manifests = Vec::new();
    for value in Reader::new(bytes)? {
        let fields = Fields::of(value?)?;
        let int = |name: &str| fields.long(name).map(|count| i32::try_from(count).unwrap_or(i32::MAX));
        let counts = Counts {
            added_files: int("added_files_count")?,
            existing_files: int("existing_files_count")?,
            deleted_files: int("deleted_files_count")?,
            added_rows: fields.long("added_rows_count")?,
            existing_rows: fields.long("existing_rows_count")?,
            deleted_rows: fields.long("deleted_rows_count")?,
        };
        manifests.push(ManifestFile {
            path: fields.text("manifest_path")?,
            length: fields.long("manifest_length")?,
            content: if fields.long("content")? == 0 { Content::Data } else { Content::Deletes },
            sequence_number: fields.long("sequence_number")?,
            min_sequence_number: fields.long("min_sequence_number")?,
            added_snapshot_id: fields.long("added_snapshot_id")?,
            counts,
        });
    }
    Ok(manifests)
}

/// The fields of a record, by name.
struct Fields(HashMap<String, Value>);

impl Fields {
    fn of(value: Value) -> Result<Fields, Unreadable> {
        match value {
            Value::Record(fields) => Ok(Fields(fields.into_iter().map(|(name, v)| (name, plain(v))).collect())),
            _ => Err(Unreadable::Content("its entries are no records".to_owned())),
        }
    }

    fn take(&self, name: &str) -> Value {
        self.0.get(name).cloned().unwrap_or(Value::Null)
    }

    fn optional_long(&self, name: &str) -> Option<i64> {
        match self.0.get(name)? {
            Value::Int(value) => Some(i64::from(*value)),
            Value::Long(value) => Some(*value),
            _ => None,
        }
    }

    fn long(&self, name: &str) -> Result<i64, Unreadable> {
        self.optional_long(name).ok_or_else(|| Unreadable::Content(format!("an entry lacks {name}")))
    }

    fn text(&self, name: &str) -> Result<String, Unreadable> {
        match self.0.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            _ => Err(Unreadable::Content(format!("an entry lacks {name}"))),
        }
    }

    fn map(&self, name: &str) -> Vec<(i32, Value)> {
        let Some(Value::Array(pairs)) = self.0.get(name) else { return Vec::new() };
        let pair = |pair: &Value| {
            let fields = Fields::of(pair.clone()).ok()?;
            let key = i32::try_from(fields.optional_long("key")?).ok()?;
            Some((key, fields.take("value")))
        };
        pairs.iter().filter_map(pair).collect()
    }
}

fn plain(value: Value) -> Value {
    match value {
        Value::Union(_, inner) => *inner,
        value => value,
    }
}

fn longs(pairs: Vec<(i32, Value)>) -> BTreeMap<i32, i64> {
    let long = |(id, value)| match value {
        Value::Long(value) => Some((id, value)),
        _ => None,
    };
    pairs.into_iter().filter_map(long).collect()
}

fn binaries(pairs: Vec<(i32, Value)>) -> BTreeMap<i32, Vec<u8>> {
    let binary = |(id, value)| match value {
        Value::Bytes(value) => Some((id, value)),
        _ => None,
    };
    pairs.into_iter().filter_map(binary).collect()
}
