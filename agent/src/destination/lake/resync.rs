//! A re-sync between memory and chain: every Commit of it names its bound, its tables and the state to go on from, so that
//! whoever opens the connection next goes on with it.

use super::Lake;
use crate::destination::Resync;
use crate::destination::chain::Chain;
use crate::destination::chain::entry::ResyncRef;
use crate::destination::error::Error;

/// The re-sync that the last Commit belongs to.
pub(super) async fn resumed(chain: &Chain) -> Result<Option<Resync>, Error> {
    let Some(ResyncRef { bound_at_ms, tables, kept }) = &chain.view.resync else { return Ok(None) };
    let kept = match kept {
        Some(state) => Some(chain.load_state(state).await?),
        None => None,
    };
    Ok(Some(Resync { bound_at_ms: *bound_at_ms, tables: tables.clone(), kept }))
}

impl Lake {
    /// The re-sync in hand, as the next entry says it.
    pub(super) async fn resync_entry(&self) -> Result<Option<ResyncRef>, Error> {
        let Some(Resync { bound_at_ms, tables, kept }) = &self.resync else { return Ok(None) };
        let kept = match kept {
            Some(state) => Some(self.chain.store_state(state, self.claim_seq).await?),
            None => None,
        };
        Ok(Some(ResyncRef { bound_at_ms: *bound_at_ms, tables: tables.clone(), kept }))
    }
}
