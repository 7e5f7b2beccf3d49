//! Control groups of connectors, where this host lets the agent make them: version 2 where a service manager delegates it,
//! else version 1. They bound memory, processor time and processes by the kernel; the limits of processes and the watcher
//! of their tree hold everywhere, with or without.
//!
//! A room's first process enters the group before it starts anything, so nothing of a connector is ever outside.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

const ROOT: &str = "/sys/fs/cgroup";
const NAME: &str = "inshore-connector-";
/// Where the agent itself goes: version 2 gives controllers to groups that hold no process.
const AGENT: &str = "inshore-agent";
const PERIOD_US: u64 = 100_000;
/// Above the sandbox's own count, which says what happened.
const SPARE_PROCESSES: u32 = 64;
const REMOVE_ROUNDS: u32 = 25;
const REMOVE_EVERY: Duration = Duration::from_millis(20);

/// What the kernel keeps for a connector on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "version", rename_all = "snake_case")]
pub(crate) enum Layer {
    /// One folder below which groups are made.
    Two { parent: PathBuf },
    /// One per controller: `memory`, `pids`, `cpu`.
    One { parents: Vec<(String, PathBuf)> },
    #[default]
    None,
}

impl Layer {
    /// As people read it.
    pub(crate) fn text(&self) -> &'static str {
        match self {
            Self::Two { .. } => "control groups (v2) and a watcher",
            Self::One { .. } => "control groups (v1) and a watcher",
            Self::None => "rlimits and a watcher",
        }
    }

    /// Tries it, once, in the agent. Groups that another run left are removed.
    pub(crate) fn find() -> Self {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let found = version_two(&own).or_else(|| version_one(&own)).unwrap_or_default();
        found.sweep();
        found.proved()
    }

    /// What of it makes a group that takes in a process. Without memory's it bounds nothing that matters.
    fn proved(self) -> Self {
        let works = |layer: &Self, controller: &str| {
            let tried = layer.try_out();
            if let Err(error) = &tried {
                tracing::info!(controller, error = error as &dyn std::error::Error, "no control groups for connectors");
            }
            tried.is_ok()
        };
        match self {
            Self::One { parents } => {
                let alone = |parent: &(String, PathBuf)| Self::One { parents: vec![parent.clone()] };
                let kept = parents.into_iter().filter(|parent| works(&alone(parent), &parent.0)).collect();
                with_memory(kept).unwrap_or_default()
            }
            other if works(&other, "all") => other,
            _ => Self::None,
        }
    }

    fn try_out(&self) -> io::Result<()> {
        let bounds = Bounds { memory_bytes: 1 << 30, processes: 64, cpu_percent: Some(100) };
        let Some(group) = self.make(&bounds)? else { return Ok(()) };
        // It lives until its input ends.
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        let entered = group.take_in(child.id().cast_signed());
        drop(child.stdin.take());
        child.wait()?;
        entered
    }

    /// Removes what killed jobs left; a group whose processes are still dying goes the next time.
    pub(crate) fn sweep(&self) {
        self.folders().for_each(|(_, parent)| sweep(parent));
    }

    /// A group of its own for one connector; none where there are none.
    pub(super) fn make(&self, bounds: &Bounds) -> io::Result<Option<Group>> {
        let name = format!("{NAME}{}-{:08x}", std::process::id(), fastrand::u32(..));
        let mut group = Group { folders: Vec::new() };
        for (controller, parent) in self.folders() {
            let folder = parent.join(&name);
            std::fs::create_dir(&folder)?;
            group.folders.push(folder.clone());
            for (file, value, needed) in settings(controller, bounds) {
                match std::fs::write(folder.join(file), value) {
                    Err(error) if needed => return Err(error),
                    _ => {}
                }
            }
        }
        Ok((!group.folders.is_empty()).then_some(group))
    }

    fn folders(&self) -> impl Iterator<Item = (&str, &Path)> {
        let two = if let Self::Two { parent } = self { Some(("", parent.as_path())) } else { None };
        let one = if let Self::One { parents } = self { parents.as_slice() } else { &[] };
        two.into_iter().chain(one.iter().map(|(controller, parent)| (controller.as_str(), parent.as_path())))
    }
}

/// What a group holds to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) memory_bytes: u64,
    pub(super) processes: u32,
    pub(super) cpu_percent: Option<u32>,
}

/// File, value, and whether it must be there: kernels without swap have no limit for it.
fn settings(controller: &str, bounds: &Bounds) -> Vec<(&'static str, String, bool)> {
    let memory = bounds.memory_bytes.to_string();
    let processes = bounds.processes.saturating_add(SPARE_PROCESSES).to_string();
    let quota = bounds.cpu_percent.map(|percent| u64::from(percent) * PERIOD_US / 100);
    match controller {
        "memory" => {
            vec![("memory.limit_in_bytes", memory.clone(), true), ("memory.memsw.limit_in_bytes", memory, false)]
        }
        "pids" => vec![("pids.max", processes, true)],
        "cpu" => quota.map(|quota| ("cpu.cfs_quota_us", quota.to_string(), true)).into_iter().collect(),
        _ => {
            let mut all = vec![
                ("memory.max", memory, true),
                ("memory.swap.max", "0".to_owned(), false),
                ("memory.oom.group", "1".to_owned(), false),
                ("pids.max", processes, true),
            ];
            all.extend(quota.map(|quota| ("cpu.max", format!("{quota} {PERIOD_US}"), true)));
            all
        }
    }
}

/// The folder of the agent's own group, if connectors' groups may be made beside or below it.
fn version_two(own: &str) -> Option<Layer> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = Path::new(ROOT).join(path.trim_start_matches('/'));
    let has = |folder: &Path, file: &str| {
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        ["memory", "pids"].iter().all(|wanted| text.split_ascii_whitespace().any(|name| name == *wanted))
    };
    let parent = if folder.ends_with(AGENT) { folder.parent()?.to_owned() } else { folder };
    if !has(&parent, "cgroup.controllers") {
        return None;
    }
    if !has(&parent, "cgroup.subtree_control") {
        let leaf = parent.join(AGENT);
        drop(std::fs::create_dir(&leaf));
        std::fs::write(leaf.join("cgroup.procs"), std::process::id().to_string()).ok()?;
        // The processor's controller may be missing.
        let enabled = ["+memory +pids +cpu", "+memory +pids"];
        enabled.iter().find(|wanted| std::fs::write(parent.join("cgroup.subtree_control"), wanted).is_ok())?;
    }
    Some(Layer::Two { parent })
}

fn version_one(own: &str) -> Option<Layer> {
    let parents: Vec<(String, PathBuf)> = ["memory", "pids", "cpu"]
        .iter()
        .filter_map(|controller| {
            let path = own.lines().find_map(|line| {
                let (names, path) = line.split_once(':')?.1.split_once(':')?;
                names.split(',').any(|name| name == *controller).then_some(path)
            })?;
            let folder = Path::new(ROOT).join(controller).join(path.trim_start_matches('/'));
            folder.join("cgroup.procs").exists().then(|| ((*controller).to_owned(), folder))
        })
        .collect();
    with_memory(parents)
}

fn with_memory(parents: Vec<(String, PathBuf)>) -> Option<Layer> {
    let has_memory = parents.iter().any(|(controller, _)| controller == "memory");
    has_memory.then_some(Layer::One { parents })
}

/// Removes the groups whose maker lives no longer. Groups with a living process stay: removing them fails.
fn sweep(parent: &Path) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(is_orphan) {
            drop(std::fs::remove_dir(entry.path()));
        }
    }
}

/// The name says which process made it.
fn is_orphan(name: &str) -> bool {
    let maker = name.strip_prefix(NAME).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
    maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

/// The group of one connector, removed when it is dropped, which is after the end of its processes.
#[derive(Debug)]
pub(crate) struct Group {
    folders: Vec<PathBuf>,
}

impl Group {
    /// Takes in a process; what it starts from then on is inside.
    pub(super) fn take_in(&self, pid: i32) -> io::Result<()> {
        self.folders.iter().try_for_each(|folder| std::fs::write(folder.join("cgroup.procs"), pid.to_string()))
    }

    /// How often the kernel killed here because memory ran out.
    pub(crate) fn oom_kills(&self) -> u64 {
        let files = self
            .folders
            .iter()
            .flat_map(|folder| ["memory.events", "memory.oom_control"].map(|file| folder.join(file)));
        let counts = files.filter_map(|file| {
            let text = std::fs::read_to_string(file).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse::<u64>().ok()
        });
        counts.sum()
    }

    /// How often a process or thread was refused because there were too many.
    pub(crate) fn refused_processes(&self) -> u64 {
        let texts = self.folders.iter().filter_map(|folder| std::fs::read_to_string(folder.join("pids.events")).ok());
        let count = |text: String| text.lines().find_map(|line| line.strip_prefix("max "))?.trim().parse::<u64>().ok();
        texts.filter_map(count).sum()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.folders {
            for _ in 0..REMOVE_ROUNDS {
                match std::fs::remove_dir(folder) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => std::thread::sleep(REMOVE_EVERY),
                    _ => break,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { memory_bytes: 1 << 30, processes: 100, cpu_percent: Some(150) };

    #[test]
    fn each_version_has_its_own_files() {
        let text = |controller: &str| {
            let all = settings(controller, &BOUNDS).into_iter().map(|(file, value, _)| format!("{file}={value}"));
            all.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text("pids"), "pids.max=164");
        assert_eq!(text("cpu"), "cpu.cfs_quota_us=150000");
        assert!(text("memory").starts_with("memory.limit_in_bytes=1073741824 "));
        let two = text("");
        assert!(two.contains("memory.max=1073741824") && two.ends_with("cpu.max=150000 100000"), "{two}");
        assert!(settings("cpu", &Bounds { cpu_percent: None, ..BOUNDS }).is_empty());
    }

    #[test]
    fn refused_processes_are_counted_by_the_kernel() {
        let folder = tempfile::tempdir().expect("a folder");
        let group = Group { folders: vec![folder.path().to_owned(), PathBuf::from("/nowhere")] };
        assert_eq!(group.refused_processes(), 0, "no such file");
        for (text, count) in [("max 0\n", 0), ("max 3\n", 3), ("max.imposed 9\nmax 2\n", 2)] {
            std::fs::write(folder.path().join("pids.events"), text).expect("written");
            assert_eq!(group.refused_processes(), count);
        }
        std::fs::remove_file(folder.path().join("pids.events")).expect("removed");
    }

    #[test]
    fn a_host_without_any_has_none() {
        assert_eq!((version_two("4:memory:/x\n"), version_one("0::/nowhere\n")), (None, None));
        let cannot = Layer::One { parents: vec![("memory".to_owned(), PathBuf::from("/nowhere"))] };
        assert_eq!(cannot.proved(), Layer::None, "found is not enough");
        assert!(Layer::None.make(&BOUNDS).expect("nothing to make").is_none());
    }

    #[test]
    fn groups_go_once_their_maker_is_gone() {
        let mut maker = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let parent = tempfile::tempdir().expect("a folder");
        let path = |name: &str| parent.path().join(name);
        let group = format!("{NAME}{}-0badcafe", maker.id());
        for name in [group.as_str(), "inshore-agent", "another"] {
            std::fs::create_dir(path(name)).expect("made");
        }
        let stays = || {
            sweep(parent.path());
            path(&group).exists()
        };
        assert!(stays(), "its maker lives");
        drop(maker.stdin.take());
        maker.wait().expect("its end");
        // A process that has not left yet keeps it, as a file keeps a folder.
        let inside = path(&group).join("process");
        std::fs::write(&inside, "").expect("written");
        assert!(stays(), "a process is inside");
        std::fs::remove_file(&inside).expect("left");
        assert!(!stays());
        assert!(path("another").exists() && path("inshore-agent").exists());
    }

    /// Runs where the tests' own user may make groups; elsewhere there is nothing to bound.
    #[test]
    fn a_group_of_this_host_takes_in_a_process_and_goes() {
        let layer = Layer::find();
        println!("this host: {}", layer.text());
        let Some(group) = layer.make(&BOUNDS).expect("what was found works") else { return };
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        group.take_in(i32::try_from(child.id()).expect("a pid")).expect("taken in");
        let inside = std::fs::read_to_string(group.folders[0].join("cgroup.procs")).expect("its processes");
        assert_eq!(inside.trim(), child.id().to_string());
        assert_eq!(group.oom_kills(), 0);
        child.kill().and_then(|()| child.wait()).expect("killed");
        let folders = group.folders.clone();
        drop(group);
        assert!(folders.iter().all(|folder| !folder.exists()));
    }
}
