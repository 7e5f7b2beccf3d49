//! Where a connector may connect: what the policy of its host lists, and within that what its connection asks for. The
//! policy alone decides what is the host's own; a connection's list only takes away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use inshore_config::{Allowed, Egress};

/// Targets that are told apart; the rest counts together, or is not kept.
const TARGETS_MAX: usize = 1000;
/// Ports of one range that get a listener.
const RANGE_PORTS_MAX: u16 = 1024;
/// Where rules leave the port open, the room listens for raw TCP at these: web, mail, files, directories, databases, queues,
/// search. The HTTP proxy takes every port.
const KNOWN_PORTS: [u16; 61] = [
    21, 22, 25, 80, 110, 143, 389, 443, 445, 465, 587, 636, 843, 990, 993, 995, 1025, 1433, 1434, 1521, 1522, 1883,
    2181, 2379, 2484, 2638, 3000, 3050, 3268, 3269, 3306, 3307, 4000, 4333, 5000, 5432, 5433, 5439, 5671, 5672, 6379,
    6380, 6432, 6543, 7000, 7474, 7687, 8000, 8080, 8086, 8123, 8443, 8883, 9000, 9042, 9092, 9200, 9243, 9440, 27017,
    50000,
];

/// From here on ports are those of outgoing connections, which a listener would take away.
const FIRST_OUTGOING: u16 = 32_768;

/// Both lists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lists {
    pub(crate) policy: Egress,
    pub(crate) connection: Option<Egress>,
    /// The room listens wherever servers do, to see what is asked for.
    pub(crate) every_port: bool,
}

/// Which list has no rule for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RefusedBy {
    Policy,
    Connection,
}

impl RefusedBy {
    /// Where a person would add the rule.
    pub(crate) fn place(self) -> &'static str {
        match self {
            Self::Policy => "the policy's sandbox.egress does not list it",
            Self::Connection => "the connection's config.egress does not list it",
        }
    }
}

impl Lists {
    pub(super) fn allows(&self, host: &str, port: u16) -> Result<Allowed, RefusedBy> {
        let allowed = self.policy.allows(host, port).ok_or(RefusedBy::Policy)?;
        let narrowed = self.connection.as_ref().is_none_or(|own| own.allows(host, port).is_some());
        narrowed.then_some(allowed).ok_or(RefusedBy::Connection)
    }

    pub(super) fn allows_name(&self, name: &str) -> Result<(), RefusedBy> {
        if !self.policy.allows_name(name) {
            return Err(RefusedBy::Policy);
        }
        let narrowed = self.connection.as_ref().is_none_or(|own| own.allows_name(name));
        narrowed.then_some(()).ok_or(RefusedBy::Connection)
    }

    /// Whether the records of a name may be asked for; those of a service stand for the name that they are the service of.
    pub(super) fn allows_records(&self, name: &str) -> Result<(), RefusedBy> {
        let mut owner = name;
        while let Some((_, below)) = owner.split_once('.').filter(|(label, _)| label.starts_with('_')) {
            owner = below;
        }
        self.allows_name(name).or_else(|_| self.allows_name(owner))
    }

    /// The ports at which the room listens, as the answer to its question. Listening is not allowing.
    pub(super) fn ports(&self, likely: &BTreeSet<u16>) -> String {
        let both = || std::iter::once(&self.policy).chain(&self.connection);
        let mut ports: BTreeSet<u16> = both().flat_map(|list| list.ports(RANGE_PORTS_MAX)).collect();
        if both().all(Egress::any_port) {
            ports.extend(KNOWN_PORTS);
            ports.extend(likely);
        }
        // The likely ones first: a host may not let one process listen at all of them.
        let others = (1..FIRST_OUTGOING).filter(|port| self.every_port && !ports.contains(port));
        ports.iter().copied().chain(others).map(|port| port.to_string()).collect::<Vec<_>>().join(" ")
    }
}

/// What a connector reached and what it was refused, for whoever tells of it at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    refused: BTreeMap<(String, RefusedBy), u64>,
    reached: BTreeSet<(String, u16)>,
}

impl Tally {
    pub(super) fn refuse(&self, target: &str, by: RefusedBy) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = counts.refused.len() < TARGETS_MAX || counts.refused.contains_key(&(target.to_owned(), by));
        let target = if known { target } else { "others" };
        *counts.refused.entry((target.to_owned(), by)).or_default() += 1;
    }

    pub(super) fn reach(&self, host: &str, port: u16) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.reached.len() < TARGETS_MAX {
            counts.reached.insert((host.to_ascii_lowercase(), port));
        }
    }

    /// Target, the list that has no rule for it, and how often.
    pub(crate) fn refused(&self) -> Vec<(String, RefusedBy, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.refused.iter().map(|((target, by), count)| (target.clone(), *by, *count)).collect()
    }

    /// What was reached, as rules.
    pub(crate) fn reached(&self) -> Vec<String> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.reached.iter().map(|(host, port)| target(host, *port)).collect()
    }
}

/// As rules and people spell a target.
pub(super) fn target(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(policy: &str, connection: Option<&str>) -> Lists {
        let parse = |rules: &str| Egress::parse(rules.split_ascii_whitespace()).expect("rules");
        Lists { policy: parse(policy), connection: connection.map(parse), every_port: false }
    }

    #[test]
    fn a_connection_takes_away_and_never_adds() {
        use RefusedBy::{Connection, Policy};
        for (policy, connection, host, expected) in [
            ("*", None, "a", Ok(Allowed::ByPattern)),
            ("*", Some("a:1"), "a", Ok(Allowed::ByPattern)),
            ("*", Some("a:1"), "b", Err(Connection)),
            ("*", Some(""), "a", Err(Connection)),
            ("a:1", Some("*"), "a", Ok(Allowed::ByName)),
            ("a:1", Some("*"), "b", Err(Policy)),
            ("*", Some("localhost:1"), "localhost", Ok(Allowed::ByPattern)),
        ] {
            let lists = lists(policy, connection);
            assert_eq!(lists.allows(host, 1), expected, "{policy} {connection:?} {host}");
            assert_eq!(lists.allows_name(host).err(), expected.err(), "{policy} {connection:?} {host}");
        }
    }

    #[test]
    fn records_of_a_service_go_by_the_name_below() {
        let lists = lists("db.example:27017 *.late.example:9092", None);
        for (name, allowed) in [
            ("_mongodb._tcp.db.example", true),
            ("db.example", true),
            ("_kafka._tcp.late.example", true),
            ("_kafka._tcp.b.late.example", true),
            ("_mongodb._tcp.other.example", false),
            ("x.db.example", false),
            ("_tcp", false),
        ] {
            assert_eq!(lists.allows_records(name).is_ok(), allowed, "{name}");
        }
    }

    #[test]
    fn open_ports_listen_at_the_known_and_the_likely_ones() {
        let likely = BTreeSet::from([7777]);
        assert_eq!(lists("a:1 *.b:5-6", None).ports(&likely), "1 5 6");
        assert_eq!(lists("*", Some("a:1")).ports(&likely), "1");
        let all = lists("*", None).ports(&likely);
        assert!(all.split(' ').any(|port| port == "7777") && all.split(' ').any(|port| port == "5432"), "{all}");
        let every = Lists { every_port: true, ..lists("a:40000", None) }.ports(&likely);
        assert!(every.starts_with("40000 1 2 ") && every.split(' ').count() == 32_768, "{every}");
    }

    #[test]
    fn what_was_reached_reads_as_rules() {
        let tally = Tally::default();
        for (host, port) in [("B.example", 443), ("b.example", 443), ("fd00::1", 80)] {
            tally.reach(host, port);
        }
        let rules = tally.reached();
        assert_eq!(rules, ["b.example:443", "[fd00::1]:80"]);
        assert!(Egress::parse(rules.iter().map(String::as_str)).is_ok());
        for number in 0..TARGETS_MAX + 5 {
            tally.refuse(&format!("h{number}:1"), RefusedBy::Policy);
        }
        let refused = tally.refused();
        assert!(refused.contains(&("others".to_owned(), RefusedBy::Policy, 5)), "{}", refused.len());
    }
}
