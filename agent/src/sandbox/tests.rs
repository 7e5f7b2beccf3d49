//! The self-test of a host, with a tool that works and with ones that fail as hosts do.

use super::*;

/// This product's binary, built beside the tests.
fn inside() -> PathBuf {
    let built = std::env::current_exe().expect("this test").parent().expect("its folder").with_file_name("inshore");
    assert!(built.is_file(), "needs the binary: cargo build -p inshore-agent");
    built
}

pub(crate) fn tools(bubblewrap: &Path) -> Tools {
    Tools { bubblewrap: bubblewrap.to_owned(), inside: inside(), layer: Layer::None }
}

#[tokio::test]
async fn a_host_with_namespaces_passes_its_self_test() {
    assert_eq!(Sandbox::self_test(&tools(Path::new("/usr/bin/bwrap"))).await, SelfTest::Passed);
}

#[tokio::test]
async fn a_host_that_cannot_says_why() {
    let reason = async |tool: &Path| match Sandbox::self_test(&tools(tool)).await {
        SelfTest::Failed { reason } => reason,
        SelfTest::Passed => panic!("{} passed", tool.display()),
    };
    let absent = reason(Path::new("/nonexistent/bwrap")).await;
    assert!(absent.contains("/nonexistent/bwrap: is the package bubblewrap installed?"), "{absent}");
    let folder = tempfile::tempdir().expect("a folder");
    let stand_in = folder.path().join("bwrap");
    // The words of bubblewrap where the kernel forbids user namespaces.
    let words = "bwrap: No permissions to create new namespace, likely because the kernel does not allow non-privileged user namespaces.";
    std::fs::write(&stand_in, format!("#!/bin/sh\necho '{words}' >&2\nexit 1\n")).expect("written");
    std::fs::set_permissions(&stand_in, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
    assert!(reason(&stand_in).await.contains(words));
}

#[test]
fn a_reason_is_one_short_line() {
    assert_eq!(reason(b"a\n\n b \n"), "a; b");
    assert_eq!(reason(b""), "it ended without a word");
    assert!(reason("é".repeat(1000).as_bytes()).len() <= REASON_BYTES_MAX);
}

/// As uv lays it out: the environment's interpreter is a link to one of `<cache_dir>/interpreters`, through a folder that is
/// named by the minor version and is itself a link.
#[tokio::test]
async fn an_interpreter_that_was_fetched_runs_and_cannot_be_changed() {
    let cache = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let at = |path: &str| cache.path().join(path);
    for folder in ["interpreters/cpython-3.12.7/bin", "environments/digest/bin", "job/project", "job/home"] {
        std::fs::create_dir_all(at(folder)).expect("a folder");
    }
    let fetched = at("interpreters/cpython-3.12.7/bin/python3.12");
    let script = "#!/bin/sh\nif touch \"$0\" 2>/dev/null; then exit 9; fi\ntest -d \"${0%/*}/../../../interpreters/cpython-3.12.7\"\n";
    std::fs::write(&fetched, script).expect("an interpreter");
    std::fs::set_permissions(&fetched, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
    std::os::unix::fs::symlink("cpython-3.12.7", at("interpreters/cpython-3.12")).expect("a link");
    let python = at("environments/digest/bin/python");
    std::os::unix::fs::symlink(at("interpreters/cpython-3.12/bin/python3.12"), &python).expect("a link");
    let (project, home) = (at("job/project"), at("job/home"));
    let view = View { project: &project, sdk: &project, python: &python, home: &home, named: Vec::new() };
    let sandbox = Sandbox::new(&SandboxPolicy::default(), &Wanted::default(), &tools(Path::new("/usr/bin/bwrap")));
    let mut room = sandbox.room(&view, &BTreeSet::new(), Upstream::default()).expect("a room");
    let mut command = room.command(&["--"]);
    command.arg(&python).stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let (output, link) = tokio::join!(command.output(), room.link());
    let output = output.expect("bubblewrap runs");
    assert!(link.is_ok() && output.status.success(), "{}: {}", output.status, reason(&output.stderr));
}
