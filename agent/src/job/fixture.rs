//! Requests for the tests of this folder.

use std::path::Path;

use inshore_trust::{JobSigner, SigningKey};

use super::link::{Limits, Request, Signer};
use crate::connector::sdk::environment::Index;
use crate::fixture::spec;
use crate::sandbox::Tools;

/// A request of attempt `job_1/3` whose folders lie in `folder`.
pub(super) fn request(folder: &Path) -> Request {
    let key = SigningKey::generate();
    Request {
        spec: spec("job_1", 3),
        agent_id: "agt_1".to_owned(),
        configuration: Vec::new(),
        environment: Vec::new(),
        root: key.public(),
        signer: Signer::new(&JobSigner::self_signed(key)),
        policy_file: folder.join("policy.toml"),
        package_file: folder.join("package.zip"),
        cache_dir: folder.join("cache"),
        journal_file: folder.join("journal.jsonl"),
        scratch_dir: folder.join("scratch"),
        limits: Limits {
            batch_memory_bytes_max: 1,
            connector_memory_bytes_max: 1,
            spool_bytes_max: 1,
            environments_bytes_max: 1,
        },
        tools: Tools {
            bubblewrap: "/usr/bin/bwrap".into(),
            inside: folder.join("inshore"),
            layer: crate::sandbox::Layer::None,
        },
        sdk_dir: folder.join("sdk"),
        search_path: String::new(),
        index: Index::default(),
        label_key: [7; 32],
        hash_salt: None,
        names_open: false,
    }
}
