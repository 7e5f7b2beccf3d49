//! The room's resolver: an allowed name gets an address of this room, which stands for it from then on; SRV and TXT records
//! come from the relay; any other name does not exist. No question leaves the room.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

/// Names that get an address; a connector that asks for more is told that they do not exist.
const NAMES_MAX: u32 = 65_536;
/// 127.64.0.0: far from what programs use as loopback by themselves.
const FIRST: u32 = 0x7f40_0001;
const TTL_SECONDS: u32 = 60;

const TYPE_A: u16 = 1;
const TYPE_TXT: u16 = 16;
const TYPE_SRV: u16 = 33;
const SERVER_FAILED: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
/// What every client takes in one datagram over loopback.
const DATAGRAM_BYTES_MAX: usize = 4096;

/// Both directions of the addresses given so far.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<(HashMap<String, Ipv4Addr>, HashMap<Ipv4Addr, String>)>);

impl Names {
    /// The address of an allowed name, the same each time.
    pub(super) fn address(&self, name: &str) -> Option<Ipv4Addr> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.0.get(name) {
            return Some(*known);
        }
        let number = u32::try_from(names.0.len()).ok().filter(|number| *number < NAMES_MAX)?;
        let address = Ipv4Addr::from(FIRST + number);
        names.0.insert(name.to_owned(), address);
        names.1.insert(address, name.to_owned());
        Some(address)
    }

    pub(super) fn name(&self, address: Ipv4Addr) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.get(&address).cloned()
    }
}

/// A question as it came.
#[derive(Debug)]
pub(super) struct Question {
    id: [u8; 2],
    recursion: u8,
    /// The question's own bytes, which the answer repeats.
    asked: Vec<u8>,
    pub(super) name: String,
    kind: u16,
}

impl Question {
    /// `None` for what is no question for one name of letters, digits, `-`, `_`.
    pub(super) fn parse(datagram: &[u8]) -> Option<Self> {
        let header: [u8; 12] = datagram.get(..12)?.try_into().ok()?;
        let [id0, id1, flags, _, 0, 1, ..] = header else { return None };
        if flags & 0xf8 != 0 {
            return None;
        }
        let mut at = 12;
        let mut labels = Vec::new();
        loop {
            let length = usize::from(*datagram.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            let label = datagram.get(at..at + length).filter(|_| length < 64)?;
            let plain = label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            labels.push(std::str::from_utf8(label).ok().filter(|_| plain)?.to_ascii_lowercase());
            at += length;
        }
        let asked = datagram.get(12..at + 4)?.to_vec();
        let kind = u16::from_be_bytes(datagram.get(at..at + 2)?.try_into().ok()?);
        let name = labels.join(".");
        (!name.is_empty() && name.len() <= 253).then_some(Self {
            id: [id0, id1],
            recursion: flags & 1,
            asked,
            name,
            kind,
        })
    }

    /// The kind of record that the relay is asked for; addresses the room gives itself.
    pub(super) fn records(&self) -> Option<&'static str> {
        match self.kind {
            TYPE_SRV => Some("srv"),
            TYPE_TXT => Some("txt"),
            _ => None,
        }
    }

    /// The datagram that answers with an address, to who asks for one; nothing for other kinds, and no such name otherwise.
    pub(super) fn answer(&self, allowed: bool, address: Option<Ipv4Addr>) -> Vec<u8> {
        let address = address.filter(|_| self.kind == TYPE_A).map(|address| (TTL_SECONDS, address.octets().to_vec()));
        self.message(if allowed { 0 } else { NO_SUCH_NAME }, address.as_slice())
    }

    /// The datagram that answers with records: seconds and data of each, as many as fit.
    pub(super) fn answer_records(&self, records: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut room = DATAGRAM_BYTES_MAX.saturating_sub(12 + self.asked.len());
        let fitting = records.iter().take_while(|(_, data)| {
            let rest = room.checked_sub(12 + data.len());
            room = rest.unwrap_or(0);
            rest.is_some()
        });
        self.message(0, records.get(..fitting.count()).unwrap_or_default())
    }

    /// The datagram that says that the servers outside failed.
    pub(super) fn failed(&self) -> Vec<u8> {
        self.message(SERVER_FAILED, &[])
    }

    fn message(&self, code: u8, records: &[(u32, Vec<u8>)]) -> Vec<u8> {
        let mut answer = self.id.to_vec();
        let count = u16::try_from(records.len()).unwrap_or(0).to_be_bytes();
        answer.extend([0x80 | self.recursion, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0]);
        answer.extend(&self.asked);
        for (ttl, data) in records {
            // The name again, by its place; class IN.
            answer.extend([0xc0, 12]);
            answer.extend(self.kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(ttl.to_be_bytes());
            answer.extend(u16::try_from(data.len()).unwrap_or(0).to_be_bytes());
            answer.extend(data);
        }
        answer
    }
}

/// The relay's lines, a record each: seconds, and the data in hexadecimal.
pub(super) fn parse_records(lines: &str) -> Vec<(u32, Vec<u8>)> {
    let record = |line: &str| {
        let (ttl, data) = line.split_once(' ')?;
        Some((ttl.parse().ok()?, hex::decode(data).ok()?))
    };
    lines.lines().filter_map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &str, kind: u16) -> Vec<u8> {
        let mut datagram = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            datagram.push(u8::try_from(label.len()).expect("short"));
            datagram.extend(label.as_bytes());
        }
        datagram.push(0);
        datagram.extend(kind.to_be_bytes());
        datagram.extend([0, 1]);
        datagram
    }

    #[test]
    fn an_allowed_name_gets_one_address_and_any_other_does_not_exist() {
        let names = Names::default();
        let question = Question::parse(&asked("Db.Example", 1)).expect("a question");
        assert_eq!(question.name, "db.example");
        let address = names.address(&question.name).expect("an address");
        assert_eq!((names.address("db.example"), names.name(address)), (Some(address), Some("db.example".to_owned())));
        assert_ne!(names.address("other.example"), Some(address));
        let answer = question.answer(true, Some(address));
        assert_eq!(answer[..12], [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(answer[answer.len() - 4..], [127, 64, 0, 1]);
        let refused = question.answer(false, None);
        assert_eq!((refused[3] & 15, refused[7]), (3, 0));
        let six = Question::parse(&asked("db.example", 28)).expect("a question").answer(true, Some(address));
        assert_eq!((six[3] & 15, six[7]), (0, 0), "no address of that kind");
    }

    #[test]
    fn records_are_passed_on_as_many_as_fit() {
        let question = Question::parse(&asked("_kafka._tcp.late.example", 33)).expect("a question");
        assert_eq!(question.records(), Some("srv"));
        let records = parse_records("60 0001\n30 zz\n5 ff\n");
        assert_eq!(records, [(60, vec![0, 1]), (5, vec![255])]);
        let answer = question.answer_records(&records);
        assert_eq!((answer[3] & 15, answer[7]), (0, 2));
        assert!(answer.ends_with(&[0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 5, 0, 1, 255]));
        let answer = question.answer_records(&vec![(1, vec![0; 500]); 20]);
        assert!(answer.len() <= DATAGRAM_BYTES_MAX && answer[7] == 7, "{} {}", answer.len(), answer[7]);
        assert_eq!(question.failed()[3] & 15, 2);
    }

    #[test]
    fn what_is_no_plain_question_is_dropped() {
        let good = asked("db.example", 1);
        for length in 0..good.len() {
            assert!(Question::parse(&good[..length]).is_none(), "{length}");
        }
        assert!(Question::parse(&asked("a b", 1)).is_none());
        let mut looped = good.clone();
        looped[12] = 0xc0;
        assert!(Question::parse(&looped).is_none());
        let mut reply = good;
        reply[2] |= 0x80;
        assert!(Question::parse(&reply).is_none());
    }
}
