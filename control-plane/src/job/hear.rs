//! What agents say about syncs: acceptances, refusals, renewals, progress, outcomes, their list of jobs.

use std::time::Duration;

use inshore_protocol::limits::GENERATION_STEP_MAX;
use inshore_protocol::{
    Class, Code, Delivery, FullState, JobRef, NothingMoved, Outcome, OutcomeResult, Phase, Progress, RefusalReason,
    RowCounts, TableProgress, WarningCount,
};

use super::{Jobs, Live, Refusal};
use crate::lease::{Action, Event, Holder, Lease};
use crate::schedule;
use crate::store::{self, Finish, OutcomeKey, Totals};
use crate::time::Timestamp;

/// An agent that refused is not asked again before this.
const REFUSED_SHORTLY: Duration = Duration::from_secs(10);
/// The same where only a person can change its mind.
const REFUSED_FOR_LONG: Duration = Duration::from_secs(60);
const REFUSED_MAX: Duration = Duration::from_secs(60 * 60);

impl Jobs {
    /// An acceptance or renewal. What it is about may long be over: then the agent learns that.
    pub(crate) async fn heard(&self, agent_id: &str, job: &JobRef, event: Event) -> Result<(), store::Error> {
        let from = Holder { agent_id: agent_id.to_owned(), generation: job.generation };
        let now = Timestamp::now();
        let mut live = self.live.lock().await;
        match live.get_mut(job.job_id.as_str()) {
            Some(entry) => self.hear_entry(entry, &from, event, now).await,
            None if self.checks.holds(&from, job.job_id.as_str(), event == Event::Accepted) => {
                self.grant(&from, job.job_id.as_str());
                Ok(())
            }
            None => {
                if matches!(event, Event::Accepted | Event::Alive) {
                    let generation = job.generation;
                    self.tell_job(&from, job.job_id.as_str(), |job_id| inshore_protocol::Down::LeaseLost {
                        job_id,
                        generation,
                    });
                }
                Ok(())
            }
        }
    }

    async fn hear_entry(
        &self,
        entry: &mut Live,
        from: &Holder,
        event: Event,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let heard = entry.lease.clone().hear(from, event, now);
        self.perform(entry, None, heard, now).await
    }

    /// A refusal: another agent may be asked at once, this one later.
    pub(crate) async fn refused(
        &self,
        agent_id: &str,
        job: &JobRef,
        reason: RefusalReason,
        retry_after_ms: Option<u64>,
    ) -> Result<(), store::Error> {
        let now = Timestamp::now();
        let last_word = last_word(reason);
        let wait = match (retry_after_ms, last_word) {
            (Some(ms), _) => Duration::from_millis(ms).min(REFUSED_MAX),
            (None, Some(_)) => REFUSED_FOR_LONG,
            (None, None) => REFUSED_SHORTLY,
        };
        tracing::warn!(sync_id = %job.job_id, agent_id, ?reason, "offer refused");
        let from = Holder { agent_id: agent_id.to_owned(), generation: job.generation };
        let mut live = self.live.lock().await;
        let Some(entry) = live.get_mut(job.job_id.as_str()) else {
            self.checks.refused(&from, job.job_id.as_str(), reason);
            return Ok(());
        };
        if entry.lease.holder() != Some(&from) {
            return Ok(());
        }
        entry.refused.insert(agent_id.to_owned(), Refusal { until: now.plus(wait), last_word });
        self.hear_entry(entry, &from, Event::Refused { retry_after: Duration::ZERO }, now).await?;
        self.wake();
        Ok(())
    }

    /// After a reconnect: what the agent has, and what it therefore does not have.
    pub(crate) async fn full_state(&self, agent_id: &str, state: &FullState) -> Result<(), store::Error> {
        for job in &state.jobs {
            if job.phase != Phase::Finished {
                let job = JobRef { job_id: job.job_id.clone(), generation: job.generation };
                self.heard(agent_id, &job, Event::Alive).await?;
            }
        }
        self.checks.listed(agent_id, &state.jobs);
        let now = Timestamp::now();
        let mut live = self.live.lock().await;
        for entry in live.values_mut() {
            let Some(holder) = entry.lease.holder().filter(|holder| holder.agent_id == agent_id).cloned() else {
                continue;
            };
            let listed = state
                .jobs
                .iter()
                .any(|job| job.job_id.as_str() == entry.sync.id && job.generation == holder.generation);
            if !listed {
                self.hear_entry(entry, &holder, Event::Absent, now).await?;
            }
            if let Lease::Offered { sent_at, .. } = &mut entry.lease {
                // The offer may have been lost with the old session: due at once.
                *sent_at = Timestamp(0);
            }
        }
        self.wake();
        Ok(())
    }

    /// Progress of the current holder; anyone else's is ignored.
    pub(crate) async fn progress(&self, agent_id: &str, progress: Progress) {
        let mut live = self.live.lock().await;
        let Some(entry) = live.get_mut(progress.job_id.as_str()) else { return };
        let from = Holder { agent_id: agent_id.to_owned(), generation: progress.generation };
        if entry.lease.holder() == Some(&from) {
            entry.sample(progress.rows.total(), Timestamp::now());
            entry.progress = Some(progress);
        }
    }

    /// An outcome. Once this returns `Ok` it is stored, and its sync is over if it was of the current generation.
    pub(crate) async fn outcome(&self, agent_id: &str, outcome: &Outcome) -> Result<(), store::Error> {
        let now = Timestamp::now();
        let from = Holder { agent_id: agent_id.to_owned(), generation: outcome.generation };
        if self.checks.ended(&from, outcome) {
            return Ok(());
        }
        let result = serde_json::to_string(&outcome.result).unwrap_or_default();
        let key = OutcomeKey {
            sync_id: outcome.job_id.as_str(),
            generation: to_i64(outcome.generation),
            head_seq: outcome.head_seq.map_or(-1, to_i64),
            agent_id,
            result: &result,
        };
        let mut live = self.live.lock().await;
        let heard = live
            .get(outcome.job_id.as_str())
            .map(|entry| entry.lease.clone().hear(&from, Event::Outcome, now))
            .filter(|(actions, _)| actions.contains(&Action::Count));
        if !self.store.add_outcome(&key, heard.is_some(), now).await? {
            tracing::info!(sync_id = %outcome.job_id, generation = outcome.generation, "outcome repeated");
        }
        let (Some(_), Some(entry)) = (heard, live.get_mut(outcome.job_id.as_str())) else { return Ok(()) };
        if let Some(schema) = &outcome.schema {
            self.store.capture_schema(&entry.sync.connection_id, schema).await?;
        }
        if outcome.result == OutcomeResult::Drained && entry.cancel_at.is_none() {
            // It stopped at a durable checkpoint because it was asked to: someone goes on from there.
            let floor = from.generation;
            let queued = Lease::Queued { last: Some(from), floor, since: now, not_before: now };
            self.perform(entry, None, (Vec::new(), queued), now).await?;
            self.wake();
            return Ok(());
        }
        if let Some(floor) = overtaken(entry, outcome) {
            // The chain has seen higher generations than we remember: our store is an older copy. Go on above them.
            tracing::warn!(sync_id = %outcome.job_id, generation = outcome.generation, floor, "the chain is ahead of us");
            let queued = Lease::Queued { last: Some(from), floor, since: now, not_before: now };
            self.perform(entry, None, (Vec::new(), queued), now).await?;
            self.wake();
            return Ok(());
        }
        let finish = finish(entry, outcome, now);
        self.finish(outcome.job_id.as_str(), &finish, now).await?;
        live.remove(outcome.job_id.as_str());
        self.note_ended();
        Ok(())
    }
}

/// The generation above which a sync goes on that was fenced by a claim we know nothing of. It rises each time and by no
/// more than agents accept.
fn overtaken(entry: &Live, outcome: &Outcome) -> Option<u64> {
    let is_fenced = outcome.result == OutcomeResult::Fenced && entry.cancel_at.is_none();
    let head = outcome.head_generation.filter(|head| is_fenced && *head > outcome.generation)?;
    (head - outcome.generation < GENERATION_STEP_MAX).then_some(head)
}

fn finish(entry: &Live, outcome: &Outcome, now: Timestamp) -> Finish<'static> {
    let (status, code, rescheduled_for) = match outcome.result {
        OutcomeResult::Succeeded => ("succeeded", None, None),
        OutcomeResult::Cancelled | OutcomeResult::Drained => ("cancelled", None, None),
        OutcomeResult::Fenced => failed(Code::Fenced, Code::Fenced.class(), entry, now),
        OutcomeResult::Failed { failure } => failed(failure.code, failure.class, entry, now),
        OutcomeResult::Unknown => failed(Code::Internal, Code::Internal.class(), entry, now),
    };
    Finish {
        status,
        code,
        totals: Totals {
            // The newest progress may be from before the last commit, or never have come.
            last_checkpoint_at: outcome
                .last_checkpoint_at_ms
                .or_else(|| entry.progress.as_ref().and_then(|progress| progress.last_checkpoint_at_ms))
                .map(Timestamp::from_ms),
            ..totals(outcome.rows, outcome.bytes, outcome.checkpoints)
        },
        started_at: Some(Timestamp::from_ms(outcome.started_at_ms)),
        state_bytes: Some(to_i64(outcome.state_bytes)),
        delivery: match outcome.delivery {
            Delivery::ExactlyOnce => Some("exactly-once"),
            Delivery::AtLeastOnce => Some("at-least-once"),
            Delivery::Unknown => None,
        },
        nothing_moved: match outcome.nothing_moved {
            Some(NothingMoved::NoRows) => Some("no_new_rows"),
            Some(NothingMoved::AllBlocked) => Some("all_blocked"),
            Some(NothingMoved::CheckOnly) => Some("check_only"),
            Some(NothingMoved::Unknown) | None => None,
        },
        rescheduled_for,
        warnings: warnings_json(&outcome.warnings),
        tables: tables_json(&outcome.tables),
    }
}

type Failed = (&'static str, Option<&'static str>, Option<Timestamp>);

/// The class of a code we know is ours to say; a newer agent's code brings its own.
fn failed(code: Code, class: Class, entry: &Live, now: Timestamp) -> Failed {
    let class = if code == Code::Unknown { class } else { code.class() };
    let (status, rescheduled_for) = match entry.cancel_at {
        Some(_) => ("cancelled", None),
        None => after_failure(code, class, entry.sync.attempt, now),
    };
    (status, Some(code.text()), rescheduled_for)
}

/// Memory that ran out may be there another time; after so many attempts a person has to look.
const OUT_OF_MEMORY_RETRIES: i64 = 3;

/// `Retry` waits and tries again while attempts are left; everything else has failed.
pub(super) fn after_failure(
    code: Code,
    class: Class,
    attempt: i64,
    now: Timestamp,
) -> (&'static str, Option<Timestamp>) {
    let again = class == Class::Retry || code == Code::OutOfMemory && attempt <= OUT_OF_MEMORY_RETRIES;
    match schedule::retry_after(attempt).filter(|_| again) {
        Some(wait) => ("rescheduled", Some(now.plus(wait))),
        None => ("failed", None),
    }
}

/// How a sync fails that every connected agent refused for this reason: no waiting is likely to change it.
pub(super) fn last_word(reason: RefusalReason) -> Option<Code> {
    match reason {
        RefusalReason::Approval => Some(Code::ModeRefused),
        RefusalReason::Sandbox => Some(Code::UnsandboxedRefused),
        RefusalReason::Policy => Some(Code::PolicyMalformed),
        RefusalReason::DestinationNotListed => Some(Code::DestinationNotListed),
        RefusalReason::ConnectorNotListed => Some(Code::ConnectorNotListed),
        RefusalReason::Unsupported => Some(Code::ProtocolVersion),
        RefusalReason::Capacity
        | RefusalReason::Memory
        | RefusalReason::Disk
        | RefusalReason::Draining
        | RefusalReason::Generation
        | RefusalReason::Store
        | RefusalReason::Unknown => None,
    }
}

pub(crate) fn totals_of_progress(progress: &Progress) -> Totals {
    Totals {
        last_checkpoint_at: progress.last_checkpoint_at_ms.map(Timestamp::from_ms),
        ..totals(progress.rows, progress.bytes, progress.checkpoints)
    }
}

fn totals(rows: RowCounts, bytes: u64, checkpoints: u64) -> Totals {
    Totals {
        upserts: to_i64(rows.upserts),
        updates: to_i64(rows.updates),
        deletes: to_i64(rows.deletes),
        truncates: to_i64(rows.truncates),
        bytes: to_i64(bytes),
        checkpoints: to_i64(checkpoints),
        last_checkpoint_at: None,
    }
}

fn warnings_json(warnings: &[WarningCount]) -> String {
    let shown: Vec<_> = warnings
        .iter()
        .take(inshore_protocol::limits::WARNINGS_MAX)
        .map(|warning| serde_json::json!({"code": warning.code.text(), "count": warning.count}))
        .collect();
    serde_json::Value::from(shown).to_string()
}

fn tables_json(tables: &[TableProgress]) -> String {
    let shown: Vec<_> = tables.iter().take(inshore_protocol::limits::PROGRESS_TABLES_MAX).collect();
    serde_json::to_string(&shown).unwrap_or_else(|_| "[]".to_owned())
}

fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_ran_out_is_tried_again_three_times() {
        let status = |code: Code, attempt| after_failure(code, code.class(), attempt, Timestamp(0)).0;
        let of = |code| [1, 2, 3, 4, 5, 6].map(|attempt| status(code, attempt));
        let (again, over) = ("rescheduled", "failed");
        assert_eq!(of(Code::OutOfMemory), [again, again, again, over, over, over]);
        assert_eq!(of(Code::DestinationFull), [again, again, again, again, again, over]);
        assert_eq!(of(Code::UpdateRaised), [over; 6]);
    }
}
