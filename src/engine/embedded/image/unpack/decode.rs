//! A layer as a stream: hashed, decompressed, and applied entry by entry, in one pass over the file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use anyhow::{Context as _, Result, ensure};
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use sha2::{Digest as _, Sha256};

use super::super::manifest::{Compression, Digest};
use super::Layer;
use super::layer::Root;

/// Applies the layer in `blob` to `root`, and fails unless the blob has the layer's digest.
pub(super) fn apply(blob: File, layer: &Layer, root: &mut Root) -> Result<()> {
    let mut blob = Hashing { file: blob, hasher: Sha256::new() };
    let applied = {
        let buffered = BufReader::with_capacity(1 << 16, &mut blob);
        let reader: Box<dyn Read + '_> = match Compression::of(&layer.media_type)? {
            Compression::None => Box::new(buffered),
            Compression::Gzip => Box::new(MultiGzDecoder::new(buffered)),
            Compression::Zstd => Box::new(Zstd::new(buffered)),
        };
        root.apply(Bounded { inner: reader, left: LARGEST })
    };
    let actual = blob.finish().context("failed to read the layer to its end")?;
    // A damaged blob explains whatever went wrong while reading it, so this comes first.
    ensure!(actual == layer.digest, "the layer has the digest `{actual}` instead: it is damaged or was tampered with");
    applied
}

/// Bytes of a layer once it is decompressed: a few of a compressed one can stand for terabytes.
const LARGEST: u64 = 16 << 30;

/// Ends with an error where a layer goes on beyond what it may have.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = self.left.checked_sub(read as u64);
        self.left = left.ok_or_else(|| {
            let most = LARGEST >> 30;
            io::Error::other(format!(
                "the layer has more than {most} GiB once it is decompressed, and no more is unpacked"
            ))
        })?;
        Ok(read)
    }
}

/// Hashes what is read through it.
struct Hashing {
    file: File,
    hasher: Sha256,
}

impl Hashing {
    /// Reads the rest and returns the digest of the whole file.
    fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(Digest::finish(self.hasher))
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// All frames of a zstd stream. Layers that can be read in parts have many, and skippable ones between them; the
/// decoder of the crate reads one.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        Zstd { source, decoder: FrameDecoder::new(), in_frame: false }
    }

    /// Starts the next frame; false at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let skipped = io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                    if skipped != u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame && !self.next_frame()? {
                return Ok(0);
            }
            self.in_frame = true;
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
            match self.decoder.read(buffer)? {
                0 if !buffer.is_empty() => self.in_frame = false,
                n => return Ok(n),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of one uncompressed block.
    fn frame(data: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(data, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn skippable(data: &[u8]) -> Vec<u8> {
        [&[0x50, 0x2a, 0x4d, 0x18], (data.len() as u32).to_le_bytes().as_slice(), data].concat()
    }

    fn read(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        Zstd::new(stream).read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn all_frames_are_read_and_skippable_ones_skipped() {
        let stream = [skippable(b"first"), frame(b"one "), frame(b""), skippable(b"table"), frame(b"two")].concat();
        assert_eq!(read(&stream).unwrap(), b"one two");
        assert_eq!(read(b"").unwrap(), b"");
    }

    #[test]
    fn a_layer_without_an_end_is_ended() {
        let read = |left| Bounded { inner: &[7; 5000][..], left }.read_to_end(&mut Vec::new());
        assert_eq!(read(5000).unwrap(), 5000);
        let error = read(4999).unwrap_err().to_string();
        assert_eq!(error, "the layer has more than 16 GiB once it is decompressed, and no more is unpacked");
    }

    #[test]
    fn a_truncated_frame_is_an_error() {
        let whole = frame(&[7; 5000]);
        assert_eq!(read(&whole).unwrap(), [7; 5000]);
        for end in 1..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end} of {} bytes passed", whole.len());
        }
        assert_eq!(read(&skippable(b"table")[..10]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
