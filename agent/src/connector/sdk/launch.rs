//! Starts the Python host: in its sandbox, or with this process's own rights where there is none. Either way its stdin is
//! the socket to the job, its environment is made here and nowhere else, and descriptors 0 to 2 are all it has.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::Settings;
use super::process::MARKER;
use crate::connector::Error;
use crate::sandbox::inside::{PROXY_PORT, TOO_MANY};
use crate::sandbox::{self, Room, Sandbox, Upstream, View};

/// What is read of a sandbox that could not be made.
const REASON_BYTES_MAX: u64 = 4096;
/// Variables that name files and folders which the connector must see.
const NAMING: [&str; 4] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// A host that runs.
pub(super) struct Launched {
    pub(super) child: Child,
    pub(super) stream: UnixStream,
    pub(super) room: Option<Room>,
}

/// Starts the host; its processes carry the marker.
pub(super) async fn launch(settings: &Settings, python: &Path, marker: &str) -> Result<Launched, Error> {
    match &settings.sandbox {
        Some(sandbox) => in_sandbox(settings, sandbox, python, marker).await,
        None => bare(settings, python, marker).map_err(Error::Start),
    }
}

fn bare(settings: &Settings, python: &Path, marker: &str) -> std::io::Result<Launched> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let stream = UnixStream::from_std(ours)?;
    let mut command = Command::new(python);
    command.args(host_arguments(settings)).current_dir(&settings.project_dir).stdin(Stdio::from(OwnedFd::from(theirs)));
    let child = surround(&mut command, settings, marker).spawn()?;
    Ok(Launched { child, stream, room: None })
}

async fn in_sandbox(settings: &Settings, sandbox: &Sandbox, python: &Path, marker: &str) -> Result<Launched, Error> {
    let named = settings.variables.iter().filter(|(name, _)| NAMING.contains(&name.as_str()));
    let view = View {
        project: &settings.project_dir,
        sdk: &settings.sdk_dir,
        python,
        home: &settings.scratch_dir,
        named: named.map(|(_, value)| PathBuf::from(value)).filter(|path| path.is_absolute()).collect(),
    };
    let ports = likely_ports(&settings.start.configuration);
    let variables: Vec<_> = variables(settings).cloned().collect();
    let mut room = sandbox.room(&view, &ports, Upstream::of(&variables, &settings.declared))?;
    let mut command = room.command(&["--"]);
    command.arg(python).args(host_arguments(settings)).stdin(Stdio::null());
    let command = surround(&mut command, settings, marker).envs(proxy_variables(&variables));
    // A developer's own are not in the room.
    command.env("HOME", &settings.scratch_dir).env("TMPDIR", &settings.scratch_dir);
    let tool = sandbox.tools.bubblewrap.clone();
    let mut child = command.spawn().map_err(|source| sandbox::Error::Tool { tool, source })?;
    let linked = tokio::select! {
        biased;
        link = room.link() => Some(link?),
        _ = child.wait() => None,
    };
    match linked {
        Some(stream) => Ok(Launched { child, stream, room: Some(room) }),
        None => Err(sandbox::Error::Refused(last_words(&mut child).await).into()),
    }
}

async fn last_words(child: &mut Child) -> String {
    let mut words = Vec::new();
    if let Some(stderr) = child.stderr.take()
        && let Err(error) = stderr.take(REASON_BYTES_MAX).read_to_end(&mut words).await
    {
        tracing::debug!(%error, "the reason of a sandbox's failure could not be read");
    }
    sandbox::reason(&words)
}

fn host_arguments(settings: &Settings) -> Vec<PathBuf> {
    let flags = ["-I", "-B", "-X", "utf8"].map(PathBuf::from);
    flags.into_iter().chain([settings.sdk_dir.join("inshore_host.py")]).collect()
}

/// The environment and the pipes.
fn surround<'a>(command: &'a mut Command, settings: &Settings, marker: &str) -> &'a mut Command {
    let connection = &settings.connection;
    command
        .env_clear()
        .env("PATH", &settings.environment.search_path)
        .env("HOME", &settings.scratch_dir)
        .env("TMPDIR", &settings.scratch_dir)
        .env("LANG", "C.UTF-8")
        .envs(variables(settings).map(|(name, value)| (OsStr::new(name), OsStr::new(value))))
        .env("FIVETRAN_CONNECTION_ID", &connection.id)
        .env("FIVETRAN_CONNECTION_NAME", &connection.name)
        .env("FIVETRAN_GROUP_ID", &connection.group_id)
        .env("FIVETRAN_DEPLOYMENT_MODEL", &connection.deployment_model)
        .env(MARKER, marker)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
}

/// The host's variables, but for those that the connection declares itself, in either case of letters; then the declared.
fn variables(settings: &Settings) -> impl Iterator<Item = &(String, String)> {
    let declared = |name: &str| settings.declared.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    settings.variables.iter().filter(move |(name, _)| !declared(name)).chain(&settings.declared)
}

/// HTTP libraries ask the sandbox's own proxy, which passes on what this host's proxy is for.
fn proxy_variables(variables: &[(String, String)]) -> Vec<(&'static str, String)> {
    let proxy = format!("http://127.0.0.1:{PROXY_PORT}");
    let direct =
        variables.iter().find(|(name, _)| name.eq_ignore_ascii_case("no_proxy")).map(|(_, value)| value.as_str());
    let direct = ["localhost,127.0.0.1"].into_iter().chain(direct).collect::<Vec<_>>().join(",");
    let each = |names: [&'static str; 2], value: &str| names.map(|name| (name, value.to_owned()));
    [
        each(["HTTP_PROXY", "http_proxy"], &proxy),
        each(["HTTPS_PROXY", "https_proxy"], &proxy),
        each(["NO_PROXY", "no_proxy"], &direct),
    ]
    .concat()
}

/// Numbers of the configuration that can be ports, alone or beside a host: raw TCP will be asked for there.
fn likely_ports(configuration: &BTreeMap<String, String>) -> BTreeSet<u16> {
    let of_a_word = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_');
    let words = configuration.values().flat_map(|value| value.split(move |character| !of_a_word(character)));
    words.filter_map(|word| word.parse().ok()).filter(|port| *port > 0).take(PORTS_MAX).collect()
}

/// More numbers than this are no ports.
const PORTS_MAX: usize = 64;

/// How a sandboxed host ended, in the terms of one that was not: its first process says a signal as 128 and its number.
pub(super) fn ended_inside(status: ExitStatus) -> Result<ExitStatus, TooMany> {
    match status.code() {
        Some(code) if code == i32::from(TOO_MANY) => Err(TooMany),
        Some(code @ 129..=192) => Ok(ExitStatus::from_raw(code - 128)),
        _ => Ok(status),
    }
}

/// The sandbox ended itself, because too many processes ran in it.
pub(super) struct TooMany;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_found_in_configurations() {
        let values = [
            ("port", "5433"),
            ("url", "https://a.example:8444/x"),
            ("hosts", "a:9093,b:9094"),
            ("more", "[9100, 9101]"),
            ("text", "x1 2024-01-02 10.0.0.1 99999"),
            ("no", "0"),
        ];
        let configuration = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(likely_ports(&configuration), BTreeSet::from([5433, 8444, 9093, 9094, 9100, 9101]));
    }

    #[test]
    fn the_sandboxs_proxy_takes_the_place_of_the_hosts() {
        let variables = [("no_proxy".to_owned(), "db.corp".to_owned())];
        let made = proxy_variables(&variables);
        assert!(made.contains(&("HTTPS_PROXY", format!("http://127.0.0.1:{PROXY_PORT}"))), "{made:?}");
        assert!(made.contains(&("no_proxy", "localhost,127.0.0.1,db.corp".to_owned())), "{made:?}");
    }
}
