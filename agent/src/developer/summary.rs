//! What a person reads of a local run: the connector's lines, how far it is, and the table at the end. Words go to
//! stderr, so that stdout stays for data.

use std::fmt::Write;
use std::time::Duration;

use crate::connector::{LogLevel, LogLine, LogOrigin};
use crate::context::{Counts, Progress, Stage};

/// One line of the connector's log, as a developer sees it.
pub(crate) fn log_line(clock: &str, line: &LogLine) -> String {
    let level = match line.level {
        LogLevel::Debug => "DEBUG",
        LogLevel::Info => "INFO",
        LogLevel::Warning => "WARNING",
        LogLevel::Error => "ERROR",
        LogLevel::Severe => "SEVERE",
    };
    let origin = match line.origin {
        LogOrigin::Connector => "connector",
        LogOrigin::Library => "inshore",
        LogOrigin::Output => "output",
    };
    let mut lines = line.message.lines();
    let mut text = format!("{clock} {level:<8} {origin:<9} {}", lines.next().unwrap_or(""));
    for more in lines {
        text.push_str("\n                                 ");
        text.push_str(more);
    }
    text
}

/// One line of progress.
pub(crate) fn progress_line(progress: &Progress, elapsed: Duration) -> String {
    if progress.stage == Stage::Prepare {
        return format!("preparing, {:.0} s", elapsed.as_secs_f64());
    }
    let totals = progress.totals();
    let rows = rows(totals);
    let seconds = elapsed.as_secs_f64().max(0.001);
    let stage = match progress.stage {
        Stage::Prepare => "preparing",
        Stage::Extract => "reading",
        Stage::Seal => "writing",
        Stage::Commit => "committing",
        Stage::Done => "done",
    };
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = rows as f64 / seconds;
    format!(
        "{stage}: {} rows, {} rows/s, {} checkpoints, {seconds:.0} s",
        grouped(rows),
        grouped_rate(rate),
        progress.checkpoints
    )
}

/// The operations by table, and their sum.
pub(crate) fn table(progress: &Progress) -> String {
    let heads = ["table", "upserts", "updates", "deletes", "truncates"].map(str::to_owned);
    let line = |name: String, counts: &Counts| {
        [name, grouped(counts.upserts), grouped(counts.updates), grouped(counts.deletes), grouped(counts.truncates)]
    };
    let mut lines = vec![heads];
    lines.extend(progress.tables.iter().map(|(name, counts)| line(name.to_string(), counts)));
    if progress.tables.len() > 1 {
        lines.push(line("all".to_owned(), &progress.totals()));
    }
    let widths: Vec<usize> =
        (0..5).map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let [name, numbers @ ..] = line;
        write!(text, "  {name:<width$}", width = widths[0]).expect("a String takes everything");
        for (number, width) in numbers.iter().zip(&widths[1..]) {
            write!(text, "  {number:>width$}").expect("a String takes everything");
        }
        text.push('\n');
    }
    text
}

/// Why a run that succeeded moved nothing; `None` when it moved something.
pub(crate) fn nothing_moved(progress: &Progress) -> Option<&'static str> {
    let moved = rows(progress.totals()) + progress.totals().truncates > 0;
    match (moved, progress.checkpoints) {
        (true, _) => None,
        (false, 0) => Some("nothing moved because update() called no operation"),
        (false, _) => Some("nothing moved because update() only called checkpoint: its source had nothing new"),
    }
}

fn rows(counts: Counts) -> u64 {
    counts.upserts + counts.updates + counts.deletes
}

fn grouped_rate(rate: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people, never negative")]
    grouped(rate as u64)
}

/// `1,234,567`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use inshore_columnar::TableName;

    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn the_table_names_every_table_and_the_sum() {
        let counts = |upserts| Counts { upserts, deletes: 2, ..Counts::default() };
        let tables = BTreeMap::from([
            (TableName::new("tester", "orders"), counts(1_500)),
            (TableName::new("tester", "items"), counts(7)),
        ]);
        let progress = Progress { tables, checkpoints: 1, ..Progress::default() };
        let text = table(&progress);
        assert_eq!(
            text,
            "  table          upserts  updates  deletes  truncates\n  tester.items         7        0        2          0\n  \
             tester.orders    1,500        0        2          0\n  all              1,507        0        4          0\n"
        );
        assert_eq!(nothing_moved(&progress), None);
    }

    #[test]
    fn a_run_that_moved_nothing_says_why() {
        let quiet = |checkpoints| Progress { checkpoints, ..Progress::default() };
        assert!(nothing_moved(&quiet(0)).is_some_and(|text| text.contains("no operation")));
        assert!(nothing_moved(&quiet(2)).is_some_and(|text| text.contains("nothing new")));
    }

    #[test]
    fn a_log_line_keeps_its_continuation_indented() {
        let line = LogLine { level: LogLevel::Warning, origin: LogOrigin::Connector, message: "a\nb".to_owned() };
        let text = log_line("10:11:12.013", &line);
        assert_eq!(text, "10:11:12.013 WARNING  connector a\n                                 b");
    }
}
