//! The driver between a scripted source and a scripted destination: what is done in which order, whatever fails,
//! hangs, or asks it to stop.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use inshore_columnar::{Naming, Op, RowBatch, TableBuilder, TableName, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Context, Intake, Secrets, Summary, drive};
use crate::batch::{BatchSettings, CurrentTable, SealedFile, StepOp, Window};
use crate::connector::{self, EndKind, Event, LogLine, Source, Warning, WarningKind};
use crate::context::{Progress, Stop};
use crate::destination::{self, Applied, Collected, CommitRequest, Committed, Destination, FileRef, Resync};
use crate::sync::{LogTable, Selection, Verdict};

mod ends;
mod lines;

use ends::ScriptedDestination;

const HOUR: Duration = Duration::from_secs(3_600);

/// Where a fault or a stop request strikes: its first pass only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Pull,
    Write,
    Commit,
    Acknowledge,
    Apply,
    Collect,
    /// The write of a file of lines.
    WriteLines,
    /// The question whether tables were set aside.
    SetAside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing happens but the error.
    Reject,
    /// It happens, and the answer is an error.
    FailAfterWrite,
    /// No answer, ever; a cancel comes after a while.
    Hold,
    Slow,
    /// Of a pull: the connector's next word takes an hour.
    Hour,
    Fenced,
    /// It happens, and somebody asks for a stop meanwhile.
    Asked(Stop),
}

/// What both scripted ends share: the record of what happened, and what is to go wrong.
#[derive(Clone)]
struct Stage {
    record: Arc<Mutex<Vec<String>>>,
    faults: Arc<Mutex<Vec<(At, Fault)>>>,
    stop: watch::Sender<Stop>,
}

/// What a step comes to once its fault was consumed.
enum Fate {
    Goes,
    Fails { after: bool, fenced: bool },
}

impl Stage {
    fn note(&self, line: String) {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn take(&self, at: At) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let place = faults.iter().position(|(place, _)| *place == at)?;
        Some(faults.remove(place).1)
    }

    async fn pass(&self, at: At) -> Fate {
        let Some(fault) = self.take(at) else { return Fate::Goes };
        match fault {
            Fault::Reject => Fate::Fails { after: false, fenced: false },
            Fault::FailAfterWrite => Fate::Fails { after: true, fenced: false },
            Fault::Fenced => Fate::Fails { after: false, fenced: true },
            Fault::Slow | Fault::Hour => {
                tokio::time::sleep(Duration::from_secs(3)).await;
                Fate::Goes
            }
            Fault::Asked(stop) => {
                self.stop.send_replace(stop);
                Fate::Goes
            }
            Fault::Hold => {
                tokio::time::sleep(Duration::from_secs(3)).await;
                self.stop.send_replace(Stop::Cancel);
                std::future::pending().await
            }
        }
    }
}

struct ScriptedSource {
    stage: Stage,
    script: VecDeque<Result<Event, connector::Error>>,
    /// The next word comes then; kept here because a pull may be given up and made again.
    silent_until: Option<Instant>,
}

impl Source for ScriptedSource {
    async fn next(&mut self) -> Result<Event, connector::Error> {
        match self.stage.take(At::Pull) {
            Some(Fault::Asked(stop)) => {
                self.stage.stop.send_replace(stop);
                // The driver hears the request before the connector's next word.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Some(Fault::Reject) => return Err(connector::Error::Died { how: "scripted".to_owned() }),
            Some(Fault::Hour) => {
                let from = self.silent_until.unwrap_or_else(Instant::now).max(Instant::now());
                self.silent_until = Some(from + HOUR);
            }
            _ => {}
        }
        if let Some(until) = self.silent_until {
            tokio::time::sleep_until(until).await;
            self.silent_until = None;
        }
        match self.script.pop_front() {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    async fn acknowledge(&mut self, checkpoint: u64) -> Result<(), connector::Error> {
        let fate = self.stage.pass(At::Acknowledge).await;
        if !matches!(fate, Fate::Fails { after: false, .. }) {
            self.stage.note(format!("acknowledge {checkpoint}"));
        }
        match fate {
            Fate::Goes => Ok(()),
            Fate::Fails { .. } => Err(connector::Error::Died { how: "scripted".to_owned() }),
        }
    }

    async fn close(&mut self) {
        self.stage.note("close".to_owned());
    }
}

/// One sync between the scripted ends, and everything that can be asked of it afterwards.
struct Play {
    summary: Option<Summary>,
    record: Vec<String>,
    synced: Vec<i64>,
    state: String,
    progress: Progress,
    told: Vec<String>,
}

impl Play {
    fn lines(&self, verb: &str) -> Vec<&str> {
        self.record.iter().filter(|line| line.starts_with(verb)).map(String::as_str).collect()
    }

    fn verdict(&self) -> Verdict {
        self.summary.as_ref().expect("the sync ended").verdict
    }

    fn failure(&self) -> String {
        let failure = self.summary.as_ref().and_then(|summary| summary.failure.as_ref());
        format!("{failure:?}")
    }
}

struct Start {
    state: &'static str,
    last_synced_ms: i64,
}

const FRESH: Start = Start { state: "{}", last_synced_ms: 0 };

async fn play(start: Start, script: Vec<Result<Event, connector::Error>>, faults: &[(At, Fault)]) -> Play {
    play_with(start, script, faults, None).await
}

async fn play_with(
    start: Start,
    script: Vec<Result<Event, connector::Error>>,
    faults: &[(At, Fault)],
    table: Option<LogTable>,
) -> Play {
    let spool = tempfile::tempdir().expect("a temporary folder");
    let settings = BatchSettings {
        type_locked: false,
        memory_bytes_max: 1 << 20,
        file_bytes_target: 1 << 20,
        row_group_rows: 1_000,
        spool_dir: spool.path().to_owned(),
        spool_bytes_max: 1 << 20,
    };
    let (stop, stopping) = watch::channel(Stop::No);
    let (progress, progressing) = watch::channel(Progress::default());
    let stage = Stage { record: Arc::default(), faults: Arc::new(Mutex::new(faults.to_vec())), stop };
    let mut source = ScriptedSource { stage: stage.clone(), script: script.into(), silent_until: None };
    let mut destination = ScriptedDestination {
        stage: stage.clone(),
        state: start.state.to_owned(),
        last_synced_ms: start.last_synced_ms,
        synced: Vec::new(),
        resync: None,
    };
    let mut context = Context { progress, stop: stopping };
    let told = Mutex::new(Vec::new());
    let tell = |line: LogLine| told.lock().unwrap_or_else(PoisonError::into_inner).push(line.message);
    let driven = drive(
        &mut context,
        &mut source,
        &mut destination,
        Intake { window: Window::new(settings), selection: Selection::default(), anew: false },
        super::Log { tell: &tell, table, secrets: Secrets::default() },
    );
    let summary = tokio::time::timeout(Duration::from_secs(600) + 1_000 * HOUR, driven).await.ok();
    let record = stage.record.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let progress = progressing.borrow().clone();
    let (synced, state) = (destination.synced, destination.state);
    Play { summary, record, synced, state, progress, told: told.into_inner().unwrap_or_else(PoisonError::into_inner) }
}

fn rows(ids: std::ops::Range<i64>) -> RowBatch {
    let mut builder = TableBuilder::new(TableName::new("shop", "orders"), &["id".to_owned()], &[], Naming::Source);
    for id in ids {
        let slot = builder.column_index("id");
        builder.begin_row(Op::Upsert);
        builder.set(slot, Value::Int(id)).expect("fits");
        builder.end_row().expect("a whole row");
    }
    builder.finish().expect("rows")
}

fn checkpoint(id: u64) -> Result<Event, connector::Error> {
    Ok(Event::Checkpoint { id, state: format!(r#"{{"n":{id}}}"#) })
}

fn pushed(ids: std::ops::Range<i64>) -> Result<Event, connector::Error> {
    Ok(Event::Rows(rows(ids)))
}

fn end() -> Result<Event, connector::Error> {
    Ok(Event::End(EndKind::Finished))
}

/// Two checkpoints with rows before each, then the end.
fn two_checkpoints() -> Vec<Result<Event, connector::Error>> {
    vec![pushed(0..3), checkpoint(1), pushed(3..5), checkpoint(2), end()]
}

#[tokio::test(start_paused = true)]
async fn each_checkpoint_is_written_committed_acknowledged_applied_in_that_order() {
    let play = play(FRESH, two_checkpoints(), &[]).await;
    let expected = [
        "write 3 rows",
        r#"commit {"n":1}"#,
        "acknowledge 1",
        "apply",
        "write 2 rows",
        r#"commit {"n":2}"#,
        "acknowledge 2",
        "apply",
        // The end brings nothing new: no commit, but the tables are brought to the head.
        "apply",
        "close",
        "collect",
    ];
    assert_eq!(play.record, expected);
    assert_eq!(play.verdict(), Verdict::Succeeded);
    assert_eq!(play.summary.as_ref().and_then(|summary| summary.head_seq), Some(2));
    assert_eq!(play.progress.checkpoints, 2);
    assert_eq!(play.progress.totals().upserts, 5);
    assert!(play.progress.bytes > 0 && play.progress.last_checkpoint_at_ms.is_some());
}

/// A sync has no maximum duration.
#[tokio::test(start_paused = true)]
async fn a_sync_of_72_hours_succeeds() {
    const HOURS: u64 = 72;
    let began = Instant::now();
    let script = (1..=HOURS).flat_map(|hour| {
        let id = i64::try_from(hour).expect("small");
        [pushed(id..id + 1), checkpoint(hour)]
    });
    let faults = [(At::Pull, Fault::Hour); HOURS as usize];
    let play = play(FRESH, script.chain([end()]).collect(), &faults).await;
    assert!(began.elapsed() >= u32::try_from(HOURS).expect("small") * HOUR, "it took {:?}", began.elapsed());
    assert_eq!(play.verdict(), Verdict::Succeeded);
    assert_eq!((play.lines("commit").len(), play.progress.totals().upserts), (72, 72));
    assert_eq!(play.state, r#"{"n":72}"#);
}

#[tokio::test(start_paused = true)]
async fn the_end_commits_the_rest_and_keeps_the_state() {
    for kind in [EndKind::Finished, EndKind::Exited] {
        let script = vec![pushed(0..3), checkpoint(1), pushed(3..5), Ok(Event::End(kind))];
        let play = play(FRESH, script, &[]).await;
        assert_eq!(play.lines("commit"), [r#"commit {"n":1}"#, r#"commit {"n":1}"#], "{kind:?}");
        assert_eq!(play.lines("write"), ["write 3 rows", "write 2 rows"], "{kind:?}");
        assert_eq!(play.lines("acknowledge"), ["acknowledge 1"], "{kind:?}");
        assert_eq!(play.verdict(), Verdict::Succeeded, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deferred_truncate_goes_with_the_last_commit_and_reaches_to_the_window_of_its_call() {
    let truncate = |deferred| Ok(Event::Truncate { table: TableName::new("shop", "orders"), deferred });
    let script =
        |last| vec![pushed(0..3), checkpoint(1), truncate(true), pushed(3..5), checkpoint(2), pushed(5..6), last];
    let commits = [r#"commit {"n":1}"#, r#"commit {"n":2}"#];
    let good = play(FRESH, script(end()), &[]).await;
    let expected = [commits[0], commits[1], "truncate the rows of 1 windows", commits[1]];
    let moved: Vec<_> =
        good.record.iter().filter(|line| line.starts_with("truncate") || line.starts_with("commit")).collect();
    assert_eq!(moved, expected);
    assert_eq!(good.progress.totals().truncates, 1);

    let failed = play(FRESH, script(Err(connector::Error::Died { how: "scripted".to_owned() })), &[]).await;
    assert_eq!((failed.lines("truncate").len(), failed.lines("commit")), (0, commits.to_vec()));

    let same_window = play(FRESH, vec![pushed(0..3), checkpoint(1), truncate(true), pushed(3..5), end()], &[]).await;
    assert_eq!(same_window.lines("truncate"), ["truncate the rows of 1 windows"]);
    let at_once =
        play(FRESH, vec![pushed(0..3), checkpoint(1), truncate(false), pushed(3..5), checkpoint(2), end()], &[]).await;
    assert_eq!(at_once.lines("truncate"), ["truncate the rows of 1 windows"]);
}

#[tokio::test(start_paused = true)]
async fn rows_after_the_last_checkpoint_of_a_failed_connector_are_never_committed() {
    let raised = || Err(connector::Error::Raised { trace: "scripted".to_owned() });
    let asks = || Ok(Event::ConnectorError { message: "renew the key".to_owned(), trace: None });
    for (failure, told) in [(raised(), "Raised"), (asks(), "ActionRequired")] {
        let script = vec![pushed(0..3), checkpoint(1), pushed(3..5), failure];
        let play = play(FRESH, script, &[]).await;
        assert_eq!(play.lines("commit"), [r#"commit {"n":1}"#], "{told}");
        assert_eq!(play.lines("write"), ["write 3 rows"], "{told}");
        assert_eq!(play.state, r#"{"n":1}"#, "{told}");
        assert_eq!(play.verdict(), Verdict::SourceFailed, "{told}");
        assert!(play.failure().contains(told), "{}", play.failure());
        assert_eq!(play.lines("close").len(), 1, "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_changes_nothing_is_acknowledged_without_a_commit() {
    let unchanged = Ok(Event::Checkpoint { id: 1, state: r#"{"n":0}"#.to_owned() });
    let start = Start { state: r#"{"n":0}"#, last_synced_ms: 0 };
    let play = play(start, vec![unchanged, checkpoint(2), end()], &[]).await;
    assert_eq!(play.lines("commit"), [r#"commit {"n":2}"#], "a new state alone is a commit");
    assert_eq!(play.lines("acknowledge"), ["acknowledge 1", "acknowledge 2"]);
    assert_eq!(play.progress.checkpoints, 1);
}

#[tokio::test(start_paused = true)]
async fn synced_at_rises_strictly_while_the_clock_is_behind_the_chain() {
    let ahead = crate::context::now_ms() + 1_000_000_000;
    let play = play(Start { state: "{}", last_synced_ms: ahead }, two_checkpoints(), &[]).await;
    assert_eq!(play.synced, [ahead + 1, ahead + 2]);
}

#[tokio::test(start_paused = true)]
async fn a_window_that_cannot_be_folded_ends_the_sync_and_keeps_earlier_checkpoints() {
    let mut contradictory = rows(3..5);
    contradictory.table = TableName::new("shop", "customers");
    let script = vec![pushed(0..3), checkpoint(1), Ok(Event::Rows(contradictory)), checkpoint(2), end()];
    let play = play(FRESH, script, &[]).await;
    assert_eq!(play.verdict(), Verdict::StepFailed);
    assert_eq!(play.lines("commit"), [r#"commit {"n":1}"#]);
    let failure = play.summary.and_then(|summary| summary.failure);
    assert!(matches!(failure, Some(super::Error::Batch(error)) if error.code() == "SDK-015"));
}

#[tokio::test(start_paused = true)]
async fn warnings_are_counted_by_kind_and_told_to_the_journal() {
    let warning = |kind| Ok(Event::Warning(Warning { kind, message: format!("about {kind:?}") }));
    let script =
        vec![warning(WarningKind::Columns), warning(WarningKind::Exited), warning(WarningKind::Columns), end()];
    let play = play(FRESH, script, &[]).await;
    let warnings = play.summary.map(|summary| summary.warnings).unwrap_or_default();
    assert_eq!(warnings.into_iter().collect::<Vec<_>>(), [(WarningKind::Columns, 2), (WarningKind::Exited, 1)]);
    assert_eq!(play.told.len(), 3);
}

/// What a sync of two checkpoints comes to: `None` where it waits for its commit's answer until it is killed.
struct Expected {
    verdict: Option<Verdict>,
    commits: usize,
    acknowledged: usize,
}

async fn check(at: At, fault: Fault, expected: Expected) {
    let play = play(FRESH, two_checkpoints(), &[(at, fault)]).await;
    let name = format!("{fault:?} at {at:?}: {:?}", play.record);
    assert_eq!(play.summary.as_ref().map(|summary| summary.verdict), expected.verdict, "{name}");
    assert_eq!(play.lines("commit").len(), expected.commits, "{name}");
    assert_eq!(play.lines("acknowledge").len(), expected.acknowledged, "{name}");
    if let Some(summary) = &play.summary {
        assert_eq!(play.lines("close").len(), 1, "the connector is closed once: {name}");
        let failed = matches!(summary.verdict, Verdict::StepFailed | Verdict::Fenced | Verdict::SourceFailed);
        assert_eq!(summary.failure.is_some(), failed, "{name}");
        let ends_badly = matches!(summary.verdict, Verdict::Cancelled | Verdict::Fenced | Verdict::StepFailed);
        assert_eq!(play.lines("discard").len(), usize::from(ends_badly), "{name}");
    }
    // Nothing is acknowledged before its commit.
    let mut committed = 0;
    for line in &play.record {
        committed += usize::from(line.starts_with("commit"));
        if let Some(id) = line.strip_prefix("acknowledge ") {
            assert!(id.parse::<usize>().expect("a number") <= committed, "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_fault_at_every_step() {
    use Verdict::{Cancelled, Fenced, SourceFailed, StepFailed, Succeeded};
    let held = |at| if at == At::Commit { None } else { Some(Cancelled) };
    let rows = [
        // step, commits and acknowledgements before it and with it, verdict of an error
        (At::Write, (0, 0), (0, 0), StepFailed),
        (At::Commit, (0, 0), (1, 0), StepFailed),
        (At::Acknowledge, (1, 0), (1, 1), SourceFailed),
        (At::Apply, (1, 1), (1, 1), StepFailed),
    ];
    for (at, before, after, failed) in rows {
        let expected = |verdict, (commits, acknowledged)| Expected { verdict, commits, acknowledged };
        check(at, Fault::Reject, expected(Some(failed), before)).await;
        check(at, Fault::FailAfterWrite, expected(Some(failed), after)).await;
        check(at, Fault::Hold, expected(held(at), before)).await;
        check(at, Fault::Slow, expected(Some(Succeeded), (2, 2))).await;
        if at != At::Acknowledge {
            check(at, Fault::Fenced, expected(Some(Fenced), before)).await;
        }
    }
    for fault in [Fault::Reject, Fault::FailAfterWrite, Fault::Hold, Fault::Slow, Fault::Fenced] {
        check(At::Collect, fault, Expected { verdict: Some(Succeeded), commits: 2, acknowledged: 2 }).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_at_every_step_ends_at_the_checkpoint_in_hand() {
    let rows = [(At::Pull, 1, 0), (At::Write, 1, 0), (At::Commit, 1, 0), (At::Acknowledge, 1, 1), (At::Apply, 1, 1)];
    for (at, commits, acknowledged) in rows {
        let expected = Expected { verdict: Some(Verdict::Drained), commits, acknowledged };
        check(at, Fault::Asked(Stop::Drain), expected).await;
    }
    let expected = Expected { verdict: Some(Verdict::Succeeded), commits: 2, acknowledged: 2 };
    check(At::Collect, Fault::Asked(Stop::Drain), expected).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_at_every_step_drops_the_open_window_and_settles_the_commit_in_flight() {
    let rows = [(At::Pull, 0, 0), (At::Write, 0, 0), (At::Commit, 1, 0), (At::Acknowledge, 1, 1), (At::Apply, 1, 1)];
    for (at, commits, acknowledged) in rows {
        let expected = Expected { verdict: Some(Verdict::Cancelled), commits, acknowledged };
        check(at, Fault::Asked(Stop::Cancel), expected).await;
    }
    let expected = Expected { verdict: Some(Verdict::Succeeded), commits: 2, acknowledged: 2 };
    check(At::Collect, Fault::Asked(Stop::Cancel), expected).await;
}
