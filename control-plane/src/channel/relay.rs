//! Packages for agents, one acknowledged chunk at a time: the agent asks for an offset, this answers it. An agent gets only
//! what a connection it may run uses.

use inshore_protocol::limits::PACKAGE_CHUNK_BYTES;
use inshore_protocol::{Base64Bytes, Down, PackageDigest};

use crate::app::App;
use crate::store;

/// What this session may fetch, so that not each chunk asks the store.
#[derive(Debug, Default)]
pub(super) struct Relay {
    allowed: Option<PackageDigest>,
}

impl Relay {
    /// The chunk at `offset`. Unknown packages, and those of others, look alike: nothing of zero bytes.
    pub(super) async fn chunk(
        &mut self,
        app: &App,
        agent_id: &str,
        digest: PackageDigest,
        offset: u64,
    ) -> Result<Down, store::Error> {
        if self.allowed.as_ref() != Some(&digest) || offset == 0 {
            self.allowed = app.store.may_fetch(agent_id, digest.as_str()).await?.then(|| digest.clone());
        }
        let nothing = |digest| Down::PackageChunk { digest, offset, total_bytes: 0, data: Base64Bytes(Vec::new()) };
        if self.allowed.is_none() {
            tracing::warn!(agent_id, %digest, "an agent asked for a package that none of its connections uses");
            return Ok(nothing(digest));
        }
        match app.packages.read_at(digest.as_str(), offset, PACKAGE_CHUNK_BYTES).await {
            Ok((data, total_bytes)) => Ok(Down::PackageChunk { digest, offset, total_bytes, data: Base64Bytes(data) }),
            Err(error) => {
                tracing::error!(%digest, %error, "a package cannot be read");
                Ok(nothing(digest))
            }
        }
    }
}
