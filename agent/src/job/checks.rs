//! The setup tests of a connector, run for the control plane, which hears how each ended. What a test is called and what it
//! said stays on this host, in the connection's journal.

use crate::connector::sdk::question::{self, Outcome, TestResult};
use crate::connector::{Error, LogLevel, LogLine, LogOrigin, sdk};

/// Runs every test of the form, in its order; a connector without a form has none.
pub(super) async fn run(settings: sdk::Settings, tell: &(dyn Fn(LogLine) + Sync)) -> Result<Vec<Outcome>, Error> {
    let results = question::tests(settings, None, tell).await?;
    results.iter().for_each(|result| tell(line(result)));
    Ok(results.iter().map(|result| result.outcome).collect())
}

fn line(result: &TestResult) -> LogLine {
    let (level, how) = match result.outcome {
        Outcome::Passed => (LogLevel::Info, "passed"),
        Outcome::Failed => (LogLevel::Error, "failed"),
        Outcome::Raised => (LogLevel::Error, "raised an error"),
    };
    let said = result.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
    LogLine { level, origin: LogOrigin::Library, message: format!("setup test `{}` {how}{said}", result.label) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_says_what_the_control_plane_does_not_hear() {
        for (outcome, message, level, text) in [
            (Outcome::Passed, None, LogLevel::Info, "setup test `Reach the shop` passed"),
            (Outcome::Failed, Some("no route"), LogLevel::Error, "setup test `Reach the shop` failed: no route"),
            (
                Outcome::Raised,
                Some("Traceback"),
                LogLevel::Error,
                "setup test `Reach the shop` raised an error: Traceback",
            ),
        ] {
            let result = TestResult {
                name: "reach".to_owned(),
                label: "Reach the shop".to_owned(),
                outcome,
                message: message.map(str::to_owned),
            };
            let line = line(&result);
            assert_eq!((line.level, line.message.as_str()), (level, text));
        }
    }
}
