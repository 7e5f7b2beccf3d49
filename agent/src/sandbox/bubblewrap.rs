//! What bubblewrap is asked for: every namespace of its own, a root file system that holds what Python and client libraries
//! need of this host, read-only, and nothing of anybody's data.
//!
//! The first process keeps two capabilities over the room's own network until its listeners stand; see `inside`. The
//! room's `/dev` is made by hand, because bubblewrap's own costs a second user namespace, in which they count nothing.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::{Sandbox, View};

/// Where the room's own files are inside.
pub(super) const INSIDE: &str = "/run/inshore";
/// The folder behind the room's /tmp.
pub(super) const TMP: &str = "tmp";
/// The relay's socket.
pub(super) const RELAY: &str = "relay";

/// Everybody inside is this user; the number of the agent's user outside does not show.
const USER: &str = "1000";
/// Shared memory of multiprocessing; it counts as memory, so it is small.
const SHM_BYTES_MAX: &str = "67108864";
const DEV_BYTES_MAX: &str = "65536";
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];
/// What TLS, time zones, shared libraries, databases' client libraries and Debian's Python read of /etc.
const ETC: [&str; 20] = [
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates",
    "pki/tls/certs",
    "pki/tls/cert.pem",
    "pki/tls/openssl.cnf",
    "pki/ca-trust",
    "crypto-policies",
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "timezone",
    "mime.types",
    "services",
    "protocols",
    "odbc.ini",
    "odbcinst.ini",
    "krb5.conf",
];
/// Files that the room has in place of the host's.
const OWN: [(&str, &str); 5] = [
    ("passwd", "connector:x:1000:1000::/tmp:/bin/false\n"),
    ("group", "connector:x:1000:\n"),
    ("hosts", "127.0.0.1 localhost\n"),
    ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:1\n"),
    ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"),
];
/// What a process without rights can read in /proc and has no use for.
const HIDDEN: [&str; 7] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kallsyms",
    "/proc/timer_list",
    "/proc/sysrq-trigger",
    "/proc/kmsg",
];

/// Writes the files that the room has of its own into its folder.
pub(super) fn write_system_files(folder: &Path) -> io::Result<()> {
    std::fs::create_dir(folder.join(TMP))?;
    for (name, text) in OWN {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// Everything up to the arguments of the first process.
pub(super) fn arguments(sandbox: &Sandbox, view: &View<'_>, folder: &Path) -> Vec<OsString> {
    let mut list = List::default();
    list.words(&["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--as-pid-1"]);
    list.words(&["--uid", USER, "--gid", USER, "--hostname", "connector"]);
    list.words(&["--cap-drop", "ALL", "--cap-add", "CAP_NET_ADMIN", "--cap-add", "CAP_NET_BIND_SERVICE"]);
    list.system();
    list.words(&["--proc", "/proc"]);
    for path in HIDDEN.iter().filter(|path| Path::new(path).exists()) {
        list.words(&["--ro-bind", "/dev/null", path]);
    }
    list.words(&["--size", DEV_BYTES_MAX, "--tmpfs", "/dev"]);
    for device in DEVICES {
        let device = format!("/dev/{device}");
        list.words(&["--dev-bind", &device, &device]);
        list.writable.push(device.into());
    }
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        list.words(&["--symlink", &format!("/proc/self/fd{target}"), &format!("/dev/{name}")]);
    }
    list.words(&["--perms", "1777", "--size", SHM_BYTES_MAX, "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]);
    list.writable.push("/dev/shm".into());
    list.bind("--bind", &folder.join(TMP), Path::new("/tmp"));
    for (name, _) in OWN {
        list.bind("--ro-bind", &folder.join(name), &Path::new("/etc").join(name));
    }
    list.place("--ro-bind", &folder.join(RELAY), &Path::new(INSIDE).join(RELAY));
    list.place("--ro-bind", &sandbox.tools.inside, &Path::new(INSIDE).join("inshore"));
    // What the policy adds may hold the folders that follow.
    for path in &sandbox.read_only {
        list.bind("--ro-bind-try", path, path);
    }
    list.bind("--bind", view.home, view.home);
    list.bind("--ro-bind", view.sdk, view.sdk);
    list.bind("--ro-bind", view.project, view.project);
    for path in &view.named {
        let source = path.canonicalize().unwrap_or_else(|_| path.clone());
        list.bind("--ro-bind-try", &source, path);
    }
    for (source, place) in installations(view.python) {
        list.bind("--ro-bind", &source, &place);
    }
    list.words(&["--remount-ro", "/", "--chdir"]);
    list.arguments.push(view.project.into());
    list.words(&["--", &format!("{INSIDE}/inshore"), "inside"]);
    list.words(&["--processes-max", &sandbox.processes_max.to_string()]);
    list.words(&["--file-bytes-max", &sandbox.scratch_bytes_max.to_string()]);
    if let Some(percent) = sandbox.cpu_percent {
        list.words(&["--processors-max", &percent.div_ceil(100).to_string()]);
    }
    if sandbox.allow_writable_code {
        list.words(&["--writable-code"]);
    }
    let named =
        |how: &'static str, paths: Vec<PathBuf>| paths.into_iter().flat_map(move |path| [how.into(), path.into()]);
    list.arguments.extend(named("--readable", list.readable).chain(named("--writable", list.writable)));
    list.arguments
}

/// Arguments, and of the places that they make those that the room's programs may open.
#[derive(Default)]
struct List {
    arguments: Vec<OsString>,
    readable: Vec<PathBuf>,
    writable: Vec<PathBuf>,
}

impl List {
    fn words(&mut self, words: &[&str]) {
        self.arguments.extend(words.iter().map(OsString::from));
    }

    /// For the first process alone.
    fn place(&mut self, how: &str, source: &Path, place: &Path) {
        self.arguments.extend([how.into(), source.into(), place.into()]);
    }

    fn bind(&mut self, how: &str, source: &Path, place: &Path) {
        self.place(how, source, place);
        let open = if how == "--bind" { &mut self.writable } else { &mut self.readable };
        open.push(place.to_owned());
    }

    /// Programs and libraries of the host: its /usr, what its root links into there, and a little of /etc.
    fn system(&mut self) {
        self.bind("--ro-bind", Path::new("/usr"), Path::new("/usr"));
        self.bind("--ro-bind-try", Path::new("/opt"), Path::new("/opt"));
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let path = Path::new("/").join(name);
            match std::fs::read_link(&path) {
                Ok(target) => self.bind("--symlink", &target, &path),
                Err(_) => self.bind("--ro-bind-try", &path, &path),
            }
        }
        for name in ETC {
            let path = Path::new("/etc").join(name);
            self.bind("--ro-bind-try", &path, &path);
        }
    }
}

/// The folders an interpreter needs: its environment, and every installation that its chain of links goes through, each at
/// the place where the link looks for it.
fn installations(python: &Path) -> Vec<(PathBuf, PathBuf)> {
    const LINKS_MAX: usize = 16;
    let mut found = Vec::new();
    let mut next = Some(python.to_owned());
    for _ in 0..LINKS_MAX {
        let Some(path) = next else { break };
        let prefix = path.parent().and_then(Path::parent);
        if let Some(prefix) = prefix.filter(|prefix| !is_system(prefix))
            && let Ok(source) = prefix.canonicalize()
        {
            found.push((source.clone(), prefix.to_owned()));
            found.push((source.clone(), source));
        }
        next = std::fs::read_link(&path).ok().map(|target| path.parent().unwrap_or(Path::new("/")).join(target));
    }
    found.retain(|(source, place)| !is_system(source) && !is_system(place));
    found.dedup();
    found
}

/// Already there, or no folder that may be shown for an interpreter's sake.
fn is_system(path: &Path) -> bool {
    path.starts_with("/usr") || path.starts_with("/opt") || path == Path::new("/")
}
