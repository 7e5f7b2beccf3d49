//! The harness of the integration tests: the staged binaries as real processes on free loopback ports in temporary
//! folders, a REST client, fail points, and oracles (`tests/python`) that share no code with the product.

#![expect(clippy::print_stderr, reason = "a failing test shows the end of its processes' logs")]

pub mod agent;
pub mod control;
pub mod debug;
pub mod oracle;
pub mod process;
pub mod rest;
pub mod script;
pub mod scripted;
pub mod shop;
pub mod stack;
pub mod wait;

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// The staged product, as it is installed; `./dev build` makes it.
pub fn stage() -> PathBuf {
    let stage = std::env::var_os("INSHORE_STAGE").map_or_else(|| root().join("target/stage"), PathBuf::from);
    assert!(
        stage.join("usr/bin/inshore").is_file(),
        "{} holds no product: run ./dev test, or ./dev build",
        stage.display()
    );
    stage
}

/// The interpreter of the oracles' environment; `./dev test` names it.
pub fn python() -> PathBuf {
    std::env::var_os("INSHORE_TEST_PYTHON")
        .map(PathBuf::from)
        .expect("INSHORE_TEST_PYTHON names the oracles' interpreter: run ./dev test")
}

/// Environments that tests share, so that each is built once.
pub fn cache() -> PathBuf {
    std::env::var_os("INSHORE_TEST_CACHE")
        .map_or_else(|| std::env::temp_dir().join("inshore-test-cache"), PathBuf::from)
}

/// The seed of this run: rotates with the commit, printed with every failure.
pub fn seed() -> u64 {
    std::env::var("INSHORE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Whether the long tier runs.
pub fn prove() -> bool {
    std::env::var_os("INSHORE_PROVE").is_some()
}
