//! What runs on this host: admits offers against the policy and the capacity, starts jobs, passes stop requests on, and
//! hands every outcome over exactly once. Knows nothing of the channel: `agent.rs` joins the two.

use std::collections::BTreeMap;

use inshore_config::Policy;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::child::{self, Launch};
use super::link::Request;
use super::outcome::{self, Outcome};
use super::spec::{self, JobId, JobRef, JobSpec, ProgressFrame, RefusalReason};
use crate::context::{Stop, now_ms};
use crate::sandbox::SelfTest;
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
pub(crate) struct Admission<'a> {
    pub(crate) jobs_max: usize,
    pub(crate) disk_available_bytes: u64,
    pub(crate) disk_bytes_min: u64,
    /// Of all connectors together.
    pub(crate) memory_bytes: u64,
    pub(crate) sandbox: &'a SelfTest,
}

/// What of the host is kept for one job's connector. Processor time is not: it can be shared, memory and disk cannot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reserved {
    memory_bytes: u64,
    scratch_bytes: u64,
}

/// For a connector whose connection names no memory: most take far less than they may.
const MEMORY_BYTES_USUAL: u64 = 512 << 20;

impl Reserved {
    /// What the connection names; never more than there is, so that a job that is alone always fits.
    pub(crate) fn of(spec: &JobSpec, policy: &Policy, memory_bytes: u64) -> Self {
        let most = policy.resources.connector_memory_bytes_max.0.min(memory_bytes);
        let scratch_bytes = spec.resources.scratch_bytes.unwrap_or(0).min(policy.sandbox.scratch_bytes_max.0);
        Self { memory_bytes: spec.resources.memory_bytes.unwrap_or(MEMORY_BYTES_USUAL).min(most), scratch_bytes }
    }

    fn and(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            scratch_bytes: self.scratch_bytes.saturating_add(other.scratch_bytes),
        }
    }
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
    reserved: Reserved,
}

impl Dispatcher {
    pub(crate) fn new(launch: Launch, events: mpsc::Sender<JobEvent>) -> Self {
        Self { launch, events, running: BTreeMap::new(), draining: false }
    }

    /// Whether an offer may be accepted now; the reason is all the control plane hears.
    pub(crate) fn admit(&self, spec: &JobSpec, policy: &Policy, admission: Admission<'_>) -> Result<(), RefusalReason> {
        if self.draining {
            return Err(RefusalReason::Draining);
        }
        if let Err(error) = spec::check(spec, policy, admission.sandbox) {
            tracing::warn!(attempt = %spec.job_ref(), error = &error as &dyn std::error::Error, "offer refused");
            return Err(error.reason());
        }
        if self.running.len() >= admission.jobs_max {
            return Err(RefusalReason::Capacity);
        }
        let reserved = Reserved::of(spec, policy, admission.memory_bytes);
        let reserved = self.running.values().fold(reserved, |sum, running| sum.and(running.reserved));
        if reserved.memory_bytes > admission.memory_bytes {
            return Err(RefusalReason::Memory);
        }
        if admission.disk_available_bytes < admission.disk_bytes_min.saturating_add(reserved.scratch_bytes) {
            return Err(RefusalReason::Disk);
        }
        Ok(())
    }

    /// Starts an accepted attempt. Of several attempts of one job only the newest goes on: the lease of the others has
    /// moved on.
    pub(crate) fn start<P>(&mut self, attempt: JobRef, reserved: Reserved, prepare: P)
    where
        P: Future<Output = Result<Request, Box<Outcome>>> + Send + 'static,
    {
        if self.running.contains_key(&attempt) {
            return;
        }
        let (stop, stops) = watch::channel(Stop::No);
        let task =
            tasks::spawn("job", attend(self.launch.clone(), attempt.clone(), prepare, stops, self.events.clone()));
        self.running.insert(attempt.clone(), Running { stop, task, reserved });
        self.stop_outdated(&attempt.job_id);
    }

    fn stop_outdated(&self, job_id: &JobId) {
        let attempts = || self.running.iter().filter(|(attempt, _)| attempt.job_id == *job_id);
        let newest = attempts().map(|(attempt, _)| attempt.generation).max();
        for (attempt, running) in attempts() {
            if Some(attempt.generation) < newest {
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

    /// Asks one attempt to stop, and no newer one of the same job.
    pub(crate) fn stop_attempt(&self, attempt: &JobRef, how: Stop) {
        if let Some(running) = self.running.get(attempt) {
            raise(&running.stop, how);
        }
    }

    /// Every job stops at its next durable checkpoint; new ones are still admitted.
    pub(crate) fn stop_all(&self, how: Stop) {
        for running in self.running.values() {
            raise(&running.stop, how);
        }
    }

    /// No new jobs; each running one stops at its next durable checkpoint.
    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.stop_all(Stop::Drain);
    }

    /// Forgets an attempt whose outcome was taken over.
    pub(crate) async fn ended(&mut self, attempt: &JobRef) {
        if let Some(running) = self.running.remove(attempt)
            && let Err(error) = running.task.await
        {
            tracing::error!(%attempt, error = &error as &dyn std::error::Error, "job task failed");
        }
    }

    /// Kills every job at once and awaits that. No outcome comes of it: recovery is that of a crash.
    pub(crate) async fn abort(&mut self) {
        let running = std::mem::take(&mut self.running);
        for running in running.values() {
            running.task.abort();
        }
        for (attempt, running) in running {
            match running.task.await {
                Err(error) if error.is_panic() => {
                    tracing::error!(%attempt, error = &error as &dyn std::error::Error, "job task failed");
                }
                _ => {}
            }
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
    let started_at_ms = now_ms();
    let mut asked = stops.clone();
    // Fetching the package may take as long as the channel is away.
    let prepared = tokio::select! {
        biased;
        stop = asked.wait_for(|stop| *stop > Stop::No) => Err(stop.map_or(Stop::Cancel, |stop| *stop)),
        prepared = prepare => Ok(prepared),
    };
    let outcome = match prepared {
        Ok(Ok(request)) => Box::new(run(&launch, request, stops, &events).await),
        Ok(Err(outcome)) => outcome,
        Err(stop) => Box::new(outcome::stopped(&attempt, stop, started_at_ms, now_ms())),
    };
    // Nobody listens only when the agent itself is going down; the inbox brings the job back then.
    drop(events.send(JobEvent::Ended(attempt, outcome)).await);
}

/// The job process to its end; what it tells meanwhile is passed on as far as there is room.
async fn run(
    launch: &Launch,
    request: Request,
    stops: watch::Receiver<Stop>,
    events: &mpsc::Sender<JobEvent>,
) -> Outcome {
    let (progress, mut frames) = mpsc::channel(PROGRESS_QUEUE);
    let mut running = std::pin::pin!(child::run(launch, request, stops, progress));
    loop {
        tokio::select! {
            biased;
            outcome = &mut running => return outcome,
            Some(frame) = frames.recv() => drop(events.try_send(JobEvent::Progress(frame))),
        }
    }
}

#[cfg(test)]
mod tests;
