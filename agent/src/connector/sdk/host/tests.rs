//! Small projects run by the real host in a real Python.

mod pressure;
mod question;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use inshore_columnar::{DataType, Inference, Naming, RowBatch};
use serde_json::value::RawValue;

use super::super::{Connection, Start, environment};
use super::*;
use crate::connector::{LogLevel, LogOrigin, WarningKind};

const PYTHON: &str = "/usr/bin/python3";
const PRELUDE: &str = "
import os, sys, threading, time
from fivetran_connector_sdk import Connector, Logging as log, Operations as op
";
const LIMIT: Duration = Duration::from_secs(60);

/// The Python packages of this tree beside the native module that was built with this test.
fn sdk_dir() -> PathBuf {
    static STAGED: OnceLock<tempfile::TempDir> = OnceLock::new();
    let staged = STAGED.get_or_init(|| {
        let built = std::env::current_exe().unwrap().parent().unwrap().with_file_name("lib_inshore.so");
        assert!(built.is_file(), "needs the native module: cargo build -p inshore-sdk-native");
        let folder = tempfile::tempdir().unwrap();
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/python");
        let copied = std::process::Command::new("cp").arg("-r").arg(python.join(".")).arg(folder.path()).status();
        assert!(copied.unwrap().success());
        std::fs::copy(built, folder.path().join("_inshore.abi3.so")).unwrap();
        folder
    });
    staged.path().to_owned()
}

/// One environment for all projects here: none has requirements.
fn environments() -> PathBuf {
    static CACHE: OnceLock<tempfile::TempDir> = OnceLock::new();
    CACHE.get_or_init(|| tempfile::tempdir().unwrap()).path().to_owned()
}

struct Project {
    folder: tempfile::TempDir,
    state: String,
    memory_bytes_max: u64,
}

impl Project {
    fn new(code: &str) -> Project {
        Project::raw(&format!("{PRELUDE}\n{code}\n"))
    }

    fn raw(code: &str) -> Project {
        let project =
            Project { folder: tempfile::tempdir().unwrap(), state: "{}".to_owned(), memory_bytes_max: 1 << 32 };
        std::fs::write(project.folder.path().join("connector.py"), code).unwrap();
        project
    }

    /// `code` is the body of `update`.
    fn update(body: &str) -> Project {
        let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
        Project::new(&format!("def update(configuration, state):\n{body}\nconnector = Connector(update=update)"))
    }

    fn settings(&self) -> Settings {
        let project = self.folder.path().to_owned();
        Settings {
            sdk_dir: sdk_dir(),
            project_dir: project.clone(),
            scratch_dir: project.clone(),
            environment: environment::Settings {
                cache_dir: environments(),
                cache_bytes_max: u64::MAX,
                search_path: "/usr/local/bin:/usr/bin:/bin".into(),
                python: None,
                variables: Vec::new(),
                index: environment::Index::default(),
                allow_source_builds: false,
                place: environment::Place::Agent,
            },
            variables: Vec::new(),
            declared: Vec::new(),
            memory_bytes_max: self.memory_bytes_max,
            sandbox: None,
            exclusive: false,
            connection: Connection {
                id: "c-1".into(),
                name: "shop".into(),
                group_id: "g-1".into(),
                deployment_model: "hybrid_cloud".into(),
            },
            start: Start {
                project,
                schema: "shop".into(),
                naming: Naming::Fivetran,
                inference: Inference::default(),
                debug: false,
                files: true,
                checkpoint_timeout_ms: None,
                configuration: BTreeMap::from([("key".to_owned(), "value".to_owned())]),
                state: RawValue::from_string(self.state.clone()).unwrap(),
            },
        }
    }

    async fn start(&self) -> SdkSource {
        start(self.settings(), Path::new(PYTHON), None).await.unwrap()
    }

    /// Runs to the end, acknowledging every checkpoint.
    async fn run(&self) -> Run {
        let mut source = self.start().await;
        let mut events = Vec::new();
        let end = loop {
            match tokio::time::timeout(LIMIT, source.next()).await.expect("the connector hangs") {
                Ok(Event::End(kind)) => break Ok(kind),
                Err(error) => break Err(error),
                Ok(event) => {
                    if let Event::Checkpoint { id, .. } = &event {
                        source.acknowledge(*id).await.unwrap();
                    }
                    events.push(event);
                }
            }
        };
        source.close().await;
        Run { events, end }
    }
}

struct Run {
    events: Vec<Event>,
    end: Result<EndKind, Error>,
}

impl Run {
    fn rows(&self) -> Vec<&RowBatch> {
        self.events.iter().filter_map(|event| if let Event::Rows(rows) = event { Some(rows) } else { None }).collect()
    }

    fn row_count(&self) -> usize {
        self.rows().iter().map(|rows| rows.row_count()).sum()
    }

    fn states(&self) -> Vec<&str> {
        let states = self.events.iter().filter_map(|event| match event {
            Event::Checkpoint { state, .. } => Some(state.as_str()),
            _ => None,
        });
        states.collect()
    }

    fn log(&self) -> String {
        let line =
            |event: &Event| if let Event::Log(line) = event { Some(format!("{}\n", line.message)) } else { None };
        self.events.iter().filter_map(line).collect()
    }

    fn failure(&self) -> &Error {
        self.end.as_ref().expect_err("the sync should have failed")
    }
}

#[tokio::test]
async fn every_operation_arrives_in_order() {
    let run = Project::new(
        "
def schema(configuration):
    return [{'table': 'userData', 'primary_key': ['id'], 'columns': {'id': 'LONG', 'paid': {'type': 'DECIMAL', 'precision': 6, 'scale': 2}}}]

def update(configuration, state):
    assert configuration == {'key': 'value'} and state == {}
    op.truncate('userData')
    op.upsert('userData', {'id': 1, 'paid': '1.50', 'firstName': 'Ada'})
    op.update(table='userData', modified={'id': 1, 'firstName': None})
    op.delete(table='userData', keys={'id': 1})
    op.warning('look')
    op.checkpoint({'at': 1})
    op.upsert('other', {'a': 1}, schema='side')

connector = Connector(update=update, schema=schema)",
    )
    .run()
    .await;
    assert_eq!(run.end.as_ref().unwrap(), &EndKind::Finished, "{:?}", run.end);
    let kinds: Vec<&str> = run
        .events
        .iter()
        .map(|event| match event {
            Event::Schema(_) => "schema",
            Event::Truncate { .. } => "truncate",
            Event::Rows(_) => "rows",
            Event::Warning(_) => "warning",
            Event::Checkpoint { .. } => "checkpoint",
            _ => "?",
        })
        .collect();
    assert_eq!(kinds, ["schema", "truncate", "warning", "rows", "checkpoint", "rows"]);
    let Event::Schema(tables) = &run.events[0] else { panic!("schema first") };
    assert_eq!(tables[0].name.to_string(), "shop.user_data");
    assert_eq!(tables[0].key, ["id"]);
    assert_eq!(tables[0].columns[1].data_type, DataType::Decimal { precision: 6, scale: 2 });
    let rows = run.rows();
    assert_eq!(rows[0].ops(), [0, 1, 2]);
    assert_eq!(rows[0].schema.columns[2].name, "first_name");
    assert_eq!(rows[1].table.to_string(), "shop_side.other");
    assert_eq!(run.states(), [r#"{"at": 1}"#]);
}

#[tokio::test]
async fn the_state_and_the_environment_reach_the_connector() {
    let mut project = Project::update(
        "log.info(str(sorted(state.items())))\nlog.debug('hidden')\nprint('plain', os.environ['FIVETRAN_CONNECTION_NAME'])\nlog.info(os.environ['FIVETRAN_DEPLOYMENT_MODEL'])\nassert os.getcwd() in sys.path and __name__ == 'connector'\nassert sys.stdin.read() == ''",
    );
    project.state = r#"{"cursor": "x"}"#.to_owned();
    let run = project.run().await;
    assert_eq!(run.end.as_ref().unwrap(), &EndKind::Finished, "{:?}", run.end);
    assert_eq!(run.log(), "[('cursor', 'x')]\nplain shop\nhybrid_cloud\n");
    let Event::Log(first) = run.events.iter().find(|event| matches!(event, Event::Log(_))).unwrap() else { panic!() };
    assert_eq!((first.level, first.origin), (LogLevel::Info, LogOrigin::Connector));
}

#[tokio::test]
async fn a_generator_is_exhausted() {
    let run =
        Project::update("for i in range(5):\n    yield op.upsert('t', {'i': i})\nyield op.checkpoint(state={'i': 5})")
            .run()
            .await;
    assert_eq!(run.end.unwrap(), EndKind::Finished);
}

#[tokio::test]
async fn a_checkpoint_spans_threads_and_order_holds_per_thread() {
    let run = Project::update(
        "
def work(name):
    for i in range(5000):
        op.upsert('t', {'thread': name, 'i': i})
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[t.start() for t in threads]
op.checkpoint({'early': True})
[t.join() for t in threads]
op.checkpoint({'late': True})",
    )
    .run()
    .await;
    assert_eq!(run.row_count(), 20_000);
    assert!(matches!(run.events.last(), Some(Event::Checkpoint { .. })), "rows after the last checkpoint");
    let mut next = [0; 4];
    for rows in run.rows() {
        let threads = rows.rows.column(0).as_primitive::<Int32Type>();
        let numbers = rows.rows.column(1).as_primitive::<Int32Type>();
        for (thread, number) in threads.values().iter().zip(numbers.values()) {
            let expected = &mut next[usize::try_from(*thread).unwrap()];
            assert_eq!(number, expected);
            *expected += 1;
        }
    }
}

#[tokio::test]
async fn values_that_run_code_may_emit_themselves() {
    let run = Project::update(
        "
class Odd:
    def __str__(self):
        op.upsert('t', {'v': 'inner'})
        return 'outer'
op.upsert('t', {'v': Odd()})",
    )
    .run()
    .await;
    assert_eq!(run.row_count(), 2, "{:?}", run.end);
    let rows = run.rows();
    let values: Vec<_> = rows[0].rows.column(0).as_string::<i32>().iter().flatten().collect();
    assert_eq!(values, ["inner", "outer"]);
}

#[tokio::test]
async fn a_refused_row_leaves_no_trace_and_the_caller_may_go_on() {
    let run = Project::update(
        "
def refuses(error, call):
    try:
        call()
    except error:
        return
    raise SystemExit('not refused: ' + error.__name__)
refuses(TypeError, lambda: op.upsert(3, {}))
refuses(ValueError, lambda: op.upsert(' ', {}))
refuses(TypeError, lambda: op.upsert('t', {'a': 1, 2: 3}))
refuses(AttributeError, lambda: op.upsert('t', None))
refuses(UnicodeEncodeError, lambda: op.upsert('t', {'a': 1, 'b': '\\ud800'}))
refuses(TypeError, lambda: op.upsert('t', {'a': 1, 'b': {'c': object()}}))
refuses(TypeError, lambda: op.delete(table='t', key={'a': 1}))
refuses(TypeError, lambda: op.checkpoint({'a': object()}))
refuses(ValueError, lambda: op.checkpoint({'a': 'x' * (10 << 20)}))
refuses(ValueError, lambda: op.error(''))
op.upsert('t', {'a': 9007199254740993})",
    )
    .run()
    .await;
    assert_eq!(run.end.as_ref().unwrap(), &EndKind::Finished, "{:?}", run.end);
    assert_eq!(run.row_count(), 1);
    assert_eq!(run.rows()[0].rows.column(0).as_primitive::<Int64Type>().value(0), 9_007_199_254_740_993);
}

#[tokio::test]
async fn system_columns_are_left_out_with_one_warning() {
    let run = Project::update("for i in range(3):\n    op.upsert('t', {'a': i, '_fivetran_synced': 'x'})").run().await;
    assert_eq!(run.rows()[0].schema.columns.len(), 1);
    let warnings = run
        .events
        .iter()
        .filter(|event| matches!(event, Event::Warning(warning) if warning.kind == WarningKind::Columns));
    assert_eq!(warnings.count(), 1);
}

#[tokio::test]
async fn an_exception_fails_with_its_traceback_and_without_later_rows() {
    let run = Project::update(
        "op.upsert('t', {'a': 1})\nop.checkpoint({})\nop.upsert('t', {'a': 2})\nraise KeyError('lost')",
    )
    .run()
    .await;
    let Error::Raised { trace } = run.failure() else { panic!("{:?}", run.end) };
    assert!(trace.contains("connector.py") && trace.contains("KeyError: 'lost'"), "{trace}");
    assert!(!trace.contains("inshore_host"), "{trace}");
    assert_eq!(run.row_count(), 1);
}

#[tokio::test]
async fn sys_exit_succeeds_or_fails_by_its_code() {
    for code in ["sys.exit()", "sys.exit(0)"] {
        let run = Project::update(&format!("op.upsert('t', {{'a': 1}})\n{code}")).run().await;
        assert_eq!(run.end.as_ref().unwrap(), &EndKind::Exited, "{code}");
        assert_eq!(run.row_count(), 1);
    }
    for code in ["sys.exit(1)", "sys.exit('no')"] {
        assert!(matches!(Project::update(code).run().await.failure(), Error::ExitNonZero { .. }), "{code}");
    }
}

#[tokio::test]
async fn a_process_that_dies_is_named() {
    for (code, how) in [
        ("os._exit(3)", "exit status: 3"),
        ("os.kill(os.getpid(), 9)", "signal: 9"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ] {
        let run = Project::update(code).run().await;
        let Error::Died { how: said } = run.failure() else { panic!("{code}: {:?}", run.end) };
        assert!(said.contains(how), "{code}: {said}");
    }
}

#[tokio::test]
async fn a_forked_child_neither_keeps_a_dead_connector_nor_emits() {
    let run = Project::update("if os.fork() == 0:\n    time.sleep(600)\nos._exit(3)").run().await;
    assert!(matches!(run.failure(), Error::Died { .. }), "{:?}", run.end);
    let body = "
pid = os.fork()
if pid == 0:
    try:
        op.upsert('t', {'a': 1})
    except RuntimeError:
        os._exit(7)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 7 << 8";
    let run = Project::update(body).run().await;
    assert_eq!(run.end.as_ref().unwrap(), &EndKind::Finished, "{:?}", run.end);
}

#[tokio::test]
async fn states_that_cannot_be_stored_are_told_apart() {
    let run = Project::update("op.checkpoint({'a': {1, 2}})").run().await;
    assert!(matches!(run.failure(), Error::StateNotSerialisable { .. }), "{:?}", run.end);
    let run = Project::update("op.checkpoint({'a': float('nan')})").run().await;
    assert!(matches!(run.failure(), Error::StateNotSerialisable { .. }), "{:?}", run.end);
    let run = Project::update("op.checkpoint({'a': 'x' * (10 << 20)})").run().await;
    assert!(matches!(run.failure(), Error::StateTooLarge { .. }), "{:?}", run.end);
    let run = Project::update("op.checkpoint({'a': 'x' * (9 << 20)})").run().await;
    assert_eq!(run.end.as_ref().unwrap(), &EndKind::Finished);
    assert_eq!(run.states()[0].len(), (9 << 20) + 9);
}

#[tokio::test]
async fn projects_that_cannot_be_run_are_told_apart() {
    let missing = Project::new("");
    std::fs::remove_file(missing.folder.path().join("connector.py")).unwrap();
    assert!(matches!(missing.run().await.failure(), Error::NoConnectorFile));
    assert!(matches!(Project::new("def f(:").run().await.failure(), Error::Syntax { .. }));
    assert!(matches!(Project::new("x = 1").run().await.failure(), Error::NoConnectorObject));
    assert!(matches!(Project::new("import no_such_module").run().await.failure(), Error::Raised { .. }));
    let declared = |what: &str| {
        Project::new(&format!(
            "connector = Connector(update=lambda configuration, state: None, schema=lambda c: {what})"
        ))
    };
    for wrong in [
        "None",
        "[{'table': 't', 'primary_key': 'id'}]",
        "[{'table': 't'}, {'table': 't'}]",
        "[{'table': 't', 'columns': {'a': 'DECIMAL'}}]",
    ] {
        let run = declared(wrong).run().await;
        assert!(matches!(run.failure(), Error::SchemaWrong { .. }), "{wrong}: {:?}", run.end);
    }
}

#[tokio::test]
async fn a_value_that_does_not_fit_its_declared_type_fails_the_sync() {
    let run = Project::new(
        "
def update(configuration, state):
    op.upsert('t', {'at': 'not a time'})
connector = Connector(update=update, schema=lambda c: [{'table': 't', 'columns': {'at': 'UTC_DATETIME'}}])",
    )
    .run()
    .await;
    let Error::ValueDoesNotFit { trace } = run.failure() else { panic!("{:?}", run.end) };
    assert!(trace.contains("ValueError"), "{trace}");
}

#[tokio::test]
async fn op_error_arrives_and_user_code_goes_on() {
    let run = Project::update("op.error('renew the key', trace='t')\nop.upsert('t', {'a': 1})").run().await;
    let asked = Event::ConnectorError { message: "renew the key".to_owned(), trace: Some("t".to_owned()) };
    assert!(run.events.contains(&asked));
    assert_eq!(run.row_count(), 1);
}

#[tokio::test]
async fn running_out_of_memory_is_its_own_failure() {
    let mut project = Project::update("held = []\nwhile True:\n    held.append(bytearray(b'x') * (8 << 20))");
    project.memory_bytes_max = 256 << 20;
    assert!(matches!(project.run().await.failure(), Error::OutOfMemory { .. }));
    let mut forked = Project::update(
        "if os.fork() == 0:\n    held = bytearray(b'x') * (400 << 20)\n    time.sleep(600)\ntime.sleep(600)",
    );
    forked.memory_bytes_max = 256 << 20;
    assert!(matches!(forked.run().await.failure(), Error::OutOfMemory { .. }));
    let run = Project::update("bytearray(1 << 60)").run().await;
    assert!(matches!(run.failure(), Error::OutOfMemory { .. }), "{:?}", run.end);
}
