//! Where log lines go: stderr, as text for people or as one JSON object each, as `agent.toml` says.

use inshore_config::{LogConfig, LogFormat, LogLevel};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// Settings as the agent hands them to its jobs.
pub(super) fn settings(text: &str) -> Result<LogConfig, serde_json::Error> {
    serde_json::from_str(text)
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
    let text = matches!(settings.format, LogFormat::Text)
        .then(|| fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false));
    let json = matches!(settings.format, LogFormat::Json).then(|| fmt::layer().json().with_writer(std::io::stderr));
    let registry = tracing_subscriber::registry().with(text.with_filter(ours.clone())).with(json.with_filter(ours));
    // A second start in one process keeps the first.
    drop(registry.try_init());
}
