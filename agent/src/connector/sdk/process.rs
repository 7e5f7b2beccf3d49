//! Every process that a connector started, however it tried to leave: found in `/proc` by parent, session, a marker in
//! the environment, or by having been seen before. Ended together, and gone when `end` returns.
//!
//! A pid may be reused between looking and killing, so a process is pinned (pidfd) and its start time compared first.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The environment variable that marks a connector's processes.
pub(super) const MARKER: &str = "INSHORE_CONNECTOR";

const ROUND: Duration = Duration::from_millis(10);
/// About five seconds: a killed process that takes longer hangs in the kernel and holds nothing we wait for.
const ROUNDS_MAX: usize = 500;

/// One line of `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    started: u64,
    alive: bool,
}

/// The processes of one connector.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: i32,
    /// How many generations below the root the host itself is.
    depth: usize,
    marker: String,
    /// Our own pid when all its children belong to the tree.
    adopter: Option<i32>,
    seen: Arc<Mutex<HashSet<(i32, u64)>>>,
}

impl Tree {
    pub(super) fn new(root: i32, depth: usize, marker: String, exclusive: bool) -> Tree {
        let adopter = exclusive.then(|| rustix::process::getpid().as_raw_nonzero().get());
        Tree { root, depth, marker, adopter, seen: Arc::default() }
    }

    /// Kills every process of the tree and waits until none is left.
    pub(super) async fn end(&self) {
        for _ in 0..ROUNDS_MAX {
            let tree = self.clone();
            let left = tokio::task::spawn_blocking(move || tree.kill_all()).await.unwrap_or(0);
            if left == 0 {
                return;
            }
            tokio::time::sleep(ROUND).await;
        }
        tracing::warn!(root = self.root, "processes of a connector did not go away");
    }

    /// Resident memory of the host itself only: a few small files, cheap enough to ask often.
    pub(super) fn host_bytes(&self) -> u64 {
        let host = (0..self.depth).try_fold(self.root, |pid, _| first_child(pid));
        host.map_or(0, resident_bytes)
    }

    pub(super) fn pids(&self) -> Vec<i32> {
        self.members().iter().map(|process| process.pid).collect()
    }

    /// Memory of the whole tree; pages that forked processes share count once.
    pub(super) fn bytes(&self) -> u64 {
        let members = self.members();
        if members.len() < 2 {
            return resident_bytes(self.root);
        }
        members.iter().map(|process| proportional_bytes(process.pid)).sum()
    }

    fn kill_all(&self) -> usize {
        let members = self.members();
        for process in &members {
            kill(*process);
        }
        members.len()
    }

    fn members(&self) -> Vec<Process> {
        let all = snapshot();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let found = members(&all, self.root, self.adopter, |process| {
            seen.contains(&(process.pid, process.started)) || is_marked(process.pid, &self.marker)
        });
        seen.extend(found.iter().map(|process| (process.pid, process.started)));
        found.into_iter().filter(|process| process.alive).collect()
    }
}

/// The processes of a snapshot that belong to the tree.
fn members(all: &[Process], root: i32, adopter: Option<i32>, known: impl Fn(&Process) -> bool) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let is_first = |process: &&Process| {
        process.pid == root || process.session == root || Some(process.parent) == adopter || known(process)
    };
    let mut open: Vec<&Process> = all.iter().filter(is_first).collect();
    let mut found = HashMap::new();
    while let Some(process) = open.pop() {
        if found.insert(process.pid, *process).is_none() {
            open.extend(children.get(&process.pid).into_iter().flatten().copied());
        }
    }
    found.into_values().collect()
}

fn snapshot() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            read_process(pid)
        })
        .collect()
}

fn read_process(pid: i32) -> Option<Process> {
    parse_stat(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The command name may hold spaces and parentheses; the last one ends it.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<i32>().ok();
    Some(Process {
        pid,
        parent: number(1)?,
        session: number(3)?,
        started: fields.get(19)?.parse().ok()?,
        alive: !matches!(*fields.first()?, "Z" | "X" | "x"),
    })
}

fn is_marked(pid: i32, marker: &str) -> bool {
    let wanted = format!("{MARKER}={marker}");
    std::fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()))
}

fn kill(process: Process) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    let Ok(pinned) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let same = read_process(process.pid).is_some_and(|now| now.started == process.started);
    if same && let Err(error) = pidfd_send_signal(&pinned, Signal::KILL) {
        tracing::debug!(pid = process.pid, %error, "a connector's process could not be killed");
    }
}

/// The oldest; `None` where the kernel does not list children, too.
fn first_child(pid: i32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}

fn resident_bytes(pid: i32) -> u64 {
    kilobytes(Path::new(&format!("/proc/{pid}/status")), "VmRSS:").unwrap_or(0)
}

fn proportional_bytes(pid: i32) -> u64 {
    kilobytes(Path::new(&format!("/proc/{pid}/smaps_rollup")), "Pss:").unwrap_or_else(|| resident_bytes(pid))
}

fn kilobytes(file: &Path, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// How often the kernel killed for memory in this process's control group, where that can be read.
pub(super) fn oom_kills() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let events = std::fs::read_to_string(format!("/sys/fs/cgroup{group}/memory.events")).ok()?;
    events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32) -> Process {
        Process { pid, parent, session, started: 1, alive: true }
    }

    fn pids(found: Vec<Process>) -> Vec<i32> {
        let mut pids: Vec<i32> = found.into_iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        pids
    }

    #[test]
    fn a_tree_is_found_by_parent_session_marker_and_adoption() {
        let all = [
            process(1, 0, 1),
            process(10, 1, 10),  // the root
            process(11, 10, 10), // its child
            process(12, 1, 10),  // left its parent, kept the session
            process(13, 1, 13),  // left both, carries the marker
            process(14, 13, 13), // child of that one
            process(20, 5, 20),  // adopted by us after it cleared its environment
            process(30, 1, 30),  // a stranger
        ];
        assert_eq!(pids(members(&all, 10, None, |process| process.pid == 13)), [10, 11, 12, 13, 14]);
        assert_eq!(pids(members(&all, 10, Some(5), |_| false)), [10, 11, 12, 20]);
    }

    #[test]
    fn a_command_name_with_parentheses_is_read() {
        let stat = "7 (a) b) (c) S 3 7 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        let expected = Process { pid: 7, parent: 3, session: 9, started: 4242, alive: true };
        assert_eq!(parse_stat(7, stat), Some(expected));
        assert_eq!(parse_stat(7, "7 (short) S"), None);
    }
}
