//! Reading: whole objects, ranges of one, what stands below a prefix. Reads change nothing, so they are asked again.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectMeta, ObjectStoreExt};

use super::fault::classify;
use super::patience::{REQUEST_TIMEOUT, patience_for, timed_for};
use super::{Error, Store};

/// Requests for ranges of one object that are on their way at once.
const RANGES_PARALLEL_MAX: usize = 8;
/// Ranges closer than this are asked for together: a request costs more than the bytes between them.
const GAP_BYTES_MAX: u64 = 256 << 10;
/// Ranges are not joined beyond this: one request must not hold up the others.
const JOINED_BYTES_MAX: u64 = 8 << 20;
/// How long a listing of folders may take, which is answered whole: a page holds 1,000 keys.
const LIST_TIMEOUT: Duration = Duration::from_secs(10 * 60);

impl Store {
    /// The bytes of an object; `None` when it is absent.
    pub(crate) async fn get(&self, path: &Path) -> Result<Option<Bytes>, Error> {
        let read = || async {
            let found = timed_for(REQUEST_TIMEOUT, path, self.inner.get(path)).await?;
            timed_for(patience_for(found.meta.size), path, found.bytes()).await
        };
        found(path, self.asked(read).await)
    }

    /// The size of an object; `None` when it is absent.
    pub(crate) async fn size(&self, path: &Path) -> Result<Option<u64>, Error> {
        let head = self.asked(|| timed_for(REQUEST_TIMEOUT, path, self.inner.head(path))).await;
        Ok(found(path, head)?.map(|meta| meta.size))
    }

    /// Ranges of an object, in their order; `None` when it is absent. A range that the object does not have is damage.
    pub(crate) async fn ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Option<Vec<Bytes>>, Error> {
        let fetches = joined(ranges);
        let mut fetched = Vec::with_capacity(fetches.len());
        let answers: Vec<_> = fetches.iter().map(|range| self.range(path, range.clone())).collect();
        // Ordered, and dropped with the caller: no request outlives it.
        let mut answers = futures::stream::iter(answers).buffered(RANGES_PARALLEL_MAX);
        while let Some(answer) = answers.next().await {
            match answer? {
                Some(bytes) => fetched.push(bytes),
                None => return Ok(None),
            }
        }
        Ok(Some(ranges.iter().map(|range| cut(&fetches, &fetched, range)).collect()))
    }

    async fn range(&self, path: &Path, range: Range<u64>) -> Result<Option<Bytes>, Error> {
        let damaged = || Error::FileDamaged { path: path.to_string() };
        let wanted = range.end - range.start;
        let read = || async {
            let bytes = timed_for(patience_for(wanted), path, self.inner.get_range(path, range.clone())).await?;
            match bytes.len() as u64 == wanted {
                true => Ok(Some(bytes)),
                // Short: the connection may have ended early, or the object is shorter than it should be.
                false if timed_for(REQUEST_TIMEOUT, path, self.inner.head(path)).await?.size < range.end => Ok(None),
                false => {
                    let source = format!("{} of {wanted} bytes came", bytes.len()).into();
                    Err(StoreError::Generic { store: "short answer", source })
                }
            }
        };
        match found(path, self.asked(read).await) {
            Ok(Some(bytes)) => Ok(Some(bytes.ok_or_else(damaged)?)),
            Ok(None) => Ok(None),
            // A range behind the end is refused, in as many ways as there are stores: the size tells.
            Err(error) => match self.size(path).await {
                Ok(Some(size)) if size < range.end => Err(damaged()),
                _ => Err(error),
            },
        }
    }

    /// All objects below a prefix whose key is above `after`, in key order.
    pub(crate) async fn list(&self, prefix: &Path, after: Option<&Path>) -> Result<Vec<ObjectMeta>, Error> {
        let listed = || async {
            let mut listing = match after {
                Some(after) => self.inner.list_with_offset(Some(prefix), after),
                None => self.inner.list(Some(prefix)),
            };
            let mut objects = Vec::new();
            // A page takes one request, however many there are.
            while let Some(object) = timed_for(REQUEST_TIMEOUT, prefix, listing.try_next()).await? {
                objects.push(object);
            }
            Ok(objects)
        };
        let listed = self.asked(listed).await;
        let mut objects = listed.map_err(|source| classify(prefix, source))?;
        objects.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(objects)
    }

    /// The folders directly below a prefix.
    pub(crate) async fn folders(&self, prefix: &Path) -> Result<Vec<Path>, Error> {
        let listed = self.asked(|| timed_for(LIST_TIMEOUT, prefix, self.inner.list_with_delimiter(Some(prefix)))).await;
        listed.map(|listed| listed.common_prefixes).map_err(|source| classify(prefix, source))
    }
}

fn found<T>(path: &Path, answer: object_store::Result<T>) -> Result<Option<T>, Error> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(source) => Err(classify(path, source)),
    }
}

/// The requests that cover all ranges: in order, near ones together, none empty.
pub(super) fn joined(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = ranges.iter().filter(|range| !range.is_empty()).cloned().collect();
    sorted.sort_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.end <= last.end => {}
            Some(last)
                if range.start < last.end
                    || (range.start - last.end <= GAP_BYTES_MAX && range.end - last.start <= JOINED_BYTES_MAX) =>
            {
                last.end = range.end;
            }
            _ => joined.push(range),
        }
    }
    joined
}

fn cut(fetches: &[Range<u64>], fetched: &[Bytes], range: &Range<u64>) -> Bytes {
    if range.is_empty() {
        return Bytes::new();
    }
    let index = fetches.partition_point(|fetch| fetch.end <= range.start);
    let start = (range.start - fetches[index].start) as usize;
    fetched[index].slice(start..start + (range.end - range.start) as usize)
}
