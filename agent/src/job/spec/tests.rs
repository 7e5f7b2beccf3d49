//! The policy wins over every spec; secrets open on this host only.

use std::path::Path;

use crate::job::spec::wire::{
    Base64Bytes, ChangeHandling, ColumnRule, DestinationKind, Hex16, JobKind, JobSpec, MergeMode, Naming,
    RefusalReason, SchemaConfig, SchemaRule, SecretEntry, SecretValue, TableRule,
};
use inshore_config::Policy;
use inshore_trust::{DhSecret, SealContext};

use super::{Code, Error, Kind, SecretError, check, is_version, open_salt, open_settings, selection};
use crate::sandbox::SelfTest;
use crate::{fixture, report};

const OPEN: &str = "mode = \"managed\"\nconnectors = \"any\"\n\
                    [[destinations]]\nkind = \"inshore_files\"\nuri = \"file:///srv/lake\"\n";

fn policy(text: &str) -> Policy {
    Policy::parse(Path::new("policy.toml"), text).expect("a policy")
}

#[test]
fn a_listed_spec_becomes_a_plan() {
    let plan = check(&fixture::spec("job_1", 1), &policy(OPEN), &SelfTest::Passed).expect("allowed");
    assert_eq!((plan.kind, plan.destination.as_str()), (Kind::Sync, "file:///srv/lake"));
}

#[test]
fn every_refusal_names_its_reason_and_its_code() {
    type Change = fn(&mut JobSpec);
    let unchanged: Change = |_| {};
    let digest = fixture::spec("job_1", 1).package.digest.to_string();
    let listed = OPEN.replace("\"any\"", &format!("\"listed\"\nconnector_digests = [\"{digest}\"]"));
    let listed = check(&fixture::spec("job_1", 1), &policy(&listed), &SelfTest::Passed);
    assert!(listed.is_ok(), "a listed connector may run");
    let unknown_handling: Change = |spec| spec.schema = Some(config(ChangeHandling::Unknown, "id", false));
    let under_delta: Change = |spec| spec.destination.tables.merge = MergeMode::PositionDeletes;
    let rows: [(String, Change, RefusalReason, Code); 11] = [
        (OPEN.to_owned(), under_delta, RefusalReason::Unsupported, Code::ProtocolVersion),
        (OPEN.to_owned(), unknown_handling, RefusalReason::Unsupported, Code::ProtocolVersion),
        (OPEN.replace("managed", "locked"), unchanged, RefusalReason::Approval, Code::ModeRefused),
        (OPEN.replace("any", "listed"), unchanged, RefusalReason::ConnectorNotListed, Code::ConnectorNotListed),
        (OPEN.replace("any", "signed"), unchanged, RefusalReason::ConnectorNotListed, Code::ConnectorNotListed),
        (OPEN.replace("lake", "other"), unchanged, RefusalReason::DestinationNotListed, Code::DestinationNotListed),
        (
            OPEN.to_owned(),
            |spec| "file:///srv/lake/../secrets".clone_into(&mut spec.destination.uri),
            RefusalReason::DestinationNotListed,
            Code::DestinationNotListed,
        ),
        (
            OPEN.to_owned(),
            |spec| "https://example.com/".clone_into(&mut spec.destination.uri),
            RefusalReason::Unsupported,
            Code::ProtocolVersion,
        ),
        (
            OPEN.to_owned(),
            |spec| spec.destination.kind = DestinationKind::Unknown,
            RefusalReason::Unsupported,
            Code::ProtocolVersion,
        ),
        (OPEN.to_owned(), |spec| spec.kind = JobKind::Unknown, RefusalReason::Unsupported, Code::ProtocolVersion),
        (OPEN.to_owned(), |spec| spec.naming = Naming::Unknown, RefusalReason::Unsupported, Code::ProtocolVersion),
    ];
    for (number, (text, change, reason, code)) in rows.into_iter().enumerate() {
        let mut spec = fixture::spec("job_1", 1);
        change(&mut spec);
        let error = check(&spec, &policy(&text), &SelfTest::Passed).expect_err("refused");
        assert_eq!(error.reason(), reason, "row {number}: {error}");
        assert_eq!(crate::job::outcome::of_spec(&error), code, "row {number}: {error}");
    }
}

#[test]
fn a_host_that_cannot_make_a_sandbox_runs_nothing_unless_the_policy_says_so() {
    let (spec, reason) = (fixture::spec("job_1", 1), "bwrap: No permissions to create new namespace".to_owned());
    let broken = SelfTest::Failed { reason: reason.clone() };
    let error = check(&spec, &policy(OPEN), &broken).expect_err("refused");
    assert_eq!(
        (error.reason(), crate::job::outcome::of_spec(&error)),
        (RefusalReason::Sandbox, Code::UnsandboxedRefused)
    );
    assert!(error.to_string().contains(&reason), "{error}");
    let open = policy(&format!("allow_unsandboxed = true\n{OPEN}"));
    let plan = check(&spec, &open, &broken).expect("allowed");
    assert!(plan.sandbox.is_none());
    let plan = check(&spec, &policy(OPEN), &SelfTest::Passed).expect("allowed");
    assert!(plan.sandbox.is_some());
}

#[test]
fn a_policy_that_cannot_be_read_refuses_with_its_own_code() {
    let source = Policy::load(Path::new("/nonexistent/policy.toml")).expect_err("missing");
    let error = Error::Policy { file: "policy.toml".to_owned(), source };
    assert_eq!(crate::job::outcome::of_spec(&error), Code::PolicyMissing);
    assert_eq!(error.reason(), RefusalReason::Policy);
}

fn sealed(sealing: &DhSecret, agent_id: &str, connection_id: &str, key: &str, value: &[u8]) -> SecretEntry {
    let context = SealContext { agent_id, connection_id, purpose: "configuration", endpoint: key };
    let data = inshore_trust::seal(&sealing.public(), &context.to_bytes(), value).expect("a usable key");
    SecretEntry {
        key: key.to_owned(),
        value: SecretValue::Sealed { to: agent_id.parse().expect("id"), data: Base64Bytes(data) },
    }
}

fn reference(key: &str, reference: String) -> SecretEntry {
    SecretEntry { key: key.to_owned(), value: SecretValue::Reference { reference } }
}

fn open(
    policy_text: &str,
    sealing: &DhSecret,
    entries: Vec<SecretEntry>,
) -> Result<Vec<(String, String)>, SecretError> {
    let spec = JobSpec { configuration: entries, ..fixture::spec("job_1", 1) };
    open_settings(&spec, &policy(policy_text), "agt_1", sealing).map(|opened| opened.configuration)
}

#[test]
fn sealed_values_and_listed_references_are_opened() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("password");
    std::fs::write(&file, "from a file").expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("private");
    let place = format!("${{file:{}}}", file.display());
    let listed = format!("secret_references = [\"{place}\"]\n{OPEN}");
    let sealing = DhSecret::generate();
    let entries = vec![
        sealed(&sealing, "agt_1", "con_1", "token", b"sealed"),
        // The same value for another agent: not ours to open, and no obstacle.
        sealed(&DhSecret::generate(), "agt_2", "con_1", "token", b"sealed"),
        reference("password", place),
    ];
    let opened = open(&listed, &sealing, entries).expect("opens");
    let expected = [("token", "sealed"), ("password", "from a file")];
    assert_eq!(opened, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
}

#[test]
fn what_cannot_be_opened_is_named_by_its_key_and_code_and_never_by_its_value() {
    let (sealing, other) = (DhSecret::generate(), DhSecret::generate());
    let planted = b"planted-value";
    let mut altered = sealed(&sealing, "agt_1", "con_1", "token", planted);
    if let SecretValue::Sealed { data, .. } = &mut altered.value {
        let last = data.0.len() - 1;
        data.0[last] ^= 1;
    }
    let unknown = SecretEntry { key: "token".to_owned(), value: SecretValue::Unknown };
    let listed = format!("secret_references = [\"${{file:/nonexistent/planted-value}}\"]\n{OPEN}");
    let gone = || reference("token", "${file:/nonexistent/planted-value}".to_owned());
    let rows = [
        ("for another agent only", OPEN, sealed(&other, "agt_2", "con_1", "token", planted), Code::SecretUnopenable),
        ("to another key", OPEN, sealed(&other, "agt_1", "con_1", "token", planted), Code::SecretUnopenable),
        ("of another connection", OPEN, sealed(&sealing, "agt_1", "con_2", "token", planted), Code::SecretUnopenable),
        ("altered", OPEN, altered, Code::SecretUnopenable),
        ("not text", OPEN, sealed(&sealing, "agt_1", "con_1", "token", &[0xff, 0xfe]), Code::SecretUnopenable),
        ("reference not listed", OPEN, gone(), Code::SecretUnresolved),
        ("reference to nothing", &listed, gone(), Code::SecretUnresolved),
        ("no reference", OPEN, reference("token", "planted-value".to_owned()), Code::SecretUnresolved),
        ("of a later version", OPEN, unknown, Code::ProtocolVersion),
    ];
    for (name, text, entry, code) in rows {
        let error = open(text, &sealing, vec![entry]).expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error}");
        assert!(error.to_string().contains("`token`"), "{name}: {error}");
        assert!(!error.to_string().contains("planted-value"), "{name}: {error}");
    }
}

#[test]
fn a_python_version_is_two_numbers() {
    for (text, expected) in [
        ("3.13", true),
        ("3", false),
        ("3.13.1", false),
        ("", false),
        ("3.", false),
        ("3.1/../../../tmp/evil", false),
        ("/../evil", false),
    ] {
        assert_eq!(is_version(text), expected, "{text}");
    }
}

#[test]
fn a_variable_counts_only_where_the_policy_lists_it() {
    let sealing = DhSecret::generate();
    let variable = |key: &str, purpose: &str| {
        let context = SealContext { agent_id: "agt_1", connection_id: "con_1", purpose, endpoint: key };
        let data = inshore_trust::seal(&sealing.public(), &context.to_bytes(), b"planted-value").expect("a usable key");
        let to = "agt_1".parse().expect("id");
        SecretEntry { key: key.to_owned(), value: SecretValue::Sealed { to, data: Base64Bytes(data) } }
    };
    let open = |listed: &str, entry: SecretEntry| {
        let spec = JobSpec { environment: vec![entry], ..fixture::spec("job_1", 1) };
        open_settings(&spec, &policy(&format!("environment_variables = [{listed}]\n{OPEN}")), "agt_1", &sealing)
    };
    let opened = open("\"SHOP_*\"", variable("SHOP_TOKEN", "environment")).expect("listed");
    assert_eq!(opened.environment, [("SHOP_TOKEN".to_owned(), "planted-value".to_owned())]);
    assert!(opened.configuration.is_empty());
    let rows = [
        ("", "SHOP_TOKEN", "environment", Code::VariableNotListed),
        ("\"SHOP\"", "SHOP_TOKEN", "environment", Code::VariableNotListed),
        // What the runtime owns is refused whatever the policy says.
        ("\"*\"", "LD_PRELOAD", "environment", Code::VariableNotListed),
        ("\"*\"", "PATH", "environment", Code::VariableNotListed),
        ("\"*\"", "A=B", "environment", Code::VariableNotListed),
        // A value that was sealed as configuration is none.
        ("\"*\"", "SHOP_TOKEN", "configuration", Code::SecretUnopenable),
    ];
    for (listed, key, purpose, code) in rows {
        let error = open(listed, variable(key, purpose)).err().unwrap_or_else(|| panic!("{listed} {key} is refused"));
        assert_eq!(error.code(), code, "{listed} {key}");
        assert!(!error.to_string().contains("planted"), "{error}");
    }
}

/// A configuration of one column.
fn config(handling: ChangeHandling, column: &str, hashed: bool) -> SchemaConfig {
    let columns = vec![ColumnRule { column: column.to_owned(), enabled: None, hashed }];
    let tables = vec![TableRule { table: "orders".to_owned(), enabled: None, columns }];
    let schemas = vec![SchemaRule { schema: "shop".to_owned(), enabled: None, tables }];
    SchemaConfig { handling, label_keys: Vec::new(), schemas }
}

#[test]
fn a_salt_is_asked_for_only_where_columns_are_hashed_and_must_be_a_good_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    std::fs::create_dir(&state).expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("salt", &format!("{}\n", "0a".repeat(32)));
    write("short", "0a0a");
    write("state/salt", &"0a".repeat(32));
    std::os::unix::fs::symlink(state.join("salt"), folder.path().join("link")).expect("a link");
    let spec = |hashed| JobSpec {
        schema: Some(config(ChangeHandling::AllowAll, "email", hashed)),
        ..fixture::spec("job_1", 1)
    };
    let open = |spec: &JobSpec, salt: &str| {
        let file = folder.path().join(salt);
        let listed = format!("{OPEN}hash_salt = \"${{file:{}}}\"\n", file.display());
        open_salt(spec, &policy(if salt.is_empty() { OPEN } else { &listed }), &state)
    };
    assert_eq!(open(&spec(false), "nowhere").expect("no salt is needed"), None);
    assert_eq!(open(&spec(true), "salt").expect("a salt"), Some([10; 32]));
    let rows = [
        ("", "the policy names no salt for file:///srv/lake"),
        ("nowhere", "read the salt"),
        ("short", "not 64 hexadecimal digits"),
        ("state/salt", "in the agent's state directory"),
        ("link", "in the agent's state directory"),
    ];
    for (salt, words) in rows {
        let error = open(&spec(true), salt).expect_err(salt);
        assert!(error.to_string().contains(words), "{salt}: {error}");
        assert_eq!(error.code(), Code::HashSaltUnavailable, "{salt}");
    }
}

#[test]
fn rules_made_of_another_agents_hashes_are_refused() {
    use inshore_columnar::Naming;
    let with_key = |label_key: Option<[u8; 16]>, hashed| JobSpec {
        schema: Some(SchemaConfig {
            label_keys: label_key.map(Hex16).into_iter().collect(),
            ..config(ChangeHandling::BlockAll, "email", hashed)
        }),
        ..fixture::spec("job_1", 1)
    };
    let select = |spec: &JobSpec, salt| selection(spec, Naming::Fivetran, [1; 32], salt);
    assert!(select(&fixture::spec("job_1", 1), None).is_ok());
    assert!(select(&with_key(None, false), None).is_ok());
    assert!(select(&with_key(Some(report::key_id(&[1; 32])), false), None).is_ok());
    assert!(matches!(select(&with_key(Some([0; 16]), false), None), Err(Error::SchemaForeign)));
    assert!(matches!(select(&with_key(None, true), None), Err(Error::Selection(_))));
    assert!(select(&with_key(None, true), Some([1; 32])).is_ok());
}
