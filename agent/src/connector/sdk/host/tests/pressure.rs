//! Connectors that hang, flood, block or break the frames.

use super::*;

#[tokio::test]
async fn closing_ends_the_whole_tree_of_a_hanging_connector() {
    let project = Project::update(
        "
def leave(clear):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve('/bin/sleep', ['sleep', '613'], {} if clear else os.environ)
        os._exit(0)
leave(False)
if os.fork() == 0:
    os.execve('/bin/sleep', ['sleep', '613'], {})
op.upsert('t', {'a': 1})
op.checkpoint({})",
    );
    let mut source = project.start().await;
    loop {
        let event = tokio::time::timeout(LIMIT, source.next()).await.expect("the checkpoint").unwrap();
        if matches!(event, Event::Checkpoint { .. }) {
            break;
        }
    }
    let sleeping = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let command = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        processes.map(command).filter(|command| command == b"sleep\x00613\x00").count()
    };
    while sleeping() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::timeout(Duration::from_secs(10), source.close()).await.expect("close is bounded");
    assert_eq!(sleeping(), 0);
}

#[tokio::test]
async fn a_slow_job_blocks_the_connector_within_its_queue() {
    let project = Project::update(
        "text = 'x' * 1000\nfor i in range(100_000):\n    op.upsert('t', {'i': i, 'text': text})\n    if i % 1000 == 0:\n        with open('progress', 'w') as f:\n            f.write(str(i))",
    );
    let mut source = project.start().await;
    let progress = || {
        std::fs::read_to_string(project.folder.path().join("progress")).ok().and_then(|text| text.parse::<usize>().ok())
    };
    let mut last = None;
    // It stands still once the queues between are full: 16 MiB there, a few batches here.
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = progress();
        if now.is_some() && now == last {
            break;
        }
        last = now;
    }
    assert!(last.unwrap() < 50_000, "{last:?} of 100,000 rows of 1 kB were taken while nobody read");
    let mut rows = 0;
    loop {
        match tokio::time::timeout(LIMIT, source.next()).await.expect("it goes on").unwrap() {
            Event::Rows(batch) => rows += batch.row_count(),
            Event::End(_) => break,
            _ => {}
        }
    }
    source.close().await;
    assert_eq!(rows, 100_000);
}

#[tokio::test]
async fn other_threads_emit_while_a_checkpoint_waits() {
    let project = Project::update(
        "
done = threading.Event()
def work():
    op.upsert('t', {'a': 2})
    done.set()
def start_later():
    time.sleep(0.3)
    work()
threading.Thread(target=start_later).start()
op.upsert('t', {'a': 1})
op.checkpoint({'n': 1})
assert done.is_set()
op.checkpoint({'n': 2})",
    );
    let mut source = project.start().await;
    let mut seen = Vec::new();
    loop {
        match tokio::time::timeout(LIMIT, source.next()).await.expect("it goes on").unwrap() {
            Event::Rows(batch) => seen.push(format!("{} rows", batch.row_count())),
            Event::Checkpoint { id, state } => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                source.acknowledge(id).await.unwrap();
                seen.push(state);
            }
            Event::End(_) => break,
            _ => {}
        }
    }
    source.close().await;
    assert_eq!(seen, ["1 rows", r#"{"n": 1}"#, "1 rows", r#"{"n": 2}"#]);
}

#[tokio::test]
async fn a_host_that_breaks_the_frames_is_refused() {
    let run = Project::update("os.write(max(int(n) for n in os.listdir('/proc/self/fd') if 'socket' in os.path.realpath('/proc/self/fd/' + n)), b'\\xff' * 64)\ntime.sleep(600)").run().await;
    assert!(matches!(run.failure(), Error::FrameViolated { .. }), "{:?}", run.end);
}
