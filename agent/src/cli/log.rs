//! Where log lines go: to the system's journal where systemd started the agent, else to stderr, as text for people or as
//! one JSON object each, as `agent.toml` says.

use inshore_config::{LogConfig, LogFormat, LogLevel};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use super::journald::Journald;
use crate::log_fields::JOURNAL_STREAM;

/// Settings as the agent hands them to its jobs.
pub(super) fn settings(text: &str) -> Result<LogConfig, serde_json::Error> {
    serde_json::from_str(text)
}

/// What systemd says about the stderr that it gave to the agent; its jobs have the same.
fn journal_stream() -> Option<String> {
    std::env::vars_os().find(|(name, _)| name == JOURNAL_STREAM)?.1.into_string().ok()
}

/// Starts logging for this process. Libraries speak from WARN on, whatever the level: they know nothing of secrets.
pub(super) fn start(settings: &LogConfig) {
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let ours = tracing_subscriber::filter::Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_target("inshore_agent", level);
    let journald = Journald::here(journal_stream().as_deref());
    let streamed = journald.is_none();
    let text = (streamed && matches!(settings.format, LogFormat::Text))
        .then(|| fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false));
    let json = (streamed && matches!(settings.format, LogFormat::Json))
        .then(|| fmt::layer().json().with_writer(std::io::stderr));
    let registry = tracing_subscriber::registry().with(text.with_filter(ours.clone()));
    let registry = registry.with(json.with_filter(ours.clone())).with(journald.with_filter(ours));
    // A second start in one process keeps the first.
    drop(registry.try_init());
}
