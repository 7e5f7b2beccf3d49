//! A job spec as the wire brings it, for the tests of every module that meets one.

use inshore_protocol::{
    DestinationKind, DestinationSpec, Inference, JobKind, JobSpec, Naming, PackageDigest, PackageRef, Resources,
    TableOptions, Trigger,
};

pub(crate) fn spec(job_id: &str, generation: u64) -> JobSpec {
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
        inference: Inference::default(),
        egress: None,
        resources: Resources::default(),
        type_locked: false,
        schema: None,
        destination: DestinationSpec {
            kind: DestinationKind::InshoreFiles,
            destination_id: "dst_1".parse().expect("id"),
            uri: "file:///srv/lake".to_owned(),
            tables: TableOptions::default(),
        },
        configuration: Vec::new(),
        environment: Vec::new(),
        resync: false,
        resync_scope: None,
        run_ms_max: None,
    }
}
