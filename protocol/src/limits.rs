//! Every bound and timer of the channel (SECURITY §3.3, §3.4), in one place, so that both ends agree. Pure numbers.

use std::time::Duration;

/// One assembled message, in either direction.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// One WebSocket frame. A Noise message is at most 65,535 bytes; the rest is slack for the clear first message.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes a WebSocket end may hold unsent before it gives the peer up.
pub const WRITE_BUFFER_BYTES_MAX: usize = 4 << 20;
/// From dialling to `Welcome`, all of it.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// A frame that cannot be handed to the transport in this time ends the session (a peer that does not read).
pub const WRITE: Duration = Duration::from_secs(10);
/// Transport ping interval.
pub const PING: Duration = Duration::from_secs(15);
/// A session without any frame for this long is dead.
pub const DEAD: Duration = Duration::from_secs(30);
/// Heartbeat interval unless the `Welcome` says otherwise; jittered by [`HEARTBEAT_JITTER_PERCENT`].
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// The least and greatest heartbeat interval a control plane may set.
pub const HEARTBEAT_MIN: Duration = Duration::from_secs(5);
/// See [`HEARTBEAT_MIN`].
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(60);
/// Heartbeats spread by ± this share of the interval.
pub const HEARTBEAT_JITTER_PERCENT: u32 = 10;
/// An agent without a frame for this long is shown as offline.
pub const OFFLINE: Duration = Duration::from_secs(45);
/// How long a grant lasts without renewal.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often a running job's lease is renewed: two renewals may be missed.
pub const RENEW: Duration = Duration::from_secs(10);
/// Upper bound of the reconnect wait.
pub const RECONNECT_MAX: Duration = Duration::from_secs(30);
/// First step of the reconnect wait.
pub const RECONNECT_STEP: Duration = Duration::from_secs(1);
/// A session that lived this long resets the reconnect attempts.
pub const RECONNECT_RESET: Duration = Duration::from_secs(60);
/// How long a running job outlives the loss of its control plane.
pub const OFFLINE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Progress frames of one job go up at most once in this time; the latest wins.
pub const PROGRESS: Duration = Duration::from_secs(1);
/// A join token lives at most this long.
pub const JOIN_TOKEN: Duration = Duration::from_secs(30 * 60);

/// Clear bytes of one package chunk: a few Noise messages, so a chunk never holds a heartbeat up for long.
pub const PACKAGE_CHUNK_BYTES: usize = 128 << 10;
/// A connector package, zipped.
pub const PACKAGE_BYTES_MAX: u64 = 100 << 20;
/// Tables in one progress frame; the largest by rows win.
pub const PROGRESS_TABLES_MAX: usize = 500;
/// The tables and columns that one outcome tells of, as JSON: what is left of a message is for the rest.
pub const CAPTURE_BYTES_MAX: usize = 512 << 10;
/// A connection's schema configuration, as JSON.
pub const SCHEMA_CONFIG_BYTES_MAX: usize = 512 << 10;
/// Jobs in one renewal or full state.
pub const JOBS_MAX: usize = 256;
/// Configuration entries of one job.
pub const CONFIGURATION_ENTRIES_MAX: usize = 256;
/// Distinct warning codes in one outcome.
pub const WARNINGS_MAX: usize = 64;
/// Setup tests in one outcome.
pub const SETUP_TESTS_MAX: usize = 100;
/// Certificates from the pinned root to the control plane's channel key: one per root rotation slept through.
pub const CONTROL_CERTIFICATES_MAX: usize = 8;
/// Generations rise by at most this much from one offer of a job to the next (threat T3).
pub const GENERATION_STEP_MAX: u64 = 1 << 20;
/// Bytes of an id.
pub const ID_BYTES_MAX: usize = 64;
/// Bytes of a table label.
pub const TABLE_LABEL_BYTES_MAX: usize = 255;
