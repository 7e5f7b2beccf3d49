//! What runs on this host: admits offers against the policy and the capacity, starts jobs, passes stop requests on, and
//! hands every outcome over exactly once. Knows nothing of the channel: `agent.rs` joins the two.

use std::collections::BTreeMap;

use inshore_config::Policy;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::child::{self, Launch};
use super::link::Request;
use super::outcome::Outcome;
use super::spec::{self, JobRef, JobSpec, ProgressFrame, RefusalReason};
use crate::context::Stop;
use crate::tasks;

/// Progress frames of one job that may wait; a full queue drops the older ones' successor, and the next replaces it.
const PROGRESS_QUEUE: usize = 4;

/// What a running job tells.
#[derive(Debug)]
pub(crate) enum JobEvent {
    Progress(ProgressFrame),
    Ended(JobRef, Box<Outcome>),
}

/// What an offer needs to be admitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) jobs_max: usize,
    pub(crate) disk_available_bytes: u64,
    pub(crate) disk_bytes_min: u64,
}

/// The jobs of this host.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    launch: Launch,
    events: mpsc::Sender<JobEvent>,
    running: BTreeMap<JobRef, Running>,
    draining: bool,
}

#[derive(Debug)]
struct Running {
    stop: watch::Sender<Stop>,
    task: JoinHandle<()>,
}

impl Dispatcher {
    pub(crate) fn new(launch: Launch, events: mpsc::Sender<JobEvent>) -> Self {
        Self { launch, events, running: BTreeMap::new(), draining: false }
    }

    /// Whether an offer may be accepted now; the reason is all the control plane hears.
    pub(crate) fn admit(&self, spec: &JobSpec, policy: &Policy, admission: Admission) -> Result<(), RefusalReason> {
        if self.draining {
            return Err(RefusalReason::Draining);
        }
        if let Err(error) = spec::check(spec, policy) {
            tracing::warn!(attempt = %spec.job_ref(), error = &error as &dyn std::error::Error, "offer refused");
            return Err(error.reason());
        }
        if self.running.len() >= admission.jobs_max {
            return Err(RefusalReason::Capacity);
        }
        if admission.disk_available_bytes < admission.disk_bytes_min {
            return Err(RefusalReason::Disk);
        }
        Ok(())
    }

    /// Starts an accepted attempt. An older attempt of the same job is cancelled: its lease has moved on.
    pub(crate) fn start<P>(&mut self, attempt: JobRef, prepare: P)
    where
        P: Future<Output = Result<Request, Box<Outcome>>> + Send + 'static,
    {
        if self.running.contains_key(&attempt) {
            return;
        }
        self.stop_older(&attempt);
        let (stop, stops) = watch::channel(Stop::No);
        let task =
            tasks::spawn("job", attend(self.launch.clone(), attempt.clone(), prepare, stops, self.events.clone()));
        self.running.insert(attempt, Running { stop, task });
    }

    fn stop_older(&self, attempt: &JobRef) {
        for (other, running) in &self.running {
            if other.job_id == attempt.job_id && other.generation < attempt.generation {
                raise(&running.stop, Stop::Cancel);
            }
        }
    }

    /// Asks one job to stop. A job that is not running has nothing to stop.
    pub(crate) fn stop(&self, job_id: &str, how: Stop) {
        for (attempt, running) in &self.running {
            if attempt.job_id.as_str() == job_id {
                raise(&running.stop, how);
            }
        }
    }

    /// No new jobs; each running one stops at its next durable checkpoint.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        for running in self.running.values() {
            raise(&running.stop, Stop::Drain);
        }
    }

    /// Forgets an attempt whose outcome was taken over.
    pub(crate) async fn ended(&mut self, attempt: &JobRef) {
        if let Some(running) = self.running.remove(attempt)
            && let Err(error) = running.task.await
        {
            tracing::error!(%attempt, error = &error as &dyn std::error::Error, "job task failed");
        }
    }

    /// Kills every job at once; recovery is that of a crash.
    pub(crate) fn abort(&mut self) {
        for (_, running) in std::mem::take(&mut self.running) {
            running.task.abort();
        }
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &JobRef> {
        self.running.keys()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }
}

fn raise(stop: &watch::Sender<Stop>, how: Stop) {
    stop.send_if_modified(|stop| {
        let raised = how > *stop;
        *stop = how.max(*stop);
        raised
    });
}

async fn attend<P>(
    launch: Launch,
    attempt: JobRef,
    prepare: P,
    stops: watch::Receiver<Stop>,
    events: mpsc::Sender<JobEvent>,
) where
    P: Future<Output = Result<Request, Box<Outcome>>> + Send + 'static,
{
    let (progress, mut frames) = mpsc::channel(PROGRESS_QUEUE);
    let outcome = match prepare.await {
        Ok(request) => {
            let mut running = std::pin::pin!(child::run(&launch, request, stops, progress));
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut running => break Box::new(outcome),
                    Some(frame) = frames.recv() => drop(events.send(JobEvent::Progress(frame)).await),
                }
            }
        }
        Err(outcome) => outcome,
    };
    // Nobody listens only when the agent itself is going down; the inbox brings the job back then.
    drop(events.send(JobEvent::Ended(attempt, outcome)).await);
}
