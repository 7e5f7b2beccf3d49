//! `--profile`: where the time of a run went, by table. The connector's process notes it (`inshore_profile.py`) into a
//! file of the run's scratch folder; here it becomes a table for people and an event for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::summary::grouped;

/// The variable that names the file; the host takes it out of the environment before connector code runs.
const VARIABLE: &str = "INSHORE_PROFILE";
const NANOS_PER_SECOND: f64 = 1e9;

/// What the connector's process noted, and this one's own memory.
#[derive(Debug)]
pub(crate) struct Timing {
    noted: Noted,
    own_peak_bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Noted {
    wall_ns: u64,
    threads: u64,
    peak_bytes: u64,
    phases: BTreeMap<String, u64>,
    tables: Vec<Table>,
}

#[derive(Debug, Deserialize)]
struct Table {
    table: String,
    times: Times,
}

/// Rows, then nanoseconds: of the connector's own code, of encoding, of waiting for room, of waiting for checkpoints.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Times(u64, u64, u64, u64, u64);

impl Times {
    fn add(&mut self, more: Times) {
        self.0 += more.0;
        self.1 += more.1;
        self.2 += more.2;
        self.3 += more.3;
        self.4 += more.4;
    }
}

/// The variable, and the file below `scratch` that it names.
pub(super) fn variable(scratch: &Path) -> (String, String) {
    (VARIABLE.to_owned(), file(scratch).display().to_string())
}

fn file(scratch: &Path) -> PathBuf {
    scratch.join("profile.json")
}

/// What was noted until the process ended, or was ended; `None` when that was before its first word.
pub(super) fn noted(scratch: &Path) -> Option<Timing> {
    let noted = serde_json::from_slice(&std::fs::read(file(scratch)).ok()?).ok()?;
    Some(Timing { noted, own_peak_bytes: own_peak_bytes() })
}

/// The kernel's high-water mark of this process.
fn own_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

impl Timing {
    /// For people, in the form of the table of operations.
    pub(crate) fn text(&self) -> String {
        let heads = ["profile", "rows", "user code", "encoding", "back-pressure", "checkpoint"].map(str::to_owned);
        let line = |name: &str, times: &Times| {
            let name = if name.is_empty() { "(no table)" } else { name }.to_owned();
            [name, grouped(times.0), seconds(times.1), seconds(times.2), seconds(times.3), seconds(times.4)]
        };
        let mut lines = vec![heads];
        lines.extend(self.sorted().into_iter().map(|table| line(&table.table, &table.times)));
        if self.noted.tables.len() > 1 {
            lines.push(line("all", &self.sum()));
        }
        let widths: Vec<usize> =
            (0..6).map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)).collect();
        let mut text = String::new();
        for [name, numbers @ ..] in lines {
            write!(text, "  {name:<width$}", width = widths[0]).expect("a String takes everything");
            for (number, width) in numbers.iter().zip(&widths[1..]) {
                write!(text, "  {number:>width$}").expect("a String takes everything");
            }
            text.push('\n');
        }
        text.push_str(&self.rest());
        text
    }

    fn rest(&self) -> String {
        let phases: Vec<_> =
            self.noted.phases.iter().map(|(name, nanos)| format!("{name} {}", seconds(*nanos))).collect();
        let threads = if self.noted.threads > 1 {
            format!("; {} threads, whose times add up", self.noted.threads)
        } else {
            String::new()
        };
        format!(
            "  {}; connector {} in all{threads}\n  peak memory: connector {}, inshore {}\n",
            phases.join(", "),
            seconds(self.noted.wall_ns),
            mebibytes(self.noted.peak_bytes),
            mebibytes(self.own_peak_bytes),
        )
    }

    /// For programs: the fields of the event `profile`.
    pub(crate) fn json(&self) -> Value {
        let table = |table: &Table| {
            let Times(rows, user, encoding, waiting, checkpoint) = table.times;
            json!({
                "table": table.table, "rows": rows, "user_code_ms": millis(user), "encoding_ms": millis(encoding),
                "back_pressure_ms": millis(waiting), "checkpoint_ms": millis(checkpoint),
            })
        };
        let phases: BTreeMap<_, _> =
            self.noted.phases.iter().map(|(name, nanos)| (format!("{name}_ms"), millis(*nanos))).collect();
        json!({
            "tables": self.sorted().into_iter().map(table).collect::<Vec<_>>(), "phases": phases,
            "threads": self.noted.threads, "connector_ms": millis(self.noted.wall_ns),
            "peak_bytes": {"connector": self.noted.peak_bytes, "inshore": self.own_peak_bytes},
        })
    }

    fn sorted(&self) -> Vec<&Table> {
        let mut tables: Vec<_> = self.noted.tables.iter().collect();
        tables.sort_by(|one, other| one.table.cmp(&other.table));
        tables
    }

    fn sum(&self) -> Times {
        let mut sum = Times::default();
        self.noted.tables.iter().for_each(|table| sum.add(table.times));
        sum
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds for people")]
fn seconds(nanos: u64) -> String {
    format!("{:.2} s", nanos as f64 / NANOS_PER_SECOND)
}

fn millis(nanos: u64) -> u64 {
    nanos / 1_000_000
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_every_table_and_their_sum_are_shown() {
        let scratch = tempfile::tempdir().expect("a folder");
        assert!(noted(scratch.path()).is_none(), "nothing was noted");
        let text = r#"{"wall_ns": 3500000000, "threads": 2, "peak_bytes": 52428800, "phases": {"import": 100000000},
            "tables": [{"table": "b", "times": [1500, 1000000000, 20000000, 0, 5000000]},
                       {"table": "", "times": [0, 30000000, 0, 0, 0]}]}"#;
        std::fs::write(file(scratch.path()), text).expect("written");
        let timing = noted(scratch.path()).expect("noted");
        assert!(timing.own_peak_bytes > 1 << 20);
        let told = Timing { own_peak_bytes: 64 << 20, ..timing }.text();
        let expected = "  profile      rows  user code  encoding  back-pressure  checkpoint\n  \
                        (no table)      0     0.03 s    0.00 s         0.00 s      0.00 s\n  \
                        b           1,500     1.00 s    0.02 s         0.00 s      0.01 s\n  \
                        all         1,500     1.03 s    0.02 s         0.00 s      0.01 s\n  \
                        import 0.10 s; connector 3.50 s in all; 2 threads, whose times add up\n  \
                        peak memory: connector 50 MiB, inshore 64 MiB\n";
        assert_eq!(told, expected, "\n{told}");
    }
}
