//! The owner of every background task: each has a name, the common token stops it, shutdown waits for all of them.

use std::future::Future;

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// Spawns and awaits tasks. Clones share one set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Runs `future` until it ends by itself; it has to watch [`Tasks::stopped`].
    pub(crate) fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        // The handle is not kept: the tracker awaits the task.
        drop(self.tracker.spawn(future.instrument(tracing::info_span!("task", name))));
    }

    /// Ends when shutdown begins.
    pub(crate) fn stopped(&self) -> WaitForCancellationFuture<'_> {
        self.stop.cancelled()
    }

    /// Tells all tasks to stop and waits for them.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}
