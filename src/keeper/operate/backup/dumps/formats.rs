//! Formats of dumps, and how the end of each shows.

use std::collections::VecDeque;
use std::io::Read;

use anyhow::{Context as _, Result, bail, ensure};
use flate2::read::MultiGzDecoder;

use super::budget::Budget;

/// What a dump begins with, and what its tool writes at the end. `mysqldump --skip-comments` writes neither.
const KINDS: [(&str, &str, &str); 4] = [
    ("PostgreSQL", "-- PostgreSQL database dump\n", "-- PostgreSQL database dump complete"),
    ("PostgreSQL", "-- PostgreSQL database cluster dump\n", "-- PostgreSQL database cluster dump complete"),
    ("MySQL", "-- MySQL dump", "-- Dump completed"),
    ("MariaDB", "-- MariaDB dump", "-- Dump completed"),
];

/// Bytes at either end of a file in which those lines stand.
const EDGE: usize = 4096;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const SQLITE: &[u8] = b"SQLite format 3\0";
const REDIS: &[u8] = b"REDIS";
/// Redis ends a dump with this byte and a checksum of eight.
const REDIS_END: u8 = 0xff;

/// Whether a file is of a known format. One that is, and not whole, is an error.
pub fn check(mut file: impl Read, size: u64, budget: &mut Budget) -> Result<bool> {
    let mut start = [0; 512];
    let read = fill(&mut file, &mut start)?;
    let start = &start[..read];
    let whole = start.chain(file);
    if start.starts_with(GZIP) {
        return compressed(MultiGzDecoder::new(whole), budget);
    }
    if start.starts_with(ZSTD) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(whole);
        return compressed(decoder.map_err(|error| anyhow::anyhow!("{error}"))?, budget);
    }
    if start.starts_with(SQLITE) {
        return sqlite(start, size).map(|()| true);
    }
    let is_redis = start.starts_with(REDIS);
    let (kind, mut tail, _) = ends(whole, budget)?;
    let tail = tail.make_contiguous();
    if is_redis {
        let end = tail.len().checked_sub(9).and_then(|at| tail.get(at));
        ensure!(end == Some(&REDIS_END), "Redis ends its dumps with a checksum, and this one ends without");
        return Ok(true);
    }
    text(kind, tail)
}

/// The content tells what it is; that it is all there tells the checksum.
fn compressed(content: impl Read, budget: &mut Budget) -> Result<bool> {
    let (kind, mut tail, read) = ends(content, budget)?;
    ensure!(read > 0, "it is compressed, and there is nothing in it");
    text(kind, tail.make_contiguous()).map(|_| true)
}

type Kind = (&'static str, &'static str, &'static str);

fn text(kind: Option<&Kind>, tail: &[u8]) -> Result<bool> {
    match kind {
        Some((tool, _, end)) if !contains(tail, end.as_bytes()) => {
            bail!("{tool} ends its dumps with `{end}`, and this one ends without")
        }
        kind => Ok(kind.is_some()),
    }
}

/// The kind of a text, its last bytes, and how many there are. An error of the reader is one of the compressed file: its
/// end is missing, or its checksum is wrong.
fn ends(mut file: impl Read, budget: &mut Budget) -> Result<(Option<&'static Kind>, VecDeque<u8>, u64)> {
    let mut head = vec![0; EDGE];
    let read = fill(&mut file, &mut head)?;
    head.truncate(read);
    let kind = KINDS.iter().find(|(_, begin, _)| contains(&head, begin.as_bytes()));
    let mut tail: VecDeque<u8> = head.into();
    let mut buffer = vec![0; 64 * 1024];
    let mut total = read as u64;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((kind, tail, total));
        }
        budget.take(read)?;
        total += read as u64;
        tail.extend(&buffer[..read]);
        tail.drain(..tail.len().saturating_sub(EDGE));
    }
}

/// SQLite says in its header how many pages of what size there are.
fn sqlite(start: &[u8], size: u64) -> Result<()> {
    let number = |at: usize, bytes: usize| -> Option<u64> {
        Some(start.get(at..at + bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let (page, pages) =
        number(16, 2).zip(number(28, 4)).context("SQLite's header has 100 bytes, and this one has fewer")?;
    // The largest page does not fit into two bytes.
    let page = if page == 1 { 65536 } else { page };
    ensure!(size >= page * pages, "SQLite's header says {pages} pages of {page} bytes, and there are {size} bytes");
    Ok(())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(content: &[u8]) -> Result<bool> {
        let hour = std::time::Duration::from_secs(3600);
        check(content, content.len() as u64, &mut Budget::until(std::time::Instant::now() + hour))
    }

    fn sqlite_of(pages: u8, bytes: usize) -> Vec<u8> {
        let mut file = vec![0; bytes];
        file[..16].copy_from_slice(SQLITE);
        (file[16], file[31]) = (0x10, pages);
        file
    }

    #[test]
    fn each_format_is_known_by_its_beginning_and_whole_by_its_end() {
        assert!(checked(&sqlite_of(2, 8192)).unwrap());
        let error = checked(&sqlite_of(2, 4096)).unwrap_err().to_string();
        assert_eq!(error, "SQLite's header says 2 pages of 4096 bytes, and there are 4096 bytes");
        assert!(checked(b"REDIS0011....\xff12345678").unwrap());
        assert!(checked(b"REDIS0011.........").unwrap_err().to_string().contains("ends without"));
        assert!(!checked(b"whatever").unwrap());
    }

    #[test]
    fn compressed_emptiness_is_no_dump() {
        let empty = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()).finish().unwrap();
        assert_eq!(checked(&empty).unwrap_err().to_string(), "it is compressed, and there is nothing in it");
    }
}
