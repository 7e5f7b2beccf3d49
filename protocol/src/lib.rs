//! What crosses the channel between agent and control plane, as closed types. No IO, no tokio, no cryptography.
//!
//! The wire is lenient: unknown fields have no effect, unknown variants become `Unknown`, versions only grow. What goes
//! up is closed: enums, integers, instants, ids, hashes. The one name type is [`TableLabel`]; nothing else that goes up
//! can carry text a customer wrote.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::panic))]

mod enrolment;
mod failure;
mod id;
mod job;
pub mod limits;
mod message;
mod progress;
mod schema;
mod tables;

pub use enrolment::{
    CertificateFields, ControlCertificate, Enrol, EnrolDown, EnrolRefusal, EnrolUp, KeyKind, ProtocolRange, Version,
};
pub use failure::{Blame, Class, Code, Failure};
pub use id::{
    AgentId, Base64Bytes, ConnectionId, DestinationId, GroupId, Hex16, Hex32, Hex64, InvalidId, JobId, PackageDigest,
    SessionId, SubjectId, TableLabel, TokenId,
};
pub use job::{
    DestinationKind, DestinationSpec, Inference, JobKind, JobRef, JobSpec, Naming, PackageRef, Resources, ResyncScope,
    SecretEntry, SecretValue, TableRef, Trigger, is_variable,
};
pub use message::{
    Capacity, DecodeError, Down, FullState, Hello, JobState, Mode, Phase, RefusalReason, Rejection, Up, decode_clear,
    decode_down, decode_enrol_down, decode_enrol_up, decode_up, encode,
};
pub use progress::{
    Delivery, NothingMoved, Outcome, OutcomeResult, Progress, RowCounts, SetupTest, Stage, TableProgress, WarningCount,
};
pub use schema::{
    CapturedColumn, CapturedSchema, CapturedTable, ChangeHandling, ColumnRule, SchemaConfig, SchemaRule, TableRule,
};
pub use tables::{MergeMode, SnapshotRetention, TableFormat, TableOptions, TableOptionsError};

/// The oldest protocol version this build speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// The newest protocol version this build speaks.
pub const PROTOCOL_MAX: u16 = 1;
