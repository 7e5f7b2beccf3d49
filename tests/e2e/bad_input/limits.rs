//! What runs out: memory, the destination's room, the spool, patience with output. Each ends by its code, and the next
//! good sync is exact.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use inshore_tests::stack::{SCHEMA, SYNC, Stack};
use inshore_tests::{oracle, process, shop, wait};
use serde_json::{Value, json};

use super::{PROLOGUE, page};

fn set_policy(stack: &Stack, lines: &str) {
    let file = stack.agent.dir.join("policy.toml");
    let policy = std::fs::read_to_string(&file).expect("the policy");
    let base = policy.split("[resources]").next().unwrap_or_default();
    std::fs::write(&file, format!("{base}[resources]\n{lines}\n")).expect("the policy");
}

fn run(stack: &Stack, connection: &str) -> Value {
    let sync = stack.rest.sync(connection);
    stack.rest.wait(connection, &sync, SYNC)
}

fn fails(stack: &Stack, connection: &str, code: &str, status: &str) {
    let run = run(stack, connection);
    assert_eq!(
        (&run["error"]["code"], &run["status"]),
        (&json!(code), &json!(status)),
        "{run}\n{}",
        stack.agent.output()
    );
    page(code);
}

/// Ten rows, a checkpoint, ten more; in between it eats, in one of three ways, until told not to.
const EATER: &str = r#"
import os, resource, subprocess, sys, time

HUNGRY = "import time; x = b'x' * (600 << 20); time.sleep(60)"

def eat(way):
    if way == "itself":
        x = b"x" * (600 << 20)
        time.sleep(60)
    elif way == "child":
        subprocess.run([sys.executable, "-c", HUNGRY])
    elif way == "waits":
        time.sleep(60)
    elif way == "rlimit":
        held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + (64 << 20), held + (64 << 20)))
        x = [b"x" * (1 << 20) for _ in range(1000)]

def schema(configuration):
    return [{"table": "t", "primary_key": ["id"]}]

def update(configuration, state):
    for number in range(state.get("next", 0), 20):
        if number == 10:
            op.checkpoint({"next": 10})
            eat(open(configuration["way"]).read())
        op.upsert("t", {"id": number})

connector = Connector(update=update, schema=schema)
"#;

#[test]
fn a_connector_that_runs_out_of_memory_says_so_and_loses_nothing() {
    let stack = Stack::start();
    set_policy(&stack, "connector_memory_bytes_max = \"300MiB\"");
    let zip = shop::zip(&[("connector.py", &format!("{PROLOGUE}{EATER}"))]);
    let way = stack.source().join("way");
    for (name, resident) in [("itself", true), ("child", true), ("rlimit", false)] {
        let connection = stack.connection_named(name, &zip, &[("way", &way.display().to_string())]);
        std::fs::write(&way, name).expect("what to do");
        fails(&stack, &connection, "SDK-004", "rescheduled");
        let said = stack.journal(&connection);
        assert!(said.contains(if resident { "the limit is" } else { "MemoryError" }), "{name}: {said}");
        std::fs::write(&way, "nothing").expect("what to do");
        stack.sync(&connection);
        assert_eq!(oracle::count(&stack.lake, name, "t"), 20, "{name}");
    }
    wait::until("every process of the connectors to be gone", Duration::from_secs(10), || {
        (stack.agent.tree().len() == 1).then_some(())
    });
}

#[test]
fn a_job_process_that_is_killed_is_tried_again_and_loses_nothing() {
    let stack = Stack::start();
    let zip = shop::zip(&[("connector.py", &format!("{PROLOGUE}{EATER}"))]);
    let way = stack.source().join("way");
    std::fs::write(&way, "waits").expect("what to do");
    let connection = stack.connection(&zip, &[("way", &way.display().to_string())]);
    let sync = stack.rest.sync(&connection);
    wait::until("the checkpoint", SYNC, || {
        let run = stack.rest.get(&format!("/v1/connections/{connection}/syncs/{sync}")).data();
        (run["checkpoints"].as_u64() >= Some(1)).then_some(())
    });
    let jobs: Vec<u32> = stack.agent.tree().into_iter().filter(|pid| is_job(*pid)).collect();
    assert_eq!(jobs.len(), 1, "one job process");
    process::signal_all(&jobs, rustix::process::Signal::KILL);
    let run = stack.rest.wait(&connection, &sync, SYNC);
    assert_eq!((&run["error"]["code"], &run["status"]), (&json!("AGT-005"), &json!("rescheduled")), "{run}");
    page("AGT-005");
    std::fs::write(&way, "nothing").expect("what to do");
    stack.sync(&connection);
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "t"), 20);
}

fn is_job(pid: u32) -> bool {
    process::command_line(pid).split('\0').nth(1) == Some("job")
}

/// A file system of its own over a folder, until dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(folder: &Path, size: &str) -> Self {
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], folder);
        Self(folder.to_owned())
    }

    fn remount(&self, how: &str) {
        mount(&["-o", &format!("remount,{how}")], &self.0);
    }

    /// Leaves this much room.
    fn fill(&self, free: u64) {
        let ballast = self.0.join("ballast");
        let disk = rustix::fs::statvfs(&self.0).expect("the disk");
        let bytes = (disk.f_bavail * disk.f_frsize).saturating_sub(free);
        std::fs::write(ballast, vec![0; usize::try_from(bytes).expect("fits")]).expect("the disk is filled");
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("there is room again");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

fn mount(arguments: &[&str], folder: &Path) {
    let output = Command::new("mount").args(arguments).arg(folder).output().expect("mount runs");
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "this test mounts a tmpfs and must run as root: {why}");
}

#[test]
fn a_destination_that_is_full_or_read_only_takes_the_next_sync_exactly() {
    let stack = Stack::start();
    let disk = Mount::new(&stack.lake, "16m");
    let (connection, database) = stack.shop(2_000, 7);
    // So little room that the chain, the data or the table's log is what does not fit.
    for (round, free) in [0_u64, 16 << 10, 48 << 10, 0].into_iter().enumerate() {
        disk.fill(free);
        fails(&stack, &connection, "DST-002", "rescheduled");
        disk.empty();
        if round % 2 == 1 {
            stack.sync(&connection);
            oracle::assert_exact(&stack.lake, SCHEMA, &database, "after the disk was full");
            shop::change(&database, 70 + u64::try_from(round).expect("small"));
        }
    }
    disk.remount("ro");
    fails(&stack, &connection, "DST-001", "failed");
    disk.remount("rw");
    stack.sync(&connection);
    oracle::assert_exact(&stack.lake, SCHEMA, &database, "after the disk was read-only");
}

#[test]
fn a_spool_that_is_full_fails_the_sync_and_a_larger_one_lets_it_through() {
    let stack = Stack::start();
    let database = shop::database(&stack.source());
    shop::generate(&database, 20_000, 11);
    // One window, so that it does not fit into the budget.
    let path = database.display().to_string();
    let connection = stack.connection(&shop::package(), &[("database", &path), ("checkpoint_rows", "1000000")]);
    set_policy(&stack, "memory_bytes_max = \"1MiB\"\nspool_bytes_max = \"64KiB\"");
    fails(&stack, &connection, "AGT-001", "rescheduled");
    let left = std::fs::read_dir(stack.agent.dir.join("spool")).expect("the spool").count();
    assert_eq!(left, 0, "a failed job leaves nothing in the spool");
    set_policy(&stack, "memory_bytes_max = \"1MiB\"");
    stack.sync(&connection);
    oracle::assert_exact(&stack.lake, SCHEMA, &database, "spilled");
}

/// 100 MB on both streams, half of it warnings, which pass every count.
const FLOOD: &str = r#"
import json, sys

def update(configuration, state):
    op.upsert("t", {"id": 1})
    plain = "x" * 65000
    warning = json.dumps({"level": "WARNING", "message": "y" * 60000})
    for _ in range(400):
        print(plain)
        print(plain, file=sys.stderr)
        print(warning)
        print(warning, file=sys.stderr)
    op.upsert("t", {"id": 2})

def schema(configuration):
    return [{"table": "t", "primary_key": ["id"]}]

connector = Connector(update=update, schema=schema)
"#;

#[test]
fn a_connector_that_floods_its_output_costs_neither_memory_nor_disk() {
    let stack = Stack::start();
    let connection = stack.connection(&shop::zip(&[("connector.py", &format!("{PROLOGUE}{FLOOD}"))]), &[]);
    let sync = stack.rest.sync(&connection);
    let (mut agent, mut job) = (0, 0);
    let run = wait::until("the flood to end", SYNC, || {
        let tree = stack.agent.tree();
        let (first, others) = tree.split_first()?;
        agent = peak_bytes(*first).max(agent);
        let jobs = others.iter().filter(|pid| is_job(**pid));
        job = jobs.map(|pid| peak_bytes(*pid)).max().unwrap_or_default().max(job);
        let run = stack.rest.get(&format!("/v1/connections/{connection}/syncs/{sync}")).data();
        (!["queued", "running"].contains(&run["status"].as_str().unwrap_or_default())).then_some(run)
    });
    assert_eq!(run["status"], "succeeded", "{run}");
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "t"), 2);
    println!("flood: agent {} MiB, job {} MiB at most", agent >> 20, job >> 20);
    assert!(agent > 0 && job > 0, "both were seen");
    assert!(agent <= 80 << 20 && job <= 256 << 20, "agent {agent}, job {job} bytes");
    let journals: Vec<u64> = std::fs::read_dir(stack.agent.dir.join("state/logs"))
        .expect("the journals")
        .map(|entry| entry.and_then(|entry| entry.metadata()).expect("a journal").len())
        .collect();
    // Each is closed by the first line that passes 16 MiB.
    assert!(journals.iter().all(|bytes| *bytes <= 17 << 20) && journals.len() <= 2, "{journals:?}");
    assert!(journals.iter().sum::<u64>() > 16 << 20, "the flood came through: {journals:?}");
    assert!(stack.agent.output().len() < 1 << 20, "the agent's own log stays small");
}

/// The most memory that a process held; none once it is gone.
fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Names that mean something to file systems, to SQL or to nobody.
const NAMES: &str = r#"
def schema(configuration):
    return [{"table": configuration["name"], "primary_key": ["id"]}]

def update(configuration, state):
    name = configuration["name"]
    op.upsert(name, {"id": 1, name + "x": "a\0b", "\0": "zero", "../up": 1, "": 2, "n" * 400: 3})

connector = Connector(update=update, schema=schema)
"#;

#[test]
fn names_with_bytes_that_no_file_system_takes_stay_inside_the_lake() {
    let stack = Stack::start();
    let zip = shop::zip(&[("connector.py", &format!("{PROLOGUE}{NAMES}"))]);
    let outside = || {
        let folder = std::fs::read_dir(stack.dir.path()).expect("the folder");
        folder.map(|entry| entry.expect("an entry").file_name()).collect::<std::collections::BTreeSet<_>>()
    };
    let before = outside();
    for (number, name) in ["a\0b", "../../up", "..", "/etc/x", "", "ü 'q\" ;--", "con\n"].iter().enumerate() {
        let connection = stack.connection_named(&format!("names_{number}"), &zip, &[("name", name)]);
        let run = run(&stack, &connection);
        let code = run["error"]["code"].as_str().unwrap_or_default();
        println!("names: {name:?}: {} {code}", run["status"]);
        assert!(run["status"] == "succeeded" || ["SDK-013", "SDK-001", "SDK-008"].contains(&code), "{name:?}: {run}");
    }
    assert_eq!(outside(), before, "nothing is written outside the lake");
}
