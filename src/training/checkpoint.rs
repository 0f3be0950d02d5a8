//! Checkpoints: everything from which a run goes on to the same end.
//!
//! A file `step-<number>.ckpt`: the magic `STRATCKP`, a version (u32), the length of a JSON header (u32), the header, then
//! the arrays it names as f32, then the BLAKE3 hash of all before. Numbers are little-endian. Written aside, synced and
//! renamed; the two newest are kept, so that one cut short leaves the one before it.

use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::TrainingError;
use super::trainer::Report;
use super::watch::Watch;

const MAGIC: &[u8; 8] = b"STRATCKP";
const VERSION: u32 = 1;
/// Files that stay.
const KEPT: usize = 2;

/// What a checkpoint holds beside its arrays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Of options, data and the encoder at the start.
    pub run: String,
    pub watch: Watch,
    pub report: Report,
    /// The scalar mix with its moments, exactly: bits of f64.
    pub mix: Vec<[u64; 3]>,
    pub best_mix: Vec<u64>,
    /// Lengths of the arrays.
    pub arrays: Vec<u64>,
}

fn name(step: u64) -> String {
    format!("step-{step:012}.ckpt")
}

/// The checkpoints of a folder, the newest first.
fn list(folder: &Path) -> Result<Vec<PathBuf>, TrainingError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TrainingError::io("list", folder)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(TrainingError::io("list", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if name.starts_with("step-") && name.ends_with(".ckpt") {
            files.push(path);
        }
    }
    files.sort();
    files.reverse();
    Ok(files)
}

/// Writes a checkpoint and removes those that are no longer needed.
pub(crate) fn write(folder: &Path, header: &Header, arrays: &[&[f32]]) -> Result<PathBuf, TrainingError> {
    std::fs::create_dir_all(folder).map_err(TrainingError::io("create", folder))?;
    let target = folder.join(name(header.report.steps));
    let aside = target.with_extension("ckpt.tmp");
    let failed = |source| TrainingError::io("write", &aside)(source);
    let json = serde_json::to_vec(header).map_err(|error| failed(error.into()))?;
    let file = std::fs::File::create(&aside).map_err(failed)?;
    let mut out = Hashed {
        out: BufWriter::with_capacity(1 << 20, file),
        hasher: blake3::Hasher::new(),
    };
    let mut whole = || -> std::io::Result<()> {
        out.put(MAGIC)?;
        out.put(&VERSION.to_le_bytes())?;
        out.put(&(json.len() as u32).to_le_bytes())?;
        out.put(&json)?;
        for array in arrays {
            out.put(bytemuck::cast_slice(array))?;
        }
        let hash = out.hasher.finalize();
        out.out.write_all(hash.as_bytes())?;
        out.out.flush()?;
        out.out.get_ref().sync_all()
    };
    whole().map_err(failed)?;
    std::fs::rename(&aside, &target).map_err(TrainingError::io("rename", &aside))?;
    crate::durable::sync_folder(folder).map_err(TrainingError::io("sync", folder))?;
    for old in list(folder)?.iter().skip(KEPT) {
        std::fs::remove_file(old).map_err(TrainingError::io("remove", old))?;
    }
    Ok(target)
}

struct Hashed<W> {
    out: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Hashed<W> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)
    }
}

/// A checkpoint's head and its tensors.
type Checkpoint = (Header, Vec<Vec<f32>>);

/// The newest checkpoint that is whole, if there is any.
pub(crate) fn read(folder: &Path, run: &str) -> Result<Option<Checkpoint>, TrainingError> {
    let mut newest = None;
    for path in list(folder)? {
        match read_file(&path)? {
            Ok((header, _)) if header.run != run => {
                return Err(TrainingError::ForeignCheckpoint {
                    path,
                    why: "its options, questions or first weights differ",
                });
            }
            Ok(found) => return Ok(Some(found)),
            Err(why) => {
                tracing::warn!(file = %path.display(), why, "a checkpoint is passed over");
                newest.get_or_insert(why);
            }
        }
    }
    match newest {
        None => Ok(None),
        Some(why) => Err(TrainingError::Checkpoint {
            path: folder.to_owned(),
            why: why.to_owned(),
        }),
    }
}

type Found = Result<(Header, Vec<Vec<f32>>), &'static str>;

fn read_file(path: &Path) -> Result<Found, TrainingError> {
    let mut bytes = Vec::new();
    let mut file = std::fs::File::open(path).map_err(TrainingError::io("open", path))?;
    file.read_to_end(&mut bytes)
        .map_err(TrainingError::io("read", path))?;
    Ok(parse(&bytes))
}

fn parse(bytes: &[u8]) -> Found {
    let cut = "it is cut short";
    let (body, hash) = bytes.split_last_chunk::<32>().ok_or(cut)?;
    let (magic, rest) = body.split_first_chunk::<8>().ok_or(cut)?;
    if magic != MAGIC {
        return Err("it is no checkpoint");
    }
    let (version, rest) = rest.split_first_chunk::<4>().ok_or(cut)?;
    if u32::from_le_bytes(*version) != VERSION {
        return Err("a later version wrote it");
    }
    if blake3::hash(body) != blake3::Hash::from_bytes(*hash) {
        return Err("its checksum does not match: it is cut short or damaged");
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(cut)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (json, mut rest) = rest.split_at_checked(length).ok_or(cut)?;
    let header: Header = serde_json::from_slice(json).map_err(|_| "its header cannot be read")?;
    let mut arrays = Vec::new();
    for &length in &header.arrays {
        let (array, after) = usize::try_from(length)
            .ok()
            .and_then(|length| rest.split_at_checked(length.checked_mul(4)?))
            .ok_or(cut)?;
        rest = after;
        let value = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        arrays.push(array.chunks_exact(4).map(value).collect());
    }
    Ok((header, arrays))
}
