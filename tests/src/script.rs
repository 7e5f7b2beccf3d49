//! A source that plays a script of operations (`tests/python/script_model.py`), and the model's word on the tables.

use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::shop;
use crate::stack::{SCHEMA, Stack};
use crate::{python, root};

/// Plays lines from where the state stands, and says where that is.
const CONNECTOR: &str = r#"
import json
from fivetran_connector_sdk import Connector, Logging as log, Operations as op

def schema(configuration):
    with open(configuration["script"], encoding="utf-8") as script:
        return json.loads(script.readline())

def update(configuration, state):
    line = state.get("line", 1)
    log.info(f"plays from line {line}")
    with open(configuration["script"], encoding="utf-8") as script:
        lines = script.readlines()
    while line < len(lines):
        kind, *rest = json.loads(lines[line])
        line += 1
        if kind == "c":
            op.checkpoint({"line": line, "pad": "x" * (1024 * rest[0])})
        elif kind == "t":
            op.truncate(*rest)
        else:
            {"u": op.upsert, "p": op.update, "d": op.delete}[kind](*rest)
    op.checkpoint({"line": line})

connector = Connector(update=update, schema=schema)
"#;

/// A script on disk.
#[derive(Debug)]
pub struct Script {
    pub file: PathBuf,
    hidden: VecDeque<String>,
}

impl Script {
    /// Random operations on three tables, the same for the same seed.
    pub fn random(dir: &Path, seed: u64, operations: u64, checkpoints: u64) -> Self {
        let file = dir.join("script.jsonl");
        let numbers = [seed, operations, checkpoints].map(|number| number.to_string());
        let [seed, operations, checkpoints] = &numbers;
        let status = model()
            .arg("generate")
            .arg(&file)
            .args(["--seed", seed, "--operations", operations, "--checkpoints", checkpoints])
            .status();
        assert!(status.expect("Python runs").success(), "a script is generated");
        Self { file, hidden: VecDeque::new() }
    }

    /// Cuts what follows the schema into parts of about the same length, each closed by a checkpoint; only the first
    /// can be read until `reveal`.
    pub fn cut(&mut self, parts: usize) {
        let text = std::fs::read_to_string(&self.file).expect("the script");
        let mut lines = text.lines();
        let schema = lines.next().expect("a schema");
        let operations: Vec<&str> = lines.collect();
        let cut = operations.chunks(operations.len().div_ceil(parts));
        self.hidden = cut.map(|part| format!("{}\n[\"c\", 0]\n", part.join("\n"))).collect();
        std::fs::write(&self.file, format!("{schema}\n")).expect("the script is written");
        self.reveal();
    }

    /// Appends the next part.
    pub fn reveal(&mut self) {
        let part = self.hidden.pop_front().expect("another part");
        let mut file = std::fs::File::options().append(true).open(&self.file).expect("the script");
        file.write_all(part.as_bytes()).expect("the script is written");
    }

    /// These lines.
    pub fn of(dir: &Path, lines: &[Value]) -> Self {
        let file = dir.join("script.jsonl");
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, text).expect("the script is written");
        Self { file, hidden: VecDeque::new() }
    }

    /// A connection that plays it.
    pub fn connection(&self, stack: &Stack) -> String {
        let file = self.file.display().to_string();
        stack.connection(&shop::zip(&[("connector.py", CONNECTOR)]), &[("script", &file)])
    }

    /// From which line each run of the connector began, in order; what a killed job heard last may be missing.
    pub fn runs(stack: &Stack, connection: &str) -> Vec<u64> {
        let journal = stack.journal(connection);
        let said = journal.split("plays from line ").skip(1);
        said.map(|rest| {
            let digits = rest.split(|character: char| !character.is_ascii_digit()).next();
            digits.and_then(|digits| digits.parse().ok()).expect("a line number")
        })
        .collect()
    }

    /// Fails unless the tables are what the model says.
    pub fn assert_exact(&self, lake: &Path, what: &str) {
        let output = model()
            .arg("compare")
            .arg(&self.file)
            .arg("--lake")
            .arg(lake)
            .args(["--schema", SCHEMA])
            .output()
            .expect("Python runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let verdict: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr)));
        for count in ["lost", "duplicated", "changed"] {
            assert_eq!(verdict[count], 0, "{what}: {verdict:#}");
        }
        assert!(verdict["rows"].as_u64() > Some(0), "{what}: the model saw no rows");
    }
}

fn model() -> Command {
    let mut command = Command::new(python());
    command.arg(root().join("tests/python/script_model.py"));
    command
}
