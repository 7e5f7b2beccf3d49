//! The connector's lines on their way through a sync: to the journal at once, to the table of lines with the next commit.
//! No sync fails over that table: where it cannot be written, the lines are in the journal only, and a warning says so.

use super::super::log_table::{self, LogTable};
use super::{Error, Run};
use crate::batch::{self, Window};
use crate::connector::{LogLevel, LogLine, LogOrigin, Source, Warning, WarningKind};
use crate::context::{chain, now_ms};
use crate::destination::{self, Destination};

impl<S: Source, D: Destination> Run<'_, S, D> {
    pub(super) fn warn(&mut self, warning: Warning) {
        *self.warnings.entry(warning.kind).or_default() += 1;
        self.hear(LogLine { level: LogLevel::Warning, origin: LogOrigin::Library, message: warning.message });
    }

    pub(super) fn hear(&mut self, line: LogLine) {
        if let Some(table) = &mut self.log.table {
            table.line(now_ms(), &line);
        }
        (self.log.tell)(line);
    }

    /// Lines go with a commit that is made anyway: a sync that moves nothing writes nothing.
    pub(super) async fn add_lines(&mut self) -> Result<(), Error> {
        let empty = self.window.as_ref().is_none_or(Window::is_empty);
        let same = self.state.as_deref().is_none_or(|state| state == self.destination.state());
        if empty && same && self.head_seq.is_none() {
            return Ok(());
        }
        let Some(table) = &mut self.log.table else { return Ok(()) };
        let key = self.destination.current(&LogTable::name()).map(|current| current.schema.key);
        if key.is_some_and(|key| key != log_table::KEY) {
            let reason = "the lake's table of lines has another key";
            self.go_on_without_lines(&destination::Error::BadRequest { reason: reason.to_owned() });
            return Ok(());
        }
        let Some(rows) = table.take(now_ms()).map_err(batch::Error::from)? else { return Ok(()) };
        self.touched.insert(rows.table.clone());
        self.on_worker(move |window| window.push_own(rows)).await
    }

    /// Hears whether the destination goes on without the table of lines.
    pub(super) fn note_set_aside(&mut self) {
        if let Some(error) = self.destination.set_aside() {
            self.go_on_without_lines(&error);
        }
    }

    /// For the rest of this sync; the next one tries again.
    pub(super) fn go_on_without_lines(&mut self, error: &destination::Error) {
        self.log.table = None;
        let cause = chain(error);
        let message = format!(
            "the table {} cannot be written; lines that it lacks are in this journal only: {cause}",
            LogTable::name()
        );
        self.warn(Warning { kind: WarningKind::LogTable, message });
    }
}
