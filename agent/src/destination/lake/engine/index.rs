//! The index beside a data file: the codes of its rows' keys in row order, in blocks with a checksum each. Data files never
//! change, so their indices do not either; one that is missing or damaged is made again from its file. Pure but for names.

use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path;

/// Below a table's folder: readers and cleaners of lakes leave names with this first letter alone.
const FOLDER: &str = "_index";
const SUFFIX: &str = ".keys";
/// A file of fewer rows is read itself.
#[cfg(not(test))]
pub(crate) const ROWS_MIN: u64 = 16_384;
#[cfg(test)]
pub(crate) const ROWS_MIN: u64 = 2;
/// Codes of one block.
#[cfg(not(test))]
const BLOCK_ROWS: usize = 65_536;
#[cfg(test)]
const BLOCK_ROWS: usize = 3;
const MAGIC: &[u8; 8] = b"INSHIDX1";
const HEADER_BYTES: u64 = 16;
const CODE_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;

/// Where the index of a data file lies; `folder` is the table's. Files that are not in a folder of ours have none.
pub(crate) fn path_of(folder: &Path, data_file: &str) -> Option<Path> {
    let (rest, name) = data_file.rsplit_once('/')?;
    let (data, connection) = rest.rsplit_once('/').unwrap_or(("", rest));
    if data != "data" && !data.ends_with("/data") {
        return None;
    }
    let stem = name.strip_suffix(".parquet")?;
    Some(folder_of(folder, connection).join(format!("{stem}{SUFFIX}")))
}

/// Where the indices of a connection's data files lie.
pub(crate) fn folder_of(folder: &Path, connection: &str) -> Path {
    folder.clone().join(FOLDER).join(connection)
}

/// The name of the data file that an index belongs to.
pub(crate) fn data_file_of(index: &str) -> Option<String> {
    Some(format!("{}.parquet", index.strip_suffix(SUFFIX)?))
}

/// Turns codes into the bytes of an index.
#[derive(Debug)]
pub(crate) struct Builder {
    codes: Vec<u128>,
    ready: Vec<u8>,
}

impl Builder {
    pub(crate) fn new(signature: [u8; 8]) -> Builder {
        let mut ready = MAGIC.to_vec();
        ready.extend(signature);
        Builder { codes: Vec::new(), ready }
    }

    pub(crate) fn add(&mut self, codes: &[u128]) {
        let mut rest = codes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK_ROWS - self.codes.len()));
            self.codes.extend_from_slice(now);
            rest = later;
            if self.codes.len() == BLOCK_ROWS {
                self.close();
            }
        }
    }

    /// The bytes that are ready so far.
    pub(crate) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.ready).into()
    }

    pub(crate) fn finish(mut self) -> Bytes {
        if !self.codes.is_empty() {
            self.close();
        }
        self.ready.into()
    }

    fn close(&mut self) {
        let from = self.ready.len();
        self.codes.iter().for_each(|code| self.ready.extend(code.to_le_bytes()));
        let checksum = crc32fast::hash(&self.ready[from..]);
        self.ready.extend(checksum.to_le_bytes());
        self.codes.clear();
    }
}

/// The bytes of an index that hold its header.
pub(crate) fn header_range() -> Range<u64> {
    0..HEADER_BYTES
}

/// Whether these bytes begin an index of keys with this signature.
pub(crate) fn is_header(bytes: &[u8], signature: [u8; 8]) -> bool {
    bytes.strip_prefix(MAGIC) == Some(&signature)
}

/// The ranges of the blocks of an index of so many rows, in order.
pub(crate) fn blocks(rows: u64) -> impl Iterator<Item = Range<u64>> {
    let full = (BLOCK_ROWS * CODE_BYTES + CHECKSUM_BYTES) as u64;
    let count = rows.div_ceil(BLOCK_ROWS as u64);
    (0..count).map(move |block| {
        let codes = (rows - block * BLOCK_ROWS as u64).min(BLOCK_ROWS as u64);
        let from = HEADER_BYTES + block * full;
        from..from + codes * CODE_BYTES as u64 + CHECKSUM_BYTES as u64
    })
}

/// The codes of one block; `None` where it is damaged.
pub(crate) fn read_block(bytes: &[u8]) -> Option<Vec<u128>> {
    let (codes, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    if crc32fast::hash(codes) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (codes, rest) = codes.as_chunks::<CODE_BYTES>();
    rest.is_empty().then(|| codes.iter().map(|code| u128::from_le_bytes(*code)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(rows: usize) -> (Vec<u128>, Vec<u8>) {
        let codes: Vec<u128> = (0..rows).map(|row| (row as u128) << 70 | 9).collect();
        let (mut builder, mut bytes) = (Builder::new([3; 8]), Vec::new());
        for some in codes.chunks(1000) {
            builder.add(some);
            bytes.extend(builder.take());
        }
        bytes.extend(builder.finish());
        (codes, bytes)
    }

    fn at(range: Range<u64>) -> Range<usize> {
        usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
    }

    #[test]
    fn what_is_written_is_read_again() {
        for rows in [0, 1, BLOCK_ROWS - 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS] {
            let (codes, bytes) = built(rows);
            assert!(is_header(&bytes[at(header_range())], [3; 8]));
            let read: Vec<u128> =
                blocks(rows as u64).flat_map(|block| read_block(&bytes[at(block)]).unwrap()).collect();
            assert_eq!(read, codes);
            let end = blocks(rows as u64).last().map_or(HEADER_BYTES, |last| last.end);
            assert_eq!(end, bytes.len() as u64);
        }
    }

    #[test]
    fn damage_is_noticed() {
        let (_, bytes) = built(BLOCK_ROWS.min(10));
        let mut block = bytes[at(HEADER_BYTES..bytes.len() as u64)].to_vec();
        assert!(read_block(&block).is_some());
        block[17] ^= 1;
        assert!(read_block(&block).is_none());
        assert!(read_block(&block[..3]).is_none());
        assert!(!is_header(&bytes[..16], [4; 8]) && !is_header(&bytes[..15], [3; 8]));
    }

    #[test]
    fn an_index_lies_beside_its_table() {
        let path = |file: &str| path_of(&Path::from("shop/orders"), file).map(|path| path.to_string());
        let index = Some("shop/orders/_index/con_1/7-8-0-ab.keys".to_owned());
        assert_eq!(path("data/con_1/7-8-0-ab.parquet"), index);
        assert_eq!(path("shop/orders/data/con_1/7-8-0-ab.parquet"), index);
        assert_eq!((path("part-0.parquet"), path("day=1/part-0.parquet"), path("data/con_1/x")), (None, None, None));
        assert_eq!(data_file_of("7-8-0-ab.keys").as_deref(), Some("7-8-0-ab.parquet"));
    }
}
