//! Pure: when a connection is due, and when a failed sync is tried again. Time arrives as an argument.

use std::time::Duration;

use crate::time::Timestamp;

/// Waits before the attempts after the first; then the schedule takes over.
const RETRY_MINUTES: [u64; 5] = [1, 5, 15, 30, 60];

/// The sync frequencies the API allows, in minutes.
pub(crate) const FREQUENCIES: [i64; 11] = [1, 5, 15, 30, 60, 120, 180, 360, 480, 720, 1440];

/// What the schedule of a connection depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) paused: bool,
    pub(crate) manual: bool,
    /// No package yet: nothing to run.
    pub(crate) complete: bool,
    /// A sync is queued or running: one at a time.
    pub(crate) active: bool,
    pub(crate) frequency_minutes: i64,
    pub(crate) last_queued_at: Option<Timestamp>,
    /// A sync that failed for a passing reason is tried again then.
    pub(crate) rescheduled_for: Option<Timestamp>,
}

/// Why a sync begins now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Schedule,
    Retry,
}

/// Whether a sync begins now. A retry is due even where the schedule is manual: it belongs to a sync someone asked for.
pub(crate) fn due(plan: Plan, now: Timestamp) -> Option<Due> {
    if plan.paused || !plan.complete || plan.active {
        return None;
    }
    if let Some(at) = plan.rescheduled_for {
        return (at <= now).then_some(Due::Retry);
    }
    if plan.manual {
        return None;
    }
    let interval = Duration::from_secs(u64::try_from(plan.frequency_minutes.max(1)).unwrap_or(1) * 60);
    match plan.last_queued_at {
        Some(last) if last.plus(interval) > now => None,
        _ => Some(Due::Schedule),
    }
}

/// The wait before the attempt that follows `attempt` (counted from 1); none when the retries are used up.
pub(crate) fn retry_after(attempt: i64) -> Option<Duration> {
    let index = usize::try_from(attempt.checked_sub(1)?).ok()?;
    RETRY_MINUTES.get(index).map(|minutes| Duration::from_secs(minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000_000;
    const PLAN: Plan = Plan {
        paused: false,
        manual: false,
        complete: true,
        active: false,
        frequency_minutes: 60,
        last_queued_at: Some(Timestamp(0)),
        rescheduled_for: None,
    };

    #[test]
    fn due_table() {
        let retry = Some(Timestamp(10 * MINUTE));
        for (plan, minute, expected) in [
            (PLAN, 59, None),
            (PLAN, 60, Some(Due::Schedule)),
            (Plan { last_queued_at: None, ..PLAN }, 0, Some(Due::Schedule)),
            (Plan { paused: true, ..PLAN }, 90, None),
            (Plan { manual: true, ..PLAN }, 90, None),
            (Plan { complete: false, ..PLAN }, 90, None),
            (Plan { active: true, ..PLAN }, 90, None),
            (Plan { rescheduled_for: retry, ..PLAN }, 9, None),
            (Plan { rescheduled_for: retry, ..PLAN }, 10, Some(Due::Retry)),
            (Plan { rescheduled_for: retry, manual: true, ..PLAN }, 10, Some(Due::Retry)),
            (Plan { rescheduled_for: retry, paused: true, ..PLAN }, 10, None),
            (Plan { rescheduled_for: retry, active: true, ..PLAN }, 10, None),
        ] {
            assert_eq!(due(plan, Timestamp(minute * MINUTE)), expected, "{plan:?} at {minute}");
        }
    }

    #[test]
    fn retries_wait_longer_each_time_and_end() {
        let minutes: Vec<_> = (0..8).map(|attempt| retry_after(attempt).map(|wait| wait.as_secs() / 60)).collect();
        assert_eq!(minutes, [None, Some(1), Some(5), Some(15), Some(30), Some(60), None, None]);
    }
}
