//! Values as people write them: `"30s"`, `"64MiB"`, absolute paths. Checked where they are parsed, so errors keep their
//! line and column.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A number of bytes: `"512KiB"`, `"64MiB"`, `"10GiB"`, `"1TiB"`, or `"4096B"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A span of time: `"250ms"`, `"30s"`, `"5m"`, `"24h"`, `"7d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumaneDuration(pub Duration);

/// A path that does not depend on where the process was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbsolutePath(PathBuf);

impl ByteSize {
    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let factor = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return None,
        };
        number.checked_mul(factor).map(Self)
    }
}

impl HumaneDuration {
    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(factor).map(|milliseconds| Self(Duration::from_millis(milliseconds)))
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let (digits, unit) = text.split_at_checked(text.find(|letter: char| !letter.is_ascii_digit())?)?;
    Some((digits.parse().ok()?, unit.trim_start_matches(' ')))
}

impl AbsolutePath {
    /// Wraps a path that begins at the root.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Option<Self> {
        let path = path.into();
        path.is_absolute().then_some(Self(path))
    }

    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is not a size: write a whole number and B, KiB, MiB, GiB or TiB"))
        })
    }
}

impl<'de> Deserialize<'de> for HumaneDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is not a span of time: write a whole number and ms, s, m, h or d"))
        })
    }
}

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| de::Error::custom(format!("`{text}` is not a path that begins with /")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_are_read_with_their_unit_only() {
        for (text, bytes) in
            [("0B", Some(0)), ("64MiB", Some(64 << 20)), ("10 GiB", Some(10 << 30)), ("1TiB", Some(1 << 40))]
        {
            assert_eq!(ByteSize::parse(text).map(|size| size.0), bytes, "{text}");
        }
        for bad in ["", "64", "64MB", "-1B", "1.5GiB", "MiB", "99999999999TiB", "ä"] {
            assert_eq!(ByteSize::parse(bad), None, "{bad}");
        }
        for (text, milliseconds) in [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000)] {
            assert_eq!(
                HumaneDuration::parse(text),
                Some(HumaneDuration(Duration::from_millis(milliseconds))),
                "{text}"
            );
        }
        assert_eq!(HumaneDuration::parse("30"), None);
    }
}
