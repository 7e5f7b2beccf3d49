//! What rows keep in memory while they wait. Arrays of a frame lie in its payload: as long as one of them lives, all of it
//! does, with its header and whatever stands between the values. So allocations are counted, and not the values in them.

use std::collections::HashSet;

use arrow::array::{Array, ArrayData, ArrayRef};

use super::merge::Arrays;

/// An array without rows of its own that stands in for a column which a batch lacks, once the batch is sorted or spilled.
pub(super) const ABSENT_COLUMN_BYTES: usize = 512;

/// The bytes behind the arrays of one batch: each allocation once, however many of them share it, and what every array
/// and every place for one costs itself.
pub(super) fn held_bytes(arrays: &Arrays) -> usize {
    let mut allocations = HashSet::new();
    let present = arrays.iter().flatten().map(|(_, array)| array_bytes(array, &mut allocations)).sum::<usize>();
    present + arrays.capacity() * size_of_val(&None::<(inshore_columnar::DataType, ArrayRef)>)
}

fn array_bytes(array: &ArrayRef, allocations: &mut HashSet<usize>) -> usize {
    size_of_val(array.as_ref()) + data_bytes(&array.to_data(), allocations)
}

fn data_bytes(data: &ArrayData, allocations: &mut HashSet<usize>) -> usize {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    let own = data.buffers().iter().chain(nulls).map(|buffer| {
        let is_new = allocations.insert(buffer.data_ptr().as_ptr().addr());
        if is_new { buffer.capacity() } else { 0 }
    });
    let own = own.sum::<usize>();
    own + data.child_data().iter().map(|child| data_bytes(child, allocations)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BooleanArray, Int64Array, RecordBatch, StringArray};
    use inshore_columnar::frame::Frame;
    use inshore_columnar::{DataType, Naming, Op, RowBatch, TableBuilder, TableName, Value};

    use super::*;
    use crate::batch::merge::slice_bytes;

    fn arrays(columns: &[ArrayRef]) -> Arrays {
        columns.iter().map(|array| Some((DataType::String, Arc::clone(array)))).collect()
    }

    /// What is held and what the values take, of the columns of a frame as it arrives.
    fn of_frame(payload: Vec<u8>) -> (usize, usize) {
        let rows = Frame { kind: inshore_columnar::frame::Kind::Rows, payload }.into_rows().expect("rows").rows;
        of(rows.columns())
    }

    fn of(columns: &[ArrayRef]) -> (usize, usize) {
        (held_bytes(&arrays(columns)), columns.iter().map(slice_bytes).sum())
    }

    fn frame(rows: i64, columns: usize, text: &str) -> Vec<u8> {
        let table = TableName::new("shop", "orders");
        let mut builder = TableBuilder::new(table, &["id".to_owned()], &[], Naming::Source);
        for id in 0..rows {
            let slot = builder.column_index("id");
            builder.begin_row(Op::Upsert);
            builder.set(slot, Value::Int(id)).expect("fits");
            for column in 1..columns {
                let slot = builder.column_index(&format!("column_{column}"));
                builder.set(slot, Value::Str(text)).expect("fits");
            }
            builder.end_row().expect("a whole row");
        }
        let batch: RowBatch = builder.finish().expect("rows");
        Frame::rows(&batch).expect("a frame").payload
    }

    /// The same frame with spaces at the end of its JSON header.
    fn padded(payload: &[u8], spaces: usize) -> Vec<u8> {
        let length = u32::from_le_bytes(*payload.first_chunk().expect("a length")) as usize;
        let (header, stream) = payload[4..].split_at(length);
        let spaces = spaces.next_multiple_of(64);
        let longer = u32::try_from(length + spaces).expect("small").to_le_bytes();
        [&longer[..], header, &vec![b' '; spaces], stream].concat()
    }

    #[test]
    fn a_payload_is_counted_once_and_whole() {
        let text = "x".repeat(100);
        let cases = [
            ("an ordinary frame", frame(2_000, 8, &text)),
            ("one row of many columns", frame(1, 9_000, "x")),
            ("a padded header", padded(&frame(1, 2, "x"), 8 << 20)),
            ("one row", frame(1, 2, "x")),
        ];
        for (name, payload) in cases {
            let (length, columns) = (payload.len(), payload.capacity());
            let (held, values) = of_frame(payload);
            assert!(held >= length.max(values), "{name}: {held} of {length} bytes are counted");
            let arrays = held - length.min(held);
            assert!(arrays <= 9_100 * 512, "{name}: {held} bytes counted for a payload of {length} ({columns})");
            if name == "an ordinary frame" {
                assert!(held * 10 <= values * 12, "{name}: {held} counted for {values} bytes of values");
            }
        }
    }

    #[test]
    fn arrays_that_share_an_allocation_or_have_their_own() {
        let long: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let (whole, _) = of(&[Arc::clone(&long)]);
        let slices: Vec<ArrayRef> = (0..10).map(|part| long.slice(part * 10, 10)).collect();
        let (shared, values) = of(&slices);
        assert!((800_000..801_000).contains(&whole), "{whole}");
        assert!((800_000..804_000).contains(&shared) && values == 800, "{shared} {values}");
        let own: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("a"), None])),
            Arc::new(BooleanArray::from(vec![Some(true), None])),
        ];
        let (held, values) = of(&own);
        assert!(held >= values && held < 4_096, "{held} {values}");
        assert_eq!(held_bytes(&Arrays::new()), 0);
        let batch = RecordBatch::try_from_iter([("a", Arc::clone(&own[0])), ("b", Arc::clone(&own[0]))]).expect("two");
        let twice = of(batch.columns()).0;
        assert!(twice < 2 * of(&own[..1]).0, "one allocation, two columns");
    }
}
