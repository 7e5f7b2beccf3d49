//! `inshore debug --sandbox` and `--record-egress`: a project on its author's machine, in the sandbox of an agent.

use std::io::{Read, Write};
use std::net::TcpListener;

use inshore_tests::debug::{Project, Run};
use inshore_tests::stage;
use serde_json::{Value, json};

/// Writes where an agent's sandbox has nothing to write, connects where it is told, and says both as rows.
const CONNECTOR: &str = r#"
import os, pathlib, socket
from fivetran_connector_sdk import Connector, Operations as op

def tried(action):
    try:
        return action()
    except OSError as error:
        return type(error).__name__

def said(port):
    with socket.create_connection(("localhost", port), timeout=5) as stream:
        stream.sendall(b"hello")
        return stream.recv(16).decode()

def update(configuration, state):
    here = pathlib.Path(__file__).parent / "left-behind"
    op.upsert("tried", {"what": "write", "got": str(tried(lambda: here.write_text("x")))})
    for port in filter(None, configuration["ports"].split(",")):
        op.upsert("tried", {"what": "connect", "got": str(tried(lambda: said(int(port))))})

def schema(configuration):
    return [{"table": "tried", "primary_key": ["what"]}]

connector = Connector(update=update, schema=schema)
"#;

fn project(ports: &str) -> Project {
    let configuration = json!({"ports": ports}).to_string();
    Project::new(&[("connector.py", CONNECTOR), ("configuration.json", &configuration)])
}

fn tried(project: &Project) -> Value {
    project.query("select what, got from tester.tried order by what")
}

/// A server of this machine that answers everybody; its port.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut said = [0; 5];
            drop(stream.read_exact(&mut said).and_then(|()| stream.write_all(b"welcome")));
        }
    });
    port
}

#[test]
fn a_project_is_tried_in_the_sandbox_only_when_that_is_asked_for() {
    let port = server();
    let project = project(&port.to_string());
    let bare = project.debug(&[]);
    assert_eq!(bare.exit, Some(0), "{}", bare.words);
    assert_eq!(tried(&project), json!([["connect", "welcome"], ["write", "1"]]));
    std::fs::remove_file(project.path().join("left-behind")).expect("it was written");
    let walled = project.debug(&["--sandbox"]);
    assert_eq!(walled.exit, Some(0), "{}", walled.words);
    assert_eq!(tried(&project), json!([["connect", "ConnectionResetError"], ["write", "OSError"]]));
    assert!(!project.path().join("left-behind").exists());
    let refused = format!("egress refused: localhost:{port}, 1 times; the policy's sandbox.egress does not list it");
    assert!(walled.words.contains(&refused), "{}", walled.words);
    project.write("policy.toml", &format!("[sandbox]\negress = [\"localhost:{port}\"]\n"));
    let listed = project.debug(&["--sandbox", "--policy", "policy.toml"]);
    assert_eq!((listed.exit, &tried(&project)[0][1]), (Some(0), &json!("welcome")), "{}", listed.words);
    assert_eq!(project.debug(&["--policy", "policy.toml"]).exit, Some(2), "a policy alone means nothing");
}

#[test]
fn its_home_is_its_own_and_writable_as_on_an_agent() {
    let connector = "import pathlib, tempfile\nfrom fivetran_connector_sdk import Connector, Operations as op\n\n\
                     def update(configuration, state):\n    home = pathlib.Path.home()\n    \
                     (home / 'file').write_text('x')\n    \
                     op.upsert('t', {'id': 1, 'same': str(home) == tempfile.gettempdir()})\n\n\
                     connector = Connector(update=update)\n";
    let project = Project::new(&[("connector.py", connector)]);
    let walled = project.debug(&["--sandbox"]);
    assert_eq!(walled.exit, Some(0), "{}", walled.words);
    assert_eq!(project.query("select same from tester.t"), json!([[true]]));
}

#[test]
fn what_a_connector_reaches_is_printed_as_the_list_that_allows_it() {
    let (first, second) = (server(), server());
    let project = project(&format!("{first},{second}"));
    let run = project.debug(&["--record-egress"]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    let mut rules = [first, second].map(|port| format!("localhost:{port}"));
    rules.sort_by_key(|rule| rule.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()));
    let lines = format!("egress = [\n    \"{}\",\n    \"{}\",\n]\n", rules[0], rules[1]);
    assert!(run.data.contains(&lines), "{}", run.data);
    assert!(run.data.contains(&json!({"config": {"egress": rules}}).to_string()), "{}", run.data);
    // What was printed is what has to be written down.
    project.write("policy.toml", &format!("[sandbox]\n{lines}"));
    let listed = project.debug(&["--sandbox", "--policy", "policy.toml"]);
    assert_eq!((listed.exit, &tried(&project)[0][1]), (Some(0), &json!("welcome")), "{}", listed.words);
    let events = project.debug(&["--record-egress", "--progress", "json"]);
    let events = events.data.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event"));
    let egress = events.filter(|event| event["event"] == "egress").collect::<Vec<_>>();
    assert_eq!(egress.iter().map(|event| &event["rules"]).collect::<Vec<_>>(), [&json!(rules)]);
}

#[test]
fn a_machine_without_user_namespaces_says_so_before_anything_runs() {
    let project = project("");
    let mut command = std::process::Command::new("unshare");
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    command.args(["--user", "--map-root-user", "sh", "-c", forbid, "sh"]);
    command.arg(stage().join("usr/bin/inshore")).args(["debug", "--sandbox"]).current_dir(project.path());
    let run = Run::of(command.output().expect("unshare runs"));
    assert_eq!(run.exit, Some(1), "{}", run.words);
    assert!(
        run.words.contains("POL-003: this machine cannot make the sandbox") && run.words.contains("bwrap:"),
        "{}",
        run.words
    );
}
