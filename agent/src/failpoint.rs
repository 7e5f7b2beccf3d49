//! Named crash points of the delivery protocol (DELIVERY §10). Owns nothing in a release build: without the feature
//! `fail-points` a point is an empty function. With it, the file named by `INSHORE_FAIL_POINTS` holds one `NAME COUNT`
//! pair per line: the process aborts at the COUNT-th pass of that point, leaving a line in `<file>.hits` first.

#[cfg(not(feature = "fail-points"))]
pub(crate) fn hit(_name: &'static str) {}

#[cfg(feature = "fail-points")]
pub(crate) fn hit(name: &'static str) {
    armed::hit(name);
}

#[cfg(feature = "fail-points")]
mod armed {
    use std::collections::HashMap;
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::{Mutex, OnceLock};

    struct Points {
        file: PathBuf,
        left: Mutex<HashMap<String, u64>>,
    }

    static POINTS: OnceLock<Option<Points>> = OnceLock::new();

    pub(super) fn hit(name: &'static str) {
        let Some(points) = POINTS.get_or_init(load) else { return };
        let mut left = points.left.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(count) = left.get_mut(name) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            note(points, name);
            std::process::abort();
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test-only switch, compiled out of every release build")]
    fn load() -> Option<Points> {
        let file = PathBuf::from(std::env::var_os("INSHORE_FAIL_POINTS")?);
        let text = std::fs::read_to_string(&file).ok()?;
        let left = text.lines().filter_map(parse).collect();
        Some(Points { file, left: Mutex::new(left) })
    }

    fn parse(line: &str) -> Option<(String, u64)> {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.trim().parse().ok()?))
    }

    /// The file is emptied first: the restarted process must not die at the same point again.
    fn note(points: &Points, name: &str) {
        let emptied = std::fs::write(&points.file, "");
        let noted = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(points.file.with_extension("hits"))
            .and_then(|mut hits| writeln!(hits, "{name}"));
        if emptied.is_err() || noted.is_err() {
            tracing::error!(point = name, "fail point could not be noted");
        }
    }
}
