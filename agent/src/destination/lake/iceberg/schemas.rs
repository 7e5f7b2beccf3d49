//! The Avro schemas of manifests and manifest lists, with the field ids that the Iceberg specification gives them.

use std::sync::LazyLock;

use apache_avro::Schema;
use serde_json::{Value, json};

/// A manifest's schema: one entry per file.
pub(super) static MANIFEST: LazyLock<Schema> = LazyLock::new(|| parse(&manifest()));
/// A manifest list's schema: one entry per manifest.
pub(super) static LIST: LazyLock<Schema> = LazyLock::new(|| parse(&list()));

fn parse(schema: &Value) -> Schema {
    Schema::parse(schema).expect("a schema of ours")
}

fn field(id: i32, name: &str, data_type: impl Into<Value>) -> Value {
    json!({"name": name, "type": data_type.into(), "field-id": id})
}

fn optional(id: i32, name: &str, data_type: impl Into<Value>) -> Value {
    json!({"name": name, "type": ["null", data_type.into()], "default": null, "field-id": id})
}

/// A map whose keys are field ids: Avro's own maps have text for keys.
fn by_field(key: i32, value: i32, data_type: &str) -> Value {
    let name = format!("k{key}_v{value}");
    let items = json!({
        "type": "record",
        "name": name,
        "fields": [field(key, "key", "int"), field(value, "value", data_type)],
    });
    json!({"type": "array", "logicalType": "map", "items": items})
}

fn array(element: i32, data_type: &str) -> Value {
    json!({"type": "array", "items": data_type, "element-id": element})
}

fn manifest() -> Value {
    let partition = json!({"type": "record", "name": "r102", "fields": []});
    let data_file = json!({
        "type": "record",
        "name": "r2",
        "fields": [
            field(134, "content", "int"),
            field(100, "file_path", "string"),
            field(101, "file_format", "string"),
            field(102, "partition", partition),
            field(103, "record_count", "long"),
            field(104, "file_size_in_bytes", "long"),
            optional(108, "column_sizes", by_field(117, 118, "long")),
            optional(109, "value_counts", by_field(119, 120, "long")),
            optional(110, "null_value_counts", by_field(121, 122, "long")),
            optional(137, "nan_value_counts", by_field(138, 139, "long")),
            optional(125, "lower_bounds", by_field(126, 127, "bytes")),
            optional(128, "upper_bounds", by_field(129, 130, "bytes")),
            optional(131, "key_metadata", "bytes"),
            optional(132, "split_offsets", array(133, "long")),
            optional(135, "equality_ids", array(136, "int")),
            optional(140, "sort_order_id", "int"),
            optional(143, "referenced_data_file", "string"),
        ],
    });
    json!({
        "type": "record",
        "name": "manifest_entry",
        "fields": [
            field(0, "status", "int"),
            optional(1, "snapshot_id", "long"),
            optional(3, "sequence_number", "long"),
            optional(4, "file_sequence_number", "long"),
            field(2, "data_file", data_file),
        ],
    })
}

fn list() -> Value {
    let partition = json!({
        "type": "record",
        "name": "r508",
        "fields": [
            field(509, "contains_null", "boolean"),
            optional(518, "contains_nan", "boolean"),
            optional(510, "lower_bound", "bytes"),
            optional(511, "upper_bound", "bytes"),
        ],
    });
    let partitions = json!({"type": "array", "items": partition, "element-id": 508});
    json!({
        "type": "record",
        "name": "manifest_file",
        "fields": [
            field(500, "manifest_path", "string"),
            field(501, "manifest_length", "long"),
            field(502, "partition_spec_id", "int"),
            field(517, "content", "int"),
            field(515, "sequence_number", "long"),
            field(516, "min_sequence_number", "long"),
            field(503, "added_snapshot_id", "long"),
            field(504, "added_files_count", "int"),
            field(505, "existing_files_count", "int"),
            field(506, "deleted_files_count", "int"),
            field(512, "added_rows_count", "long"),
            field(513, "existing_rows_count", "long"),
            field(514, "deleted_rows_count", "long"),
            optional(507, "partitions", partitions),
            optional(519, "key_metadata", "bytes"),
        ],
    })
}
