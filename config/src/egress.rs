//! Where a sandboxed connector may connect: the rules of `sandbox.egress`, parsed once. Pure: names and numbers.
//!
//! A rule is `host:port`. The host is a name, an IPv4 address, `[IPv6]`, `*.suffix` (every name below it) or `*`; the port
//! is a number, a range `5000-5100`, or `*`. A lone `*` is `*:*`. Loopback is called `localhost`, however it is written.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, de};

/// What may be reached; everything else is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    host: Host,
    /// First and last port; every port for `*`.
    ports: Option<(u16, u16)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Any,
    /// With its leading dot.
    Below(String),
    Exactly(String),
}

/// How a target was allowed: a rule that names it may mean this host itself or its link; a pattern never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allowed {
    ByPattern,
    ByName,
}

impl Egress {
    /// Parses the rules of a list.
    pub fn parse<'a>(rules: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        rules.into_iter().map(Rule::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `host` (a name, or an address without brackets) may be reached at `port`.
    #[must_use]
    pub fn allows(&self, host: &str, port: u16) -> Option<Allowed> {
        let host = normal(host);
        let fits = self.0.iter().filter(|rule| rule.ports.is_none_or(|(first, last)| (first..=last).contains(&port)));
        fits.filter_map(|rule| rule.host.matches(&host)).max()
    }

    /// Whether a name may be resolved: some port of it may be reached.
    #[must_use]
    pub fn allows_name(&self, host: &str) -> bool {
        let host = normal(host);
        self.0.iter().any(|rule| rule.host.matches(&host).is_some())
    }

    /// The ports that rules write out; ranges above `ports_max` ports are cut there.
    #[must_use]
    pub fn ports(&self, ports_max: u16) -> Vec<u16> {
        let ranges = self.0.iter().filter_map(|rule| rule.ports);
        ranges.flat_map(|(first, last)| first..=last.min(first.saturating_add(ports_max - 1))).collect()
    }

    /// Whether a rule leaves the port open.
    #[must_use]
    pub fn any_port(&self) -> bool {
        self.0.iter().any(|rule| rule.ports.is_none())
    }
}

/// Everything, the first step of every host: this host itself, its link and cloud metadata still need a rule by name.
impl Default for Egress {
    fn default() -> Self {
        Self(vec![Rule { host: Host::Any, ports: None }])
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self { host: Host::Any, ports: None });
        }
        let wrong = |what: &str| format!("`{text}` is not an egress rule: {what}; write host:port, *.suffix:port or *");
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("it has no port"))?;
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let ports = match (port, port.split_once('-')) {
            ("*", _) => None,
            (_, Some((first, last))) => {
                let range = number(first).zip(number(last)).filter(|(first, last)| first <= last);
                Some(range.ok_or_else(|| wrong("its port range is not two rising numbers"))?)
            }
            (one, None) => {
                Some(number(one).map(|port| (port, port)).ok_or_else(|| wrong("its port is not 1 to 65535"))?)
            }
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match (bare, host.strip_prefix('*')) {
            (Some(address), _) if address.parse::<std::net::Ipv6Addr>().is_ok() => Host::Exactly(normal(address)),
            (None, Some("")) => Host::Any,
            (None, Some(below)) if below.starts_with('.') && is_name(below.trim_start_matches('.')) => {
                Host::Below(normal(below))
            }
            (None, None) if is_name(host) => Host::Exactly(normal(host)),
            _ => return Err(wrong("its host is no name, address or *.suffix")),
        };
        Ok(Self { host, ports })
    }
}

impl Host {
    fn matches(&self, host: &str) -> Option<Allowed> {
        match self {
            Self::Any => Some(Allowed::ByPattern),
            Self::Below(suffix) => (host.len() > suffix.len() && host.ends_with(suffix)).then_some(Allowed::ByPattern),
            Self::Exactly(name) => (host == name).then_some(Allowed::ByName),
        }
    }
}

fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Lower case, no final dot, one spelling per address, loopback as `localhost`.
fn normal(host: &str) -> String {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    match name.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) if address.is_loopback() => "localhost".to_owned(),
        Ok(address) => address.to_string(),
        Err(_) => name,
    }
}

impl<'de> Deserialize<'de> for Egress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rules = Vec::<String>::deserialize(deserializer)?;
        Self::parse(rules.iter().map(String::as_str)).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_decide_by_name_suffix_and_port() {
        use Allowed::{ByName, ByPattern};
        let cases: [(&[&str], &str, u16, Option<Allowed>); 18] = [
            (&[], "a.example", 443, None),
            (&["*"], "a.example", 1, Some(ByPattern)),
            (&["*:443"], "a.example", 443, Some(ByPattern)),
            (&["*:443"], "a.example", 80, None),
            (&["db.example:5432"], "DB.example.", 5432, Some(ByName)),
            (&["db.example:5432"], "xdb.example", 5432, None),
            (&["db.example:5432"], "db.example", 5433, None),
            (&["db.example:*"], "db.example", 9, Some(ByName)),
            (&["*.example:443"], "a.b.example", 443, Some(ByPattern)),
            (&["*.example:443"], "example", 443, None),
            (&["*.example:443"], "badexample", 443, None),
            (&["a:5000-5002"], "a", 5002, Some(ByName)),
            (&["a:5000-5002"], "a", 5003, None),
            (&["10.0.0.1:5432"], "::ffff:10.0.0.1", 5432, Some(ByName)),
            (&["127.0.0.1:5432"], "localhost", 5432, Some(ByName)),
            (&["localhost:5432"], "127.0.9.9", 5432, Some(ByName)),
            (&["[fd00::1]:80"], "fd00:0::1", 80, Some(ByName)),
            (&["*", "a:1"], "a", 1, Some(ByName)),
        ];
        for (rules, host, port, expected) in cases {
            let egress = Egress::parse(rules.iter().copied()).expect("rules");
            assert_eq!(egress.allows(host, port), expected, "{rules:?} {host}:{port}");
        }
    }

    #[test]
    fn names_and_ports_are_listed_for_the_resolver_and_the_listeners() {
        let egress = Egress::parse(["a.example:1", "*.b.example:5-7", "c:*"]).expect("rules");
        assert!(egress.allows_name("a.example") && egress.allows_name("x.b.example") && egress.allows_name("c"));
        assert!(!egress.allows_name("d") && egress.any_port());
        assert_eq!(egress.ports(2), [1, 5, 6]);
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_text() {
        for text in
            ["a", "a:0", "a:70000", "a:9-5", "*a:1", "a b:1", "[x]:1", "fd00::1:80", "http://a:80", ":1", "*.:1"]
        {
            let error = Egress::parse([text]).expect_err(text);
            assert!(error.contains(text), "{error}");
        }
    }
}
