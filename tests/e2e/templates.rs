//! The projects of `inshore init`: each runs, and does what its README says.

use std::time::Duration;

use inshore_tests::debug::Project;
use inshore_tests::process::Process;
use inshore_tests::{python, root, wait};
use serde_json::{Value, json};

/// The API that the network templates talk to.
struct Api {
    _process: Process,
    url: String,
}

impl Api {
    fn start(project: &Project) -> Self {
        let mut command = std::process::Command::new(python());
        command.arg(root().join("tests/python/template_server.py"));
        let mut process = Process::start(command, &project.path().join("server.log"));
        let port = wait::until("the server's port", Duration::from_secs(20), || {
            assert!(process.ended().is_none(), "{}", process.output());
            process.output().trim().parse::<u16>().ok()
        });
        Self { _process: process, url: format!("http://127.0.0.1:{port}") }
    }
}

fn succeed(project: &Project) -> String {
    let run = project.debug(&[]);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    run.words
}

fn state(project: &Project) -> Value {
    serde_json::from_str(&project.read("files/state.json")).expect("JSON")
}

#[test]
fn the_default_template_runs_as_it_is_and_goes_on() {
    let project = Project::of_template("default");
    let words = succeed(&project);
    assert!(words.contains("tester.orders") && words.contains("warehouse.db"), "{words}");
    succeed(&project);
    assert_eq!(state(&project), json!({"next_order": 51}));
    let counts = "select (select count(*) from tester.customers), (select count(*) from tester.orders)";
    assert_eq!(project.query(counts), json!([[8, 50]]));
    let types = "select column_name, data_type from information_schema.columns where table_name = 'orders' \
                 and column_name in ('price', 'ordered_at') order by 1";
    assert_eq!(project.query(types), json!([["ordered_at", "TIMESTAMP WITH TIME ZONE"], ["price", "DECIMAL(10,2)"]]));
}

#[test]
fn the_database_template_reads_its_sample_and_then_only_changes() {
    let project = Project::of_template("database");
    succeed(&project);
    let all = "select (select count(*) from tester.customers), (select sum(cents) from tester.invoices)";
    assert_eq!(project.query(all), json!([[3, 42240]]));
    assert_eq!(state(&project)["cursors"]["invoices"], json!(["2024-05-03 08:00:00", 3]));
    let words = succeed(&project);
    assert!(words.contains("nothing moved because"), "{words}");
}

#[test]
fn the_incremental_template_reads_what_changed_and_waits_for_a_busy_server() {
    let project = Project::of_template("incremental-rest");
    let api = Api::start(&project);
    let configuration = json!({"base_url": api.url, "api_key": "key", "page_size": "3"});
    project.write("configuration.json", &configuration.to_string());
    let words = succeed(&project);
    assert!(words.contains("answered 429; trying again"), "{words}");
    assert_eq!(state(&project), json!({"updated_since": "2024-05-07T10:00:00Z"}));
    let rows = "select count(*), max(name) from tester.items where not _fivetran_deleted";
    assert_eq!(project.query(rows), json!([[6, "item 7"]]));
    let words = succeed(&project);
    assert!(words.contains("tester.items        1"), "only the boundary is read again: {words}");

    project.write("configuration.json", &json!({"base_url": api.url, "api_key": "wrong"}).to_string());
    let run = project.debug(&[]);
    assert_eq!(run.exit, Some(1));
    assert!(run.words.contains("401 Client Error"), "{}", run.words);
}

#[test]
fn the_oauth2_template_renews_its_token_and_keeps_it_out_of_the_state() {
    let project = Project::of_template("oauth2");
    let api = Api::start(&project);
    let configuration = json!({
        "token_url": format!("{}/token", api.url), "base_url": api.url, "client_id": "client", "client_secret": "secret",
    });
    project.write("configuration.json", &configuration.to_string());
    let words = succeed(&project);
    assert!(words.contains("no longer taken; renewing"), "{words}");
    assert_eq!(project.query("select count(*), max(login) from tester.users"), json!([[250, "user99"]]));
    assert_eq!(state(&project), json!({"last_id": 250}));
    let grants = ureq_get(&format!("{}/granted", api.url));
    assert_eq!(grants, json!(["client_credentials", "refresh_token"]));

    let mut refused = configuration;
    refused["client_secret"] = json!("other");
    project.write("configuration.json", &refused.to_string());
    let run = project.debug(&[]);
    assert!(run.words.contains("refuses client_id and client_secret"), "{}", run.words);
    assert!(!run.words.contains("other"), "a secret is in the output: {}", run.words);
}

fn ureq_get(url: &str) -> Value {
    let script = "import sys, urllib.request\nprint(urllib.request.urlopen(sys.argv[1]).read().decode())";
    let output = std::process::Command::new(python()).args(["-c", script, url]).output().expect("Python runs");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_pagination_template_reads_every_row_in_four_ways() {
    let project = Project::of_template("pagination");
    let api = Api::start(&project);
    project.write("configuration.json", &json!({"base_url": api.url}).to_string());
    succeed(&project);
    for table in ["by_page_number", "by_offset", "by_cursor", "by_link"] {
        let counts = project.query(&format!("select count(*), sum(value) from tester.{table}"));
        assert_eq!(counts, json!([[120, 583_220]]), "{table}");
    }
}

/// Every step of a job in the pipeline, in order: name and command.
fn steps(pipeline: &str, job: &str) -> Vec<(String, String)> {
    let of_job = pipeline.split_once(&format!("\n  {job}:\n")).expect("the job").1;
    let of_job = of_job.split_once("\n\n  ").map_or(of_job, |(first, _)| first);
    let mut name = String::new();
    let mut steps = Vec::new();
    for line in of_job.lines().map(str::trim) {
        if let Some(found) = line.strip_prefix("- name: ") {
            found.clone_into(&mut name);
        }
        if let Some(command) = line.strip_prefix("run: ") {
            steps.push((name.clone(), command.to_owned()));
        }
    }
    steps
}

#[test]
fn the_pipeline_of_a_new_project_passes_and_stops_a_broken_one() {
    let project = Project::new(&[]);
    assert_eq!(project.inshore(&["init", "--ci"]).exit, Some(0));
    let guidance = project.read("AGENTS.md");
    let pipeline = project.read(".github/workflows/connector.yml");
    let check = steps(&pipeline, "check");
    assert_eq!((check.len(), steps(&pipeline, "deploy").len()), (8, 2), "{check:?}");
    let bin = inshore_tests::stage().join("usr/bin");
    let step = |(name, command): &(String, String)| {
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        let mut shell = std::process::Command::new("bash");
        shell.args(["-e", "-c", command]).current_dir(project.path()).env("PATH", path);
        shell.env("XDG_CACHE_HOME", inshore_tests::cache()).env("CONNECTOR_CONFIGURATION", "");
        let output = shell.stdin(std::process::Stdio::null()).output().expect("bash runs");
        (name.clone(), output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for ended in check[1..].iter().map(step) {
        assert!(ended.1, "{ended:?}");
    }
    project.write("connector.py", "def update(:\n");
    assert_eq!(check[1..].iter().map(step).filter(|ended| !ended.1).count(), 4, "what loads the connector fails");
    // Every verb that the guidance names is one.
    for verb in ["validate", "test", "debug", "inspect", "sql", "state", "reset"] {
        assert!(guidance.contains(&format!("`inshore {verb}")), "{verb}");
        assert_eq!(project.inshore(&[verb, "--help"]).exit, Some(0));
    }
    let again = project.inshore(&["init", "--ci"]);
    assert!(again.exit == Some(1) && again.words.contains("DEV-001"), "{}", again.words);
    std::fs::remove_file(project.path().join("AGENTS.md")).expect("removed");
    std::fs::remove_dir_all(project.path().join(".github")).expect("removed");
    let added = project.inshore(&["init", "--ci"]);
    assert!(added.exit == Some(0) && added.words.contains("added to"), "{}", added.words);
    assert_eq!(project.read("connector.py"), "def update(:\n", "the project itself stays");
}
