//! Which snapshots of a table stay readable. Pure.
//!
//! Every commit writes the list of them anew, so it is bounded: of those that were current within the retention the newest
//! are kept one by one, older ones at a distance from each other. Under `RETAIN_ALL_SNAPSHOTS` all stay, and the list grows.

use std::collections::BTreeSet;
use std::time::Duration;

/// The newest snapshots, one by one.
const NEWEST: usize = 50;
/// Older ones within the retention.
const OLDER: i64 = 50;

/// The ids of the snapshots to keep; `snapshots` are (id, instant), oldest first.
pub(super) fn retained(snapshots: &[(i64, i64)], now_ms: i64, retention: Duration) -> BTreeSet<i64> {
    if retention == Duration::MAX {
        return snapshots.iter().map(|(id, _)| *id).collect();
    }
    let retention_ms = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
    let since = now_ms.saturating_sub(retention_ms);
    let distance_ms = retention_ms / OLDER;
    // One that gave way within the retention may still be read, however long before that it was made.
    let first = snapshots.iter().position(|(_, at)| *at >= since).unwrap_or(snapshots.len());
    let within = snapshots.split_at(first.saturating_sub(1)).1;
    let (older, newest) = within.split_at(within.len().saturating_sub(NEWEST));
    let mut kept: BTreeSet<i64> = newest.iter().map(|(id, _)| *id).collect();
    let mut last = i64::MIN;
    for (id, at) in older {
        if at.saturating_sub(last) >= distance_ms {
            kept.insert(*id);
            last = *at;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn a_table_of_many_commits_keeps_few_snapshots_over_the_whole_retention() {
        let week = Duration::from_secs(7 * 24 * 3600);
        let mut snapshots: Vec<(i64, i64)> = Vec::new();
        let mut most = 0;
        for commit in 0..30_000 {
            snapshots.push((commit, commit * MINUTE));
            let kept = retained(&snapshots, commit * MINUTE, week);
            snapshots.retain(|(id, _)| kept.contains(id));
            most = most.max(snapshots.len());
        }
        assert!(most <= 102, "{most}");
        let oldest = snapshots[0].1;
        assert!((29_999 - 7 * 1440 - 202..29_999 - 6 * 1440).contains(&(oldest / MINUTE)), "{oldest}");
        assert!(snapshots.windows(2).all(|pair| pair[1].1 - pair[0].1 <= 250 * MINUTE), "{snapshots:?}");
    }

    #[test]
    fn what_is_older_than_the_retention_goes_and_what_is_kept_for_ever_stays() {
        let snapshots: Vec<(i64, i64)> = (0..100).map(|n| (n, n * MINUTE)).collect();
        let hour = Duration::from_secs(3600);
        let kept = retained(&snapshots, 99 * MINUTE, hour);
        assert_eq!(kept.first(), Some(&38));
        assert_eq!(retained(&snapshots, 99 * MINUTE, Duration::MAX).len(), 100);
        let late = retained(&snapshots, 99 * MINUTE + 7 * 24 * 60 * MINUTE, hour);
        assert_eq!(late, BTreeSet::from([99]), "the current one, whatever its age");
    }
}
