//! A control plane that repeats, reorders and breaks what it sends, against the real agent: every offer is executed once,
//! every broken frame ends its session with a reason, and the agent comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use inshore_protocol::{
    Base64Bytes, DestinationKind, DestinationSpec, Down, Inference, JobKind, JobRef, JobSpec, Naming, OutcomeResult,
    PackageDigest, PackageRef, Resources, SecretEntry, SecretValue, TableOptions, Trigger, Up,
};
use inshore_tests::agent::{self, Agent};
use inshore_tests::scripted::{AGENT, Peer, Scripted};
use inshore_tests::{oracle, seed, shop, wait};
use inshore_trust::PublicKey;
use sha2::{Digest as _, Sha256};
use tokio_tungstenite::tungstenite::Message;

/// Says that it runs, then lands one row.
const CONNECTOR: &str = r#"
from fivetran_connector_sdk import Connector, Logging as log, Operations as op

def schema(configuration):
    return [{"table": "t", "primary_key": ["id"]}]

def update(configuration, state):
    log.info("executed " + configuration["mark"])
    op.upsert("t", {"id": 1})
    op.checkpoint({"done": True})

connector = Connector(update=update, schema=schema)
"#;

/// The generation that is offered first; repeats of the one before come late.
const GENERATION: u64 = 2;

struct Scene {
    control: Scripted,
    identity: PublicKey,
    agent: Agent,
    zip: Vec<u8>,
    lake: PathBuf,
    dir: tempfile::TempDir,
}

impl Scene {
    /// An enrolled, running agent that dials the scripted control plane.
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let control = Scripted::start(dir.path());
        let (folder, lake) = (dir.path().join("agent"), dir.path().join("lake"));
        agent::write_settings(control.ca_file(), &folder, &lake);
        let settings = std::fs::read_to_string(folder.join("agent.toml")).expect("settings");
        std::fs::write(folder.join("agent.toml"), format!("jobs_max = 32\n{settings}")).expect("settings");
        let policy = std::fs::read_to_string(folder.join("policy.toml")).expect("the policy");
        std::fs::write(
            folder.join("policy.toml"),
            format!("{policy}[resources]\njobs_max = 32\nconnectors_memory_percent = 1000\n"),
        )
        .expect("policy");
        agent::write_secret(&folder.join("token"), &control.token());
        let identity = thread::scope(|scope| {
            let enrolling = scope.spawn(|| agent::enrol(&folder, &folder.join("token")));
            let identity = control.enrol();
            let output = enrolling.join().expect("inshore enrol");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            identity
        });
        let mut agent = Agent::enrolled(&folder, AGENT);
        agent.launch();
        let scene = Self { control, identity, agent, zip: shop::zip(&[("connector.py", CONNECTOR)]), lake, dir };
        for job in 0..JOBS {
            agent::write_secret(&scene.mark(job), &format!("job {job}."));
        }
        scene
    }

    fn accept(&self) -> Peer {
        self.control.accept(&self.identity)
    }

    fn digest(&self) -> PackageDigest {
        PackageDigest::from_sha256(&Sha256::digest(&self.zip).into())
    }

    /// The secret that a job's connector says.
    fn mark(&self, job: usize) -> PathBuf {
        self.dir.path().join(format!("agent/mark-{job}"))
    }

    /// How often a job's connector ran.
    fn executions(&self, job: usize) -> usize {
        agent::journal(&self.agent.dir, &format!("con_{job}")).matches(&format!("executed job {job}.")).count()
    }

    fn spec(&self, job: usize, generation: u64) -> JobSpec {
        let reference = format!("${{file:{}}}", self.mark(job).display());
        JobSpec {
            job_id: format!("job_{job}").parse().expect("an id"),
            generation,
            connection_id: format!("con_{job}").parse().expect("an id"),
            group_id: "grp_1".parse().expect("an id"),
            kind: JobKind::Sync,
            trigger: Trigger::Request,
            connection_name: format!("shop_{job}"),
            package: PackageRef { digest: self.digest(), bytes: u64::try_from(self.zip.len()).expect("small") },
            python_version: None,
            inference: Inference::default(),
            egress: None,
            resources: Resources::default(),
            type_locked: false,
            schema: None,
            naming: Naming::Fivetran,
            destination: DestinationSpec {
                kind: DestinationKind::InshoreFiles,
                destination_id: "dst_1".parse().expect("an id"),
                uri: format!("file://{}", self.lake.display()),
                tables: TableOptions::default(),
            },
            configuration: vec![SecretEntry { key: "mark".to_owned(), value: SecretValue::Reference { reference } }],
            environment: Vec::new(),
            resync: false,
            resync_scope: None,
            run_ms_max: None,
        }
    }

    /// Gives the package where it is asked for.
    fn relay(&self, peer: &mut Peer, message: &Up) {
        if let Up::PackageWanted { digest, offset } = message {
            assert_eq!(*digest, self.digest());
            let from = usize::try_from(*offset).expect("small");
            let data = Base64Bytes(self.zip[from..].to_vec());
            let total_bytes = u64::try_from(self.zip.len()).expect("small");
            peer.send(&Down::PackageChunk { digest: digest.clone(), offset: *offset, total_bytes, data });
        }
    }
}

/// What the agent said of the jobs, over all sessions.
#[derive(Default)]
struct Answers {
    /// Places in the outbox, by job: a repeat has the same one.
    accepted: BTreeMap<JobRef, BTreeSet<u64>>,
    outcomes: BTreeMap<JobRef, BTreeSet<u64>>,
    refused: BTreeMap<JobRef, u64>,
    answers: u64,
    newest_seq: u64,
}

impl Answers {
    fn take(&mut self, message: &Up) {
        self.newest_seq = self.newest_seq.max(message.outbox_seq().unwrap_or(0));
        match message {
            Up::Accepted { outbox_seq, job_id, generation } => {
                let job = JobRef { job_id: job_id.clone(), generation: *generation };
                self.accepted.entry(job).or_default().insert(*outbox_seq);
                self.answers += 1;
            }
            Up::Outcome(outcome) => {
                assert_eq!(outcome.result, OutcomeResult::Succeeded, "{outcome:?}");
                let job = JobRef { job_id: outcome.job_id.clone(), generation: outcome.generation };
                self.outcomes.entry(job).or_default().insert(outcome.outbox_seq);
                self.answers += 1;
            }
            Up::Refused { job_id, generation, .. } => {
                let job = JobRef { job_id: job_id.clone(), generation: *generation };
                *self.refused.entry(job).or_default() += 1;
                self.answers += 1;
            }
            _ => {}
        }
    }
}

const JOBS: usize = 50;
const DELIVERIES: usize = 20;
const SESSIONS: usize = 6;

/// 20 deliveries of each of 50 jobs, shuffled over the sessions. The first of each job is the newest generation; a fifth
/// of the others are of the one before.
fn deliveries(random: &mut fastrand::Rng) -> Vec<Vec<(usize, u64)>> {
    let mut sessions = vec![Vec::new(); SESSIONS];
    for job in 0..JOBS {
        // Ten new jobs a session, so that the host is not asked to run fifty at once.
        let first = job * (SESSIONS - 1) / JOBS;
        sessions[first].push((job, GENERATION));
        for _ in 1..DELIVERIES {
            let generation = if random.u8(..5) == 0 { GENERATION - 1 } else { GENERATION };
            sessions[random.usize(first..SESSIONS)].push((job, generation));
        }
    }
    for session in &mut sessions {
        random.shuffle(session);
    }
    let mut seen = BTreeSet::new();
    for delivery in sessions.iter_mut().flatten() {
        if seen.insert(delivery.0) {
            delivery.1 = GENERATION;
        }
    }
    sessions
}

#[test]
fn a_thousand_repeated_and_reordered_offers_are_fifty_executions() {
    let scene = Scene::start();
    let mut random = fastrand::Rng::with_seed(seed());
    let sessions = deliveries(&mut random);
    let offers: usize = sessions.iter().map(Vec::len).sum();
    let (mut answers, mut offered) = (Answers::default(), BTreeSet::new());
    for (number, session) in sessions.iter().enumerate() {
        let mut peer = scene.accept();
        for (job, generation) in session {
            offered.insert(*job);
            peer.send(&Down::Offer { job: Box::new(scene.spec(*job, *generation)) });
            if random.bool() {
                hear(&scene, &mut peer, &mut answers);
            }
        }
        // Answers come in the order of the offers: after this one, every offer of the session was dealt with.
        peer.send(&Down::WantFullState);
        wait::until("the session's answers", Duration::from_secs(60), || {
            let message = peer.heard()?;
            answers.take(&message);
            scene.relay(&mut peer, &message);
            matches!(message, Up::FullState(_)).then_some(())
        });
        wait::until("the acceptance of every job", Duration::from_secs(60), || {
            (answers.accepted.len() == offered.len()).then_some(()).or_else(|| {
                hear(&scene, &mut peer, &mut answers);
                None
            })
        });
        // Every other session is dropped while its jobs run; what was said is acknowledged in some only.
        if number % 2 == 1 {
            wait::until("the outcome of every job that was offered", Duration::from_secs(150), || {
                hear(&scene, &mut peer, &mut answers);
                (answers.outcomes.len() == offered.len()).then_some(())
            });
            peer.send(&Down::OutboxAck { seq: answers.newest_seq });
        }
    }
    println!(
        "hostile: {offers} offers in {SESSIONS} sessions, {} answers, {} accepted, {} outcomes, {} stale refused",
        answers.answers,
        answers.accepted.len(),
        answers.outcomes.len(),
        answers.refused.values().sum::<u64>()
    );
    assert_eq!((offers, answers.outcomes.len()), (JOBS * DELIVERIES, JOBS));
    assert!(answers.accepted.values().chain(answers.outcomes.values()).all(|seqs| seqs.len() == 1), "one place each");
    assert!(answers.accepted.keys().chain(answers.outcomes.keys()).all(|job| job.generation == GENERATION));
    assert!(answers.refused.keys().all(|job| job.generation < GENERATION), "{:?}", answers.refused);
    for job in 0..JOBS {
        assert_eq!(scene.executions(job), 1, "job {job} ran once");
    }
    let log = scene.agent.output();
    assert_eq!(log.matches("job accepted").count(), JOBS, "one start for each job");
    assert_eq!(oracle::count(&scene.lake, "shop_0", "t"), 1);
    assert_eq!(oracle::count(&scene.lake, &format!("shop_{}", JOBS - 1), "t"), 1);
}

fn hear(scene: &Scene, peer: &mut Peer, answers: &mut Answers) {
    if let Some(message) = peer.heard() {
        answers.take(&message);
        scene.relay(peer, &message);
    }
}

#[test]
fn frames_that_are_no_messages_end_the_session_with_a_reason_and_the_agent_comes_back() {
    let scene = Scene::start();
    let mut peer = scene.accept();
    // Kinds of the future have no effect, however many there are.
    for number in 0..100 {
        peer.send_bytes(format!(r#"{{"kind":"from_the_future_{number}","x":[1,{{}}]}}"#).as_bytes());
    }
    peer.send(&Down::WantFullState);
    assert!(matches!(peer.next_message(), Up::FullState(_)), "the session lives");
    let mut random = fastrand::Rng::with_seed(seed());
    let noise: Vec<u8> = (0..200).map(|_| random.u8(..)).collect();
    type Break<'a> = (&'a str, Box<dyn Fn(&mut Peer) + 'a>);
    let breaks: [Break<'_>; 5] = [
        ("undecryptable frame", Box::new(|peer| peer.send_raw(Message::binary(noise.clone())))),
        ("not a message", Box::new(|peer| peer.send_bytes(b"[\"no envelope\"]"))),
        ("not a message", Box::new(|peer| peer.send_bytes(br#"{"kind":"offer","job":{"job_id":"../../x"}}"#))),
        ("frame too large", Box::new(|peer| peer.send_raw(Message::binary(vec![0; 3 << 20])))),
        ("not a binary message", Box::new(|peer| peer.send_raw(Message::text("hello")))),
    ];
    for (reason, broken) in &breaks {
        broken(&mut peer);
        // A peer whose bytes are still on their way may only see the connection end.
        if let Some(said) = peer.closed() {
            assert_eq!(said, *reason);
        }
        let log = wait::until("the reason in the agent's log", Duration::from_secs(10), || {
            let log = scene.agent.output();
            log.lines().rfind(|line| line.contains("session ended")).map(str::to_owned)
        });
        assert!(log.contains("CHN-006"), "{reason}: {log}");
        peer = scene.accept();
    }
    let log = scene.agent.output();
    assert_eq!(log.matches("CHN-006").count(), breaks.len(), "{log}");
    runs(&scene, &mut peer);
}

/// After all that, a job still runs.
fn runs(scene: &Scene, peer: &mut Peer) {
    peer.send(&Down::Offer { job: Box::new(scene.spec(0, GENERATION)) });
    let mut answers = Answers::default();
    wait::until("the outcome", Duration::from_secs(90), || {
        hear(scene, peer, &mut answers);
        (answers.outcomes.len() == 1).then_some(())
    });
    assert_eq!(scene.executions(0), 1);
}
