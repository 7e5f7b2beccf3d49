//! Dates and instants as text, both ways, without a clock. Parsing follows what a connector may declare: `%Y-%m-%d`;
//! naive datetimes with seconds and no zone; instants with a zone. At most six fractional digits, one `T` or one space.

use std::fmt::Write;

pub(crate) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(crate) const SECONDS_PER_DAY: i64 = 86_400;
pub(crate) const MICROS_PER_DAY: i64 = SECONDS_PER_DAY * MICROS_PER_SECOND;

/// Days since 1970-01-01 of `YYYY-MM-DD`; months and days may have one digit, as in `strptime`.
#[must_use]
pub fn parse_date(text: &str) -> Option<i32> {
    let mut cursor = Cursor(text.as_bytes());
    let days = cursor.date()?;
    cursor.at_end().then_some(days)
}

/// Microseconds since the epoch of a datetime without a zone.
#[must_use]
pub fn parse_naive_datetime(text: &str) -> Option<i64> {
    let mut cursor = Cursor(text.as_bytes());
    let micros = cursor.datetime()?;
    cursor.at_end().then_some(micros)
}

/// Microseconds since the epoch of a datetime with a zone: `Z`, `+05:30` or `+0530`.
#[must_use]
pub fn parse_utc_datetime(text: &str) -> Option<i64> {
    let mut cursor = Cursor(text.as_bytes());
    let local = cursor.datetime()?;
    let offset_seconds = cursor.zone()?;
    cursor.at_end().then_some(())?;
    local.checked_sub(offset_seconds * MICROS_PER_SECOND).filter(|micros| in_calendar(*micros))
}

/// Whether the microseconds since the epoch are in the years 1 to 9999: a zone may shift an instant out of them, and
/// then hardly any reader shows it.
#[must_use]
#[inline]
pub(crate) fn in_calendar(micros: i64) -> bool {
    const YEAR_1: i64 = -719_162 * MICROS_PER_DAY;
    const YEAR_10_000: i64 = 2_932_897 * MICROS_PER_DAY;
    (YEAR_1..YEAR_10_000).contains(&micros)
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn at_end(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, expected: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        expected.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    /// A number of `least` to `most` digits.
    fn number(&mut self, least: usize, most: usize) -> Option<i64> {
        let digits = self.0.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        if digits < least {
            return None;
        }
        let (number, rest) = self.0.split_at(digits);
        self.0 = rest;
        Some(decimal(number))
    }

    fn date(&mut self) -> Option<i32> {
        let year = self.number(4, 4).filter(|year| *year >= 1)?;
        self.take(b"-")?;
        let month = self.number(1, 2).filter(|month| (1..=12).contains(month))?;
        self.take(b"-")?;
        let day = self.number(1, 2).filter(|day| (1..=days_in_month(year, month)).contains(day))?;
        i32::try_from(days_from_civil(year, month, day)).ok()
    }

    fn datetime(&mut self) -> Option<i64> {
        let (seconds, rest) =
            match self.0.split_first_chunk().and_then(|(usual, rest)| Some((usual_datetime(usual)?, rest))) {
                Some(usual) => usual,
                None => (self.other_datetime()?, self.0),
            };
        self.0 = rest;
        let micros = if self.take(b".").is_some() { self.fraction()? } else { 0 };
        Some(seconds * MICROS_PER_SECOND + micros)
    }

    /// Seconds since the epoch, where numbers may have one digit.
    fn other_datetime(&mut self) -> Option<i64> {
        let days = self.date()?;
        self.take(b"T ")?;
        let hour = self.number(1, 2).filter(|hour| *hour < 24)?;
        self.take(b":")?;
        let minute = self.number(1, 2).filter(|minute| *minute < 60)?;
        self.take(b":")?;
        let second = self.number(1, 2).filter(|second| *second < 60)?;
        Some(i64::from(days) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second)
    }

    fn fraction(&mut self) -> Option<i64> {
        if let Some((usual, rest)) = self.0.split_first_chunk::<6>()
            && usual.iter().all(u8::is_ascii_digit)
        {
            self.0 = rest;
            return Some(decimal(usual));
        }
        let before = self.0.len();
        let value = self.number(1, 6)?;
        let digits = u32::try_from(before - self.0.len()).ok()?;
        Some(value * 10_i64.pow(6 - digits))
    }

    /// Seconds east of UTC.
    fn zone(&mut self) -> Option<i64> {
        if *self.0 == *b"+00:00" {
            self.0 = &[];
            return Some(0);
        }
        let sign = match self.take(b"Z+-")? {
            b'Z' => return Some(0),
            b'-' => -1,
            _ => 1,
        };
        let hours = self.number(2, 2).filter(|hours| *hours < 24)?;
        self.take(b":");
        let minutes = self.number(2, 2).filter(|minutes| *minutes < 60)?;
        Some(sign * (hours * 3600 + minutes * 60))
    }
}

#[inline]
fn decimal(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))
}

/// Seconds since the epoch of the usual form, all digits written out: many values have it, and nothing is searched in it.
#[inline]
fn usual_datetime(text: &[u8; 19]) -> Option<i64> {
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T' | b' ', h1, h2, b':', n1, n2, b':', s1, s2] = text else {
        return None;
    };
    let digits = [y1, y2, y3, y4, m1, m2, d1, d2, h1, h2, n1, n2, s1, s2];
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let pair = |tens: u8, ones: u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
    let (year, month, day) = (pair(y1, y2) * 100 + pair(y3, y4), pair(m1, m2), pair(d1, d2));
    let (hour, minute, second) = (pair(h1, h2), pair(n1, n2), pair(s1, s2));
    let exists = year >= 1 && (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    (exists && hour < 24 && minute < 60 && second < 60).then_some(seconds)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar; years are counted from March, so that a leap day is last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

pub(crate) fn write_date(out: &mut String, days: i64) {
    let (year, month, day) = civil_from_days(days);
    write!(out, "{year:04}-{month:02}-{day:02}").expect("writing to a String cannot fail");
}

/// `2024-01-02T03:04:05`, with three or six fractional digits when they are needed.
pub(crate) fn write_datetime(out: &mut String, micros: i64) {
    write_date(out, micros.div_euclid(MICROS_PER_DAY));
    out.push('T');
    write_time(out, micros.rem_euclid(MICROS_PER_DAY));
}

pub(crate) fn write_time(out: &mut String, micros: i64) {
    let seconds = micros / MICROS_PER_SECOND;
    let fraction = micros % MICROS_PER_SECOND;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    write!(out, "{hour:02}:{minute:02}:{second:02}").expect("writing to a String cannot fail");
    let written = match fraction {
        0 => Ok(()),
        _ if fraction % 1000 == 0 => write!(out, ".{:03}", fraction / 1000),
        _ => write!(out, ".{fraction:06}"),
    };
    written.expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(micros: i64) -> String {
        let mut out = String::new();
        write_datetime(&mut out, micros);
        out
    }

    #[test]
    fn dates() {
        let cases = [
            ("1970-01-01", Some(0)),
            ("1969-12-31", Some(-1)),
            ("2024-02-29", Some(19_782)),
            ("2024-2-9", Some(19_762)),
            ("0001-01-01", Some(-719_162)),
            ("9999-12-31", Some(2_932_896)),
            ("2023-02-29", None),
            ("1900-02-29", None),
            ("0000-01-01", None),
            ("2024-13-01", None),
            ("2024-00-01", None),
            ("2024-01-32", None),
            ("24-01-01", None),
            ("2024-01-01 ", None),
            ("2024-01-01T00:00:00", None),
            ("2024/01/01", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_date(text), expected, "{text:?}");
        }
    }

    #[test]
    fn naive_datetimes() {
        let cases = [
            ("1970-01-01T00:00:01", Some(1_000_000)),
            ("1970-01-01 00:00:01", Some(1_000_000)),
            ("1970-01-01T00:00:00.5", Some(500_000)),
            ("1970-01-01T00:00:00.000001", Some(1)),
            ("1969-12-31T23:59:59.999999", Some(-1)),
            ("1970-01-01T00:00:00.0000001", None),
            ("1970-01-01T00:00:00.", None),
            ("1970-01-01T00:00", None),
            ("1970-01-01T24:00:00", None),
            ("1970-01-01T00:60:00", None),
            ("1970-01-01T00:00:60", None),
            ("1970-01-01T00:00:00Z", None),
            ("1970-01-01  00:00:00", None),
            ("1970-01-01", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_naive_datetime(text), expected, "{text:?}");
        }
    }

    #[test]
    fn instants() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("1970-01-01 05:30:00+05:30", Some(0)),
            ("1970-01-01T05:30:00.25+0530", Some(250_000)),
            ("1969-12-31T19:00:00-05:00", Some(0)),
            ("1970-01-01T00:00:00", None),
            ("1970-01-01T00:00:00+5", None),
            ("1970-01-01T00:00:00+24:00", None),
            ("1970-01-01T00:00:00 Z", None),
            ("1970-01-01T00:00:00.123456789Z", None),
            ("0", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_utc_datetime(text), expected, "{text:?}");
        }
    }

    #[test]
    fn text_has_no_fraction_or_three_or_six_digits() {
        assert_eq!(text(0), "1970-01-01T00:00:00");
        assert_eq!(text(1_500_000), "1970-01-01T00:00:01.500");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999");
    }

    #[test]
    fn every_day_round_trips() {
        for days in (-719_162..2_932_896).step_by(13) {
            let mut out = String::new();
            write_date(&mut out, days);
            assert_eq!(parse_date(&out).map(i64::from), Some(days), "{out}");
        }
    }
}
