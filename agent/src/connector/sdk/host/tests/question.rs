//! Projects that are asked for their form and their tests.

use std::sync::Mutex;

use super::super::super::question::{self, FieldKind, FieldOption, Outcome};
use super::*;
use crate::connector::LogLine;

const FORM: &str = "
from fivetran_connector_sdk import ConfigurationForm, Test, form_field

def right(configuration):
    log.info('asked')
    return Test().success() if configuration == {'key': 'value'} else Test().failure('wrong')

def wrong(configuration):
    return Test().failure('no such host')

def broken(configuration):
    raise KeyError('gone')

def form():
    sizes = [form_field.DropdownFieldParam(1), form_field.DropdownFieldParam('l', label='Large')]
    return (ConfigurationForm().add_field(form_field.TextField('host', 'Host', required=True, placeholder='db'))
        .add_field(form_field.TextField('key', 'Key', form_field.TextField.password))
        .add_field(form_field.DropdownField('size', 'Size', fields=sizes)).add_field(form_field.ToggleField('on', 'On'))
        .add_test(label='Right', func=right).add_test(label='Wrong', func=wrong).add_test(label='Broken', func=broken))

connector = Connector(update=None, configuration_form=form)";

#[tokio::test]
async fn a_form_tells_its_fields_and_tests() {
    let form = question::form(Project::new(FORM).settings(), &|_| {}).await.unwrap().expect("a form");
    let fields: Vec<_> = form.fields.iter().map(|field| (field.name.as_str(), field.kind, field.required)).collect();
    let expected = [
        ("host", FieldKind::Text, true),
        ("key", FieldKind::Password, false),
        ("size", FieldKind::Dropdown, false),
        ("on", FieldKind::Toggle, false),
    ];
    assert_eq!(fields, expected);
    assert_eq!(form.fields[0].placeholder.as_deref(), Some("db"));
    let option = |value: &str, label: &str| FieldOption { value: value.into(), label: label.into(), description: None };
    assert_eq!(form.fields[2].options, [option("1", "1"), option("l", "Large")]);
    let tests: Vec<_> = form.tests.iter().map(|test| (test.name.as_str(), test.label.as_str())).collect();
    assert_eq!(tests, [("right", "Right"), ("wrong", "Wrong"), ("broken", "Broken")]);
    assert_eq!(question::form(Project::update("pass").settings(), &|_| {}).await.unwrap(), None);
}

#[tokio::test]
async fn setup_tests_have_an_outcome_each() {
    let project = Project::new(FORM);
    let told = Mutex::new(Vec::new());
    let tell = |line: LogLine| told.lock().unwrap().push(line.message);
    let results = question::tests(project.settings(), None, &tell).await.unwrap();
    let outcomes: Vec<_> = results.iter().map(|result| (result.name.as_str(), result.outcome)).collect();
    assert_eq!(outcomes, [("right", Outcome::Passed), ("wrong", Outcome::Failed), ("broken", Outcome::Raised)]);
    assert_eq!((results[0].message.as_deref(), results[1].message.as_deref()), (None, Some("no such host")));
    assert!(results[2].message.as_ref().unwrap().contains("KeyError: 'gone'"), "{results:?}");
    assert!(told.lock().unwrap().contains(&"asked".to_owned()), "{told:?}");

    let one = question::tests(project.settings(), Some(vec!["wrong".to_owned()]), &tell).await.unwrap();
    assert_eq!((one.len(), one[0].label.as_str()), (1, "Wrong"));
    let absent = question::tests(project.settings(), Some(vec!["nosuch".to_owned()]), &tell).await.unwrap_err();
    assert_eq!(absent.code(), "SDK-019");
}

#[tokio::test]
async fn a_project_that_does_something_else_has_not_answered() {
    let upserts = "op.upsert('t', {'a': 1})\nop.checkpoint({})";
    let form =
        format!("def form():\n    import _inshore\n    _inshore.declare([])\n    {}", upserts.replace('\n', "\n    "));
    let project = Project::new(&format!("{form}\nconnector = Connector(update=None, configuration_form=form)"));
    let error = question::form(project.settings(), &|_| {}).await.unwrap_err();
    assert_eq!(error.code(), "SDK-015", "{error:?}");
    let leaves = Project::new("import os\nconnector = Connector(update=None, configuration_form=lambda: os._exit(3))");
    assert_eq!(question::form(leaves.settings(), &|_| {}).await.unwrap_err().code(), "SDK-003");
    let none = Project::new("connector = Connector(update=None, configuration_form=lambda: None)");
    assert_eq!(question::form(none.settings(), &|_| {}).await.unwrap_err().code(), "SDK-019");
}
