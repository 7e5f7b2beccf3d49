//! How instants, spans, counts and sizes read on the pages. `assets/sync.js` writes them the same way.

use crate::time::Timestamp;

pub(super) fn clock(at: Timestamp) -> String {
    let text = at.text();
    let whole = text.split_once('.').map_or(text.as_str(), |(whole, _)| whole);
    format!("{} UTC", whole.replace('T', " "))
}

pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.since(at).as_secs() {
        0..=1 => "just now".to_owned(),
        seconds => format!("{} ago", span(seconds)),
    }
}

pub(super) fn until(at: Timestamp, now: Timestamp) -> String {
    match at.since(now).as_secs() {
        0 => "now".to_owned(),
        seconds => format!("in {}", span(seconds)),
    }
}

pub(super) fn minutes(minutes: i64) -> String {
    if minutes % 60 == 0 { format!("{} h", minutes / 60) } else { format!("{minutes} min") }
}

pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..172_800 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `1,234,567`
pub(super) fn grouped(number: i64) -> String {
    let digits = number.max(0).to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 sync`, `2 syncs`
pub(super) fn counted(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).copied().unwrap_or("PiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([grouped(0), grouped(999), grouped(1_000), grouped(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([size(1), size(1024), size(1536), size(5 << 30)], ["1 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]);
        assert_eq!([span(5), span(65), span(3_700), span(900_000)], ["5 s", "1 min 5 s", "1 h 1 min", "10 days"]);
        assert_eq!([minutes(5), minutes(360)], ["5 min", "6 h"]);
        assert_eq!([counted(1, "sync"), counted(2, "sync")], ["1 sync", "2 syncs"]);
    }
}
