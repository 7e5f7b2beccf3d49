//! Job specs and requests for the tests of this folder.

use std::path::Path;

use crate::job::spec::wire::{
    DestinationKind, DestinationSpec, JobKind, JobSpec, Naming, PackageDigest, PackageRef, Trigger,
};
use inshore_trust::{JobSigner, SigningKey};

use super::link::{Limits, Request, Signer};

pub(super) fn spec(job_id: &str, generation: u64) -> JobSpec {
    JobSpec {
        job_id: job_id.parse().expect("id"),
        generation,
        connection_id: "con_1".parse().expect("id"),
        group_id: "grp_1".parse().expect("id"),
        kind: JobKind::Sync,
        trigger: Trigger::Request,
        connection_name: "shop".to_owned(),
        package: PackageRef { digest: PackageDigest::from_sha256(&[7; 32]), bytes: 10 },
        python_version: None,
        naming: Naming::Fivetran,
        destination: DestinationSpec {
            kind: DestinationKind::InshoreFiles,
            destination_id: "dst_1".parse().expect("id"),
            uri: "file:///srv/lake".to_owned(),
        },
        configuration: Vec::new(),
        resync: false,
        run_ms_max: None,
    }
}

/// A request of attempt `job_1/3` whose folders lie in `folder`.
pub(super) fn request(folder: &Path) -> Request {
    let key = SigningKey::generate();
    Request {
        spec: spec("job_1", 3),
        agent_id: "agt_1".to_owned(),
        configuration: Vec::new(),
        root: key.public(),
        signer: Signer::new(&JobSigner::self_signed(key)),
        policy_file: folder.join("policy.toml"),
        package_file: folder.join("package.zip"),
        cache_dir: folder.join("cache"),
        journal_file: folder.join("journal.jsonl"),
        scratch_dir: folder.join("scratch"),
        limits: Limits { batch_memory_bytes_max: 1, connector_memory_bytes_max: 1, spool_bytes_max: 1 },
        sdk_dir: folder.join("sdk"),
        search_path: String::new(),
        label_key: [7; 32],
        names_open: false,
    }
}
