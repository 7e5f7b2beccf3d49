//! How long a request may take, and how often one that may be repeated is sent. A timer that fires late says that the
//! process itself stood still, and is no reason to give up.

use std::pin::pin;
use std::time::Duration;

use object_store::path::Path;
use tokio::time::Instant;

use super::Store;
use super::fault::may_pass;

/// How long one request may stay unanswered before it counts as unknown.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A timer this late says that the process itself stood still: a frozen machine, a moved or suspended guest.
pub(super) const STANDSTILL: Duration = Duration::from_secs(1);
/// A request may take longer by its size: below this speed we stop waiting for it.
const SLOWEST_BYTES_PER_SECOND: u64 = 1024 * 1024;
/// How often a request that changes nothing when repeated is sent.
const ATTEMPTS_MAX: u32 = 6;

/// A request that failed every time.
#[derive(Debug, thiserror::Error)]
#[error("gave up after {attempts} attempts in {elapsed:.1?}")]
struct GaveUp {
    attempts: u32,
    elapsed: Duration,
    source: object_store::Error,
}

impl Store {
    /// Sends a request that is harmless when repeated, and that ends in time by itself, until it is answered or `ATTEMPTS_MAX` is reached. A local folder is
    /// asked once: what it says does not change by asking again.
    pub(super) async fn asked<T, F: Future<Output = object_store::Result<T>>>(
        &self,
        request: impl Fn() -> F,
    ) -> object_store::Result<T> {
        let began = Instant::now();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let source = match request().await {
                Err(source) if self.local_root.is_none() && may_pass(&source) => source,
                answer => return answer,
            };
            if attempts >= ATTEMPTS_MAX {
                let gave_up = GaveUp { attempts, elapsed: began.elapsed(), source };
                return Err(object_store::Error::Generic { store: "retry", source: Box::new(gave_up) });
            }
            tracing::debug!(attempts, error = %source, "a request to the destination is sent again");
            tokio::time::sleep(backoff(attempts)).await;
        }
    }
}

/// How long a request that carries so many bytes may take.
pub(super) fn patience_for(bytes: u64) -> Duration {
    REQUEST_TIMEOUT + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
}

/// Full jitter below a doubling ceiling of at most ten seconds.
pub(crate) fn backoff(attempt: u32) -> Duration {
    let ceiling_ms = 50_u64.saturating_mul(1 << attempt.min(8)).min(10_000);
    Duration::from_millis(fastrand::u64(0..=ceiling_ms))
}

pub(super) async fn timed_for<T>(
    patience: Duration,
    path: &Path,
    request: impl Future<Output = object_store::Result<T>>,
) -> object_store::Result<T> {
    let mut request = pin!(request);
    loop {
        let began = Instant::now();
        match tokio::time::timeout(patience, &mut request).await {
            Ok(answer) => return answer,
            // The timer is late too: this process or its machine stood still, and the request with it.
            Err(_) if began.elapsed() > patience + STANDSTILL => {}
            Err(elapsed) => {
                let source = format!("{path}: {elapsed}").into();
                return Err(object_store::Error::Generic { store: "timeout", source });
            }
        }
    }
}
