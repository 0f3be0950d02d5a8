//! Making an index out of documents.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::super::instant::{self, Instant};
use super::super::number::{self, Number};
use super::{DIRECTORY, ENTRIES_OFFSET, ENTRY_BYTES, KEYS, ROWS, append_key, dense_bytes, is_dense};

/// Fields that are listed at most; what documents have beyond is unsure.
const FIELDS_MAX: usize = 1024;
/// The longest text in a dictionary; a longer one is unsure.
const TEXT_BYTES_MAX: usize = 128;
/// Memory of all dictionaries while they are made. Past it the largest is given up, and its field is unsure.
const MEMORY_MAX: usize = 256 << 20;
/// What one more value takes, beside its text, about.
const VALUE_BYTES: usize = 16;
const TEXT_OVERHEAD: usize = 64;

/// Gathers the values of all fields, row by row.
pub(in super::super) struct Builder {
    rows: u32,
    fields: BTreeMap<Vec<u8>, Field>,
    /// Rows with fields that are not listed.
    others: Vec<u32>,
    memory: usize,
    memory_max: usize,
}

/// What one field holds. Rows are ascending in all lists, and may be in one twice in a row.
#[derive(Default)]
struct Field {
    present: Vec<u32>,
    unsure: Vec<u32>,
    empty: Vec<u32>,
    null: Vec<u32>,
    no: Vec<u32>,
    yes: Vec<u32>,
    numbers: Vec<([u8; number::KEY_BYTES], u32)>,
    times: Vec<([u8; instant::KEY_BYTES], u32)>,
    texts: HashMap<Box<str>, u32>,
    /// Numbers of `texts`, with their rows.
    text_rows: Vec<(u32, u32)>,
    memory: usize,
    given_up: bool,
}

impl Builder {
    pub fn new(rows: u32) -> Builder {
        Builder {
            rows,
            fields: BTreeMap::new(),
            others: Vec::new(),
            memory: 0,
            memory_max: MEMORY_MAX,
        }
    }

    /// With another bound of memory.
    #[cfg(test)]
    pub fn within(self, memory_max: usize) -> Builder {
        Builder { memory_max, ..self }
    }

    /// Adds the document of a row; rows come in ascending order.
    pub fn add(&mut self, row: u32, metadata: &Map<String, Value>) {
        let mut name = Vec::new();
        self.add_object(row, metadata, &mut name);
        while self.memory > self.memory_max {
            // With all given up nothing is left to count.
            let Some(field) = self.fields.values_mut().max_by_key(|field| field.memory) else {
                return;
            };
            self.memory -= field.memory;
            field.give_up();
        }
    }

    fn add_object(&mut self, row: u32, fields: &Map<String, Value>, name: &mut Vec<u8>) {
        for (key, value) in fields {
            let length = name.len();
            append_key(name, key);
            self.add_field(row, value, name);
            self.add_inside(row, value, name);
            name.truncate(length);
        }
    }

    /// The fields inside a value, behind however many lists.
    fn add_inside(&mut self, row: u32, value: &Value, name: &mut Vec<u8>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.add_inside(row, item, name)),
            Value::Object(fields) => self.add_object(row, fields, name),
            _ => {}
        }
    }

    fn add_field(&mut self, row: u32, value: &Value, name: &[u8]) {
        if !self.fields.contains_key(name) {
            if self.fields.len() >= FIELDS_MAX {
                push_once(&mut self.others, row);
                return;
            }
            self.fields.insert(name.to_vec(), Field::default());
        }
        let Some(field) = self.fields.get_mut(name) else {
            return;
        };
        let before = field.memory;
        field.present_at(row);
        field.add_values(row, value);
        self.memory += field.memory - before;
    }

    /// Hands the three sections to `push`, each in one or several pieces, one after the other.
    pub fn finish<E>(self, push: &mut impl FnMut(u32, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut out = Sections {
            rows: self.rows,
            rows_bytes: 0,
            keys: Vec::new(),
            push,
        };
        let others = out.set(&self.others)?;
        let mut directory = Vec::with_capacity(ENTRIES_OFFSET + self.fields.len() * ENTRY_BYTES);
        directory.extend_from_slice(&(self.fields.len() as u32).to_le_bytes());
        directory.extend_from_slice(&[0; 4]);
        directory.extend_from_slice(&others);
        let mut names: Vec<u8> = Vec::new();
        let names_offset = ENTRIES_OFFSET + self.fields.len() * ENTRY_BYTES;
        for (name, field) in self.fields {
            directory.extend_from_slice(&((names_offset + names.len()) as u32).to_le_bytes());
            directory.extend_from_slice(&(name.len() as u32).to_le_bytes());
            names.extend_from_slice(&name);
            field.write(&mut out, &mut directory)?;
        }
        directory.extend_from_slice(&names);
        // A section is there even if it is empty.
        out.rows_section(&[])?;
        let keys = std::mem::take(&mut out.keys);
        push(KEYS, &keys)?;
        push(DIRECTORY, &directory)
    }
}

impl Field {
    fn present_at(&mut self, row: u32) {
        // Empty until a value is met; a field that is met again in the same document, in another member of a list,
        // may have had one there.
        if self.present.last() != Some(&row) {
            self.present.push(row);
            self.empty.push(row);
        }
    }

    fn add_values(&mut self, row: u32, value: &Value) {
        if let Value::Array(items) = value {
            items.iter().for_each(|item| self.add_values(row, item));
            return;
        }
        if self.empty.last() == Some(&row) {
            self.empty.pop();
        }
        match value {
            Value::Null => push_once(&mut self.null, row),
            Value::Bool(false) => push_once(&mut self.no, row),
            Value::Bool(true) => push_once(&mut self.yes, row),
            Value::Object(_) | Value::Array(_) => {}
            _ if self.given_up => {}
            Value::Number(number) => {
                if let Some(number) = Number::from_json(number) {
                    self.numbers.push((number.key(), row));
                    self.memory += VALUE_BYTES;
                }
            }
            Value::String(text) if text.len() > TEXT_BYTES_MAX => push_once(&mut self.unsure, row),
            Value::String(text) => {
                let place = match self.texts.get(text.as_str()) {
                    Some(&place) => place,
                    None => {
                        let place = self.texts.len() as u32;
                        self.texts.insert(text.as_str().into(), place);
                        self.memory += TEXT_OVERHEAD + text.len();
                        place
                    }
                };
                self.text_rows.push((place, row));
                self.memory += VALUE_BYTES;
                if let Some(instant) = Instant::parse(text) {
                    self.times.push((instant.key(), row));
                    self.memory += VALUE_BYTES;
                }
            }
        }
    }

    fn give_up(&mut self) {
        self.given_up = true;
        self.memory = 0;
        self.numbers = Vec::new();
        self.times = Vec::new();
        self.texts = HashMap::new();
        self.text_rows = Vec::new();
    }

    /// Writes sets and dictionaries, and the entry without its first eight bytes.
    fn write<E>(
        mut self,
        out: &mut Sections<'_, impl FnMut(u32, &[u8]) -> Result<(), E>>,
        directory: &mut Vec<u8>,
    ) -> Result<(), E> {
        let unsure = if self.given_up {
            &self.present
        } else {
            &self.unsure
        };
        for rows in [
            &self.present,
            unsure,
            &self.empty,
            &self.null,
            &self.no,
            &self.yes,
        ] {
            directory.extend_from_slice(&out.set(rows)?);
        }
        self.numbers.sort_unstable();
        self.times.sort_unstable();
        let (texts, text_rows) = self.sorted_texts();
        let numbers = grouped(&self.numbers);
        directory.extend_from_slice(&out.dictionary(&numbers, |keys, place| {
            keys.extend_from_slice(&numbers[place].0);
        })?);
        directory.extend_from_slice(&out.texts(&texts, &grouped(&text_rows))?);
        let times = grouped(&self.times);
        directory.extend_from_slice(&out.dictionary(&times, |keys, place| {
            keys.extend_from_slice(&times[place].0);
        })?);
        Ok(())
    }

    /// The texts in ascending order, and their places in it with their rows.
    fn sorted_texts(&mut self) -> (Vec<Box<str>>, Vec<(u32, u32)>) {
        let mut texts: Vec<(Box<str>, u32)> = std::mem::take(&mut self.texts).into_iter().collect();
        texts.sort_unstable();
        let mut places = vec![0; texts.len()];
        for (place, (_, old)) in texts.iter().enumerate() {
            places[*old as usize] = place as u32;
        }
        let mut rows = std::mem::take(&mut self.text_rows);
        rows.iter_mut()
            .for_each(|(place, _)| *place = places[*place as usize]);
        rows.sort_unstable();
        (texts.into_iter().map(|(text, _)| text).collect(), rows)
    }
}

fn push_once(rows: &mut Vec<u32>, row: u32) {
    if rows.last() != Some(&row) {
        rows.push(row);
    }
}

/// Each value with its rows, out of pairs in ascending order.
fn grouped<K: Copy + PartialEq>(pairs: &[(K, u32)]) -> Vec<(K, Vec<u32>)> {
    let mut values: Vec<(K, Vec<u32>)> = Vec::new();
    for &(key, row) in pairs {
        match values.last_mut() {
            Some((last, rows)) if *last == key => push_once(rows, row),
            _ => values.push((key, vec![row])),
        }
    }
    values
}

/// The sections on their way out: ROWS goes out as it comes, KEYS is kept.
struct Sections<'a, P> {
    rows: u32,
    rows_bytes: u64,
    keys: Vec<u8>,
    push: &'a mut P,
}

impl<E, P: FnMut(u32, &[u8]) -> Result<(), E>> Sections<'_, P> {
    fn rows_section(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.rows_bytes += bytes.len() as u64;
        (self.push)(ROWS, bytes)
    }

    /// Writes a set and gives the bytes that refer to it.
    fn set(&mut self, rows: &[u32]) -> Result<[u8; super::SET_BYTES], E> {
        let mut reference = [0; super::SET_BYTES];
        reference[..8].copy_from_slice(&self.rows_bytes.to_le_bytes());
        reference[8..12].copy_from_slice(&(rows.len() as u32).to_le_bytes());
        let bytes = if is_dense(rows.len(), self.rows) {
            bits(rows, self.rows)
        } else {
            listed(rows)
        };
        self.rows_section(&bytes)?;
        Ok(reference)
    }

    fn texts(&mut self, texts: &[Box<str>], values: &[(u32, Vec<u32>)]) -> Result<[u8; 16], E> {
        self.dictionary(values, |keys, place| {
            if place == 0 {
                let mut offset = 0u32;
                for text in texts {
                    keys.extend_from_slice(&offset.to_le_bytes());
                    offset += text.len() as u32;
                }
                keys.extend_from_slice(&offset.to_le_bytes());
            }
            keys.extend_from_slice(texts[place].as_bytes());
        })
    }

    /// Writes a dictionary whose values `write` appends by their place, and gives the bytes that refer to it.
    fn dictionary<K>(
        &mut self,
        values: &[(K, Vec<u32>)],
        write: impl Fn(&mut Vec<u8>, usize),
    ) -> Result<[u8; 16], E> {
        let mut reference = [0; 16];
        if values.is_empty() {
            return Ok(reference);
        }
        let offset = self.keys.len();
        let (mut starts, mut dense) = (Vec::with_capacity(values.len() + 1), Vec::new());
        let rows_offset = self.rows_bytes;
        let mut start = 0u32;
        for (place, (_, rows)) in values.iter().enumerate() {
            starts.push(start);
            if is_dense(rows.len(), self.rows) {
                dense.push(place as u32);
            } else {
                start += rows.len() as u32;
                self.rows_section(&listed(rows))?;
            }
        }
        starts.push(start);
        let bits_offset = self.rows_bytes;
        for &place in &dense {
            let bits = bits(&values[place as usize].1, self.rows);
            self.rows_section(&bits)?;
        }
        self.keys.extend_from_slice(&(values.len() as u32).to_le_bytes());
        self.keys.extend_from_slice(&(dense.len() as u32).to_le_bytes());
        self.keys.extend_from_slice(&rows_offset.to_le_bytes());
        self.keys.extend_from_slice(&bits_offset.to_le_bytes());
        for number in starts.iter().chain(&dense) {
            self.keys.extend_from_slice(&number.to_le_bytes());
        }
        for place in 0..values.len() {
            write(&mut self.keys, place);
        }
        reference[..8].copy_from_slice(&(offset as u64).to_le_bytes());
        reference[8..].copy_from_slice(&((self.keys.len() - offset) as u64).to_le_bytes());
        Ok(reference)
    }
}

fn listed(rows: &[u32]) -> Vec<u8> {
    rows.iter().flat_map(|row| row.to_le_bytes()).collect()
}

fn bits(rows: &[u32], bound: u32) -> Vec<u8> {
    // Little-endian words of 64 bits have row `r` in byte `r / 8`.
    let mut bits = vec![0; dense_bytes(bound)];
    rows.iter()
        .for_each(|row| bits[*row as usize / 8] |= 1 << (row % 8));
    bits
}
