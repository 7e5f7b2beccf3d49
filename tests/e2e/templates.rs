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
