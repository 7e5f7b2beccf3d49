//! A file's statistics as a manifest spells them: by field id, bounds in Iceberg's single-value binary form. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat};
use inshore_columnar::{Column, DataType};
use serde_json::Value;

use crate::destination::lake::stats::Stats;

/// The field id of the column of a delete file that names data files.
const DELETED_FILE_PATH_ID: i32 = 2_147_483_546;

/// What a manifest says of one file's columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ColumnStats {
    pub(super) value_counts: BTreeMap<i32, i64>,
    pub(super) null_value_counts: BTreeMap<i32, i64>,
    pub(super) lower_bounds: BTreeMap<i32, Vec<u8>>,
    pub(super) upper_bounds: BTreeMap<i32, Vec<u8>>,
}

impl ColumnStats {
    pub(super) fn of(stats: &Stats, columns: &[(i32, Column)]) -> ColumnStats {
        let mut found = ColumnStats::default();
        for (id, column) in columns {
            if let Some(nulls) = stats.null_count.get(&column.name).and_then(Value::as_i64) {
                found.value_counts.insert(*id, i64::try_from(stats.num_records).unwrap_or(i64::MAX));
                found.null_value_counts.insert(*id, nulls);
            }
            let bound = |values: &serde_json::Map<String, Value>| {
                values.get(&column.name).and_then(|value| to_binary(&column.data_type, value))
            };
            if let (Some(low), Some(high)) = (bound(&stats.min_values), bound(&stats.max_values)) {
                found.lower_bounds.insert(*id, low);
                found.upper_bounds.insert(*id, high);
            }
        }
        found
    }

    /// Of a delete file, whose rows all name one data file: readers match the two by these bounds.
    pub(super) fn of_delete_file(data_file: &str) -> ColumnStats {
        let path = BTreeMap::from([(DELETED_FILE_PATH_ID, data_file.as_bytes().to_vec())]);
        ColumnStats { lower_bounds: path.clone(), upper_bounds: path, ..ColumnStats::default() }
    }

    /// The statistics that we would have from the file itself.
    pub(super) fn to_stats(&self, rows: u64, columns: &[(i32, Column)]) -> Stats {
        let mut stats = Stats { num_records: rows, ..Stats::default() };
        for (id, column) in columns {
            if let Some(nulls) = self.null_value_counts.get(id) {
                stats.null_count.insert(column.name.clone(), (*nulls).into());
            }
            let bound = |bounds: &BTreeMap<i32, Vec<u8>>| from_binary(&column.data_type, bounds.get(id)?);
            if let (Some(low), Some(high)) = (bound(&self.lower_bounds), bound(&self.upper_bounds)) {
                stats.min_values.insert(column.name.clone(), low);
                stats.max_values.insert(column.name.clone(), high);
            }
        }
        stats
    }
}

fn to_binary(data_type: &DataType, value: &Value) -> Option<Vec<u8>> {
    Some(match data_type {
        DataType::Short | DataType::Int => i32::try_from(value.as_i64()?).ok()?.to_le_bytes().to_vec(),
        DataType::Long => value.as_i64()?.to_le_bytes().to_vec(),
        DataType::NaiveDate => {
            let date = NaiveDate::parse_from_str(value.as_str()?, "%Y-%m-%d").ok()?;
            let days = date.signed_duration_since(DateTime::UNIX_EPOCH.date_naive()).num_days();
            i32::try_from(days).ok()?.to_le_bytes().to_vec()
        }
        DataType::NaiveDatetime => {
            let instant = NaiveDateTime::parse_from_str(value.as_str()?, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
            instant.and_utc().timestamp_micros().to_le_bytes().to_vec()
        }
        DataType::UtcDatetime => {
            let instant = DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
            instant.timestamp_micros().to_le_bytes().to_vec()
        }
        DataType::String | DataType::Json | DataType::Xml => value.as_str()?.as_bytes().to_vec(),
        _ => return None,
    })
}

fn from_binary(data_type: &DataType, bytes: &[u8]) -> Option<Value> {
    let int = || bytes.try_into().map(i32::from_le_bytes).ok();
    let long = || bytes.try_into().map(i64::from_le_bytes).ok();
    Some(match data_type {
        DataType::Short | DataType::Int => int()?.into(),
        DataType::Long => long()?.into(),
        DataType::NaiveDate => {
            let days = chrono::Duration::try_days(i64::from(int()?))?;
            let date = DateTime::UNIX_EPOCH.date_naive().checked_add_signed(days)?;
            date.format("%Y-%m-%d").to_string().into()
        }
        DataType::NaiveDatetime | DataType::UtcDatetime => {
            let instant = DateTime::from_timestamp_micros(long()?)?;
            let text = instant.to_rfc3339_opts(SecondsFormat::Millis, true);
            match data_type {
                DataType::UtcDatetime => text.into(),
                _ => text.trim_end_matches('Z').into(),
            }
        }
        DataType::String | DataType::Json | DataType::Xml => std::str::from_utf8(bytes).ok()?.into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bounds_go_there_and_back() {
        let cases = [
            (DataType::Short, json!(-3), vec![0xfd, 0xff, 0xff, 0xff]),
            (DataType::Int, json!(258), vec![2, 1, 0, 0]),
            (DataType::Long, json!(-1), vec![0xff; 8]),
            (DataType::NaiveDate, json!("1970-01-03"), vec![2, 0, 0, 0]),
            (DataType::NaiveDate, json!("0001-01-01"), (-719_162_i32).to_le_bytes().to_vec()),
            (DataType::NaiveDatetime, json!("1970-01-01T00:00:00.001"), 1000_i64.to_le_bytes().to_vec()),
            (DataType::UtcDatetime, json!("1969-12-31T23:59:59.999Z"), (-1000_i64).to_le_bytes().to_vec()),
            (DataType::String, json!("žluť"), "žluť".as_bytes().to_vec()),
        ];
        for (data_type, value, bytes) in cases {
            assert_eq!(to_binary(&data_type, &value), Some(bytes.clone()), "{data_type}");
            assert_eq!(from_binary(&data_type, &bytes), Some(value), "{data_type}");
        }
        assert_eq!(to_binary(&DataType::Double, &json!(1.5)), None, "no bounds where a NaN may be");
    }
}
