//! The actions in the rows of a checkpoint, whoever wrote it: columns are found by name and read in the types that we write.

use arrow::array::{Array, ArrayRef, AsArray, StructArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType as Arrow, Int64Type};
use serde_json::Value;

use super::Unusable;
use super::columns::{list_type, map_type};
use crate::destination::lake::action::{Action, Add, Format, Metadata, Protocol, Remove, Texts, Txn};

/// Takes the rows of one kind. Kinds and columns that we do not know say nothing that we need: the protocol is checked.
pub(super) fn read(kind: &str, group: &StructArray, actions: &mut Vec<Action>) -> Result<(), Unusable> {
    match kind {
        "protocol" => protocols(group, actions),
        "metaData" => metadata(group, actions),
        "txn" => txns(group, actions),
        "remove" => removes(group, actions),
        "add" => adds(group, actions),
        _ => Ok(()),
    }
}

fn protocols(group: &StructArray, actions: &mut Vec<Action>) -> Result<(), Unusable> {
    let names = ["minReaderVersion", "minWriterVersion"];
    let [reader, writer] = columns(group, names, &Arrow::Int64)?;
    let [reader_features, writer_features] = columns(group, ["readerFeatures", "writerFeatures"], &list_type())?;
    for row in present(group) {
        let version =
            |column| u32::try_from(number(column, row).unwrap_or(-1)).map_err(|_| lacks("a protocol version"));
        let protocol = Protocol {
            min_reader_version: version(&reader)?,
            min_writer_version: version(&writer)?,
            reader_features: list(&reader_features, row),
            writer_features: list(&writer_features, row),
        };
        actions.push(Action { protocol: Some(protocol), ..Action::default() });
    }
    Ok(())
}

fn metadata(group: &StructArray, actions: &mut Vec<Action>) -> Result<(), Unusable> {
    let [id, name, description, schema] = columns(group, ["id", "name", "description", "schemaString"], &Arrow::Utf8)?;
    let [partition_columns] = columns(group, ["partitionColumns"], &list_type())?;
    let [configuration] = columns(group, ["configuration"], &map_type())?;
    let [created_time] = columns(group, ["createdTime"], &Arrow::Int64)?;
    let format = group.column_by_name("format").and_then(|column| column.as_struct_opt());
    let format = format.ok_or_else(|| lacks("a format"))?;
    let [provider] = columns(format, ["provider"], &Arrow::Utf8)?;
    let [options] = columns(format, ["options"], &map_type())?;
    let plain = |map: Option<Texts>| map.into_iter().flatten().filter_map(|(key, value)| Some((key, value?))).collect();
    for row in present(group) {
        let provider = text(&provider, row).ok_or_else(|| lacks("a format"))?;
        let metadata = Metadata {
            id: text(&id, row).ok_or_else(|| lacks("a table id"))?,
            name: text(&name, row),
            description: text(&description, row),
            format: Format { provider, options: plain(map(&options, row)) },
            schema_string: text(&schema, row).ok_or_else(|| lacks("a schema"))?,
            partition_columns: list(&partition_columns, row).unwrap_or_default(),
            configuration: plain(map(&configuration, row)),
            created_time: number(&created_time, row),
        };
        actions.push(Action { meta_data: Some(metadata), ..Action::default() });
    }
    Ok(())
}

fn txns(group: &StructArray, actions: &mut Vec<Action>) -> Result<(), Unusable> {
    let [app_id] = columns(group, ["appId"], &Arrow::Utf8)?;
    let [version, last_updated] = columns(group, ["version", "lastUpdated"], &Arrow::Int64)?;
    for row in present(group) {
        let txn = Txn {
            app_id: text(&app_id, row).ok_or_else(|| lacks("a writer"))?,
            version: number(&version, row).ok_or_else(|| lacks("a marker"))?,
            last_updated: number(&last_updated, row),
        };
        actions.push(Action { txn: Some(txn), ..Action::default() });
    }
    Ok(())
}

fn removes(group: &StructArray, actions: &mut Vec<Action>) -> Result<(), Unusable> {
    let [path] = columns(group, ["path"], &Arrow::Utf8)?;
    let [deletion_timestamp, size] = columns(group, ["deletionTimestamp", "size"], &Arrow::Int64)?;
    let [data_change, extended] = columns(group, ["dataChange", "extendedFileMetadata"], &Arrow::Boolean)?;
    let [partition_values] = columns(group, ["partitionValues"], &map_type())?;
    for row in present(group) {
        let remove = Remove {
            path: text(&path, row).ok_or_else(|| lacks("a path"))?,
            deletion_timestamp: number(&deletion_timestamp, row),
            data_change: flag(&data_change, row).unwrap_or(false),
            extended_file_metadata: flag(&extended, row),
            partition_values: map(&partition_values, row),
            size: number(&size, row).map(u64::try_from).transpose().map_err(|_| lacks("a size"))?,
        };
        actions.push(Action { remove: Some(remove), ..Action::default() });
    }
    Ok(())
}

fn adds(group: &StructArray, actions: &mut Vec<Action>) -> Result<(), Unusable> {
    let [path, stats] = columns(group, ["path", "stats"], &Arrow::Utf8)?;
    let [size, modification_time] = columns(group, ["size", "modificationTime"], &Arrow::Int64)?;
    let [data_change] = columns(group, ["dataChange"], &Arrow::Boolean)?;
    let [partition_values, tags] = columns(group, ["partitionValues", "tags"], &map_type())?;
    let vectors = group.column_by_name("deletionVector");
    for row in present(group) {
        let size = number(&size, row).and_then(|size| u64::try_from(size).ok());
        let add = Add {
            path: text(&path, row).ok_or_else(|| lacks("a path"))?,
            partition_values: map(&partition_values, row).unwrap_or_default(),
            size: size.ok_or_else(|| lacks("a size"))?,
            modification_time: number(&modification_time, row).unwrap_or(0),
            data_change: flag(&data_change, row).unwrap_or(false),
            tags: map(&tags, row),
            stats: text(&stats, row),
            deletion_vector: vectors.filter(|vectors| vectors.is_valid(row)).map(|_| Value::Bool(true)),
        };
        actions.push(Action { add: Some(add), ..Action::default() });
    }
    Ok(())
}

fn present(group: &StructArray) -> impl Iterator<Item = usize> {
    (0..group.len()).filter(|row| group.is_valid(*row))
}

/// Columns of one type; one that is absent holds nothing.
fn columns<const N: usize>(group: &StructArray, names: [&str; N], wanted: &Arrow) -> Result<[ArrayRef; N], Unusable> {
    let mut columns = [(); N].map(|()| new_null_array(wanted, 0));
    for (column, name) in columns.iter_mut().zip(names) {
        *column = match group.column_by_name(name) {
            Some(found) => cast(found, wanted)?,
            None => new_null_array(wanted, group.len()),
        };
    }
    Ok(columns)
}

fn text(column: &ArrayRef, row: usize) -> Option<String> {
    column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_owned())
}

fn number(column: &ArrayRef, row: usize) -> Option<i64> {
    column.is_valid(row).then(|| column.as_primitive::<Int64Type>().value(row))
}

fn flag(column: &ArrayRef, row: usize) -> Option<bool> {
    column.is_valid(row).then(|| column.as_boolean().value(row))
}

fn list(column: &ArrayRef, row: usize) -> Option<Vec<String>> {
    column.is_valid(row).then(|| {
        let items = column.as_list::<i32>().value(row);
        (0..items.len()).filter_map(|item| text(&items, item)).collect()
    })
}

fn map(column: &ArrayRef, row: usize) -> Option<Texts> {
    column.is_valid(row).then(|| {
        let pairs = column.as_map().value(row);
        let (keys, values) = (pairs.column(0), pairs.column(1));
        (0..pairs.len()).filter_map(|pair| Some((text(keys, pair)?, text(values, pair)))).collect()
    })
}

fn lacks(what: &str) -> Unusable {
    Unusable::Content(format!("an action lacks {what}"))
}
