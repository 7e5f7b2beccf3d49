//! The kernel's Landlock, where it has it: the same files once more that the room's mounts show, by a mechanism that knows
//! nothing of mounts, and no signal or abstract socket beyond the room. An extra layer: a kernel without it has none, which
//! is told and is no failure.

use std::fmt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use serde::{Deserialize, Serialize};

use super::Error;

/// The newest version whose rules are used here. Later ones log refusals, and rule sockets that have a path: the relay's.
const KNOWN: ABI = ABI::V6;
/// What the kernel tells of the room's processes is read, and not written.
const PROC: &str = "/proc";

/// What the kernel of this host adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Landlock {
    /// Version of the kernel's interface.
    Abi(i32),
    #[default]
    None,
}

impl fmt::Display for Landlock {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Abi(version) => write!(to, "landlock abi {version}"),
            Self::None => write!(to, "no landlock"),
        }
    }
}

impl Landlock {
    /// As [`fmt::Display`] writes it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("landlock abi ") {
            Some(version) => version.parse().ok().map(Self::Abi),
            None => (text == "no landlock").then_some(Self::None),
        }
    }
}

/// What programs of the room may open. Places that are absent are no error: not every host has each.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    /// Read and execute, with everything below.
    pub(super) readable: Vec<PathBuf>,
    /// Everything but device nodes, with everything below.
    pub(super) writable: Vec<PathBuf>,
}

/// Closes it for this thread, and for every thread and process that it starts from here on.
pub(super) fn keep_to(places: &Places) -> Result<Landlock, Error> {
    let enforced = restrict(places).map_err(|error| Error::Confine { what: "files", cause: error.to_string() })?;
    Ok(match (enforced.ruleset, enforced.landlock) {
        (RulesetStatus::NotEnforced, _) => Landlock::None,
        (_, LandlockStatus::Available { effective_abi, kernel_abi }) => {
            Landlock::Abi(kernel_abi.unwrap_or(effective_abi as i32))
        }
        _ => Landlock::None,
    })
}

fn restrict(places: &Places) -> Result<RestrictionStatus, RulesetError> {
    // The first version forbids what every program does, to move a file into another folder: better none than that one.
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::SoftRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?;
    let read = AccessFs::from_read(KNOWN);
    let write = AccessFs::from_all(KNOWN) & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    let named = |paths: &[PathBuf], access: BitFlags<AccessFs>| path_beneath_rules(paths.to_vec(), access);
    ruleset
        .create()?
        .add_rules(path_beneath_rules([Path::new("/")], AccessFs::ReadDir))?
        .add_rules(path_beneath_rules([Path::new(PROC)], AccessFs::ReadFile | AccessFs::ReadDir))?
        .add_rules(named(&places.readable, read))?
        .add_rules(named(&places.writable, write))?
        .restrict_self()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;

    use super::*;

    /// In a thread of its own, which the rules bind alone.
    fn apart<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(action).join().expect("the thread ends")
    }

    /// A folder with a file to read, one to write below, and one that no rule names.
    fn folders() -> (tempfile::TempDir, Places) {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["readable", "writable", "writable/below", "other"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
            fs::write(folder.path().join(name).join("file"), "text").expect("a file");
        }
        let at = |name: &str| vec![folder.path().join(name), folder.path().join("absent")];
        let places = Places { readable: at("readable"), writable: at("writable") };
        (folder, places)
    }

    #[test]
    fn files_of_no_rule_are_refused_where_the_kernel_can() {
        let (folder, places) = folders();
        let at = {
            let root = folder.path().to_owned();
            move |name: &str| root.join(name)
        };
        apart(move || {
            let kept = keep_to(&places).expect("no failure");
            let refused = (kept != Landlock::None).then_some(ErrorKind::PermissionDenied);
            assert_eq!(fs::read(at("readable/file")).expect("readable"), b"text");
            assert_eq!(fs::write(at("readable/file"), "x").err().map(|error| error.kind()), refused);
            assert_eq!(fs::read(at("other/file")).err().map(|error| error.kind()), refused);
            assert_eq!(fs::write(at("other/new"), "x").err().map(|error| error.kind()), refused);
            assert!(fs::read_dir(at("other")).is_ok(), "names are shown");
            fs::write(at("writable/new"), "x").expect("writable");
            fs::rename(at("writable/new"), at("writable/below/moved")).expect("moved into another folder");
            fs::remove_file(at("writable/below/moved")).expect("removed");
            assert!(fs::read_to_string("/proc/self/stat").is_ok());
            assert_eq!(fs::write("/proc/self/comm", "x").err().map(|error| error.kind()), refused);
        });
        assert!(fs::read(folder.path().join("other/file")).is_ok(), "other threads are free");
    }

    #[test]
    fn signals_and_abstract_sockets_end_at_the_room_where_the_kernel_can() {
        use rustix::process::{Pid, Signal, kill_process};
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
        let mut outside = std::process::Command::new("sleep").arg("60").spawn().expect("a process");
        let pid = Pid::from_child(&outside);
        let name = SocketAddr::from_abstract_name(format!("inshore-test-{}", outside.id())).expect("a name");
        let listener = UnixListener::bind_addr(&name).expect("a socket");
        let (bare, reached) = (kill_process(pid, Signal::CONT), UnixStream::connect_addr(&name).map(drop));
        assert!(bare.is_ok() && reached.is_ok(), "both work without");
        let (kept, signalled, connected, inside) = apart(move || {
            let kept = keep_to(&Places::default()).expect("no failure");
            let own = SocketAddr::from_abstract_name(format!("inshore-own-{}", std::process::id())).expect("a name");
            let own_listener = UnixListener::bind_addr(&own).expect("a socket");
            let inside = UnixStream::connect_addr(&own).map(|_| drop(own_listener));
            (kept, kill_process(pid, Signal::CONT), UnixStream::connect_addr(&name).map(drop), inside)
        });
        drop((outside.kill(), outside.wait(), listener));
        // Since version 6.
        let scoped = matches!(kept, Landlock::Abi(version) if version >= 6);
        assert_eq!((signalled.is_err(), connected.is_err()), (scoped, scoped), "{kept}");
        assert!(inside.is_ok(), "sockets of the room itself are open: {inside:?}");
    }

    /// As a kernel answers that was built without it, and one where it is switched off.
    #[test]
    fn a_kernel_without_it_is_told_and_no_failure() {
        for errno in [libc::ENOSYS, libc::EOPNOTSUPP, libc::EPERM] {
            let (folder, places) = folders();
            let file = folder.path().join("other/file");
            let (kept, read) = apart(move || {
                let calls = [(libc::SYS_landlock_create_ruleset, Vec::new())].into_iter().collect();
                super::super::confine::forbid(calls, errno).expect("a filter");
                (keep_to(&places), fs::read(file))
            });
            assert_eq!((kept.expect("no failure"), read.expect("unbound")), (Landlock::None, b"text".to_vec()));
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for kept in [Landlock::None, Landlock::Abi(7)] {
            assert_eq!(Landlock::parse(&kept.to_string()), Some(kept));
        }
        for other in ["", "landlock abi ", "landlock abi x", "landlock"] {
            assert_eq!(Landlock::parse(other), None, "{other}");
        }
    }
}
