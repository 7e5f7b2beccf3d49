//! Frames round-trip, and broken ones are refused.

use std::sync::Arc;

use arrow::array::{Int32Array, RecordBatch, UInt8Array, UInt32Array};
use arrow::datatypes::{DataType as Arrow, Field, Schema};

use super::*;
use crate::batch::{NO_SET, OP_COLUMN, SET_COLUMN};
use crate::schema::{Column, TableName};
use crate::types::DataType;

fn batch(ops: Vec<u8>, sets_of_rows: Vec<u32>, sets: Vec<Vec<u32>>) -> RowBatch {
    let table = TableName::new("shop", "orders");
    let schema = TableSchema {
        name: table.clone(),
        key: vec!["id".to_owned()],
        columns: vec![Column::new("id", DataType::Int), Column::new("count", DataType::Int)],
    };
    let arrow = Schema::new(vec![
        Field::new("id", Arrow::Int32, true),
        Field::new("count", Arrow::Int32, true),
        Field::new(OP_COLUMN, Arrow::UInt8, false),
        Field::new(SET_COLUMN, Arrow::UInt32, false),
    ]);
    let numbers = Int32Array::from_iter_values(0..i32::try_from(ops.len()).unwrap());
    let rows = RecordBatch::try_new(
        Arc::new(arrow),
        vec![
            Arc::new(numbers.clone()),
            Arc::new(numbers),
            Arc::new(UInt8Array::from(ops)),
            Arc::new(UInt32Array::from(sets_of_rows)),
        ],
    )
    .unwrap();
    RowBatch { table, schema, rows, sets, untyped: vec!["later".to_owned()] }
}

fn good() -> RowBatch {
    batch(vec![0, 1, 2], vec![NO_SET, 0, NO_SET], vec![vec![1, 2]])
}

#[test]
fn rows_round_trip() {
    let sent = good();
    let frame = Frame::rows(&sent).unwrap();
    let received = Frame::read(&mut frame.encode().unwrap().as_slice()).unwrap().unwrap().into_rows().unwrap();
    assert_eq!(received, sent);
    assert_eq!(received.ops(), [0, 1, 2]);
    assert_eq!(received.set_of_rows().unwrap(), [NO_SET, 0, NO_SET]);
    assert_eq!(received.set_column(1), Some("count"));
    assert_eq!(received.set_column(2), Some("later"));
    assert_eq!(received.set_column(3), None);
}

#[test]
fn rows_that_contradict_themselves_are_refused() {
    let mut renamed = good();
    renamed.schema.columns[1].name = "other".to_owned();
    let mut retyped = good();
    retyped.schema.columns[1].data_type = DataType::Long;
    let mut fewer = good();
    fewer.schema.columns.pop();
    let cases = [
        batch(vec![3], vec![NO_SET], vec![]),
        batch(vec![1], vec![NO_SET], vec![]),
        batch(vec![1], vec![1], vec![vec![1]]),
        batch(vec![0], vec![NO_SET], vec![vec![3]]),
        renamed,
        retyped,
        fewer,
    ];
    for (case, batch) in cases.into_iter().enumerate() {
        let error = Frame::rows(&batch).unwrap().into_rows().unwrap_err();
        assert!(matches!(error, FrameError::Batch(_)), "case {case}: {error}");
    }
}

#[test]
fn frames_are_found_in_a_growing_buffer() {
    let frame = Frame::json(Kind::Ack, &serde_json::json!({"checkpoint": 7})).unwrap();
    let mut bytes = frame.encode().unwrap();
    for end in 0..bytes.len() {
        assert!(Frame::decode(&bytes[..end]).unwrap().is_none());
    }
    bytes.extend_from_slice(b"next");
    let (decoded, taken) = Frame::decode(&bytes).unwrap().unwrap();
    assert_eq!((decoded, taken), (frame, bytes.len() - 4));
}

#[test]
fn a_stream_ends_between_frames_only() {
    let bytes = Frame { kind: Kind::Stop, payload: vec![1, 2] }.encode().unwrap();
    assert!(Frame::read(&mut &bytes[..0]).unwrap().is_none());
    for end in 1..bytes.len() {
        let error = Frame::read(&mut &bytes[..end]).unwrap_err();
        assert!(matches!(error, FrameError::Truncated), "{end}: {error}");
    }
}

#[test]
fn lengths_and_kinds_are_checked() {
    assert!(matches!(Frame::decode(&[0, 0, 0, 0]), Err(FrameError::Empty)));
    assert!(matches!(Frame::decode(&[1, 0, 0, 0, 200]), Err(FrameError::UnknownKind(200))));
    assert!(matches!(Frame::decode(&[0, 0, 0, 255]), Err(FrameError::TooLarge { .. })));
    let large = Frame { kind: Kind::Log, payload: vec![0; FRAME_BYTES_MAX] };
    assert!(matches!(large.encode(), Err(FrameError::TooLarge { .. })));
}

#[test]
fn kinds_have_distinct_codes() {
    for (code, kind) in KINDS {
        assert_eq!(Kind::from_code(code), Some(kind));
        assert_eq!(kind.code(), code);
    }
}
