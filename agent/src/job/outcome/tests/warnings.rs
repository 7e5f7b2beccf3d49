//! Warnings go up by code and count; faults of our own are internal.

use std::collections::BTreeMap;

use super::super::*;
use crate::connector::WarningKind;

#[test]
fn each_warning_goes_up_by_code_and_count_and_a_failed_probe_is_one() {
    let kinds = [
        (WarningKind::Columns, Code::ColumnNamesCollide),
        (WarningKind::Schema, Code::SchemaWrong),
        (WarningKind::State, Code::StateTooLarge),
        (WarningKind::Connector, Code::ConnectorWarning),
        (WarningKind::Exited, Code::ExitedEarly),
        (WarningKind::LogTable, Code::LogTableUnavailable),
    ];
    let report = |label| Report {
        verdict: Verdict::Succeeded,
        failure: None,
        head_seq: None,
        warnings: kinds.iter().map(|(kind, _)| (*kind, 3)).collect::<BTreeMap<_, _>>(),
        label,
        setup_tests: None,
        seen: BTreeMap::new(),
        blocked_rows: 0,
    };
    let codes = |label| warnings(&report(label)).iter().map(|warning| warning.code).collect::<Vec<_>>();
    let mut found = codes(Label::ExactlyOnce);
    assert_eq!(found.len(), kinds.len());
    assert!(kinds.iter().all(|(_, code)| found.contains(code)), "{found:?}");
    found.push(Code::ProbeFailed);
    assert_eq!(codes(Label::AtLeastOnce { failed_check: "one winner" }), found);
}

#[test]
fn faults_of_our_own_are_internal_and_a_silent_end_is_a_dead_job() {
    for error in [Error::State, Error::Worker] {
        assert_eq!(code(&error), Code::Internal, "{error}");
    }
    let attempt = JobRef { job_id: "job_1".parse().expect("an id"), generation: 2 };
    let failed = |code: Code| OutcomeResult::Failed { failure: code.into() };
    assert_eq!(died(&attempt, 1, 2).result, failed(Code::JobDied));
    assert_eq!(not_started(&attempt, Code::SecretUnopenable, 1).result, failed(Code::SecretUnopenable));
}
