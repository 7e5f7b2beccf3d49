//! The self-test of a host, with a tool that works and with ones that fail as hosts do.

use super::*;

/// This product's binary, built beside the tests.
fn inside() -> PathBuf {
    let built = std::env::current_exe().expect("this test").parent().expect("its folder").with_file_name("inshore");
    assert!(built.is_file(), "needs the binary: cargo build -p inshore-agent");
    built
}

pub(crate) fn tools(bubblewrap: &Path) -> Tools {
    Tools { bubblewrap: bubblewrap.to_owned(), inside: inside() }
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
