//! How a job ended, as the control plane may know it: class, blame and code, counters, instants. The one place where
//! errors become codes. The error's text is logged here, once, with its whole chain, and stays on the host.

use std::collections::BTreeMap;

use inshore_columnar::TableName;
pub(crate) use inshore_protocol::Outcome;
use inshore_protocol::limits::CAPTURE_BYTES_MAX;
use inshore_protocol::{
    CapturedColumn, CapturedSchema, CapturedTable, Code, Delivery, Hex16, JobRef, NothingMoved, OutcomeResult,
    SetupTest, TableLabel, WarningCount,
};

use super::journal::Journal;
use super::run::{Error, Report};
use super::{package, spec};
use crate::connector::sdk::question::Outcome as TestOutcome;
use crate::context::{Progress, Stop, chain};
use crate::destination::Label;
use crate::report::{self, Labels};
use crate::sync::{self, Decision, Seen, Verdict};
use crate::{batch, connector, destination};

/// What an attempt came to, with the instants between which it ran.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) started_at_ms: i64,
    pub(crate) finished_at_ms: i64,
    pub(crate) result: Result<Report, Error>,
    /// The last that was known of its progress.
    pub(crate) progress: Progress,
}

/// Turns an attempt's end into its outcome.
pub(crate) fn classify(attempt: &JobRef, labels: &Labels, journal: &Journal, ended: &Ended) -> Outcome {
    let result = match &ended.result {
        Ok(report) => of_report(attempt, journal, report),
        Err(error) => failed(attempt, journal, error),
    };
    let report = ended.result.as_ref().ok();
    let rows = report::rows(ended.progress.totals());
    let moved = rows.total() > 0 || rows.truncates > 0;
    Outcome {
        result,
        head_seq: report.and_then(|report| report.head_seq),
        head_generation: ended.result.as_ref().err().and_then(head_generation),
        rows,
        bytes: ended.progress.bytes,
        checkpoints: ended.progress.checkpoints,
        state_bytes: ended.progress.state_bytes,
        last_checkpoint_at_ms: ended.progress.last_checkpoint_at_ms.and_then(|at| u64::try_from(at).ok()),
        delivery: report.map_or(Delivery::ExactlyOnce, |report| delivery(&report.label)),
        warnings: report.map(warnings).unwrap_or_default(),
        tables: report::tables(labels, &ended.progress),
        nothing_moved: (!moved && result == OutcomeResult::Succeeded).then_some(why_nothing(report)),
        setup_tests: report.map(setup_tests).unwrap_or_default(),
        schema: report.and_then(|report| captured(labels, attempt, &report.seen)),
        ..empty(attempt, ended.started_at_ms, ended.finished_at_ms)
    }
}

/// The outcome of a job process that ended without telling one.
pub(crate) fn died(attempt: &JobRef, started_at_ms: i64, finished_at_ms: i64) -> Outcome {
    let failure = Code::JobDied.into();
    Outcome { result: OutcomeResult::Failed { failure }, ..empty(attempt, started_at_ms, finished_at_ms) }
}

/// The outcome of a job that failed before its process could be started.
pub(crate) fn not_started(attempt: &JobRef, code: Code, at_ms: i64) -> Outcome {
    Outcome { result: OutcomeResult::Failed { failure: code.into() }, ..empty(attempt, at_ms, at_ms) }
}

/// The outcome of a job that was stopped before it could tell one itself.
pub(crate) fn stopped(attempt: &JobRef, how: Stop, started_at_ms: i64, finished_at_ms: i64) -> Outcome {
    let result = if how == Stop::Drain { OutcomeResult::Drained } else { OutcomeResult::Cancelled };
    Outcome { result, ..empty(attempt, started_at_ms, finished_at_ms) }
}

fn empty(attempt: &JobRef, started_at_ms: i64, finished_at_ms: i64) -> Outcome {
    Outcome {
        // The outbox numbers it when it is stored.
        outbox_seq: 0,
        job_id: attempt.job_id.clone(),
        generation: attempt.generation,
        head_seq: None,
        head_generation: None,
        result: OutcomeResult::Cancelled,
        rows: report::rows(crate::context::Counts::default()),
        bytes: 0,
        checkpoints: 0,
        state_bytes: 0,
        last_checkpoint_at_ms: None,
        started_at_ms: u64::try_from(started_at_ms).unwrap_or(0),
        finished_at_ms: u64::try_from(finished_at_ms).unwrap_or(0),
        delivery: Delivery::ExactlyOnce,
        warnings: Vec::new(),
        tables: Vec::new(),
        nothing_moved: None,
        setup_tests: Vec::new(),
        schema: None,
    }
}

/// How each ended, and nothing else of it.
fn setup_tests(report: &Report) -> Vec<SetupTest> {
    let ended = report.setup_tests.iter().flatten().map(|test| match test {
        TestOutcome::Passed => SetupTest::Passed,
        TestOutcome::Failed => SetupTest::Failed,
        TestOutcome::Raised => SetupTest::Raised,
    });
    SetupTest::bounded(ended)
}

fn why_nothing(report: Option<&Report>) -> NothingMoved {
    match report {
        Some(report) if report.setup_tests.is_some() => NothingMoved::CheckOnly,
        Some(report) if report.blocked_rows > 0 => NothingMoved::AllBlocked,
        _ => NothingMoved::NoRows,
    }
}

/// What the connector named, as far as a message takes it. New tables come first; of the others each sync begins with
/// another one, so that all are told in time.
fn captured(labels: &Labels, attempt: &JobRef, seen: &BTreeMap<TableName, Seen>) -> Option<CapturedSchema> {
    if seen.is_empty() {
        return None;
    }
    let (mut tables, known): (Vec<_>, Vec<_>) = seen.iter().partition(|(_, seen)| !seen.known);
    let first = attempt.to_string().bytes().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let (last, next) = known.split_at(first % known.len().max(1));
    tables.extend(next.iter().chain(last));
    let mut room = CAPTURE_BYTES_MAX;
    let mut captured = CapturedSchema { label_key: labels.key_id().map(Hex16), tables: Vec::new(), cut: false };
    for (name, seen) in tables {
        let labelled = captured_table(labels, name, seen, &mut room);
        captured.cut |= labelled.as_ref().is_none_or(|table| table.columns.len() < seen.columns.len());
        captured.tables.extend(labelled);
    }
    Some(captured)
}

/// JSON of an entry beside its label.
const ENTRY_BYTES: usize = 48;

/// `None` where there is no room, or a name that no label holds.
fn captured_table(labels: &Labels, name: &TableName, seen: &Seen, room: &mut usize) -> Option<CapturedTable> {
    let mut take = |label: &TableLabel| {
        // Escapes make a name longer, at most by this much.
        *room = room.checked_sub(label.as_str().len() * 2 + ENTRY_BYTES)?;
        Some(())
    };
    let schema = labels.of(&name.schema, None, None)?;
    let table = labels.of(&name.schema, Some(&name.table), None)?;
    take(&schema)?;
    take(&table)?;
    let mut names: Vec<_> = seen.columns.iter().collect();
    names.sort_by_key(|(name, _)| *name);
    let columns = names.into_iter().filter_map(|(column, decision)| {
        let key = seen.key.contains(column);
        let enabled = *decision != Decision::Out;
        let column = labels.of(&name.schema, Some(&name.table), Some(column))?;
        take(&column)?;
        Some(CapturedColumn { column, enabled, key })
    });
    let columns = columns.collect();
    Some(CapturedTable { schema, table, enabled: seen.enabled, columns })
}

fn of_report(attempt: &JobRef, journal: &Journal, report: &Report) -> OutcomeResult {
    match (report.verdict, &report.failure) {
        (Verdict::Succeeded, _) => OutcomeResult::Succeeded,
        (Verdict::Drained, _) => OutcomeResult::Drained,
        (Verdict::Cancelled, _) => OutcomeResult::Cancelled,
        (Verdict::Fenced, _) => OutcomeResult::Fenced,
        (Verdict::SourceFailed | Verdict::StepFailed, Some(error)) => tell_sync(attempt, journal, error),
        (Verdict::SourceFailed | Verdict::StepFailed, None) => OutcomeResult::Failed { failure: Code::Internal.into() },
    }
}

fn failed(attempt: &JobRef, journal: &Journal, error: &Error) -> OutcomeResult {
    match error {
        Error::Sync(sync::Error::Destination(error)) if error.is_fenced() => OutcomeResult::Fenced,
        Error::Stopped(Stop::Drain) => OutcomeResult::Drained,
        Error::Stopped(_) => OutcomeResult::Cancelled,
        Error::Sync(error) => tell_sync(attempt, journal, error),
        error => tell(attempt, code(error), &chain(error)),
    }
}

/// What a control plane that forgot its own generations (it came back from an older copy) needs to go on.
fn head_generation(error: &Error) -> Option<u64> {
    match error {
        Error::Sync(sync::Error::Destination(destination::Error::FencedByGeneration { head, .. })) => Some(*head),
        _ => None,
    }
}

/// What a connector says of its own failure may hold rows: it goes to the connector's journal alone.
fn tell_sync(attempt: &JobRef, journal: &Journal, error: &sync::Error) -> OutcomeResult {
    let code = code_of(error);
    match error {
        sync::Error::Destination(cause) if cause.quotes_input() => {
            journal.failure(&chain(error));
            tell(attempt, code, "a file of the connector cannot be taken; its journal says why")
        }
        sync::Error::Connector(_) | sync::Error::ActionRequired { .. } => {
            journal.failure(&chain(error));
            tell(attempt, code, "the connector failed; its journal says why")
        }
        // Libraries quote the value that they could not handle: below our own words nothing goes to the agent's log.
        sync::Error::Batch(cause) => {
            journal.failure(&chain(error));
            tell(attempt, code, &format!("{error}: {cause}"))
        }
        _ => tell(attempt, code, &chain(error)),
    }
}

fn tell(attempt: &JobRef, code: Code, text: &str) -> OutcomeResult {
    tracing::error!(%attempt, %code, slug = code.slug(), error = text, "job failed");
    OutcomeResult::Failed { failure: code.into() }
}

fn code(error: &Error) -> Code {
    match error {
        Error::Spec(error) => of_spec(error),
        Error::Package(error) => code_of_package(error),
        Error::Sync(error) => code_of(error),
        Error::Scratch(_) => Code::SpoolFull,
        Error::State | Error::Worker | Error::Stopped(_) => Code::Internal,
    }
}

pub(crate) fn of_spec(error: &spec::Error) -> Code {
    match error {
        spec::Error::Policy { source, .. } => Code::from_text(source.code()).unwrap_or(Code::PolicyMalformed),
        spec::Error::DestinationNotListed { .. } => Code::DestinationNotListed,
        spec::Error::ConnectorNotListed { .. } => Code::ConnectorNotListed,
        spec::Error::UnsandboxedRefused { .. } => Code::UnsandboxedRefused,
        spec::Error::ModeRefused => Code::ModeRefused,
        spec::Error::Unsupported { .. } | spec::Error::Tables(_) => Code::ProtocolVersion,
        spec::Error::SchemaForeign => Code::SchemaConfigForeign,
        spec::Error::Selection(error) => of_selection(error),
    }
}

/// The product's code of what is wrong with a package.
pub(crate) fn code_of_package(error: &package::Error) -> Code {
    match error {
        package::Error::Read(_) => Code::Internal,
        package::Error::Write(_) => Code::SpoolFull,
        package::Error::DigestMismatch => Code::PackageDigestMismatch,
        package::Error::NotZip(_) => Code::PackageNotZip,
        package::Error::Escapes { .. } => Code::PackageEscapingEntry,
        package::Error::TooLarge { .. } => Code::PackageTooLarge,
        package::Error::NoConnector => Code::PackageWithoutConnector,
    }
}

/// The product's code of what ended a sync.
pub(crate) fn code_of(error: &sync::Error) -> Code {
    match error {
        sync::Error::Connector(error) => of_connector(error),
        sync::Error::Batch(error) => of_batch(error),
        sync::Error::Destination(error) => of_destination(error),
        sync::Error::ActionRequired { .. } => Code::ActionRequired,
        sync::Error::Selection(error) => of_selection(error),
        sync::Error::WorkerStopped => Code::Internal,
    }
}

fn of_selection(error: &sync::SelectionError) -> Code {
    match error {
        sync::SelectionError::KeyBlocked { .. } => Code::KeyColumnBlocked,
        sync::SelectionError::NoSalt => Code::HashSaltUnavailable,
        sync::SelectionError::Batch(error) => of_batch(error),
    }
}

fn of_destination(error: &destination::Error) -> Code {
    Code::from_text(error.code()).unwrap_or(Code::Internal)
}

fn of_connector(error: &connector::Error) -> Code {
    Code::from_text(error.code()).unwrap_or(Code::Internal)
}

fn of_batch(error: &batch::Error) -> Code {
    Code::from_text(error.code()).unwrap_or(Code::Internal)
}

fn delivery(label: &Label) -> Delivery {
    match label {
        Label::ExactlyOnce => Delivery::ExactlyOnce,
        Label::AtLeastOnce { .. } => Delivery::AtLeastOnce,
    }
}

fn warnings(report: &Report) -> Vec<WarningCount> {
    let counted = report.warnings.iter().map(|(kind, count)| WarningCount { code: of_warning(*kind), count: *count });
    let probe = matches!(report.label, Label::AtLeastOnce { .. });
    let probe = probe.then_some(WarningCount { code: Code::ProbeFailed, count: 1 });
    counted.chain(probe).collect()
}

fn of_warning(kind: connector::WarningKind) -> Code {
    use connector::WarningKind;
    match kind {
        WarningKind::Columns => Code::ColumnNamesCollide,
        WarningKind::Schema => Code::SchemaWrong,
        WarningKind::State => Code::StateTooLarge,
        WarningKind::Connector => Code::ConnectorWarning,
        WarningKind::Exited => Code::ExitedEarly,
        WarningKind::LogTable => Code::LogTableUnavailable,
    }
}

#[cfg(test)]
mod tests;
