//! The agent's side of a job process, against scripted processes at the other end of the real socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::job::spec::wire::{Code, OutcomeResult};
use tokio::sync::{mpsc, watch};

use super::{Launch, run};
use crate::context::{Progress, Stop};
use crate::fixture;
use crate::job::fixture::request;
use crate::job::link::Request;
use crate::job::outcome::{self, Outcome};
use crate::report::{self, Labels};
use crate::tasks;

/// A wait that should be over at once.
const SOON: Duration = Duration::from_secs(20);

const PRELUDE: &str = r#"
import json, os, socket, struct, time
line = socket.socket(fileno=0)
def take(count):
    data = b""
    while len(data) < count:
        more = line.recv(count - len(data))
        if not more: os._exit(7)
        data += more
    return data
def receive(): return json.loads(take(struct.unpack("<I", take(4))[0]))
def send(message):
    body = json.dumps(message).encode()
    line.sendall(struct.pack("<I", len(body)) + body)
def outcome(**changes): send({"kind": "outcome", "outcome": {**OUTCOME, **changes}})
def note(name):
    with open(os.path.join(FOLDER, name), "w") as file: file.write(str(os.getpid()))
"#;

struct Scene {
    folder: tempfile::TempDir,
    stop: watch::Sender<Stop>,
}

impl Scene {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), stop: watch::Sender::new(Stop::No) }
    }

    fn launch(&self, script: &str) -> Launch {
        let attempt = fixture::spec("job_1", 3).job_ref();
        let template = serde_json::to_string(&outcome::stopped(&attempt, Stop::Drain, 1, 2)).expect("JSON");
        let values = format!("\nOUTCOME = json.loads({template:?})\nFOLDER = {:?}\n", self.folder.path());
        Launch {
            executable: PathBuf::from("python3"),
            arguments: ["-ISc".to_owned(), format!("{PRELUDE}{values}{script}")].map(Into::into).to_vec(),
            cancel_grace: Duration::from_millis(300),
        }
    }

    fn request(&self) -> Request {
        let request = request(self.folder.path());
        std::fs::create_dir_all(request.scratch_dir.join("project")).expect("a scratch folder");
        request
    }

    async fn run(&self, script: &str) -> Outcome {
        let (progress, _frames) = mpsc::channel(1);
        let launch = self.launch(script);
        let ended = run(&launch, self.request(), self.stop.subscribe(), progress);
        let outcome = tokio::time::timeout(SOON, ended).await.expect("every job ends in an outcome");
        assert!(!self.folder.path().join("scratch").exists(), "the scratch folder is removed");
        outcome
    }

    /// The pid that the script noted under `name`.
    async fn noted(&self, name: &str) -> u32 {
        let path = self.folder.path().join(name);
        let pid = || std::fs::read_to_string(&path).ok()?.parse().ok();
        tokio::time::timeout(SOON, until(|| pid().is_some())).await.expect("noted");
        pid().expect("a pid")
    }

    async fn stop_when(&self, name: &str, how: Stop) {
        self.noted(name).await;
        self.stop.send_replace(how);
    }
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn died(outcome: &Outcome) -> bool {
    matches!(outcome.result, OutcomeResult::Failed { failure } if failure.code == Code::JobDied)
}

#[tokio::test]
async fn the_outcome_that_a_job_tells_is_its_outcome() {
    let outcome = Scene::new().run("receive()\noutcome(result={'status': 'succeeded'}, bytes=42)").await;
    assert_eq!((outcome.result, outcome.bytes), (OutcomeResult::Succeeded, 42));
}

#[tokio::test]
async fn a_job_without_an_outcome_has_died() {
    let scripts = [
        ("ends", "receive()"),
        ("ends before it hears its request", "os._exit(1)"),
        ("sends what is no message", "receive()\nline.sendall(b'\\x05\\x00\\x00\\x00hello')\nline.recv(1)"),
        ("announces more than a message may hold", "receive()\nline.sendall(b'\\xff' * 8)\nline.recv(1)"),
        ("stops in the middle of its outcome", "receive()\nline.sendall(b'\\x50\\x00\\x00\\x00{')"),
    ];
    for (name, script) in scripts {
        let outcome = Scene::new().run(script).await;
        assert!(died(&outcome), "{name}: {outcome:?}");
        assert_eq!((outcome.job_id.as_str(), outcome.generation), ("job_1", 3), "{name}");
    }
}

#[tokio::test]
async fn drain_and_cancel_reach_the_job() {
    for (how, kind, status) in [(Stop::Drain, "drain", "drained"), (Stop::Cancel, "cancel", "cancelled")] {
        let scene = Scene::new();
        let script = format!(
            "receive()\nnote('ready')\nkind = receive()['kind']\nassert kind == {kind:?}, kind\n\
             outcome(result={{'status': {status:?}}}, checkpoints=5)"
        );
        let (outcome, ()) = tokio::join!(scene.run(&script), scene.stop_when("ready", how));
        assert_eq!(outcome.checkpoints, 5, "{kind}: the job's own outcome counts, {outcome:?}");
    }
}

#[tokio::test]
async fn a_job_that_hangs_on_cancel_is_killed_after_the_grace() {
    let scene = Scene::new();
    let script = "receive()\nnote('ready')\ntime.sleep(600)";
    let (outcome, pid) = tokio::join!(scene.run(script), async {
        let pid = scene.noted("ready").await;
        scene.stop.send_replace(Stop::Cancel);
        pid
    });
    assert_eq!(outcome.result, OutcomeResult::Cancelled);
    assert!(!lives(pid), "the process is gone when its outcome is known");
}

#[tokio::test]
async fn a_job_that_never_reads_its_request_is_killed_after_a_cancel() {
    let scene = Scene::new();
    let (progress, _frames) = mpsc::channel(1);
    let mut request = scene.request();
    request.configuration.push(("large".to_owned(), "x".repeat(8 << 20)));
    let launch = scene.launch("note('ready')\ntime.sleep(600)");
    let running = tokio::time::timeout(SOON, run(&launch, request, scene.stop.subscribe(), progress));
    let (outcome, ()) = tokio::join!(running, scene.stop_when("ready", Stop::Cancel));
    assert_eq!(outcome.expect("ends").result, OutcomeResult::Cancelled);
}

#[tokio::test]
async fn an_outcome_counts_even_when_the_job_hears_nothing_any_more() {
    let scene = Scene::new();
    let script = "receive()\nline.shutdown(socket.SHUT_RD)\nnote('deaf')\ntime.sleep(0.3)\n\
                  outcome(result={'status': 'succeeded'})";
    let (outcome, ()) = tokio::join!(scene.run(script), scene.stop_when("deaf", Stop::Drain));
    assert_eq!(outcome.result, OutcomeResult::Succeeded);
}

#[tokio::test]
async fn a_job_speaks_for_itself_only() {
    let scene = Scene::new();
    let frame = |job: &str, generation| {
        let attempt = fixture::spec(job, generation).job_ref();
        let frame = report::progress(&Labels::Names, &attempt, &Progress::default());
        serde_json::to_string(&frame).expect("JSON")
    };
    let script = format!(
        "receive()\nfor frame in ({:?}, {:?}, {:?}): send({{'kind': 'progress', 'progress': json.loads(frame)}})\n\
         outcome(job_id='job_2', generation=9)",
        frame("job_2", 3),
        frame("job_1", 9),
        frame("job_1", 3),
    );
    let (progress, mut frames) = mpsc::channel(8);
    let outcome = run(&scene.launch(&script), scene.request(), scene.stop.subscribe(), progress).await;
    assert_eq!((outcome.job_id.as_str(), outcome.generation), ("job_1", 3));
    let frame = frames.recv().await.expect("its own frame");
    assert_eq!((frame.job_id.as_str(), frame.generation), ("job_1", 3));
    assert!(frames.recv().await.is_none(), "frames in another job's name are dropped");
}

#[tokio::test]
async fn an_aborted_job_leaves_no_process() {
    let scene = Scene::new();
    let (launch, request, stops) =
        (scene.launch("receive()\nnote('ready')\ntime.sleep(600)"), scene.request(), scene.stop.subscribe());
    let task = tasks::spawn("job", async move { run(&launch, request, stops, mpsc::channel(1).0).await });
    let pid = scene.noted("ready").await;
    assert!(lives(pid));
    task.abort();
    assert!(task.await.expect_err("no outcome comes of an abort").is_cancelled());
    tokio::time::timeout(SOON, until(|| !lives(pid))).await.expect("killed");
}
