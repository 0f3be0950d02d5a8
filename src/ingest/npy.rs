//! NumPy's `.npy` files as arrays of vectors.
//!
//! The format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, versions 1.0 to 3.0.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::f16;

use super::error::{IngestError, NpyProblem};
use super::npy_header::{Header, read_header, write_header};

/// The type of elements of an array file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NpyElement {
    /// 16 bits.
    F16,
    /// 32 bits.
    F32,
    /// 64 bits; read only, rounded to f32.
    F64,
}

impl NpyElement {
    /// The size in bytes.
    pub fn bytes(self) -> usize {
        match self {
            NpyElement::F16 => 2,
            NpyElement::F32 => 4,
            NpyElement::F64 => 8,
        }
    }
}

/// An array `[n, D]` or `[n, m, D]` of finite numbers, read row by row.
pub struct NpyReader<R> {
    input: R,
    file: String,
    header: Header,
    row: usize,
    bytes: Vec<u8>,
}

impl NpyReader<BufReader<File>> {
    /// Opens a file and checks that it is as long as its header says.
    ///
    /// # Errors
    /// [`IngestError::Io`], [`IngestError::Npy`].
    pub fn open(path: &Path) -> Result<Self, IngestError> {
        let file = File::open(path).map_err(|error| IngestError::io("open", path, error))?;
        let length = file
            .metadata()
            .map_err(|error| IngestError::io("open", path, error))?
            .len();
        NpyReader::new(
            BufReader::with_capacity(1 << 20, file),
            length,
            &path.display().to_string(),
        )
    }
}

impl<R: Read> NpyReader<R> {
    /// Reads the header of a stream of `length` bytes; errors carry `name`.
    ///
    /// # Errors
    /// [`IngestError::Npy`] for everything that is not float vectors, before anything is allocated for them.
    pub fn new(mut input: R, length: u64, name: &str) -> Result<NpyReader<R>, IngestError> {
        let file = name.to_owned();
        match read_header(&mut input, length) {
            Ok(header) => {
                let row_bytes = header.layers * header.dimension * header.element.bytes();
                Ok(NpyReader {
                    input,
                    file,
                    header,
                    row: 0,
                    bytes: vec![0; row_bytes],
                })
            }
            Err(problem) => Err(IngestError::Npy { file, problem }),
        }
    }

    /// n.
    pub fn rows(&self) -> usize {
        self.header.rows
    }

    /// m; 1 for an array `[n, D]`.
    pub fn layers(&self) -> usize {
        self.header.layers
    }

    /// D.
    pub fn dimension(&self) -> usize {
        self.header.dimension
    }

    /// The elements as they are in the file.
    pub fn element(&self) -> NpyElement {
        self.header.element
    }

    /// The next row `[m, D]`, one layer after the other; `None` after the last.
    ///
    /// # Errors
    /// [`NpyProblem::Component`] for a number that is not finite in f32 (the row is read past, the next can be
    /// read); [`NpyProblem::Length`] if the file ends.
    pub fn next_row(&mut self) -> Result<Option<Vec<f32>>, IngestError> {
        if self.row == self.header.rows {
            return Ok(None);
        }
        let row = self.row;
        if let Err(error) = self.input.read_exact(&mut self.bytes) {
            self.row = self.header.rows;
            return Err(match error.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    let row_bytes = self.bytes.len() as u64;
                    let expected = row_bytes * self.header.rows as u64;
                    self.problem(NpyProblem::Length {
                        expected,
                        found: row_bytes * row as u64,
                    })
                }
                _ => IngestError::io("read", &self.file, error),
            });
        }
        self.row += 1;
        let big = self.header.big_endian;
        let numbers: Vec<f64> = match self.header.element {
            NpyElement::F16 => {
                let halves = self.bytes.as_chunks::<2>().0.iter();
                halves
                    .map(|&b| {
                        if big {
                            f16::from_be_bytes(b)
                        } else {
                            f16::from_le_bytes(b)
                        }
                        .to_f64()
                    })
                    .collect()
            }
            NpyElement::F32 => {
                let singles = self.bytes.as_chunks::<4>().0.iter();
                singles
                    .map(|&b| {
                        f64::from(if big {
                            f32::from_be_bytes(b)
                        } else {
                            f32::from_le_bytes(b)
                        })
                    })
                    .collect()
            }
            NpyElement::F64 => {
                let doubles = self.bytes.as_chunks::<8>().0.iter();
                doubles
                    .map(|&b| {
                        if big {
                            f64::from_be_bytes(b)
                        } else {
                            f64::from_le_bytes(b)
                        }
                    })
                    .collect()
            }
        };
        if let Some(at) = numbers.iter().position(|&number| !(number as f32).is_finite()) {
            let (layer, component) = (at / self.header.dimension, at % self.header.dimension);
            return Err(self.problem(NpyProblem::Component {
                row,
                layer,
                component,
                value: numbers[at],
            }));
        }
        Ok(Some(numbers.into_iter().map(|number| number as f32).collect()))
    }

    fn problem(&self, problem: NpyProblem) -> IngestError {
        IngestError::Npy {
            file: self.file.clone(),
            problem,
        }
    }
}

/// Writes an array `[n, D]` (one layer) or `[n, m, D]`, row by row, little-endian, version 1.0.
pub struct NpyWriter<W: Write + Seek> {
    output: W,
    path: PathBuf,
    header: Header,
    bytes: Vec<u8>,
}

impl NpyWriter<BufWriter<File>> {
    /// Creates a file for rows of `layers × dimension` numbers; replaces what is there.
    ///
    /// # Errors
    /// [`IngestError::Io`].
    pub fn create(
        path: &Path,
        layers: usize,
        dimension: usize,
        element: NpyElement,
    ) -> Result<Self, IngestError> {
        let file = File::create(path).map_err(|error| IngestError::io("create", path, error))?;
        NpyWriter::new(
            BufWriter::with_capacity(1 << 20, file),
            path,
            layers,
            dimension,
            element,
        )
    }
}

impl<W: Write + Seek> NpyWriter<W> {
    /// As [`NpyWriter::create`], to any seekable stream; errors carry `name`.
    ///
    /// # Errors
    /// [`IngestError::Io`].
    pub fn new(
        mut output: W,
        name: &Path,
        layers: usize,
        dimension: usize,
        element: NpyElement,
    ) -> Result<NpyWriter<W>, IngestError> {
        let header = Header {
            rows: 0,
            layers,
            dimension,
            element,
            big_endian: false,
        };
        write_header(&mut output, &header).map_err(|error| IngestError::io("write", name, error))?;
        Ok(NpyWriter {
            output,
            path: name.to_owned(),
            header,
            bytes: Vec::new(),
        })
    }

    /// Writes one row `[m, D]`, its layers one after the other. (A number past the range of f16 becomes an infinity
    /// there, as in NumPy.)
    ///
    /// # Errors
    /// [`NpyProblem::Row`] for another length, [`IngestError::Io`].
    pub fn push<'a>(&mut self, layers: impl IntoIterator<Item = &'a [f32]>) -> Result<(), IngestError> {
        self.bytes.clear();
        for number in layers.into_iter().flatten() {
            match self.header.element {
                NpyElement::F16 => self
                    .bytes
                    .extend_from_slice(&f16::from_f32(*number).to_le_bytes()),
                NpyElement::F32 => self.bytes.extend_from_slice(&number.to_le_bytes()),
                NpyElement::F64 => self.bytes.extend_from_slice(&f64::from(*number).to_le_bytes()),
            }
        }
        let (expected, got) = (
            self.header.layers * self.header.dimension,
            self.bytes.len() / self.header.element.bytes(),
        );
        if got != expected {
            let problem = NpyProblem::Row {
                row: self.header.rows,
                expected,
                got,
            };
            return Err(IngestError::Npy {
                file: self.path.display().to_string(),
                problem,
            });
        }
        self.output
            .write_all(&self.bytes)
            .map_err(|error| IngestError::io("write", &self.path, error))?;
        self.header.rows += 1;
        Ok(())
    }

    /// Writes the number of rows into the header and gives the stream back, flushed.
    ///
    /// # Errors
    /// [`IngestError::Io`].
    pub fn finish(mut self) -> Result<W, IngestError> {
        let mut finish = || -> std::io::Result<()> {
            self.output.seek(SeekFrom::Start(0))?;
            write_header(&mut self.output, &self.header)?;
            self.output.seek(SeekFrom::End(0))?;
            self.output.flush()
        };
        finish().map_err(|error| IngestError::io("write", &self.path, error))?;
        Ok(self.output)
    }
}
