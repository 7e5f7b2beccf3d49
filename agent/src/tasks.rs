//! The one place that spawns: every task has a name and an owner that awaits it.

use tokio::task::JoinHandle;
use tracing::Instrument;

/// Spawns a named task. The caller owns the handle and awaits or aborts it; a dropped handle is a leak.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns")]
pub(crate) fn spawn<F>(name: &'static str, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(future.instrument(tracing::info_span!("task", name)))
}
