//! `inshore configuration`: the form of a project.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use inshore_tests::debug::{Project, Run};
use serde_json::{Value, json};

const CONNECTOR: &str = r#"
from fivetran_connector_sdk import ConfigurationForm, Connector, Operations as op, Test, form_field

def reaches(configuration):
    print("a word of the connector")
    return Test().success() if configuration["host"] == "here" else Test().failure("no route to " + configuration["host"])

def signs_in(configuration):
    if configuration["password"] != "s3cret-word":
        raise PermissionError("refused")
    return Test().success()

def configuration_form():
    form = ConfigurationForm()
    form.add_field(form_field.TextField("host", "Host", required=True, description="Where the source is"))
    form.add_field(form_field.TextField("password", "Password", form_field.TextField.password))
    form.add_field(form_field.ToggleField("tls", "Encrypted"))
    form.add_field(form_field.DropdownField("region", "Region", fields=[
        form_field.DropdownFieldParam("eu"), form_field.DropdownFieldParam("us", "America")]))
    form.add_test(label="Reaches the host", func=reaches)
    form.add_test(label="Signs in", func=signs_in)
    return form

def update(configuration, state):
    op.upsert("c", {"length": len(configuration["password"]), "tls": configuration["tls"]})
    op.checkpoint({})

connector = Connector(update=update, configuration_form=configuration_form)
"#;

/// `inshore configuration` with these answers, for a user whose home is the project's folder.
fn configure(project: &Project, arguments: &[&str], answers: &str) -> Run {
    let mut command = project.command(&[&["configuration"], arguments].concat());
    command.env("HOME", project.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the product starts");
    child.stdin.take().expect("a pipe").write_all(answers.as_bytes()).expect("it reads");
    Run::of(child.wait_with_output().expect("it ends"))
}

fn configuration(project: &Project) -> Value {
    serde_json::from_str(&project.read("configuration.json")).expect("JSON")
}

#[test]
fn a_form_is_asked_and_its_passwords_are_encrypted() {
    let project = Project::new(&[("connector.py", CONNECTOR)]);
    let run = configure(&project, &[], "\nhere\ns3cret-word\n\nmars\nus\n");
    assert_eq!(run.exit, Some(0), "{}", run.words);
    for words in ["a value is needed", "Where the source is", "one of the values above", "us  America", "4 values"] {
        assert!(run.words.contains(words), "{words:?} is not in\n{}", run.words);
    }
    let values = configuration(&project);
    assert_eq!((&values["host"], &values["tls"], &values["region"]), (&json!("here"), &json!("false"), &json!("us")));
    let sealed = values["password"].as_str().expect("a text");
    assert!(sealed.starts_with("fivetran_encrypted:"), "{sealed}");
    let mode = |name: &str| std::fs::metadata(project.path().join(name)).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode("configuration.json"), 0o600);
    assert_eq!(mode(".fivetran/connector_sdk/config_encryption_key"), 0o600);
    let debug = project.command(&["debug"]).env("HOME", project.path()).output().expect("the product starts");
    let run = Run::of(debug);
    assert_eq!(run.exit, Some(0), "{}", run.words);
    assert_eq!(project.query("select length, tls from tester.c"), json!([[11, "false"]]));

    // What is there already is kept by an empty answer.
    let run = configure(&project, &["--disable-encryption"], "\n\ntrue\n\n");
    assert_eq!(run.exit, Some(0), "{}", run.words);
    assert!(!run.words.contains("s3cret"), "{}", run.words);
    let expected = json!({"host": "here", "password": "s3cret-word", "region": "us", "tls": "true"});
    assert_eq!(configuration(&project), expected);
    let run = configure(&project, &["--test"], "there\n\n\n\n");
    assert_eq!(run.exit, Some(1), "{}", run.words);
    assert_eq!(configuration(&project), expected, "values that fail their tests are not written");
    assert_eq!(configure(&project, &[], "here\n").exit, Some(2));
}

#[test]
fn a_connector_without_a_form_has_nothing_to_ask() {
    let plain = "from fivetran_connector_sdk import Connector\nconnector = Connector(update=print)\n";
    let run = Project::new(&[("connector.py", plain)]).inshore(&["configuration"]);
    assert!(run.exit == Some(2) && run.words.contains("configuration_form()"), "{}", run.words);
}
