//! Bad input at full size: each sync ends in a typed failure or in correct rows, the job's memory stays bounded, and the next
//! sync works. The long tier (`./dev prove attacks`) takes the sizes that a hostile source would.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use inshore_tests::stack::{SCHEMA, SYNC, Stack};
use inshore_tests::{oracle, process, prove, shop, wait};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(1200);
const MIB: u64 = 1 << 20;
/// What a job may hold, whatever its connector sends: the budget of a window, and what sealing needs beside it.
const JOB_BYTES_MAX: u64 = 1024 * MIB;

/// What a sync came to, how long it took, and the peak of resident memory of its job process.
struct Measured {
    run: Value,
    seconds: f64,
    job_bytes: u64,
}

fn sized(long: u64, short: u64) -> u64 {
    if prove() { long } else { short }
}

fn connector(body: &str) -> Vec<u8> {
    let head = "import os, signal, socket, stat, sys, threading, time\n\
                from fivetran_connector_sdk import Connector, Logging as log, Operations as op\n";
    shop::zip(&[("connector.py", &format!("{head}{body}\nconnector = Connector(update=update, schema=schema)\n"))])
}

const KEYED: &str = "def schema(configuration):\n    return [{'table': 'seen', 'primary_key': ['id']}]\n";

fn measure(stack: &Stack, connection: &str) -> Measured {
    let began = Instant::now();
    let sync = stack.rest.sync(connection);
    let mut peaks: BTreeMap<u32, u64> = BTreeMap::new();
    let run = wait::until("the sync to end", LONG, || {
        for pid in stack.agent.tree() {
            if process::command_line(pid).split('\0').nth(1) == Some("job") {
                let peak = peaks.entry(pid).or_default();
                *peak = (*peak).max(peak_bytes(pid));
            }
        }
        let run = stack.rest.get(&format!("/v1/connections/{connection}/syncs/{sync}")).data();
        (!["queued", "running"].contains(&run["status"].as_str().unwrap_or_default())).then_some(run)
    });
    let job_bytes = peaks.values().max().copied().unwrap_or_default();
    Measured { run, seconds: began.elapsed().as_secs_f64(), job_bytes }
}

/// A connector that reads what to do from a file of its host, anew with every sync: `configuration['order']` names it.
struct Ordered {
    stack: Stack,
    file: PathBuf,
    connection: String,
}

impl Ordered {
    fn start(body: &str) -> Self {
        let stack = Stack::start();
        let file = stack.source().join("order");
        let connection = stack.connection(&connector(body), &[("order", &file.display().to_string())]);
        Self { stack, file, connection }
    }

    fn order(&self, order: impl ToString) {
        std::fs::write(&self.file, order.to_string()).expect("an order");
    }

    /// The sync that does it.
    fn measure(&self, order: impl ToString) -> Measured {
        self.order(order);
        measure(&self.stack, &self.connection)
    }
}

fn peak_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
}

fn told(what: &str, measured: &Measured) {
    let Measured { run, seconds, job_bytes } = measured;
    println!("{what}: {} {} in {seconds:.1} s, job {} MiB", run["status"], run["error"]["code"], job_bytes / MIB);
    assert!(*job_bytes < JOB_BYTES_MAX, "{what}: {job_bytes} bytes");
}

fn folder_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn lines_without_end_are_bounded_everywhere() {
    let stack = Stack::start();
    let body = format!(
        "{KEYED}
def update(configuration, state):
    op.upsert('seen', {{'id': 1}})
    for number in range(int(configuration['lines'])):
        print('line', number, 'of a connector that says too much')
        if number % 1000 == 0:
            log.warning(f'warning {{number}}')
    print('x' * 10_000_000)
    op.checkpoint({{}})
    log.warning('the last word')
"
    );
    let lines = sized(10_000_000, 100_000);
    let connection = stack.connection(&connector(&body), &[("lines", &lines.to_string())]);
    let measured = measure(&stack, &connection);
    told(&format!("{lines} lines"), &measured);
    assert_eq!(measured.run["status"], "succeeded", "{}", measured.run);
    let journals = folder_bytes(&stack.agent.dir.join("state/logs"));
    let rows = oracle::count(&stack.lake, "inshore_log", "connector_sdk_log");
    println!("{lines} lines: {} MiB of journals, {rows} rows", journals / MIB);
    assert!(journals < 34 * MIB, "{journals}");
    assert!((lines / 1000..=21_000).contains(&rows), "{rows}");
    assert!(stack.journal(&connection).contains("the last word"));
    stack.sync(&connection);
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "seen"), 1);
}

#[test]
fn wide_rows_and_long_keys_arrive() {
    let stack = Stack::start();
    let body = "
def schema(configuration):
    return [{'table': 'wide', 'primary_key': ['id']}, {'table': 'long', 'primary_key': ['id']}]

def update(configuration, state):
    for row in range(int(configuration['wide'])):
        op.upsert('wide', {'id': row, **{f'c{i}': row + i for i in range(9_999)}})
    op.checkpoint({'at': 'wide'})
    for row in range(int(configuration['long'])):
        op.upsert('long', {'id': 'k' * 10_000 + str(row), 'row': row})
    op.checkpoint({'at': 'long'})
";
    let (wide, long) = (sized(200, 3), sized(50_000, 1_000));
    let connection = stack.connection(&connector(body), &[("wide", &wide.to_string()), ("long", &long.to_string())]);
    for turn in 0..2 {
        let measured = measure(&stack, &connection);
        told(&format!("{wide} rows of 10,000 columns, {long} keys of 10 kB, sync {turn}"), &measured);
        assert_eq!(measured.run["status"], "succeeded", "{}", measured.run);
    }
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "wide"), wide);
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "long"), long);
}

#[test]
fn tables_and_columns_without_end_are_a_typed_failure() {
    let ordered = Ordered::start(&format!(
        "{KEYED}
def update(configuration, state):
    op.upsert('seen', {{'id': 1}})
    op.checkpoint({{}})
    with open(configuration['order']) as file:
        what = file.read()
    for number in range(1_000_000):
        if what == 'tables':
            op.upsert(f'many_{{number}}', {{'id': number}})
        elif what == 'columns':
            op.upsert('seen', {{'id': number, f'column_{{number}}': number}})
        elif number < int(what or 0):
            op.upsert(f'many_{{number}}', {{'id': number}})
"
    ));
    let Ordered { stack, connection, .. } = &ordered;
    for endless in ["tables", "columns"] {
        let measured = ordered.measure(endless);
        told(&format!("a million {endless}"), &measured);
        assert_eq!(measured.run["error"]["code"], "SDK-023", "{}\n{}", measured.run, stack.journal(connection));
    }
    let tables = sized(3_000, 30);
    let measured = ordered.measure(tables);
    told(&format!("{tables} tables"), &measured);
    assert_eq!(measured.run["status"], "succeeded", "{}", measured.run);
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "many_7"), 1);
    assert_eq!(oracle::count(&stack.lake, SCHEMA, "seen"), 1);
}

/// Random bytes on the job's socket, with and without the look of a frame.
#[test]
fn garbage_on_the_jobs_socket_is_a_typed_failure() {
    let ordered = Ordered::start(&format!(
        "{KEYED}
def update(configuration, state):
    import random, struct
    op.upsert('seen', {{'id': 1}})
    op.checkpoint({{}})
    seed = int(open(configuration['order']).read())
    if seed < 0:
        return
    chance = random.Random(seed)
    noise = chance.randbytes(chance.randrange(1, 100_000))
    kinds = [bytes([kind]) + noise[: chance.randrange(200)] for kind in range(20)]
    frames = b''.join(struct.pack('<I', len(frame)) + frame for frame in chance.sample(kinds, 5))
    text = [noise, frames, struct.pack('<I', 0), struct.pack('<I', 2**32 - 1) + noise, struct.pack('<I', 60 << 20) + noise][seed % 5]
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, text)
        except OSError:
            pass
    os._exit(0)
"
    ));
    let mut codes: BTreeMap<String, u64> = BTreeMap::new();
    for number in 0..sized(100, 10) {
        let measured = ordered.measure(number);
        let code = measured.run["error"]["code"].as_str().unwrap_or_default().to_owned();
        assert!(["SDK-003", "SDK-015"].contains(&code.as_str()), "seed {number}: {}", measured.run);
        assert!(measured.job_bytes < JOB_BYTES_MAX, "seed {number}: {} bytes", measured.job_bytes);
        *codes.entry(code).or_default() += 1;
    }
    println!("garbage: {codes:?}");
    ordered.order(-1);
    ordered.stack.sync(&ordered.connection);
    assert_eq!(oracle::count(&ordered.stack.lake, SCHEMA, "seen"), 1);
}

/// Signals that a process may ignore end nothing; a cancel does, with everything the connector has started.
#[test]
fn a_connector_that_ignores_signals_is_cancelled_and_leaves_no_process() {
    let ordered = Ordered::start(&format!(
        "{KEYED}
def ignore():
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError, RuntimeError):
            pass

def update(configuration, state):
    op.upsert('seen', {{'id': 1}})
    op.checkpoint({{}})
    if open(configuration['order']).read() == 'well':
        threading.Thread(target=time.sleep, args=(600,)).start()
        return
    ignore()
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                ignore()
                time.sleep(600)
            os._exit(0)
    time.sleep(600)
"
    ));
    let Ordered { stack, connection, .. } = &ordered;
    ordered.order("badly");
    let sync = stack.rest.sync(connection);
    wait::until("the checkpoint", SYNC, || {
        let run = stack.rest.get(&format!("/v1/connections/{connection}/syncs/{sync}")).data();
        (run["checkpoints"].as_u64() >= Some(1)).then_some(())
    });
    let reply = stack.rest.post(&format!("/v1/connections/{connection}/syncs/{sync}/cancel"), &json!({}));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let run = stack.rest.wait(connection, &sync, Duration::from_secs(70));
    assert_eq!(run["status"], "cancelled", "{run}");
    let alone = || (stack.agent.tree().len() == 1).then_some(());
    wait::until("every process of the job to be gone", Duration::from_secs(10), alone);
    // A thread that never ends does not hold the sync up.
    let measured = ordered.measure("well");
    assert_eq!(measured.run["status"], "succeeded", "{}", measured.run);
    assert!(measured.seconds < 30.0, "{} s", measured.seconds);
    wait::until("every process of the job to be gone", Duration::from_secs(10), alone);
}
