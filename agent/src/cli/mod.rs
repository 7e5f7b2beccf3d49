//! The command line: what people and units type, and the exit codes they get. Results go to stdout, words for people to
//! stderr; one error line says code, what, and where to read on.

mod changes;
mod debug;
mod deploy;
mod destination;
mod events;
mod form;
mod journald;
mod lock;
mod log;
mod logs;
mod look;
mod place;
mod project;
mod run;
mod screen;
mod setup;
mod state;
mod syncs;
mod validate;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use inshore_config::{AgentConfig, LogConfig};

use crate::connector::{LogLevel, LogLine, LogOrigin};
use crate::context::chain;
use crate::sandbox::inside::{self, InsideArgs};
use crate::sandbox::{self, SelfTest, Tested};
use crate::{agent, enrol, identity, installation, job};

const CONFIG_FILE: &str = "/etc/inshore/agent.toml";
/// The error pages of the package.
const PAGES: &str = "/usr/share/doc/inshore/errors";
const POLICY_FILE: &str = "/etc/inshore/policy.toml";

/// Moves data inside your own network.
#[derive(Debug, Parser)]
#[command(name = "inshore", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The agent of this host.
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Turn a join token into this host's identity. Without --token-file the token is read from stdin.
    Enrol(EnrolArgs),
    /// Write a new connector project, from a template. Never goes online.
    Init(project::InitArgs),
    /// Run a connector project on this machine: rows go to files/warehouse.db, the state to files/state.json.
    Debug(debug::DebugArgs),
    /// Run a connector project on this machine, without an agent, into the lake that destination.json names.
    Run(run::RunArgs),
    /// Pin a project's requirements: writes requirements.lock with hashes, which an agent installs from.
    Lock(lock::LockArgs),
    /// Print the folder of the connector SDK: `PYTHONPATH=$(inshore sdk-path) python connector.py` runs connector.debug().
    SdkPath,
    /// Print how letters beyond ASCII are spelled in names: the build keeps it for the SDK's Python encoder.
    #[command(hide = true)]
    SdkLetters,
    /// Run the setup tests of a project's configuration form.
    Test(setup::TestArgs),
    /// Look a project over without a sync and without a network.
    Validate(validate::ValidateArgs),
    /// Fill configuration.json from the project's form.
    Configuration(form::ConfigurationArgs),
    /// Write the package of a project, files/<project>.zip, and tell its digest.
    Package(deploy::PackageArgs),
    /// Create a connection of this project at a control plane, or bring it up to date.
    Deploy(Box<deploy::DeployArgs>),
    /// Get the code of a connection back.
    Download(deploy::DownloadArgs),
    /// List the runs of a connection, as its control plane remembers them.
    Syncs(syncs::SyncsArgs),
    /// Show the tables of the last run: columns, types, counts, and what changed.
    Inspect(look::InspectArgs),
    /// Ask files/warehouse.db something in SQL.
    Sql(look::SqlArgs),
    /// The state that the next run of a project starts from, and the way back to an earlier one.
    #[command(subcommand)]
    State(state::StateCommand),
    /// Remove what runs left: tables, state, warehouse.
    Reset(project::ResetArgs),
    /// The places where rows land, as this agent's host reaches them.
    #[command(subcommand)]
    Destination(destination::DestinationCommand),
    /// Show what connectors said on this agent's host.
    Logs(logs::LogsArgs),
    /// Print the version.
    Version,
    /// Run one job: started by the agent, which hands the request over on stdin.
    #[command(hide = true)]
    Job(JobArgs),
    /// Be the first process of a connector's sandbox: started by a job, within bubblewrap.
    #[command(hide = true)]
    Inside(InsideArgs),
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
    /// Hold the channel to the control plane and run its jobs. SIGTERM drains.
    Run(RunArgs),
    /// Say who this agent is and what this host allows.
    Status(RunArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The agent's settings.
    #[arg(long, default_value = CONFIG_FILE)]
    config: PathBuf,
    /// What this host allows.
    #[arg(long, default_value = POLICY_FILE)]
    policy: PathBuf,
}

#[derive(Debug, Args)]
struct JobArgs {
    /// The agent's `[log]` settings, as JSON.
    #[arg(long, value_parser = log::settings, default_value = "{}")]
    log: LogConfig,
}

#[derive(Debug, Args)]
struct EnrolArgs {
    /// The agent's settings.
    #[arg(long, default_value = CONFIG_FILE)]
    config: PathBuf,
    /// A file that only its owner can read, holding the join token.
    #[arg(long)]
    token_file: Option<PathBuf>,
}

/// A command's failure: its code and everything that led to it.
struct Failure {
    code: String,
    text: String,
    exit: u8,
}

impl Failure {
    fn new(code: &str, error: &dyn std::error::Error) -> Self {
        Self { code: code.to_owned(), text: chain(error), exit: exit_code(code) }
    }

    /// Something was typed that cannot be done.
    fn usage(text: &str) -> Self {
        Self { code: String::new(), text: text.to_owned(), exit: 2 }
    }
}

/// Exit codes (docs/operating.md): 1 failed, 3 something on this host must be mended first, 4 an identity or a key was
/// refused, 5 nobody is there.
/// Enrolment knows 5, nobody there, as well.
fn exit_code(code: &str) -> u8 {
    match code {
        "CHN-004" | "DEV-008" => 4,
        "DEV-007" => 5,
        code if code.starts_with("CFG-") || code.starts_with("ENR-") => 3,
        _ => 1,
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Inside(arguments) => return be_inside(&arguments),
        Command::Agent(AgentCommand::Run(arguments)) => run(&arguments),
        Command::Agent(AgentCommand::Status(arguments)) => status(&arguments),
        Command::Enrol(arguments) => enrol(&arguments),
        Command::Init(arguments) => project::init(&arguments),
        Command::Debug(arguments) => debug::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Lock(arguments) => lock::run(&arguments),
        Command::SdkPath => sdk_path(),
        Command::SdkLetters => sdk_letters(),
        Command::Test(arguments) => setup::run(&arguments),
        Command::Validate(arguments) => validate::run(&arguments),
        Command::Configuration(arguments) => form::configuration(&arguments),
        Command::Package(arguments) => deploy::package(&arguments),
        Command::Deploy(arguments) => deploy::deploy(&arguments),
        Command::Download(arguments) => deploy::download(&arguments),
        Command::Syncs(arguments) => syncs::run(&arguments),
        Command::Inspect(arguments) => look::inspect(&arguments),
        Command::Sql(arguments) => look::sql(&arguments),
        Command::State(command) => state::run(&command),
        Command::Reset(arguments) => project::reset(&arguments),
        Command::Destination(command) => destination::run(&command),
        Command::Logs(arguments) => logs::run(&arguments),
        Command::Version => version(),
        Command::Job(arguments) => run_job(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            ExitCode::from(failure.exit)
        }
    }
}

#[expect(clippy::print_stderr, reason = "the one place where a command's failure is told")]
fn complain(failure: &Failure) {
    let text = failure.text.trim_end();
    if failure.code.is_empty() {
        return eprintln!("inshore: {text}");
    }
    // A traceback ends in a line of its own.
    let then = if text.contains('\n') { "\n" } else { ". " };
    eprintln!("inshore: {}: {text}{then}See {}", failure.code, page(&failure.code));
}

/// Where the code's page is: beside an installed product, else in the sources.
fn page(code: &str) -> String {
    let installed = format!("{PAGES}/{code}.md");
    if std::path::Path::new(&installed).is_file() { installed } else { format!("docs/errors/{code}.md") }
}

fn run(arguments: &RunArgs) -> Result<(), Failure> {
    let config = load(&arguments.config)?;
    log::start(&config.log);
    let runtime = runtime("agent", 2)?;
    let agent = agent::run(config, arguments.policy.clone());
    runtime.block_on(agent).map_err(|error| Failure::new(error.code(), &error))
}

#[expect(clippy::print_stderr, reason = "the job reads why a sandbox could not be made")]
fn be_inside(arguments: &InsideArgs) -> ExitCode {
    inside::main(arguments).unwrap_or_else(|error| {
        eprintln!("inshore: {}", chain(&error));
        ExitCode::FAILURE
    })
}

fn run_job(arguments: &JobArgs) -> Result<(), Failure> {
    log::start(&arguments.log);
    let runtime = runtime("job", 2)?;
    runtime.block_on(job::main()).map_err(|error| Failure::new("AGT-005", &error))
}

fn enrol(arguments: &EnrolArgs) -> Result<(), Failure> {
    let config = load(&arguments.config)?;
    log::start(&config.log);
    let runtime = runtime("enrol", 1)?;
    let enrolled = runtime.block_on(enrol::run(&config, arguments.token_file.as_deref()));
    let identity =
        enrolled.map_err(|error| Failure { exit: error.exit_code(), ..Failure::new(error.code(), &error) })?;
    print(&format!("enrolled as {}", identity.agent_id));
    Ok(())
}

fn status(arguments: &RunArgs) -> Result<(), Failure> {
    let config = load(&arguments.config)?;
    let policy = inshore_config::Policy::load(&arguments.policy).map_err(|error| Failure::new(error.code(), &error))?;
    let identity =
        identity::Identity::load(config.state_dir.as_path()).map_err(|error| Failure::new(error.code(), &error))?;
    print(&format!("agent          {}", identity.agent_id));
    print(&format!("control plane  {}", config.channel.url.as_deref().unwrap_or(&identity.url)));
    print(&format!("identity       {}", identity.public().to_hex()));
    print(&format!("mode           {}", if policy.allows_unapproved_jobs() { "managed" } else { "locked" }));
    print(&format!("sandbox        {}", sandbox_status(&policy, sandbox::tested(config.state_dir.as_path()))));
    if installation::is_our_own(&arguments.policy) {
        print("policy         owned by this user, who can change what binds it: let root own it");
    }
    for destination in &policy.destinations {
        print(&format!("destination    {}", destination.uri()));
    }
    Ok(())
}

fn sdk_path() -> Result<(), Failure> {
    let executable = agent::executable().map_err(|error| Failure::new(error.code(), &error))?;
    print(&installation::sdk_dir(&executable).display().to_string());
    Ok(())
}

/// A line each: the letter's code in hexadecimal, a space, the text.
#[expect(clippy::unnecessary_wraps, reason = "a verb like the others")]
fn sdk_letters() -> Result<(), Failure> {
    let lines: Vec<String> = inshore_columnar::name::spelled_letters()
        .map(|(letter, spelled)| format!("{:x} {spelled}", u32::from(letter)))
        .collect();
    print(&lines.join("\n"));
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "a verb like the others")]
fn version() -> Result<(), Failure> {
    print(concat!("inshore ", env!("CARGO_PKG_VERSION")));
    Ok(())
}

fn sandbox_status(policy: &inshore_config::Policy, tested: Option<Tested>) -> String {
    let Some(tested) = tested.filter(|_| !policy.allow_unsandboxed) else {
        let untested = "bubblewrap, untested: the agent has not been started yet";
        return if policy.allow_unsandboxed { "none: connectors run UNSANDBOXED" } else { untested }.to_owned();
    };
    match &tested.sandbox {
        SelfTest::Passed => format!("bubblewrap and {}; limits by {}", tested.landlock, tested.limits.text()),
        SelfTest::Failed { reason } => format!("none: every job is refused (POL-003): {reason}"),
    }
}

fn load(path: &std::path::Path) -> Result<AgentConfig, Failure> {
    AgentConfig::load(path).map_err(|error| Failure::new(error.code(), &error))
}

fn runtime(name: &'static str, threads: usize) -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(4)
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(|error| Failure::new("AGT-003", &error))
}

/// A command's result. Whoever reads it may stop reading.
fn print(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// A line of the preparation. What an installer says by itself is told when it fails, by the error.
#[expect(clippy::needless_pass_by_value, reason = "what the callers' closures are given")]
fn say_line(line: LogLine) {
    if line.level > LogLevel::Debug || line.origin != LogOrigin::Library {
        say(&line.message);
    }
}

/// Words for people.
fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

#[cfg(test)]
mod tests {
    use inshore_protocol::Code;

    use super::*;

    #[test]
    fn exit_codes_tell_what_has_to_be_mended() {
        for (code, exit) in [
            (Code::ConfigMissing, 3),
            (Code::PolicyUnknownKey, 3),
            (Code::NotEnrolled, 3),
            (Code::IdentityUnreadable, 3),
            (Code::IdentityRefused, 4),
            (Code::ApiKeyRefused, 4),
            (Code::ControlPlaneNotFound, 5),
            (Code::StoreBroken, 1),
            (Code::Internal, 1),
        ] {
            assert_eq!(exit_code(code.text()), exit, "{code}");
        }
        // Every code has one, and none is mistaken for success or for clap's own usage error.
        assert!(Code::all().iter().all(|code| matches!(exit_code(code.text()), 1 | 3 | 4 | 5)));
    }

    #[test]
    fn a_failure_says_every_cause_and_its_code() {
        let failure = load(std::path::Path::new("/nonexistent/agent.toml")).expect_err("missing");
        assert_eq!((failure.code.as_str(), failure.exit), ("CFG-001", 3));
        assert!(failure.text.contains("/nonexistent/agent.toml"), "{}", failure.text);
    }

    #[test]
    fn the_command_line_is_what_units_and_the_installer_type() {
        for line in [
            "inshore agent run",
            "inshore agent run --config /a --policy /b",
            "inshore agent status --config /a",
            "inshore enrol --config /etc/inshore/agent.toml --token-file -",
            "inshore init hello --template incremental-rest",
            "inshore state set {} --project p",
            "inshore state history --limit 5 -o json",
            "inshore state diff 3 current --project p",
            "inshore state rewind 3 --yes",
            "inshore state history --connection c --destination file:///srv/lake --config /a",
            "inshore syncs hello --status failed --limit 5 -o jsonl",
            "inshore sql -o csv query",
            "inshore reset --force",
            "inshore job",
            "inshore run hello --destination-file d.json --state s.json",
            "inshore sdk-path",
            "inshore logs",
            "inshore logs con_1 --follow --level warning --table orders --sync job_1 -n 5 -o jsonl",
            "inshore sdk-letters",
            "inshore test hello --configuration c.json --test reaches --test lists --python 3.12",
            "inshore lock /project --python 3.12",
            "inshore package /project --lock --python 3.12",
            "inshore deploy /project --connection c --lock",
            "inshore deploy --connection c --env HTTPS_PROXY --env A=b=c --no-tests",
            r#"inshore job --log {"format":"json","level":"debug"}"#,
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in
            ["inshore", "inshore agent", "inshore run a b", "inshore enrol --token secret", "inshore job --log json"]
        {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
