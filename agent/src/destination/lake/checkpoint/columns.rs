//! The columns of a checkpoint: one row per action, one group of columns per kind. Arrow and Parquet only, no IO.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, ListBuilder, MapBuilder, MapFieldNames,
    RecordBatch, StringArray, StringBuilder, StructArray, new_null_array,
};
use arrow::datatypes::{DataType as Arrow, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};

use super::{Unusable, rows};
use crate::destination::lake::action::{Action, Add, Metadata, Protocol, Remove, Texts, Txn};

/// The file's key for the digest of its actions.
const DIGEST_KEY: &str = "inshore.sha256";
/// Actions that become columns at a time.
const BATCH_ROWS: usize = 8 * 1024;

/// Who wrote a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoded {
    /// We did: its content is proven by a digest.
    Ours,
    Foreign,
}

/// The file of the actions, each of which is of one kind.
pub(super) fn encode(actions: &[Action]) -> Result<Bytes, ParquetError> {
    encode_with(actions, Some(KeyValue::new(DIGEST_KEY.to_owned(), digest(actions))))
}

pub(super) fn encode_with(actions: &[Action], fact: Option<KeyValue>) -> Result<Bytes, ParquetError> {
    let schema = schema();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_key_value_metadata(fact.map(|fact| vec![fact]))
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties))?;
    for chunk in actions.chunks(BATCH_ROWS) {
        for (kind, columns) in groups(chunk) {
            writer.write(&batch(&schema, kind, columns)?)?;
        }
    }
    Ok(writer.into_inner()?.into())
}

/// The actions of a file in their order.
pub(super) fn decode(file: Bytes) -> Result<(Vec<Action>, Decoded), Unusable> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file, options)?;
    let facts = builder.metadata().file_metadata().key_value_metadata();
    let wanted = facts.and_then(|facts| facts.iter().find(|fact| fact.key == DIGEST_KEY)).and_then(|f| f.value.clone());
    let mut actions = Vec::new();
    for batch in builder.with_batch_size(BATCH_ROWS).build()? {
        let batch = batch?;
        for field in batch.schema().fields() {
            let group = batch.column_by_name(field.name()).and_then(|column| column.as_struct_opt());
            if let Some(group) = group {
                rows::read(field.name(), group, &mut actions)?;
            }
        }
    }
    match wanted {
        None => Ok((actions, Decoded::Foreign)),
        Some(wanted) if wanted == digest(&actions) => Ok((actions, Decoded::Ours)),
        Some(_) => Err(Unusable::Digest),
    }
}

/// Says that what was read is what was written, whatever happened to the file between.
fn digest(actions: &[Action]) -> String {
    let mut digest = Sha256::new();
    for action in actions {
        digest.update(serde_json::to_vec(action).expect("plain structs always serialise"));
        digest.update(b"\n");
    }
    hex::encode(digest.finalize())
}

fn schema() -> SchemaRef {
    let group = |name: &str, fields: Vec<Field>| field(name, Arrow::Struct(fields.into()));
    let protocol = [
        field("minReaderVersion", Arrow::Int32),
        field("minWriterVersion", Arrow::Int32),
        field("readerFeatures", list_type()),
        field("writerFeatures", list_type()),
    ];
    let meta_data = [
        field("id", Arrow::Utf8),
        field("name", Arrow::Utf8),
        field("description", Arrow::Utf8),
        group("format", format_fields()),
        field("schemaString", Arrow::Utf8),
        field("partitionColumns", list_type()),
        field("configuration", map_type()),
        field("createdTime", Arrow::Int64),
    ];
    let txn = [field("appId", Arrow::Utf8), field("version", Arrow::Int64), field("lastUpdated", Arrow::Int64)];
    let remove = [
        field("path", Arrow::Utf8),
        field("deletionTimestamp", Arrow::Int64),
        field("dataChange", Arrow::Boolean),
        field("extendedFileMetadata", Arrow::Boolean),
        field("partitionValues", map_type()),
        field("size", Arrow::Int64),
    ];
    let add = [
        field("path", Arrow::Utf8),
        field("partitionValues", map_type()),
        field("size", Arrow::Int64),
        field("modificationTime", Arrow::Int64),
        field("dataChange", Arrow::Boolean),
        field("tags", map_type()),
        field("stats", Arrow::Utf8),
    ];
    Arc::new(Schema::new(vec![
        group("protocol", protocol.into()),
        group("metaData", meta_data.into()),
        group("txn", txn.into()),
        group("remove", remove.into()),
        group("add", add.into()),
    ]))
}

fn field(name: &str, data_type: Arrow) -> Field {
    Field::new(name, data_type, true)
}

fn format_fields() -> Vec<Field> {
    vec![field("provider", Arrow::Utf8), field("options", map_type())]
}

pub(super) fn list_type() -> Arrow {
    Arrow::List(Arc::new(Field::new("element", Arrow::Utf8, true)))
}

pub(super) fn map_type() -> Arrow {
    let pair = vec![Field::new("key", Arrow::Utf8, false), Field::new("value", Arrow::Utf8, true)];
    Arrow::Map(Arc::new(Field::new("key_value", Arrow::Struct(pair.into()), false)), false)
}

/// Rows of one kind; the other kinds' groups are null.
fn batch(schema: &SchemaRef, kind: &str, columns: Vec<ArrayRef>) -> Result<RecordBatch, ArrowError> {
    let rows = columns.first().map_or(0, |column| column.len());
    let mut columns = Some(columns);
    let groups = schema.fields().iter().map(|field| match field.data_type() {
        Arrow::Struct(fields) if field.name() == kind => {
            let group = StructArray::try_new(fields.clone(), columns.take().unwrap_or_default(), None)?;
            Ok(Arc::new(group) as ArrayRef)
        }
        other => Ok(new_null_array(other, rows)),
    });
    let groups = groups.collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    RecordBatch::try_new(Arc::clone(schema), groups)
}

/// The columns of each kind that occurs, in the order of the schema.
fn groups(actions: &[Action]) -> Vec<(&'static str, Vec<ArrayRef>)> {
    let protocols: Vec<&Protocol> = actions.iter().filter_map(|action| action.protocol.as_ref()).collect();
    let metadata: Vec<&Metadata> = actions.iter().filter_map(|action| action.meta_data.as_ref()).collect();
    let txns: Vec<&Txn> = actions.iter().filter_map(|action| action.txn.as_ref()).collect();
    let removes: Vec<&Remove> = actions.iter().filter_map(|action| action.remove.as_ref()).collect();
    let adds: Vec<&Add> = actions.iter().filter_map(|action| action.add.as_ref()).collect();
    let groups = [
        ("protocol", protocol_columns(&protocols)),
        ("metaData", metadata_columns(&metadata)),
        ("txn", txn_columns(&txns)),
        ("remove", remove_columns(&removes)),
        ("add", add_columns(&adds)),
    ];
    groups.into_iter().filter(|(_, columns)| columns.first().is_some_and(|column| !column.is_empty())).collect()
}

fn protocol_columns(rows: &[&Protocol]) -> Vec<ArrayRef> {
    let int = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    vec![
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| int(row.min_reader_version)))),
        Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| int(row.min_writer_version)))),
        lists(rows.iter().map(|row| row.reader_features.as_deref())),
        lists(rows.iter().map(|row| row.writer_features.as_deref())),
    ]
}

fn metadata_columns(rows: &[&Metadata]) -> Vec<ArrayRef> {
    let plain = |map: &BTreeMap<String, String>| map.iter().map(|(k, v)| (k.clone(), Some(v.clone()))).collect();
    let options: Vec<Texts> = rows.iter().map(|row| plain(&row.format.options)).collect();
    let configurations: Vec<Texts> = rows.iter().map(|row| plain(&row.configuration)).collect();
    let providers = texts(rows.iter().map(|row| Some(row.format.provider.as_str())));
    let format = vec![providers, maps(options.iter().map(Some))];
    vec![
        texts(rows.iter().map(|row| Some(row.id.as_str()))),
        texts(rows.iter().map(|row| row.name.as_deref())),
        texts(rows.iter().map(|row| row.description.as_deref())),
        Arc::new(StructArray::new(format_fields().into(), format, None)),
        texts(rows.iter().map(|row| Some(row.schema_string.as_str()))),
        lists(rows.iter().map(|row| Some(row.partition_columns.as_slice()))),
        maps(configurations.iter().map(Some)),
        longs(rows.iter().map(|row| row.created_time)),
    ]
}

fn txn_columns(rows: &[&Txn]) -> Vec<ArrayRef> {
    vec![
        texts(rows.iter().map(|row| Some(row.app_id.as_str()))),
        longs(rows.iter().map(|row| Some(row.version))),
        longs(rows.iter().map(|row| row.last_updated)),
    ]
}

fn remove_columns(rows: &[&Remove]) -> Vec<ArrayRef> {
    vec![
        texts(rows.iter().map(|row| Some(row.path.as_str()))),
        longs(rows.iter().map(|row| row.deletion_timestamp)),
        flags(rows.iter().map(|row| Some(row.data_change))),
        flags(rows.iter().map(|row| row.extended_file_metadata)),
        maps(rows.iter().map(|row| row.partition_values.as_ref())),
        longs(rows.iter().map(|row| row.size.map(long))),
    ]
}

fn add_columns(rows: &[&Add]) -> Vec<ArrayRef> {
    vec![
        texts(rows.iter().map(|row| Some(row.path.as_str()))),
        maps(rows.iter().map(|row| Some(&row.partition_values))),
        longs(rows.iter().map(|row| Some(long(row.size)))),
        longs(rows.iter().map(|row| Some(row.modification_time))),
        flags(rows.iter().map(|row| Some(row.data_change))),
        maps(rows.iter().map(|row| row.tags.as_ref())),
        texts(rows.iter().map(|row| row.stats.as_deref())),
    ]
}

fn long(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn longs(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn flags(values: impl Iterator<Item = Option<bool>>) -> ArrayRef {
    Arc::new(values.collect::<BooleanArray>())
}

fn lists<'a>(values: impl Iterator<Item = Option<&'a [String]>>) -> ArrayRef {
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(field("element", Arrow::Utf8));
    values.for_each(|list| builder.append_option(list.map(|list| list.iter().map(Some))));
    Arc::new(builder.finish())
}

fn maps<'a>(values: impl Iterator<Item = Option<&'a Texts>>) -> ArrayRef {
    let names = MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for map in values {
        for (key, value) in map.into_iter().flatten() {
            builder.keys().append_value(key);
            builder.values().append_option(value.as_ref());
        }
        builder.append(map.is_some()).expect("as many keys as values");
    }
    Arc::new(builder.finish())
}
