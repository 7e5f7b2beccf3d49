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
    assert_eq!(Sandbox::self_test(&tools(Path::new("/usr/bin/bwrap"))).await.0, SelfTest::Passed);
}

#[tokio::test]
async fn a_host_that_cannot_says_why() {
    let reason = async |tool: &Path| match Sandbox::self_test(&tools(tool)).await.0 {
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
    let output = run(&view, &[&python]).await;
    assert!(output.status.success(), "{}: {}", output.status, reason(&output.stderr));
}

/// What a program does in a room of its own.
async fn run(view: &View<'_>, program: &[&Path]) -> std::process::Output {
    let sandbox = Sandbox::new(&SandboxPolicy::default(), &Wanted::default(), &tools(Path::new("/usr/bin/bwrap")));
    let mut room = sandbox.room(view, &BTreeSet::new(), Upstream::default()).expect("a room");
    let mut command = room.command(&["--"]);
    command.args(program).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let (output, link) = tokio::join!(command.output(), room.link());
    let output = output.expect("bubblewrap runs");
    assert!(link.is_ok(), "{}: {}", output.status, reason(&output.stderr));
    output
}

/// The first process's own program is mounted in the room and readable by its mode; only Landlock refuses it.
#[tokio::test]
async fn files_that_no_rule_names_are_refused_where_the_kernel_has_landlock() {
    let tested = Sandbox::self_test(&tools(Path::new("/usr/bin/bwrap"))).await;
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let (project, home) = (folder.path().join("project"), folder.path().join("home"));
    for path in [&project, &home] {
        std::fs::create_dir(path).expect("a folder");
    }
    std::fs::write(project.join("connector.py"), "pass").expect("a file");
    let python = Path::new("/usr/bin/python3");
    let view = View { project: &project, sdk: &project, python, home: &home, named: Vec::new() };
    let tries = format!(
        r#"
try() {{ if ( "$@" ) >/dev/null 2>&1; then echo yes; else echo no; fi; }}
put() {{ echo x > "$1"; }}
try test -r {INSIDE}/inshore
try cat {INSIDE}/inshore
try cat connector.py /etc/passwd /usr/bin/env /proc/self/stat /dev/null
try put {home}/file; try put /tmp/file; try put /dev/shm/file; try put /dev/null; try put /dev/stderr
mkdir {home}/below; try mv {home}/file {home}/below/file
try ls / /etc; try put connector.py; try put /proc/self/comm
"#,
        INSIDE = bubblewrap::INSIDE,
        home = home.display()
    );
    let output = run(&view, &[Path::new("/bin/sh"), Path::new("-c"), Path::new(&tries)]).await;
    let said = String::from_utf8_lossy(&output.stdout).split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let beyond = if tested.1 == Landlock::None { "yes" } else { "no" };
    assert_eq!(said, format!("yes {beyond} yes yes yes yes yes yes yes yes no {beyond}"), "{tested:?}");
}
