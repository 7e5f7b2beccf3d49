//! The first process of a room: `inshore inside`. It opens the doors ([`doors`]: listeners, resolver, HTTP proxy, all of
//! which lead to the relay), has the kernel refuse every file but the room's own ([`files`]), gives up its capabilities,
//! sets limits, forbids system calls ([`confine`]), and only then starts the connector's host, whose end is the room's end.
//!
//! Nobody outside trusts it. As process 1 it cannot be signalled from inside, and it takes in what loses its parent.

mod confine;
mod doors;
mod files;
mod names;
mod proxy;

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{WaitOptions, WaitStatus, wait};

use super::bubblewrap::{INSIDE, RELAY};
pub(crate) use confine::Limits;
use doors::Doors;
pub(crate) use doors::PROXY_PORT;
pub(crate) use files::Landlock;
use files::Places;

/// The exit code of a room that ran too many processes; no program of a connector's ends so by habit.
pub(crate) const TOO_MANY: u8 = 251;
/// How often processes are counted.
const COUNT_EVERY: Duration = Duration::from_millis(50);

/// What the first process is asked to do.
#[derive(Debug, clap::Args)]
pub(crate) struct InsideArgs {
    #[arg(long)]
    processes_max: u32,
    #[arg(long)]
    file_bytes_max: u64,
    /// Keep every process to so many of this host's processors.
    #[arg(long)]
    processors_max: Option<u32>,
    /// Leave memory writable and executable at once to programs that compile as they run.
    #[arg(long)]
    writable_code: bool,
    /// What programs may read and run, with everything below; once per place.
    #[arg(long)]
    readable: Vec<PathBuf>,
    /// What programs may also change.
    #[arg(long)]
    writable: Vec<PathBuf>,
    /// Do everything but start a program, and say what the kernel adds.
    #[arg(long)]
    check: bool,
    /// The program and its arguments.
    #[arg(last = true)]
    program: Vec<String>,
}

/// Why a room could not be made from inside.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("ask the relay")]
    Relay(#[source] io::Error),
    #[error("claim the room's addresses")]
    Addresses(#[source] io::Error),
    #[error("listen at port {port}")]
    Listen {
        port: u16,
        #[source]
        source: io::Error,
    },
    #[error("confine the room, {what}: {cause}")]
    Confine { what: &'static str, cause: String },
    #[error("start the connector's host")]
    Start(#[source] io::Error),
    #[error("wait for the connector's host")]
    Wait(#[source] io::Error),
}

/// Makes the room and waits for its end; returns the exit code of what ran in it.
pub(crate) fn main(arguments: &InsideArgs) -> Result<ExitCode, Error> {
    let ports = ask("ports").map_err(Error::Relay)?;
    doors::claim_addresses().map_err(Error::Addresses)?;
    let doors = Doors::open(ports.split_ascii_whitespace().filter_map(|port| port.parse().ok()))?;
    let limits = Limits {
        processes_max: arguments.processes_max,
        file_bytes_max: arguments.file_bytes_max,
        processors_max: arguments.processors_max,
        writable_code: arguments.writable_code,
    };
    let kept = files::keep_to(&Places { readable: arguments.readable.clone(), writable: arguments.writable.clone() })?;
    confine::close(&limits)?;
    if arguments.check {
        tell(kept);
        return Ok(ExitCode::SUCCESS);
    }
    let child = start(&arguments.program).map_err(Error::Start)?;
    let processes_max = usize::try_from(arguments.processes_max).unwrap_or(usize::MAX);
    std::thread::spawn(move || doors.serve());
    std::thread::spawn(move || watch_processes(processes_max));
    reap(&child)
}

#[expect(clippy::print_stdout, reason = "the self-test of the host reads it")]
fn tell(kept: Landlock) {
    println!("{kept}");
}

/// One question to the relay and its answer, a line each.
fn ask(question: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(relay())?;
    stream.write_all(format!("{question}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn relay() -> PathBuf {
    [INSIDE, RELAY].iter().collect()
}

/// The host's stdin is its link to the job. This process keeps neither link nor pipes: their ends are the host's own.
fn start(program: &[String]) -> io::Result<Child> {
    let (name, arguments) = program.split_first().ok_or_else(|| io::Error::other("no program was named"))?;
    let mut link = UnixStream::connect(relay())?;
    link.write_all(b"link\n")?;
    let mut answer = [0; 3];
    link.read_exact(&mut answer)?;
    Command::new(name).args(arguments).stdin(Stdio::from(OwnedFd::from(link))).spawn()
}

/// Takes in every process that ends, until the host does.
fn reap(host: &Child) -> Result<ExitCode, Error> {
    loop {
        let ended = match wait(WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            ended => ended.map_err(|errno| Error::Wait(errno.into()))?,
        };
        if let Some((pid, status)) = ended
            && u32::try_from(pid.as_raw_nonzero().get()) == Ok(host.id())
        {
            return Ok(ExitCode::from(code(status)));
        }
    }
}

/// As shells say it: what a signal ended is 128 and its number.
fn code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Ends the room when too much runs in it. Counts tasks, so that threads count too.
fn watch_processes(processes_max: usize) {
    loop {
        std::thread::sleep(COUNT_EVERY);
        if tasks() > processes_max {
            leave();
        }
    }
}

#[expect(clippy::exit, reason = "the end of this process ends every other one of the room, at once")]
fn leave() -> ! {
    std::process::exit(i32::from(TOO_MANY))
}

fn tasks() -> usize {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(|first: char| first.is_ascii_digit()));
    processes.map(|process| std::fs::read_dir(process.path().join("task")).map_or(1, Iterator::count)).sum()
}
