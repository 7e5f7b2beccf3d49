//! The metadata file of an Iceberg table, format version 2, as far as we write it: schemas with our fixed field ids, name
//! mapping, snapshots, properties. Pure.

use std::collections::BTreeMap;

use inshore_columnar::schema::field_ids;
use inshore_columnar::{Column, DataType, TableSchema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::destination::lake::snapshot::columns_of;

pub(super) const FORMAT_VERSION: u8 = 2;
pub(super) const OWNER_PROPERTY: &str = "inshore.owner";
/// The user columns and the key of a table: Iceberg cannot tell all of our types apart.
pub(super) const COLUMNS_PROPERTY: &str = "inshore.columns";
pub(super) const KEY_PROPERTY: &str = "inshore.key";
const NAME_MAPPING_PROPERTY: &str = "schema.name-mapping.default";
/// The highest id that a partition field could have had: there is none.
const LAST_PARTITION_ID: i32 = 999;
/// The one branch.
const MAIN: &str = "main";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Metadata {
    pub(super) format_version: u8,
    pub(super) table_uuid: String,
    pub(super) location: String,
    #[serde(default)]
    pub(super) last_sequence_number: i64,
    pub(super) last_updated_ms: i64,
    pub(super) last_column_id: i32,
    pub(super) current_schema_id: i32,
    pub(super) schemas: Vec<Schema>,
    pub(super) default_spec_id: i32,
    pub(super) partition_specs: Vec<PartitionSpec>,
    pub(super) last_partition_id: i32,
    pub(super) default_sort_order_id: i32,
    pub(super) sort_orders: Vec<SortOrder>,
    #[serde(default)]
    pub(super) properties: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) current_snapshot_id: Option<i64>,
    #[serde(default)]
    pub(super) refs: BTreeMap<String, Reference>,
    #[serde(default)]
    pub(super) snapshots: Vec<TableSnapshot>,
    #[serde(default)]
    pub(super) snapshot_log: Vec<SnapshotLogged>,
    #[serde(default)]
    pub(super) metadata_log: Vec<MetadataLogged>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Schema {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) schema_id: i32,
    pub(super) fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Field {
    pub(super) id: i32,
    pub(super) name: String,
    pub(super) required: bool,
    /// Text for a plain type; anything else is another program's.
    #[serde(rename = "type")]
    pub(super) data_type: Value,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct PartitionSpec {
    pub(super) spec_id: i32,
    pub(super) fields: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct SortOrder {
    pub(super) order_id: i32,
    pub(super) fields: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Reference {
    pub(super) snapshot_id: i64,
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct TableSnapshot {
    pub(super) snapshot_id: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent_snapshot_id: Option<i64>,
    #[serde(default)]
    pub(super) sequence_number: i64,
    pub(super) timestamp_ms: i64,
    pub(super) manifest_list: String,
    #[serde(default)]
    pub(super) summary: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) schema_id: i32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct SnapshotLogged {
    pub(super) timestamp_ms: i64,
    pub(super) snapshot_id: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct MetadataLogged {
    pub(super) timestamp_ms: i64,
    pub(super) metadata_file: String,
}

impl Metadata {
    /// A table without schema and rows: what the first version starts from.
    pub(super) fn new(table_uuid: String, location: String) -> Metadata {
        Metadata {
            format_version: FORMAT_VERSION,
            table_uuid,
            location,
            last_sequence_number: 0,
            last_updated_ms: 0,
            last_column_id: 0,
            current_schema_id: 0,
            schemas: Vec::new(),
            default_spec_id: 0,
            partition_specs: vec![PartitionSpec { spec_id: 0, fields: Vec::new() }],
            last_partition_id: LAST_PARTITION_ID,
            default_sort_order_id: 0,
            sort_orders: vec![SortOrder { order_id: 0, fields: Vec::new() }],
            properties: BTreeMap::new(),
            current_snapshot_id: None,
            refs: BTreeMap::new(),
            snapshots: Vec::new(),
            snapshot_log: Vec::new(),
            metadata_log: Vec::new(),
        }
    }

    /// We go on only where we know all that the table asks of a writer.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.format_version != FORMAT_VERSION {
            return Err(format!("its format version is {}, not {FORMAT_VERSION}", self.format_version));
        }
        if self.partition_specs.iter().any(|spec| !spec.fields.is_empty()) {
            return Err("it is partitioned".to_owned());
        }
        if self.refs.keys().any(|name| name != MAIN) {
            return Err("it has branches or tags".to_owned());
        }
        Ok(())
    }

    pub(super) fn current(&self) -> Option<&TableSnapshot> {
        let current = self.current_snapshot_id?;
        self.snapshots.iter().find(|snapshot| snapshot.snapshot_id == current)
    }

    pub(super) fn schema(&self) -> Option<&Schema> {
        self.schemas.iter().find(|schema| schema.schema_id == self.current_schema_id)
    }

    /// The logical schema as we left it in the properties.
    pub(super) fn table_schema(&self, table: &inshore_columnar::TableName) -> Result<Option<TableSchema>, String> {
        let (Some(columns), Some(key)) = (self.properties.get(COLUMNS_PROPERTY), self.properties.get(KEY_PROPERTY))
        else {
            return Ok(None);
        };
        let bad = |what: &str, error: serde_json::Error| format!("the property {what}: {error}");
        let columns: Vec<Column> = serde_json::from_str(columns).map_err(|error| bad(COLUMNS_PROPERTY, error))?;
        let key = serde_json::from_str(key).map_err(|error| bad(KEY_PROPERTY, error))?;
        Ok(Some(TableSchema { name: table.clone(), key, columns }))
    }

    /// Makes this the schema of the table. The same columns with the same types are the same schema.
    pub(super) fn set_schema(&mut self, schema: &TableSchema) {
        let columns = serde_json::to_string(&schema.columns).expect("plain structs always serialise");
        self.properties.insert(COLUMNS_PROPERTY.to_owned(), columns);
        let key = serde_json::to_string(&schema.key).expect("strings always serialise");
        self.properties.insert(KEY_PROPERTY.to_owned(), key);
        let fields = fields(schema);
        self.properties.insert(NAME_MAPPING_PROPERTY.to_owned(), name_mapping(&fields));
        self.last_column_id = fields.iter().map(|field| field.id).fold(self.last_column_id, i32::max);
        let known = self.schemas.iter().find(|known| known.fields == fields);
        self.current_schema_id = match known {
            Some(known) => known.schema_id,
            None => {
                let schema_id = self.schemas.iter().map(|known| known.schema_id + 1).max().unwrap_or(0);
                self.schemas.push(Schema { kind: "struct".to_owned(), schema_id, fields });
                schema_id
            }
        };
    }

    /// Makes this the current snapshot.
    pub(super) fn set_snapshot(&mut self, snapshot: TableSnapshot) {
        let id = snapshot.snapshot_id;
        self.last_sequence_number = snapshot.sequence_number;
        self.current_snapshot_id = Some(id);
        self.refs.insert(MAIN.to_owned(), Reference { snapshot_id: id, kind: "branch".to_owned() });
        self.snapshot_log.push(SnapshotLogged { timestamp_ms: snapshot.timestamp_ms, snapshot_id: id });
        self.snapshots.push(snapshot);
    }

    /// Forgets snapshots, and the schemas that only they had.
    pub(super) fn keep(&mut self, is_kept: impl Fn(&TableSnapshot) -> bool) {
        self.snapshots.retain(is_kept);
        let kept = |id: i64| self.snapshots.iter().any(|snapshot| snapshot.snapshot_id == id);
        // A log with a gap must begin after it: readers ask it which snapshot was current when.
        let gap = self.snapshot_log.iter().rposition(|logged| !kept(logged.snapshot_id));
        self.snapshot_log.drain(..gap.map_or(0, |gap| gap + 1));
        let current = self.current_schema_id;
        let used = |id: i32| id == current || self.snapshots.iter().any(|snapshot| snapshot.schema_id == id);
        self.schemas.retain(|schema| used(schema.schema_id));
    }
}

/// The name of a column's type in an Iceberg schema.
pub(super) fn iceberg_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Short | DataType::Int => "int".to_owned(),
        DataType::Long => "long".to_owned(),
        DataType::Decimal { precision, scale } => format!("decimal({precision}, {scale})"),
        DataType::Float => "float".to_owned(),
        DataType::Double => "double".to_owned(),
        DataType::NaiveDate => "date".to_owned(),
        DataType::NaiveTime => "time".to_owned(),
        DataType::NaiveDatetime => "timestamp".to_owned(),
        DataType::UtcDatetime => "timestamptz".to_owned(),
        DataType::Binary => "binary".to_owned(),
        DataType::Xml | DataType::String | DataType::Json => "string".to_owned(),
    }
}

/// The columns of a table with their field ids.
pub(super) fn columns_with_ids(schema: &TableSchema) -> Vec<(i32, Column)> {
    let columns = columns_of(schema);
    let ids = field_ids(columns.iter().map(|column| column.name.as_str()));
    ids.into_iter().zip(columns).collect()
}

fn fields(schema: &TableSchema) -> Vec<Field> {
    let field = |(id, column): (i32, Column)| Field {
        id,
        name: column.name,
        required: false,
        data_type: iceberg_type(&column.data_type).into(),
    };
    columns_with_ids(schema).into_iter().map(field).collect()
}

/// For files that carry no field ids.
fn name_mapping(fields: &[Field]) -> String {
    let mapped = |field: &Field| json!({"field-id": field.id, "names": [field.name]});
    Value::from(fields.iter().map(mapped).collect::<Vec<_>>()).to_string()
}
