//! The header of a `.npy` file: a Python dictionary, written as one.

use std::io::{Read, Write};

use super::error::NpyProblem;
use super::npy::NpyElement;

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// NumPy itself reads no longer header without being told that the file is trusted.
const HEADER_BYTES_MAX: u64 = 64 * 1024;
/// Room for a shape of three numbers of 20 digits.
const WRITTEN_BYTES: usize = 192;

#[derive(Clone, Debug)]
pub(super) struct Header {
    pub rows: usize,
    pub layers: usize,
    pub dimension: usize,
    pub element: NpyElement,
    pub big_endian: bool,
}

fn damaged(what: impl Into<String>) -> NpyProblem {
    NpyProblem::Header { what: what.into() }
}

/// Reads the header of a stream of `length` bytes, and leaves the stream at the first element.
pub(super) fn read_header(input: &mut impl Read, length: u64) -> Result<Header, NpyProblem> {
    let mut head = [0u8; 8];
    take(input, &mut head)?;
    let [magic @ .., major, minor] = head;
    if magic != *MAGIC {
        return Err(NpyProblem::Magic);
    }
    let (size, before) = match (major, minor) {
        (1, 0) => {
            let mut size = [0u8; 2];
            take(input, &mut size)?;
            (u64::from(u16::from_le_bytes(size)), 10)
        }
        (2 | 3, 0) => {
            let mut size = [0u8; 4];
            take(input, &mut size)?;
            (u64::from(u32::from_le_bytes(size)), 12)
        }
        _ => return Err(NpyProblem::Version { major, minor }),
    };
    if size > HEADER_BYTES_MAX {
        return Err(damaged(format!(
            "it claims {size} bytes, and at most {HEADER_BYTES_MAX} are read"
        )));
    }
    let mut text = vec![0u8; size as usize];
    take(input, &mut text)?;
    let text = std::str::from_utf8(&text).map_err(|_| damaged("it is not UTF-8"))?;
    let header = interpret(text)?;
    let expected = [
        header.rows,
        header.layers,
        header.dimension,
        header.element.bytes(),
    ]
    .into_iter()
    .try_fold(1u64, |product, factor| product.checked_mul(factor as u64))
    .ok_or_else(|| damaged("its shape is larger than any file"))?;
    let found = length.saturating_sub(before + size);
    if found != expected {
        return Err(NpyProblem::Length { expected, found });
    }
    Ok(header)
}

fn take(input: &mut impl Read, bytes: &mut [u8]) -> Result<(), NpyProblem> {
    input.read_exact(bytes).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged("the file ends within it"),
        _ => damaged(error.to_string()),
    })
}

fn interpret(text: &str) -> Result<Header, NpyProblem> {
    let mut parser = Python { rest: text };
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    parser.expect('{')?;
    while !parser.take('}') {
        let key = parser.string()?;
        parser.expect(':')?;
        match key {
            "descr" => descr = Some(parser.element_type()?),
            "fortran_order" => fortran = Some(parser.boolean()?),
            "shape" => shape = Some(parser.shape()?),
            other => return Err(damaged(format!("it has a field {other:?}"))),
        }
        if !parser.take(',') {
            parser.expect('}')?;
            break;
        }
    }
    if !parser.rest.trim().is_empty() {
        return Err(damaged("something follows the dictionary"));
    }
    let missing = |field: &str| damaged(format!("it has no field {field:?}"));
    let descr = descr.ok_or_else(|| missing("descr"))?;
    let fortran = fortran.ok_or_else(|| missing("fortran_order"))?;
    let shape: Vec<usize> = shape.ok_or_else(|| missing("shape"))?;
    let (big_endian, element) = match descr.as_str() {
        "<f2" => (false, NpyElement::F16),
        ">f2" => (true, NpyElement::F16),
        "<f4" => (false, NpyElement::F32),
        ">f4" => (true, NpyElement::F32),
        "<f8" => (false, NpyElement::F64),
        ">f8" => (true, NpyElement::F64),
        _ => return Err(NpyProblem::ElementType { descr }),
    };
    let (rows, layers, dimension) = match shape[..] {
        [rows, dimension] if dimension > 0 => (rows, 1, dimension),
        [rows, layers, dimension] if layers > 0 && dimension > 0 => (rows, layers, dimension),
        _ => return Err(NpyProblem::Shape { shape }),
    };
    if fortran {
        return Err(NpyProblem::FortranOrder);
    }
    Ok(Header {
        rows,
        layers,
        dimension,
        element,
        big_endian,
    })
}

/// The few Python literals that headers are made of.
struct Python<'a> {
    rest: &'a str,
}

impl<'a> Python<'a> {
    fn take(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, c: char) -> Result<(), NpyProblem> {
        if self.take(c) {
            return Ok(());
        }
        Err(damaged(match self.rest.chars().next() {
            Some(found) => format!("{found:?} stands where {c:?} belongs"),
            None => format!("it ends where {c:?} belongs"),
        }))
    }

    fn string(&mut self) -> Result<&'a str, NpyProblem> {
        let quote = if self.take('"') { '"' } else { '\'' };
        if quote == '\'' {
            self.expect('\'')?;
        }
        let (text, rest) = self
            .rest
            .split_once(quote)
            .ok_or_else(|| damaged("a quotation without end"))?;
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, NpyProblem> {
        self.rest = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = self.rest.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err(damaged("\"fortran_order\" is neither True nor False"))
    }

    fn element_type(&mut self) -> Result<String, NpyProblem> {
        self.rest = self.rest.trim_start();
        if self.rest.starts_with('[') {
            // A record of several fields; its description is a list that says nothing to us.
            return Err(NpyProblem::ElementType {
                descr: "records".to_owned(),
            });
        }
        Ok(self.string()?.to_owned())
    }

    fn shape(&mut self) -> Result<Vec<usize>, NpyProblem> {
        self.expect('(')?;
        let mut shape = Vec::new();
        while !self.take(')') {
            let digits = self.rest.trim_start();
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            let number = digits[..end]
                .parse()
                .map_err(|_| damaged("its shape is not made of numbers"))?;
            shape.push(number);
            // Python 2 wrote long integers as `3L`.
            self.rest = digits[end..].strip_prefix('L').unwrap_or(&digits[end..]);
            if !self.take(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(shape)
    }
}

/// Writes a header of always the same size, so that it can be written again over itself.
pub(super) fn write_header(output: &mut impl Write, header: &Header) -> std::io::Result<()> {
    let descr = match header.element {
        NpyElement::F16 => "<f2",
        NpyElement::F32 => "<f4",
        NpyElement::F64 => "<f8",
    };
    let Header {
        rows,
        layers,
        dimension,
        ..
    } = header;
    let shape = if *layers == 1 {
        format!("({rows}, {dimension})")
    } else {
        format!("({rows}, {layers}, {dimension})")
    };
    let dictionary = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let size = WRITTEN_BYTES - MAGIC.len() - 4;
    output.write_all(MAGIC)?;
    output.write_all(&[1, 0])?;
    output.write_all(&(size as u16).to_le_bytes())?;
    output.write_all(format!("{dictionary:<width$}\n", width = size - 1).as_bytes())
}
