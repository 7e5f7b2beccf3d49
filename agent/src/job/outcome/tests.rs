//! Every kind of end and the code it gets; and that rows stay on this host.

mod captured;
mod warnings;

use std::collections::BTreeMap;

use crate::job::spec::wire::{Code, Delivery, NothingMoved, OutcomeResult, SetupTest};
use inshore_columnar::TableName;

use super::{Ended, Error, Outcome, Report, Stop, TestOutcome, classify, package, spec, stopped, sync};
use crate::batch;
use crate::connector::{self, WarningKind};
use crate::context::{Counts, Progress};
use crate::destination::{self, Label};
use crate::fixture;
use crate::job::journal::Journal;
use crate::report::Labels;
use crate::sync::Verdict;

fn report(verdict: Verdict, failure: Option<sync::Error>) -> Report {
    Report {
        verdict,
        failure,
        head_seq: Some(9),
        warnings: BTreeMap::new(),
        label: Label::ExactlyOnce,
        setup_tests: None,
        seen: BTreeMap::new(),
        blocked_rows: 0,
    }
}

/// The outcome, and what the connector's journal says.
fn outcome(result: Result<Report, Error>, progress: Progress) -> (Outcome, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("journal.jsonl");
    let attempt = fixture::spec("job_1", 3).job_ref();
    let ended = Ended { started_at_ms: 5, finished_at_ms: 8, result, progress };
    let outcome = classify(&attempt, &Labels::Hashed { key: [1; 32] }, &Journal::open(&path, "job_1"), &ended);
    assert_eq!((outcome.job_id.as_str(), outcome.generation), ("job_1", 3));
    assert_eq!((outcome.started_at_ms, outcome.finished_at_ms), (5, 8));
    (outcome, std::fs::read_to_string(&path).expect("a journal"))
}

fn check(result: Result<Report, Error>, expected: Code) {
    let name = format!("{result:?}");
    let (outcome, _) = outcome(result, Progress::default());
    assert_eq!(outcome.result, OutcomeResult::Failed { failure: expected.into() }, "{name}");
}

fn trace() -> String {
    "scripted".to_owned()
}

fn table() -> TableName {
    TableName::new("shop", "orders")
}

fn io() -> std::io::Error {
    std::io::Error::other("scripted")
}

#[test]
fn every_kind_of_error_before_the_sync_has_its_code() {
    let digest = || "7".repeat(64);
    let specs = [
        (spec::Error::DestinationNotListed { uri: "file:///x".to_owned() }, Code::DestinationNotListed),
        (spec::Error::ConnectorNotListed { digest: digest() }, Code::ConnectorNotListed),
        (spec::Error::UnsandboxedRefused { reason: trace() }, Code::UnsandboxedRefused),
        (spec::Error::ModeRefused, Code::ModeRefused),
        (spec::Error::Unsupported { what: "a thing" }, Code::ProtocolVersion),
        (spec::Error::SchemaForeign, Code::SchemaConfigForeign),
        (spec::Error::Selection(sync::SelectionError::NoSalt), Code::HashSaltUnavailable),
    ];
    let packages = [
        (package::Error::Read(io()), Code::Internal),
        (package::Error::Write(io()), Code::SpoolFull),
        (package::Error::DigestMismatch, Code::PackageDigestMismatch),
        (package::Error::NotZip(zip::result::ZipError::FileNotFound), Code::PackageNotZip),
        (package::Error::Escapes { number: 1 }, Code::PackageEscapingEntry),
        (package::Error::TooLarge { limit: "1 GiB" }, Code::PackageTooLarge),
        (package::Error::NoConnector, Code::PackageWithoutConnector),
    ];
    let others =
        [(Error::Scratch(io()), Code::SpoolFull), (Error::State, Code::Internal), (Error::Worker, Code::Internal)];
    let errors = specs.into_iter().map(|(error, code)| (Error::Spec(error), code));
    let errors = errors.chain(packages.into_iter().map(|(error, code)| (Error::Package(error), code)));
    for (error, code) in errors.chain(others) {
        check(Err(error), code);
    }
}

#[test]
fn every_part_of_a_sync_fails_with_its_own_code_before_and_during_it() {
    let errors: [fn() -> sync::Error; 23] = [
        || connector::Error::Raised { trace: trace() }.into(),
        || connector::Error::ExitNonZero { trace: trace() }.into(),
        || connector::Error::Died { how: trace() }.into(),
        || connector::Error::OutOfMemory { how: trace() }.into(),
        || connector::Error::Requirements { tail: trace() }.into(),
        || connector::Error::StateTooLarge { trace: trace() }.into(),
        || connector::Error::FilesUnsupported { trace: trace() }.into(),
        || connector::Error::FileTooLarge { trace: trace() }.into(),
        || connector::Error::FileRefused { trace: trace() }.into(),
        || destination::Error::UploadTooLarge { limit_bytes: 1 }.into(),
        || destination::Error::UploadRefused { what: trace() }.into(),
        || connector::Error::TooManyNames { trace: trace() }.into(),
        || batch::Error::TooManyTables { tables_max: 1 }.into(),
        || connector::Error::FormWrong { trace: trace() }.into(),
        || sync::Error::ActionRequired { message: trace(), trace: trace() },
        || batch::Error::PrimaryKeyNull { table: table(), column: trace() }.into(),
        || batch::Error::SpoolFull { limit_bytes: 1 }.into(),
        || batch::Error::SpoolAltered.into(),
        || destination::Error::Vanished { path: trace() }.into(),
        || destination::Error::Altered { slot: 3, reason: trace() }.into(),
        || destination::Error::FileMissing { table: table(), path: trace() }.into(),
        || sync::Error::WorkerStopped,
        || sync::SelectionError::KeyBlocked { table: table(), column: trace() }.into(),
    ];
    let codes = [
        "SDK-001", "SDK-002", "SDK-003", "SDK-004", "PKG-006", "SDK-006", "SDK-018", "SDK-021", "SDK-022", "SDK-021",
        "SDK-022", "SDK-023", "SDK-023", "SDK-019", "SDK-012", "SDK-007", "AGT-001", "AGT-003", "DST-003", "DST-004",
        "DST-006", "AGT-003", "CPL-004",
    ];
    for (error, code) in errors.iter().zip(codes) {
        let code = Code::from_text(code).expect("a code of the product");
        check(Err(Error::Sync(error())), code);
        check(Ok(report(Verdict::StepFailed, Some(error()))), code);
        check(Ok(report(Verdict::SourceFailed, Some(error()))), code);
    }
    check(Ok(report(Verdict::StepFailed, None)), Code::Internal);
}

#[test]
fn an_end_that_is_no_failure_is_told_as_what_it_is() {
    let fenced = || destination::Error::Fenced { claim_seq: 1, head: 2 };
    let rows = [
        (Ok(report(Verdict::Succeeded, None)), OutcomeResult::Succeeded),
        (Ok(report(Verdict::Drained, None)), OutcomeResult::Drained),
        (Ok(report(Verdict::Cancelled, None)), OutcomeResult::Cancelled),
        (Ok(report(Verdict::Fenced, Some(fenced().into()))), OutcomeResult::Fenced),
        (Err(fenced().into()), OutcomeResult::Fenced),
        (Err(destination::Error::FencedByGeneration { head: 4, mine: 3 }.into()), OutcomeResult::Fenced),
        (Err(Error::Stopped(Stop::Drain)), OutcomeResult::Drained),
        (Err(Error::Stopped(Stop::Cancel)), OutcomeResult::Cancelled),
    ];
    for (result, expected) in rows {
        let name = format!("{result:?}");
        assert_eq!(outcome(result, Progress::default()).0.result, expected, "{name}");
    }
    let attempt = fixture::spec("job_1", 3).job_ref();
    assert_eq!(stopped(&attempt, Stop::Drain, 1, 2).result, OutcomeResult::Drained);
    assert_eq!(stopped(&attempt, Stop::Cancel, 1, 2).result, OutcomeResult::Cancelled);
}

#[test]
fn an_outcome_carries_the_counters_the_warnings_and_the_promise() {
    let counts = Counts { upserts: 4, deletes: 1, ..Counts::default() };
    let tables = BTreeMap::from([(TableName::new("shop", "orders"), counts)]);
    let progress = Progress {
        tables,
        bytes: 70,
        checkpoints: 2,
        state_bytes: 11,
        last_checkpoint_at_ms: Some(7),
        ..Progress::default()
    };
    let kinds = [
        (WarningKind::Columns, Code::ColumnNamesCollide),
        (WarningKind::Schema, Code::SchemaWrong),
        (WarningKind::State, Code::StateTooLarge),
        (WarningKind::Connector, Code::ConnectorWarning),
        (WarningKind::Exited, Code::ExitedEarly),
        (WarningKind::LogTable, Code::LogTableUnavailable),
    ];
    let warnings = kinds.iter().map(|(kind, _)| (*kind, 3)).collect();
    let label = Label::AtLeastOnce { failed_check: "put" };
    let (told, _) = outcome(Ok(Report { warnings, label, ..report(Verdict::Succeeded, None) }), progress);
    assert_eq!((told.rows.upserts, told.rows.deletes, told.bytes, told.checkpoints), (4, 1, 70, 2));
    assert_eq!((told.head_seq, told.state_bytes, told.delivery), (Some(9), 11, Delivery::AtLeastOnce));
    assert_eq!((told.nothing_moved, told.last_checkpoint_at_ms), (None, Some(7)));
    for (_, code) in kinds {
        assert!(told.warnings.iter().any(|warning| warning.code == code && warning.count == 3), "{code}");
    }
    let (told, _) = outcome(Ok(report(Verdict::Succeeded, None)), Progress::default());
    assert_eq!((told.nothing_moved, told.setup_tests.len()), (Some(NothingMoved::NoRows), 0));
    let results = [TestOutcome::Passed, TestOutcome::Failed, TestOutcome::Raised];
    let wire = [SetupTest::Passed, SetupTest::Failed, SetupTest::Raised];
    for count in [0, 3] {
        let checked = Report { setup_tests: Some(results[..count].to_vec()), ..report(Verdict::Succeeded, None) };
        let (told, _) = outcome(Ok(checked), Progress::default());
        assert_eq!((told.nothing_moved, told.setup_tests.as_slice()), (Some(NothingMoved::CheckOnly), &wire[..count]));
    }
    for (at, last) in [(98, SetupTest::Passed), (120, SetupTest::Failed)] {
        let mut many = vec![TestOutcome::Passed; 150];
        many[at] = TestOutcome::Raised;
        let checked = Report { setup_tests: Some(many), ..report(Verdict::Succeeded, None) };
        let (told, _) = outcome(Ok(checked), Progress::default());
        assert_eq!((told.setup_tests.len(), told.setup_tests.last()), (100, Some(&last)), "{at}");
    }
    let blocked = Report { blocked_rows: 4, ..report(Verdict::Succeeded, None) };
    let (told, _) = outcome(Ok(blocked), Progress::default());
    assert_eq!(told.nothing_moved, Some(NothingMoved::AllBlocked));
    let (told, _) = outcome(Ok(report(Verdict::Cancelled, None)), Progress::default());
    assert_eq!(told.nothing_moved, None, "only a success explains that nothing moved");
}

#[test]
fn what_the_connector_said_goes_to_its_journal_and_never_up() {
    let planted = "planted-row-value";
    let errors: [sync::Error; 3] = [
        connector::Error::Raised { trace: planted.to_owned() }.into(),
        sync::Error::ActionRequired { message: planted.to_owned(), trace: String::new() },
        batch::Error::Spool(std::io::Error::other(planted)).into(),
    ];
    for error in errors {
        let (outcome, journal) = outcome(Ok(report(Verdict::SourceFailed, Some(error))), Progress::default());
        assert!(journal.contains(planted), "{journal}");
        assert!(!serde_json::to_string(&outcome).expect("JSON").contains(planted));
    }
}
