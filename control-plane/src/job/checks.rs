//! Checks: the setup tests of a connection's connector, run by an agent because someone asked. A job that is no sync: it has
//! no row and no retry, moves nothing, and lives in memory alone. An agent that works for one nobody waits for any more
//! learns that with its next renewal.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use inshore_protocol::limits::SETUP_TESTS_MAX;
use inshore_protocol::{Code, Down, JobKind, JobSpec, Outcome, OutcomeResult, RefusalReason, SetupTest, Trigger};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

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
}

/// The checks that are waited for, by job.
#[derive(Debug, Default)]
pub(super) struct Checks(Mutex<HashMap<String, (Holder, mpsc::Sender<Heard>)>>);

#[derive(Debug)]
enum Heard {
    Accepted,
    Refused(RefusalReason),
    Ended(Box<Outcome>),
}

impl Checks {
    /// Whether the holder of a check says this; then it is passed on.
    fn pass(&self, from: &Holder, job_id: &str, heard: Option<Heard>) -> bool {
        let checks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, tell)) = checks.get(job_id).filter(|(holder, _)| holder == from) else { return false };
        if let Some(heard) = heard {
            // Whoever waits may just have left.
            drop(tell.try_send(heard));
        }
        true
    }

    /// An acceptance or a renewal.
    pub(super) fn holds(&self, from: &Holder, job_id: &str, is_new: bool) -> bool {
        self.pass(from, job_id, is_new.then_some(Heard::Accepted))
    }

    pub(super) fn refused(&self, from: &Holder, job_id: &str, reason: RefusalReason) -> bool {
        self.pass(from, job_id, Some(Heard::Refused(reason)))
    }

    pub(super) fn ended(&self, from: &Holder, outcome: &Outcome) -> bool {
        self.pass(from, outcome.job_id.as_str(), Some(Heard::Ended(Box::new(outcome.clone()))))
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
        self.checks.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.job_id);
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
        let (mut refused, mut generation) = (BTreeSet::new(), 0);
        let mut last_word = None;
        loop {
            let not_run = match self.candidate(connection, &refused).await? {
                Candidate::Nobody(not_run) => last_word.map_or(not_run, NotRun::Failed),
                Candidate::Agent(agent_id) => {
                    generation += 1;
                    let holder = Holder { agent_id, generation };
                    let Some(job) = self.check_job(&job_id, connection, &holder).await? else {
                        return Ok(Checked::NotRun(NotRun::Incomplete));
                    };
                    let mut waiting = self.checks.wait(&job_id, &holder);
                    match self.answer(&mut waiting, &job, &holder, until).await {
                        Some(Heard::Accepted) => return Ok(self.end(waiting, &holder).await),
                        Some(Heard::Ended(outcome)) => return Ok(checked(&outcome)),
                        Some(Heard::Refused(reason)) => {
                            if let Some(code) = hear::last_word(reason) {
                                last_word = Some(code);
                                refused.insert(holder.agent_id);
                            }
                            NotRun::Busy
                        }
                        None => NotRun::Offline,
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

    async fn candidate(&self, connection: &Connection, refused: &BTreeSet<String>) -> Result<Candidate, store::Error> {
        let agents = self.store.agents(None, &Page::ALL).await?;
        let eligible = agents.iter().filter(|agent| {
            agent.is_eligible(&connection.group_id, connection.agent_id.as_deref()) && !refused.contains(&agent.id)
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
        };
        spec::build(&self.store, &asked, connection, holder).await
    }

    /// What the agent says to the offer, which is repeated until it says something: a message may be lost with a session.
    async fn answer(&self, waiting: &mut Waiting<'_>, job: &JobSpec, holder: &Holder, until: Instant) -> Option<Heard> {
        while Instant::now() < until && self.sessions.get(&holder.agent_id).is_some() {
            self.tell(holder, Down::Offer { job: Box::new(job.clone()) });
            if let Ok(heard) = timeout(AGAIN, waiting.heard.recv()).await {
                return heard;
            }
        }
        None
    }

    async fn end(&self, mut waiting: Waiting<'_>, holder: &Holder) -> Checked {
        let ended = async {
            while let Some(heard) = waiting.heard.recv().await {
                if let Heard::Ended(outcome) = heard {
                    return checked(&outcome);
                }
            }
            Checked::NotRun(NotRun::Stopped)
        };
        match timeout(RUN_MAX, ended).await {
            Ok(checked) => checked,
            Err(_) => {
                self.tell_job(holder, &waiting.job_id, |job_id| Down::Cancel { job_id });
                Checked::NotRun(NotRun::Slow)
            }
        }
    }
}

fn checked(outcome: &Outcome) -> Checked {
    match outcome.result {
        OutcomeResult::Succeeded => Checked::Ran(outcome.setup_tests.iter().copied().take(SETUP_TESTS_MAX).collect()),
        OutcomeResult::Failed { failure } => Checked::NotRun(NotRun::Failed(failure.code)),
        OutcomeResult::Cancelled | OutcomeResult::Drained => Checked::NotRun(NotRun::Stopped),
        OutcomeResult::Fenced | OutcomeResult::Unknown => Checked::NotRun(NotRun::Failed(Code::Internal)),
    }
}
