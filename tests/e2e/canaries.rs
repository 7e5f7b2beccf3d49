//! Nothing of the customer's leaves: 1,000 marked values in rows, keys, cursors and error texts, 20 marked secrets, and a
//! search for each in five spellings everywhere they must not be. A planted leak proves that the search finds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use inshore_tests::stack::{SYNC, Stack};
use inshore_tests::{process, shop, wait};

const VALUES: usize = 1_000;
const SECRETS: usize = 20;
const MARK: &str = "canary-";

/// Puts canaries into keys, values, column names, state, log lines, printed text and the text of an exception.
const CONNECTOR: &str = r#"
import time
from fivetran_connector_sdk import Connector, Logging as log, Operations as op

def schema(configuration):
    return [{"table": "people", "primary_key": ["email"]}]

def update(configuration, state):
    canaries = configuration["canaries"].split(",")
    for number, canary in enumerate(canaries):
        op.upsert("people", {"email": canary, "note": canary, "nested": {"deep": [canary]}, "secret": configuration["secret_3"]})
        if number % 100 == 99:
            op.checkpoint({"cursor": canary, "token": configuration["secret_4"]})
    log.info("seen " + canaries[0])
    print(canaries[1], flush=True)
    time.sleep(float(configuration["pause"]))
    if configuration["fail"] == "yes":
        raise RuntimeError("bad row " + canaries[2] + " with " + configuration["secret_5"])

connector = Connector(update=update, schema=schema)
"#;

fn canary(kind: &str, number: usize) -> String {
    format!("{MARK}{kind}-{:016x}", fastrand::Rng::with_seed(0xC0FFEE + number as u64).u64(..))
}

/// The spellings of one canary that a careless encoder could have sent.
fn spellings(canary: &str) -> Vec<Vec<u8>> {
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    let url: String = canary.bytes().map(|byte| format!("%{byte:02X}")).collect();
    // Base64 of a text inside other text has three alignments; the middle of each is free of its neighbours.
    let shifted = (0..3).map(|shift| {
        let padded = format!("{}{canary}", "x".repeat(shift));
        let text = engine.encode(padded);
        text.as_bytes()[4..text.len() - 4].to_vec()
    });
    let plain = [canary.as_bytes().to_vec(), hex::encode(canary).into_bytes(), url.into_bytes()];
    plain.into_iter().chain(shifted).collect()
}

/// What every canary's spelling begins with: a cheap first look.
fn marks() -> Vec<Vec<u8>> {
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    let url: String = MARK.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let shifted = (0..3).map(|shift| {
        let padded = format!("{}{MARK}", "x".repeat(shift));
        let whole_groups = padded.len() / 3 * 4;
        engine.encode(padded).as_bytes()[4..whole_groups].to_vec()
    });
    let plain = [MARK.as_bytes().to_vec(), hex::encode(MARK).into_bytes(), url.into_bytes()];
    plain.into_iter().chain(shifted).collect()
}

struct Search {
    needles: Vec<(String, Vec<u8>)>,
    marks: Vec<Vec<u8>>,
    searched: usize,
    hits: Vec<String>,
}

impl Search {
    fn new(canaries: &[String]) -> Self {
        let needles = canaries
            .iter()
            .flat_map(|canary| spellings(canary).into_iter().map(move |spelling| (canary.clone(), spelling)));
        Self { needles: needles.collect(), marks: marks(), searched: 0, hits: Vec::new() }
    }

    fn bytes(&mut self, place: &str, bytes: &[u8]) {
        self.searched += bytes.len();
        // Every canary begins alike, so each spelling has a mark: most places have none, and are passed over at once.
        if !self.marks.iter().any(|mark| contains(bytes, mark)) {
            return;
        }
        if let Some((canary, _)) = self.needles.iter().find(|(_, needle)| contains(bytes, needle)) {
            self.hits.push(format!("{canary} in {place}"));
        }
    }

    fn file(&mut self, path: &Path) {
        self.bytes(&path.display().to_string(), &std::fs::read(path).unwrap_or_default());
    }

    fn folder(&mut self, folder: &Path, skip: &dyn Fn(&Path) -> bool) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if skip(&path) {
                continue;
            }
            if path.is_dir() { self.folder(&path, skip) } else { self.file(&path) }
        }
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    let (first, rest) = needle.split_first().expect("a needle has bytes");
    let mut from = 0;
    while let Some(found) = bytes[from..].iter().position(|byte| byte == first) {
        let start = from + found + 1;
        if bytes[start..].starts_with(rest) {
            return true;
        }
        from = start;
    }
    false
}

/// Arguments and environments of every process of the stack while the job runs.
fn processes(search: &mut Search, roots: &[u32]) -> usize {
    let all: Vec<u32> = roots.iter().flat_map(|root| process::tree(*root)).collect();
    for pid in &all {
        search.file(&PathBuf::from(format!("/proc/{pid}/cmdline")));
        search.file(&PathBuf::from(format!("/proc/{pid}/environ")));
    }
    all.len()
}

#[test]
fn no_value_and_no_secret_leaves_its_job() {
    let values: Vec<String> = (0..VALUES).map(|number| canary("row", number)).collect();
    let secrets: Vec<String> = (0..SECRETS).map(|number| canary("secret", VALUES + number)).collect();
    let mut stack = Stack::start();
    let names: Vec<String> = (0..SECRETS).map(|number| format!("secret_{number}")).collect();
    let joined = values.join(",");
    let mut configuration: Vec<(&str, &str)> =
        names.iter().map(String::as_str).zip(secrets.iter().map(String::as_str)).collect();
    configuration.extend([("canaries", joined.as_str()), ("pause", "2"), ("fail", "no")]);
    let package = shop::zip(&[("connector.py", CONNECTOR)]);
    let succeeding = stack.connection(&package, &configuration);
    configuration.pop();
    configuration.push(("fail", "yes"));
    let failing = stack.connection_named("failing", &package, &configuration);
    let all: Vec<String> = values.iter().chain(&secrets).cloned().collect();
    let mut search = Search::new(&all);
    for (connection, expected) in [(&succeeding, "succeeded"), (&failing, "failed")] {
        let sync = stack.rest.sync(connection);
        wait::until("the connector's process", SYNC, || (stack.agent.tree().len() >= 3).then_some(()));
        let roots = [stack.control.id(), stack.agent.pid().expect("runs")];
        assert!(processes(&mut search, &roots) >= 4, "control plane, agent, job and connector");
        let run = stack.rest.wait(connection, &sync, SYNC);
        assert_eq!(run["status"], expected, "{run}");
        let reply = stack.rest.get(&format!("/v1/connections/{connection}"));
        search.bytes("a REST reply", reply.body.to_string().as_bytes());
        search.bytes("a REST reply", run.to_string().as_bytes());
    }
    let agent_state = stack.agent.dir.join("state");
    let ledger = std::fs::read_dir(agent_state.join("ledger")).expect("the ledger's folder").count();
    assert!(ledger > 0, "the ledger holds every upward frame in clear");
    search_everything(&mut search, &mut stack, &agent_state);
    println!("searched {} bytes for {} spellings of {} canaries", search.searched, search.needles.len(), all.len());
    assert!(search.hits.is_empty(), "{} hits:\n{}", search.hits.len(), search.hits.join("\n"));
    a_planted_leak_is_found(&all, &stack);
}

/// The ledger (decrypted upward frames), the control plane's database and log, the agent's log, inbox and outbox, and
/// what jobs left in the spool. The connector's own journal is the user's data and stays on the host: it is passed over.
fn search_everything(search: &mut Search, stack: &mut Stack, agent_state: &Path) {
    std::thread::sleep(Duration::from_millis(200));
    let journals = agent_state.join("logs");
    search.folder(&stack.control.state_dir(), &|_| false);
    search.folder(&stack.agent.dir, &|path| path == journals);
    search.bytes("the control plane's log", stack.control.output().as_bytes());
}

fn a_planted_leak_is_found(canaries: &[String], stack: &Stack) {
    for (number, spelling) in spellings(&canaries[7]).into_iter().enumerate() {
        let planted = stack.dir.path().join(format!("planted-{number}"));
        std::fs::create_dir(&planted).expect("a folder");
        let text = [b"{\"body\":\"".as_slice(), &spelling, b"\"}"].concat();
        std::fs::write(planted.join("frame.jsonl"), text).expect("a leak");
        let mut search = Search::new(canaries);
        search.folder(&planted, &|_| false);
        assert_eq!(search.hits.len(), 1, "spelling {number} was not found");
    }
}
