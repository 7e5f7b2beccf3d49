//! `inshore destination test`: whether this host can write to its listed destinations, and what they promise.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use inshore_config::{Policy, StoreOptions};
use serde_json::json;
use url::Url;

use super::{Failure, POLICY_FILE, print, runtime};
use crate::context::chain;
use crate::destination::{self, Label, LakeSettings, Step};

/// The kind of destination that jobs write to, as the policy spells it.
const KIND: &str = "inshore_files";

#[derive(Debug, Subcommand)]
pub(super) enum DestinationCommand {
    /// Try the destinations that the policy lists, step by step. Run it as the agent's user.
    Test(TestArgs),
}

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// One destination: a listed one, or a place below it. Default: all that are listed.
    uri: Option<Url>,
    /// What this host allows, and how it reaches the stores.
    #[arg(long, default_value = POLICY_FILE)]
    policy: PathBuf,
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A line for each step.
    Text,
    /// One object for each destination.
    Json,
}

pub(super) fn run(command: &DestinationCommand) -> Result<(), Failure> {
    let DestinationCommand::Test(arguments) = command;
    let policy = Policy::load(&arguments.policy).map_err(|error| Failure::new(error.code(), &error))?;
    let places = match &arguments.uri {
        Some(uri) => vec![(uri.clone(), options_of(&policy, uri)?)],
        None => policy
            .destinations
            .iter()
            .filter(|listed| listed.kind == KIND)
            .filter_map(|listed| Some((Url::parse(listed.uri()).ok()?, listed.options.clone())))
            .collect(),
    };
    if places.is_empty() {
        return Err(Failure::usage("the policy lists no destination; add one to `destinations`"));
    }
    let runtime = runtime("destination", 2)?;
    let mut failure = None;
    for (root, options) in places {
        let settings = LakeSettings { options, ..LakeSettings::new(root) };
        failure = runtime.block_on(test(&settings, arguments.output)).or(failure);
    }
    failure.map_or(Ok(()), Err)
}

/// How this host reaches a destination that its policy lists.
pub(super) fn listed_options(policy: &Path, uri: &Url) -> Result<StoreOptions, Failure> {
    options_of(&Policy::load(policy).map_err(|error| Failure::new(error.code(), &error))?, uri)
}

fn options_of(policy: &Policy, uri: &Url) -> Result<StoreOptions, Failure> {
    let listed = policy.destination(KIND, uri.as_str()).ok_or_else(|| Failure {
        code: "POL-001".to_owned(),
        text: format!("the policy does not list the destination {uri}; add it to `destinations` to allow it"),
        exit: 1,
    })?;
    Ok(listed.options.clone())
}

async fn test(settings: &LakeSettings, output: Output) -> Option<Failure> {
    let is_text = output == Output::Text;
    if is_text {
        print(settings.root.as_str());
    }
    let mut steps: Vec<Step> = Vec::new();
    let result = destination::examine(settings, &mut |step| {
        if is_text {
            print(&format!("  {}  {}", if step.passed { "pass" } else { "FAIL" }, step.name));
        }
        steps.push(step);
    })
    .await;
    if output == Output::Json {
        let steps: Vec<_> = steps.iter().map(|step| json!({"step": step.name, "passed": step.passed})).collect();
        let (delivery, failed) = match &result {
            Ok(Label::ExactlyOnce) => (Some("exactly-once"), None),
            Ok(Label::AtLeastOnce { failed_check }) => (Some("at-least-once"), Some(*failed_check)),
            Err(_) => (None, None),
        };
        let error = result.as_ref().err().map(|error| json!({"code": error.code(), "message": chain(error)}));
        let uri = settings.root.as_str();
        let report = json!({"uri": uri, "steps": steps, "delivery": delivery, "failed_check": failed, "error": error});
        print(&report.to_string());
    }
    conclude(result, &steps, is_text)
}

fn conclude(result: Result<Label, destination::Error>, steps: &[Step], is_text: bool) -> Option<Failure> {
    match result {
        Err(error) => {
            if is_text {
                print(&format!("  FAIL  after {} steps: {}", steps.len(), what_to_do(error.code())));
            }
            Some(Failure::new(error.code(), &error))
        }
        Ok(label) => {
            if is_text {
                print(&format!("  delivery is {label}"));
            }
            let text = match label {
                Label::AtLeastOnce { failed_check } => format!(
                    "the store failed the check `{failed_check}`: it can be used, and after a crash a batch may arrive twice"
                ),
                Label::ExactlyOnce if steps.iter().all(|step| step.passed) => return None,
                Label::ExactlyOnce => {
                    "objects cannot be deleted: nothing is lost, and garbage stays; allow deletion below the destination"
                        .to_owned()
                }
            };
            Some(Failure { code: "DST-007".to_owned(), text, exit: 1 })
        }
    }
}

fn what_to_do(code: &str) -> &'static str {
    match code {
        "DST-001" => "allow this login to read, write, list and delete below the destination",
        "DST-002" => "make room, or raise the quota",
        "DST-012" => "renew the credentials, or correct the references that lead to them",
        "DST-013" => "make the bucket or container, or correct its name, region or endpoint",
        "DST-014" => "let this host synchronise its clock",
        "DST-015" => "name the authority's certificate in the destination's network.ca_file",
        _ => "look at address, endpoint, proxy and firewall: the causes below say what was asked",
    }
}
