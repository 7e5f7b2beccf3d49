//! What a person sees of a run: words on stderr, with one line of progress kept at the bottom of a terminal, or the
//! events of `--progress json` for a program on stdout.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::events::Events;
use crate::connector::{LogLevel, LogLine, LogOrigin};
use crate::context::{Progress, Stage};
use crate::developer::{self, Happening, Timing, Warehouse};

/// How often a terminal sees how far the run is, how often a program does, and how often a pipe does.
const BAR_EVERY: Duration = Duration::from_millis(200);
const EVENTS_EVERY: Duration = Duration::from_secs(1);
const LINE_EVERY: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressArg {
    /// A bar on a terminal, else a line every 10 s.
    Auto,
    Bar,
    Plain,
    /// One JSON object a line, on stdout.
    Json,
    None,
}

/// Where words and events go.
pub(super) struct Screen {
    progress: ProgressArg,
    /// Every line of an installer is shown.
    verbose: bool,
    pub(super) events: Option<Events>,
    /// The bar as it stands on the terminal.
    bar: Mutex<String>,
}

impl Screen {
    pub(super) fn new(progress: ProgressArg, verbose: bool, events: Option<Events>) -> Self {
        let progress = match progress {
            ProgressArg::Auto if std::io::stderr().is_terminal() => ProgressArg::Bar,
            ProgressArg::Auto => ProgressArg::Plain,
            chosen => chosen,
        };
        Self { progress, verbose, events, bar: Mutex::default() }
    }

    pub(super) fn happening(&self, happening: &Happening) {
        if let Happening::Line(line) = happening
            && (self.verbose || line.level > LogLevel::Debug || line.origin != LogOrigin::Library)
        {
            self.log(line);
        }
        if let Some(events) = &self.events {
            events.happening(happening);
        }
    }

    fn log(&self, line: &LogLine) {
        self.say(&developer::log_line(&chrono::Local::now().format("%H:%M:%S%.3f").to_string(), line));
    }

    pub(super) fn say(&self, text: &str) {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        write(&if bar.is_empty() { format!("{text}\n") } else { format!("\r\x1b[K{text}\n{bar}") });
    }

    /// What the connector reached, to be pasted where it is to be allowed.
    pub(super) fn egress(&self, rules: &[String]) {
        if let Some(events) = &self.events {
            return events.egress(rules);
        }
        if rules.is_empty() {
            return self.say("the connector reached no host: its egress list is empty, egress = []");
        }
        let lines: String = rules.iter().map(|rule| format!("    \"{rule}\",\n")).collect();
        super::print(&format!("# policy.toml of the host, under [sandbox]:\negress = [\n{lines}]"));
        super::print(&format!(
            "# the connection (PATCH /v1/connections/{{id}}):\n{}",
            json!({"config": {"egress": rules}})
        ));
        let flags: String = rules.iter().map(|rule| format!(" --egress '{rule}'")).collect();
        super::print(&format!("# or with its deployment:\ninshore deploy{flags}"));
    }

    pub(super) async fn watch(&self, progress: watch::Receiver<Progress>, started: Instant) {
        let every = match self.progress {
            ProgressArg::Bar => BAR_EVERY,
            ProgressArg::Json => EVENTS_EVERY,
            ProgressArg::None => return std::future::pending().await,
            ProgressArg::Plain | ProgressArg::Auto => LINE_EVERY,
        };
        loop {
            tokio::time::sleep(every).await;
            if progress.borrow().stage == Stage::Done {
                continue;
            }
            if let Some(events) = &self.events {
                events.tick();
                continue;
            }
            let line = developer::progress_line(&progress.borrow(), started.elapsed());
            if self.progress == ProgressArg::Bar {
                *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = line.clone();
                write(&format!("\r\x1b[K{line}"));
            } else {
                self.say(&line);
            }
        }
    }

    pub(super) fn summary(&self, progress: &Progress, warehouse: &Warehouse, elapsed: Duration) {
        let bar = std::mem::take(&mut *self.bar.lock().unwrap_or_else(PoisonError::into_inner));
        if !bar.is_empty() {
            write("\r\x1b[K");
        }
        let checkpoints = developer::grouped(progress.checkpoints);
        let noun = if progress.checkpoints == 1 { "checkpoint" } else { "checkpoints" };
        self.say(&format!("\n{}", developer::table(progress)));
        self.say(&format!("  {checkpoints} {noun}, {:.1} s", elapsed.as_secs_f64()));
        match warehouse {
            Warehouse::Written { path } => self.say(&format!("  tables: {}", from_here(path))),
            Warehouse::Elsewhere { root } => self.say(&format!("  tables: {root}")),
            Warehouse::ParquetOnly { folder, reason } => {
                self.say(&format!("  tables: {} as Parquet; no warehouse.db: {reason}", from_here(folder)));
            }
        }
    }
}

impl Screen {
    /// After the summary: where the time went.
    pub(super) fn timing(&self, timing: &Timing) {
        self.say(&format!("\n{}", timing.text().trim_end()));
        if let Some(events) = &self.events {
            events.profile(timing);
        }
    }
}

/// A path as a person would type it.
fn from_here(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok()).unwrap_or(path).display().to_string()
}

/// A terminal that went away takes no words; the run goes on.
fn write(text: &str) {
    drop(std::io::stderr().lock().write_all(text.as_bytes()));
}
