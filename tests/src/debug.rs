//! Local runs of projects by `inshore debug`.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::{cache, python, stage};

/// A project of these files in a folder of its own.
#[derive(Debug)]
pub struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let project = Self { folder: tempfile::tempdir().expect("a folder") };
        for (name, text) in files {
            project.write(name, text);
        }
        project
    }

    /// A project as `inshore init` writes it.
    pub fn of_template(template: &str) -> Self {
        let project = Self::new(&[]);
        let run = project.inshore(&["init", "--template", template]);
        assert_eq!(run.exit, Some(0), "{}", run.words);
        project
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("a file of the project");
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// `inshore debug` of this project; its words are on stderr.
    pub fn debug(&self, arguments: &[&str]) -> Run {
        self.inshore(&[&["debug"], arguments].concat())
    }

    /// `inshore` in the project's folder.
    pub fn inshore(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().expect("the product starts"))
    }

    /// The same, for a test that changes its surroundings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(stage().join("usr/bin/inshore"));
        command.args(arguments).current_dir(self.path()).env("XDG_CACHE_HOME", cache()).stdin(Stdio::null());
        command
    }

    /// What a query of the warehouse answers, as JSON rows.
    pub fn query(&self, sql: &str) -> serde_json::Value {
        let script = "import duckdb, json, sys\nrows = duckdb.connect(sys.argv[1], read_only=True).execute(sys.argv[2]).fetchall()\n\
                      print(json.dumps(rows, default=str))";
        let output =
            Command::new(python()).args(["-c", script]).arg(self.path().join("files/warehouse.db")).arg(sql).output();
        let run = Run::of(output.expect("Python runs"));
        assert_eq!(run.exit, Some(0), "{sql}: {}", run.words);
        serde_json::from_str(&run.data).expect("JSON")
    }
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Run {
    pub exit: Option<i32>,
    pub data: String,
    pub words: String,
}

impl Run {
    pub fn of(output: Output) -> Self {
        Self {
            exit: output.status.code(),
            data: String::from_utf8_lossy(&output.stdout).into_owned(),
            words: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
