//! `inshore test`: the setup tests of a project's configuration form.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use inshore_protocol::Code;

use super::{Failure, debug, print, runtime, say, say_line};
use crate::developer::{self, Outcome, Project, TestResult};

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// The folder that holds connector.py.
    #[arg(default_value = ".")]
    project: PathBuf,
    /// The configuration that the tests get; else as in `debug`.
    #[arg(long)]
    configuration: Option<PathBuf>,
    /// Run this test only, by the name of its function; may be given several times.
    #[arg(long = "test", value_name = "NAME")]
    tests: Vec<String>,
    /// The Python version, such as 3.12.
    #[arg(long, visible_alias = "python")]
    python_version: Option<String>,
}

pub(super) fn run(arguments: &TestArgs) -> Result<(), Failure> {
    let project = Project::open(&arguments.project).map_err(|error| Failure::new(error.code(), &error))?;
    let settings = debug::plain_settings(arguments.configuration.clone(), arguments.python_version.clone())?;
    let configuration = project.configuration(&settings.sources, &settings.environment);
    let configuration = configuration.map_err(|error| Failure::new(error.code(), &error))?;
    let wanted = (!arguments.tests.is_empty()).then(|| arguments.tests.clone());
    run_tests(&project, &settings, configuration, wanted)
}

/// Runs setup tests with these values, and tells how each ended.
pub(super) fn run_tests(
    project: &Project,
    settings: &developer::Settings,
    configuration: BTreeMap<String, String>,
    wanted: Option<Vec<String>>,
) -> Result<(), Failure> {
    let results = results(project, settings, configuration, wanted)?;
    results.iter().for_each(|result| print(&sentence(result)));
    conclude(&results)
}

/// How each setup test ended.
pub(super) fn results(
    project: &Project,
    settings: &developer::Settings,
    configuration: BTreeMap<String, String>,
    wanted: Option<Vec<String>>,
) -> Result<Vec<TestResult>, Failure> {
    let tell = say_line;
    let tests = developer::setup_tests(project, settings, configuration, wanted, &tell);
    runtime("test", 2)?.block_on(tests).map_err(|error| Failure::new(error.code(), &error))
}

fn conclude(results: &[TestResult]) -> Result<(), Failure> {
    if results.is_empty() {
        say("the project has no setup tests");
    }
    let failed = results.iter().filter(|result| result.outcome != Outcome::Passed).count();
    if failed == 0 {
        return Ok(());
    }
    let text = format!("{failed} of {} setup tests did not pass", results.len());
    Err(Failure { code: Code::SetupTestFailed.text().to_owned(), text, exit: 1 })
}

/// One line; a traceback follows in lines of its own.
pub(super) fn sentence(result: &TestResult) -> String {
    let outcome = match result.outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
        Outcome::Raised => "raised",
    };
    let message = result.message.as_deref().unwrap_or("").trim_end();
    let message = match (message.is_empty(), message.contains('\n')) {
        (true, _) => String::new(),
        (false, false) => format!(": {message}"),
        (false, true) => format!("\n        {}", message.replace('\n', "\n        ")),
    };
    format!("{outcome}  {}{message}", result.label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(outcome: Outcome, message: Option<&str>) -> TestResult {
        TestResult { name: "n".into(), label: "Reach the host".into(), outcome, message: message.map(Into::into) }
    }

    #[test]
    fn every_outcome_has_its_line() {
        assert_eq!(sentence(&result(Outcome::Passed, None)), "passed  Reach the host");
        assert_eq!(sentence(&result(Outcome::Failed, Some("no such host"))), "failed  Reach the host: no such host");
        let raised = sentence(&result(Outcome::Raised, Some("Traceback\nKeyError: 'a'\n")));
        assert_eq!(raised, "raised  Reach the host\n        Traceback\n        KeyError: 'a'");
    }

    #[test]
    fn one_failed_test_fails_the_command() {
        assert!(conclude(&[]).is_ok() && conclude(&[result(Outcome::Passed, None)]).is_ok());
        let failure = conclude(&[result(Outcome::Passed, None), result(Outcome::Raised, Some("x"))]).err();
        let failure = failure.expect("one raised");
        assert_eq!((failure.code.as_str(), failure.text.as_str()), ("SDK-020", "1 of 2 setup tests did not pass"));
    }
}
