//! What the host has to give: memory, disk, cores; and the status that heartbeats carry.

use std::path::{Path, PathBuf};

use inshore_protocol::{Capacity, JobRef, JobState, Mode, Phase};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::channel::Status;

/// Measures this host.
#[derive(Debug)]
pub(crate) struct Health {
    /// Absent where the host does not tell.
    system: Option<System>,
    spool_dir: PathBuf,
    disk_available_bytes: u64,
    cpu_count: u32,
    jobs_max: usize,
}

impl Health {
    pub(crate) fn new(spool_dir: &Path, jobs_max: usize) -> Self {
        let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
        let cpu_count = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
        let mut health = Self {
            system: System::new_with_specifics(memory).ok(),
            spool_dir: spool_dir.to_owned(),
            disk_available_bytes: 0,
            cpu_count,
            jobs_max,
        };
        health.measure();
        health
    }

    pub(crate) fn measure(&mut self) {
        if let Some(system) = &mut self.system {
            system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        }
        self.disk_available_bytes =
            rustix::fs::statvfs(&self.spool_dir).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    }

    pub(crate) fn disk_available_bytes(&self) -> u64 {
        self.disk_available_bytes
    }

    /// What heartbeats and full states say.
    pub(crate) fn status<'a>(
        &self,
        mode: inshore_config::Mode,
        running: impl Iterator<Item = &'a JobRef>,
        finished: &[JobState],
    ) -> Status {
        let state =
            |job: &JobRef| JobState { job_id: job.job_id.clone(), generation: job.generation, phase: Phase::Running };
        let mut jobs: Vec<JobState> = running.map(state).collect();
        let capacity = Capacity {
            jobs_max: u32::try_from(self.jobs_max).unwrap_or(u32::MAX),
            jobs_running: u32::try_from(jobs.len()).unwrap_or(u32::MAX),
            memory_bytes: self.system.as_ref().map_or(0, System::total_memory),
            memory_available_bytes: self.system.as_ref().map_or(0, System::available_memory),
            disk_available_bytes: self.disk_available_bytes,
            cpu_count: self.cpu_count,
        };
        jobs.extend_from_slice(finished);
        let mode = match mode {
            inshore_config::Mode::Managed => Mode::Managed,
            inshore_config::Mode::Locked => Mode::Locked,
        };
        Status { mode, capacity, jobs }
    }
}
