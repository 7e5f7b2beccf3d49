//! Every message of every version ever released decodes with today's code, and means the same when encoded again; random
//! and mutated bytes never panic.

use std::collections::BTreeSet;
use std::path::PathBuf;

use inshore_protocol::{Down, Up, decode_clear, decode_down, decode_enrol_down, decode_enrol_up, decode_up, encode};
use serde_json::Value;

fn golden() -> Vec<(String, String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/v1");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("golden folder")
        .map(|entry| {
            let path = entry.expect("entry").path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).expect("name").to_owned();
            let (direction, name) = name.split_once('.').expect("direction and name");
            (direction.to_owned(), name.to_owned(), std::fs::read(&path).expect("golden file"))
        })
        .collect();
    files.sort();
    files
}

/// What today's code makes of a message, encoded again.
fn again(direction: &str, bytes: &[u8]) -> Vec<u8> {
    match direction {
        "up" => encode(&decode_up(bytes).expect("up")),
        "down" => encode(&decode_down(bytes).expect("down")),
        "clear" => encode(&decode_clear(bytes).expect("clear")),
        "enrol_up" => encode(&decode_enrol_up(bytes).expect("enrol_up")),
        "enrol_down" => encode(&decode_enrol_down(bytes).expect("enrol_down")),
        other => panic!("no direction {other}"),
    }
}

#[test]
fn golden_messages_keep_their_meaning() {
    for (direction, name, bytes) in golden() {
        let before: Value = serde_json::from_slice(&bytes).expect("JSON");
        let after: Value = serde_json::from_slice(&again(&direction, &bytes)).expect("JSON");
        assert_eq!(before, after, "{direction}.{name}");
    }
}

#[test]
fn golden_messages_tolerate_fields_of_the_future() {
    for (direction, name, bytes) in golden() {
        let before: Value = serde_json::from_slice(&bytes).expect("JSON");
        let mut future = before.clone();
        future.as_object_mut().expect("object").insert("later".to_owned(), serde_json::json!({"x": [1, null]}));
        let after: Value = serde_json::from_slice(&again(&direction, &encode(&future))).expect("JSON");
        assert_eq!(before, after, "{direction}.{name}");
    }
}

/// The compiler keeps `fn kind` exhaustive, so its source lists every kind there is.
fn kinds_of(direction: &str) -> BTreeSet<&'static str> {
    let arms = include_str!("../src/message.rs").lines().filter(|line| line.trim().starts_with(direction));
    arms.filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\",")).filter(|kind| *kind != "unknown").collect()
}

#[test]
fn every_kind_has_a_golden_message() {
    let golden = golden();
    let of = |direction: &str| golden.iter().filter(|file| file.0 == direction).map(|file| &file.2).collect::<Vec<_>>();
    let up: BTreeSet<_> = of("up").iter().map(|bytes| decode_up(bytes).expect("up").kind()).collect();
    let down: BTreeSet<_> = of("down").iter().map(|bytes| decode_down(bytes).expect("down").kind()).collect();
    assert_eq!((up.len(), down.len()), (9, 13));
    assert_eq!(up, kinds_of("Up::"));
    assert_eq!(down, kinds_of("Down::"));
}

/// A small generator of our own: the same bytes on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 if !bytes.is_empty() => bytes[at] = random.byte(),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, b"{}[]\":,0-9\\"[random.below(11)]),
            3 => bytes.extend_from_within(at..),
            _ => bytes.extend((0..random.below(64)).map(|_| 0xff)),
        }
    }
}

#[test]
fn no_bytes_make_a_decoder_panic() {
    let golden = golden();
    let mut random = Random(0x1595_0e3a_77c1_0b2d);
    let mut decoded = 0_u32;
    for round in 0..100_000 {
        let bytes = if round % 4 == 0 {
            (0..random.below(200)).map(|_| random.byte()).collect()
        } else {
            let mut bytes = golden[random.below(golden.len())].2.clone();
            mutate(&mut random, &mut bytes);
            bytes
        };
        decoded += u32::from(decode_up(&bytes).is_ok_and(|message| message != Up::Unknown));
        decoded += u32::from(decode_down(&bytes).is_ok_and(|message| message != Down::Unknown));
        drop((decode_clear(&bytes), decode_enrol_up(&bytes), decode_enrol_down(&bytes)));
    }
    assert!(decoded > 500, "mutations must also reach past the parser: {decoded}");
}
