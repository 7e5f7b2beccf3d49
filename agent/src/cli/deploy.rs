//! `inshore package`, `deploy` and `download`: a project leaves this machine, and comes back.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use inshore_config::{Egress, Environment};
use inshore_protocol::limits::PACKAGE_BYTES_MAX;

use super::{Failure, debug, print, say, setup};
use crate::developer::{
    self, Api, DeployError, Deployed, Outcome, Package, Profile, Project, Sources, TestResult, Wanted,
};
use crate::job;

#[derive(Debug, Args)]
pub(super) struct PackageArgs {
    /// The folder that holds connector.py.
    #[arg(default_value = ".")]
    project: PathBuf,
    /// First pin every requirement with its hash, as `inshore lock` does: an agent then installs exactly those.
    #[arg(long)]
    lock: bool,
    /// The Python version that --lock resolves for, such as 3.12.
    #[arg(long, visible_alias = "python", requires = "lock")]
    python_version: Option<String>,
    /// Also list what is inside.
    #[arg(long, short)]
    list: bool,
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

pub(super) fn package(arguments: &PackageArgs) -> Result<(), Failure> {
    let project = open(&arguments.project)?;
    if arguments.lock {
        super::lock::write(&project, arguments.python_version.clone())?;
    }
    let package = make(&project)?;
    if arguments.output == Output::Json {
        let entries = arguments.list.then_some(&package.entries);
        let json = serde_json::json!({
            "path": package.path, "bytes": package.bytes, "sha256": package.sha256, "entries": entries,
        });
        print(&json.to_string());
        return Ok(());
    }
    if arguments.list {
        package.entries.iter().for_each(|entry| print(&format!("  {entry}")));
    }
    print(&format!("path    {}", package.path.display()));
    print(&format!("files   {}", package.entries.len()));
    print(&format!("bytes   {}", package.bytes));
    print(&format!("sha256  {}", package.sha256));
    Ok(())
}

fn make(project: &Project) -> Result<Package, Failure> {
    developer::package(project, PACKAGE_BYTES_MAX).map_err(|error| Failure::new(error.code(), &error))
}

/// Where the control plane is, and who asks.
#[derive(Args)]
pub(super) struct ControlPlaneArgs {
    /// Its address; else INSHORE_CONTROL_PLANE, else `production_base_url` of ~/.fivetran/connector_sdk/_config.json.
    #[arg(long, value_name = "URL")]
    control_plane: Option<String>,
    /// `key:secret` or its base64; else FIVETRAN_API_KEY. Other users of this machine can read a command line.
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
}

impl std::fmt::Debug for ControlPlaneArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlaneArgs").field("control_plane", &self.control_plane).finish_non_exhaustive()
    }
}

impl ControlPlaneArgs {
    pub(super) fn api(&self, environment: &Environment) -> Result<Api, Failure> {
        let url = developer::control_plane(self.control_plane.as_deref(), environment);
        let url = url.map_err(|error| Failure::new(error.code(), &error))?;
        let key = self.api_key.as_deref().or_else(|| environment.get("FIVETRAN_API_KEY"));
        let key =
            key.ok_or_else(|| Failure::usage("no API key: the variable FIVETRAN_API_KEY, or --api-key, holds it"))?;
        Api::new(&url, key, environment).map_err(|error| Failure::new(error.code(), &error))
    }
}

#[derive(Args)]
pub(super) struct DeployArgs {
    /// The folder that holds connector.py.
    #[arg(default_value = ".")]
    project: PathBuf,
    #[command(flatten)]
    control_plane: ControlPlaneArgs,
    /// The destination's name; else FIVETRAN_DESTINATION_NAME. Not needed where there is one only.
    #[arg(long)]
    destination: Option<String>,
    /// The connection's name, and the schema of its tables; else FIVETRAN_CONNECTION_NAME.
    #[arg(long)]
    connection: Option<String>,
    /// The configuration; else FIVETRAN_CONFIGURATION. A new connection takes configuration.json otherwise, one that is
    /// there keeps its values.
    #[arg(long)]
    configuration: Option<PathBuf>,
    /// A variable for the connector's environment; may be given several times, and replaces those that are stored. NAME alone
    /// takes its value from this environment, which no other user can read.
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    variables: Vec<String>,
    /// Run no setup tests: not here before, nor on the agent afterwards.
    #[arg(long)]
    no_tests: bool,
    /// The Python version, such as 3.12; else FIVETRAN_PYTHON_VERSION.
    #[arg(long, visible_alias = "python")]
    python_version: Option<String>,
    /// The agent that runs it; else FIVETRAN_HD_AGENT_ID.
    #[arg(long)]
    hybrid_deployment_agent_id: Option<String>,
    /// The proxy agent that its traffic goes through.
    #[arg(long)]
    proxy_id: Option<String>,
    /// The configuration's key that names the hosts behind the proxy.
    #[arg(long)]
    proxy_host_config_key: Option<String>,
    /// How tables and columns of a new connection are named: FIVETRAN or SOURCE; else FIVETRAN_NAMING.
    #[arg(long)]
    naming: Option<String>,
    /// Where the connector may connect, within what the agent's policy allows: host:port, *.suffix:port; once per rule.
    #[arg(long, value_name = "RULE", value_parser = egress_rule)]
    egress: Vec<String>,
    /// Take this package of the control plane instead of uploading one.
    #[arg(long)]
    package_id: Option<String>,
    /// Options by profile; else FIVETRAN_OPTIONS_FILE, options.toml of the project, ~/.fivetran/connector_sdk/options.toml.
    #[arg(long)]
    options_file: Option<PathBuf>,
    /// The profile of the options file.
    #[arg(long)]
    profile: Option<String>,
    /// First pin every requirement with its hash, as `inshore lock` does: the agent then installs exactly those.
    #[arg(long, conflicts_with = "package_id")]
    lock: bool,
    /// Do not ask before a connection that is there is changed.
    #[arg(long, short, visible_aliases = ["force", "non-interactive"])]
    yes: bool,
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

/// Values of variables may be secrets.
impl std::fmt::Debug for DeployArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeployArgs").field("project", &self.project).finish_non_exhaustive()
    }
}

pub(super) fn deploy(arguments: &DeployArgs) -> Result<(), Failure> {
    let environment = Environment::own();
    let project = open(&arguments.project)?;
    let (options, name) = (arguments.options_file.as_deref(), arguments.profile.as_deref());
    let profile = developer::profile(options, name, project.folder(), &environment);
    let profile = profile.map_err(|error| Failure::new(error.code(), &error))?;
    let mut wanted = wanted(arguments, profile, &environment)?;
    let api = arguments.control_plane.api(&environment)?;
    let found = developer::find(&api, wanted.destination.as_deref(), &wanted.connection).map_err(failure)?;
    let changes = found.connection.is_some();
    wanted.configuration = configuration(arguments, &project, &environment, changes)?;
    if changes && !arguments.yes && !confirmed(&wanted.connection, wanted.configuration.is_some())? {
        say("nothing was changed");
        return Ok(());
    }
    let tests = tested(arguments, &project, &wanted)?;
    if arguments.lock {
        super::lock::write(&project, wanted.python.clone())?;
    }
    let package = if wanted.package.is_none() { Some(make(&project)?) } else { None };
    let deployed = developer::deploy(&api, &wanted, &found, package.as_ref()).map_err(failure)?;
    tell(arguments.output, (&wanted, &tests), &found.group_name, &deployed);
    Ok(())
}

fn egress_rule(text: &str) -> Result<String, String> {
    Egress::parse([text]).map(|_| text.to_owned())
}

/// The codes of projects that run elsewhere but not on this machine: other packages, another Python, drivers.
const NOT_HERE: [&str; 3] = ["PKG-006", "PKG-009", "PKG-012"];

/// Runs the setup tests with the values that are to be deployed. One that does not pass ends the deployment before anything
/// is changed.
fn tested(arguments: &DeployArgs, project: &Project, wanted: &Wanted) -> Result<Vec<TestResult>, Failure> {
    let Some(configuration) = wanted.configuration.as_ref().filter(|_| !arguments.no_tests && wanted.package.is_none())
    else {
        // Stored values are not here, nor is the code of a package that is there.
        return Ok(Vec::new());
    };
    let mut settings = debug::plain_settings(None, wanted.python.clone())?;
    settings.environment = settings.environment.with(wanted.environment.iter().flatten());
    let results = match setup::results(project, &settings, configuration.clone(), None) {
        Err(failure) if NOT_HERE.contains(&failure.code.as_str()) => {
            say(&format!("the setup tests cannot be run here: {}: {}", failure.code, failure.text));
            return Ok(Vec::new());
        }
        results => results?,
    };
    results.iter().for_each(|result| say(&setup::sentence(result)));
    let failed = results.iter().filter(|result| result.outcome != Outcome::Passed).count();
    if failed == 0 {
        return Ok(results);
    }
    let text = format!(
        "{failed} of {} setup tests did not pass, nothing was deployed; --no-tests deploys all the same",
        results.len()
    );
    Err(Failure { code: "DEV-010".to_owned(), text, exit: 1 })
}

/// `NAME=VALUE` as it stands; `NAME` with what this environment has.
fn variables(given: &[String], environment: &Environment) -> Result<Option<BTreeMap<String, String>>, Failure> {
    if given.is_empty() {
        return Ok(None);
    }
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match environment.get(text) {
            Some(value) => Ok((text.clone(), value.to_owned())),
            None => Err(Failure::usage(&format!("--env {text}: the variable is not set here, and no value is given"))),
        },
    };
    given.iter().map(pair).collect::<Result<_, _>>().map(Some)
}

fn wanted(arguments: &DeployArgs, profile: Profile, environment: &Environment) -> Result<Wanted, Failure> {
    let variable = |name: &str| environment.get(name).map(str::to_owned);
    let pick = |flag: &Option<String>, name: &str, of_profile: Option<String>| {
        flag.clone().or_else(|| variable(name)).or(of_profile)
    };
    let connection = pick(&arguments.connection, "FIVETRAN_CONNECTION_NAME", profile.connection);
    let connection = connection.ok_or_else(|| Failure::usage("no connection: --connection NAME says which"))?;
    Ok(Wanted {
        connection,
        destination: pick(&arguments.destination, "FIVETRAN_DESTINATION_NAME", profile.destination),
        configuration: None,
        environment: variables(&arguments.variables, environment)?,
        python: pick(&arguments.python_version, "FIVETRAN_PYTHON_VERSION", profile.python_version),
        naming: pick(&arguments.naming, "FIVETRAN_NAMING", profile.naming),
        agent: pick(&arguments.hybrid_deployment_agent_id, "FIVETRAN_HD_AGENT_ID", profile.hybrid_deployment_agent_id),
        proxy: arguments.proxy_id.clone().or(profile.proxy_id),
        proxy_host_config_key: arguments.proxy_host_config_key.clone().or(profile.proxy_host_config_key),
        package: arguments.package_id.clone().or(profile.package_id),
        egress: if arguments.egress.is_empty() { profile.egress } else { Some(arguments.egress.clone()) },
        no_tests: arguments.no_tests,
    })
}

/// The project's own file is for a new connection only: whoever redeploys code does not mean to replace stored secrets
/// with those of the developer's machine.
fn configuration(
    arguments: &DeployArgs,
    project: &Project,
    environment: &Environment,
    is_there: bool,
) -> Result<Option<BTreeMap<String, String>>, Failure> {
    let is_named = arguments.configuration.is_some() || environment.get("FIVETRAN_CONFIGURATION").is_some();
    if is_there && !is_named {
        return Ok(None);
    }
    let sources = Sources { configuration: arguments.configuration.clone(), state: None };
    let configuration = project.configuration(&sources, environment);
    configuration.map(Some).map_err(|error| Failure::new(error.code(), &error))
}

/// Asks on a terminal; a script has decided already.
fn confirmed(connection: &str, replaces: bool) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    let values = if replaces { " and all values of its configuration" } else { "" };
    let question = format!("replace the code{values} of the connection {connection}? [y/N] ");
    let mut answer = String::new();
    let asked = std::io::stderr().write_all(question.as_bytes()).and_then(|()| std::io::stdin().read_line(&mut answer));
    asked.map_err(|error| Failure::new("PKG-010", &error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn tell(output: Output, (wanted, tests): (&Wanted, &[TestResult]), destination: &str, deployed: &Deployed) {
    let change = if deployed.created { "created" } else { "updated" };
    if output == Output::Json {
        let json = serde_json::json!({
            "connection_id": deployed.id, "connection": wanted.connection, "destination": destination, "change": change,
            "package_id": deployed.package, "code_unchanged": deployed.code_unchanged,
            "python_version": deployed.python, "paused": deployed.paused,
            "setup_tests": tests.iter().map(|test| test.label.as_str()).collect::<Vec<_>>(),
            "setup_tests_on_agent": deployed.tests_on_agent,
            "environment_variables": wanted.environment.as_ref().map(|variables| variables.keys().collect::<Vec<_>>()),
        });
        return print(&json.to_string());
    }
    print(&format!("connection   {} ({change})", deployed.id));
    print(&format!("name         {} in {destination}", wanted.connection));
    let unchanged = if deployed.code_unchanged { " (the code is the same)" } else { "" };
    print(&format!("package      {}{unchanged}", deployed.package));
    let values = match (&wanted.configuration, deployed.created) {
        (Some(values), _) => format!("{} values", values.len()),
        (None, _) => "kept as it was".to_owned(),
    };
    print(&format!("configuration {values}"));
    if let Some(variables) = &wanted.environment {
        print(&format!("variables    {}", variables.keys().cloned().collect::<Vec<_>>().join(", ")));
    }
    if !tests.is_empty() || deployed.tests_on_agent > 0 {
        print(&format!("setup tests  {} passed here, {} on the agent", tests.len(), deployed.tests_on_agent));
    }
    if deployed.paused {
        say("it is paused: start it in the dashboard, or with PATCH {\"paused\": false}");
    }
}

#[derive(Debug, Args)]
pub(super) struct DownloadArgs {
    /// The connection's name.
    connection: String,
    /// A new folder for its code; the connection's name if none is given.
    folder: Option<PathBuf>,
    #[command(flatten)]
    control_plane: ControlPlaneArgs,
    /// The destination's name; else FIVETRAN_DESTINATION_NAME. Not needed where there is one only.
    #[arg(long)]
    destination: Option<String>,
}

pub(super) fn download(arguments: &DownloadArgs) -> Result<(), Failure> {
    let environment = Environment::own();
    let folder = arguments.folder.clone().unwrap_or_else(|| PathBuf::from(&arguments.connection));
    let broken = |error: std::io::Error| Failure {
        text: format!("write {}: {error}", folder.display()),
        ..Failure::new("PKG-010", &error)
    };
    if folder.exists() && folder.read_dir().map_err(broken)?.next().is_some() {
        let text = format!("{} is not empty: choose a new folder", folder.display());
        return Err(Failure { code: "DEV-001".to_owned(), text, exit: 1 });
    }
    let api = arguments.control_plane.api(&environment)?;
    let destination = arguments.destination.as_deref().or_else(|| environment.get("FIVETRAN_DESTINATION_NAME"));
    let (zip, sha256) = developer::download(&api, destination, &arguments.connection).map_err(failure)?;
    let mut archive = tempfile::NamedTempFile::new().map_err(broken)?;
    archive.write_all(&zip).map_err(broken)?;
    std::fs::create_dir_all(&folder).map_err(broken)?;
    let unpacked = job::unpack_package(archive.path(), &sha256, &folder);
    unpacked.map_err(|error| Failure::new(job::code_of_package(&error).text(), &error))?;
    print(&folder.display().to_string());
    Ok(())
}

fn open(folder: &Path) -> Result<Project, Failure> {
    Project::open(folder).map_err(|error| Failure::new(error.code(), &error))
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err hands over")]
pub(super) fn failure(error: DeployError) -> Failure {
    Failure::new(error.code(), &error)
}
