//! The accidents that befall weights files, named before the header is parsed.

use std::path::{Path, PathBuf};

use safetensors::SafeTensorError;

use super::ModelError;

/// Their traces are clearer than a parser's complaint.
pub(crate) fn check_length(file: &Path, bytes: &[u8]) -> Result<(), ModelError> {
    let found = bytes.len() as u64;
    let not_weights = |cause: &str, expected| {
        Err(ModelError::NotWeights {
            file: file.to_path_buf(),
            cause: cause.to_string(),
            found,
            expected,
        })
    };
    if bytes.is_empty() {
        return not_weights(
            "the file is empty, as a failed download leaves it; fetch it again",
            None,
        );
    }
    if bytes.starts_with(b"version https://git-lfs") {
        let expected = String::from_utf8_lossy(bytes)
            .lines()
            .find_map(|line| line.strip_prefix("size ")?.trim().parse().ok());
        return not_weights(
            "it is a Git LFS pointer; run `git lfs pull` in the folder it came from",
            expected,
        );
    }
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).to_ascii_lowercase();
    let start = start.trim_start_matches('\u{feff}').trim_start();
    if ["<!doctype", "<html", "<?xml", "<head"]
        .iter()
        .any(|tag| start.starts_with(tag))
    {
        return not_weights(
            "it is a web page, as a download behind a login or a wrong address leaves it",
            None,
        );
    }
    if start.starts_with('{') {
        return not_weights(
            "it is a JSON text, perhaps an error message of the server it came from",
            None,
        );
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"\x80\x02") {
        return not_weights(
            "it is a PyTorch pickle under another name; convert the model to safetensors",
            None,
        );
    }
    let Some(head) = bytes.first_chunk::<8>() else {
        return not_weights("it is too short to hold a header; fetch it again", None);
    };
    let header = u64::from_le_bytes(*head);
    // The format allows headers of at most 100 MB: anything larger is no safetensors file at all.
    if header > 100_000_000 {
        return not_weights("it does not begin as a safetensors file does", None);
    }
    if header > found - 8 {
        return Err(ModelError::WeightsLength {
            file: file.to_path_buf(),
            expected: header + 8,
            found,
        });
    }
    let Some(data) = data_length(&bytes[8..8 + header as usize]) else {
        return Ok(()); // the parser's own complaint about the header is the better one
    };
    let expected = (8 + header).saturating_add(data);
    if expected != found {
        return Err(ModelError::WeightsLength {
            file: file.to_path_buf(),
            expected,
            found,
        });
    }
    Ok(())
}

/// Bytes of tensor data that the header asks for.
fn data_length(header: &[u8]) -> Option<u64> {
    let header: serde_json::Value = serde_json::from_slice(header).ok()?;
    let ends = header
        .as_object()?
        .values()
        .filter_map(|tensor| tensor.get("data_offsets")?.get(1)?.as_u64());
    Some(ends.max().unwrap_or(0))
}

pub(crate) fn header_error(file: &Path, error: &SafeTensorError) -> ModelError {
    ModelError::WeightsHeader {
        file: PathBuf::from(file),
        reason: error.to_string(),
    }
}
