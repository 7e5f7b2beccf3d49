//! What is admitted, started and stopped; the work itself is `child`'s and stands still here.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::job::spec::wire::OutcomeResult;
use crate::sandbox::SelfTest;
use inshore_config::Policy;
use tokio::sync::mpsc;

use super::{Admission, Dispatcher, JobEvent, JobRef, Launch, RefusalReason, Request, Reserved, Stop};
use crate::fixture;
use crate::job::fixture::request;
use crate::job::outcome::{self, Outcome};
use crate::job::spec::Code;

const ROOMY: Admission<'_> = Admission {
    jobs_max: 2,
    disk_available_bytes: 10,
    disk_bytes_min: 10,
    memory_bytes: 8 << 30,
    sandbox: &SelfTest::Passed,
};
const OPEN: &str = "mode = \"managed\"\nconnectors = \"any\"\n\
                    [[destinations]]\nkind = \"inshore_files\"\nuri = \"file:///srv/lake\"\n";

fn policy(text: &str) -> Policy {
    Policy::parse(Path::new("policy.toml"), text).expect("a policy")
}

fn dispatcher() -> (Dispatcher, mpsc::Receiver<JobEvent>) {
    let (events, received) = mpsc::channel(16);
    let launch = Launch {
        executable: PathBuf::from("/nonexistent"),
        arguments: Vec::new(),
        cancel_grace: Duration::from_secs(1),
    };
    (Dispatcher::new(launch, events), received)
}

fn attempt(job_id: &str, generation: u64) -> JobRef {
    fixture::spec(job_id, generation).job_ref()
}

/// A preparation that waits for ever, as one does whose package cannot be had while the channel is away.
fn stuck() -> impl Future<Output = Result<Request, Box<Outcome>>> + Send + 'static {
    pending()
}

async fn ended(events: &mut mpsc::Receiver<JobEvent>) -> (JobRef, OutcomeResult) {
    let event = tokio::time::timeout(Duration::from_secs(10), events.recv()).await.expect("in time");
    match event.expect("an event") {
        JobEvent::Ended(attempt, outcome) => {
            assert_eq!((&outcome.job_id, outcome.generation), (&attempt.job_id, attempt.generation));
            (attempt, outcome.result)
        }
        JobEvent::Progress(frame) => panic!("no progress expected: {frame:?}"),
    }
}

#[tokio::test]
async fn offers_are_refused_with_the_reason_that_applies() {
    let (mut dispatcher, _events) = dispatcher();
    let spec = fixture::spec("job_1", 1);
    let open = policy(OPEN);
    assert_eq!(dispatcher.admit(&spec, &open, ROOMY), Ok(()));
    let full = Admission { disk_available_bytes: 9, ..ROOMY };
    assert_eq!(dispatcher.admit(&spec, &open, full), Err(RefusalReason::Disk));
    let closed = policy(&OPEN.replace("/srv/lake", "/srv/other"));
    assert_eq!(dispatcher.admit(&spec, &closed, ROOMY), Err(RefusalReason::DestinationNotListed));
    dispatcher.start(attempt("job_2", 1), Reserved::default(), stuck());
    assert_eq!(dispatcher.admit(&spec, &open, ROOMY), Ok(()), "one of two places is left");
    dispatcher.start(attempt("job_3", 1), Reserved::default(), stuck());
    assert_eq!(dispatcher.admit(&spec, &open, ROOMY), Err(RefusalReason::Capacity));
    dispatcher.drain();
    assert_eq!(dispatcher.admit(&spec, &open, ROOMY), Err(RefusalReason::Draining));
}

#[tokio::test]
async fn an_attempt_that_is_started_twice_runs_once() {
    let (mut dispatcher, mut events) = dispatcher();
    dispatcher.start(attempt("job_1", 1), Reserved::default(), stuck());
    dispatcher.start(attempt("job_1", 1), Reserved::default(), async {
        panic!("a second start of one attempt is never polled");
    });
    assert_eq!(dispatcher.running().count(), 1);
    dispatcher.stop("job_1", Stop::Cancel);
    assert_eq!(ended(&mut events).await, (attempt("job_1", 1), OutcomeResult::Cancelled));
    dispatcher.ended(&attempt("job_1", 1)).await;
    assert!(dispatcher.is_idle() && events.try_recv().is_err());
}

#[tokio::test]
async fn only_the_newest_attempt_of_a_job_goes_on_in_whatever_order_they_start() {
    for order in [[1, 2], [2, 1]] {
        let (mut dispatcher, mut events) = dispatcher();
        dispatcher.start(attempt("job_other", 1), Reserved::default(), stuck());
        for generation in order {
            dispatcher.start(attempt("job_1", generation), Reserved::default(), stuck());
        }
        assert_eq!(ended(&mut events).await, (attempt("job_1", 1), OutcomeResult::Cancelled), "{order:?}");
        dispatcher.ended(&attempt("job_1", 1)).await;
        assert!(events.try_recv().is_err(), "{order:?}: the others go on");
        assert_eq!(dispatcher.running().count(), 2);
    }
}

#[tokio::test]
async fn a_lost_lease_of_an_older_attempt_does_not_touch_the_newer_one() {
    let (mut dispatcher, mut events) = dispatcher();
    dispatcher.start(attempt("job_1", 2), Reserved::default(), stuck());
    dispatcher.stop_attempt(&attempt("job_1", 1), Stop::Cancel);
    tokio::task::yield_now().await;
    assert!(events.try_recv().is_err());
    dispatcher.stop_attempt(&attempt("job_1", 2), Stop::Cancel);
    assert_eq!(ended(&mut events).await, (attempt("job_1", 2), OutcomeResult::Cancelled));
}

#[tokio::test]
async fn a_drain_ends_a_job_that_still_waits_for_its_package() {
    let (mut dispatcher, mut events) = dispatcher();
    dispatcher.start(attempt("job_1", 1), Reserved::default(), stuck());
    dispatcher.drain();
    assert_eq!(ended(&mut events).await, (attempt("job_1", 1), OutcomeResult::Drained));
}

#[tokio::test]
async fn a_job_that_cannot_be_prepared_or_started_still_has_an_outcome() {
    let (mut dispatcher, mut events) = dispatcher();
    let failed = Box::new(outcome::not_started(&attempt("job_1", 1), Code::PackageDigestMismatch, 5));
    dispatcher.start(attempt("job_1", 1), Reserved::default(), async { Err(failed) });
    let failure = Code::PackageDigestMismatch.into();
    assert_eq!(ended(&mut events).await, (attempt("job_1", 1), OutcomeResult::Failed { failure }));

    let folder = tempfile::tempdir().expect("a temporary folder");
    let request = request(folder.path());
    dispatcher.start(attempt("job_1", 3), Reserved::default(), async { Ok(request) });
    let failure = Code::JobDied.into();
    assert_eq!(ended(&mut events).await, (attempt("job_1", 3), OutcomeResult::Failed { failure }));
}

#[tokio::test]
async fn an_abort_leaves_no_outcome_so_that_the_next_start_takes_the_job_up_again() {
    let (mut dispatcher, mut events) = dispatcher();
    dispatcher.start(attempt("job_1", 1), Reserved::default(), stuck());
    tokio::task::yield_now().await;
    dispatcher.abort().await;
    assert!(dispatcher.is_idle());
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn a_job_whose_memory_or_disk_does_not_fit_now_waits() {
    let (mut dispatcher, _events) = dispatcher();
    let policy = policy(&format!("{OPEN}[resources]\njobs_max = 9\n"));
    let asks = |job: &str, memory_bytes: Option<u64>, scratch_bytes: Option<u64>| {
        let mut spec = fixture::spec(job, 1);
        spec.resources.memory_bytes = memory_bytes;
        spec.resources.scratch_bytes = scratch_bytes;
        spec
    };
    let admission = Admission { jobs_max: 9, memory_bytes: 3 << 30, disk_available_bytes: 4 << 30, ..ROOMY };
    let large = asks("job_1", Some(64 << 30), Some(2 << 30));
    assert_eq!(dispatcher.admit(&large, &policy, admission), Ok(()), "alone it fits, whatever it asks for");
    let first = asks("job_1", Some(2 << 30), Some(2 << 30));
    dispatcher.start(first.job_ref(), Reserved::of(&first, &policy, admission.memory_bytes), stuck());
    for (memory_bytes, scratch_bytes, expected) in [
        (None, None, Ok(())),
        (Some(1 << 30), Some(1 << 30), Ok(())),
        (Some((1 << 30) + 1), None, Err(RefusalReason::Memory)),
        (Some(1 << 30), Some(2 << 30), Err(RefusalReason::Disk)),
    ] {
        let second = asks("job_2", memory_bytes, scratch_bytes);
        assert_eq!(dispatcher.admit(&second, &policy, admission), expected, "{memory_bytes:?} {scratch_bytes:?}");
    }
    dispatcher.abort().await;
    assert_eq!(
        dispatcher.admit(&asks("job_2", Some(3 << 30), None), &policy, admission),
        Ok(()),
        "there is room again"
    );
}
