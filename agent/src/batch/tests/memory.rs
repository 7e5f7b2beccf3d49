//! What a window really keeps: payloads are counted as they are made and dropped, whatever their arrays look like.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::buffer::Buffer;
use arrow::ipc::reader::StreamDecoder;
use bytes::Bytes;
use inshore_columnar::frame::Frame;

use super::*;

const BUDGET: usize = 4 << 20;
const KIB: usize = 1024;

/// A payload that takes itself off the count when nobody holds it any more.
struct Counted {
    bytes: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// The batch as it would come in a frame with so many bytes before its columns.
fn arrived(batch: RowBatch, padding: usize, alive: &Arc<AtomicUsize>) -> RowBatch {
    let payload = Frame::rows(&batch).unwrap().payload;
    let header = 4 + u32::from_le_bytes(*payload.first_chunk().unwrap()) as usize;
    let padding = padding.next_multiple_of(64);
    let bytes = [&vec![0; padding][..], &payload[header..]].concat();
    alive.fetch_add(bytes.len(), Ordering::Relaxed);
    let mut stream = Buffer::from(Bytes::from_owner(Counted { bytes, alive: Arc::clone(alive) })).slice(padding);
    let rows = StreamDecoder::new().decode(&mut stream).unwrap().expect("one batch");
    RowBatch { rows, ..batch }
}

/// One row with an id and some other columns.
fn row(id: i64, columns: std::ops::Range<i64>) -> RowBatch {
    let mut builder = builder(&["id"]);
    builder.begin_row(Op::Upsert);
    let slot = builder.column_index("id");
    builder.set(slot, Value::Int(id)).unwrap();
    for column in columns {
        let slot = builder.column_index(&format!("column_{column}"));
        builder.set(slot, Value::Bool(true)).unwrap();
    }
    builder.end_row().unwrap();
    builder.finish().unwrap()
}

/// The most that payloads took while the batches were pushed, and what one of them takes.
fn peak(window: &mut Window, batches: impl Iterator<Item = (RowBatch, usize)>) -> (usize, usize) {
    let alive = Arc::new(AtomicUsize::new(0));
    let (mut peak, mut largest) = (0, 0);
    for (batch, padding) in batches {
        let before = alive.load(Ordering::Relaxed);
        let batch = arrived(batch, padding, &alive);
        largest = largest.max(alive.load(Ordering::Relaxed) - before);
        peak = peak.max(alive.load(Ordering::Relaxed));
        window.push(batch).unwrap();
    }
    assert!(peak >= largest);
    (peak, largest)
}

#[test]
fn payloads_stay_within_the_budget_whatever_of_them_is_values() {
    for (name, batches, columns, padding) in [("padded headers", 300, 1, 256 * KIB), ("many columns", 60, 2_000, 0)] {
        let batches = (0..batches).map(|id| (row(id, 0..columns), padding));
        let mut window = Window::new(settings(BUDGET as u64, 1 << 20));
        let (peak, largest) = peak(&mut window, batches);
        assert!(peak <= BUDGET + largest, "{name}: {peak} bytes of payloads at once, {largest} the largest");
        assert!(peak > BUDGET / 8, "{name}: {peak} bytes: the columns do not lie in their payload");
        let mut lake = Lake::default();
        lake.seal(&mut window);
        assert!(lake.rows.len() >= 60, "{name}: {} rows", lake.rows.len());
    }
}

/// Each batch has columns of its own: sorting them needs an array per batch and column.
#[test]
fn columns_that_batches_lack_are_counted() {
    let mut window = Window::new(settings(1 << 40, 1 << 20));
    for id in 0..100 {
        window.push(row(id, id * 20..id * 20 + 20)).unwrap();
    }
    let counted: u64 = window.tables.values().map(Table::memory_bytes).sum();
    assert!(counted > 100 * 1_900 * 500, "{counted}");
    let mut window = Window::new(settings(BUDGET as u64, 1 << 20));
    for id in 0..100 {
        window.push(row(id, id * 20..id * 20 + 20)).unwrap();
        let counted: u64 = window.tables.values().map(Table::memory_bytes).sum();
        assert!(counted <= BUDGET as u64, "{counted} after {id}");
    }
    let mut lake = Lake::default();
    lake.seal(&mut window);
    assert_eq!(lake.rows.len(), 100);
}
