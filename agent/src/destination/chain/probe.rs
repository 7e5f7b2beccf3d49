//! The probe of DELIVERY §9: does this store give what exactly-once needs? A failed check does not stop a destination, it
//! labels it. Every object lives below `_inshore/_probe/<random>/` and is removed afterwards.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use inshore_columnar::{Column, DataType, TableName, TableSchema};
use object_store::path::Path;

use super::put::{Points, Put, put};
use crate::destination::LakeSettings;
use crate::destination::error::Error;
use crate::destination::lake::Changes;
use crate::destination::lake::delta::Table;
use crate::destination::store::{Created, Store, file_error};

/// Concurrent creators of one key.
const CREATORS: usize = 32;

/// The steps, as they are named wherever the probe's result is shown.
const WRITE: &str = "an object is written";
const READ: &str = "it is read and listed from a second client";
const ONE_WINNER: &str = "one winner among concurrent creators";
const VISIBLE: &str = "read after write from a second client";
const REFUSED: &str = "create over an existing key is refused";
const WHOLE: &str = "a large object appears whole, at its end";
const MARKER: &str = "a table marker moves with its commit";
const DELETE: &str = "objects are deleted";
const CHECKS: [&str; 5] = [ONE_WINNER, VISIBLE, REFUSED, WHOLE, MARKER];
/// More than one part of an upload.
const LARGE_BYTES: usize = (8 << 20) + 5;
const CHECK_TIMEOUT: Duration = Duration::from_secs(300);
const NO_POINTS: Points = Points { before: "probe", after: "probe" };

/// One step of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) passed: bool,
}

/// What a destination may promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Label {
    ExactlyOnce,
    AtLeastOnce { failed_check: &'static str },
}

/// How hard to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) reads: usize,
}

impl Effort {
    /// What a destination goes through when it is added.
    pub(crate) const FULL: Effort = Effort { rounds: 20, reads: 100 };
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Label::ExactlyOnce => f.write_str("exactly-once"),
            Label::AtLeastOnce { failed_check } => write!(f, "at-least-once ({failed_check})"),
        }
    }
}

/// Probes the store at an address. An error means that it cannot be used at all.
pub(crate) async fn probe(settings: &LakeSettings, effort: Effort) -> Result<Label, Error> {
    examine(settings, effort, &mut |_| {}).await
}

/// The same, and every step is told as it ends.
pub(crate) async fn examine(
    settings: &LakeSettings,
    effort: Effort,
    told: &mut (dyn FnMut(Step) + Send),
) -> Result<Label, Error> {
    let open = || Store::open_with(&settings.root, &settings.options, true);
    probe_stores(&open()?, &open()?, effort, told).await
}

/// Probes through two clients of the same store.
pub(crate) async fn probe_stores(
    first: &Store,
    second: &Store,
    effort: Effort,
    told: &mut (dyn FnMut(Step) + Send),
) -> Result<Label, Error> {
    let run = uuid::Uuid::new_v4().simple().to_string();
    let folder = Path::from_iter(["_inshore", "_probe", run.as_str()]);
    // The first write decides whether the store is usable; its failure has its own code.
    let (usable, content) = (folder.clone().join("usable"), Bytes::from_static(b"usable"));
    first.put_file(&usable, &content).await?;
    told(Step { name: WRITE, passed: true });
    if second.get(&usable).await?.as_ref() != Some(&content) || second.list(&folder, None).await?.len() != 1 {
        return Err(Error::Vanished { path: usable.to_string() });
    }
    told(Step { name: READ, passed: true });
    let probe = Probe { first, second, folder };
    let failed_check = probe.checks(effort, told).await;
    let cleaned = probe.clean().await;
    told(Step { name: DELETE, passed: cleaned.is_ok() });
    if let Err(error) = cleaned {
        tracing::warn!(%error, "objects of the probe were left behind");
    }
    Ok(match failed_check {
        None => Label::ExactlyOnce,
        Some(failed_check) => Label::AtLeastOnce { failed_check },
    })
}

struct Probe<'a> {
    first: &'a Store,
    second: &'a Store,
    folder: Path,
}

impl Probe<'_> {
    /// Runs the checks of DELIVERY §9 in their order; answers the first that failed, and leaves out those after it.
    async fn checks(&self, effort: Effort, told: &mut (dyn FnMut(Step) + Send)) -> Option<&'static str> {
        for name in CHECKS {
            let check = async {
                match name {
                    ONE_WINNER => self.every(effort.rounds, |round| self.one_winner(round)).await,
                    VISIBLE => self.every(effort.reads, |number| self.visible_at_once(number)).await,
                    REFUSED => self.refuses_taken().await,
                    WHOLE => self.appears_whole().await.unwrap_or(false),
                    _ => self.marker_survives().await.unwrap_or(false),
                }
            };
            // A store that answers nothing for so long promises nothing.
            let passed = tokio::time::timeout(CHECK_TIMEOUT, check).await.unwrap_or(false);
            told(Step { name, passed });
            if !passed {
                return Some(name);
            }
        }
        None
    }

    async fn every<F: Future<Output = bool>>(&self, times: usize, check: impl Fn(usize) -> F) -> bool {
        for number in 0..times {
            if !check(number).await {
                return false;
            }
        }
        true
    }

    /// By the PUT rule: a busy answer is asked again, and says nothing about the store's promise.
    async fn one_winner(&self, round: usize) -> bool {
        let key = self.folder.clone().join(format!("race-{round}"));
        let creators = (0..CREATORS).map(|number| {
            let store = if number % 2 == 0 { self.first } else { self.second };
            let key = key.clone();
            async move { put(store, &key, &Bytes::from(format!("creator {number}")), NO_POINTS).await }
        });
        let answers = join_all(creators).await;
        let winners: Vec<usize> =
            answers.iter().enumerate().filter(|(_, answer)| matches!(answer, Ok(Put::Mine))).map(|(n, _)| n).collect();
        let [winner] = winners.as_slice() else { return false };
        let others_lost = answers.iter().filter(|answer| matches!(answer, Ok(Put::Lost))).count() == CREATORS - 1;
        let stored = self.second.get(&key).await.ok().flatten();
        others_lost && stored == Some(Bytes::from(format!("creator {winner}")))
    }

    async fn visible_at_once(&self, number: usize) -> bool {
        let folder = self.folder.clone().join("seen");
        let key = folder.clone().join(format!("{number:06}"));
        let body = Bytes::from(format!("body {number}"));
        if !matches!(put(self.first, &key, &body, NO_POINTS).await, Ok(Put::Mine)) {
            return false;
        }
        let got = self.second.get(&key).await.ok().flatten();
        let listed = self.second.list(&folder, None).await.unwrap_or_default();
        got == Some(body) && listed.iter().any(|object| object.location == key)
    }

    async fn refuses_taken(&self) -> bool {
        let key = self.folder.clone().join("taken");
        let made = put(self.first, &key, &Bytes::from_static(b"one"), NO_POINTS).await;
        let again = put(self.second, &key, &Bytes::from_static(b"two"), NO_POINTS).await;
        let stored = self.first.get(&key).await.ok().flatten();
        matches!((made, again), (Ok(Put::Mine), Ok(Put::Lost))) && stored == Some(Bytes::from_static(b"one"))
    }

    /// A large object is not seen before its end; on a local folder this is `link(2)` and fsync of file and folder.
    async fn appears_whole(&self) -> Result<bool, Error> {
        let key = self.folder.clone().join("large");
        let content = Bytes::from(vec![7; LARGE_BYTES]);
        let mut upload = self.first.upload(&key).await?;
        upload.write(content.clone()).await?;
        let early = self.second.size(&key).await?;
        let bytes = upload.finish().await?;
        Ok(early.is_none() && bytes == LARGE_BYTES as u64 && self.second.get(&key).await? == Some(content))
    }

    async fn marker_survives(&self) -> Result<bool, Error> {
        let parts: Vec<String> = self.folder.parts().map(|part| part.as_ref().to_owned()).collect();
        let table = TableName { schema: parts.join("/"), table: "table".to_owned() };
        let column = Column { name: "id".to_owned(), data_type: DataType::Int, declared: true };
        let schema = TableSchema { name: table.clone(), key: vec!["id".to_owned()], columns: vec![column] };
        let mut stale = Table::load_at(self.first, "probe", &table, self.folder.clone().join("table")).await?;
        let mut mover = stale.clone();
        let changes = Changes { schema: Some(schema), ..Changes::default() };
        let body = mover.next_version(&changes, 7, 1);
        let moved = self.first.create(&mover.next_log_path(), body).await;
        mover.refresh(self.second).await?;
        let refused = self.second.create(&stale.next_log_path(), stale.next_version(&Changes::default(), 9, 2)).await;
        stale.refresh(self.first).await?;
        Ok(matches!((moved, refused), (Created::Mine, Created::Taken))
            && mover.marker == Some(7)
            && stale.marker == Some(7))
    }

    async fn clean(&self) -> Result<(), Error> {
        for object in self.first.list(&self.folder, None).await? {
            self.first.delete(&object.location).await?;
        }
        if let Some(folder) = self.first.local_folder(&self.folder) {
            tokio::fs::remove_dir_all(&folder).await.map_err(|source| file_error(&folder, source))?;
        }
        Ok(())
    }
}
