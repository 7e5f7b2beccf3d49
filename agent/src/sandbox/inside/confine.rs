//! What the room's programs may not do, closed once and for all before any of them runs: capabilities, limits, system calls.
//!
//! The list forbids what the namespaces leave to a process without rights and what connectors have no use for: new
//! namespaces, mounts, tracing, keys, BPF, perf, io_uring and the like. Everything else passes, because connectors are
//! anybody's Python.

use std::collections::BTreeMap;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, CpuSet, clear_ambient_capability_set, sched_getaffinity, sched_setaffinity,
    set_capabilities,
};
use seccompiler::{
    SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

use super::Error;

/// Open files of one process.
const FILES_MAX: u64 = 65_536;
/// On x86, the same calls again under numbers of another convention.
const X32: i64 = 0x4000_0000;
/// Namespace flags of clone and unshare, one bit each.
const NAMESPACES: [u64; 7] =
    [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

/// Bounds of every process of the room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) processes_max: u32,
    pub(crate) file_bytes_max: u64,
    /// Processors that it may use; all of the host's without.
    pub(crate) processors_max: Option<u32>,
    /// Whether memory may be writable and executable at once.
    pub(crate) writable_code: bool,
}

/// Closes everything for this thread, and for every thread and process that it starts from here on.
pub(super) fn close(limits: &Limits) -> Result<(), Error> {
    let failed = |what: &'static str| move |error: rustix::io::Errno| Error::Confine { what, cause: error.to_string() };
    for (resource, most) in [
        (Resource::Core, 0),
        (Resource::Nproc, u64::from(limits.processes_max)),
        (Resource::Fsize, limits.file_bytes_max),
        (Resource::Nofile, FILES_MAX),
    ] {
        let hard = rustix::process::getrlimit(resource).maximum;
        let most = Some(hard.map_or(most, |hard| hard.min(most)));
        setrlimit(resource, Rlimit { current: most, maximum: most }).map_err(failed("limits"))?;
    }
    if let Some(most) = limits.processors_max {
        keep_to(most).map_err(failed("processors"))?;
    }
    clear_ambient_capability_set().map_err(failed("ambient capabilities"))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(failed("capabilities"))?;
    // Programs that meet "no such call" fall back to an older one; "not permitted" they report.
    forbid(absent_calls(), libc::ENOSYS)?;
    let mut forbidden = forbidden_calls()?;
    if limits.processors_max.is_some() {
        forbidden.extend(twice(libc::SYS_sched_setaffinity).map(|call| (call, Vec::new())));
    }
    forbid(forbidden, libc::EPERM)?;
    if limits.writable_code { Ok(()) } else { forbid(writable_code()?, libc::EACCES) }
}

/// So many of the processors that this process has, others in each room: two rooms shall not share what stands idle
/// elsewhere.
fn keep_to(most: u32) -> rustix::io::Result<()> {
    let all = sched_getaffinity(None)?;
    let own: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|processor| all.is_set(*processor)).collect();
    let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
    if most >= own.len() {
        return Ok(());
    }
    let first = fastrand::usize(..own.len());
    let mut kept = CpuSet::new();
    own.iter().cycle().skip(first).take(most).for_each(|processor| kept.set(*processor));
    sched_setaffinity(None, &kept)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

pub(super) fn forbid(rules: Rules, errno: i32) -> Result<(), Error> {
    let failed = |error: &dyn std::error::Error| Error::Confine { what: "system calls", cause: error.to_string() };
    let errno = SeccompAction::Errno(u32::try_from(errno).unwrap_or(1));
    let architecture = std::env::consts::ARCH.try_into().map_err(|error: seccompiler::BackendError| failed(&error))?;
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, errno, architecture).map_err(|error| failed(&error))?;
    let program: seccompiler::BpfProgram =
        filter.try_into().map_err(|error: seccompiler::BackendError| failed(&error))?;
    apply_filter(&program).map_err(|error| failed(&error))
}

/// clone3 hides its flags in memory, where no filter sees them.
fn absent_calls() -> Rules {
    let calls = [
        libc::SYS_clone3,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_fsopen,
        libc::SYS_fsmount,
        libc::SYS_fsconfig,
        libc::SYS_fspick,
        libc::SYS_open_tree,
        libc::SYS_move_mount,
        libc::SYS_mount_setattr,
        libc::SYS_pidfd_getfd,
    ];
    calls.iter().flat_map(|call| twice(*call)).map(|call| (call, Vec::new())).collect()
}

fn forbidden_calls() -> Result<Rules, Error> {
    let calls = [
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_kcmp,
        libc::SYS_kexec_load,
        libc::SYS_kexec_file_load,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_userfaultfd,
        libc::SYS_open_by_handle_at,
        libc::SYS_name_to_handle_at,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_reboot,
        libc::SYS_acct,
        libc::SYS_quotactl,
        libc::SYS_syslog,
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_clock_adjtime,
        libc::SYS_adjtimex,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_fanotify_init,
        libc::SYS_vhangup,
    ];
    let mut rules: Rules =
        calls.iter().flat_map(|call| twice(*call)).chain(other_convention()).map(|call| (call, Vec::new())).collect();
    // Sockets other than Unix (1), IPv4 (2) and IPv6 (10): netlink, packets, vsock and what else the kernel has.
    let families = [1, 2, 10].map(|family| condition(0, Is::Ne, family)).into_iter().collect::<Result<Vec<_>, _>>()?;
    // Pushing input into a terminal: TIOCSTI and TIOCLINUX.
    let terminal = [0x5412, 0x541c];
    for call in twice(libc::SYS_socket) {
        rules.insert(call, vec![rule(families.clone())?]);
    }
    for call in twice(libc::SYS_ioctl) {
        let each = terminal.map(|request| rule(vec![condition(1, Is::Eq, request)?])).into_iter();
        rules.insert(call, each.collect::<Result<_, _>>()?);
    }
    for call in twice(libc::SYS_clone) {
        let each = NAMESPACES.iter().map(|bit| rule(vec![condition(0, Is::MaskedEq(*bit), *bit)?]));
        rules.insert(call, each.collect::<Result<_, _>>()?);
    }
    Ok(rules)
}

/// Mapping memory, or changing its protection, to writable (2) and executable (4) at once.
fn writable_code() -> Result<Rules, Error> {
    const BOTH: u64 = 2 | 4;
    let calls = [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect];
    let numbers = calls.iter().flat_map(|call| twice(*call));
    numbers.map(|call| Ok((call, vec![rule(vec![condition(2, Is::MaskedEq(BOTH), BOTH)?])?]))).collect()
}

/// A call under both of its numbers, where there are two.
fn twice(call: i64) -> impl Iterator<Item = i64> {
    let second = cfg!(target_arch = "x86_64").then_some(call | X32);
    std::iter::once(call).chain(second)
}

/// Calls that have a number of their own in the other convention: ioctl, ptrace, kexec_load, process_vm_readv and _writev.
fn other_convention() -> impl Iterator<Item = i64> {
    let calls: &[i64] = if cfg!(target_arch = "x86_64") { &[514, 521, 528, 539, 540] } else { &[] };
    calls.iter().map(|call| call | X32)
}

fn condition(argument: u8, is: Is, value: u64) -> Result<SeccompCondition, Error> {
    SeccompCondition::new(argument, Length::Dword, is, value)
        .map_err(|error| Error::Confine { what: "system calls", cause: error.to_string() })
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, Error> {
    SeccompRule::new(conditions).map_err(|error| Error::Confine { what: "system calls", cause: error.to_string() })
}
