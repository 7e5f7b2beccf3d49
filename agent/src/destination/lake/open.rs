//! OPEN of DELIVERY §4, steps 2 to 4: read the chain, roll tables forward, claim. A claim that loses its slot reads again;
//! only another agent of the same generation is worth a wait of one lease.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use super::apply::{Applier, Known};
use super::aside::Aside;
use super::resync::resumed;
use super::uploads::Stage;
use super::{Lake, Tables, Terms, gc, roll_forward};
use crate::destination::Writer;
use crate::destination::chain::Chain;
use crate::destination::chain::entry::{Claim, ENTRY_VERSION, Entry};
use crate::destination::chain::put::{Points, Put};
use crate::destination::chain::view::{AfterLoss, MayClaim};
use crate::destination::error::Error;
use crate::destination::store::Store;
use crate::failpoint;

/// A lease of the control plane: after so long the other agent of our generation has lost it.
const LEASE: Duration = Duration::from_secs(30);
/// How often we wait for another agent of the same generation.
const LEASE_WAITS_MAX: u32 = 3;
/// How often a claim may lose its slot to anybody else.
const LOSSES_MAX: u32 = 64;

impl Lake {
    /// Opens the connection's chain and claims it.
    pub(crate) async fn open(store: Store, terms: Terms, writer: Writer) -> Result<Lake, Error> {
        let (mut waits, mut losses) = (0, 0);
        let known = Known::default();
        let writer_id = uuid::Uuid::new_v4().simple().to_string();
        let mut chain = Chain::read(&store, &writer.connection_id, writer.trusted_root).await?;
        let (mut tables, mut aside) = (BTreeMap::new(), Aside::default());
        loop {
            check_generation(&chain, writer.generation)?;
            let claim_seq = chain.view.holder.as_ref().map_or(0, |holder| holder.claim_seq);
            let applier = Applier { store: store.clone(), claim_seq, terms: terms.clone(), known: known.clone() };
            let rolled = Tables { known: &mut tables, aside: &mut aside };
            roll_forward(&applier, &chain, &writer.connection_id, rolled).await?;
            let claim = claim(&chain, &writer, &writer_id);
            let claim_seq = claim.seq;
            let points = Points { before: "P4", after: "P4b" };
            if chain.append(&Entry::Claim(claim), &writer.signer, points).await? == Put::Mine {
                failpoint::hit("P5");
                let state = chain.state().await?;
                let resync = resumed(&chain).await?;
                let stage = Stage::new(&store, &writer.connection_id, claim_seq);
                let mut lake = Lake {
                    store,
                    terms,
                    writer,
                    chain,
                    writer_id,
                    claim_seq,
                    state,
                    resync,
                    tables,
                    known,
                    aside,
                    loose: Mutex::default(),
                    stage,
                };
                // What a sync that failed had staged would lie there until one ends well.
                if let Err(error) = gc::collect_stage(&mut lake).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "staged files of an earlier sync could not be collected");
                }
                return Ok(lake);
            }
            chain.advance().await?;
            check_generation(&chain, writer.generation)?;
            match chain.view.after_loss(writer.generation, &writer.agent_id) {
                AfterLoss::WaitOneLease if waits < LEASE_WAITS_MAX => {
                    waits += 1;
                    tokio::time::sleep(LEASE).await;
                    chain.advance().await?;
                }
                AfterLoss::GoOn if losses < LOSSES_MAX => losses += 1,
                _ => return Err(Error::Fenced { claim_seq, head: chain.view.seq }),
            }
        }
    }
}

fn check_generation(chain: &Chain, mine: u64) -> Result<(), Error> {
    match chain.view.may_claim(mine) {
        MayClaim::Yes => Ok(()),
        MayClaim::Fenced { head } => Err(Error::FencedByGeneration { head, mine }),
        MayClaim::Jump { head } => Err(Error::GenerationJump { head, mine }),
    }
}

fn claim(chain: &Chain, writer: &Writer, writer_id: &str) -> Claim {
    Claim {
        v: ENTRY_VERSION,
        seq: chain.view.seq + 1,
        prev_hash: chain.view.hash,
        connection: writer.connection_id.clone(),
        writer_id: writer_id.to_owned(),
        agent_id: writer.agent_id.clone(),
        job_id: writer.job_id.clone(),
        generation: writer.generation,
    }
}
