//! One session after another, for ever: uniform random waits in 0 … min(30 s, 1 s × 2^n), so that a thousand agents that
//! lost one control plane do not come back at once. A peer's retry-after is honoured; n starts again after a long session.

use std::time::Duration;

use inshore_protocol::Code;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::session::{Channel, End};
use super::{Command, LinkState, Timers};

/// How long to wait before try `attempt` (from zero).
pub(super) fn wait(
    timers: &Timers,
    attempt: u32,
    retry_after: Option<Duration>,
    random: &mut fastrand::Rng,
) -> Duration {
    let step = timers.reconnect_step.saturating_mul(2_u32.saturating_pow(attempt.min(31)));
    let bound = step.min(timers.reconnect_max);
    let jittered = bound.mul_f64(random.f64());
    // A hostile retry-after must not silence an agent for good.
    let floor = retry_after.unwrap_or_default().min(timers.reconnect_max.saturating_mul(10));
    floor.saturating_add(jittered)
}

/// Runs until `stop` or revocation.
pub(super) async fn run(mut channel: Channel, link: watch::Sender<LinkState>, stop: CancellationToken) {
    let mut attempt = 0;
    while !stop.is_cancelled() {
        let started = tokio::time::Instant::now();
        let end = Box::pin(channel.session(&link, &stop)).await;
        let retry_after = match end {
            End::Stopped => break,
            End::Revoked => {
                link.send_replace(LinkState::Offline { code: Some(Code::IdentityRefused) });
                tracing::error!(code = %Code::IdentityRefused, "this agent's identity is revoked; enrol it again");
                let told = channel.commands.send(Command::Revoked).await;
                tracing::debug!(told = told.is_ok(), "dispatcher told");
                break;
            }
            End::Rejected { code, retry_after } => {
                link.send_replace(LinkState::Offline { code: Some(code) });
                tracing::warn!(%code, "the control plane does not welcome this agent");
                retry_after
            }
            End::Failed(error) => {
                let code = error.code();
                link.send_replace(LinkState::Offline { code: Some(code) });
                tracing::warn!(%code, error = &error as &dyn std::error::Error, "session ended");
                None
            }
        };
        if started.elapsed() >= channel.settings.timers.reconnect_reset {
            attempt = 0;
        }
        let pause = wait(&channel.settings.timers, attempt, retry_after, &mut channel.random);
        attempt = attempt.saturating_add(1);
        tracing::info!(attempt, wait_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX), "reconnecting");
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            break;
        }
    }
    link.send_if_modified(|state| {
        let online = matches!(state, LinkState::Online { .. });
        if online {
            *state = LinkState::Offline { code: None };
        }
        online
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_spread_from_zero_to_the_bound() {
        let timers = Timers::default();
        let mut random = fastrand::Rng::with_seed(7);
        for (attempt, bound_ms) in [(0, 1_000), (1, 2_000), (4, 16_000), (5, 30_000), (40, 30_000), (u32::MAX, 30_000)]
        {
            let waits: Vec<u128> = (0..500).map(|_| wait(&timers, attempt, None, &mut random).as_millis()).collect();
            let (least, most) = (waits.iter().min().expect("some"), waits.iter().max().expect("some"));
            assert!(
                *most <= bound_ms && *most > bound_ms * 9 / 10 && *least < bound_ms / 10,
                "{attempt}: {least}..{most}"
            );
        }
    }

    #[test]
    fn a_retry_after_is_honoured_but_not_for_ever() {
        let timers = Timers::default();
        let mut random = fastrand::Rng::with_seed(7);
        let patient = wait(&timers, 0, Some(Duration::from_secs(60)), &mut random);
        assert!(patient >= Duration::from_secs(60) && patient <= Duration::from_secs(61));
        let hostile = wait(&timers, 9, Some(Duration::from_millis(u64::MAX)), &mut random);
        assert!(hostile <= Duration::from_secs(330));
    }
}
