//! `inshore logs`: what connectors said on this host, out of their journals: the newest lines, then new ones as they come.
//! Reads files only; the agent need not run.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::{CONFIG_FILE, Failure, load, print};
use crate::job::journal;

/// How often the journals are looked at with `--follow`.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The connection's id; without it, all of this host.
    connection: Option<String>,
    /// One sync only.
    #[arg(long)]
    sync: Option<String>,
    /// Lines of this level and worse.
    #[arg(long, value_enum, ignore_case = true, default_value = "debug")]
    level: Level,
    /// Lines that name this table.
    #[arg(long)]
    table: Option<String>,
    /// The newest lines, so many.
    #[arg(long, short = 'n', default_value_t = 200)]
    lines: usize,
    /// Go on with new lines until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// text for people, jsonl as the journal has it.
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
    /// The agent's settings.
    #[arg(long, default_value = CONFIG_FILE)]
    config: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Severe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Jsonl,
}

/// A line of a journal.
#[derive(Deserialize)]
struct Line {
    at_ms: i64,
    job: String,
    level: Level,
    origin: String,
    message: String,
}

pub(super) fn run(arguments: &LogsArgs) -> Result<(), Failure> {
    let config = load(&arguments.config)?;
    let folder = config.state_dir.as_path().join("logs");
    let mut tails = tails(&folder, arguments.connection.as_deref())?;
    let mut newest: VecDeque<(i64, String)> = VecDeque::new();
    for tail in &mut tails {
        let path = tail.path.clone();
        let read = tail.before(&mut |text| keep(&mut newest, arguments, &path, text));
        read.and_then(|()| tail.news(&mut |text| keep(&mut newest, arguments, &path, text)))
            .map_err(|error| unreadable(&path, &error))?;
    }
    newest.make_contiguous().sort_by_key(|(at, _)| *at);
    let skipped = newest.len().saturating_sub(arguments.lines);
    newest.iter().skip(skipped).for_each(|(_, line)| print(line));
    if arguments.follow {
        loop {
            std::thread::sleep(LOOK_EVERY);
            follow(&folder, arguments, &mut tails)?;
        }
    }
    Ok(())
}

fn follow(folder: &Path, arguments: &LogsArgs, tails: &mut Vec<Tail>) -> Result<(), Failure> {
    for path in journals(folder, arguments.connection.as_deref())? {
        if !tails.iter().any(|tail| tail.path == path) {
            tails.push(Tail::new(path));
        }
    }
    for tail in tails {
        let path = tail.path.clone();
        let mut show = |text: &str| {
            if let Some((_, line)) = shown(arguments, &path, text) {
                print(&line);
            }
        };
        tail.news(&mut show).map_err(|error| unreadable(&path, &error))?;
    }
    Ok(())
}

/// Of each journal the newest lines are kept: together at most so many times the number that is shown.
fn keep(newest: &mut VecDeque<(i64, String)>, arguments: &LogsArgs, path: &Path, text: &str) {
    let Some(line) = shown(arguments, path, text) else { return };
    newest.push_back(line);
    if newest.len() > arguments.lines.saturating_mul(2).max(1024) {
        newest.make_contiguous().sort_by_key(|(at, _)| *at);
        newest.drain(..newest.len() - arguments.lines.max(1));
    }
}

/// The line as it is shown; `None` when nobody asked for it.
fn shown(arguments: &LogsArgs, path: &Path, text: &str) -> Option<(i64, String)> {
    let line: Line = serde_json::from_str(text).ok()?;
    let wanted = line.level >= arguments.level
        && arguments.sync.as_ref().is_none_or(|sync| *sync == line.job)
        && arguments.table.as_ref().is_none_or(|table| names(&line.message, table));
    if !wanted {
        return None;
    }
    let shown = match arguments.output {
        Output::Jsonl => text.to_owned(),
        Output::Text => as_text(path, &line),
    };
    Some((line.at_ms, shown))
}

/// Whether a message holds the name as a word of its own, `schema.table` and `table` alike.
fn names(message: &str, table: &str) -> bool {
    let part_of_name = |character: char| character.is_alphanumeric() || character == '_';
    message.match_indices(table).any(|(at, found)| {
        let before = message.get(..at).and_then(|text| text.chars().next_back());
        let after = message.get(at + found.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(part_of_name) && !after.is_some_and(part_of_name)
    })
}

fn as_text(path: &Path, line: &Line) -> String {
    let at = chrono::DateTime::from_timestamp_millis(line.at_ms).unwrap_or_default();
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let connection = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let level = format!("{:?}", line.level).to_uppercase();
    format!("{at} {level:<7} {connection} {} {:<9} {}", line.job, line.origin, harmless(&line.message))
}

/// What a connector prints must not steer the reader's terminal.
fn harmless(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for character in message.trim_end().chars() {
        match character {
            '\n' => text.push_str("\n    "),
            '\t' => text.push('\t'),
            control if control.is_control() => text.extend(control.escape_default()),
            plain => text.push(plain),
        }
    }
    text
}

fn tails(folder: &Path, connection: Option<&str>) -> Result<Vec<Tail>, Failure> {
    let found = journals(folder, connection)?;
    if let (Some(connection), true) = (connection, found.is_empty()) {
        let text = format!(
            "there is no journal of {connection} in {}: no sync of it has run on this host; `inshore logs` shows all there are",
            folder.display()
        );
        return Err(Failure::usage(&text));
    }
    Ok(found.into_iter().map(Tail::new).collect())
}

/// The journals of this host, without the older halves.
fn journals(folder: &Path, connection: Option<&str>) -> Result<Vec<PathBuf>, Failure> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(folder, &error)),
    };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .filter(|path| {
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            !stem.ends_with(".1") && connection.is_none_or(|connection| connection == stem)
        })
        .collect();
    found.sort();
    Ok(found)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let advice = "journals may hold rows, so only the agent's user reads them: use sudo, or run it as that user";
    Failure { code: String::new(), text: format!("read {}: {error}; {advice}", path.display()), exit: 1 }
}

/// A journal that is read to its end, again and again. Rotation begins a new file under its name.
struct Tail {
    path: PathBuf,
    file: Option<(u64, BufReader<File>)>,
    /// The beginning of a line whose rest is not there yet.
    rest: String,
}

impl Tail {
    fn new(path: PathBuf) -> Tail {
        Tail { path, file: None, rest: String::new() }
    }

    /// The older half, which nobody writes any more.
    fn before(&self, line: &mut impl FnMut(&str)) -> std::io::Result<()> {
        let older = match File::open(journal::aside(&self.path)) {
            Ok(older) => older,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        read_lines(&mut BufReader::new(older), &mut String::new(), line)
    }

    /// What was written since the last call.
    fn news(&mut self, line: &mut impl FnMut(&str)) -> std::io::Result<()> {
        if let Some((_, file)) = &mut self.file {
            read_lines(file, &mut self.rest, line)?;
        }
        let inode = match std::fs::metadata(&self.path) {
            Ok(found) => found.ino(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if self.file.as_ref().is_none_or(|(known, _)| *known != inode) {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(0))?;
            self.rest.clear();
            let (_, file) = self.file.insert((inode, BufReader::new(file)));
            read_lines(file, &mut self.rest, line)?;
        }
        Ok(())
    }
}

/// Whole lines only: the last one may still be on its way.
fn read_lines(file: &mut impl BufRead, rest: &mut String, line: &mut impl FnMut(&str)) -> std::io::Result<()> {
    loop {
        if file.read_line(rest)? == 0 {
            return Ok(());
        }
        if rest.ends_with('\n') {
            line(rest.trim_end_matches('\n'));
            rest.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        arguments: LogsArgs,
    }

    fn typed(line: &str) -> LogsArgs {
        Typed::try_parse_from(line.split(' ')).expect("arguments").arguments
    }

    #[test]
    fn level_sync_and_table_choose_the_lines() {
        let text =
            r#"{"at_ms":0,"job":"job_1","level":"warning","origin":"library","message":"shop.orders: \u001b[31mred"}"#;
        let cases = [
            ("x", true),
            ("x --level warning", true),
            ("x --level ERROR", false),
            ("x --sync job_1", true),
            ("x --sync job_2", false),
            ("x --table orders", true),
            ("x --table shop.orders", true),
            ("x --table order", false),
            ("x --table hop.orders", false),
        ];
        for (line, wanted) in cases {
            assert_eq!(shown(&typed(line), Path::new("con_1.jsonl"), text).is_some(), wanted, "{line}");
        }
        let (_, line) = shown(&typed("x"), Path::new("/l/con_1.jsonl"), text).expect("shown");
        assert_eq!(line, "1970-01-01T00:00:00.000Z WARNING con_1 job_1 library   shop.orders: \\u{1b}[31mred");
        assert_eq!(shown(&typed("x -o jsonl"), Path::new("c"), text).expect("shown").1, text);
        assert!(shown(&typed("x"), Path::new("c"), "half a line").is_none());
    }

    #[test]
    fn a_journal_is_followed_over_its_rotation() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("con_1.jsonl");
        std::fs::write(&path, "one\ntw").expect("written");
        let mut tail = Tail::new(path.clone());
        let mut heard = Vec::new();
        let mut news = |tail: &mut Tail| {
            tail.news(&mut |line| heard.push(line.to_owned())).expect("read");
            std::mem::take(&mut heard)
        };
        assert_eq!(news(&mut tail), ["one"]);
        std::fs::write(&path, "one\ntwo\n").expect("written");
        assert_eq!(news(&mut tail), ["two"]);
        std::fs::rename(&path, journal::aside(&path)).expect("rotated");
        std::fs::write(&path, "three\n").expect("written");
        assert_eq!(news(&mut tail), ["three"]);
        assert!(news(&mut tail).is_empty());
    }
}
