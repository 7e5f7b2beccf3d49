//! The line of the developer's own code that a Python traceback leads to, with the lines around it.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::connector::Error;
use crate::sync;

/// Lines shown before and after.
const AROUND: usize = 2;

/// Where it happened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Below the project.
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
    function: String,
}

/// The Python traceback that a failure carries.
pub(crate) fn of(error: &sync::Error) -> Option<&str> {
    match error {
        sync::Error::ActionRequired { trace, .. } => Some(trace),
        sync::Error::Connector(
            Error::Syntax { trace }
            | Error::Raised { trace }
            | Error::ExitNonZero { trace }
            | Error::StateNotSerialisable { trace }
            | Error::StateTooLarge { trace }
            | Error::ValueDoesNotFit { trace }
            | Error::PrimaryKeyNull { trace }
            | Error::PrimaryKeyRequired { trace }
            | Error::PartialKey { trace }
            | Error::SchemaWrong { trace },
        ) => Some(trace),
        _ => None,
    }
}

/// A failure as a developer reads it: what, the line it comes from, and the traceback once.
pub(crate) fn block(error: &sync::Error, project: &Path) -> Option<String> {
    let trace = of(error).filter(|trace| !trace.trim().is_empty())?;
    let exception = exception(trace);
    let what = match error {
        sync::Error::Connector(Error::Raised { .. }) => exception.to_owned(),
        sync::Error::Connector(error) => {
            let text = error.to_string();
            format!("{}: {exception}", text.lines().next().unwrap_or_default())
        }
        sync::Error::ActionRequired { message, .. } => format!("the connector asks for a person to act: {message}"),
        _ => return None,
    };
    let excerpt = place(trace, project).map(|place| place.excerpt(project)).unwrap_or_default();
    let told = trace.trim() == exception && what.contains(exception);
    let traceback = if told { String::new() } else { format!("\n{}", trace.trim_end()) };
    Some(format!("{what}\n{excerpt}{traceback}"))
}

/// The last line of a traceback: the exception itself, which may go on over several lines.
pub(crate) fn exception(trace: &str) -> &str {
    let last_frame = trace.rfind("\n  File \"").unwrap_or(0);
    let mut start = None;
    let mut at = 0;
    for line in trace.split_inclusive('\n') {
        let is_head = !line.starts_with(' ') && !line.starts_with("Traceback") && !line.trim().is_empty();
        if at > last_frame && start.is_none() && is_head {
            start = Some(at);
        }
        at += line.len();
    }
    start.and_then(|start| trace.get(start..)).unwrap_or(trace).trim()
}

/// The deepest frame that is the project's own code.
pub(crate) fn place(trace: &str, project: &Path) -> Option<Place> {
    trace.lines().rev().find_map(|line| frame(line.trim(), project))
}

/// `File "/p/connector.py", line 20, in update`
fn frame(line: &str, project: &Path) -> Option<Place> {
    let (path, rest) = line.strip_prefix("File \"")?.split_once("\", line ")?;
    let (number, function) = rest.split_once(", in ").unwrap_or((rest, ""));
    let file = Path::new(path).strip_prefix(project).ok()?;
    let foreign = file.iter().any(|part| part == "site-packages" || part.to_string_lossy().starts_with('.'));
    if foreign {
        return None;
    }
    Some(Place { file: file.to_owned(), line: number.parse().ok()?, function: function.to_owned() })
}

impl Place {
    /// The line with its neighbours, for people.
    pub(crate) fn excerpt(&self, project: &Path) -> String {
        let within = if self.function.is_empty() { String::new() } else { format!(", in {}", self.function) };
        let mut text = format!("  {}:{}{within}\n", self.file.display(), self.line);
        let source = std::fs::read(project.join(&self.file)).unwrap_or_default();
        let source = String::from_utf8_lossy(&source);
        let first = self.line.saturating_sub(AROUND + 1);
        for (number, line) in source.lines().enumerate().skip(first).take(2 * AROUND + 1) {
            let mark = if number + 1 == self.line { '>' } else { ' ' };
            let line = format!("  {mark} {:>4} │ {line}", number + 1);
            writeln!(text, "{}", line.trim_end()).expect("a String takes everything");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "Traceback (most recent call last):\n  File \"/p/connector.py\", line 3, in update\n    go()\n  \
                         File \"/p/deep/er.py\", line 2, in go\n    json.loads(\"{\")\n  File \"/usr/lib/json.py\", line 9, in loads\n    \
                         raise\njson.JSONDecodeError: no\nsecond line\n";

    #[test]
    fn the_deepest_own_frame_is_the_place() {
        let project = Path::new("/p");
        let found = place(TRACE, project).expect("a place");
        assert_eq!((found.file.to_str(), found.line, found.function.as_str()), (Some("deep/er.py"), 2, "go"));
        assert_eq!(exception(TRACE), "json.JSONDecodeError: no\nsecond line");
        let syntax = "  File \"/p/connector.py\", line 7\n    def x(:\n          ^\nSyntaxError: invalid syntax\n";
        assert_eq!(place(syntax, project).map(|place| place.line), Some(7));
        assert_eq!(exception(syntax), "SyntaxError: invalid syntax");
        assert_eq!(place("Traceback\n  File \"/p/.venv/x.py\", line 1, in y\n", project), None);
        assert_eq!(exception("ValueError: alone"), "ValueError: alone");
        assert_eq!(exception(""), "");
    }

    #[test]
    fn a_failure_is_told_from_its_line_on() {
        let error = |error: Error| block(&sync::Error::Connector(error), Path::new("/p")).expect("a block");
        let raised = error(Error::Raised { trace: TRACE.to_owned() });
        assert!(raised.starts_with("json.JSONDecodeError: no\nsecond line\n  deep/er.py:2, in go\n"), "{raised}");
        assert_eq!(raised.matches("Traceback").count(), 1);
        let value = error(Error::ValueDoesNotFit { trace: "ValueError: x".to_owned() });
        assert_eq!(value, "a value does not fit its declared type: ValueError: x\n");
        assert_eq!(block(&sync::Error::WorkerStopped, Path::new("/p")), None);
    }

    #[test]
    fn the_excerpt_marks_the_line() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("connector.py"), "a\nb\nc\nd\ne\nf\n").expect("a file");
        let place = Place { file: "connector.py".into(), line: 4, function: "update".to_owned() };
        let text = place.excerpt(folder.path());
        assert_eq!(
            text,
            "  connector.py:4, in update\n       2 │ b\n       3 │ c\n  >    4 │ d\n       5 │ e\n       6 │ f\n"
        );
        let gone = Place { file: "absent.py".into(), line: 4, function: String::new() };
        assert_eq!(gone.excerpt(folder.path()), "  absent.py:4\n");
    }
}
