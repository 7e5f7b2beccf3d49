//! A commit a minute for a week: what the table's metadata takes, and what opening it reads, does not grow.
//! `INSHORE_LAKE_COMMITS` names how many; `./dev prove lake` takes a whole week's.

use super::readers::switch;
use super::*;

/// What a table takes beside its rows, and what a reader has to read of it.
#[derive(Debug, PartialEq)]
struct Footprint {
    metadata_objects: usize,
    metadata_bytes: u64,
    log_objects: usize,
    log_bytes: u64,
    data_objects: usize,
    reads: usize,
    read_bytes: u64,
}

async fn footprint(scripted: &Arc<Scripted>, name: &TableName) -> Footprint {
    let store = scripted.store();
    let of = async |folder: &str| {
        let listed = store.list(&Path::from(format!("shop/orders/{folder}")), None).await.unwrap();
        (listed.len(), listed.iter().map(|object| object.size).sum::<u64>())
    };
    let (metadata_objects, metadata_bytes) = of("_iceberg").await;
    let (log_objects, log_bytes) = of("_delta_log").await;
    let (data_objects, _) = of("data").await;
    scripted.reads.lock().unwrap().clear();
    current(&store, name).await;
    let read = std::mem::take(&mut *scripted.reads.lock().unwrap());
    let mut read_bytes = 0;
    for key in &read {
        read_bytes += store.size(&Path::from(key.as_str())).await.unwrap().unwrap_or(0);
    }
    let reads = read.len();
    Footprint { metadata_objects, metadata_bytes, log_objects, log_bytes, data_objects, reads, read_bytes }
}

/// Each commit brings one of fifty rows anew; every tenth ends a sync. Answers the largest footprint of each half.
async fn week(commits: i64, retention: Duration, formats: Formats) -> [Footprint; 2] {
    let scripted = Scripted::new();
    let store = scripted.store();
    let name = table("orders");
    let terms = Terms { retention, formats, ..terms() };
    let open = |generation| Lake::open(store.clone(), terms.clone(), writer("agt_1", generation));
    let mut lake = open(1).await.unwrap();
    let mut halves = [const { Vec::new() }; 2];
    for minute in 1..=commits {
        let window = upserts(&[(minute * 7 % 50, "x")]);
        commit(&mut lake, &notes(&name), &window, minute * 60_000, "{}").await.unwrap();
        lake.apply().await.unwrap();
        if minute % 10 == 0 {
            lake.collect_garbage().await.unwrap();
        }
        if minute % 200 == 0 {
            lake = open(1).await.unwrap();
        }
        // Not in the first part, in which the retention fills up.
        if minute % 17 == 0 && minute > commits / 3 {
            let half = usize::from(minute > commits * 2 / 3);
            halves[half].push(footprint(&scripted, &name).await);
        }
    }
    assert_eq!(read(&store, &name).await.len(), 50);
    halves.map(|half: Vec<Footprint>| {
        let most = |of: fn(&Footprint) -> u64| half.iter().map(of).max().unwrap();
        let count = |of: fn(&Footprint) -> u64| usize::try_from(most(of)).unwrap();
        Footprint {
            metadata_objects: count(|f| f.metadata_objects as u64),
            metadata_bytes: most(|f| f.metadata_bytes),
            log_objects: count(|f| f.log_objects as u64),
            log_bytes: most(|f| f.log_bytes),
            data_objects: count(|f| f.data_objects as u64),
            reads: count(|f| f.reads as u64),
            read_bytes: most(|f| f.read_bytes),
        }
    })
}

#[tokio::test]
async fn a_week_of_commits_leaves_metadata_of_one_size() {
    let commits = switch("INSHORE_LAKE_COMMITS").map_or(420, |count| count.to_str().unwrap().parse().unwrap());
    let retention = Duration::from_secs(60 * u64::try_from(commits / 7).unwrap());
    for formats in [Formats::Both, Formats::Iceberg] {
        let [before, after] = week(commits, retention, formats).await;
        eprintln!("{formats:?}, {commits} commits\n{before:?}\n{after:?}");
        let pairs = [
            (before.metadata_objects as u64, after.metadata_objects as u64),
            (before.metadata_bytes, after.metadata_bytes),
            (before.log_objects as u64, after.log_objects as u64),
            (before.log_bytes, after.log_bytes),
            (before.data_objects as u64, after.data_objects as u64),
            (before.reads as u64, after.reads as u64),
            (before.read_bytes, after.read_bytes),
        ];
        for (place, (before, after)) in pairs.into_iter().enumerate() {
            assert!(after * 100 <= before * 115 + 500, "{formats:?}: figure {place} grew: {before} -> {after}");
        }
        assert!(after.metadata_objects < 500, "{after:?}");
    }
}
