//! The table of lines beside the data: it goes with the commits, and no sync fails over it.

use super::*;
use crate::connector::{LogLevel, LogOrigin};

fn said(message: &str) -> Result<Event, connector::Error> {
    let (level, origin) = (LogLevel::Info, LogOrigin::Connector);
    Ok(Event::Log(LogLine { level, origin, message: message.to_owned() }))
}

/// Two windows with a line and rows in each.
async fn play_lines(faults: &[(At, Fault)]) -> Play {
    let script =
        vec![said("one"), pushed(0..3), checkpoint(1), said("two"), pushed(3..5), checkpoint(2), said("three"), end()];
    let table = LogTable::new("con_1", "job_1", 1_700_000_000_000, 7);
    let play = play_with(FRESH, script, faults, Some(table)).await;
    assert_eq!(play.verdict(), Verdict::Succeeded, "{faults:?}: {}", play.failure());
    assert_eq!(play.lines("commit").first(), Some(&r#"commit {"n":1}"#), "{faults:?}");
    assert_eq!(play.state, r#"{"n":2}"#, "{faults:?}");
    assert_eq!(play.progress.totals().upserts, 5, "lines are not counted");
    assert_eq!(rows_written(&play), ["write 3 rows", "write 2 rows"], "{faults:?}");
    play
}

fn rows_written(play: &Play) -> Vec<&str> {
    play.lines("write").into_iter().filter(|line| line.ends_with("rows")).collect()
}

fn lines_written(play: &Play) -> Vec<&str> {
    play.lines("write").into_iter().filter(|line| line.ends_with("lines")).collect()
}

fn warnings(play: &Play) -> BTreeMap<WarningKind, u64> {
    play.summary.as_ref().expect("the sync ended").warnings.clone()
}

#[tokio::test(start_paused = true)]
async fn lines_go_with_the_commit_that_follows_them() {
    let play = play_lines(&[]).await;
    assert_eq!(lines_written(&play), ["write 1 lines"; 3]);
    assert_eq!(play.lines("commit").len(), 3, "the end commits its line");
    assert!(warnings(&play).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_file_of_lines_that_is_not_taken_fails_nothing_and_ends_the_lines() {
    for fault in [Fault::Reject, Fault::FailAfterWrite] {
        let play = play_lines(&[(At::WriteLines, fault)]).await;
        let stored = if fault == Fault::Reject { 0 } else { 1 };
        assert_eq!(lines_written(&play).len(), stored, "{fault:?}");
        assert_eq!(warnings(&play), BTreeMap::from([(WarningKind::LogTable, 1)]), "{fault:?}");
        let told = play.told.iter().filter(|line| line.contains("inshore_log.connector_sdk_log")).count();
        assert_eq!((told, play.told.len()), (1, 4), "{:?}", play.told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_of_lines_that_the_destination_sets_aside_gets_no_more_lines() {
    let play = play_lines(&[(At::SetAside, Fault::Reject)]).await;
    assert!(lines_written(&play).is_empty());
    assert_eq!(warnings(&play), BTreeMap::from([(WarningKind::LogTable, 1)]));
    assert!(play.told.iter().any(|line| line == "two") && play.told.iter().any(|line| line == "three"));
}
