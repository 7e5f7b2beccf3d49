//! The destination of the driver's tests: notes what it is asked for, and fails as its stage says.

use super::*;

pub(super) struct ScriptedDestination {
    pub(super) stage: Stage,
    pub(super) state: String,
    pub(super) last_synced_ms: i64,
    pub(super) synced: Vec<i64>,
    pub(super) resync: Option<Resync>,
}

impl ScriptedDestination {
    fn failure(fenced: bool) -> destination::Error {
        if fenced {
            destination::Error::Fenced { claim_seq: 1, head: 2 }
        } else {
            destination::Error::Vanished { path: "scripted".to_owned() }
        }
    }

    async fn perform(&self, at: At, line: String) -> Result<(), destination::Error> {
        let fate = self.stage.pass(at).await;
        if !matches!(fate, Fate::Fails { after: false, .. }) {
            self.stage.note(line);
        }
        match fate {
            Fate::Goes => Ok(()),
            Fate::Fails { fenced, .. } => Err(Self::failure(fenced)),
        }
    }
}

impl Destination for ScriptedDestination {
    fn state(&self) -> &str {
        &self.state
    }

    fn resync(&self) -> Option<&Resync> {
        self.resync.as_ref()
    }

    fn set_resync(&mut self, resync: Option<Resync>) {
        self.resync = resync;
    }

    fn tables(&self) -> Vec<TableName> {
        Vec::new()
    }

    fn current(&self, _table: &TableName) -> Option<CurrentTable> {
        None
    }

    fn last_synced_ms(&self) -> i64 {
        self.last_synced_ms
    }

    fn takes_files(&self) -> bool {
        true
    }

    async fn file_chunk(&mut self, _upload: u64, _bytes: Vec<u8>) -> Result<(), destination::Error> {
        Ok(())
    }

    async fn file_end(&mut self, _upload: u64, _table: TableName, _path: String) -> Result<(), destination::Error> {
        Ok(())
    }

    async fn file_abandoned(&mut self, _upload: u64) -> Result<(), destination::Error> {
        Ok(())
    }

    async fn write(&self, file: SealedFile) -> Result<FileRef, destination::Error> {
        let lines = file.table.schema == destination::SHARED_SCHEMA;
        let (at, what) = if lines { (At::WriteLines, "lines") } else { (At::Write, "rows") };
        self.perform(at, format!("write {} {what}", file.rows)).await?;
        let (bytes, key) = (file.bytes.len() as u64, format!("{}/{}", file.table, file.index));
        Ok(FileRef { table: file.table, key, bytes, rows: file.rows, sha256: file.sha256 })
    }

    async fn commit(&mut self, request: CommitRequest) -> Result<Committed, destination::Error> {
        for table in &request.tables {
            for file in table.steps.iter().flat_map(|step| &step.files) {
                let found = request.files.get(*file).map(|file| file.key.as_str());
                assert_eq!(found, Some(format!("{}/{file}", table.schema.name).as_str()), "a file in another's place");
            }
        }
        let steps = request.tables.iter().flat_map(|table| &table.steps);
        for before_ms in
            steps.filter_map(|step| if let StepOp::Truncate { before_ms } = step.op { Some(before_ms) } else { None })
        {
            let windows = self.synced.iter().filter(|synced| **synced < before_ms).count();
            self.stage.note(format!("truncate the rows of {windows} windows"));
        }
        self.perform(At::Commit, format!("commit {}", request.state)).await?;
        self.state = request.state;
        self.last_synced_ms = request.synced_at_ms;
        self.synced.push(request.synced_at_ms);
        Ok(Committed { seq: self.synced.len() as u64 })
    }

    async fn apply(&mut self) -> Result<Applied, destination::Error> {
        self.perform(At::Apply, "apply".to_owned()).await?;
        Ok(Applied::default())
    }

    async fn collect_garbage(&mut self) -> Result<Collected, destination::Error> {
        self.perform(At::Collect, "collect".to_owned()).await?;
        Ok(Collected::default())
    }

    async fn discard(&mut self) -> Result<(), destination::Error> {
        self.stage.note("discard".to_owned());
        Ok(())
    }

    fn set_aside(&mut self) -> Option<destination::Error> {
        self.stage.take(At::SetAside).map(|_| Self::failure(false))
    }
}
