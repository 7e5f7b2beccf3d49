//! A process that does not outlive its test, with its output in a file that a failure can show.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints is appended to `log`.
    pub fn start(mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("the log opens");
        let output = file.try_clone().expect("the log is shared");
        let child = command.stdin(Stdio::null()).stdout(output).stderr(file).spawn();
        let child = child.unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
        Self { child, log: log.to_owned() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        gone_is_fine(kill_process(pid, signal));
    }

    /// SIGKILL, and reaped.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// The exit status once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let log = self.log.clone();
        let what = format!("the process whose log is {}", log.display());
        wait::until(&what, deadline, || self.ended())
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let output = self.output();
        if std::thread::panicking() {
            let tail: Vec<_> = output.lines().rev().take(60).collect();
            eprintln!("--- end of {}", self.log.display());
            for line in tail.into_iter().rev() {
                eprintln!("{line}");
            }
        } else {
            // Whatever a test is about: no process of ours ever panics.
            assert!(!output.contains("panicked at"), "{}: {output}", self.log.display());
        }
    }
}

/// Every process whose parent chain leads to `root`, itself included, read from /proc.
pub fn tree(root: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc lists").flatten() {
        let Some(pid) = entry.file_name().to_string_lossy().parse::<u32>().ok() else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let fields = stat.rsplit(')').next().unwrap_or_default();
        if let Some(parent) = fields.split_whitespace().nth(1).and_then(|field| field.parse::<u32>().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(
            parents
                .iter()
                .filter(|(pid, of)| *of == parent && !found.contains(pid))
                .map(|(pid, _)| *pid)
                .collect::<Vec<_>>(),
        );
        next += 1;
    }
    found
}

/// The words it was started with, each ended by a NUL; empty once it is gone.
pub fn command_line(pid: u32) -> String {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// Sends a signal to processes by number; those that are gone are passed over.
pub fn signal_all(pids: &[u32], signal: Signal) {
    for pid in pids {
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            gone_is_fine(kill_process(pid, signal));
        }
    }
}

/// A process that has just ended needs no signal.
fn gone_is_fine(sent: rustix::io::Result<()>) {
    if let Err(error) = sent {
        assert_eq!(error, rustix::io::Errno::SRCH, "a signal cannot be sent");
    }
}
