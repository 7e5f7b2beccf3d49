//! Checks: the setup tests of a connection's connector, run by an agent because someone asked. A job that is no sync: it has
//! no row and no retry, moves nothing, and lives in memory alone. An agent that works for one nobody waits for any more
//! learns that with its next renewal.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use inshore_protocol::limits::LEASE;
use inshore_protocol::{
    Code, Down, JobKind, JobSpec, JobState, Outcome, OutcomeResult, RefusalReason, SetupTest, Trigger,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::spec::{self, Asked};
use super::{Jobs, hear};
use crate::lease::Holder;
use crate::store::{self, Connection, Page};

/// An agent that takes it is waited for this long.
const TAKEN_MAX: Duration = Duration::from_secs(60);
/// From there on it may take this long: the first one of a package makes its environment.
const RUN_MAX: Duration = Duration::from_secs(15 * 60);
/// Who could take it is looked for again after this, and an offer without an answer is repeated.
const AGAIN: Duration = Duration::from_secs(2);
/// An agent that runs one renews it all the time; one that is not heard of for so long is gone.
const SILENT_MAX: Duration = LEASE.saturating_add(Duration::from_secs(5));
/// What one agent says of one check: an answer and an end, each perhaps twice.
const HEARD_MAX: usize = 8;

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Checked {
    /// How each test of the form ended, in its order.
    Ran(Vec<SetupTest>),
    NotRun(NotRun),
}

/// Why no test was run to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotRun {
    /// It failed on the agent, or all of them refuse it for good.
    Failed(Code),
    /// The connection's group has no destination, or its package is gone.
    Incomplete,
    /// No agent may run the connection.
    NoAgent,
    Offline,
    /// Every agent that is online has something else to do.
    Busy,
    Slow,
    /// The agent was told to stop.
    Stopped,
    /// The agent that ran it went away, or has forgotten it.
    Gone,
}

/// The checks that are waited for, by job.
#[derive(Debug, Default)]
pub(super) struct Checks(Mutex<HashMap<String, (Holder, mpsc::Sender<Heard>)>>);

#[derive(Debug)]
enum Heard {
    Accepted,
    Renewed,
    /// The agent came back without it.
    Absent,
    Refused(RefusalReason),
    Ended(Box<Outcome>),
}

impl Checks {
    /// Whether the holder of a check says this; then it is passed on.
    fn pass(&self, from: &Holder, job_id: &str, heard: Heard) -> bool {
        let checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, tell)) = checks.get(job_id).filter(|(holder, _)| holder == from) else { return false };
        // Whoever waits may just have left.
        drop(tell.try_send(heard));
        true
    }

    /// An acceptance or a renewal.
    pub(super) fn holds(&self, from: &Holder, job_id: &str, is_new: bool) -> bool {
        self.pass(from, job_id, if is_new { Heard::Accepted } else { Heard::Renewed })
    }

    pub(super) fn refused(&self, from: &Holder, job_id: &str, reason: RefusalReason) -> bool {
        self.pass(from, job_id, Heard::Refused(reason))
    }

    pub(super) fn ended(&self, from: &Holder, outcome: &Outcome) -> bool {
        let is_known = self.pass(from, outcome.job_id.as_str(), Heard::Ended(Box::new(outcome.clone())));
        if is_known {
            self.forget(outcome.job_id.as_str());
        }
        is_known
    }

    /// An agent came back, and these are all the jobs it has.
    pub(super) fn listed(&self, agent_id: &str, jobs: &[JobState]) {
        let checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (job_id, (holder, tell)) in checks.iter().filter(|(_, (holder, _))| holder.agent_id == agent_id) {
            if !jobs.iter().any(|job| job.job_id.as_str() == job_id && job.generation == holder.generation) {
                drop(tell.try_send(Heard::Absent));
            }
        }
    }

    fn forget(&self, job_id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(job_id);
    }

    fn wait(&self, job_id: &str, holder: &Holder) -> Waiting<'_> {
        let (tell, heard) = mpsc::channel(HEARD_MAX);
        let mut checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        checks.insert(job_id.to_owned(), (holder.clone(), tell));
        Waiting { checks: self, job_id: job_id.to_owned(), heard }
    }
}

/// One check of one agent, as long as someone waits.
struct Waiting<'a> {
    checks: &'a Checks,
    job_id: String,
    heard: mpsc::Receiver<Heard>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.checks.forget(&self.job_id);
    }
}

/// The agents that a check does not ask again.
#[derive(Debug, Default)]
struct PassedOver {
    /// Until the others were asked too.
    busy: BTreeSet<String>,
    for_good: BTreeSet<String>,
    /// Why the last of those refused.
    last_word: Option<Code>,
}

impl PassedOver {
    fn add(&mut self, agent_id: String, reason: RefusalReason) {
        match hear::last_word(reason) {
            Some(code) => {
                self.last_word = Some(code);
                self.for_good.insert(agent_id);
            }
            None => {
                self.busy.insert(agent_id);
            }
        }
    }

    fn has(&self, agent_id: &str) -> bool {
        self.busy.contains(agent_id) || self.for_good.contains(agent_id)
    }
}

/// Who could take a check now.
enum Candidate {
    Agent(String),
    Nobody(NotRun),
}

impl Jobs {
    /// Runs the setup tests of a connection on one of its agents; waits for one that takes it, then for its end.
    pub(crate) async fn check(&self, connection: &Connection) -> Result<Checked, store::Error> {
        let job_id = uuid::Uuid::now_v7().to_string();
        let until = Instant::now() + TAKEN_MAX;
        let (mut passed_over, mut generation) = (PassedOver::default(), 0);
        loop {
            let not_run = match self.candidate(connection, &passed_over).await? {
                Candidate::Nobody(_) if !passed_over.busy.is_empty() => {
                    passed_over.busy.clear();
                    NotRun::Busy
                }
                Candidate::Nobody(not_run) => passed_over.last_word.map_or(not_run, NotRun::Failed),
                Candidate::Agent(agent_id) => {
                    generation += 1;
                    let holder = Holder { agent_id, generation };
                    let Some(job) = self.check_job(&job_id, connection, &holder).await? else {
                        return Ok(Checked::NotRun(NotRun::Incomplete));
                    };
                    let mut waiting = self.checks.wait(&job_id, &holder);
                    match self.answer(&mut waiting, &job, &holder, until).await {
                        Some(Heard::Accepted | Heard::Renewed) => return Ok(self.end(waiting, &holder).await),
                        Some(Heard::Ended(outcome)) => return Ok(checked(&outcome)),
                        Some(Heard::Refused(reason)) => {
                            passed_over.add(holder.agent_id, reason);
                            if Instant::now() + AGAIN < until {
                                continue;
                            }
                            NotRun::Busy
                        }
                        Some(Heard::Absent) | None => NotRun::Offline,
                    }
                }
            };
            let is_final = matches!(not_run, NotRun::NoAgent | NotRun::Failed(_));
            if is_final || Instant::now() + AGAIN >= until {
                return Ok(Checked::NotRun(not_run));
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn candidate(&self, connection: &Connection, passed_over: &PassedOver) -> Result<Candidate, store::Error> {
        let agents = self.store.agents(None, &Page::ALL).await?;
        let eligible = agents.iter().filter(|agent| {
            agent.is_eligible(&connection.group_id, connection.agent_id.as_deref()) && !passed_over.has(&agent.id)
        });
        let sealed = spec::sealed_keys(&self.store, connection).await?;
        let mut not_run = NotRun::NoAgent;
        for agent in eligible {
            let online = self.sessions.get(&agent.id).is_some();
            if !spec::has_all(&self.store, connection, &agent.id, &sealed).await? {
                not_run = if not_run == NotRun::NoAgent { NotRun::Failed(Code::SecretNotSealed) } else { not_run };
            } else if online {
                return Ok(Candidate::Agent(agent.id.clone()));
            } else {
                not_run = NotRun::Offline;
            }
        }
        Ok(Candidate::Nobody(not_run))
    }

    /// None where the package or the destination is gone.
    async fn check_job(
        &self,
        job_id: &str,
        connection: &Connection,
        holder: &Holder,
    ) -> Result<Option<JobSpec>, store::Error> {
        let asked = Asked {
            job_id,
            kind: JobKind::Check,
            trigger: Trigger::Request,
            package_id: connection.package_id.as_deref(),
            python_version: connection.python_version.as_deref(),
            resync: None,
        };
        spec::build(&self.store, &asked, connection, holder).await
    }

    /// What the agent says to the offer, which is repeated until it says something: a message may be lost with a session.
    async fn answer(&self, waiting: &mut Waiting<'_>, job: &JobSpec, holder: &Holder, until: Instant) -> Option<Heard> {
        while Instant::now() < until && self.sessions.get(&holder.agent_id).is_some() {
            self.tell(holder, Down::Offer { job: Box::new(job.clone()) });
            match timeout(AGAIN, waiting.heard.recv()).await {
                // It came back before it saw the offer.
                Ok(Some(Heard::Absent)) | Err(_) => {}
                Ok(heard) => return heard,
            }
        }
        None
    }

    async fn end(&self, mut waiting: Waiting<'_>, holder: &Holder) -> Checked {
        let until = Instant::now() + RUN_MAX;
        let not_run = loop {
            let silent_until = until.min(Instant::now() + SILENT_MAX);
            match timeout_at(silent_until, waiting.heard.recv()).await {
                Ok(Some(Heard::Ended(outcome))) => return checked(&outcome),
                Ok(Some(Heard::Absent)) => break NotRun::Gone,
                Ok(Some(Heard::Accepted | Heard::Renewed | Heard::Refused(_))) => {}
                Ok(None) => break NotRun::Stopped,
                Err(_) if silent_until < until => break NotRun::Gone,
                Err(_) => break NotRun::Slow,
            }
        };
        self.tell_job(holder, &waiting.job_id, |job_id| Down::Cancel { job_id });
        Checked::NotRun(not_run)
    }
}

fn checked(outcome: &Outcome) -> Checked {
    match outcome.result {
        OutcomeResult::Succeeded => Checked::Ran(SetupTest::bounded(outcome.setup_tests.iter().copied())),
        OutcomeResult::Failed { failure } => Checked::NotRun(NotRun::Failed(failure.code)),
        OutcomeResult::Cancelled | OutcomeResult::Drained => Checked::NotRun(NotRun::Stopped),
        OutcomeResult::Fenced | OutcomeResult::Unknown => Checked::NotRun(NotRun::Failed(Code::Internal)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::channel::Registry;
    use crate::store::Store;

    /// How a check ends whose agent renews it so often, and after how long.
    async fn ended_after(renewals: u32) -> (Checked, Duration) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("control.sqlite")).await.expect("a store");
        let jobs = Jobs::new(store, Arc::new(Registry::default()));
        let holder = Holder { agent_id: "agent_1".to_owned(), generation: 1 };
        let waiting = jobs.checks.wait("check_1", &holder);
        tokio::time::pause();
        let begun = Instant::now();
        let renew = async {
            for _ in 0..renewals {
                tokio::time::sleep(LEASE / 3).await;
                jobs.checks.holds(&holder, "check_1", false);
            }
        };
        let mut after = Duration::ZERO;
        let end = async {
            let checked = jobs.end(waiting, &holder).await;
            after = begun.elapsed();
            checked
        };
        let (checked, ()) = tokio::join!(end, renew);
        (checked, after)
    }

    #[tokio::test]
    async fn an_agent_that_falls_silent_is_not_waited_for() {
        let (checked, after) = ended_after(6).await;
        assert_eq!(checked, Checked::NotRun(NotRun::Gone));
        assert!((LEASE * 3..LEASE * 4).contains(&after), "{after:?}");
    }

    #[tokio::test]
    async fn an_agent_that_renews_has_its_time_and_no_more() {
        let (checked, after) = ended_after(200).await;
        assert_eq!(checked, Checked::NotRun(NotRun::Slow));
        assert!((RUN_MAX..RUN_MAX + LEASE).contains(&after), "{after:?}");
    }
}
