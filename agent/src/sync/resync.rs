//! What a re-sync is: begun anew or gone on with, by what the chain says and what is asked for. Pure.
//!
//! Its bound is above every instant that a row of before can have and at most that of its own first commit, whatever the
//! clock does: the mark at its end takes exactly the rows that it did not bring again.

use inshore_columnar::TableName;

use crate::destination::{Destination, Resync};

/// None: all tables of the connection.
pub(crate) type Scope = Option<Vec<TableName>>;

/// Where the connector starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) state: String,
    /// Nothing of this re-sync is committed yet.
    pub(crate) anew: bool,
}

/// Settles which re-sync the next commits belong to.
pub(crate) fn begin<D: Destination>(destination: &mut D, asked: Option<Scope>) -> Begun {
    let (resync, anew) = next(destination.resync().cloned(), asked, destination.state(), destination.last_synced_ms());
    destination.set_resync(resync);
    Begun { state: if anew { "{}".to_owned() } else { destination.state().to_owned() }, anew }
}

/// The re-sync in hand goes on unless more is asked for than it brings.
fn next(going: Option<Resync>, asked: Option<Scope>, state: &str, last_synced_ms: i64) -> (Option<Resync>, bool) {
    let bound_at_ms = last_synced_ms.saturating_add(1);
    match (going, asked) {
        (going, None) => (going, false),
        (None, Some(tables)) => {
            let kept = tables.is_some().then(|| state.to_owned());
            (Some(Resync { bound_at_ms, tables: tables.map(sorted), kept }), true)
        }
        (Some(going), Some(asked)) => {
            let tables = match (going.tables.clone(), asked) {
                (Some(going), Some(asked)) => Some(sorted(going.into_iter().chain(asked).collect())),
                _ => None,
            };
            if tables == going.tables {
                return (Some(going), false);
            }
            let kept = going.kept.filter(|_| tables.is_some());
            (Some(Resync { bound_at_ms, tables, kept }), true)
        }
    }
}

fn sorted(mut tables: Vec<TableName>) -> Vec<TableName> {
    tables.sort();
    tables.dedup();
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(tables: &[&str]) -> Scope {
        (!tables.contains(&"*")).then(|| tables.iter().map(|table| TableName::new("s", *table)).collect())
    }

    fn going(tables: &[&str]) -> Resync {
        let kept = scope(tables).map(|_| "kept".to_owned());
        Resync { bound_at_ms: 5, tables: scope(tables), kept }
    }

    /// The tables, the state to keep, the bound, and whether it begins anew.
    fn check(chain: Option<&[&str]>, asked: Option<&[&str]>, expected: Option<(&[&str], Option<&str>, i64, bool)>) {
        let (resync, anew) = next(chain.map(going), asked.map(scope), "now", 8);
        let expected = expected.map(|(tables, kept, bound_at_ms, anew)| {
            (Resync { bound_at_ms, tables: scope(tables), kept: kept.map(str::to_owned) }, anew)
        });
        assert_eq!(resync.map(|resync| (resync, anew)), expected, "{chain:?} {asked:?}");
    }

    #[test]
    fn a_resync_goes_on_unless_more_is_asked_for() {
        let all: &[&str] = &["*"];
        check(None, None, None);
        check(None, Some(all), Some((all, None, 9, true)));
        check(None, Some(&["b", "a", "b"]), Some((&["a", "b"], Some("now"), 9, true)));
        check(Some(all), None, Some((all, None, 5, false)));
        check(Some(all), Some(all), Some((all, None, 5, false)));
        check(Some(all), Some(&["a"]), Some((all, None, 5, false)));
        check(Some(&["a"]), Some(&["a"]), Some((&["a"], Some("kept"), 5, false)));
        check(Some(&["a"]), Some(&["b"]), Some((&["a", "b"], Some("kept"), 9, true)));
        check(Some(&["a"]), Some(all), Some((all, None, 9, true)));
        check(Some(&["a"]), None, Some((&["a"], Some("kept"), 5, false)));
    }
}
