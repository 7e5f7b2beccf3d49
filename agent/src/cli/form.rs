//! `inshore configuration`: the form of a project is asked, and its answers become configuration.json.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use super::{Failure, debug, runtime, say, say_line, setup};
use crate::connector::sdk::question::{Field, FieldKind};
use crate::developer::{self, Project};

#[derive(Debug, Args)]
pub(super) struct ConfigurationArgs {
    /// The folder that holds connector.py.
    #[arg(default_value = ".")]
    project: PathBuf,
    /// Run the setup tests with the values before they are written.
    #[arg(long)]
    test: bool,
    /// Write passwords as they are, instead of encrypted with this user's key.
    #[arg(long)]
    disable_encryption: bool,
    /// The Python version, such as 3.12.
    #[arg(long, visible_alias = "python")]
    python_version: Option<String>,
}

pub(super) fn configuration(arguments: &ConfigurationArgs) -> Result<(), Failure> {
    let project = Project::open(&arguments.project).map_err(|error| Failure::new(error.code(), &error))?;
    let settings = debug::plain_settings(None, arguments.python_version.clone())?;
    let form = runtime("form", 1)?.block_on(developer::form(&project, &settings, &say_line));
    let Some(form) = form.map_err(|error| Failure::new(error.code(), &error))? else {
        return Err(Failure::usage("the connector has no configuration_form(): write configuration.json by hand"));
    };
    let before = project.configuration(&settings.sources, &settings.environment);
    let mut values = before.map_err(|error| Failure::new(error.code(), &error))?;
    for field in &form.fields {
        if let Some(value) = ask(field, values.get(&field.name))? {
            values.insert(field.name.clone(), value);
        }
    }
    if arguments.test {
        setup::run_tests(&project, &settings, values.clone(), None)?;
    }
    if !arguments.disable_encryption {
        let home = settings.environment.get("HOME").map(Path::new);
        for field in form.fields.iter().filter(|field| field.kind == FieldKind::Password) {
            if let Some(value) = values.get_mut(&field.name) {
                let sealed = developer::seal(&field.name, value, home);
                *value = sealed.map_err(|error| Failure::new("DEV-005", &error))?;
            }
        }
    }
    write(&project.folder().join("configuration.json"), &values)
}

/// Asks until the answer fits. An empty one keeps what is there; none at all is no value.
fn ask(field: &Field, before: Option<&String>) -> Result<Option<String>, Failure> {
    let label = &field.label;
    if let Some(description) = &field.description {
        say(&format!("  {description}"));
    }
    for option in &field.options {
        say(&format!("  {}  {}", option.value, option.label));
    }
    let known = match (before, field.kind) {
        (Some(_), FieldKind::Password) => " [as it is]".to_owned(),
        (Some(value), _) => format!(" [{value}]"),
        (None, FieldKind::Toggle) => " [false]".to_owned(),
        (None, _) => field.placeholder.as_ref().map(|example| format!(" (such as {example})")).unwrap_or_default(),
    };
    loop {
        let answer = read_line(&format!("{label}{known}: "), field.kind == FieldKind::Password)?;
        let answer = match (answer.trim(), before, field.kind) {
            ("", Some(before), _) => Some(before.clone()),
            ("", None, FieldKind::Toggle) => Some("false".to_owned()),
            ("", None, _) => None,
            (text, ..) => Some(text.to_owned()),
        };
        match complaint(field, answer.as_deref()) {
            None => return Ok(answer),
            Some(complaint) => say(&complaint),
        }
    }
}

fn complaint(field: &Field, answer: Option<&str>) -> Option<String> {
    let Some(answer) = answer else {
        return field.required.then(|| "  a value is needed".to_owned());
    };
    let fits = match field.kind {
        FieldKind::Text | FieldKind::Password => true,
        FieldKind::Toggle => matches!(answer, "true" | "false"),
        FieldKind::Dropdown => field.options.iter().any(|option| option.value == answer),
    };
    (!fits).then(|| match field.kind {
        FieldKind::Toggle => "  true or false".to_owned(),
        _ => "  one of the values above".to_owned(),
    })
}

/// One line of stdin; a password is not shown while it is typed.
fn read_line(question: &str, hidden: bool) -> Result<String, Failure> {
    let broken = |error: std::io::Error| Failure::new("PKG-010", &error);
    std::io::stderr().write_all(question.as_bytes()).map_err(broken)?;
    let hidden = hidden && std::io::stdin().is_terminal();
    let echo = |state: &str| drop(Command::new("stty").arg(state).status());
    if hidden {
        echo("-echo");
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if hidden {
        echo("echo");
        say("");
    }
    if read.map_err(broken)? == 0 {
        return Err(Failure::usage("the input ended before the last question"));
    }
    Ok(line)
}

/// Compact JSON that only its owner reads.
fn write(path: &Path, values: &BTreeMap<String, String>) -> Result<(), Failure> {
    let broken = |error: std::io::Error| Failure {
        text: format!("write {}: {error}", path.display()),
        ..Failure::new("PKG-010", &error)
    };
    let new = path.with_extension("json.new");
    let options = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
    let text = serde_json::to_string(values).expect("texts always serialise");
    options.and_then(|mut file| file.write_all(text.as_bytes())).map_err(broken)?;
    std::fs::rename(&new, path).map_err(broken)?;
    say(&format!("wrote {} with {} values", path.display(), values.len()));
    Ok(())
}
