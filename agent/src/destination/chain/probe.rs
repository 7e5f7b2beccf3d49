//! The probe of DELIVERY §9: does this store give what exactly-once needs? A failed check does not stop a destination, it
//! labels it. Every object lives below `_inshore/_probe/<random>/` and is removed afterwards.

use std::fmt;

use bytes::Bytes;
use futures::future::join_all;
use inshore_columnar::{Column, DataType, TableName, TableSchema};
use object_store::path::Path;

use crate::destination::LakeSettings;
use crate::destination::error::Error;
use crate::destination::lake::Changes;
use crate::destination::lake::delta::Table;
use crate::destination::store::{Created, Store};

/// Concurrent creators of one key.
const CREATORS: usize = 32;

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
    let open = || Store::open_with(&settings.root, &settings.options, true);
    probe_stores(&open()?, &open()?, effort).await
}

/// Probes through two clients of the same store.
pub(crate) async fn probe_stores(first: &Store, second: &Store, effort: Effort) -> Result<Label, Error> {
    let run = uuid::Uuid::new_v4().simple().to_string();
    let folder = Path::from_iter(["_inshore", "_probe", run.as_str()]);
    // The first write decides whether the store is usable; its failure has its own code.
    first.put_file(&folder.clone().join("usable"), &Bytes::from_static(b"usable")).await?;
    let probe = Probe { first, second, folder };
    let label = match probe.failed_check(effort).await {
        None => Label::ExactlyOnce,
        Some(failed_check) => Label::AtLeastOnce { failed_check },
    };
    probe.clean().await;
    Ok(label)
}

struct Probe<'a> {
    first: &'a Store,
    second: &'a Store,
    folder: Path,
}

impl Probe<'_> {
    async fn failed_check(&self, effort: Effort) -> Option<&'static str> {
        for round in 0..effort.rounds {
            if !self.one_winner(round).await {
                return Some("one winner among concurrent creators");
            }
        }
        for number in 0..effort.reads {
            if !self.visible_at_once(number).await {
                return Some("read after write from a second client");
            }
        }
        if !self.refuses_taken().await {
            return Some("create over an existing key is refused");
        }
        if !self.marker_survives().await.unwrap_or(false) {
            return Some("a table marker moves with its commit");
        }
        None
    }

    async fn one_winner(&self, round: usize) -> bool {
        let key = self.folder.clone().join(format!("race-{round}"));
        let creators = (0..CREATORS).map(|number| {
            let store = if number % 2 == 0 { self.first } else { self.second };
            let key = key.clone();
            async move { store.create(&key, Bytes::from(format!("creator {number}"))).await }
        });
        let answers = join_all(creators).await;
        let winners: Vec<usize> =
            answers.iter().enumerate().filter(|(_, a)| matches!(a, Created::Mine)).map(|(n, _)| n).collect();
        let [winner] = winners.as_slice() else { return false };
        let others_refused = answers.iter().filter(|answer| matches!(answer, Created::Taken)).count() == CREATORS - 1;
        let stored = self.second.get(&key).await.ok().flatten();
        others_refused && stored == Some(Bytes::from(format!("creator {winner}")))
    }

    async fn visible_at_once(&self, number: usize) -> bool {
        let folder = self.folder.clone().join("seen");
        let key = folder.clone().join(format!("{number:06}"));
        let body = Bytes::from(format!("body {number}"));
        if !matches!(self.first.create(&key, body.clone()).await, Created::Mine) {
            return false;
        }
        let got = self.second.get(&key).await.ok().flatten();
        let listed = self.second.list(&folder, None).await.unwrap_or_default();
        got == Some(body) && listed.iter().any(|object| object.location == key)
    }

    async fn refuses_taken(&self) -> bool {
        let key = self.folder.clone().join("taken");
        let made = self.first.create(&key, Bytes::from_static(b"one")).await;
        let again = self.second.create(&key, Bytes::from_static(b"two")).await;
        let stored = self.first.get(&key).await.ok().flatten();
        matches!((made, again), (Created::Mine, Created::Taken)) && stored == Some(Bytes::from_static(b"one"))
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

    async fn clean(&self) {
        let objects = self.first.list(&self.folder, None).await.unwrap_or_default();
        for object in objects {
            if let Err(error) = self.first.delete(&object.location).await {
                tracing::warn!(%error, "an object of the probe was left behind");
            }
        }
        if let Some(folder) = self.first.local_folder(&self.folder)
            && let Err(error) = tokio::fs::remove_dir_all(&folder).await
        {
            tracing::warn!(%error, "the folder of the probe was left behind");
        }
    }
}
