//! Rules of the sync that take values and time and return a decision. No IO, no clock: `now` is an argument.

/// The instant that marks every row of one commit window: later than every earlier window's, so that a truncation bound
/// separates the rows before it from those after (SDK_CONTRACT §11, C29). A wall clock that jumped back only makes the
/// step one millisecond.
pub(crate) fn synced_at_ms(now_ms: i64, last_ms: i64) -> i64 {
    now_ms.max(last_ms.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::synced_at_ms;

    #[test]
    fn synced_at_rises_strictly_whatever_the_clock_does() {
        for (now, last, expected) in
            [(100, 0, 100), (100, 100, 101), (50, 100, 101), (i64::MIN, 7, 8), (5, i64::MAX, i64::MAX)]
        {
            assert_eq!(synced_at_ms(now, last), expected, "now {now}, last {last}");
        }
    }
}
