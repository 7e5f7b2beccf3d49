//! What a project is asked beside a sync: the form of its configuration, and its setup tests. The same host, environment
//! and process as a sync; no schema, no rows, no state.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Settings;
use crate::connector::{Error, Event, LogLevel, LogLine, LogOrigin, Source};

/// What the host's first message asks for.
#[derive(Debug)]
pub(crate) enum Question {
    Form,
    /// These tests of the form, or all.
    Tests(Option<Vec<String>>),
}

/// What a person fills in, and what can be tried afterwards.
#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct Form {
    pub(crate) fields: Vec<Field>,
    pub(crate) tests: Vec<TestName>,
}

#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) required: bool,
    pub(crate) description: Option<String>,
    pub(crate) placeholder: Option<String>,
    #[serde(rename = "type")]
    pub(crate) kind: FieldKind,
    /// Of a dropdown.
    #[serde(default)]
    pub(crate) options: Vec<FieldOption>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FieldKind {
    Text,
    Password,
    Dropdown,
    /// The connector gets "true" or "false".
    Toggle,
}

#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct FieldOption {
    pub(crate) value: String,
    pub(crate) label: String,
    pub(crate) description: Option<String>,
}

#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct TestName {
    pub(crate) name: String,
    pub(crate) label: String,
}

#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct TestResult {
    pub(crate) name: String,
    pub(crate) label: String,
    pub(crate) outcome: Outcome,
    /// The connector's own sentence, or a traceback: it stays on this host.
    pub(crate) message: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Raised,
}

/// The project's form; `None` when it has none.
pub(crate) async fn form(settings: Settings, tell: &(dyn Fn(LogLine) + Sync)) -> Result<Option<Form>, Error> {
    #[derive(Deserialize)]
    struct Answer {
        form: Option<Form>,
    }
    Ok(ask::<Answer>(settings, &Question::Form, tell).await?.form)
}

/// The outcome of the named tests, or of all, with the configuration of `settings`.
pub(crate) async fn tests(
    settings: Settings,
    wanted: Option<Vec<String>>,
    tell: &(dyn Fn(LogLine) + Sync),
) -> Result<Vec<TestResult>, Error> {
    #[derive(Deserialize)]
    struct Answer {
        tests: Vec<TestResult>,
    }
    Ok(ask::<Answer>(settings, &Question::Tests(wanted), tell).await?.tests)
}

async fn ask<T: DeserializeOwned>(
    settings: Settings,
    question: &Question,
    tell: &(dyn Fn(LogLine) + Sync),
) -> Result<T, Error> {
    let mut source = super::start(settings, Some(question), tell).await?;
    let answer = listen(&mut source, tell).await;
    source.close().await;
    serde_json::from_str(&answer?).map_err(|error| Error::FrameViolated { what: error.to_string() })
}

/// Everything but log lines, one answer and the end is out of place.
async fn listen(source: &mut impl Source, tell: &(dyn Fn(LogLine) + Sync)) -> Result<String, Error> {
    let violated = |what: &str| Error::FrameViolated { what: what.to_owned() };
    let mut answer = None;
    loop {
        match source.next().await? {
            Event::Log(line) => tell(line),
            Event::Warning(warning) => {
                tell(LogLine { level: LogLevel::Warning, origin: LogOrigin::Library, message: warning.message });
            }
            Event::Answer(text) if answer.is_none() => answer = Some(text),
            Event::End(_) => return answer.ok_or_else(|| violated("it ended without an answer")),
            _ => return Err(violated("it did something else than answer")),
        }
    }
}
