//! Lines of a stream, counted as an editor counts them, with a bound on their length.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::error::IngestError;

/// The longest line in bytes.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// How a file is compressed, by the ending of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// `.gz`.
    Gzip,
    /// `.zst`.
    Zstd,
}

impl Compression {
    /// The compression that a file's name tells.
    pub fn of(path: &Path) -> Compression {
        match path
            .extension()
            .and_then(|ending| ending.to_str())
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            Some("gz") => Compression::Gzip,
            Some("zst") => Compression::Zstd,
            _ => Compression::None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Compression::None => "plain",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        }
    }
}

/// What a line turned out to be.
pub(crate) enum Line {
    /// In the buffer, without its end.
    Whole,
    /// Longer than the limit; read past and dropped.
    TooLong,
    /// There are no more lines.
    End,
}

pub(crate) struct Lines {
    input: Box<dyn BufRead + Send>,
    compression: Compression,
    file: String,
    pub limit: usize,
    /// The number of the line read last, from 1.
    pub number: u64,
    pub buffer: Vec<u8>,
}

impl Lines {
    pub fn new(file: String, input: Box<dyn Read + Send>, compression: Compression, limit: usize) -> Lines {
        const BUFFER_BYTES: usize = 64 * 1024;
        let input: Box<dyn BufRead + Send> = match compression {
            Compression::None => Box::new(BufReader::with_capacity(BUFFER_BYTES, input)),
            Compression::Gzip => {
                let members =
                    flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, input));
                Box::new(BufReader::with_capacity(BUFFER_BYTES, members))
            }
            Compression::Zstd => {
                let input = BufReader::with_capacity(BUFFER_BYTES, input);
                Box::new(BufReader::with_capacity(BUFFER_BYTES, ZstdFrames::new(input)))
            }
        };
        Lines {
            input,
            compression,
            file,
            limit,
            number: 0,
            buffer: Vec::new(),
        }
    }

    /// The name that errors carry.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Reads the next line into `buffer`.
    pub fn read(&mut self) -> Result<Line, IngestError> {
        self.buffer.clear();
        let limit = self.limit as u64 + 2;
        let length = (&mut self.input).take(limit).read_until(b'\n', &mut self.buffer);
        let length = length.map_err(|error| self.failed(error))?;
        if length == 0 {
            return Ok(Line::End);
        }
        self.number += 1;
        let ended = self.buffer.last() == Some(&b'\n');
        if ended {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        }
        if self.number == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") {
            self.buffer.drain(..3);
        }
        if self.buffer.len() > self.limit {
            self.buffer = Vec::new();
            if !ended {
                self.skip_to_end_of_line()?;
            }
            return Ok(Line::TooLong);
        }
        Ok(Line::Whole)
    }

    fn skip_to_end_of_line(&mut self) -> Result<(), IngestError> {
        loop {
            let (used, found) = match self.input.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(bytes) => match bytes.iter().position(|&byte| byte == b'\n') {
                    Some(at) => (at + 1, true),
                    None => (bytes.len(), false),
                },
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(error)),
            };
            self.input.consume(used);
            if found {
                return Ok(());
            }
        }
    }

    fn failed(&self, source: std::io::Error) -> IngestError {
        match self.compression {
            Compression::None => IngestError::io("read", &self.file, source),
            format => IngestError::Compressed {
                file: self.file.clone(),
                line: self.number,
                format: format.name(),
                source,
            },
        }
    }
}

/// All frames of a zstd stream one after the other, as `zstd -d` reads them; the decoder itself reads one, and
/// leaves the comparison of its checksum to us.
struct ZstdFrames<R> {
    input: R,
    decoder: FrameDecoder,
    state: Frames,
}

#[derive(Clone, Copy, PartialEq)]
enum Frames {
    Between,
    Inside,
    Lost,
}

impl<R: BufRead> ZstdFrames<R> {
    fn new(input: R) -> ZstdFrames<R> {
        ZstdFrames {
            input,
            decoder: FrameDecoder::new(),
            state: Frames::Between,
        }
    }

    fn step(&mut self, out: &mut [u8]) -> std::io::Result<Option<usize>> {
        if self.state == Frames::Between {
            if self.input.fill_buf()?.is_empty() {
                return Ok(Some(0));
            }
            match self.decoder.init(&mut self.input) {
                Ok(()) => self.state = Frames::Inside,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = std::io::copy(&mut (&mut self.input).take(length), &mut std::io::sink())?;
                    if skipped < length {
                        return Err(std::io::ErrorKind::UnexpectedEof.into());
                    }
                    return Ok(None);
                }
                Err(error) => return Err(damaged(error)),
            }
        }
        while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
            self.decoder
                .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                .map_err(damaged)?;
        }
        let length = self.decoder.read(out)?;
        if length > 0 {
            return Ok(Some(length));
        }
        let written = self.decoder.get_checksum_from_data();
        if written.is_some() && written != self.decoder.get_calculated_checksum() {
            return Err(damaged("its checksum does not match"));
        }
        self.state = Frames::Between;
        Ok(None)
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if self.state == Frames::Lost {
                return Err(damaged("its place in the stream is lost"));
            }
            match self.step(out) {
                Ok(None) => continue,
                Ok(Some(length)) => return Ok(length),
                Err(error) => {
                    self.state = Frames::Lost;
                    return Err(error);
                }
            }
        }
    }
}

fn damaged(what: impl ToString) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_string())
}
