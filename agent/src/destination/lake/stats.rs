//! File statistics: read from a Parquet footer, written into the Delta log, and used to leave files alone.
//! Only bounds that every reader may trust are kept: no floats (NaN), no booleans, no binary, no decimals; times are
//! rounded outward to milliseconds. A missing bound costs time, a wrong one costs rows.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{max, max_string, min, min_string, sum};
use arrow::datatypes::{
    DataType as Arrow, Date32Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use bytes::Bytes;
use chrono::{DateTime, Datelike, Duration, SecondsFormat};
use inshore_columnar::{ColumnFacts, DataType, TableSchema};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Columns beyond this many keep bounds only where we need them: LONG and system columns. A key that stands further back
/// costs time, not rows.
const COLUMNS_WITH_BOUNDS: usize = 32;
/// Whole numbers up to here are exact as DOUBLE.
const DOUBLE_EXACT_MAX: i64 = 1 << 53;

/// The statistics of one file, in Delta's own shape.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Stats {
    pub(crate) num_records: u64,
    pub(crate) min_values: Map<String, Value>,
    pub(crate) max_values: Map<String, Value>,
    pub(crate) null_count: Map<String, Value>,
}

impl Stats {
    /// Reads the footer of a file.
    pub(crate) fn of(file: &Bytes) -> Result<Stats, ParquetError> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        Stats::of_footer(&ArrowReaderMetadata::load(file, options)?)
    }

    /// The same of a footer that was read, or just written.
    pub(crate) fn of_metadata(metadata: ParquetMetaData) -> Result<Stats, ParquetError> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        Stats::of_footer(&ArrowReaderMetadata::try_new(Arc::new(metadata), options)?)
    }

    fn of_footer(footer: &ArrowReaderMetadata) -> Result<Stats, ParquetError> {
        let groups = footer.metadata().row_groups();
        let num_records = groups.iter().map(|group| group.num_rows().unsigned_abs()).sum();
        let mut stats = Stats { num_records, ..Stats::default() };
        if groups.is_empty() {
            return Ok(stats);
        }
        for (position, field) in footer.schema().fields().iter().enumerate() {
            let wanted = position < COLUMNS_WITH_BOUNDS
                || field.data_type() == &Arrow::Int64
                || field.name().starts_with("_fivetran_");
            if !wanted {
                continue;
            }
            let converter = StatisticsConverter::try_new(field.name(), footer.schema(), footer.parquet_schema())?;
            let nulls = converter.row_group_null_counts(groups)?;
            if nulls.null_count() == 0 {
                stats.null_count.insert(field.name().clone(), sum(&nulls).unwrap_or(0).into());
            }
            if !is_bounded(field.data_type()) {
                continue;
            }
            let lowest = complete(converter.row_group_mins(groups)?, &nulls, groups).and_then(|a| low(&a));
            let highest = complete(converter.row_group_maxes(groups)?, &nulls, groups).and_then(|a| high(&a));
            if let (Some(lowest), Some(highest)) = (lowest, highest) {
                stats.min_values.insert(field.name().clone(), lowest);
                stats.max_values.insert(field.name().clone(), highest);
            }
        }
        Ok(stats)
    }

    /// Reads the text of an `add` action. A file of another writer may have none: then nothing is known about it.
    pub(crate) fn from_json(text: Option<&str>) -> Stats {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain structs always serialise")
    }

    /// Whether a row of one file may have the key of a row in the other.
    pub(crate) fn may_share_key(&self, other: &Stats, key: &[String]) -> bool {
        key.iter().all(|column| {
            let apart = |a: &Stats, b: &Stats| {
                let (Some(highest), Some(lowest)) = (a.max_values.get(column), b.min_values.get(column)) else {
                    return false;
                };
                compare(highest, lowest) == Some(Ordering::Less)
            };
            !apart(self, other) && !apart(other, self)
        })
    }

    /// Whether a row may have been synced before an instant.
    pub(crate) fn may_be_older(&self, bound_ms: i64) -> bool {
        let lowest = self.min_values.get("_fivetran_synced").and_then(Value::as_str);
        let lowest = lowest.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        lowest.is_none_or(|lowest| lowest.timestamp_millis() < bound_ms)
    }

    pub(crate) fn has(&self, column: &str) -> bool {
        self.null_count.contains_key(column)
    }

    /// What the type lattice needs to know about a LONG column of this file.
    pub(crate) fn facts(&self, column: &str) -> ColumnFacts {
        let bound = |values: &Map<String, Value>| values.get(column).and_then(Value::as_i64);
        let nulls = self.null_count.get(column).and_then(Value::as_u64);
        let all_null = nulls == Some(self.num_records);
        let exact = match (bound(&self.min_values), bound(&self.max_values)) {
            (Some(lowest), Some(highest)) => lowest >= -DOUBLE_EXACT_MAX && highest <= DOUBLE_EXACT_MAX,
            _ => all_null,
        };
        ColumnFacts { long_fits_double: exact }
    }
}

/// The LONG columns of a schema.
pub(crate) fn long_columns(schema: &TableSchema) -> impl Iterator<Item = &String> {
    schema.columns.iter().filter(|column| column.data_type == DataType::Long).map(|column| &column.name)
}

fn is_bounded(data_type: &Arrow) -> bool {
    matches!(
        data_type,
        Arrow::Int16
            | Arrow::Int32
            | Arrow::Int64
            | Arrow::Utf8
            | Arrow::Date32
            | Arrow::Timestamp(TimeUnit::Microsecond, _)
    )
}

/// Bounds hold only if every row group with a value has one.
fn complete(
    bounds: ArrayRef,
    nulls: &arrow::array::UInt64Array,
    groups: &[parquet::file::metadata::RowGroupMetaData],
) -> Option<ArrayRef> {
    let known = groups.iter().enumerate().all(|(index, group)| {
        let all_null = nulls.is_valid(index) && nulls.value(index) == group.num_rows().unsigned_abs();
        bounds.is_valid(index) || all_null
    });
    known.then_some(bounds)
}

fn low(bounds: &ArrayRef) -> Option<Value> {
    match bounds.data_type() {
        Arrow::Int16 => min(bounds.as_primitive::<Int16Type>()).map(Value::from),
        Arrow::Int32 => min(bounds.as_primitive::<Int32Type>()).map(Value::from),
        Arrow::Int64 => min(bounds.as_primitive::<Int64Type>()).map(Value::from),
        Arrow::Date32 => min(bounds.as_primitive::<Date32Type>()).and_then(date),
        Arrow::Timestamp(_, zone) => {
            instant(min(bounds.as_primitive::<TimestampMicrosecondType>())?.div_euclid(1000), zone)
        }
        Arrow::Utf8 => min_string(bounds.as_string::<i32>()).map(Value::from),
        _ => None,
    }
}

fn high(bounds: &ArrayRef) -> Option<Value> {
    match bounds.data_type() {
        Arrow::Int16 => max(bounds.as_primitive::<Int16Type>()).map(Value::from),
        Arrow::Int32 => max(bounds.as_primitive::<Int32Type>()).map(Value::from),
        Arrow::Int64 => max(bounds.as_primitive::<Int64Type>()).map(Value::from),
        Arrow::Date32 => max(bounds.as_primitive::<Date32Type>()).and_then(date),
        Arrow::Timestamp(_, zone) => {
            let micros = max(bounds.as_primitive::<TimestampMicrosecondType>())?;
            instant(micros.div_euclid(1000) + i64::from(micros.rem_euclid(1000) > 0), zone)
        }
        Arrow::Utf8 => max_string(bounds.as_string::<i32>()).map(Value::from),
        _ => None,
    }
}

/// ISO text sorts like the dates it stands for in the years that have four digits; others get no bound.
fn date(days: i32) -> Option<Value> {
    let date = DateTime::UNIX_EPOCH.date_naive().checked_add_signed(Duration::try_days(i64::from(days))?)?;
    (1..=9999).contains(&date.year()).then(|| date.format("%Y-%m-%d").to_string().into())
}

fn instant(millis: i64, zone: &Option<Arc<str>>) -> Option<Value> {
    let instant = DateTime::from_timestamp_millis(millis)?;
    if !(1..=9999).contains(&instant.year()) {
        return None;
    }
    let text = instant.to_rfc3339_opts(SecondsFormat::Millis, true);
    Some(if zone.is_some() { text.into() } else { text.trim_end_matches('Z').into() })
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => Some(a.as_i64()?.cmp(&b.as_i64()?)),
        (Value::String(a), Value::String(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        _ => None,
    }
}
